"""List connections: events paired, and connections of squeezed segments, by start or by end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.archive import chain
from ctrecorder.beside.twins import Twins
from ctrecorder.columns import Table
from ctrecorder.connections import parts
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import Kind, Mark, row_times
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError
from ctrecorder.findings import damage
from ctrecorder.order.batches import Batch, SortedRows, batches_of
from ctrecorder.order.external_sort import Sorter
from ctrecorder.pairs.pairers import Losses, Pairers
from ctrecorder.pairs.readers import Readers
from ctrecorder.pairs.runs import Runs
from ctrecorder.pairs.whole import WholeBlocks
from ctrecorder.query.events import is_event_time
from ctrecorder.query.open import Archive, ScanStats
from ctrecorder.segment.recording import Block, Recording
from ctrecorder.spans import Span

# Added to a time, the sum is later than all times of 32-bit seconds.
_AFTER_ALL_ENDS_NS = 1 << 62
# Takes all rows of a block, or returns False.
Take = Callable[[Recording, Block], bool]


def list_connections(
    archive: Archive,
    names: Iterable[str],
    *,
    by_end: bool = False,
    losses: Losses | None = None,
    window: Span | None = None,
    jobs: int = 1,
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

    `jobs`: the processes that read segments.
    """
    key = _end_times if by_end else _start_times
    names = dict.fromkeys((*names, *archive.query.of_connections().columns_needed()))
    losses = {} if losses is None else losses
    runs = _runs(archive)
    with Sorter(key) as sorter:
        if runs.has_twins:
            for tables in _join_twins(archive, names, runs, losses, jobs):
                if by_end:
                    for table in tables:
                        sorter.add(table)
                elif tables:
                    yield _batch(tables, key)
        else:
            wanted = archive.query.of_connections()
            for before in _pair(
                archive,
                names,
                runs,
                losses,
                lambda _, one: _add(sorter, one, wanted),
                window,
                jobs=jobs,
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
        for tables in _join_twins(archive, names, runs, losses, 1):
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
    archive: Archive, names: Iterable[str], runs: Runs, losses: Losses, jobs: int
) -> Iterator[list[Table]]:
    """The wanted connections, by start: each list has a table for each family.

    Whether a connection is wanted is decided when all is known of it.
    """
    wanted, twins = archive.query.of_connections(), Twins(runs.tables)
    with Sorter(_start_times) as sorter:
        for _ in _pair(
            archive,
            names,
            runs,
            losses,
            lambda run, table: sorter.add(twins.add(run, table)),
            jobs=jobs,
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
    jobs: int = 1,
) -> Iterator[int]:
    """Call `add` with the number of a run and connections of it, until all are added.

    Yields times, ns: no connection that is added later starts before them.  `take`: is asked first
    for each block of CONNECTIONS, and returns whether it took all its rows.
    """
    query = archive.query
    needed = dict.fromkeys((*names, *sorted(parts.NEEDS)))
    missing = [(start, end, None) for start, end in chain.breaks(archive.segments)]
    pairers = Pairers(runs, losses, missing, add)
    has_events = False

    def read(segment: Recording) -> Iterator[bool | tuple[Table | Mark, int] | ScanStats]:
        """Whether a row can match; what `_read` returns; what was read."""
        own = replace(query, stats=ScanStats())
        may_contain = segment.may_contain(own)
        yield may_contain
        yield from _read(segment, needed, own.of_flows(), may_contain, window, take)
        yield own.stats

    with Readers(archive.segments, jobs, read) as readers:
        for segment, run, next_segments in _segments(archive, runs, pairers):
            has_events = has_events or bool((segment.index["kind"] == Kind.EVENTS).any())
            pairer = pairers.of(run)
            pairers.loss_of(run).add_segment(segment)
            pairer.add_gaps(segment.spans_of_gaps)
            damaged = segment.is_damaged
            if segment.header.is_squeezed:
                pairer.add_dumps(
                    (one.begin, one.end) for one in segment.marks if one.is_complete_dump
                )
            is_wanted = False
            for found in readers.read(segment):
                if isinstance(found, ScanStats):
                    query.stats.add(found)
                elif isinstance(found, bool):
                    # Without a match, its dumps can only end flows that are open.
                    is_wanted = found or pairers.earliest(runs.recordings[run]) != times.END
                    if is_wanted and (begun := chain.run_begun(segment)) is not None:
                        pairer.add_restart(begun)
                elif is_wanted:
                    if not damaged and segment.is_damaged:
                        damaged = True
                        pairer.add_gaps(segment.spans_of_gaps)
                    item, next_blocks = found
                    pairers.feed(run, item)
                    if not has_events:
                        yield min(next_segments, next_blocks, pairers.earliest())
    pairers.finish()


def _segments(
    archive: Archive, runs: Runs, pairers: Pairers
) -> Iterator[tuple[Recording, int, int]]:
    """The segments to pair, each with its run and the earliest time of the segments after it, ns.

    Those after the window are opened while connections of the window are open.
    """
    until = archive.query.until
    begins = [_first_time(segment) for segment in archive.segments]
    least = iter(_least_after([*begins, *(span.begin for span in archive.later)]))
    for segment, run, begin in zip([*archive.segments], runs.of_segment, begins, strict=True):
        if begin >= until:
            pairers.settle()
            if pairers.earliest() >= until:
                return
        yield segment, run, next(least)
    while archive.later:
        pairers.settle()
        if pairers.earliest() >= until:
            return
        before, after = archive.segments[-1:], archive.open_later()
        next_segments = next(least)
        if after is not None:
            for start, end in chain.breaks([*before, after]):
                pairers.add_gap(start, end)
            yield after, runs.of_segment[-1], next_segments


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
