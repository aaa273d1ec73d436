"""Chooses the questions: about covered time, about holes, about flows that lived over an edge, and
about the last seconds.
"""

from __future__ import annotations

import bisect
import random
import time
from collections import Counter
from dataclasses import dataclass

from tests.model.clock import Clock
from tests.model.network import PORTS, PROTOCOLS, PUBLICS, SERVED, SERVERS, SOURCES
from tests.model.oracle import UNSEEN, Class, Effect, Fault, Oracle, Verdict, Window
from tests.model.truth import SECOND, End, Flow, Holding, Truth

NAT_ADDRESSES = frozenset(PUBLICS.values())
# Least shares of the kinds of questions; one question can be of two kinds.
SHARES = {"covered": 0.38, "hole": 0.38, "edge": 0.24}
# Share of questions about the last seconds during the timeline; share of those about the future.
RECENT, FUTURE = 0.08, 0.15
TRIES = 40


@dataclass(frozen=True)
class Question:
    """A question.  `at`: router's clock, ns.  `flow`: the flow that it is about, if any."""

    public: End
    at: int
    tolerance: int
    to: End | None
    protocol: int | None
    flow: Flow | None

    @property
    def window(self) -> tuple[int, int]:
        return self.at - self.tolerance, self.at + 1000 + self.tolerance

    @property
    def family(self) -> str:
        return "ipv6" if ":" in self.public[0] else "ipv4"

    @property
    def protocols(self) -> tuple[int, ...]:
        return tuple(PROTOCOLS) if self.protocol is None else (self.protocol,)

    @property
    def translated(self) -> bool:
        return self.public[0] in NAT_ADDRESSES

    def judge(self, oracle: Oracle, asked: int, answered: int) -> Verdict:
        """The oracle's statement about it."""
        window = Window(*self.window, asked, answered, self.family, self.translated)
        return oracle.judge(window, self.protocols)


class Chooser:
    """Questions about `truth`, by a random generator of its own."""

    def __init__(self, truth: Truth, oracle: Oracle, clock: Clock, seed: int) -> None:
        self._truth, self._oracle, self._clock = truth, oracle, clock
        self._random = random.Random(seed)
        self._asked: Counter[str] = Counter()
        self._total = 0

    def choose(self, *, live: bool) -> Question | None:
        """A question of the kind that is furthest behind its share; None if there is none yet."""
        if live and self._random.random() < RECENT:
            return self._recent()
        total = max(self._total, 1)
        kinds = sorted(SHARES, key=lambda kind: self._asked[kind] / total - SHARES[kind])
        for kind in kinds:
            for _ in range(TRIES):
                question = self._candidate(kind)
                if question is not None:
                    found = self._classes(question)
                    if kind in found:
                        self._total += 1
                        self._asked.update(found)
                        return question
        return None

    def _candidate(self, kind: str) -> Question | None:
        if kind == "covered":
            return self._covered()
        return self._hole() if kind == "hole" else self._edge()

    def _classes(self, question: Question) -> set[str]:
        """The kinds of the question, by the timeline so far."""
        now = time.time_ns()
        verdict = question.judge(self._oracle, now, now)
        found = {"hole"} if verdict.hole else set()
        if verdict.state == Class.COVERED:
            found.add("covered")
        if question.flow is not None and self._oracle.edges(*question.flow.life):
            found.add("edge")
        return found

    def _covered(self) -> Question | None:
        flows = self._truth.flows
        return self._about(self._random.choice(flows)) if flows else None

    def _hole(self) -> Question | None:
        now = time.time_ns()
        faults = [
            fault
            for fault in self._oracle.faults
            if fault.effect >= Effect.UNSURE and fault.kind not in UNSEEN
        ]
        if not faults:
            return None
        fault = self._random.choice(faults)
        real = self._inside(fault, now)
        flows = self._truth.flows
        begins = bisect.bisect(flows, real - SECOND // 2, key=lambda flow: flow.sent[0])
        ends = bisect.bisect(flows, real + SECOND // 2, key=lambda flow: flow.sent[0])
        if begins == ends:
            return None
        return self._about(flows[self._random.randrange(begins, ends)], real, fault)

    def _inside(self, fault: Fault, now: int) -> int:
        if fault.shown is None:
            return self._random.randint(fault.begin[1], max(min(fault.end[0], now), fault.begin[1]))
        shown = self._random.randint(*fault.shown)
        offsets = {offset for begin, offset in self._clock.epochs}
        return shown - self._random.choice(sorted(offsets))

    def _edge(self) -> Question | None:
        flows = self._truth.long
        if not flows:
            return None
        flow = self._random.choice(flows)
        if not self._oracle.edges(*flow.life):
            return None
        return self._about(flow)

    def _recent(self) -> Question | None:
        now = time.time_ns()
        if self._random.random() < FUTURE:
            now += self._random.choice([5, 60, 3600, 86_400 * 300]) * SECOND
            flows = self._truth.flows[-200:]
            return self._about(self._random.choice(flows), now) if flows else None
        flows = self._truth.flows[-200:]
        return self._about(self._random.choice(flows)) if flows else None

    def _about(
        self, flow: Flow, real: int | None = None, fault: Fault | None = None
    ) -> Question | None:
        """A question about a flow while it held its port, or at `real`, or about nobody."""
        holdings = list(flow.holdings.values())
        if fault is not None and fault.only_untranslated:
            holdings = [each for each in holdings if not each.translated]
        if not holdings or (not flow.called and self._random.random() < 0.2):
            return self._nobody(flow, real)
        holding = self._random.choice(holdings)
        if real is None or fault is not None:
            real = self._moment(holding)
        named = flow.called is not None or self._random.random() < 0.5
        protocol = flow.protocol if self._random.random() < 0.5 else None
        return self._question(holding.public, real, flow.remote if named else None, protocol, flow)

    def _moment(self, holding: Holding) -> int:
        first, last = self._random.choice(holding.spans)
        return self._random.randint(first, last)

    def _nobody(self, flow: Flow, real: int | None) -> Question | None:
        """About a port that perhaps nobody held, near a flow's time."""
        family = flow.family
        address = self._random.choice([PUBLICS[family], PUBLICS[family], *SOURCES[family]])
        protocol = self._random.choice([None, *PROTOCOLS])
        to = (SERVERS[family], SERVED) if self._random.random() < 0.3 else None
        port = self._random.choice(PORTS)
        if real is None:
            real = self._random.randint(flow.sent[0], flow.sent[1])
        return self._question((address, port), real, to, protocol, None)

    def _question(
        self, public: End, real: int, to: End | None, protocol: int | None, flow: Flow | None
    ) -> Question | None:
        shown = self._clock.shown(real, real)
        if not shown:
            return None
        at = shown[0][0] // 1000 * 1000
        tolerance = int(self._random.choice((0.0, 0.1, 0.5, 1.0, 1.0)) * SECOND)
        return Question(public, at, tolerance, to, protocol, flow)
