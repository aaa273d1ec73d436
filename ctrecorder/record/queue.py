"""The way from decoded tables to segments: what waits to be written, and what to do when it cannot
be.

Everything to be written (rows, gaps, marks) becomes a draft of a block, in one queue, in order.
`flush` writes drafts until the queue is empty or the disk refuses, then syncs.  A draft is kept
until it is synced: if a sync fails, all that came after the last good one is written again.
Bounds: rows that wait for a block, `block_rows` a family; all drafts, `memory_bytes`. What does
not fit is counted, and goes into the log as a GAP.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from ctrecorder import times
from ctrecorder.columns import Table, concat
from ctrecorder.ctlog.block import PendingBlock, gap_block, mark_block, table_blocks
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import ArchiveError, CtrecorderError
from ctrecorder.record.counters import Counters
from ctrecorder.record.segments import SegmentSeries
from ctrecorder.record.target import MINUTE
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.log import Log

# A recorder that has nothing to say still says each minute that it is there: after a crash in a
# quiet night the log covers all but the last minute.  More often would wear flash for nothing;
# seldom would leave long holes.
HEARTBEAT_NS = MINUTE
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# Drafts that are written but not synced stay in memory; in a flood so many come that they are
# synced before the second is over.  A sync may take a tenth of a second, in which the kernel's
# buffer fills, so not more often than this.
MOST_UNSYNCED_BYTES = 2 << 20
# A segment that cannot be written is replaced by a new one: at once, then after twice as long each
# time.  A disk that takes the beginning of a file and no more would else be filled with beginnings.
REPLACE_SECONDS, MOST_REPLACE_SECONDS = 1, 600


@dataclass
class PendingGap:
    """Events that are not in the log, until their GAP is: `count` None where nobody knows how many."""

    begin: int
    end: int
    count: int | None
    reason: str
    detail: str

    def add(self, begin: int, end: int, count: int | None) -> None:
        self.begin, self.end = min(self.begin, begin), max(self.end, end)
        self.count = None if self.count is None or count is None else self.count + count


class WriteQueue:
    """Rows, gaps and marks on their way to the segments of a series.

    Nothing here raises for a disk that fails, but `open`: a recorder that cannot write at its start
    must say so and end. `failing`: whether the disk refused at the last try.  `cut_dumps`: rows of
    table dumps that did not fit in memory.
    """

    def __init__(
        self,
        series: SegmentSeries,
        block_rows: int,
        memory_bytes: int,
        counters: Counters,
        log: Log,
    ) -> None:
        self.series, self.block_rows, self.memory_bytes = series, block_rows, memory_bytes
        self.counters, self.log = counters, log
        self.rows_waiting = self.cut_dumps = 0
        self.failing = self._rotating = False
        self._lost: dict[str, PendingGap] = {}
        self._waiting: dict[tuple[int, bool], list[Table]] = {}
        self._queue: deque[PendingBlock] = deque()
        self._unsynced: list[tuple[int, PendingBlock]] = []  # the number of each in its segment
        self._bytes = 0  # of the drafts of both
        self._refusal = ""
        self._failing_since = self._replace_at = 0.0  # monotonic seconds
        self._replace_seconds = REPLACE_SECONDS

    @property
    def path(self) -> str:
        """The segment that is being written, or the last one while none can be opened."""
        return self.series.path

    @property
    def idle(self) -> bool:
        """Whether there is nothing that a flush would write."""
        return not (self.rows_waiting or self._queue or self._unsynced or self._lost)

    def open(self, now_ns: int) -> None:
        """Open the first segment, chained to the newest one that is there; the time between is a
        GAP. Raises ArchiveError.
        """
        tail = self.series.start(now_ns)
        if tail is not None:
            reason = "stopped" if tail.closed else "crashed"
            self.gap(
                min(tail.time, now_ns),
                now_ns,
                reason,
                None,
                f"no recorder ran after {os.path.basename(tail.path)}",
            )

    def add(self, table: Table, existing: bool = False) -> None:
        """Take rows of events, or (`existing`) of a table dump; they are written by `flush`, or
        when a block is full.
        """
        if not len(table):
            return
        key = (table.family, existing)
        if sum(map(len, self._waiting.get(key, ()))) + len(table) > self.block_rows:
            self._enqueue_rows(key)
            self._drain()
        self._waiting.setdefault(key, []).append(table)
        self.rows_waiting += len(table)

    def gap(self, begin: int, end: int, reason: str, lost: int | None, detail: str) -> None:
        """Note a hole from `begin` to `end`, ns UTC; holes of one reason between two flushes become
        one GAP.
        """
        known = self._lost.get(reason)
        if known is not None:
            known.add(begin, end, lost)
        else:
            self._lost[reason] = PendingGap(begin, end, lost, reason, detail)

    def mark(
        self, what: str, facts: Mapping[str, object], begin: int, end: int | None = None
    ) -> None:
        """Queue a MARK for a moment, or for `begin` to `end`, behind all rows that came before it."""
        self.pack()
        self._push(mark_block(what, facts, begin, end))

    def pack(self) -> None:
        """Make blocks of all rows that wait."""
        for key in list(self._waiting):
            self._enqueue_rows(key)

    def flush(self, now_ns: int) -> bool:
        """Write all that waits, sync it, and say whether the log holds everything up to now.

        Gaps come last: while the disk refuses they are not queued but merged, so that a long fault
        costs no memory.
        """
        self.pack()
        try:
            self._prepare(now_ns)
            if self.idle and not (self.failing or self._rotating):
                return True
            self._write_queue()
            for lost in self._lost.values():
                self._append(gap_block(lost.begin, lost.end, lost.reason, lost.count, lost.detail))
                self._log_gap(lost)
            self._lost.clear()
            self._write_queue()
            self._sync()
            if self._rotating:
                self._next_segment(now_ns)
        except CtrecorderError as error:
            self._fail(error)
            return False
        self._works()
        return True

    def rotate(self, now_ns: int) -> None:
        """Write all that waits, close the segment and open the next one; while the disk refuses,
        the next `flush` tries again.
        """
        self._rotating = True
        self.flush(now_ns)

    def close(self, now_ns: int) -> bool:
        """Write all that waits and close the segment in order; False if the disk refused."""
        if not self.flush(now_ns):
            return False
        try:
            self.series.close(now_ns)
        except ArchiveError as error:
            self._fail(error)
            return False
        return True

    def _prepare(self, now_ns: int) -> None:
        """Have a segment to write to: where it should be, and a new one if the disk of the old one
        fails.
        """
        before = self.series.writer
        try:
            self.series.check_location(now_ns)
            self.series.ready(now_ns)
            if (
                self.failing
                and self._refusal != "disk-full"
                and self.series.writer is before
                and time.monotonic() >= self._replace_at
            ):
                self._replace_seconds = min(2 * self._replace_seconds, MOST_REPLACE_SECONDS)
                self._replace_at = time.monotonic() + self._replace_seconds
                self.series.replace(now_ns)
        finally:
            if before is not None and self.series.writer is not before:
                self._settle(before)

    def _drain(self) -> None:
        """Write what is queued, if the disk takes it; what it refuses is `flush`'s to try again."""
        try:
            self._write_queue()
            if self._bytes > MOST_UNSYNCED_BYTES:
                self._sync()
        except ArchiveError as error:
            self._fail(error)

    def _write_queue(self) -> None:
        """Write the queue; ArchiveError as soon as the disk refuses: the draft stays, and what was
        written before it is synced.
        """
        writer = self.series.writer
        if writer is None:
            return
        try:
            while self._queue:
                writer.write(self._queue[0])
                self._unsynced.append((writer.blocks, self._queue.popleft()))
        except ArchiveError:
            self._sync()
            raise

    def _sync(self) -> None:
        """Sync; if that fails, all since the last good sync goes back into the queue."""
        writer = self.series.writer
        if writer is None:
            return
        try:
            writer.sync()
        except ArchiveError:
            writer.rollback()
            raise
        finally:
            self._settle(writer)

    def _settle(self, writer: SegmentWriter) -> None:
        """Let go of the drafts that `writer` has synced; the others are to be written again."""
        again = [block for number, block in self._unsynced if number > writer.synced.blocks]
        self._bytes -= sum(
            block.size for number, block in self._unsynced if number <= writer.synced.blocks
        )
        self._unsynced.clear()
        self._queue.extendleft(reversed(again))

    def _next_segment(self, now_ns: int) -> None:
        """Close the segment and open the next one, or go on in the old one and say so if the next
        name is taken.
        """
        wanted = self.series.target.path(now_ns)
        if wanted == self.path or os.path.lexists(wanted):
            self._rotating = False
            self._keep(wanted, "it exists already, and a segment is never overwritten")
            return
        self.series.close(now_ns)
        self._rotating = False
        self.series.ready(now_ns)

    def _keep(self, wanted: str, reason: str) -> None:
        path = self.path
        self.log.send(
            messages.SEGMENT_KEPT,
            f"going on in {path}: cannot open {wanted}: {reason}",
            path=path,
            wanted=wanted,
            reason=reason,
        )

    def _enqueue_rows(self, key: tuple[int, bool]) -> None:
        tables = self._waiting.pop(key, [])
        if not tables:
            return
        whole, existing = concat(tables), key[1]
        self.rows_waiting -= len(whole)
        for first in range(0, len(whole), self.block_rows):
            for block in table_blocks(whole.slice(first, first + self.block_rows)):
                self._push(block, existing)

    def _push(self, block: PendingBlock, existing: bool = False) -> None:
        """Append to the queue.

        While the disk refuses, what does not fit any more is counted, and only its GAP is kept.
        """
        if not self.failing or self._bytes + block.size <= self.memory_bytes:
            self._append(block)
        elif block.kind == Kind.EVENTS and existing:
            self.cut_dumps += block.rows
        elif block.kind == Kind.EVENTS:
            self.counters.lost += block.rows
            self.gap(
                *block.times, self._refusal, block.rows, "no room in memory while the disk refused"
            )

    def _append(self, block: PendingBlock) -> None:
        self._queue.append(block)
        self._bytes += block.size

    def _fail(self, error: CtrecorderError) -> None:
        """Say once that writing fails; `flush` tries again."""
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno in NO_SPACE
        self._refusal = "disk-full" if full else "write-error"
        if self.failing:
            return
        self.failing = True
        self._failing_since = time.monotonic()
        self._replace_at = self._failing_since + self._replace_seconds
        text = f"cannot write: {error}; keeping up to {self.memory_bytes} bytes in memory, trying again each second"
        self.log.send(
            messages.WRITE_FAILED, text, path=self.path, error=str(error), held_bytes=self._bytes
        )

    def _works(self) -> None:
        """Say that writing works again."""
        if not self.failing:
            return
        self.failing = False
        seconds = time.monotonic() - self._failing_since
        if time.monotonic() > self._replace_at:
            self._replace_seconds = REPLACE_SECONDS
        text = f"writing to {self.path} again after {seconds:.0f} s"
        self.log.send(messages.WRITE_RESUMED, text, path=self.path, seconds=f"{seconds:.0f}")

    def _log_gap(self, lost: PendingGap) -> None:
        count = "an unknown number of" if lost.count is None else f"{lost.count}"
        since, until = times.text(lost.begin, utc=True), times.text(lost.end, utc=True)
        text = f"gap ({lost.reason}): {count} events from {since} to {until} are not in the log: {lost.detail}"
        self.log.send(
            messages.GAP,
            text,
            path=self.path,
            reason=lost.reason,
            lost=lost.count,
            since=since,
            until=until,
        )
