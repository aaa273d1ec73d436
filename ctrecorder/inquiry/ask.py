"""Questions are put to the archive here, and their answers judged by person."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctrecorder import times
from ctrecorder.archive.routers import folders_below
from ctrecorder.errors import ArchiveError, ExitCode, NoSegmentsError
from ctrecorder.folder import Folder
from ctrecorder.holders import many, who
from ctrecorder.inquiry import notes
from ctrecorder.inquiry.persons import (
    Person,
    count_of,
    doubts_of_names,
    doubts_of_receipts,
    named,
    persons_of,
    shares_address,
    span_of_names,
)
from ctrecorder.inquiry.question import LISTENING, Question
from ctrecorder.inquiry.verdicts import Judged, Proof, Word, judge
from ctrecorder.kept import retention
from ctrecorder.kept.retention import Receipt
from ctrecorder.query.coverage import NOT_RECORDED, NOT_RECORDING, Hole, Scope
from ctrecorder.query.open import ScanStats
from ctrecorder.query.verdict import Completeness, Verdict
from ctrecorder.sealing.imported import line_of

if TYPE_CHECKING:
    from ctrecorder.names.directory import Directory
    from ctrecorder.store.source import Store

WAIT_SECONDS = 90  # an idle recorder writes a watermark each minute
# Holes in which nothing was recorded at all.
_NOTHING = (NOT_RECORDING, NOT_RECORDED, "stopped", "crashed")
_EXPIRED = "expired: ctexpire deleted the segments"


@dataclass(frozen=True)
class Asking:
    """Who asks, when, of what, and on whose behalf.

    `archive`: the segments and folders.  `now`: ns UTC.  `login`: of the user.
    `trust_clock`: the clock of a recorder counts as right although its kernel was never told so.
    `names`: reads who held inside addresses, from a time to a time (ns); None: nobody is asked.
    `here`: the name of this host, and the addresses that it has now.
    `jobs`: the processes that share many questions.
    `password_file`: of an archive in ClickHouse; "": it needs none.
    """

    archive: tuple[str, ...]
    now: int
    login: str
    case: str = ""
    reason: str = ""
    trust_clock: bool = False
    names: Callable[[int, int, Collection[str]], Directory] | None = None
    here: tuple[str, tuple[str, ...]] = ("", ())
    jobs: int = 1
    password_file: str = ""

    @property
    def store(self) -> Store | None:
        """The archive, if it is in ClickHouse.  Raises UsageError."""
        (path, *_) = self.archive
        if not path.startswith("clickhouse://"):
            return None
        from ctrecorder.store.manifest import place  # HTTP takes 20 ms to import
        from ctrecorder.store.source import Store

        return Store(place(path, self.password_file))


@dataclass(frozen=True)
class Answered:
    """A question with its answer.

    `asked`: with the span that was searched.  `answer`: None if it could not be asked.
    `receipts`: of deleted segments of that time.
    `unread`: what could not be read of the names of customers, a line each.
    `notes`: what the answer hints at, a sentence each.
    """

    question: Question
    asking: Asking
    asked: who.WhoQuery | None
    answer: who.Answer | None
    judged: Judged
    persons: tuple[Person, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def code(self) -> ExitCode:
        """The exit code for it."""
        failed = self.answer is not None and self.answer.failed
        return ExitCode.FAILED if failed else self.judged.code

    @property
    def shares_address(self) -> bool:
        """If the persons are all that used the address, and nothing tells them apart."""
        flows = [flow for person in self.persons for flow in person.flows]
        return self.answer is not None and shares_address(self.question, flows)

    @property
    def router_addresses(self) -> tuple[str, ...]:
        """The addresses that the router has now, if it was asked there."""
        host, addresses = self.asking.here
        return addresses if self.answer is not None and host in self.answer.hosts else ()

    @property
    def connections(self) -> int:
        """The number of connections."""
        return sum(len(person.flows) for person in self.persons)


def answer_all(
    questions: Sequence[Question], asking: Asking, *, wait: bool = False
) -> list[Answered]:
    """The answers, in order.  `wait`: for a time that is not recorded yet, at most WAIT_SECONDS.

    Raises NoSegmentsError if there are none, and no receipt of such a time either.
    """
    to_ask = [one for one in questions if not one.why_not]
    answers = iter(_waited(to_ask, asking) if wait else _ask(to_ask, asking))
    return [
        Answered(one, asking, None, None, Judged(Word.CANNOT_BE_ASKED, one.why_not))
        if one.why_not
        else next(answers)
        for one in questions
    ]


def _waited(questions: Sequence[Question], asking: Asking) -> list[Answered]:
    """The answers, asked again each second while one is not recorded yet and can be soon."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        now = time.time_ns()
        answers = _ask(questions, asking, now)
        waits = any(_can_come(one, now) for one in answers)
        if not waits or time.monotonic() >= deadline:
            return answers
        time.sleep(1)


def _can_come(one: Answered, now: int) -> bool:
    if one.answer is None or one.asked is None:
        return False
    is_near = one.asked.until <= now + WAIT_SECONDS * times.SECOND
    return is_near and one.answer.verdict.completeness is Completeness.NOT_YET


def _ask(questions: Sequence[Question], asking: Asking, now: int | None = None) -> list[Answered]:
    queries = [one.query() for one in questions]
    now = asking.now if now is None else now
    source = asking.store or list(asking.archive)
    with many.Engine(source, now, asking.jobs) as engine:
        return _answered(questions, queries, asking, now, engine)


