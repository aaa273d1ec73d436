"""The segments of one recorder, one after the other: at most one is open, each is chained to the
one before.

The path of the open segment is checked at each flush.  If its file was moved (or a disk was mounted
over the folder), it is closed where it is now, and the next one is opened at the path.  If it was
deleted, it is restored: the recorder still has it open.  While the folder is missing, the recorder
writes to the file that is open, wherever it is.

A segment whose disk failed is replaced, and what it holds behind its last sync is written again.
It is cut there as soon as its path leads to it: its disk may be back only later.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ctrecorder import times
from ctrecorder.ctlog.frame import FRAME, NO_HASH, Gap
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError, CtrecorderError
from ctrecorder.folder import open_file
from ctrecorder.sealing.live import LiveSeals
from ctrecorder.segment import files
from ctrecorder.segment.writer import FileLocation, SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.spool.gaps import before_start
from ctrecorder.spool.target import Tail, Target, folder_locked, newest_segment

# Replaced segments that wait for their disk.  The pause before each new one doubles, up to ten
# minutes; of more than so many the oldest are given up.
_MAX_UNCUT = 100


class Uncut(NamedTuple):
    """A replaced segment, to be cut to `size`; `first_frame` identifies it."""

    path: str
    first_frame: bytes
    size: int


class SegmentSeries:
    """The segments of `target`.  `header` gives the header of a segment when it is opened.

    Methods raise ArchiveError.

    Attributes:
    `writer`: the open segment, None while none could be opened.
    `opened`: the number of segments opened so far.
    `gap`: between the segments before this recorder and its start; None: there are none.
    """

    def __init__(
        self,
        target: Target,
        header: Callable[[], Header],
        log: Log,
        key: bytes = b"",
        seals: LiveSeals | None = None,
    ) -> None:
        self.target, self.log = target, log
        self.writer: SegmentWriter | None = None
        self.opened = 0
        self.gap: Gap | None = None
        self._header, self._key, self._seals = header, key, seals
        self._previous: Tail | None = None
        self._chain = ""
        self._opened_ns = self._closed_bytes = 0
        self._unreachable = False
        self._uncut: deque[Uncut] = deque(maxlen=_MAX_UNCUT)

    @property
    def chain(self) -> str:
        """The name of the recording; "" before the first segment."""
        return self._chain

    @property
    def path(self) -> str:
        """The segment that is being written, or the last one while none can be opened."""
        if self.writer is not None:
            return self.writer.path
        return self._previous.path if self._previous else ""

    @property
    def bytes_written(self) -> int:
        """Bytes of all segments so far."""
        return self._closed_bytes + (self.writer.size if self.writer else 0)

    @property
    def sequence(self) -> int:
        """The number of the open segment, or of the next one, in the chain."""
        return self._previous.sequence + 1 if self._previous else 1

    @property
    def previous(self) -> Tail | None:
        """The end of the segment before the open one; None: there is none."""
        return self._previous

    def start(self, now_ns: int, boottime_ns: int) -> None:
        """Open the first segment, chained to the newest one in the folder.

        If that fails, `ready` can open it later.  `boottime_ns`: CLOCK_BOOTTIME at `now_ns`.
        """
        with folder_locked(self.target.folder):
            tail = self._previous = newest_segment(self.target.template, self._key)
            if self._seals is not None:
                self._seals.start(tail.path if tail else None)
            elif tail is not None and tail.has_seals:
                raise ArchiveError(
                    f"{tail.path}: is sealed, and there is no key to go on with: "
                    "make one with ctrecord --setup-seal"
                )
            self._chain = tail.chain if tail else secrets.token_hex(8)
            if tail is not None:
                self.gap = before_start(tail, now_ns, boottime_ns, self._header().boot_id)
            self.writer = self._open(now_ns)

    def ready(self, now_ns: int) -> SegmentWriter:
        """The open segment.  If there is none, one is opened, under the next free name."""
        if self.writer is None:
            self.writer = self._open(now_ns)
            self._cut_again()
        return self.writer

    def close(self, now_ns: int) -> None:
        """Close the segment in order, and log its last hash: an anchor."""
        writer = self.writer
        if writer is None:
            return
        deleted = writer.location() is FileLocation.DELETED  # and could not be restored
        if self._seals is not None:
            self._seals.before_footer(writer)
        last_hash = writer.close()
        if self._seals is not None:
            self._seals.closed(writer.path, last_hash)
        self._ended(writer, last_hash, now_ns, closed=True)
        since, until = (times.dated(moment, utc=True) for moment in (self._opened_ns, now_ns))
        self.log.send(
            messages.SEGMENT_CLOSED,
            f"closed {writer.path}: {writer.rows} rows, {writer.size} bytes, "
            f"last hash {last_hash.hex()}",
            path=writer.path,
            rows=writer.rows,
            bytes=writer.size,
            since=since,
            until=until,
            last_hash=last_hash.hex(),
        )
        if deleted:
            text = (
                f"{writer.path} was deleted and could not be restored: "
                f"its {writer.rows} rows are lost"
            )
            self.log.send(
                messages.WRITE_FAILED, text, path=writer.path, error="deleted", held_bytes=0
            )

    @property
    def seal_due(self) -> bool:
        """Whether what is written is to be sealed, because the epoch is over."""
        return self._seals is not None and self._seals.due

    def seal(self) -> None:
        """Seal what is written, if that is due.  To be called when all of it is synced."""
        if self._seals is not None and self._seals.due and self.writer is not None:
            self._seals.end_epoch(self.writer)

    def end(self, now_ns: int) -> None:
        """Close the last segment."""
        self.close(now_ns)
        if self._seals is not None:
            self._seals.stopped()

    def replace(self, now_ns: int) -> None:
        """Continue in a new segment, since the old one cannot be written any more.

        The old one keeps its synced blocks.
        """
        old = self.writer
        if old is None:
            return
        before, tail = self._previous, self._tail(old, old.synced.last_hash, now_ns, closed=False)
        self._previous = tail
        try:
            self.writer = self._open(now_ns)
        except CtrecorderError:
            self._previous = before
            raise
        self._closed_bytes += old.synced.size
        old.abandon()
        self._uncut.append(Uncut(old.path, old.first_frame, old.synced.size))
        self._cut_again()

    def check_location(self, now_ns: int) -> None:
        """Check that the path leads to the open segment; otherwise close or restore that one."""
        writer = self.writer
        if writer is None or (where := writer.location()) is FileLocation.HERE:
            self._unreachable = False
            if writer is not None:
                writer.take_lock()
            return
        if not os.path.isdir(self.target.folder):
            self._log_unreachable(f"{self.target.folder} is missing", where)
        elif where is FileLocation.DELETED:
            self._restore(writer)
        else:
            text = (
                f"{writer.path} was moved, or another folder or disk is mounted over its folder; "
                "continuing in a new segment"
            )
            self.log.send(messages.SEGMENT_MOVED, text, path=writer.path)
            try:
                self.close(now_ns)
            except ArchiveError:  # the disk that it is on is gone too
                self.replace(now_ns)

    def _restore(self, writer: SegmentWriter) -> None:
        old = writer.path
        try:
            writer.restore(files.first_free(old), self.target.mode)
        except ArchiveError as error:
            self._log_unreachable(str(error), FileLocation.DELETED)
            return
        self._unreachable = False
        if self._seals is not None:
            self._seals.opened(writer.path, restored=old)
        text = f"{old} was deleted while it was being written: restored as {writer.path}"
        self.log.send(messages.SEGMENT_RESTORED, text, path=writer.path, deleted=old)

    def _log_unreachable(self, why: str, where: FileLocation) -> None:
        if self._unreachable:
            return
        self._unreachable = True
        text = (
            f"{self.path} was {where.value} and cannot be restored: {why}; "
            "writing to the open file, trying again each second"
        )
        self.log.send(messages.WRITE_FAILED, text, path=self.path, error=why, held_bytes=0)

    def _open(self, now_ns: int) -> SegmentWriter:
        tail = self._previous
        # The one before may be hidden: two of one name could not be put together again.
        path = files.first_free(self.target.path(now_ns), but=tail.path if tail else "")
        header = replace(
            self._header(),
            chain=self._chain,
            sequence=self.sequence,
            template=os.path.basename(self.target.template),
            previous=os.path.basename(tail.path) if tail else None,
            seals=self._seals.header() if self._seals is not None else None,
            set_back=True if not self.opened and self.gap and self.gap.end > now_ns else None,
        )
        previous_hash = tail.last_hash if tail else NO_HASH
        writer = SegmentWriter.create(
            path, header, previous_hash, self.target.mode, time_ns=now_ns, key=self._key, live=True
        )
        self._opened_ns = now_ns
        self.opened += 1
        if self._seals is not None:
            self._seals.opened(path)
        name, ended = (tail.path, previous_hash.hex()) if tail else ("", "")
        text = f"new segment {path}" + (f", after {name} with last hash {ended}" if tail else "")
        self.log.send(messages.SEGMENT_OPENED, text, path=path, previous=name, previous_hash=ended)
        return writer

    def _cut_again(self) -> None:
        """Cut the replaced segments that their paths lead to; the others wait for their disk."""
        waiting = [one for one in self._uncut if not _cut(one)]
        self._uncut.clear()
        self._uncut.extend(waiting)

    def _ended(self, writer: SegmentWriter, last_hash: bytes, now_ns: int, closed: bool) -> None:
        self._previous = self._tail(writer, last_hash, now_ns, closed)
        self._closed_bytes += writer.size
        self.writer = None

    def _tail(self, writer: SegmentWriter, last_hash: bytes, now_ns: int, closed: bool) -> Tail:
        return Tail(writer.path, last_hash, self._chain, self.sequence, now_ns, closed)


def _cut(old: Uncut) -> bool:
    """Cut off the blocks that were not synced, by the segment's path: its disk may be back, mounted
    again.  False if the path does not lead to it, or it cannot be cut.

    These blocks are written again, to the next segment.  If they stayed here they would be in the
    log twice.
    """
    try:
        descriptor = open_file(old.path, os.O_RDWR)
    except OSError:
        return False
    try:
        if os.pread(descriptor, FRAME.size, 0) != old.first_frame:
            return False
        if os.fstat(descriptor).st_size > old.size:
            os.ftruncate(descriptor, old.size)
            os.fsync(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
