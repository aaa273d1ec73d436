"""Merge the rows of many segments into one order of time, in bounded memory.

Blocks overlap in time: the two families are written side by side, the kernel's times are slightly
out of order, a block of connections can span hours.  So blocks are read in the order of their
earliest times.  Rows that are earlier than all blocks still to be read are in order and are
returned.  `held_rows` bounds the memory of the rows that wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from ctrecorder.columns import Table, concat
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.ctlog.index import FORM_SMALL
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError
from ctrecorder.findings import damage
from ctrecorder.order.batches import BATCH_ROWS, Batch, SortedRows, batches_of
from ctrecorder.order.held_rows import HELD_BYTES, NEVER, HeldRows, Unit
from ctrecorder.segment.recording import Block, Recording

# Rows of small blocks that are read as one table, at least, if the next blocks allow it.  With
# fewer, the cost for each table shows; with more, more rows wait.
_JOINED_ROWS = 1 << 14
# Units that are read at most before rows are returned, however few: a query that matches few rows
# shows them soon.
_UNITS_PER_ROUND = 32
_TIME_COLUMNS = {Kind.EVENTS: ("time",), Kind.CONNECTIONS: ("start", "end")}


def merge(
    segments: Sequence[Recording],
    names: Iterable[str] | None = None,
    query: Query | None = None,
    kind: Kind = Kind.EVENTS,
    held_bytes: int = HELD_BYTES,
) -> Iterator[Batch]:
    """The rows of `kind` in `segments` that match `query`, in order of time.

    `names`: the columns (default: all).  `query`: None matches all rows.  An event is ordered by
    `time`, a connection by `start`, or by `end` where the start is unknown.  Rows of equal times
    keep the order of the segments and their blocks, as far as `held_bytes` allows.  A damaged block
    is left out; its error is added to its segment's `findings`.
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
        self._names = None if names is None else list(dict.fromkeys((*names, *_TIME_COLUMNS[kind])))
        self._query, self._kind = query, kind
        self._held = HeldRows(held_bytes)
        self._heap: list[Unit] = []
        for number, segment in enumerate(segments):
            index = segment.index
            times = index["time_min"][index["kind"] == kind]
            if len(times):
                # One unit stands for all blocks of a segment until its time has come.
                self._heap.append(Unit(int(times.min()), number << 32, segment, []))
        heapq.heapify(self._heap)

    def batches(self) -> Iterator[Batch]:
        while self._heap or self._held.row_count:
            self._read_units()
            yield from batches_of(self._held.take(self._next_time()))
            while self._held.over_limit:
                yield from self._shrink()

    def _next_time(self) -> int:
        """The earliest time of the units that are still to be read."""
        return self._heap[0].time if self._heap else NEVER

    def _read_units(self) -> None:
        """Read the next units, until a batch of rows waits."""
        for _ in range(_UNITS_PER_ROUND):
            if not self._heap:
                return
            unit = heapq.heappop(self._heap)
            if unit.blocks:
                self._read_unit(unit)
            else:
                self._push(_units_of_segment(unit, self._kind, self._query))
            if self._held.row_count >= BATCH_ROWS:
                return

    def _push(self, units: Iterable[Unit]) -> None:
        for unit in units:
            heapq.heappush(self._heap, unit)

    def _read_unit(self, unit: Unit) -> None:
        """Read a unit and hold its rows."""
        self._held.reach(unit.time)
        tables = [table for table in self._tables(unit) if len(table)]
        if tables:
            table = concat(tables)
            rows = SortedRows.of(table, row_times(self._kind, table))
            self._push(self._held.add(unit, rows))

    def _tables(self, unit: Unit) -> list[Table]:
        """The matching rows of a unit, at most one table for each of its blocks."""
        segment, query, names = unit.segment, self._query, self._names
        if unit.blocks[0].form == FORM_SMALL:
            if query is None:
                return segment.read_small(unit.blocks, names)
            needed = None if names is None else {*names, *query.columns_needed()}
            tables = segment.read_small(unit.blocks, needed)
            return [table.take(query.evaluate(table)) for table in tables]
        (block,) = unit.blocks
        try:
            table = segment.ask(block, names, query) if query else segment.read(block, names)
        except FormatError as error:
            segment.findings.append(damage(error))
            return []
        return [] if table is None else [table]

    def _shrink(self) -> Iterator[Batch]:
        """Drop the later half of the rows, to be read again.

        If half of the rows have the time of the next unit, they cannot be dropped: these and the
        earlier rows are returned.
        """
        middle = self._held.median()
        if middle == self._next_time():
            yield from batches_of(self._held.take(middle + 1))
        else:
            self._push(self._held.drop(middle))


def _units_of_segment(whole: Unit, kind: Kind, query: Query | None) -> Iterator[Unit]:
    """The units of a segment, of the blocks that may match.

    Small blocks of a family are joined until a large block of that family follows.
    `Segment.in_recording_order` joins them for pairing, and ends all groups at each large block of
    either family, as pairing and ctsqueeze need.  Here rows are sorted anyway, so a large block of
    the other family ends no group: where large IPv4 blocks and small IPv6 blocks alternate, that
    takes a fifth less time.
    """
    segment, number = whole.segment, whole.number
    if query is not None and not segment.may_contain(query):
        return
    small: dict[int, list[Block]] = {}
    rows: dict[int, int] = {}
    for block in segment.blocks_of(kind):
        if query is not None and not query.may_contain_time(block.time_min, block.time_max):
            continue
        number += 1
        is_small, family = block.form == FORM_SMALL, block.family
        if family in small and (not is_small or rows[family] >= _JOINED_ROWS):
            yield _unit(segment, number - 1, small.pop(family))
        if not is_small:
            yield _unit(segment, number, [block])
            continue
        if family not in small:
            small[family], rows[family] = [], 0
        small[family].append(block)
        rows[family] += block.rows
    for blocks in small.values():
        yield _unit(segment, number, blocks)


def _unit(segment: Recording, number: int, blocks: list[Block]) -> Unit:
    return Unit(min(block.time_min for block in blocks), number, segment, blocks)
