"""The instants at which the clock on a wall shows a time.

A wall time is an int like every other time, ns, as if the zone were UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ctrecorder.times import HOUR, SECOND

# Seconds since 1970 UTC -> the offset of the wall clock from UTC in seconds.
Offset = Callable[[int], int]

# No clock is further from UTC: a zone of TZ can have 24 hours and 59 minutes.
_REACH_SECONDS = 26 * 3600
# Two changes of one zone are days apart, so that a step sees at most one.
_STEP_SECONDS = 26 * 3600


def local(second: int) -> int:
    """The offset of this machine's zone, as the C library knows it."""
    return time.localtime(second).tm_gmtoff


def spans(begin: int, end: int, offset: Offset) -> tuple[tuple[int, int], ...]:
    """The instants whose wall time is in [begin, end), as spans in order that do not touch.

    Two: the clock was set back, and showed this time twice.  None: it was set forward over it.  A
    day of which an hour comes twice is one span of 25 hours.
    """
    found: list[tuple[int, int]] = []
    for first, last, seconds in _periods(begin, end, offset):
        start = max(first * SECOND, begin - seconds * SECOND)
        stop = min(last * SECOND, end - seconds * SECOND)
        if start >= stop:
            continue
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, stop))
    return tuple(found)


def _periods(begin: int, end: int, offset: Offset) -> Iterator[tuple[int, int, int]]:
    """(first second, end, offset) of each period of one offset that can matter."""
    second = begin // SECOND - _REACH_SECONDS
    stop = -(-end // SECOND) + _REACH_SECONDS
    since, current = second, offset(second)
    while second < stop:
        later = min(second + _STEP_SECONDS, stop)
        if offset(later) != current:
            change = _change(second, later, offset)
            yield since, change, current
            since, current = change, offset(change)
            later = change
        second = later
    yield since, stop, current


def _change(before: int, after: int, offset: Offset) -> int:
    """The first second of another offset than that at `before`."""
    current = offset(before)
    while after - before > 1:
        middle = (before + after) // 2
        if offset(middle) == current:
            before = middle
        else:
            after = middle
    return after


def show(instant: int, offset: Offset) -> int:
    """The wall time at an instant."""
    return instant + offset(instant // SECOND) * SECOND


def forward(wall: int, offset: Offset) -> int:
    """The instant of a wall time: the first of two; one that was skipped moves forward."""
    found = spans(wall, wall + 1, offset)
    if found:
        return found[0][0]
    return wall - offset((wall - 24 * HOUR) // SECOND) * SECOND
