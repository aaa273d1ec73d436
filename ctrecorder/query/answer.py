"""Answers: joins reader, merge, filter and pairing into the rows that ctlist shows, in order of
time.

`open_archive`, then its `gaps` and `silences` (what the answer lacks), then `events` or
`connections`; what turned out damaged is in `Archive.findings`.

Events come from raw segments as they are, and from squeezed ones as the start and the end of each
connection: squeezing changes no listing, but that UPDATEs are gone.  Connections come from pairing
events, and squeezed parts of connections, in the order in which they were recorded.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times, uapi
from ctrecorder.archive.open import open_segment
from ctrecorder.columns import Array, Event, Source, Table, bit, bits
from ctrecorder.connections import parts
from ctrecorder.connections.pairing import Pairer
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import REASONS, Gap, Kind, Mark, row_times
from ctrecorder.ctlog.predicate import Addresses, Bounds, Query
from ctrecorder.errors import ArchiveError, CtrecorderError, FormatError
from ctrecorder.findings import Finding, damage
from ctrecorder.query.external_sort import Sorter
from ctrecorder.query.merge import Batch, merge
from ctrecorder.segment.recording import Block, Recording
from ctrecorder.terminal import count

# The reader reads up to the last block; a recorder writes within a second what it hears, and the
# clocks of two moments differ a little.
_QUIET_NS = 2 * times.SECOND
# What neither the start nor the end of a connection tells as an event.
_NO_EVENT = ("start", "end", "start_source", "end_source", "seen", "stop")
# Added to a time, it is behind all times of 32-bit seconds.
_BEHIND = 1 << 62
_LATE_VALUES = ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes", "tcp_state")


@dataclass
class ScanStats:
    """What an answer took; small blocks that are read together count as one."""

    segments: int = 0
    segments_outside: int = 0
    segments_without: int = 0
    blocks_outside: int = 0
    blocks_without: int = 0
    blocks_read: int = 0
    rows_read: int = 0
    rows_wanted: int = 0

    def __str__(self) -> str:
        return (
            f"{count(self.segments, 'segment')} read, "
            f"{self.segments_outside:,} skipped by time, {self.segments_without:,} by their addresses; "
            f"blocks: {self.blocks_outside:,} skipped by time, {self.blocks_without:,} by their index, {self.blocks_read:,} read; "
            f"{count(self.rows_read, 'row')} read, {self.rows_wanted:,} wanted"
        )


@dataclass(frozen=True)
class _CountingQuery(Query):
    """A question that counts what it is asked."""

    stats: ScanStats = field(default_factory=ScanStats, compare=False)

    def may_contain_addresses(self, addresses: Addresses) -> bool:
        found = super().may_contain_addresses(addresses)
        self.stats.segments_without += not found
        return found

    def may_contain_time(self, time_min: int, time_max: int) -> bool:
        found = super().may_contain_time(time_min, time_max)
        self.stats.blocks_outside += not found
        return found

    def may_contain(self, bounds: Bounds) -> bool:
        found = super().may_contain(bounds)
        self.stats.blocks_without += not found
        return found

    def evaluate(self, table: Table | LazyTable) -> NDArray[np.bool_]:
        found = super().evaluate(table)
        self.stats.blocks_read += 1
        self.stats.rows_read += len(found)
        self.stats.rows_wanted += int(np.count_nonzero(found))
        return found


@dataclass
class Archive:
    """The open `segments` that can tell of the question, in their order of recording; `failed`:
    files that no one can read as one.

    `first` and `last`: the earliest and latest time, ns, of all segments that were looked at;
    `live`: whether one is being written.
    """

    query: _CountingQuery
    segments: list[Recording] = field(default_factory=list)
    failed: list[CtrecorderError] = field(default_factory=list)
    first: int = times.END
    last: int = times.BEGIN
    live: bool = False

    @property
    def findings(self) -> list[Finding | CtrecorderError]:
        """What is damaged or cannot be read, so far as it was come across."""
        return [
            *self.failed,
            *(finding for segment in self.segments for finding in segment.findings),
        ]

    def gaps(self) -> list[Gap]:
        """The gaps that touch the window, by their beginning."""
        since, until = self.query.since, self.query.until
        found = {
            gap
            for segment in self.segments
            for gap in segment.gaps
            if gap.begin < until and gap.end >= since
        }
        return sorted(found, key=lambda gap: (gap.begin, gap.end))

    def silences(self, now: int) -> list[Gap]:
        """The times of the window, up to `now`, before the first and after the last segment; none
        if no window was asked for.
        """
        since, until = self.query.since, min(self.query.until, now)
        if (self.query.since, self.query.until) == (
            times.BEGIN,
            times.END,
        ) or self.first > self.last:
            return []
        found = []
        if times.BEGIN < since < self.first - _QUIET_NS:
            found.append(Gap(since, min(self.first, until), "not-recording"))
        if until > self.last + _QUIET_NS and not self.live:
            found.append(Gap(max(self.last, since), until, "not-recording"))
        return found


def open_archive(paths: Iterable[str], query: Query) -> Archive:
    """Open those segments among `paths` that can tell of the question, each once, by whatever paths
    it is named.

    Those after the window are among them if the question is narrow: connections may end there.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (hard, hard)
    )  # a year of hourly segments is 8,760 files
    archive = Archive(_CountingQuery(**vars(query)))
    known = 0
    for path in {os.path.realpath(path): path for path in paths}.values():
        try:
            segment = open_segment(path)
        except (FormatError, ArchiveError) as error:
            archive.failed.append(error)
            continue
        known += 1
        first, last = segment.times if len(segment.index) else (times.END, times.BEGIN)
        archive.first, archive.last = min(archive.first, _begun(segment)), max(archive.last, last)
        archive.live |= segment.state == "live"
        if (last < query.since and not segment.findings) or (
            first >= query.until and not query.narrow
        ):
            segment.close()
        else:
            archive.segments.append(segment)
    stats = archive.query.stats
    stats.segments, stats.segments_outside = len(archive.segments), known - len(archive.segments)
    archive.segments.sort(key=_begun)
    return archive


