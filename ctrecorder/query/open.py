"""The segments that a query reads: opened once, with counts of what was read and what was skipped.

`evidence` has what an opened archive proves; `events` and `connections` list its rows.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder.archive import chain
from ctrecorder.archive.find import Span
from ctrecorder.archive.open import Opener
from ctrecorder.columns import Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.predicate import Addresses, Bounds, Query
from ctrecorder.errors import ArchiveError, CtrecorderError, FormatError
from ctrecorder.findings import Finding
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count
from ctrecorder.times import BEGIN, END


@dataclass
class ScanStats:
    """What a query read and what it skipped.

    Small blocks that are read together count as one block.
    """

    segments: int = 0
    segments_skipped_by_time: int = 0
    segments_skipped_by_addresses: int = 0
    blocks_skipped_by_time: int = 0
    blocks_skipped_by_index: int = 0
    blocks_read: int = 0
    rows_read: int = 0
    rows_wanted: int = 0

    def add(self, other: ScanStats) -> None:
        """Add what was read elsewhere."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        return (
            f"{count(self.segments, 'segment')} read, "
            f"{self.segments_skipped_by_time:,} skipped by time, "
            f"{self.segments_skipped_by_addresses:,} by their addresses; "
            f"blocks: {self.blocks_skipped_by_time:,} skipped by time, "
            f"{self.blocks_skipped_by_index:,} by their index, {self.blocks_read:,} read; "
            f"{count(self.rows_read, 'row')} read, {self.rows_wanted:,} wanted"
        )


@dataclass(frozen=True)
class CountingQuery(Query):
    """A query that counts its decisions in `stats`.

    Queries that are derived from it share its `stats`.
    """

    stats: ScanStats = field(default_factory=ScanStats, compare=False)

    def may_contain_addresses(self, addresses: Addresses) -> bool:
        found = super().may_contain_addresses(addresses)
        self.stats.segments_skipped_by_addresses += not found
        return found

    def may_contain_time(self, time_min: int, time_max: int) -> bool:
        found = super().may_contain_time(time_min, time_max)
        self.stats.blocks_skipped_by_time += not found
        return found

    def may_contain(self, bounds: Bounds) -> bool:
        found = super().may_contain(bounds)
        self.stats.blocks_skipped_by_index += not found
        return found

    def evaluate(self, table: Table | LazyTable) -> NDArray[np.bool_]:
        found = super().evaluate(table)
        self.stats.blocks_read += 1
        self.stats.rows_read += len(found)
        self.stats.rows_wanted += int(np.count_nonzero(found))
        return found


@dataclass
class Archive:
    """The open segments that may contain rows of `query`.

    `segments`: in the order in which they were begun, each chain in that of its sequence.
    `failed`: an error for each file that cannot be read as a segment.
    `spans`: of all segments that were examined.
    `copies`: path of a copy that is not read, and of the segment that is read instead.
    `later`: segments after the window that are not open; all are of the chain of `segments`, and
    after these in it.  A connection in the window may end there.
    """

    query: CountingQuery
    segments: list[Recording] = field(default_factory=list)
    failed: list[CtrecorderError] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    later: list[Span] = field(default_factory=list)
    opener: Opener = field(default_factory=Opener)

    def open_later(self) -> Recording | None:
        """Open the next segment of `later`, and add it to `segments`; None if it cannot be read."""
        path = self.later.pop(0).path
        try:
            segment = self.opener.open(path)
        except (FormatError, ArchiveError) as error:
            self.failed.append(error)
            return None
        self.segments.append(segment)
        self.count_segments()
        return segment

    def count_segments(self) -> None:
        """Count them in the statistics."""
        stats = self.query.stats
        stats.segments = len(self.segments)
        stats.segments_skipped_by_time = len(self.spans) - len(self.segments)

    @property
    def first(self) -> int:
        """When the earliest of the opened segments was begun, ns; END without any."""
        return min((_recording_start(segment) for segment in self.segments), default=END)

    @property
    def findings(self) -> list[Finding | CtrecorderError]:
        """What is damaged or cannot be read, as far as it was read."""
        return [
            *self.failed,
            *(finding for segment in self.segments for finding in segment.findings),
        ]

    @property
    def only_connections(self) -> bool:
        """True if there are connections, and no events: all segments are squeezed."""
        kinds = {
            kind for segment in self.segments for kind in np.unique(segment.index["kind"]).tolist()
        }
        return Kind.CONNECTIONS in kinds and Kind.EVENTS not in kinds

    def close(self) -> None:
        """Close all segments."""
        for segment in self.segments:
            segment.close()