def _answered(
    questions: Sequence[Question],
    queries: list[who.WhoQuery],
    asking: Asking,
    now: int,
    engine: many.Engine,
) -> list[Answered]:
    """The answers; `engine` is all that asks the archive."""
    try:
        answers = engine.answers(queries)
    except NoSegmentsError:
        if not all(_receipts(asking, each) for each in queries):
            raise
        answers = [_nothing_left(each) for each in queries]
    asked = [query.widened(answer.added_ns) for query, answer in zip(queries, answers, strict=True)]
    persons = [persons_of(*each) for each in zip(questions, answers, asked, strict=True)]
    unread: tuple[str, ...] = ()
    if asking.names is not None and any(persons):
        addresses = {one.address for each in persons for one in each}
        spans = [
            span_of_names(person, one)
            for each, one in zip(persons, asked, strict=True)
            for person in each
        ]
        span = min(since for since, _ in spans), max(until for _, until in spans)
        names = asking.names(*span, addresses)
        persons = [named(each, names, one) for each, one in zip(persons, asked, strict=True)]
        unread = names.problems
    judged = [
        _judged(question, asking, query, answer, found, unread)
        for question, query, answer, found in zip(questions, asked, answers, persons, strict=True)
    ]
    return _with_notes(judged, engine)


def _with_notes(answers: list[Answered], engine: many.Engine) -> list[Answered]:
    """The answers with their notes.  Where somebody is known, of a port that can be one that nobody
    had outside; where nobody is, if the address occurs nowhere.
    """
    wide = {
        number: notes.of_address(one.asked, one.question.target.address)
        for number, one in enumerate(answers)
        if one.asked is not None and one.answer is not None
        if one.answer.recorded and not one.persons and not len(one.answer)
    }
    to_ask = list(dict.fromkeys(wide.values()))
    found = engine.answers(to_ask)
    nowhere = {query for query, answer in zip(to_ask, found, strict=True) if not len(answer)}
    hints = [
        notes.of_nowhere(one.question.target.address)
        if wide.get(number) in nowhere
        else notes.of_listening(one.question)
        if one.persons
        else ()
        for number, one in enumerate(answers)
    ]
    return [
        replace(one, notes=(*hint, *notes.of_omitted(one.answer)))
        for one, hint in zip(answers, hints, strict=True)
    ]


def _judged(
    question: Question,
    asking: Asking,
    asked: who.WhoQuery,
    answer: who.Answer,
    persons: tuple[Person, ...],
    unread: tuple[str, ...],
) -> Answered:
    receipts = () if answer.verdict.proved else _receipts(asking, asked)
    proof = Proof(
        complete=answer.verdict.proved,
        not_yet=answer.verdict.completeness is Completeness.NOT_YET,
        recorded=answer.recorded,
        not_running=all(hole.reason in _NOTHING for hole in answer.verdict.holes),
        expired=bool(receipts),
        doubts=(
            *_doubts(question, asking, answer),
            *_listening(question, persons),
            *doubts_of_names(persons, asked, unread),
            *doubts_of_receipts(persons, asked),
        ),
    )
    judged = judge(count_of(persons), proof)
    return Answered(question, asking, asked, answer, judged, persons, receipts, unread)


def _doubts(question: Question, asking: Asking, answer: who.Answer) -> Iterator[str]:
    """Why an answer is not proved although the log is complete."""
    if question.window.readings > 1:
        yield f"the time can be read in {question.window.readings} ways"
    if answer.imported:
        yield line_of(answer.imported)
    if asking.trust_clock:
        return
    for clock in answer.clocks:
        if not clock.synchronised:
            yield f"the clock of {clock.host or 'the router'} was not synchronised"
    if answer.verdict.completeness is not Completeness.VERSION_1_0:
        for host in sorted(answer.hosts - {clock.host for clock in answer.clocks}):
            yield f"the state of the clock of {host or 'the router'} was not recorded"


def _listening(question: Question, persons: Sequence[Person]) -> Iterator[str]:
    flows = [flow for person in persons for flow in person.flows]
    if question.role == LISTENING and shares_address(question, flows):
        port = question.target.port
        yield f"port {port} is a listening port, and nobody is known to have had it outside"
    elif not flows:
        yield from notes.of_listening(question)


def _receipts(asking: Asking, asked: who.WhoQuery) -> tuple[Receipt, ...]:
    """The receipts of deleted segments of the asked time."""
    if (store := asking.store) is not None:
        return store.receipts_of(asked.since, asked.until)
    archive = asking.archive
    folders = {path if os.path.isdir(path) else os.path.dirname(path) or "." for path in archive}
    with contextlib.suppress(OSError):
        folders |= {below for path in folders for below in folders_below(path)}
    found: list[Receipt] = []
    for folder in sorted(folders):
        with contextlib.suppress(ArchiveError, OSError), Folder(folder) as opened:
            found += (
                one
                for one, _ in retention.receipt_lines(opened)
                if one.since < asked.until and asked.since <= one.until
            )
    return tuple(found)


def _nothing_left(asked: who.WhoQuery) -> who.Answer:
    """The answer of an archive whose segments of that time were all deleted."""
    hole = Hole(asked.since, asked.until, NOT_RECORDING, detail=_EXPIRED)
    verdict = Verdict(Completeness.NOT_COMPLETE, (hole,))
    scope = Scope(asked.since, asked.until)
    return who.Answer(
        [], [], frozenset(), verdict, scope, [], [], [], [], ScanStats(), recorded=False
    )