def events(archive: Archive, names: Iterable[str]) -> Iterator[Batch]:
    """The events that the question wants, with at least the columns `names`, in order of time."""
    query, segments = archive.query, archive.segments
    recorded = merge(segments, names, query, Kind.EVENTS)
    if not any((segment.index["kind"] == Kind.CONNECTIONS).any() for segment in segments):
        yield from recorded
        return
    squeezed = merge(
        segments,
        dict.fromkeys((*names, *parts.SPAN, "present")),
        query.of_connections(),
        Kind.CONNECTIONS,
    )
    with Sorter(lambda table: row_times(Kind.EVENTS, table)) as sorter:
        yield from _with_squeezed(recorded, squeezed, sorter, query)


def _with_squeezed(
    recorded: Iterator[Batch], squeezed: Iterator[Batch], sorter: Sorter, query: Query
) -> Iterator[Batch]:
    """The events of both in one order of time.

    Connections come in order of start: all events before the start of the last one are known.
    """
    reached = times.BEGIN
    for batch in recorded:
        first = min(int(table["time"][0]) for table in batch.tables)
        last = max(int(table["time"][-1]) for table in batch.tables)
        while reached <= last:
            paired = next(squeezed, None)
            reached = times.END if paired is None else _add_events(sorter, paired, query)
            yield from _batches(sorter, min(reached, first))
        if len(sorter):
            for table in batch.tables:
                sorter.add(table)
            yield from _batches(sorter, last + 1)
        else:
            yield batch
    for paired in squeezed:
        yield from _batches(sorter, _add_events(sorter, paired, query))
    yield from _batches(sorter, times.END)


def connections(archive: Archive, names: Iterable[str], *, by_end: bool = False) -> Iterator[Batch]:
    """The connections that lived in the window, with at least the columns `names`, in order of
    start.

    `by_end`: in order of their ends instead, and behind them those whose end was not heard, as the
    C ctrecorder lists them.

    Pairing begins with the first segment that touches the window (each begins with a dump of the
    table), and goes on after the window, if the question is narrow, until all that is wanted has
    ended.  A raw segment's connections wait for the end of all reading: an older one may still be
    open.
    """
    key = _end_times if by_end else _start_times
    with Sorter(key) as sorter:
        for before in _pair(archive, names, sorter):
            if not by_end:
                yield from _batches(sorter, before)
        for tables in sorter.ready(times.END):
            yield Batch(
                tables,
                np.argsort(np.concatenate([key(table) for table in tables]), kind="stable")
                if len(tables) > 1
                else None,
            )


