"""The watch over what decides which connections the kernel reports.

The recorder looks each second.  What hides connections is a hole: from the last look that found
all well to the look that finds all well again.  A state that cannot be determined is no hole, but
it is part of the state, and an answer is not complete then (`query/unknown`).

What NOTRACK rules hide, and what connection tracking that is off hides, is untranslated traffic:
packets that are not tracked are not translated either.

Translation without connection tracking leaves no entry in the table.  That by rules of nftables,
and that by Jool, is part of the state.

Not seen: a sysctl that is changed and changed back between two looks; rules of the legacy iptables;
translation by tc or eBPF.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ctrecorder import uapi
from ctrecorder.ctlog.frame import Gap, Mark
from ctrecorder.kernel.rules import Untracked
from ctrecorder.kernel.tracking import Tracking
from ctrecorder.kernel.transactions import Effect
from ctrecorder.times import SECOND
from ctrecorder.watch import hidden
from ctrecorder.watch.conditions import (
    EVENTS,
    TIMESTAMPS,
    UNREADABLE,
    Conditions,
    RulesReading,
)
from ctrecorder.watch.hidden import NO_EVENTS, NOT_TRACKED, NOTRACK

Json = dict[str, Any]

# A transaction that comes while the rules are read: so often they are read again at once.
_ATTEMPTS = 3
# Tracking can turn on without nftables (IPVS, the legacy iptables), and leftover entries can end:
# where no generation shows a change, tracking is read again after this time.
_AGAIN_NS = 60 * SECOND
_GENERATIONS = 1 << 32
_NAMES = {uapi.AF_INET: "ipv4", uapi.AF_INET6: "ipv6"}


@dataclass(frozen=True)
class Hole:
    """A time in which the kernel did not report some connections.

    `number`: of the hole in the recording.  `end`: None while it lasts.  `scope`: which
    connections.  `untranslated`: only connections without NAT.  `accepted`: the operator means it
    to be so.  `detail`: text for people.
    """

    number: int
    reason: str
    start: int
    end: int | None
    scope: Untracked
    untranslated: bool
    accepted: bool = False
    detail: str = ""

    def gap(self, until: int) -> Gap:
        """The GAP of ctlog(5); of a hole that lasts one that is open and reaches to `until`."""
        facts: Json = {**self.scope.facts(), "number": self.number}
        flags = (
            ("untranslated", self.untranslated),
            ("accepted", self.accepted),
            ("open", self.end is None),
        )
        facts |= {name: True for name, value in flags if value}
        end = until if self.end is None else self.end
        # The clock may have been set back meanwhile.
        return Gap(self.start, max(end, self.start), self.reason, None, self.detail, facts)


@dataclass(frozen=True)
class Note:
    """A line for the journal; `warning`: connections are not recorded, or may not be."""

    text: str
    warning: bool


@dataclass(frozen=True)
class Look:
    """What one look found.

    `state`: as in ctlog(5), HEADER.  `changed`: its members that differ from those of the look
    before, which was at `since`; empty at the first look.  `opened`: holes that began and last.
    `closed`: holes that ended; one that was never in `opened` began and ended between two looks.
    `needs_dump`: connections that the kernel never reported may be open now; a dump of the table
    finds them.  `sysctls`: by name, None if one cannot be read.  `settled`: False if the rules
    changed while they were read: then the next look decides, and nothing is proved until then.
    """

    time: int
    since: int
    state: Json
    changed: Json
    sysctls: dict[str, int | None]
    opened: tuple[Hole, ...] = ()
    closed: tuple[Hole, ...] = ()
    needs_dump: bool = False
    notes: tuple[Note, ...] = ()
    settled: bool = True

    def mark(self) -> Mark | None:
        """The MARK `state`; None if nothing changed."""
        if not self.changed:
            return None
        return Mark(min(self.since, self.time), self.time, "state", self.changed)


Key = tuple[str, Untracked]


@dataclass
class Watcher:
    """Looks at the conditions of one recording and keeps the holes that are open.

    `clock_wall`: ns UTC.  `start`: when the recording began: a hole that is there at the first look
    begins then.  `accept_notrack`: holes of NOTRACK rules are accepted.  `numbers`: of the holes.
    Make it in the network namespace, before privileges are dropped.  Raises KernelError if no
    netfilter socket can be opened.
    """

    clock_wall: Callable[[], int]
    start: int
    accept_notrack: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    conditions: Conditions = field(default_factory=Conditions)
    state: Json = field(default_factory=dict)
    _open: dict[Key, Hole] = field(default_factory=dict)
    _reading: RulesReading = UNREADABLE
    _known: RulesReading = UNREADABLE  # the last one that could be read, of this generation:
    _generation: int | None = None
    _legacy: tuple[frozenset[str] | None, ...] = ()
    _sysctls: dict[str, int | None] = field(default_factory=dict)
    _read_at: int = 0
    _last: int = 0
    # When each condition was good last: NO_EVENTS, the families, NOTRACK (the rules were known).
    _good: dict[str | int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last = self._read_at = self.start
        self._good = dict.fromkeys((NO_EVENTS, NOTRACK, *_NAMES), self.start)

    def close(self) -> None:
        """Close the socket and the files."""
        self.conditions.close()

    @property
    def holes(self) -> tuple[Hole, ...]:
        """The holes that last: each further segment begins with their GAPs."""
        return tuple(self._open.values())

    def look(self, now: int) -> Look:
        """Look at all conditions at `now` (ns UTC, read before the call)."""
        sysctls = self.conditions.sysctls()
        generation = self.conditions.generation()
        legacy = tuple(self.conditions.legacy_tables(family) for family in _NAMES)
        first, before, moves, stable = not self.state, self._known, 0, True
        released = not self.conditions.has_owned_tables()
        if self._has_changed(generation) or released:
            moves, stable = self._read_rules(generation)
            moves += released
            self._read_at = now
        elif self._may_have_changed(now, legacy):
            self._reading = replace(self._reading, tracking=self.conditions.tracking())
            self._read_at = now
        self._legacy = legacy
        state = _state(sysctls, self._reading, self.state, accepts=self.accept_notrack)
        if state == self.state and moves < 2 and not first:
            look = Look(now, self._last, state, {}, sysctls)
        else:
            look = self._compare(now, sysctls, state, self._between(moves, before))
        self._note_good(now, sysctls, stable and self._reading.notrack is not None)
        self.state, self._sysctls, self._last = state, sysctls, now
        return replace(look, settled=stable)

    def _has_changed(self, generation: int | None) -> bool:
        """If the rules have to be read."""
        if self._reading.notrack is None or generation is None or self._generation is None:
            return True
        if generation == self._generation:
            return False
        if self.conditions.effect(self._generation, generation) is not Effect.NONE:
            return True
        self._generation = generation
        return False

    def _read_rules(self, generation: int | None) -> tuple[int, bool]:
        """Read the rules.  Returns how many times they changed since they were known, and if they
        did not change while they were read.  Changes that hide nothing count as one.

        If they changed or cannot be read, the next look compares with the ones that were known.
        """
        for _ in range(_ATTEMPTS):
            reading = self.conditions.rules()
            after = self.conditions.generation()
            if after == generation:
                return self._take(reading, generation), True
            generation = after
        return 0, False

    def _take(self, reading: RulesReading, generation: int | None) -> int:
        self._reading = reading
        if generation is None or reading.notrack is None:
            return 0
        moves = 0 if self._generation is None else (generation - self._generation) % _GENERATIONS
        if moves > 1 and self._generation is not None:
            effect = self.conditions.effect(self._generation, generation)
            moves = moves if effect is Effect.HIDES else 1
        self._generation, self._known = generation, reading
        return moves

    def _may_have_changed(self, now: int, legacy: tuple[frozenset[str] | None, ...]) -> bool:
        """If tracking may be another though the generation is the same."""
        listed = self.conditions.lists_hooks and any(tables != frozenset() for tables in legacy)
        if listed or legacy != self._legacy:
            return True
        unsure = any(found is not Tracking.ON for found in self._reading.tracking.values())
        return unsure and not 0 <= now - self._read_at < _AGAIN_NS

    def _note_good(self, now: int, sysctls: dict[str, int | None], known: bool) -> None:
        """Note which conditions are good at `now`."""
        if sysctls[EVENTS]:
            self._good[NO_EVENTS] = now
        if known:
            self._good[NOTRACK] = now
            for family, found in self._reading.tracking.items():
                if found is Tracking.ON:
                    self._good[family] = now

    def _compare(
        self,
        now: int,
        sysctls: dict[str, int | None],
        state: Json,
        between: Hole | None,
    ) -> Look:
        """The look with the holes that open and close, and what to log."""
        end = self.clock_wall()
        bad = set(self._bad(sysctls))
        opened = tuple(self._opened(key) for key in sorted(bad - self._open.keys(), key=repr))
        closed = [self._closed(key, end) for key in list(self._open) if self._is_over(key, sysctls)]
        notes = [Note(hole.detail, not hole.accepted) for hole in opened]
        notes += [_note_of_end(hole, sysctls) for hole in closed]
        if between is not None:
            closed.append(replace(between, end=max(end, between.start)))
            notes.append(Note(between.detail, True))
        changed = {
            name: value
            for name, value in state.items()
            if self.state and value != self.state.get(name)
        }
        notes += [Note(*each) for each in hidden.changes(self._sysctls, sysctls)]
        notes += [
            Note(hidden.unknown(family), True)
            for family, found in self._reading.tracking.items()
            if found is Tracking.UNKNOWN and "tracking" in (changed or state)
        ]
        needs_dump = any(hole.reason == NO_EVENTS for hole in closed)
        return Look(
            now,
            self._last,
            state,
            changed,
            sysctls,
            opened,
            tuple(closed),
            needs_dump,
            tuple(notes),
        )

    def _bad(self, sysctls: dict[str, int | None]) -> Iterator[Key]:
        """What hides connections now."""
        if sysctls[EVENTS] == 0:
            yield NO_EVENTS, Untracked()
        for family, found in self._reading.tracking.items():
            if found is Tracking.OFF:
                yield NOT_TRACKED, Untracked(family)
        for scope in self._reading.notrack or ():
            yield NOTRACK, scope

    def _is_over(self, key: Key, sysctls: dict[str, int | None]) -> bool:
        """If a hole that is open is over for certain."""
        reason, scope = key
        if reason == NO_EVENTS:
            return bool(sysctls[EVENTS])
        if reason == NOT_TRACKED and scope.family is not None:
            return self._reading.tracking[scope.family] is Tracking.ON
        return self._reading.notrack is not None and scope not in self._reading.notrack

    def _opened(self, key: Key) -> Hole:
        reason, scope = key
        good = self._good[scope.family if reason == NOT_TRACKED and scope.family else reason]
        accepted = self.accept_notrack and reason == NOTRACK
        detail = hidden.text(reason, scope)
        untranslated = reason != NO_EVENTS
        number = next(self.numbers)
        self._open[key] = Hole(number, reason, good, None, scope, untranslated, accepted, detail)
        return self._open[key]

    def _closed(self, key: Key, end: int) -> Hole:
        hole = self._open.pop(key)
        return replace(hole, end=max(end, hole.start))

    def _between(self, moves: int, before: RulesReading) -> Hole | None:
        """The hole of rules that changed more than once between two looks; its end is open.

        They may have been flushed and loaded again.  A family that was or is off has its own hole.
        """
        families = [
            family
            for family, found in self._reading.tracking.items()
            if before.tracking[family] is Tracking.ON and found is not Tracking.OFF
        ]
        if moves < 2 or not families:
            return None
        scope = Untracked(families[0] if len(families) == 1 else None)
        start = self._good[NOTRACK]
        detail = hidden.moved(moves)
        return Hole(
            next(self.numbers), NOT_TRACKED, start, None, scope, untranslated=True, detail=detail
        )


def _state(
    sysctls: dict[str, int | None], reading: RulesReading, before: Json, *, accepts: bool
) -> Json:
    """The members of `state` in ctlog(5).

    before: the previous ones; what rules do stays if the rules cannot be read.  accepts: the
    operator accepts what is not tracked.
    """
    read = reading.notrack
    state: Json = {
        "events": sysctls[EVENTS],
        "timestamps": sysctls[TIMESTAMPS],
        "tracking": {_NAMES[family]: found.value for family, found in reading.tracking.items()},
        "notrack": before.get("notrack", []) if read is None else [each.facts() for each in read],
    }
    stateless = before.get("stateless", []) if read is None else list(reading.stateless)
    if stateless or "stateless" in before:
        state["stateless"] = stateless
        if accepts:
            state["accept_notrack"] = True
    return state


def _note_of_end(hole: Hole, sysctls: dict[str, int | None]) -> Note:
    """What to log at the end of a hole."""
    return Note(hidden.end_text(hole.reason, hole.scope, sysctls[EVENTS]), False)
