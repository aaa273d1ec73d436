"""What was covered: from the fault timeline alone, +-2 s at each edge."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from tests.model.clock import Clock
from tests.model.network import FAMILIES, PROTOCOLS, UDP
from tests.model.truth import SECOND

EDGE = 2 * SECOND
# What happened so recently may not be on disk yet.
RECENT = 3 * SECOND
# After a disk has room again, or a process runs again, what waited is written by then.
SETTLED = 4 * SECOND
OPEN = 1 << 62

Moment = tuple[int, int]  # before and after an action, ns of the real clock


class Effect(IntEnum):
    """What a fault does to the recording."""

    NONE = 0  # an edge only
    PENDING = 1  # all is recorded, but on disk only after the end
    UNSURE = 2  # may be covered or not
    LOST = 3


class Class(IntEnum):
    """What a question's window is."""

    COVERED = 0
    EITHER = 1
    HOLE = 2


@dataclass
class Fault:
    """One stretch of the timeline.

    `begin`, `end`: of the real clock; `shown`: instead, a stretch of the router's clock.
    `recorder`: None for all.  `applied`: when it was done, where it is not the recording that it
    changes but the files: a question asked before is not touched.
    """

    kind: str
    effect: Effect
    begin: Moment
    end: Moment = (OPEN, OPEN)
    families: frozenset[str] = frozenset(FAMILIES)
    protocols: frozenset[int] = frozenset(PROTOCOLS)
    only_untranslated: bool = False
    recorder: str | None = None
    shown: tuple[int, int] | None = None
    applied: Moment = (0, 0)
    note: str = ""

    def touches(self, clock: Clock, since: int, until: int, margin: int) -> bool:
        """If it overlaps [since, until) of the router's clock, with `margin` on each edge."""
        if self.shown is not None:
            return self.shown[0] - margin < until and since < self.shown[1] + margin
        begin, end = (
            (self.begin[0] - margin, self.end[1] + margin)
            if margin
            else (self.begin[1], self.end[0])
        )
        return begin <= end and any(
            first < until and since <= last for first, last in clock.shown(begin, end)
        )


@dataclass
class Verdict:
    """`kinds`: the faults that the window touches, the worst first."""

    state: Class
    kinds: list[str] = field(default_factory=list)
    recent: bool = False


# The time before the first recorder, and that without the second: no faults.
BEFORE, ABSENT = "before the start", "absent"
UNSEEN = {BEFORE, ABSENT}

# What each recorder records.
RECORDERS = {"main": frozenset(PROTOCOLS), "udp": frozenset({UDP})}


class Oracle:
    """The timeline, as it was really applied."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self.lock:
            self.faults.append(fault)
        return fault

    def edges(self, since: int, until: int, least: Effect = Effect.NONE) -> list[Fault]:
        """Faults with an edge from `since` to `until` of the real clock, in order of time; of an
        effect of `least` or worse.
        """
        found = [
            (edge, number)
            for number, fault in enumerate(self.faults)
            if fault.kind not in UNSEEN and fault.effect >= least
            for edge in {fault.begin[0], fault.end[1]}
            if since < edge < until
        ]
        return [self.faults[number] for _, number in sorted(found)]

    def judge(
        self,
        since: int,
        until: int,
        asked: int,
        family: str,
        protocols: Iterable[int],
        translated: bool,
    ) -> Verdict:
        """What a question about [since, until) of the router's clock, asked at `asked` of the real
        one, could be answered.
        """
        kinds: dict[str, int] = {}
        worst = Class.COVERED
        for protocol in protocols:
            best = Class.HOLE
            for recorder, recorded in RECORDERS.items():
                if protocol in recorded:
                    best = min(
                        best,
                        self._recording(
                            recorder, since, until, asked, family, protocol, translated, kinds
                        ),
                    )
            worst = max(worst, best)
        now = asked + self._offset(asked)
        recent = until > now - RECENT
        if recent:
            worst = max(worst, Class.EITHER)
        ordered = sorted(kinds, key=lambda kind: -kinds[kind])
        return Verdict(worst, ordered, recent)

    def _offset(self, real: int) -> int:
        return next(offset for begin, offset in reversed(self.clock.epochs) if begin <= real)

    def _recording(
        self,
        recorder: str,
        since: int,
        until: int,
        asked: int,
        family: str,
        protocol: int,
        translated: bool,
        kinds: dict[str, int],
    ) -> Class:
        worst = Class.COVERED
        for fault in self.faults:
            if (
                fault.recorder not in (None, recorder)
                or family not in fault.families
                or protocol not in fault.protocols
                or (translated and fault.only_untranslated)
            ):
                continue
            state = self._one(fault, since, until, asked)
            if state is not None:
                if fault.kind != ABSENT:
                    kinds[fault.kind] = max(kinds.get(fault.kind, 0), state * 4 + fault.effect)
                worst = max(worst, state)
        return worst

    def _one(self, fault: Fault, since: int, until: int, asked: int) -> Class | None:
        """None: the window does not touch it."""
        clock = self.clock
        if asked < fault.applied[0]:
            return None
        certain = asked >= fault.applied[1]
        if certain and fault.effect == Effect.LOST and fault.touches(clock, since, until, 0):
            return Class.HOLE
        if not fault.touches(clock, since, until, EDGE):
            return None
        if fault.effect == Effect.NONE:
            return Class.COVERED
        if fault.effect == Effect.PENDING and asked >= fault.end[1] + SETTLED:
            return Class.COVERED
        return Class.EITHER


def moment(before: int) -> Moment:
    """An action that began at `before` and has just ended."""
    return before, time.time_ns()