def _pair(archive: Archive, names: Iterable[str], sorter: Sorter) -> Iterator[int]:
    """Add the wanted connections to `sorter`; yields times, before which no more will start."""
    query = archive.query
    wanted, needed = query.of_connections(), dict.fromkeys((*names, *sorted(parts.NEEDS)))
    pairers: dict[str, Pairer] = {}
    raw = False
    firsts = np.array(
        [_first_time(segment) for segment in archive.segments] + [times.END], np.int64
    )
    following = np.minimum.accumulate(firsts[::-1])[::-1][1:].tolist()
    for later, segment in zip(following, archive.segments, strict=True):
        if _first_time(segment) >= query.until and not _any_open(pairers, query.until):
            break
        raw = raw or bool((segment.index["kind"] == Kind.EVENTS).any())
        # Each recording pairs by itself: a dump of one recorder says nothing of the flows of
        # another.
        pairer = pairers.setdefault(
            segment.pairing_key,
            Pairer(),
        )
        has_rows = segment.may_contain(query)
        if not has_rows and pairer.earliest() is None:
            continue  # its dumps would end nothing
        for item, ahead in _in_file_order(segment, needed, query.of_flows(), has_rows):
            done = (
                pairer.snapshot(item.begin, item.end)
                if isinstance(item, Mark)
                else pairer.feed(item)
            )
            _add_wanted(sorter, done, wanted)
            if not raw:
                opened = [
                    opened for each in pairers.values() if (opened := each.earliest()) is not None
                ]
                yield min([later, ahead, *opened])
    for pairer in pairers.values():
        _add_wanted(sorter, pairer.finish(), wanted)


def only_connections(archive: Archive) -> bool:
    """If all segments are squeezed, and there are any."""
    kinds = [np.unique(segment.index["kind"]) for segment in archive.segments]
    return any(Kind.CONNECTIONS in each for each in kinds) and not any(
        Kind.EVENTS in each for each in kinds
    )


def describe_gap(gap: Gap, *, utc: bool) -> str:
    """One line for a gap: how many events are missing, from when to when, and why."""
    span = (
        f"{times.text(gap.begin, utc=utc)} to {times.text(gap.end, utc=utc)}{' UTC' if utc else ''}"
    )
    lost = "events lost" if gap.lost is None else f"{count(gap.lost, 'event')} lost"
    why = REASONS.get(gap.reason, gap.reason)
    if gap.reason in ("stopped", "crashed", "not-recording"):
        return f"not recording from {span}: {why}"
    return f"gap: {lost} from {span}: {why}"


def _begun(segment: Recording) -> int:
    """When the recording of the segment began: connections in it may have started long before."""
    return int(segment.index["time_min"][0]) if len(segment.index) else times.END


def _first_time(segment: Recording) -> int:
    return segment.times[0] if len(segment.index) else times.END


def _start_times(table: Table) -> NDArray[np.int64]:
    """(rows,): the time that orders connections: of the start, or of the end while that is unknown."""
    return row_times(Kind.CONNECTIONS, table)


def _end_times(table: Table) -> NDArray[np.int64]:
    """(rows,): the time of the end, if it was heard; the others follow behind all those by the time
    of their start.
    """
    return np.where(_exact(table["end_source"]), table["end"], _start_times(table) + _BEHIND)


def _any_open(pairers: dict[str, Pairer], until: int) -> bool:
    """If a flow that began before `until` has not ended."""
    return any(
        (opened := pairer.earliest()) is not None and opened < until for pairer in pairers.values()
    )


def _add_wanted(sorter: Sorter, tables: Iterable[Table], wanted: Query) -> None:
    for table in tables:
        sorter.add(table.take(wanted.evaluate(table)))


