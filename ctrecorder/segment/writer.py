"""Writing a segment: blocks are appended to a file; a recorder holds its lock until it is closed.

A block is one write.  A call whose write fails is undone (the file is cut back to its size before
the call) and raises WriteError: the same call can be made again.  Only `sync`, `close` and `create`
sync.  After a failed sync nothing is known about the writes since the last good one (fsync(2): the
kernel may have dropped the pages), so `rollback` goes back to that one, and the caller writes the
later blocks again.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import __version__
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import (
    FRAME,
    HASHED,
    INDEX,
    MAX_INDEXED,
    NO_HASH,
    VERSION,
    VERSION_REQUIRES,
    Gap,
    Kind,
    Mark,
    frame_head,
    pack_block,
    pack_footer,
)
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.plans import LIVE, EncodingPlan
from ctrecorder.errors import ArchiveError
from ctrecorder.filelock import Lock
from ctrecorder.folder import Folder
from ctrecorder.seals.block import SEAL, pack_seal
from ctrecorder.segment import files
from ctrecorder.segment.pending import (
    PendingBlock,
    gap_block,
    header_block,
    mark_block,
    table_blocks,
)

# Bytes that are copied at once when a deleted segment is restored.
_COPY = 1 << 20


class WriteError(ArchiveError):
    """A write failed and was undone; `errno`: of the failure."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"{path}: cannot be written: {error.strerror}")
        self.errno = error.errno


class FileLocation(Enum):
    """Where the file of an open segment is, by its path."""

    HERE = "here"
    MOVED = "moved"
    DELETED = "deleted"


class State(NamedTuple):
    """How far a segment is written; `times`: the least time_min and greatest time_max."""

    size: int
    rows: int
    blocks: int
    last_hash: bytes
    times: tuple[int, int]


_EMPTY = State(0, 0, 0, NO_HASH, (2**63 - 1, -(2**63)))