def open_archive(
    paths: Iterable[str],
    query: Query,
    opener: Opener | None = None,
    *,
    spans: Iterable[Span] = (),
    follow: bool = True,
) -> Archive:
    """Open the segments among `paths` that may contain rows of `query`.

    A segment that several paths lead to, or that has copies, is opened once.  Segments after the
    window are included if the query is narrow: its connections may end there.  Raises the limit of
    open files: a year of hourly segments is 8,760 files.

    `opener`: None opens each segment for this archive alone.
    `spans`: of the paths, as `find` reads them: then a segment outside the window is not opened.
    `follow`: False leaves out the segments after the window, whatever the query.
    """
    opener = opener or Opener()
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    archive = Archive(CountingQuery(**vars(query)), opener=opener)
    follow = follow and query.narrow
    chosen = _chosen(archive, _each_once(paths), {span.path: span for span in spans}, follow)
    for path in chosen:
        try:
            segment = opener.open(path)
        except (FormatError, ArchiveError) as error:
            archive.failed.append(error)
            continue
        first, last = segment.times if len(segment.index) else (END, BEGIN)
        archive.spans.append(_span(segment, first, last))
        # A damaged segment may contain more than its index shows.
        is_before = last < query.since and not segment.findings
        is_after = first >= query.until and not follow
        if is_before or is_after:
            opener.close(segment)
        else:
            archive.segments.append(segment)
    kept, copies = one_of_each(archive.segments)
    archive.segments = _in_order(kept)
    for copy, instead in copies:
        opener.close(copy)
        archive.copies.append((copy.path, instead.path))
    archive.count_segments()
    return archive


def _chosen(archive: Archive, paths: list[str], spans: dict[str, Span], follow: bool) -> list[str]:
    """The paths to open now.  The others are outside the window; `archive` gets their spans, and
    which of them may be opened later.
    """
    query = archive.query
    known = [spans[path] for path in paths if path in spans]
    outside = [span for span in known if span.end < query.since or span.begin >= query.until]
    later = [span for span in outside if span.begin >= query.until] if follow else []
    if _are_of_one_chain(known, later):
        archive.later = sorted(later, key=lambda span: span.sequence)
        later = []
    opened = {span.path for span in later}
    archive.spans += [span for span in outside if span.path not in opened]
    left_out = {span.path for span in outside} - opened
    return [path for path in paths if path not in left_out]


def _are_of_one_chain(spans: list[Span], later: list[Span]) -> bool:
    """Whether all segments are one chain without copies, of which `later` is the end."""
    numbers = {span.sequence for span in spans}
    after = {span.sequence for span in later}
    return (
        len({span.chain or span.path for span in spans}) == 1
        and 0 not in numbers
        and len(numbers) == len(spans)
        and max(numbers - after, default=0) < min(after, default=0)
    )


def _each_once(paths: Iterable[str]) -> list[str]:
    """The paths, without those that lead to the file of another one."""
    folders: dict[str, str] = {}
    found: dict[str, str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(path) if os.path.islink(path) else f"{folders[folder]}/{name}"
        found[real] = path
    return list(found.values())


def _span(segment: Recording, first: int, last: int) -> Span:
    header = segment.header
    return Span(
        segment.path,
        first,
        last,
        _recording_start(segment),
        header.chain or "",
        chain.sequence(header),
    )


def one_of_each(
    segments: Iterable[Recording],
) -> tuple[list[Recording], list[tuple[Recording, Recording]]]:
    """Each segment once, and the other copies, each with the one that is taken instead.

    Copies have one chain, sequence and time of the HEADER.  The intact one is taken, of two the
    squeezed one.
    """
    best: dict[object, Recording] = {}
    copies: list[tuple[Recording, object]] = []
    for segment in segments:
        header = segment.header
        key: object = segment.path
        if header.chain and header.sequence:
            key = (header.chain, header.sequence, _recording_start(segment))
        other = best.get(key)
        if other is None:
            best[key] = segment
            continue
        worse = segment if _worth(segment) <= _worth(other) else other
        best[key] = other if worse is segment else segment
        copies.append((worse, key))
    return list(best.values()), [(worse, best[key]) for worse, key in copies]


def _worth(segment: Recording) -> tuple[bool, bool, bool, bool, int]:
    """How much of a segment a file has, to be compared with a copy of it."""
    state, header = segment.state, segment.header
    return (
        not segment.findings,
        header.is_squeezed,
        state == "live",
        state == "closed",
        segment.size,
    )


def _in_order(segments: list[Recording]) -> list[Recording]:
    """The segments by when they were begun; those of one chain always by their sequence.

    A clock that was set back would change their order.
    """
    chains: dict[str, list[Recording]] = {}
    for segment in segments:
        chains.setdefault(segment.pairing_key, []).append(segment)
    keyed: list[tuple[int, int, Recording]] = []
    for members in chains.values():
        reached = BEGIN
        for segment in sorted(
            members, key=lambda one: (chain.sequence(one.header), _recording_start(one))
        ):
            reached = max(reached, _recording_start(segment))
            keyed.append((reached, len(keyed), segment))
    return [segment for *_, segment in sorted(keyed, key=lambda one: one[:2])]


def _recording_start(segment: Recording) -> int:
    """When the segment was begun, ns; its connections may have started before."""
    return int(segment.index["time_min"][0]) if len(segment.index) else END


def joined(archives: list[Archive]) -> Archive:
    """The opened segments of all routers as one archive: the first one, which grows."""
    first, *others = archives
    for one in others:
        first.segments += one.segments
        first.failed += one.failed
        first.copies += one.copies
        first.query.stats.add(one.query.stats)
    return first
