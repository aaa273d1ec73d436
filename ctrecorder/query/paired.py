"""Read the rows of a query, and pair them: events, and parts of connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ctrecorder import times
from ctrecorder.archive import chain
from ctrecorder.columns import Table
from ctrecorder.connections import parts
from ctrecorder.ctlog.frame import Kind, Mark
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError
from ctrecorder.findings import damage
from ctrecorder.pairs.pairers import Losses, Pairers
from ctrecorder.pairs.readers import Readers
from ctrecorder.pairs.runs import Runs
from ctrecorder.pairs.whole import WholeBlocks
from ctrecorder.query.open import Archive, ScanStats
from ctrecorder.segment.recording import Block, Recording
from ctrecorder.spans import Span

# Whether a row of a segment can match; its rows and complete dumps, as `_read` returns them; the
# blocks of which it returns nothing, because all of their rows were counted; what was read.
Read = bool | tuple[Table | Mark, int] | list[Block] | ScanStats


class Counting(Protocol):
    """What counts connections, in several processes."""

    def drain(self) -> Iterator[Any]:
        """What was counted; it then begins anew."""

    def join(self, found: Any) -> None:
        """Add what another one has yielded."""


class Reading:
    """How the rows of an archive's query are read, by this process or several."""

    def __init__(
        self,
        archive: Archive,
        names: Iterable[str],
        window: Span | None = None,
        whole: WholeBlocks | None = None,
        counting: Counting | None = None,
    ) -> None:
        """`window`: as of `list_connections`.  `whole`: is asked first for each block of
        CONNECTIONS.  `counting`: what `whole` adds to.
        """
        self._query, self._window = archive.query, window
        self._names = dict.fromkeys((*names, *sorted(parts.NEEDS)))
        self._whole, self._counting = whole, counting

    def read(self, segment: Recording) -> Iterator[Read]:
        """What there is to know of a segment."""
        own = replace(self._query, stats=ScanStats())
        may_contain = segment.may_contain(own)
        yield may_contain
        if not may_contain:
            yield own.stats  # of its MARKs, which come now, nothing is counted
        whole, wanted = self._whole, own.of_connections()
        taken: list[Block] = []

        def take(block: Block) -> bool:
            """Whether a block of CONNECTIONS is counted already."""
            if whole is None or not whole.take(segment, block, wanted):
                return False
            taken.append(block)
            return True

        query, names = own.of_flows(), self._names
        yield from _read(segment, names, query, may_contain, self._window, take)
        yield taken
        if may_contain:
            yield own.stats

    def note(self, segment: Recording, found: list[Block] | ScanStats) -> None:
        """Note what `read` has yielded in this process or another one."""
        if isinstance(found, ScanStats):
            self._query.stats.add(found)
        elif self._whole is not None:
            self._whole.note(segment, found)

    def rest(self) -> Iterator[Any]:
        """What a process has counted when all is read."""
        if self._counting is not None:
            yield from self._counting.drain()

    def join(self, rest: Iterator[Any]) -> None:
        """Add what the other processes have counted."""
        for found in rest:
            if self._counting is not None:
                self._counting.join(found)


def pair(
    archive: Archive,
    runs: Runs,
    reading: Reading,
    losses: Losses,
    add: Callable[[int, Table], None],
    jobs: int = 1,
) -> Iterator[int]:
    """Call `add` with the number of a run and connections of it, until all are added.

    Yields times, ns: no connection that is added later starts before them.  `losses`, `jobs`: as of
    `list_connections`.
    """
    missing = [(start, end, None) for start, end in chain.breaks(archive.segments)]
    pairers = Pairers(runs, losses, missing, add)
    has_events = False
    with Readers(archive.segments, jobs, reading.read, reading.rest) as readers:
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
                if isinstance(found, bool):
                    # Without a match, its dumps can only end flows that are open.
                    is_wanted = found or pairers.earliest(runs.recordings[run]) != times.END
                    if is_wanted and (begun := chain.run_begun(segment)) is not None:
                        pairer.add_restart(begun)
                elif isinstance(found, ScanStats | list):
                    reading.note(segment, found)
                    if not is_wanted and readers.reads_here(segment):
                        break
                elif is_wanted:
                    if not damaged and segment.is_damaged:
                        damaged = True
                        pairer.add_gaps(segment.spans_of_gaps)
                    item, next_blocks = found
                    pairers.feed(run, item)
                    if not has_events:
                        yield min(next_segments, next_blocks, pairers.earliest())
        reading.join(readers.rest())
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


def _read(
    segment: Recording,
    names: Iterable[str],
    query: Query,
    may_contain: bool,
    window: Span | None,
    take: Callable[[Block], bool],
) -> Iterator[tuple[Table | Mark, int]]:
    """The matching rows and the complete dumps of a segment, in the order of recording.

    Each with the earliest time of the blocks after it, ns; 0 with rows of small blocks, which are
    joined.  `may_contain`: False if no row matches: then only dumps are returned.  `window`: see
    `list_connections`.  `take`: is asked first for each block of CONNECTIONS, and returns whether
    it took all its rows.
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
        elif group[0].kind == Kind.CONNECTIONS and take(group[0]):
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
