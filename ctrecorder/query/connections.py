"""List connections: events paired, and connections of squeezed segments, by start or by end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.archive import chain
from ctrecorder.columns import Table
from ctrecorder.connections import parts
from ctrecorder.connections.pairing import Pairer
from ctrecorder.ctlog.frame import Kind, Mark, row_times
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError
from ctrecorder.findings import damage
from ctrecorder.order.batches import Batch
from ctrecorder.order.external_sort import Sorter
from ctrecorder.query.events import is_event_time
from ctrecorder.query.open import Archive
from ctrecorder.segment.recording import Block, Recording

# Added to a time, the sum is later than all times of 32-bit seconds.
_AFTER_ALL_ENDS_NS = 1 << 62


def list_connections(
    archive: Archive, names: Iterable[str], *, by_end: bool = False
) -> Iterator[Batch]:
    """The connections that match the archive's query, with at least columns `names`, by start.

    `by_end`: by end instead, then those without a known end, as the C ctrecorder lists them.

    Pairing begins with the first segment that overlaps the window: each begins with a dump of the
    table.  If the query is narrow, pairing continues after the window until all wanted connections
    have ended.  Connections of raw segments are returned after all reading: an older connection may
    still be open.
    """
    key = _end_times if by_end else _start_times
    with Sorter(key) as sorter:
        for before in _pair(archive, names, sorter):
            if not by_end:
                for tables in sorter.ready(before):
                    yield Batch(tables, None)
        for tables in sorter.ready(times.END):
            yield Batch(tables, _order(tables, key) if len(tables) > 1 else None)


def _pair(archive: Archive, names: Iterable[str], sorter: Sorter) -> Iterator[int]:
    """Add the wanted connections to `sorter`.

    Yields times, ns: no connection that is added later starts before them.
    """
    query = archive.query
    wanted, needed = query.of_connections(), dict.fromkeys((*names, *sorted(parts.NEEDS)))
    pairers: dict[str, Pairer] = {}
    missing = [(start, end, None) for start, end in _missing_segments(archive.segments)]
    has_events = False
    firsts = [_first_time(segment) for segment in archive.segments]
    for segment, next_segments in zip(archive.segments, _least_after(firsts), strict=True):
        if _first_time(segment) >= query.until and _earliest_open(pairers) >= query.until:
            break
        has_events = has_events or bool((segment.index["kind"] == Kind.EVENTS).any())
        # Each recording pairs by itself: a dump of one recorder says nothing about the flows of
        # another.
        pairer = pairers.setdefault(segment.pairing_key, Pairer())
        pairer.add_gaps([*segment.spans_of_gaps, *missing])
        damage_found = len(segment.findings)
        may_contain = segment.may_contain(query)
        if not may_contain and pairer.earliest() is None:
            continue  # there is no open flow that its dumps could end
        for item, next_blocks in _read(segment, needed, query.of_flows(), may_contain):
            if len(segment.findings) > damage_found:
                damage_found = len(segment.findings)
                pairer.add_gaps(segment.spans_of_gaps)
            if isinstance(item, Mark):
                ended = pairer.snapshot(item.begin, item.end)
            else:
                ended = pairer.feed(item)
            _add_wanted(sorter, ended, wanted)
            if not has_events:
                yield min(next_segments, next_blocks, _earliest_open(pairers))
    for pairer in pairers.values():
        _add_wanted(sorter, pairer.finish(), wanted)


def _missing_segments(segments: Iterable[Recording]) -> Iterator[tuple[int, int]]:
    """The times between two segments of a recording that do not follow each other.

    `segments`: in the order in which their recording began.
    """
    last: dict[str, tuple[int, chain.Link]] = {}
    for segment in segments:
        if not len(segment.index):
            continue
        link = chain.link(segment)
        begin, end = segment.times
        if link.chain in last:
            before, earlier = last[link.chain]
            follows = not earlier.hashes or link.follows(earlier)
            if not follows and before < begin:
                yield before, begin
        last[link.chain] = end, link


def _earliest_open(pairers: dict[str, Pairer]) -> int:
    """The earliest start, ns, of an open flow; END if there is none."""
    starts = [pairer.earliest() for pairer in pairers.values()]
    return min((start for start in starts if start is not None), default=times.END)


def _least_after(values: list[int]) -> list[int]:
    """For each of the values, ns, the least of all values after it; END for the last one."""
    reverse = np.array([*values, times.END], np.int64)[::-1]
    least = np.minimum.accumulate(reverse)[::-1]
    return [int(value) for value in least[1:]]


def _add_wanted(sorter: Sorter, tables: Iterable[Table], wanted: Query) -> None:
    for table in tables:
        sorter.add(table.take(wanted.evaluate(table)))


def _read(
    segment: Recording, names: Iterable[str], query: Query, may_contain: bool
) -> Iterator[tuple[Table | Mark, int]]:
    """The matching rows and the complete dumps of a segment, in the order of recording.

    Each with the earliest time of the blocks after it, ns; 0 with rows of small blocks, which are
    joined.  `may_contain`: False if no row matches: then only dumps are returned.
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
        else:
            for table in _matching_rows(segment, group, names, query):
                yield table, least


def _matching_rows(
    segment: Recording, group: list[Block], names: Iterable[str], query: Query
) -> Iterator[Table]:
    """The matching rows of a group of `Segment.in_recording_order`.

    A damaged block is left out; its error is added to the segment's findings.
    """
    first = group[0]
    if first.joins:
        for table in segment.read_small(group, {*names, *query.columns_needed()}):
            yield table.take(query.evaluate(table))
        return
    if first.kind == Kind.CONNECTIONS:
        query = query.of_connections()
    try:
        rows = segment.ask(first, names, query)
    except FormatError as error:
        segment.findings.append(damage(error))
        return
    if rows is not None:
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


def _order(tables: list[Table], key: Callable[[Table], NDArray[np.int64]]) -> NDArray[np.intp]:
    """(all rows,): the rows of the tables laid end to end in the order of `key`."""
    return np.argsort(np.concatenate([key(table) for table in tables]), kind="stable")
