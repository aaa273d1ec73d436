"""A segment, written: blocks appended to a file that holds a flock until it is closed.

A block is one write.  A call whose write fails is undone (the file is cut back to where it was before the call) and raises
WriteError: the same call can be made again.  Nothing is synced but by `sync` and `close`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctrecorder import __version__, archive
from ctrecorder.codec import FORM_COLUMNS, FORM_SMALL, WHOLE
from ctrecorder.columns import Table
from ctrecorder.encoder import LIVE, Plan, encode_columns, encode_small
from ctrecorder.errors import ArchiveError
from ctrecorder.format import (
    FRAME,
    HASHED,
    INDEX,
    NO_HASH,
    SMALL_ROWS,
    ROWS_WRITTEN,
    Gap,
    Kind,
    Mark,
    block_times,
    dump_json,
    pack_block,
    pack_footer,
)


class WriteError(ArchiveError):
    """A write failed and was undone; `errno` says why."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"{path}: cannot be written: {error.strerror}")
        self.errno = error.errno


class SegmentWriter:
    """A live segment.  `path`, `size` (bytes), `rows` (of all tables), `blocks`, `last_hash` (of the last block) tell where it stands."""

    def __init__(self, path: str, descriptor: int, folder: int, key: bytes) -> None:
        self.path, self.size, self.rows, self.blocks = path, 0, 0, 0
        self.last_hash = NO_HASH
        self._descriptor, self._folder, self._key = descriptor, folder, key
        self._index = np.zeros(64, INDEX)
        self._torn = False

    @classmethod
    def create(
        cls,
        path: str,
        header: Mapping[str, Any],
        previous_hash: bytes = NO_HASH,
        mode: int = archive.MODE,
        *,
        time_ns: int | None = None,
        key: bytes = b"",
    ) -> SegmentWriter:
        """Make the segment `path` and write its HEADER.

        `header`: the facts of ctlog(5); `format`, `program` and `sealed` are filled in.  `previous_hash`: the last hash of the segment that
        `header["previous"]` names.  Raises ArchiveError, an `archive.ExistsError` if the name is taken.
        """
        descriptor, folder = archive.create(path, mode)
        self = cls(path, descriptor, folder, key)
        self.last_hash = previous_hash
        now = time.time_ns() if time_ns is None else time_ns
        facts = {"previous": None, **header, "format": "ctlog", "program": f"ctrecorder {__version__}", "sealed": bool(key)}
        try:
            self._append(Kind.HEADER, dump_json(facts), (now, now))
        except BaseException:
            os.unlink(os.path.basename(path), dir_fd=folder)
            self._release()
            raise
        return self

    def append(self, table: Table, *, kind: Kind = Kind.EVENTS, level: int = 1, plan: Plan = LIVE) -> None:
        """Write `table` as one block, or as several if it is over 65,536 rows; all of it, or nothing.  Raises WriteError."""
        before = self._state()
        for first in range(0, len(table), ROWS_WRITTEN):
            part = table if len(table) <= ROWS_WRITTEN else table.slice(first, first + ROWS_WRITTEN)
            small = len(part) <= SMALL_ROWS and kind == Kind.EVENTS
            payload = encode_small(part, level) if small else encode_columns(part, level, plan)
            form = FORM_SMALL if small else FORM_COLUMNS
            try:
                self._append(kind, payload, block_times(kind, part), part.family, form, len(part))
            except WriteError:
                self._undo(before)
                raise
            self.rows += len(part)

    def gap(self, begin_ns: int, end_ns: int, reason: str, lost: int | None, detail: str = "") -> None:
        """Write a GAP.  Raises WriteError."""
        self._append(Kind.GAP, Gap(begin_ns, end_ns, reason, lost, detail).payload(), (begin_ns, max(begin_ns, end_ns)))

    def mark(self, what: str, facts: Mapping[str, Any], begin_ns: int, end_ns: int | None = None) -> None:
        """Write a MARK of a moment, or from begin to end.  Raises WriteError."""
        end = begin_ns if end_ns is None else max(begin_ns, end_ns)
        self._append(Kind.MARK, Mark(begin_ns, end, what, dict(facts)).payload(), (begin_ns, end))

    def sync(self) -> None:
        """Have all blocks on the disk.  Raises WriteError."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise WriteError(self.path, error) from error

    def close(self, totals: Mapping[str, Any] | None = None) -> bytes:
        """Write the FOOTER, sync file and folder, let go of the lock; returns the last hash.  Raises WriteError: then it is open as before."""
        index = self._index[: self.blocks]
        times = (int(index["time_min"].min()), int(index["time_max"].max()))
        before = self._state()
        self._append(Kind.FOOTER, pack_footer(index, {**(totals or {}), "rows": self.rows}, self.size), times)
        try:
            os.fsync(self._descriptor)
            os.fsync(self._folder)
        except OSError as error:
            self._undo(before)
            raise WriteError(self.path, error) from error
        self._release()
        return self.last_hash

    def abandon(self) -> None:
        """Close the file as it is, without a footer: as a crash would leave it."""
        self._release()

    def _append(self, kind: Kind, payload: bytes, times: tuple[int, int], family: int = 0, form: int = WHOLE, rows: int = 0) -> None:
        block = pack_block(kind, payload, self.last_hash, times, family=family, form=form, rows=rows, key=self._key)
        try:
            if self._torn:
                os.ftruncate(self._descriptor, self.size)
                self._torn = False
            written = os.pwrite(self._descriptor, block, self.size)
            while written < len(block):
                written += os.pwrite(self._descriptor, memoryview(block)[written:], self.size + written)
        except OSError as error:
            self._undo(self._state())
            raise WriteError(self.path, error) from error
        if self.blocks == len(self._index):
            self._index = np.concatenate((self._index, np.zeros_like(self._index)))
        self._index[self.blocks] = (self.size, *times, rows, kind, family, form, 0)
        self.blocks += 1
        self.size += len(block)
        self.last_hash = block[HASHED : FRAME.size]

    def _state(self) -> tuple[int, int, int, bytes]:
        return self.size, self.rows, self.blocks, self.last_hash

    def _undo(self, state: tuple[int, int, int, bytes]) -> None:
        """Back to an earlier state: what came after is cut off, now, or if even that fails, before the next write."""
        self.size, self.rows, self.blocks, self.last_hash = state
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            self._torn = True

    def _release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        os.close(self._folder)
