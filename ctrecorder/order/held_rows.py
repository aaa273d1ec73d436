"""The memory policy of `merge`: how many rows wait, and what happens when they are too many.

Rows wait until all rows that are earlier have been read.  Where more rows overlap in time than
memory allows, the later half of the waiting rows is dropped, and their units are read again when
their time comes.  The order stays the same; it takes longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ctrecorder.order.batches import SortedRows
from ctrecorder.segment.recording import Block, Recording

# Bytes of waiting rows at most: 1,500,000 rows of what a line of text needs, or 16 full blocks of
# IPv6 with all columns.  With fewer, overlapping blocks are read twice sooner; with more, a router
# with little memory runs out of it.
HELD_BYTES = 64 << 20
NEVER = 1 << 63  # later than every time


@dataclass(order=True)
class Unit:
    """What is read at once: a block, or small blocks of one family that are close to each other.

    `time`: no row that is still to be read from it is earlier, ns.
    `number`: its position in the order of the segments and their blocks.
    `blocks`: [] stands for all blocks of the segment.
    Only its rows with since <= time < until are meant.
    """

    time: int
    number: int
    segment: Recording = field(compare=False)
    blocks: list[Block] = field(compare=False)
    since: int = field(compare=False, default=-NEVER)
    until: int = field(compare=False, default=NEVER)


class _Held(NamedTuple):
    """Rows that wait, and the unit that they can be read from again."""

    unit: Unit
    rows: SortedRows

    def between(self, since: int, until: int) -> _Held:
        return _Held(self.unit, self.rows.between(since, until))


class HeldRows:
    """Rows that wait, of at most `max_bytes`, and those of one unit besides.

    Rows from the time `_ceiling` on are not held.  When too many rows wait, `_ceiling` is lowered
    to the middle of them; it is removed when a unit from that time on is read.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: list[_Held] = []
        self._ceiling = NEVER
        self.row_count = 0

    @property
    def over_limit(self) -> bool:
        """True if `shrink` must be called before more rows are added."""
        return sum(each.rows.bytes for each in self._held) > self._max_bytes

    def reach(self, time: int) -> None:
        """Note that all units before `time` were read."""
        if time >= self._ceiling:
            self._ceiling = NEVER

    def add(self, unit: Unit, rows: SortedRows) -> Iterator[Unit]:
        """Hold the rows that are meant of a unit.

        Yields the unit again, if some of them cannot be held: those are to be read later.
        """
        yield from self._hold(_Held(unit, rows.between(unit.since, unit.until)))

    def take(self, before: int) -> list[SortedRows]:
        """Remove the rows of times before `before`, in the order of their units."""
        ready = [each.between(-NEVER, before) for each in self._held]
        held = [each.between(before, NEVER) for each in self._held]
        ready, self._held = _without_empty(ready), _without_empty(held)
        self.row_count -= sum(len(each.rows.times) for each in ready)
        return [each.rows for each in sorted(ready, key=lambda each: each.unit.number)]

    def median(self) -> int:
        """The time of the middle row."""
        times = np.concatenate([each.rows.times for each in self._held])
        return int(np.partition(times, len(times) // 2)[len(times) // 2])

    def drop(self, since: int) -> Iterator[Unit]:
        """Drop the rows of times from `since` on; yields the units that must be read again."""
        self._ceiling = since
        held, self._held, self.row_count = self._held, [], 0
        for each in held:
            yield from self._hold(each)

    def _hold(self, held: _Held) -> Iterator[Unit]:
        """Hold the rows before the ceiling; yields the unit of the other rows."""
        later = held.rows.between(self._ceiling, NEVER)
        if len(later.times):
            yield replace(held.unit, time=int(later.times[0]), since=self._ceiling)
            unit = replace(held.unit, until=self._ceiling)
            held = _Held(unit, held.rows.between(-NEVER, self._ceiling))
        if len(held.rows.times):
            self._held.append(held)
            self.row_count += len(held.rows.times)


def _without_empty(held: list[_Held]) -> list[_Held]:
    return [each for each in held if len(each.rows.times)]
