"""The age of a segment, even if the clock was wrong.

The times in a segment come from its recorder's clock, which may have been at 1970 or 2099.  So the
times of a chain are compared with each other: in the order of `sequence` they must ascend.  The
longest series that ascends is right.  A time outside of it is between its neighbours in the series,
so one wrong time affects no other.

If the state of the clock was recorded (ctlog(5), COVERAGE), times before the clock was synchronised
for the first time do not count.  If it never was synchronised, no age is known, unless the operator
trusts that clock.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ctrecorder.ctlog.frame import Kind, Mark
from ctrecorder.errors import FormatError
from ctrecorder.maintain.reach import earliest_start
from ctrecorder.segment.recording import Recording
from ctrecorder.times import BEGIN, DAY, END, MINUTE

# 2000-01-01: no segment is older, so an earlier time is that of a clock that was not set.
_EARLIEST = 10_957 * DAY
# A clock that is kept by a time daemon is set in smaller steps, so a segment that is dated later
# than this is dated wrongly.
_FUTURE = MINUTE
# Marks read at each end of a segment.  The state of the clock is in the start and in heartbeats; a
# few other marks can be between these.
_MARKS_READ = 8


@dataclass(frozen=True)
class SegmentTimes:
    """The times of a segment, ns UTC.

    `chain`, `sequence`: its place; "" or 0: it is in no chain.
    `begun`: when its header was written; None: unknown.
    `since`, `until`: its earliest and latest time.
    `clocks`: whether the clock was synchronised, each time that this was recorded, at the begin and
    at the end of the segment.
    """

    path: str
    chain: str
    sequence: int
    begun: int | None
    since: int
    until: int
    clocks: tuple[bool, ...] = ()


class Age(NamedTuple):
    """When a segment was recorded, ns UTC.

    `since`, `until`: all that it can contain lies between them, by its own times and by those of
    its neighbours.
    `ends`: the latest time that its end can have.
    `known`: False if `ends` is not known; it serves only to put segments in order.
    """

    since: int
    until: int
    ends: int
    known: bool


def times_of(segment: Recording, *, with_starts: bool = False) -> SegmentTimes:
    """The times of an open segment, of which at least one block can be read.

    `with_starts`: `since` is not later than the start of any of its connections.  For that, events
    are read.
    """
    header, index = segment.header, segment.index
    begun = int(index["time_min"][0]) if index["kind"][0] == Kind.HEADER else None
    clocks: list[bool] = []
    if header.needs_features:  # version 1.0 did not record it, and its marks need not be read
        facts = [header.state, *(mark.facts for mark in _some_marks(segment))]
        clocks = [state for each in facts if (state := _synchronised(each)) is not None]
    since, until = segment.times
    if with_starts:
        since = earliest_start(segment)
    chain, sequence = header.chain or "", header.sequence or 0
    return SegmentTimes(segment.path, chain, sequence, begun, since, until, tuple(clocks))


def _some_marks(segment: Recording) -> Iterator[Mark]:
    """The first and the last marks that can be read: all would take 15 ms for a raw hour."""
    blocks = segment.blocks_of(Kind.MARK)
    if len(blocks) > 2 * _MARKS_READ:
        blocks = blocks[:_MARKS_READ] + blocks[-_MARKS_READ:]
    for block in blocks:
        with contextlib.suppress(FormatError):
            frame = segment.file.frame(block.offset)
            yield Mark.parse(frame, segment.file.payload(block.offset, frame))


def _synchronised(facts: Mapping[str, Any] | None) -> bool | None:
    """Whether the clock was synchronised, by a mark or the header's state; None: not stated."""
    clock = facts.get("clock") if facts is not None else None
    state = clock.get("synchronised") if isinstance(clock, dict) else None
    return state if isinstance(state, bool) else None


def ages(
    segments: Iterable[SegmentTimes], now: int, *, trust_clock: bool = False
) -> dict[str, Age]:
    """The age of each segment, by its path.  `now`: ns UTC.

    `trust_clock`: the times of a recording whose clock was never synchronised count.
    """
    chains: dict[str, list[SegmentTimes]] = {}
    for one in segments:
        in_chain = one.chain and one.sequence
        chains.setdefault(one.chain if in_chain else f"/{one.path}", []).append(one)
    found: dict[str, Age] = {}
    for chain in chains.values():
        chain.sort(key=lambda one: (one.sequence, one.begun or 0, one.path))
        found |= _ages_of_chain(chain, now, trust_clock)
    return found


def _ages_of_chain(chain: list[SegmentTimes], now: int, trust_clock: bool) -> dict[str, Age]:
    was_synchronised = any(state for one in chain for state in one.clocks)
    if trust_clock and not was_synchronised:
        chain = [replace(one, clocks=()) for one in chain]
    points = _points(chain, now)
    run = ascending_run(points)
    found = {}
    right = [point if index in run else None for index, point in enumerate(points)]
    earlier = _nearest(right)
    later = _nearest(right[::-1])[::-1]
    for number, one in enumerate(chain):
        begin, end = 2 * number, 2 * number + 1
        dated = was_synchronised or not one.clocks
        least, most = earlier[begin], later[end]
        if begin in run and end in run:
            found[one.path] = Age(one.since, one.until, one.until, dated)
            continue
        # What it contains may have been recorded at any time between its neighbours.
        since = min(one.since, BEGIN if least is None else least)
        if end in run:
            found[one.path] = Age(since, one.until, one.until, dated)
            continue
        until = max(one.until, END if most is None else most)
        ends = most if most is not None else max(least or BEGIN, min(one.until, now))
        found[one.path] = Age(since, until, ends, dated and most is not None)
    return found


def _points(chain: list[SegmentTimes], now: int) -> list[int | None]:
    """Begin and end of each segment; None for a time that is certainly wrong or worth nothing.

    A clock that is not synchronised is worth something once it was: then it was set, and is a
    little off.  Before that it may be at the date of a firmware.
    """
    points: list[int | None] = []
    was_synchronised = False
    for one in chain:
        first, last = (one.clocks[0], one.clocks[-1]) if one.clocks else (None, None)
        for time, state in ((one.begun, first), (one.until, last)):
            was_synchronised |= state is True
            worthless = state is False and not was_synchronised
            wrong = time is None or not _EARLIEST <= time <= now + _FUTURE
            points.append(None if worthless or wrong else time)
        was_synchronised |= any(one.clocks)
    return points


def ascending_run(points: list[int | None]) -> set[int]:
    """The indices of a longest run of points that does not descend; None is in no run.

    Takes n log n steps.
    """
    tails: list[int] = []  # the least end of a run of each length
    tail_indices: list[int] = []
    before: dict[int, int] = {}
    for index, point in enumerate(points):
        if point is None:
            continue
        length = bisect_right(tails, point)
        if length:
            before[index] = tail_indices[length - 1]
        tails[length : length + 1] = [point]
        tail_indices[length : length + 1] = [index]
    run: set[int] = set()
    last = tail_indices[-1] if tail_indices else None
    while last is not None:
        run.add(last)
        last = before.get(last)
    return run


def _nearest(right: list[int | None]) -> list[int | None]:
    """For each place, the last time before it that is not None."""
    found: list[int | None] = []
    last: int | None = None
    for point in right:
        found.append(last)
        last = last if point is None else point
    return found