def _batches(sorter: Sorter, before: int) -> Iterator[Batch]:
    for tables in sorter.ready(before):
        yield Batch(tables, None)


def _add_events(sorter: Sorter, paired: Batch, query: Query) -> int:
    """Add the events of a batch of connections that are wanted; returns the time before which no
    more will come.
    """
    for table in paired.tables:
        for found in _events_of(table):
            sorter.add(found.take(query.evaluate(found)))
    return max(int(row_times(Kind.CONNECTIONS, table)[-1]) for table in paired.tables)


def _events_of(table: Table) -> Iterator[Table]:
    """The starts and the ends of connections, as far as they were heard, as events."""
    heard = {
        Event.NEW: ((table["seen"] & parts.NEW) != 0) & _exact(table["start_source"]),
        Event.DESTROY: ((table["seen"] & parts.DESTROY) != 0) & _exact(table["end_source"]),
    }
    for event, rows in heard.items():
        side = "start" if event == Event.NEW else "end"
        part = table.take(rows)
        columns = {name: array for name, array in part.columns.items() if name not in _NO_EVENT}
        known, kernel = (
            part["present"] | np.uint32(bit("event")),
            part[f"{side}_source"] == Source.KERNEL,
        )
        columns["time"], columns["event"] = part[side], np.full(len(part), event, np.uint8)
        known = np.where(kernel, known | np.uint32(bit("time")), known)
        if event == Event.NEW:
            columns = {name: array for name, array in columns.items() if name not in _LATE_VALUES}
            columns["status"] = part["status"] & np.uint32(uapi.IPS_NAT_MASK)
            known = known & ~np.uint32(bits((*_LATE_VALUES, "start", "stop")))
        else:
            columns["stop"] = np.where(kernel, part["end"], 0)
            known = np.where(kernel, known | np.uint32(bit("stop")), known)
            exact = part["start_source"] == Source.KERNEL
            columns["start"] = np.where(exact, part["start"], 0)
            known = np.where(
                exact, known | np.uint32(bit("start")), known & ~np.uint32(bit("start"))
            )
        yield Table(part.family, len(part), {**columns, "present": known.astype(np.uint32)})


def _exact(source: Array) -> Array:
    """Which times are those of an event, not bounds."""
    exact: Array = (source == Source.KERNEL) | (source == Source.RECEIPT)
    return exact


def _in_file_order(
    segment: Recording, names: Iterable[str], query: Query, has_rows: bool
) -> Iterator[tuple[Table | Mark, int]]:
    """The rows (if it `has_rows`) that the question wants and the complete dumps, as they were
    recorded.

    Each with the earliest time of the blocks after it; 0 for rows of small blocks, which are
    joined.
    """
    kinds = (Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK) if has_rows else (Kind.MARK,)
    dumps = {(mark.begin, mark.end): mark for mark in segment.marks if mark.is_complete_dump}
    blocks = [
        block
        for block in segment.blocks_of(*kinds)
        if block.kind != Kind.MARK or (block.time_min, block.time_max) in dumps
    ]
    starts = np.array([block.time_min for block in blocks] + [times.END], np.int64)
    following = np.minimum.accumulate(starts[::-1])[::-1][1:].tolist()
    ahead = {
        block.offset: after
        for block, after in zip(blocks, following, strict=True)
        if not block.joins
    }
    for group in segment.in_recording_order(blocks):
        after = ahead.get(group[0].offset, 0)
        if group[0].kind == Kind.MARK:
            yield dumps[group[0].time_min, group[0].time_max], after
        else:
            yield from ((table, after) for table in _ask(segment, group, names, query))


def _ask(
    segment: Recording, group: list[Block], names: Iterable[str], query: Query
) -> Iterator[Table]:
    """The wanted rows of a group of blocks.

    Those of a damaged block are left out; its error is in the segment's findings.
    """
    first = group[0]
    if first.joins:
        for table in segment.read_small(group, {*names, *query.columns_needed()}):
            yield table.take(query.evaluate(table))
        return
    try:
        found = segment.ask(
            first, names, query.of_connections() if first.kind == Kind.CONNECTIONS else query
        )
    except FormatError as error:
        segment.findings.append(damage(error))
        return
    if found is not None:
        yield found
