"""The way from decoded tables to segments: what waits to be written, and what happens while the
disk refuses.

Everything to be written (rows, gaps, marks) becomes a block, in one queue, in order.  `flush`
writes blocks until the queue is empty or the disk refuses.  It syncs when that is due by the
setting `sync`, and at each GAP, SEAL and end of a segment.  A block is kept until it is synced: if
a sync fails, every block after the last good sync is written again.  Memory is bounded: at most
`block_rows` rows of each kind wait for a block, all blocks take at most `memory_bytes`.  Rows that
do not fit are counted, and a GAP records their number.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Gap, Kind, Mark
from ctrecorder.errors import ArchiveError, CtrecorderError
from ctrecorder.segment import live
from ctrecorder.segment.pending import PendingBlock, gap_block, mark_block
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.spool import gaps
from ctrecorder.spool.buffers import BlockBuffer, RowBuffer
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.retry import Retry, is_full
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.sync_timer import SyncTimer

# Blocks that are written but not synced stay in memory, of which the recorder may use 50 MiB: ten
# seconds of a flood are 30.  Less would sync more often than each second in a flood; a sync may
# take a tenth of a second, in which the kernel's buffer fills.
MAX_UNSYNCED_BYTES = 4 << 20


class Written(NamedTuple):
    """What is in the log: by the open segment, or the last one while none can be opened.

    `watermark`: all events until then, ns UTC, can be read there if the segment has at least `size`
    bytes.  A failed sync takes blocks back, and with them the watermark.
    `synced`: the last watermark that a power cut cannot take.
    """

    path: str
    size: int
    watermark: int
    synced: int


class WriteQueue:
    """Rows, gaps and marks on their way to the segments of a series.

    Only `open` raises for a disk that fails: a recorder that cannot write at its start must report
    that and end.

    Attributes:
    `series`: the segments.
    `memory_bytes`: the limit of all blocks while the disk refuses.
    `timer`: when the written blocks are to be synced; by default each flush syncs.
    `dropped_dump_rows`: rows of table dumps that did not fit in memory.
    """

    def __init__(
        self,
        series: SegmentSeries,
        block_rows: int,
        memory_bytes: int,
        counters: Counters,
        log: Log,
        timer: SyncTimer | None = None,
    ) -> None:
        self.series, self.memory_bytes = series, memory_bytes
        self.counters, self.log = counters, log
        self.timer = timer or SyncTimer()
        self.dropped_dump_rows = 0
        self._rows = RowBuffer(block_rows)
        self._blocks = BlockBuffer()
        self._gaps: dict[tuple[str, object], Gap] = {}  # by reason and number
        self._retry = Retry()
        self._rotating = False
        self._watermark = 0  # the last one that a block was given, ns UTC
        self._readable = 0  # `Written.watermark`
        self._lost_written = 0  # of `counters.lost`: what GAPs on the disk have

    @property
    def path(self) -> str:
        """The segment that is being written, or the last one while none can be opened."""
        return self.series.path

    @property
    def failing(self) -> bool:
        """True if the disk refused the last write."""
        return self._retry.failing

    @property
    def written(self) -> Written:
        """What is in the log now."""
        writer = self.series.writer
        size = writer.size if writer is not None else 0
        return Written(self.path, size, self._readable, self._blocks.synced_watermark)

    @property
    def idle(self) -> bool:
        """True if there is nothing that a flush would write."""
        return not self._rows.rows and self._blocks.next is None and not self._gaps

    @property
    def sync_due(self) -> bool:
        """True if written blocks are to be synced now."""
        return self.timer.due

    @property
    def unwritten_losses(self) -> int:
        """How many lost events are in no GAP on the disk yet."""
        return self.counters.lost - self._lost_written

    @property
    def held_bytes(self) -> int:
        """The memory that blocks take until they are synced."""
        return self._blocks.memory_bytes

    def open(self, now_ns: int, boottime_ns: int | None = None) -> int:
        """Open the first segment, chained to the newest one in the folder; the time between the two
        becomes a GAP.  If the disk is full, all waits in memory, as it does later.

        `boottime_ns`: CLOCK_BOOTTIME at `now_ns`.  Returns until when times come twice, ns UTC,
        because the clock was set back since the segments before; 0: there is none.
        Raises ArchiveError.
        """
        try:
            self.series.start(now_ns, live.boottime_ns() if boottime_ns is None else boottime_ns)
        except ArchiveError as error:
            if not (self.series.chain and is_full(error)):
                raise
            self._fail(error)
        tail, gap = self.series.previous, self.series.gap
        if tail is None or gap is None:
            return 0
        self.gap(gap)
        return max(tail.latest, gap.end)

    def add(self, table: Table, existing: bool = False) -> None:
        """Take rows of events, or (`existing`) of a table dump.

        They are written by `flush`, or when a block is full.
        """
        if not len(table):
            return
        if not self._rows.has_room(table, existing):
            self._push(self._rows.take(table.family, existing), existing)
            self._drain()
        self._rows.add(table, existing)

    def gap(self, gap: Gap) -> None:
        """Record a gap; gaps of one reason between two flushes become one.

        One with a number replaces an earlier one with that number.
        """
        self.counters.add_gap(gap)
        key = (gap.reason, gap.facts.get("number"))
        known = self._gaps.get(key)
        merges = known is not None and key[1] is None
        self._gaps[key] = gaps.merged(known, gap) if known is not None and merges else gap

    def mark(self, mark: Mark) -> None:
        """Queue a MARK behind all rows that came before it."""
        self.pack()
        self._push([mark_block(mark)])

    def pack(self) -> None:
        """Make blocks of all rows that wait."""
        for blocks, existing in self._rows.take_all():
            self._push(blocks, existing)

    def reach(self, watermark: int) -> bool:
        """All events until `watermark`, ns UTC, were added or are in a gap: record it, if all of
        this is written; False if not.
        """
        if self.idle:
            self._readable = watermark
        return self.idle

    def flush(self, now_ns: int, watermark: int | None = None, *, sync: bool = False) -> bool:
        """Write everything that waits, and sync it if that is due; True if the log is complete up
        to now.

        Gaps are queued last.  While the disk refuses they are merged, not queued: a long fault
        costs no memory.

        `watermark`: all events until then, ns UTC, were added or are in a gap.  The last block that
        is written carries it, or a heartbeat of that time follows; None: it is not known.
        `sync`: sync at once.
        """
        self.pack()
        if not (self._gaps or self.failing):
            self._put_watermark(watermark)
        try:
            self._prepare(now_ns)
            seals = self.series.seal_due
            sync |= bool(self._gaps) or self.failing or self._rotating or seals
            if not (self.idle and self._blocks.all_synced and not sync):
                self._write_all(watermark, sync=sync)
            # Only behind a sync: a SEAL that cannot be synced takes back what is not.
            if seals:
                self.series.seal()
            if self._rotating:
                self._next_segment(now_ns)
        except CtrecorderError as error:
            self._fail(error)
            return False
        self._succeed()
        if watermark is not None:
            self._readable = watermark
        return True

    def rotate(self, now_ns: int, watermark: int | None = None) -> None:
        """Write everything that waits, close the segment and open the next one.

        While the disk refuses, each later `flush` tries again.
        """
        self._rotating = True
        self.flush(now_ns, watermark)

    def close(self, now_ns: int, watermark: int | None = None) -> bool:
        """Write everything that waits and close the segment in order; False if the disk refused."""
        if not self.flush(now_ns, watermark, sync=True):
            return False
        try:
            self.series.end(now_ns)
        except ArchiveError as error:
            self._fail(error)
            return False
        return True

    def _put_watermark(self, watermark: int | None) -> None:
        """Give the watermark to the last block to be written, or to a heartbeat behind it.

        If there is nothing to be written, it waits: no block is made for it alone.
        """
        if watermark is None or watermark == self._watermark or self._blocks.next is None:
            return
        if not self._blocks.carry(watermark):
            heartbeat = mark_block(Mark.at(watermark, "heartbeat"))
            self._blocks.append(heartbeat.with_watermark(watermark))
        self._watermark = watermark

    def _prepare(self, now_ns: int) -> None:
        """Make sure that a segment is open at its path; open a new one if its disk fails."""
        before = self.series.writer
        try:
            self.series.check_location(now_ns)
            self.series.ready(now_ns)
            if self.series.writer is before and self._retry.replacement_due():
                self.series.replace(now_ns)
        finally:
            if before is not None and self.series.writer is not before:
                self._settle(before)

    def _drain(self) -> None:
        """Write what is queued, if the disk accepts it; otherwise `flush` tries again."""
        try:
            self._write()
            if self._is_much:
                self._sync()
        except ArchiveError as error:
            self._fail(error)

    @property
    def _is_much(self) -> bool:
        """True if the written blocks take as much memory as they may."""
        return self._blocks.memory_bytes > min(MAX_UNSYNCED_BYTES, self.memory_bytes)

    def _write_all(self, watermark: int | None, *, sync: bool) -> None:
        """Write blocks and gaps, and sync if that is due.  Raises ArchiveError."""
        self._write()
        for gap in self._gaps.values():
            self._blocks.append(gap_block(gap))
            gaps.log_gap(self.log, self.path, gap)
        self._gaps.clear()
        # Each GAP is written before the watermark that it limits.
        self._put_watermark(watermark)
        self._write()
        if sync or self.timer.due or self._is_much:
            self._sync()

    def _write(self) -> None:
        """Write the queued blocks.

        Raises ArchiveError at the first block that the disk refuses.  That block stays queued, the
        blocks before it are synced.
        """
        writer = self.series.writer
        if writer is None:
            return
        try:
            while (block := self._blocks.next) is not None:
                writer.write(block)
                self._blocks.mark_written(writer.blocks)
                self.timer.wrote()
        except ArchiveError:
            self._sync()
            raise

    def _sync(self) -> None:
        """Sync.  If that fails, the blocks after the last good sync are queued again."""
        writer = self.series.writer
        if writer is None:
            return
        try:
            writer.sync()
            self.counters.syncs += 1
        except ArchiveError:
            writer.rollback()
            raise
        finally:
            self._settle(writer)

    def _settle(self, writer: SegmentWriter) -> None:
        """Drop the blocks that `writer` has synced; the others are to be written again, and the
        events of these cannot be read until then.
        """
        if not self._blocks.settle(writer.synced.blocks):
            self._readable = min(self._readable, self._blocks.synced_watermark)
        self.timer.synced()

    def _next_segment(self, now_ns: int) -> None:
        """Close the segment and open the next one; if that name is taken, go on in the old one."""
        wanted = self.series.target.path(now_ns)
        if wanted == self.path or os.path.lexists(wanted):
            self._rotating = False
            self._log_kept(wanted, "it exists, and a segment is never overwritten")
            return
        self.series.close(now_ns)
        self._rotating = False
        self.series.ready(now_ns)

    def _push(self, blocks: list[PendingBlock], existing: bool = False) -> None:
        """Queue blocks; while the disk refuses, rows that do not fit in memory are only counted."""
        for block in blocks:
            if not self.failing or self._blocks.memory_bytes + block.size <= self.memory_bytes:
                self._blocks.append(block)
            elif block.kind == Kind.EVENTS and existing:
                self.dropped_dump_rows += block.rows
            elif block.kind == Kind.EVENTS:
                self.counters.lost += block.rows
                detail = "no room in memory while the disk refused"
                self.gap(Gap(*block.times, self._retry.reason, block.rows, detail))

    def _fail(self, error: CtrecorderError) -> None:
        """Count a failure, and log the first one of a fault."""
        self.counters.write_errors += 1
        if not self._retry.fail(error):
            return
        text = (
            f"cannot write: {error}; keeping up to {self.memory_bytes} bytes in memory, "
            "trying again each second"
        )
        self.log.send(
            messages.WRITE_FAILED,
            text,
            path=self.path,
            error=str(error),
            held_bytes=self.held_bytes,
        )

    def _succeed(self) -> None:
        """All is on the disk.  Log the end of a fault."""
        self._lost_written = self.counters.lost
        seconds = self._retry.succeed()
        if seconds is None:
            return
        text = f"writing to {self.path} again after {seconds:.0f} s"
        self.log.send(messages.WRITE_RESUMED, text, path=self.path, seconds=f"{seconds:.0f}")

    def _log_kept(self, wanted: str, reason: str) -> None:
        path = self.path
        self.log.send(
            messages.SEGMENT_KEPT,
            f"continuing in {path}: cannot open {wanted}: {reason}",
            path=path,
            wanted=wanted,
            reason=reason,
        )
