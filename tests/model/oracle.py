"""The oracle: which times were covered, from the fault timeline alone, +-2 s at each edge."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from tests.model.clock import Clock
from tests.model.network import FAMILIES, PROTOCOLS, UDP
from tests.model.truth import SECOND

EDGE = 2 * SECOND
# Newer events may not be on disk yet.
RECENT = 3 * SECOND
# Events that waited for a disk or a process are on disk this long after the end of the fault.
SETTLED = 4 * SECOND
OPEN = 1 << 62

Moment = tuple[int, int]  # before and after an action, ns of the real clock


class Effect(IntEnum):
    """The effect of a fault on the recording."""

    NONE = 0  # an edge only
    PENDING = 1  # all is recorded, but on disk only after the end
    UNSURE = 2  # may be covered or not
    LOST = 3


class Class(IntEnum):
    """The class of a question's window."""

    COVERED = 0
    EITHER = 1
    HOLE = 2


@dataclass
class Fault:
    """One stretch of the timeline.

    `begin`, `end`: of the real clock; `shown`: instead, a stretch of the router's clock.
    `recorder`: None for all.  `applied`: when it was done, where it is not the recording that it
    changes but the files: a question asked before is not touched.  `until_dump`: it ends with a
    dump of the table; a hole that begins earlier leaves it open what was open.
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
    until_dump: bool = False
    note: str = ""

    def touches(self, clock: Clock, since: int, until: int, margin: int) -> bool:
        """Whether it overlaps [since, until) of the router's clock, with `margin` on each edge."""
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


@dataclass(frozen=True)
class Window:
    """The subject of a question: [since, until) of the router's clock.

    `asked`, `answered`: when, of the real clock.
    """

    since: int
    until: int
    asked: int
    answered: int
    family: str
    translated: bool


@dataclass
class Verdict:
    """The oracle's statement about a window.

    `kinds`: the faults that it touches, the worst first.  `hole`: it touches a time that is not
    covered, or may not be.
    """

    state: Class
    kinds: list[str]
    recent: bool
    hole: bool


# Times without the first and without the second recorder; they are not counted as faults.
BEFORE, ABSENT = "before the start", "absent"
UNSEEN = {BEFORE, ABSENT}

# Of each connection table: its recorders, and the protocols that each of them records.
ROUTER = {"main": frozenset(PROTOCOLS), "udp": frozenset({UDP})}
STANDBY = {"standby": frozenset(PROTOCOLS)}


class Oracle:
    """The timeline as it was applied.  `paired`: there is a standby, whose connection table must be
    covered too.
    """

    def __init__(self, clock: Clock, *, paired: bool = False) -> None:
        self.clock = clock
        self._tables = (ROUTER, STANDBY) if paired else (ROUTER,)
        # Replies may have reached a router that did not know their flow (any more).  They are
        # connections of the router itself, so that its address is not one of NAT alone.
        self.strays = paired
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

    def judge(self, window: Window, protocols: Iterable[int]) -> Verdict:
        """How a question about `window` and `protocols` may be answered."""
        touched: dict[str, tuple[Class, Effect]] = {}
        worst = Class.COVERED
        for protocol, table in itertools.product(protocols, self._tables):
            recordings = [
                self._recording(name, protocol, window, touched)
                for name, recorded in table.items()
                if protocol in recorded
            ]
            worst = max(worst, min(recordings))
        offset = next(
            ahead for begin, ahead in reversed(self.clock.epochs) if begin <= window.asked
        )
        recent = window.until > window.asked + offset - RECENT
        hole = worst == Class.HOLE or any(
            each == (Class.EITHER, Effect.UNSURE) for each in touched.values()
        )
        kinds = sorted(touched, key=lambda kind: touched[kind], reverse=True)
        return Verdict(max(worst, Class.EITHER) if recent else worst, kinds, recent, hole)

    def _recording(
        self,
        recorder: str,
        protocol: int,
        window: Window,
        touched: dict[str, tuple[Class, Effect]],
    ) -> Class:
        """The class of the window for one recorder.  Adds the faults to `touched`."""
        worst = Class.COVERED
        for fault in self.faults:
            if (
                fault.recorder in (None, recorder)
                and window.family in fault.families
                and protocol in fault.protocols
                and not (window.translated and fault.only_untranslated and not self.strays)
            ):
                state = self._one(fault, window, recorder)
                if state is not None and window.translated and fault.only_untranslated:
                    state = min(state, Class.EITHER)
                if state is not None:
                    worst = max(worst, state)
                    if fault.kind != ABSENT:
                        known = touched.get(fault.kind, (Class.COVERED, Effect.NONE))
                        touched[fault.kind] = max(known, (state, fault.effect))
        return worst

    def _one(self, fault: Fault, window: Window, recorder: str) -> Class | None:
        """The class of the window with respect to one fault, for one recorder; None if the fault
        does not touch it.
        """
        begun = max(fault.applied[0], 0 if fault.shown else fault.begin[0])
        if window.answered < begun:
            return None
        certain = window.asked >= fault.applied[1]
        since, until = window.since, window.until
        if certain and fault.effect == Effect.LOST and fault.touches(self.clock, since, until, 0):
            return Class.HOLE
        if not fault.touches(self.clock, since, until, EDGE):
            return None
        if fault.effect == Effect.NONE:
            return Class.COVERED
        settled = fault.effect == Effect.PENDING and window.asked >= fault.end[1] + SETTLED
        if settled and not (fault.until_dump and self._is_cut_off(fault, recorder)):
            return Class.COVERED
        return Class.EITHER

    def _is_cut_off(self, fault: Fault, recorder: str) -> bool:
        """Whether a hole of the recorder began before the dump that ends `fault`."""
        return any(
            other.effect >= Effect.UNSURE
            and other.recorder in (None, recorder)
            and fault.begin[0] < other.begin[1]
            and other.begin[0] < fault.end[1]
            for other in self.faults
            if other.shown is None
        )


def moment(before: int) -> Moment:
    """An action that began at `before` and has just ended."""
    return before, time.time_ns()
