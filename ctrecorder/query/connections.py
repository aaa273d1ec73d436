"""List connections: events paired, and connections of squeezed segments, by start or by end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder import spill, times
from ctrecorder.archive import chain
from ctrecorder.archive.runs import Runs
from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.archive.whole import WholeBlocks
from ctrecorder.columns import Table
from ctrecorder.connections import parts
from ctrecorder.connections.open_flows import Memory
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.twins import Twins
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import Kind, Mark, row_times
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError
from ctrecorder.findings import damage
from ctrecorder.order.batches import Batch, SortedRows, batches_of
from ctrecorder.order.external_sort import Sorter
from ctrecorder.query.events import is_event_time
from ctrecorder.query.open import Archive
from ctrecorder.segment.recording import Block, Recording
from ctrecorder.spans import Span

# Added to a time, the sum is later than all times of 32-bit seconds.
_AFTER_ALL_ENDS_NS = 1 << 62
# Of recordings, by their pairing key.
Losses = dict[str, SilentLoss]
# Takes all rows of a block, or returns False.
Take = Callable[[Recording, Block], bool]


def list_connections(
    archive: Archive,
    names: Iterable[str],
    *,
    by_end: bool = False,
    losses: Losses | None = None,
    window: Span | None = None,
) -> Iterator[Batch]:
    """The connections that match the archive's query, with at least columns `names`, by start.

    `by_end`: by end instead, then those without a known end, as the C ctrecorder lists them.

    Pairing begins with the first segment that overlaps the window: each begins with a dump of the
    table.  If the query is narrow, pairing continues after the window until all wanted connections
    have ended.  Connections of raw segments are returned after all reading: an older connection may
    still be open.  So are all connections where recorders ran side by side: a flow that several of
    them recorded is one connection.

    `losses`: gets, by the pairing key of each recording, what its rows prove about silent loss; ask
    when all batches were taken.

    `window`: only connections that can have existed then are wanted, ns.  Blocks of others are not
    read, if no other row could join them.
    """
    key = _end_times if by_end else _start_times
    losses = {} if losses is None else losses
    runs = _runs(archive)
    with Sorter(key) as sorter:
        if runs.has_twins:
            for tables in _join_twins(archive, names, runs, losses):
                if by_end:
                    for table in tables:
                        sorter.add(table)
                elif tables:
                    yield _batch(tables, key)
        else:
            wanted = archive.query.of_connections()
            for before in _pair(
                archive, names, runs, losses, lambda _, one: _add(sorter, one, wanted), window
            ):
                if not by_end:
                    for tables in sorter.ready(before):
                        yield Batch(tables, None)
        for tables in sorter.ready(times.END):
            yield _batch(tables, key)


def count_connections(
    archive: Archive,
    names: Iterable[str],
    add: Callable[[Table | LazyTable], None],
    losses: Losses | None = None,
) -> None:
    """Call `add` with all connections that match the archive's query, with at least columns `names`
    or with all, in no order.

    Blocks of connections that nothing can join are given as they are stored, so that only what is
    read of them is decoded.  `losses`: as for `list_connections`.
    """
    losses = {} if losses is None else losses
    runs = _runs(archive)
    wanted = archive.query.of_connections()
    if runs.has_twins:
        for tables in _join_twins(archive, names, runs, losses):
            for table in tables:
                add(table)
        return
    whole = WholeBlocks(wanted, add)

    def add_wanted(_: int, table: Table) -> None:
        add(table.take(wanted.evaluate(table)))

    for _ in _pair(archive, names, runs, losses, add_wanted, take=whole.take):
        pass
    whole.tell(losses)


def _runs(archive: Archive) -> Runs:
    """The runs.  If recorders ran side by side, the segments after the window are opened too."""
    runs = Runs.of(archive.segments)
    if not runs.has_twins:
        return runs
    while archive.later:
        archive.open_later()
    return Runs.of(archive.segments)


def _join_twins(
    archive: Archive, names: Iterable[str], runs: Runs, losses: Losses
) -> Iterator[list[Table]]:
    """The wanted connections, by start: each list has a table for each family.

    Whether a connection is wanted is decided when all is known of it.
    """
    wanted, twins = archive.query.of_connections(), Twins(runs.tables)
    with Sorter(_start_times) as sorter:
        for _ in _pair(
            archive, names, runs, losses, lambda run, table: sorter.add(twins.add(run, table))
        ):
            pass
        for tables in sorter.ready(times.END):
            for batch in batches_of([SortedRows(each, _start_times(each)) for each in tables]):
                yield _wanted(twins.feed(batch.tables), wanted)
    yield _wanted(twins.finish(), wanted)


def _wanted(tables: Iterable[Table], wanted: Query) -> list[Table]:
    """The wanted rows, without empty tables."""
    chosen = (table.take(wanted.evaluate(table)) for table in tables)
    return [table for table in chosen if len(table)]


def _pair(
    archive: Archive,
    names: Iterable[str],
    runs: Runs,
    losses: Losses,
    add: Callable[[int, Table], None],
    window: Span | None = None,
    take: Take | None = None,
) -> Iterator[int]:
    """Call `add` with the number of a run and connections of it, until all are added.

    Yields times, ns: no connection that is added later starts before them.  `take`: is asked first
    for each block of CONNECTIONS, and returns whether it took all its rows.
    """
    query = archive.query
    needed = dict.fromkeys((*names, *sorted(parts.NEEDS)))
    missing = [(start, end, None) for start, end in chain.breaks(archive.segments)]
    pairers = _Pairers(runs, losses, missing, add)
    has_events = False
    for segment, run, next_segments in _segments(archive, runs, pairers):
        has_events = has_events or bool((segment.index["kind"] == Kind.EVENTS).any())
        pairer = pairers.of(run)
        pairers.loss_of(run).add_segment(segment)
        pairer.add_gaps(segment.spans_of_gaps)
        damaged = segment.is_damaged
        if segment.header.is_squeezed:
            pairer.add_dumps((one.begin, one.end) for one in segment.marks if one.is_complete_dump)
        may_contain = segment.may_contain(query)
        if not may_contain and pairers.earliest(runs.recordings[run]) == times.END:
            continue  # there is no open flow that its dumps could end
        if (begun := chain.run_begun(segment)) is not None:
            pairer.add_restart(begun)
        for item, next_blocks in _read(
            segment, needed, query.of_flows(), may_contain, window, take
        ):
            if not damaged and segment.is_damaged:
                damaged = True
                pairer.add_gaps(segment.spans_of_gaps)
            pairers.feed(run, item)
            if not has_events:
                yield min(next_segments, next_blocks, pairers.earliest())
    pairers.finish()


def _segments(
    archive: Archive, runs: Runs, pairers: _Pairers
) -> Iterator[tuple[Recording, int, int]]:
    """The segments to pair, each with its run and the earliest time of the segments after it, ns.

    Those after the window are opened while connections of the window are open.
    """
    until = archive.query.until
    begins = [_first_time(segment) for segment in archive.segments]
    least = iter(_least_after([*begins, *(span.begin for span in archive.later)]))
    for segment, run, begin in zip([*archive.segments], runs.of_segment, begins, strict=True):
        if begin >= until and pairers.earliest() >= until:
            return
        yield segment, run, next(least)
    while archive.later and pairers.earliest() < until:
        before, after = archive.segments[-1:], archive.open_later()
        next_segments = next(least)
        if after is not None:
            for start, end in chain.breaks([*before, after]):
                pairers.add_gap(start, end)
            yield after, runs.of_segment[-1], next_segments


class _Pairers:
    """A Pairer for each run: a dump of one recorder says nothing about the flows of another."""

    def __init__(
        self,
        runs: Runs,
        losses: Losses,
        missing: list[tuple[int, int, None]],
        add: Callable[[int, Table], None],
    ) -> None:
        """`missing`: gaps of all runs.  `add`: is called with the number of a run and connections
        of it.
        """
        self._runs, self._losses, self._missing, self._given = runs, losses, missing, add
        self._pairers: dict[int, Pairer] = {}
        self._memory = Memory(spill.Store)

    def of(self, run: int) -> Pairer:
        if run not in self._pairers:
            self._pairers[run] = Pairer(self.loss_of(run).add_repeats, self._memory)
            self._pairers[run].add_gaps(self._missing)
        return self._pairers[run]

    def add_gap(self, begin: int, end: int) -> None:
        """Add a gap of all runs."""
        self._missing.append((begin, end, None))
        for pairer in self._pairers.values():
            pairer.add_gaps([(begin, end, None)])

    def loss_of(self, run: int) -> SilentLoss:
        """What the recording of a run proves about silent loss."""
        return self._losses.setdefault(self._runs.recordings[run], SilentLoss())

    def _add(self, run: int, table: Table) -> None:
        self.loss_of(run).add_connections(table)
        self._given(run, table)

    def feed(self, run: int, item: Table | Mark) -> None:
        """Take the next rows of a run, or a complete dump, which also ends the flows of the earlier
        runs of its recording.
        """
        if isinstance(item, Mark):
            for number, pairer in self._related(self._runs.recordings[run]):
                for table in pairer.snapshot(item.begin, item.end):
                    self._add(number, table)
        else:
            self.loss_of(run).add_events(item)
            for table in self._pairers[run].feed(item):
                self._add(run, table)

    def finish(self) -> None:
        """Add the connections that remain."""
        for number, pairer in self._pairers.items():
            for table in pairer.finish():
                self._add(number, table)

    def earliest(self, recording: str | None = None) -> int:
        """The earliest start, ns, of an open flow of a recording or of all; else END."""
        starts = [pairer.earliest() for _, pairer in self._related(recording)]
        return min((start for start in starts if start is not None), default=times.END)

    def _related(self, recording: str | None) -> list[tuple[int, Pairer]]:
        """The runs of a recording; None: all."""
        return [
            (number, pairer)
            for number, pairer in self._pairers.items()
            if recording in (None, self._runs.recordings[number])
        ]


def _least_after(values: list[int]) -> list[int]:
    """For each of the values, ns, the least of all values after it; END for the last one."""
    reverse = np.array([*values, times.END], np.int64)[::-1]
    least = np.minimum.accumulate(reverse)[::-1]
    return [int(value) for value in least[1:]]


def _add(sorter: Sorter, table: Table, wanted: Query) -> None:
    sorter.add(table.take(wanted.evaluate(table)))


def _read(
    segment: Recording,
    names: Iterable[str],
    query: Query,
    may_contain: bool,
    window: Span | None,
    take: Take | None,
) -> Iterator[tuple[Table | Mark, int]]:
    """The matching rows and the complete dumps of a segment, in the order of recording.

    Each with the earliest time of the blocks after it, ns; 0 with rows of small blocks, which are
    joined.  `may_contain`: False if no row matches: then only dumps are returned.  `window`: see
    `list_connections`, `take`: `_pair`.
    """
    kinds = (Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK) if may_contain else (Kind.MARK,)
    dumps = {(mark.begin, mark.end): mark for mark in segment.marks if mark.is_complete_dump}
    blocks = [
        block
        for block in segment.blocks_of(*kinds)
        if block.kind != Kind.MARK or (block.time_min, block.time_max) in dumps
    ]
    next_blocks = {
        block.offset: least
        for block, least in zip(
            blocks, _least_after([block.time_min for block in blocks]), strict=True
        )
        if not block.joins
    }
    for group in segment.in_recording_order(blocks):
        least = next_blocks.get(group[0].offset, 0)
        if group[0].kind == Kind.MARK:
            yield dumps[group[0].time_min, group[0].time_max], least
        elif take is not None and group[0].kind == Kind.CONNECTIONS and take(segment, group[0]):
            continue
        elif window is None or not segment.is_outside(group[0], *window):
            for table in _matching_rows(segment, group, names, query):
                yield table, least


def _matching_rows(
    segment: Recording, group: list[Block], names: Iterable[str], query: Query
) -> Iterator[Table]:
    """The matching rows of a group of `Segment.in_recording_order`; no empty table.

    A damaged block is left out; its error is added to the segment's findings.
    """
    first = group[0]
    if first.joins:
        for table in segment.read_small(group, {*names, *query.columns_needed()}):
            matching = np.flatnonzero(query.evaluate(table))
            if len(matching):
                yield table.take(matching)
        return
    if first.kind == Kind.CONNECTIONS:
        query = query.of_connections()
    try:
        rows = segment.ask(first, names, query)
    except FormatError as error:
        segment.findings.append(damage(error))
        return
    if rows is not None and len(rows):
        yield rows


def _first_time(segment: Recording) -> int:
    return segment.times[0] if len(segment.index) else times.END


def _start_times(table: Table) -> NDArray[np.int64]:
    """(rows,): the start, ns; the end where the start is unknown."""
    return row_times(Kind.CONNECTIONS, table)


def _end_times(table: Table) -> NDArray[np.int64]:
    """(rows,): the end, ns, where it is known; for the other rows their start, after all ends."""
    return np.where(
        is_event_time(table["end_source"]), table["end"], _start_times(table) + _AFTER_ALL_ENDS_NS
    )


def _batch(tables: list[Table], key: Callable[[Table], NDArray[np.int64]]) -> Batch:
    """Sorted tables of different families as a batch in the order of `key`."""
    if len(tables) == 1:
        return Batch(tables, None)
    order = np.argsort(np.concatenate([key(table) for table in tables]), kind="stable")
    return Batch(tables, order)
