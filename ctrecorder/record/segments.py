"""The segments of one recorder, one after the other: at most one is open, each is chained to the
one before.

An open segment is looked after.  If its file was moved away (or a disk was mounted over the folder)
it is closed where it is, and the next one begins in the place; if it was deleted it is put back:
the recorder still has it open.  While the folder itself is missing, writing goes on into the file
that is open, wherever that is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from ctrecorder import times
from ctrecorder.ctlog.frame import FRAME, NO_HASH
from ctrecorder.errors import ArchiveError, CtrecorderError
from ctrecorder.record.target import Tail, Target, folder_locked, newest_segment
from ctrecorder.segment import files
from ctrecorder.segment.writer import FileLocation, SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.log import Log

Facts = dict[str, object]


class SegmentSeries:
    """The segments of `place`; `facts` gives those of a header at the moment that a segment is
    opened.

    `writer`: of the open segment, None while none could be opened.  `opened`: segments opened so
    far.  Raises ArchiveError.
    """

    def __init__(
        self, target: Target, facts: Callable[[], Facts], log: Log, key: bytes = b""
    ) -> None:
        self.target, self.log = target, log
        self.writer: SegmentWriter | None = None
        self.opened = 0
        self._facts, self._key = facts, key
        self._previous: Tail | None = None
        self._chain = ""
        self._opened_ns = self._closed_bytes = 0
        self._homeless = False

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

    def start(self, now_ns: int) -> Tail | None:
        """Open the first segment, chained to the newest one that is there; returns the end of that
        one.
        """
        with folder_locked(self.target.folder):
            tail = self._previous = newest_segment(self.target.template, self._key)
            self._chain = tail.chain if tail else secrets.token_hex(8)
            self.writer = self._open(now_ns)
        return tail

    def ready(self, now_ns: int) -> SegmentWriter:
        """The open segment; one is opened if there is none: any free name will do."""
        if self.writer is None:
            self.writer = self._open(now_ns)
        return self.writer

    def close(self, now_ns: int) -> None:
        """Close the segment in order, and say its last hash: an anchor."""
        writer = self.writer
        if writer is None:
            return
        deleted = writer.location() is FileLocation.DELETED  # and could not be put back
        last_hash = writer.close()
        self._ended(writer, last_hash, now_ns, closed=True)
        since, until = (times.text(moment, utc=True) for moment in (self._opened_ns, now_ns))
        self.log.send(
            messages.SEGMENT_CLOSED,
            f"closed {writer.path}: {writer.rows} rows, {writer.size} bytes, last hash {last_hash.hex()}",
            path=writer.path,
            rows=writer.rows,
            bytes=writer.size,
            since=since,
            until=until,
            last_hash=last_hash.hex(),
        )
        if deleted:
            text = f"{writer.path} was deleted and never had a place again: its {writer.rows} rows are lost"
            self.log.send(
                messages.WRITE_FAILED, text, path=writer.path, error="deleted", held_bytes=0
            )

    def replace(self, now_ns: int) -> None:
        """Go on in a new segment, and leave the old one, which cannot be written any more, as far
        as it was synced.
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
        _cut(old)

    def check_location(self, now_ns: int) -> None:
        """See that the open segment is in its place; if it is not, see to it that recording goes on
        there.
        """
        writer = self.writer
        if writer is None or (where := writer.location()) is FileLocation.HERE:
            self._homeless = False
            return
        if not os.path.isdir(self.target.folder):
            self._log_unreachable(f"{self.target.folder} is not there", where)
        elif where is FileLocation.DELETED:
            self._restore(writer)
        else:
            text = f"{writer.path} is not in its place any more: it was moved, or another folder or disk is there now"
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
        self._homeless = False
        text = f"{old} was deleted while it was being written: put back as {writer.path}"
        self.log.send(messages.SEGMENT_RESTORED, text, path=writer.path, deleted=old)

    def _log_unreachable(self, why: str, where: FileLocation) -> None:
        if self._homeless:
            return
        self._homeless = True
        text = f"{self.path} was {where.value}, and has no place: {why}; writing goes on into the open file, trying again each second"
        self.log.send(messages.WRITE_FAILED, text, path=self.path, error=why, held_bytes=0)

    def _open(self, now_ns: int) -> SegmentWriter:
        tail, path = self._previous, files.first_free(self.target.path(now_ns))
        facts: Facts = {
            **self._facts(),
            "chain": self._chain,
            "sequence": tail.sequence + 1 if tail else 1,
            "template": os.path.basename(self.target.template),
            "previous": os.path.basename(tail.path) if tail else None,
        }
        previous_hash = tail.last_hash if tail else NO_HASH
        writer = SegmentWriter.create(
            path, facts, previous_hash, self.target.mode, time_ns=now_ns, key=self._key
        )
        self._opened_ns = now_ns
        self.opened += 1
        name, ended = (tail.path, previous_hash.hex()) if tail else ("", "")
        text = f"new segment {path}" + (f", after {name} with last hash {ended}" if tail else "")
        self.log.send(messages.SEGMENT_OPENED, text, path=path, previous=name, previous_hash=ended)
        return writer

    def _ended(self, writer: SegmentWriter, last_hash: bytes, now_ns: int, closed: bool) -> None:
        self._previous = self._tail(writer, last_hash, now_ns, closed)
        self._closed_bytes += writer.size
        self.writer = None

    def _tail(self, writer: SegmentWriter, last_hash: bytes, now_ns: int, closed: bool) -> Tail:
        sequence = self._previous.sequence + 1 if self._previous else 1
        return Tail(writer.path, last_hash, self._chain, sequence, now_ns, closed)


def _cut(old: SegmentWriter) -> None:
    """Cut off what was not synced by the segment's path too: its disk may have come back, mounted
    anew.

    What is cut was or is written again, to the next segment; if it stayed here it would be there
    twice.
    """
    try:
        descriptor = os.open(old.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if (
            os.pread(descriptor, FRAME.size, 0) == old.first_frame
            and os.fstat(descriptor).st_size > old.synced.size
        ):
            os.ftruncate(descriptor, old.synced.size)
    except OSError:
        pass
    finally:
        os.close(descriptor)
