"""The segments that a query reads: opened once, with counts of what was read and what was skipped.

`gaps` reports what an opened archive lacks; `events` and `connections` list its rows.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.archive.open import open_segment
from ctrecorder.columns import Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.predicate import Addresses, Bounds, Query
from ctrecorder.errors import ArchiveError, CtrecorderError, FormatError
from ctrecorder.findings import Finding
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count


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

    `segments`: in the order in which their recording began.
    `failed`: an error for each file that cannot be read as a segment.
    `first`, `last`: the earliest and the latest time, ns, of all segments that were examined.
    `live`: whether one of these is being written.
    """

    query: CountingQuery
    segments: list[Recording] = field(default_factory=list)
    failed: list[CtrecorderError] = field(default_factory=list)
    first: int = times.END
    last: int = times.BEGIN
    live: bool = False

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


def open_archive(paths: Iterable[str], query: Query) -> Archive:
    """Open the segments among `paths` that may contain rows of `query`.

    A segment that several paths lead to is opened once.  Segments after the window are included if
    the query is narrow: its connections may end there.  Raises the limit of open files: a year of
    hourly segments is 8,760 files.
    """
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    archive = Archive(CountingQuery(**vars(query)))
    examined = 0
    for path in {os.path.realpath(path): path for path in paths}.values():
        try:
            segment = open_segment(path)
        except (FormatError, ArchiveError) as error:
            archive.failed.append(error)
            continue
        examined += 1
        first, last = segment.times if len(segment.index) else (times.END, times.BEGIN)
        archive.first = min(archive.first, _recording_start(segment))
        archive.last = max(archive.last, last)
        archive.live |= segment.state == "live"
        # A damaged segment may contain more than its index shows.
        is_before = last < query.since and not segment.findings
        is_after = first >= query.until and not query.narrow
        if is_before or is_after:
            segment.close()
        else:
            archive.segments.append(segment)
    archive.segments.sort(key=_recording_start)
    stats = archive.query.stats
    stats.segments = len(archive.segments)
    stats.segments_skipped_by_time = examined - len(archive.segments)
    return archive


def _recording_start(segment: Recording) -> int:
    """When the recording of the segment began, ns; its connections may have started before."""
    return int(segment.index["time_min"][0]) if len(segment.index) else times.END
