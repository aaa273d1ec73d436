"""How right the clocks were that recorded an answer: the state that each recorder noted nearby."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ctrecorder.segment.recording import Recording

# Of a greater error the clock counts as not synchronised: NTP_PHASE_LIMIT of linux/timex.h.
_MAX_ERROR_US = 16_000_000


class ClockState(NamedTuple):
    """The clock of `host` in a period.

    `synchronised`: a time daemon kept it.  `error_us`: how far it was off at most, by the kernel's
    estimate; of a clock that is not synchronised it says nothing.
    """

    host: str
    synchronised: bool
    error_us: int

    @property
    def error_seconds(self) -> float:
        """`error_us` in seconds."""
        return self.error_us / 1_000_000


def clock_error_ns(states: Iterable[ClockState]) -> int:
    """How far off the worst of the clocks that were synchronised was at most, ns."""
    return max((one.error_us * 1000 for one in states if one.synchronised), default=0)


class _Note(NamedTuple):
    """A state that was noted at `time`, ns UTC."""

    time: int
    synchronised: bool
    error_us: int


def clocks(segments: Iterable[Recording], since: int, until: int) -> list[ClockState]:
    """The worst state of each host's clock from `since` to `until`, ns UTC, by host.

    Of each host those states count that were noted in this time, the last one before it and the
    first one after it.  A host whose segments have none (version 1.0) is left out.
    """
    noted: dict[str, set[_Note]] = {}
    for segment in segments:
        noted.setdefault(segment.header.host or "", set()).update(_notes(segment))
    found = []
    for host, notes in sorted(noted.items()):
        ordered = sorted(notes)
        before = [note for note in ordered if note.time < since][-1:]
        after = [note for note in ordered if note.time >= until][:1]
        near = [*before, *(note for note in ordered if since <= note.time < until), *after]
        if near:
            synchronised = all(note.synchronised for note in near)
            found.append(ClockState(host, synchronised, max(note.error_us for note in near)))
    return found


def _notes(segment: Recording) -> Iterator[_Note]:
    if not segment.header.needs_features or not len(segment.index):
        return  # version 1.0 noted none: its marks need not be read
    begun = int(segment.index["time_min"][0])
    facts: list[tuple[int, Any]] = [(begun, segment.header.state or {})]
    facts += [(mark.end, mark.facts) for mark in segment.marks]
    for time, each in facts:
        clock = each.get("clock")
        if not isinstance(clock, dict):
            continue
        synchronised, error = clock.get("synchronised"), clock.get("error_us")
        if isinstance(synchronised, bool) and type(error) is int and error >= 0:
            yield _Note(time, synchronised and error < _MAX_ERROR_US, error)
