"""Compares each answer with the truth and the timeline, and counts the results in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.model import adapter
from tests.model.adapter import Answer, Candidate
from tests.model.clock import Clock
from tests.model.faults import FAILOVER
from tests.model.network import LONGEST_TIMEOUT, ROUTER, TCP
from tests.model.oracle import Class, Effect, Oracle, Verdict
from tests.model.questions import Question
from tests.model.truth import SECOND, Flow, Holding, Truth

# Greatest difference between times of the log and of the generator.
SLACK = 2 * SECOND
# Times of receipt: a start is late by the longest SIGSTOP at most, an end by the time that the
# kernel takes to send it.
LATE = 8 * SECOND
# The entry of a TCP connection that was closed in order ends within this time.
CLOSED = 6 * SECOND
# The kernel sends the DESTROY of a timed-out entry within this time.
COLLECTED = 62 * SECOND
QUIET, RECENT = "quiet time", "the last seconds"

# The columns of the table.
RIGHT, INCOMPLETE, ALIBI, WRONG = "complete, right", "incomplete, right", "false alibi", "wrong"
WOLF, YET, UNPROVED, FAILED = "cried wolf", "not yet", "unproved", "failed"
BAD = (ALIBI, WRONG, WOLF, FAILED)
SHOWN = 5  # bad answers of a column and a fault that a table keeps
COLUMNS = (RIGHT, INCOMPLETE, ALIBI, WRONG, WOLF, YET, UNPROVED, FAILED)


@dataclass(frozen=True)
class Asked:
    """A question and its answer.  `before`, `after`: when it was asked and answered, real clock."""

    question: Question
    before: int
    after: int
    answer: Answer
    by: str


@dataclass
class Table:
    """Counts of answers.

    `cells`: by fault and column.  `covered`: answers about covered time, by state.  `shown`: texts
    of the first bad answers.
    """

    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def total(self, column: str) -> int:
        return sum(count for (_, name), count in self.cells.items() if name == column)

    @property
    def questions(self) -> int:
        return self.asked.total()

    @property
    def complete_share(self) -> float:
        """How many of the covered questions were called complete; "not yet" counts neither way."""
        judged = self.covered.total() - self.covered[adapter.NOT_YET]
        return self.covered[adapter.COMPLETE] / judged if judged else 1.0

    @property
    def not_yet_share(self) -> float:
        """How many of the covered questions, none of the last seconds, were called "not yet"."""
        return self.covered[adapter.NOT_YET] / max(self.covered.total(), 1)

    def share(self, name: str) -> float:
        """Of all questions: "covered", "hole" or "edge"."""
        return self.classes[name] / max(self.questions, 1)

    def add(self, other: Table) -> None:
        self.cells += other.cells
        self.asked += other.asked
        self.classes += other.classes
        self.covered += other.covered
        self.shown += other.shown

    def bad(self, *columns: str, most: int = 20) -> list[str]:
        """The first bad answers of these columns."""
        heads = tuple(column.upper() for column in columns or BAD)
        return [text for text in self.shown if text.startswith(heads)][:most]

    def lines(self) -> list[str]:
        """The table and its totals, a line each."""
        head = f"{'fault':20} {'questions':>9} " + " ".join(
            f"{name:>{max(len(name), 7)}}" for name in COLUMNS
        )
        rows = [
            f"{kind:20} {self.asked[kind]:9,} "
            + " ".join(f"{self.cells[kind, name]:{max(len(name), 7)},}" for name in COLUMNS)
            for kind in sorted(self.asked)
        ]
        totals = f"{'all':20} {self.questions:9,} " + " ".join(
            f"{self.total(name):{max(len(name), 7)},}" for name in COLUMNS
        )
        return [
            head,
            *rows,
            totals,
            f"in covered time {self.share('covered'):.0%}, into a hole {self.share('hole'):.0%}, "
            f"about flows that lived over an edge {self.share('edge'):.0%}; "
            f"of what was covered {self.complete_share:.2%} was called complete, "
            f'{self.not_yet_share:.2%} "not yet"',
        ]


class Judge:
    """Judges answers after the run, when truth and timeline are complete."""

    def __init__(self, truth: Truth, oracle: Oracle, clock: Clock) -> None:
        self._truth, self._oracle, self._clock = truth, oracle, clock
        self._slack = SLACK if clock.dated else LATE

    def table(self, answers: Iterable[Asked]) -> Table:
        """The counts of all `answers`."""
        table = Table()
        for one in answers:
            self._enter(table, one)
        return table

    def _enter(self, table: Table, one: Asked) -> None:
        question, answer = one.question, one.answer
        verdict = question.judge(self._oracle, one.before, one.after)
        missing = self._missing(one)
        wrong = [
            each
            for each in answer.candidates
            if answer.state != adapter.NOT_YET and not self._possible(each, one)
        ]
        kind = self._kind(question, verdict, missing)
        column = self._column(answer, verdict, missing, wrong)
        table.asked[kind] += 1
        table.cells[kind, column] += 1
        if verdict.state == Class.COVERED:
            table.classes["covered"] += 1
            table.covered[answer.state] += 1
        if verdict.hole:
            table.classes["hole"] += 1
        if question.flow is not None and self._oracle.edges(*question.flow.life):
            table.classes["edge"] += 1
        if column in BAD and table.cells[kind, column] <= SHOWN:
            table.shown.append(self._text(column, kind, one, verdict, missing, wrong))

    def _column(
        self, answer: Answer, verdict: Verdict, missing: list[Holding], wrong: list[Candidate]
    ) -> str:
        if wrong:
            return WRONG
        if answer.state == adapter.COMPLETE:
            if missing:
                return ALIBI
            return UNPROVED if verdict.state == Class.HOLE else RIGHT
        if answer.state == adapter.NOT_YET:
            return YET
        if answer.state == adapter.FAILED:
            return FAILED
        return WOLF if verdict.state == Class.COVERED else INCOMPLETE

    def _missing(self, one: Asked) -> list[Holding]:
        """Holdings that match the question and are not among the candidates."""
        question = one.question
        since, until = question.window
        named = {
            (each.protocol, each.inside, each.public, each.remote) for each in one.answer.candidates
        }
        return [
            each
            for each in self._truth.by_public[question.public]
            if (question.to is None or each.flow.remote == question.to)
            and each.flow.protocol in question.protocols
            and (each.flow.protocol, each.flow.inside, each.public, each.flow.remote) not in named
            and self._held(each, since, until, one.before)
        ]

    def _held(self, holding: Holding, since: int, until: int, asked: int) -> bool:
        return any(
            begin < until and since <= end
            for first, last in holding.spans
            if first <= asked
            for begin, end in self._clock.shown(first, min(last, asked))
        )

    def _possible(self, candidate: Candidate, one: Asked) -> bool:
        """Whether the candidate can be a flow of the truth that was open at that time."""
        if candidate.inside[0] in ROUTER:  # a reply that arrived without an entry
            return True
        flows = self._truth.by_ends.get(
            (candidate.protocol, candidate.inside, candidate.remote), []
        )
        return any(self._may_be(flow, candidate, one) for flow in flows)

    def _may_be(self, flow: Flow, candidate: Candidate, one: Asked) -> bool:
        since, until = one.question.window
        first, last = flow.life
        longest = LONGEST_TIMEOUT[flow.protocol] * SECOND
        disturbed = bool(self._oracle.edges(first, last + longest))
        if flow.protocol == TCP and not disturbed:
            longest = CLOSED
        if flow.holdings and candidate.public not in flow.holdings and not disturbed:
            return False
        begin, end = first - self._slack, last + longest + self._slack
        if not self._clock.dated or self._committed(last, last + longest + COLLECTED):
            end += COLLECTED
        if candidate.end is None and (
            one.before < end + COLLECTED or self._lost(first, end + COLLECTED)
        ):
            end = max(end, one.after)
        if candidate.start is None and self._lost(first - COLLECTED, last):
            begin -= COLLECTED
        return any(low < until and since <= high for low, high in self._clock.shown(begin, end))

    def _committed(self, since: int, until: int) -> bool:
        """Whether a router took over in that time.  It commits what it knows of the other one's
        table, also an entry that timed out there and was not collected yet.
        """
        return any(fault.kind == FAILOVER for fault in self._oracle.edges(since, until))

    def _lost(self, since: int, until: int) -> bool:
        """Whether events may have been lost in that time."""
        return bool(self._oracle.edges(since, until, Effect.UNSURE))

    def _kind(self, question: Question, verdict: Verdict, missing: list[Holding]) -> str:
        """The row of the table that counts the answer."""
        if verdict.kinds:
            return verdict.kinds[0]
        if verdict.recent:
            return RECENT
        flow = missing[0].flow if missing else question.flow
        edges = self._oracle.edges(*flow.life) if flow is not None else []
        return edges[-1].kind if edges else QUIET

    def _text(
        self,
        column: str,
        kind: str,
        one: Asked,
        verdict: Verdict,
        missing: list[Holding],
        wrong: list[Candidate],
    ) -> str:
        since, until = one.question.window
        lines = [
            f"{column.upper()} ({kind}; {verdict.state.name}, {verdict.kinds}), by {one.by}: "
            f"{one.question.public} {one.question.protocols} to {one.question.to}, "
            f"{since / SECOND:.3f} to {until / SECOND:.3f}, asked {one.before / SECOND:.3f}"
        ]
        lines += [
            f"  not named: {each.flow.inside} to {each.flow.remote}, "
            f"{[[round(ns / SECOND, 3) for ns in span] for span in each.spans]}"
            for each in missing
        ]
        lines += [f"  named: {each}" for each in wrong]
        lines += [f"  hole: {each}" for each in one.answer.holes[:3]]
        lines += [f"  answer: {line[:300]}" for line in one.answer.text.splitlines()[-4:]]
        return "\n".join(lines)