class SegmentWriter:
    """A live segment.

    `path`, `descriptor`: of its file.
    `size`: bytes written.
    `rows`: of all tables.
    `blocks`: number of blocks.
    `last_hash`: of the last block.
    `synced`: how far it is known to be on the disk.
    `first_frame`: of the HEADER; its hash identifies this segment.
    """

    def __init__(self, path: str, descriptor: int, folder: Folder, key: bytes = b"") -> None:
        self.path, self.size, self.rows, self.blocks = path, 0, 0, 0
        self.last_hash = NO_HASH
        self.descriptor, self._folder, self._key = descriptor, folder, key
        self._version, self._is_indexed = VERSION, True
        self._index: NDArray[np.void] = np.zeros(64, INDEX)
        self._torn = False
        self._times = _EMPTY.times
        self.synced = _EMPTY
        self.first_frame = b""
        self._lock: Lock | None = None

    @classmethod
    def create(
        cls,
        path: str,
        header: Header,
        previous_hash: bytes = NO_HASH,
        mode: int = files.MODE,
        *,
        time_ns: int | None = None,
        key: bytes = b"",
        folder: Folder | None = None,
        owner: os.stat_result | None = None,
        live: bool = False,
        is_small: bool = False,
    ) -> SegmentWriter:
        """Create the segment `path` and write its HEADER.

        `header`: `format`, `program` and `sealed` are filled in.  With `requires` the
        segment is of version 2.
        `previous_hash`: the last hash of the segment that `header.previous` names.
        `folder`, `owner`: as in `files.create`.
        `live`: hold the lock that tells that a recorder writes it.
        `is_small`: pack the HEADER, and leave the records of the FOOTER out.

        The file and its name are on the disk when this returns.  Raises `files.ExistsError` if the
        name is taken, otherwise ArchiveError.
        """
        self = cls(path, *files.create(path, mode, folder=folder, owner=owner), key)
        if live:
            self.take_lock()
        self.last_hash = previous_hash
        self._version = VERSION_REQUIRES if header.needs_features else VERSION
        self._is_indexed = not is_small
        now = time.time_ns() if time_ns is None else time_ns
        program = f"ctrecorder {__version__}"
        written = replace(header, format="ctlog", program=program, sealed=bool(key))
        try:
            facts = {"previous": None, **written.to_json()}
            self.write(header_block(facts, now, is_packed=is_small))
            self._sync_all()
        except BaseException:
            self._folder.remove(os.path.basename(path))
            self._release()
            raise
        return self

    @property
    def times(self) -> tuple[int, int]:
        """The least time_min and the greatest time_max of its blocks, without SEALs."""
        return self._times

    def append(
        self, table: Table, *, kind: Kind = Kind.EVENTS, level: int = 1, plan: EncodingPlan = LIVE
    ) -> None:
        """Write `table` as blocks of at most 65,536 rows: all of them, or nothing.

        Raises WriteError.
        """
        before = self._state()
        try:
            for pending in table_blocks(table, kind, level, plan):
                self.write(pending)
        except WriteError:
            self._undo(before)
            raise

    def gap(self, gap: Gap) -> None:
        """Write a GAP.  Raises WriteError."""
        self.write(gap_block(gap))

    def mark(self, mark: Mark) -> None:
        """Write a MARK.  Raises WriteError."""
        self.write(mark_block(mark))

    def seal(self, key: bytes, epoch: int, since: int, time_ns: int) -> None:
        """Write a SEAL over all that is written so far.  Raises WriteError.

        `key`: of `epoch`; `since`: the epoch of the last SEAL of what this segment replaces, else
        the same.
        """
        times = (time_ns, time_ns)
        head = frame_head(Kind.SEAL, SEAL.size, self.last_hash, times, version=self._version)
        self.write(PendingBlock(Kind.SEAL, pack_seal(key, epoch, since, head), times))

    def sync(self) -> None:
        """Sync all blocks to the disk.  Raises WriteError."""
        try:
            os.fdatasync(self.descriptor)
        except OSError as error:
            raise WriteError(self.path, error) from error
        self.synced = self._state()

    def rollback(self) -> None:
        """Cut off all blocks since the last sync; the caller writes them again.

        If the file cannot be cut now, it is cut before the next write.
        """
        self._undo(self.synced)

    def location(self) -> FileLocation:
        """Whether the path still leads to this file.  HERE if that cannot be determined."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return FileLocation.HERE
            there = None
        ours = os.fstat(self.descriptor)
        if there is not None and os.path.samestat(there, ours):
            return FileLocation.HERE
        return FileLocation.MOVED if ours.st_nlink else FileLocation.DELETED

    def take_lock(self) -> None:
        """Take the lock of a live segment, unless it is held and others see it.

        It stays without a lock where none can be had.
        """
        if self._lock is not None and not self._lock.is_in_place(self._folder):
            self._lock.release()
            self._lock = None
        if self._lock is None:
            self._lock = files.lock(self.descriptor, self._folder)

    def restore(self, path: str, mode: int = files.MODE) -> None:
        """Copy a deleted segment to `path`, which must not exist, and continue in the copy.

        Raises ArchiveError.
        """
        descriptor, folder = files.create(path, mode)
        try:
            # A disk that is too full fails here, before anything is copied.
            os.posix_fallocate(descriptor, 0, self.size)
            for offset in range(0, self.size, _COPY):
                _write_all(
                    descriptor,
                    os.pread(self.descriptor, min(_COPY, self.size - offset), offset),
                    offset,
                )
            os.fsync(descriptor)
            folder.sync()
        except OSError as error:
            folder.remove(os.path.basename(path))
            _release(descriptor, folder)
            raise WriteError(path, error) from error
        was_live = self._lock is not None
        self._release()
        self.path, self.descriptor, self._folder = path, descriptor, folder
        if was_live:
            self.take_lock()
        self.synced, self._torn = self._state(), False

    def close(self, totals: Mapping[str, Any] | None = None) -> bytes:
        """Write the FOOTER, sync file and folder, release the lock; returns the last hash.

        Raises WriteError; the segment is then open as before.
        """
        indexed = self.blocks <= MAX_INDEXED and self._is_indexed
        index = self._index[: self.blocks if indexed else 0]
        before = self._state()
        self.write(
            PendingBlock(
                Kind.FOOTER,
                pack_footer(index, {**(totals or {}), "rows": self.rows}, self.size),
                self._times,
            )
        )
        try:
            self._sync_all()
        except WriteError:
            self._undo(before)
            raise
        self._release()
        return self.last_hash

    def abandon(self) -> None:
        """Close the file without a footer, as a crash would leave it.

        Blocks since the last sync are cut off, if possible.
        """
        self.rollback()
        self._release()

    def discard(self) -> None:
        """Close the file and remove it."""
        self._folder.remove(os.path.basename(self.path))
        self._release()

    def write(self, pending: PendingBlock) -> None:
        """Append a block.  Raises WriteError."""
        kind, payload, times, family, form, rows = pending[:6]
        block = pack_block(
            kind,
            payload,
            self.last_hash,
            times,
            family=family,
            form=form,
            rows=rows,
            key=self._key,
            version=self._version,
        )
        try:
            if self._torn:
                os.ftruncate(self.descriptor, self.size)
                self._torn = False
            _write_all(self.descriptor, block, self.size)
        except OSError as error:
            self._undo(self._state())
            raise WriteError(self.path, error) from error
        if not self.blocks:
            self.first_frame = block[: FRAME.size]
        if self.blocks == len(self._index) < MAX_INDEXED:
            self._index = np.concatenate((self._index, np.zeros_like(self._index)))
        if self.blocks < MAX_INDEXED:
            self._index[self.blocks] = (self.size, *times, rows, kind, family, form, 0)
        if kind != Kind.SEAL:  # made later, of what was recorded before
            self._times = min(self._times[0], times[0]), max(self._times[1], times[1])
        self.blocks += 1
        self.rows += rows
        self.size += len(block)
        self.last_hash = block[HASHED : FRAME.size]

    def _sync_all(self) -> None:
        """Sync the file and its name to the disk."""
        try:
            os.fsync(self.descriptor)
            self._folder.sync()
        except OSError as error:
            raise WriteError(self.path, error) from error
        self.synced = self._state()

    def _state(self) -> State:
        return State(self.size, self.rows, self.blocks, self.last_hash, self._times)

    def _undo(self, state: State) -> None:
        """Return to an earlier state: cut the file to it now, or, if that fails, before the next
        write.
        """
        self.size, self.rows, self.blocks, self.last_hash, self._times = state
        try:
            os.ftruncate(self.descriptor, self.size)
        except OSError:
            self._torn = True

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        _release(self.descriptor, self._folder)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _release(descriptor: int, folder: Folder) -> None:
    """Close both; errors of a disk that is gone are ignored."""
    for one in (descriptor, folder.descriptor):
        try:
            os.close(one)
        except OSError:
            pass
