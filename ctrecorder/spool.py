"""The way from decoded tables to segments: what waits to be written, the segment it goes to, and what to do when it cannot.

Everything to be written (rows, gaps, marks) is an item of one queue, in order.  `flush` writes items until the queue is
empty or the disk refuses; what the disk refused stays and is tried again.  Bounds: rows that wait for a block,
`block_rows` a family; the queue, `memory_bytes`.  What does not fit is counted, and goes into the log as a GAP.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ctrecorder import archive, messages, times
from ctrecorder.columns import Table, concat
from ctrecorder.errors import ArchiveError
from ctrecorder.format import NO_HASH
from ctrecorder.place import MINUTE, SECOND, Place, Tail, newest
from ctrecorder.service import Log
from ctrecorder.writer import SegmentWriter

# A recorder that has nothing to say still says each minute that it is there: after a crash in a quiet night the log covers
# all but the last minute.  More often would wear flash for nothing; seldom would leave long holes.
HEARTBEAT_NS = MINUTE
# What a GAP or MARK that waits is counted as in memory: its object and its facts.
SMALL_ITEM_BYTES = 1024


@dataclass
class Lost:
    """Events that are not in the log, until their GAP is: `count` None where nobody knows how many."""

    begin: int
    end: int
    count: int | None
    reason: str
    detail: str

    def add(self, begin: int, end: int, count: int | None) -> None:
        self.begin, self.end = min(self.begin, begin), max(self.end, end)
        self.count = None if self.count is None or count is None else self.count + count


@dataclass
class _Item:
    """Something to write: `write` puts it into a segment; `rows` and `size` are what it holds in memory."""

    write: Callable[[SegmentWriter], None]
    rows: int
    size: int
    begin: int
    end: int


class Spool:
    """Rows, gaps and marks on their way to the segments of one place.

    `facts` gives the facts for a header at the moment that a segment is opened.  Nothing here raises for a disk that
    fails, but `open`: a recorder that cannot write at its start must say so and end.
    """

    def __init__(self, place: Place, block_rows: int, memory_bytes: int, facts: Callable[[], dict[str, object]], log: Log) -> None:
        self.place, self.block_rows, self.memory_bytes = place, block_rows, memory_bytes
        self.facts, self.log = facts, log
        self.rows_waiting = 0
        self.last_write_ns = 0
        self.failing_since_ns = 0
        self._lost: dict[str, Lost] = {}
        self._waiting: dict[tuple[int, bool], list[Table]] = {}
        self._queue: deque[_Item] = deque()
        self._queue_bytes = 0
        self._writer: SegmentWriter | None = None
        self._previous: Tail | None = None
        self._chain = self._refusal = ""
        self._opened_ns = self._closed_bytes = 0

    @property
    def path(self) -> str:
        """The segment that is being written, or the last one while none can be opened."""
        if self._writer is not None:
            return self._writer.path
        return self._previous.path if self._previous else ""

    @property
    def bytes_written(self) -> int:
        """Bytes of all segments so far."""
        return self._closed_bytes + (self._writer.size if self._writer else 0)

    @property
    def idle(self) -> bool:
        """Whether there is nothing that a flush would write."""
        return not (self.rows_waiting or self._queue or self._lost)

    def open(self, now_ns: int) -> None:
        """Open the first segment, chained to the newest one that is there; the time between is a GAP.  Raises ArchiveError."""
        self._previous = tail = newest(self.place.template)
        self._chain = tail.chain if tail else secrets.token_hex(8)
        self._begin(archive.first_free(self.place.path(now_ns)), now_ns)
        if tail is not None:
            reason = "stopped" if tail.closed else "crashed"
            self.gap(min(tail.time_max, now_ns), now_ns, reason, None, f"no recorder ran after {os.path.basename(tail.path)}")

    def add(self, table: Table, existing: bool = False) -> None:
        """Take rows of events, or (`existing`) of a table dump; they are written by `flush`, or when a block is full."""
        if not len(table):
            return
        key = (table.family, existing)
        if sum(map(len, self._waiting.get(key, ()))) + len(table) > self.block_rows:
            self._enqueue_rows(key)
            self._drain()
        self._waiting.setdefault(key, []).append(table)
        self.rows_waiting += len(table)

    def gap(self, begin: int, end: int, reason: str, lost: int | None, detail: str) -> None:
        """Note a hole from `begin` to `end`, ns UTC; holes of one reason between two flushes become one GAP."""
        known = self._lost.get(reason)
        if known is not None:
            known.add(begin, end, lost)
        else:
            self._lost[reason] = Lost(begin, end, lost, reason, detail)

    def mark(self, what: str, facts: Mapping[str, object], begin: int, end: int | None = None) -> None:
        """Queue a MARK for a moment, or for `begin` to `end`, behind all rows that came before it."""
        last = begin if end is None else end
        self._enqueue_all_rows()
        self._push(_Item(lambda writer: writer.mark(what, dict(facts), begin, last), 0, SMALL_ITEM_BYTES, begin, last))

    def flush(self, now_ns: int) -> bool:
        """Write all that waits, sync it, and say whether the log holds everything up to now.

        Gaps come last: while the disk refuses they are not queued but merged, so that a long fault costs no memory.
        """
        if self.idle and self._writer is not None:
            return True
        self._enqueue_all_rows()
        if self._writer is None:
            self._reopen(now_ns)
        if not self._drain():
            return False
        for lost in self._lost.values():
            self._push(_gap_item(lost))
            self._log_gap(lost)
        self._lost.clear()
        return self._drain() and self._sync(now_ns)

    def rotate(self, now_ns: int) -> bool:
        """Close the segment and open the next one; if that cannot be, go on in the old one, say so, and return False."""
        wanted = self.place.path(now_ns)
        if not self.flush(now_ns) or self._writer is None:
            return False
        if wanted == self._writer.path or os.path.lexists(wanted):
            self._keep(wanted, "it exists already, and a segment is never overwritten")
            return False
        if not self._close_segment(now_ns):
            return False
        self._reopen(now_ns)
        return self._writer is not None

    def close(self, now_ns: int) -> bool:
        """Write all that waits and close the segment in order; False if the disk refused."""
        return self.flush(now_ns) and self._close_segment(now_ns)

    def _begin(self, path: str, now_ns: int) -> None:
        tail = self._previous
        facts: dict[str, object] = {
            **self.facts(),
            "chain": self._chain,
            "template": os.path.basename(self.place.template),
            "previous": os.path.basename(tail.path) if tail else None,
        }
        previous_hash = tail.last_hash if tail else NO_HASH
        self._writer = SegmentWriter.create(path, facts, previous_hash, self.place.mode, time_ns=now_ns)
        self._opened_ns = self.last_write_ns = now_ns
        name = tail.path if tail else ""
        self.log.say(messages.SEGMENT_OPENED, f"new segment {path}", path=path, previous=name, previous_hash=previous_hash.hex())

    def _close_segment(self, now_ns: int) -> bool:
        """Write the footer; False if the disk refused: then the segment stays open."""
        writer = self._writer
        if writer is None:
            return False
        try:
            last_hash = writer.close()
        except ArchiveError as error:
            self._fail(error, now_ns)
            return False
        self._closed_bytes += writer.size
        self._writer, self._previous = None, Tail(writer.path, last_hash, self._chain, now_ns, True)
        since, until = (times.text(moment, utc=True) for moment in (self._opened_ns, now_ns))
        self.log.say(
            messages.SEGMENT_CLOSED,
            f"closed {writer.path}: {writer.rows} rows, {writer.size} bytes, last hash {last_hash.hex()}",
            path=writer.path,
            rows=writer.rows,
            bytes=writer.size,
            since=since,
            until=until,
            last_hash=last_hash.hex(),
        )
        return True

    def _reopen(self, now_ns: int) -> None:
        """Open a segment where none is open: any free name will do."""
        try:
            self._begin(archive.first_free(self.place.path(now_ns)), now_ns)
        except ArchiveError as error:
            self._fail(error, now_ns)

    def _keep(self, wanted: str, reason: str) -> None:
        path = self.path
        self.log.say(messages.SEGMENT_KEPT, f"going on in {path}: cannot open {wanted}: {reason}", path=path, wanted=wanted, reason=reason)

    def _enqueue_all_rows(self) -> None:
        for key in list(self._waiting):
            self._enqueue_rows(key)

    def _enqueue_rows(self, key: tuple[int, bool]) -> None:
        tables = self._waiting.pop(key, [])
        if not tables:
            return
        whole = concat(tables)
        self.rows_waiting -= len(whole)
        for first in range(0, len(whole), self.block_rows):
            self._push(_rows_item(whole.slice(first, first + self.block_rows)))

    def _push(self, item: _Item) -> None:
        """Append to the queue; rows that do not fit any more are counted, and only their GAP is kept."""
        if item.rows and self._queue_bytes + item.size > self.memory_bytes and self.failing_since_ns:
            self.gap(item.begin, item.end, self._refusal, item.rows, "no room in memory while the disk refused")
            return
        self._queue.append(item)
        self._queue_bytes += item.size

    def _drain(self) -> bool:
        """Write the queue; False as soon as the disk refuses (the item stays)."""
        if self._writer is None:
            return False
        while self._queue:
            item = self._queue[0]
            try:
                item.write(self._writer)
            except ArchiveError as error:
                self._fail(error, item.end)
                return False
            self._queue.popleft()
            self._queue_bytes -= item.size
        return True

    def _sync(self, now_ns: int) -> bool:
        writer = self._writer
        if writer is None:
            return False
        try:
            writer.sync()
        except ArchiveError as error:
            self._fail(error, now_ns)
            return False
        self.last_write_ns = now_ns
        if self.failing_since_ns:
            seconds = max(now_ns - self.failing_since_ns, 0) / SECOND
            self.failing_since_ns = 0
            text = f"writing to {writer.path} again after {seconds:.0f} s"
            self.log.say(messages.WRITE_RESUMED, text, path=writer.path, seconds=f"{seconds:.0f}")
        return True

    def _fail(self, error: ArchiveError, now_ns: int) -> None:
        """Say once that writing fails; `flush` tries again."""
        if self.failing_since_ns:
            return
        self.failing_since_ns = now_ns
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        self._refusal = "disk-full" if full else "write-error"
        text = f"cannot write: {error}; keeping up to {self.memory_bytes} bytes in memory, trying again each second"
        self.log.say(messages.WRITE_FAILED, text, path=self.path, error=str(error), held_bytes=self._queue_bytes)

    def _log_gap(self, lost: Lost) -> None:
        count = "an unknown number of" if lost.count is None else f"{lost.count}"
        since, until = times.text(lost.begin, utc=True), times.text(lost.end, utc=True)
        text = f"gap ({lost.reason}): {count} events from {since} to {until} are not in the log: {lost.detail}"
        self.log.say(messages.GAP, text, path=self.path, reason=lost.reason, lost=lost.count, since=since, until=until)


def _rows_item(table: Table) -> _Item:
    size = sum(array.nbytes for array in table.columns.values())
    time = table["time"]
    return _Item(lambda writer: writer.append(table), len(table), size, int(time.min()), int(time.max()))


def _gap_item(lost: Lost) -> _Item:
    begin, end, reason, count, detail = lost.begin, lost.end, lost.reason, lost.count, lost.detail
    return _Item(lambda writer: writer.gap(begin, end, reason, count, detail), 0, SMALL_ITEM_BYTES, begin, end)
