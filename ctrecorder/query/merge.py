"""Many segments in one order of time, in bounded memory.

Blocks overlap in time: two families are written side by side, the kernel's times are a little out
of order, a block of connections can span hours.  So blocks are taken in the order of their earliest
time, and what is earlier than all that was not taken yet is in order and is given out.

The rows that wait take `HELD_BYTES` at most, and one block besides, whatever the archive holds.
Where more than that overlaps, the later half of what waits is dropped, and its blocks are read
again when their time has come: the order is the same, it takes longer.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Table, concat
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.ctlog.index import FORM_SMALL
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError
from ctrecorder.findings import damage
from ctrecorder.segment.recording import Block, Recording

# Bytes that rows which wait take: 1,500,000 of what a line of text needs, 16 full blocks of IPv6
# with all columns.  With fewer, blocks that overlap are read twice sooner; with more, a small
# router feels it.
HELD_BYTES = 64 << 20
# Rows of a batch at most.  Below it a consumer's cost by the batch shows, above it a batch leaves
# the cache.
BATCH_ROWS = 1 << 16
# Rows of small blocks that are read as one, as far as their number goes: so many that the cost by
# the table no longer shows.
_JOINED_ROWS = 1 << 14
# Units that are taken before what is ready is given out, even if it is little: so that a search
# that finds little shows it soon.
_TAKEN_UNITS = 32
_NEVER = 1 << 63  # after every time
_KEYS = {Kind.EVENTS: ("time",), Kind.CONNECTIONS: ("start", "end")}


class Batch(NamedTuple):
    """Rows that follow each other in time: `tables`, at most one of a family, each in order of
    time.

    `order`: (all rows,) intp, which row of the tables laid end to end comes next; None if there is
    one table.
    """

    tables: list[Table]
    order: NDArray[np.intp] | None


@dataclass(order=True)
class _Unit:
    """What is read at once: a block, or small blocks of one family that lie near each other.

    `time`: none of its rows that are still to come is earlier.  Of its rows those of times from
    `since` on, before `until`, are meant.
    """

    time: int
    number: int
    segment: Recording = field(compare=False)
    blocks: list[Block] = field(compare=False)
    since: int = field(compare=False, default=-_NEVER)
    until: int = field(compare=False, default=_NEVER)


class _Held(NamedTuple):
    """Rows that wait, in order of time; `times` is their key."""

    unit: _Unit
    table: Table
    times: NDArray[np.int64]

    @property
    def bytes(self) -> int:
        return len(self.times) * (8 + sum(array.itemsize for array in self.table.columns.values()))

    def part(self, first: int, last: int) -> _Held:
        """Rows first..last-1; as a copy if they are the lesser part, so that they do not keep the
        memory of all.
        """
        table, times = self.table.slice(first, last), self.times[first:last]
        if 2 * len(times) < len(self.times):
            copies = {name: array.copy() for name, array in table.columns.items()}
            return _Held(self.unit, Table(table.family, len(table), copies), times.copy())
        return _Held(self.unit, table, times)

    def between(self, since: int, until: int) -> _Held:
        """The rows of times from `since` on, before `until`."""
        first = (
            int(np.searchsorted(self.times, since))
            if len(self.times) and since > self.times[0]
            else 0
        )
        last = (
            int(np.searchsorted(self.times, until))
            if len(self.times) and until <= self.times[-1]
            else len(self.times)
        )
        return self.part(first, last)


def merge(
    segments: Sequence[Recording],
    names: Iterable[str] | None = None,
    query: Query | None = None,
    kind: Kind = Kind.EVENTS,
    held_bytes: int = HELD_BYTES,
) -> Iterator[Batch]:
    """All rows of `kind` in `segments` that `question` wants (default: all), with the columns
    `names` (default: all), in order of time.

    The time of an event is `time`, of a connection `start` (`end` while the start is unknown).
     Equal times stay in the order of the segments and their blocks as far as `held_bytes` allows.
     A damaged block is passed over; its error is in its segment's `findings`.
    """
    return _Merge(segments, names, query, kind, held_bytes).batches()


class _Merge:
    def __init__(
        self,
        segments: Sequence[Recording],
        names: Iterable[str] | None,
        query: Query | None,
        kind: Kind,
        held_bytes: int,
    ) -> None:
        self._names = None if names is None else list(dict.fromkeys((*names, *_KEYS[kind])))
        self._question, self._kind, self._held_bytes = query, kind, held_bytes
        self._held: list[_Held] = []
        self._rows = 0
        self._ceiling = (
            _NEVER  # rows from this time on are not held now, but read again when it has come
        )
        self._heap: list[_Unit] = []
        for number, segment in enumerate(segments):
            index = segment.index
            times = index["time_min"][index["kind"] == kind]
            if len(times):
                # The segment stands for its blocks until its time has come.
                self._heap.append(_Unit(int(times.min()), number << 32, segment, []))
        heapq.heapify(self._heap)

    def batches(self) -> Iterator[Batch]:
        while self._heap or self._held:
            taken = 0
            while self._heap and (taken == 0 or (taken < _TAKEN_UNITS and self._rows < BATCH_ROWS)):
                self._take(heapq.heappop(self._heap))
                taken += 1
            yield from _batches(self._ready(self._horizon()))
            while sum(one.bytes for one in self._held) > self._held_bytes:
                yield from self._shrink()

    def _horizon(self) -> int:
        """The earliest time of what was not taken yet."""
        return self._heap[0].time if self._heap else _NEVER

    def _take(self, unit: _Unit) -> None:
        """Read a unit and hold its rows; of a segment, find its units."""
        if not unit.blocks:
            for part in _units(unit, self._kind, self._question):
                heapq.heappush(self._heap, part)
            return
        if unit.time >= self._ceiling:
            self._ceiling = _NEVER
        tables = [table for table in self._read(unit) if len(table)]
        if tables:
            table = concat(tables)
            held = _in_order(unit, table, row_times(self._kind, table))
            self._hold(held.between(unit.since, unit.until))

    def _read(self, unit: _Unit) -> list[Table]:
        """The rows of a unit that are wanted, at most one table for each of its blocks."""
        segment, query = unit.segment, self._question
        if unit.blocks[0].form == FORM_SMALL:
            needed = (
                None
                if self._names is None
                else {*self._names, *(query.columns_needed() if query else ())}
            )
            tables = segment.read_small(unit.blocks, needed)
            if query is not None:
                tables = [table.take(query.evaluate(table)) for table in tables]
            return tables
        try:
            found = (
                segment.ask(unit.blocks[0], self._names, query)
                if query
                else segment.read(unit.blocks[0], self._names)
            )
        except FormatError as error:
            segment.findings.append(damage(error))
            return []
        return [] if found is None else [found]

    def _hold(self, held: _Held) -> None:
        """Hold what is before the ceiling; the rest is to be read again."""
        later = held.between(self._ceiling, _NEVER)
        if len(later.times):
            again = replace(later.unit, time=int(later.times[0]), since=self._ceiling)
            heapq.heappush(self._heap, again)
            held = held.between(-_NEVER, self._ceiling)
            held = held._replace(unit=replace(held.unit, until=self._ceiling))
        if len(held.times):
            self._held.append(held)
            self._rows += len(held.times)

    def _ready(self, horizon: int) -> list[_Held]:
        """Take what is held from before `horizon` out, in the order of the units."""
        ready = [one.between(-_NEVER, horizon) for one in self._held]
        held = [one.between(horizon, _NEVER) for one in self._held]
        ready, self._held = ([one for one in some if len(one.times)] for some in (ready, held))
        self._rows -= sum(len(one.times) for one in ready)
        return sorted(ready, key=lambda one: one.unit.number)

    def _shrink(self) -> Iterator[Batch]:
        """Too much waits: drop the later half, to be read again; if it is all of the time that is
        next, give that out.
        """
        times = np.concatenate([one.times for one in self._held])
        middle = int(np.partition(times, len(times) // 2)[len(times) // 2])
        if middle == self._horizon():
            yield from _batches(self._ready(middle + 1))
            return
        self._ceiling = middle
        held, self._held, self._rows = self._held, [], 0
        for one in held:
            self._hold(one)


def _in_order(unit: _Unit, table: Table, times: NDArray[np.int64]) -> _Held:
    if (times[1:] >= times[:-1]).all():
        return _Held(unit, table, times)
    order = np.argsort(times, kind="stable")
    return _Held(unit, table.take(order), times[order])


def _units(whole: _Unit, kind: Kind, query: Query | None) -> Iterator[_Unit]:
    """The units of a segment."""
    small: dict[int, list[Block]] = {}
    rows: dict[int, int] = {}
    number = whole.number
    if query is not None and not whole.segment.may_contain(query):
        return
    for block in whole.segment.blocks_of(kind):
        if query is not None and not query.may_contain_time(block.time_min, block.time_max):
            continue
        number += 1
        if block.family in small and (
            block.form != FORM_SMALL or rows[block.family] >= _JOINED_ROWS
        ):
            yield _unit(whole.segment, number - 1, small.pop(block.family))
        if block.form != FORM_SMALL:
            yield _unit(whole.segment, number, [block])
            continue
        before = rows[block.family] if block.family in small else 0
        small.setdefault(block.family, []).append(block)
        rows[block.family] = before + block.rows
    for blocks in small.values():
        yield _unit(whole.segment, number, blocks)


def _unit(segment: Recording, number: int, blocks: list[Block]) -> _Unit:
    return _Unit(min(block.time_min for block in blocks), number, segment, blocks)


def _batches(ready: list[_Held]) -> Iterator[Batch]:
    """Ready rows as batches of at most BATCH_ROWS."""
    families = {
        family: [one for one in ready if one.table.family == family]
        for family in sorted({one.table.family for one in ready})
    }
    if len(families) == 1:
        for piece in _pieces(ready):
            for first in range(0, len(piece.times), BATCH_ROWS):
                yield Batch([piece.table.slice(first, first + BATCH_ROWS)], None)
    elif families:
        yield from _interleaved([_joined(parts) for parts in families.values()])


def _pieces(parts: list[_Held]) -> Iterator[_Held]:
    """Rows of one family in order, without copying those that overlap with nothing: most often only
    a block's ends do.
    """
    if len(parts) == 1:
        yield parts[0]
        return
    if len(parts) > 8:
        yield _joined(parts)
        return
    last = max(parts, key=lambda one: int(one.times[-1]))
    others = [one for one in parts if one is not last]
    cut = int(np.searchsorted(last.times, max(int(one.times[-1]) for one in others), side="right"))
    if cut:
        yield _joined([one.part(0, cut) if one is last else one for one in parts])
    else:
        yield from _pieces(others)
    if cut < len(last.times):
        yield last.part(cut, len(last.times))


def _joined(parts: list[_Held]) -> _Held:
    """All rows of one family as one table in order of time."""
    if len(parts) == 1:
        return parts[0]
    return _in_order(
        parts[0].unit,
        concat([one.table for one in parts]),
        np.concatenate([one.times for one in parts]),
    )


def _interleaved(held: list[_Held]) -> Iterator[Batch]:
    """Tables of two families, each in order of time, as batches that say how their rows interleave."""
    first, second = held
    order = np.argsort(np.concatenate((first.times, second.times)), kind="stable")
    begins = [0, 0]
    for at in range(0, len(order), BATCH_ROWS):
        numbers = order[at : at + BATCH_ROWS]
        is_second = numbers >= len(first.times)
        of_second = int(np.count_nonzero(is_second))
        of_first = len(numbers) - of_second
        tables = [
            first.table.slice(begins[0], begins[0] + of_first),
            second.table.slice(begins[1], begins[1] + of_second),
        ]
        numbers = numbers - np.where(is_second, len(first.times) + begins[1] - of_first, begins[0])
        begins = [begins[0] + of_first, begins[1] + of_second]
        filled = [table for table in tables if len(table)]
        yield Batch(filled, numbers if len(filled) > 1 else None)
