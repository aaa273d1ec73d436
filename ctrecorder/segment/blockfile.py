"""The blocks of a file: read at an offset, followed one after the other, found again after damage.

All reading is by pread: a file that is cut short meanwhile gives a finding, not a signal.  Damage
raises FormatError; its offset counts from the first byte of the block until `BlockFile.placed`
makes it one of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.frame import (
    FRAME,
    INDEX,
    MAGIC,
    NO_HASH,
    Frame,
    Kind,
    check_hash,
    parse_frame,
)
from ctrecorder.ctlog.index import FORM_COLUMNS, HEAD, index_head
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.findings import Finding, damage
from ctrecorder.segment import files, openfiles

# Bytes of one pread while blocks are followed or a magic is searched: hundreds of small blocks.
_WINDOW = 1 << 18
# Bytes of one pread that does not continue the one before.
_GLANCE = 1 << 12
# Blocks with more bytes bypass the read-ahead window.
_MAX_WINDOWED = 1 << 14
# Records that are collected before they become an array.
_GATHERED = 1 << 12
# A stranger's file can be full of magics.  All searches of a scan together hash at most this
# multiple of the file's size, or `_LEAST_SEARCH`; looking at a magic costs as much as hashing
# `_LOOK_BYTES`.
_HASH_FACTOR = 4
_LEAST_SEARCH = 16 << 20
_LOOK_BYTES = 1 << 12


class SearchBudget:
    """What searches for whole blocks may still hash, in bytes."""

    def __init__(self, file: BlockFile) -> None:
        self._left = max(_HASH_FACTOR * file.size, _LEAST_SEARCH)

    def spend(self, hashed: int) -> bool:
        """Take a look at one magic and `hashed` bytes; False if that is too much."""
        self._left -= _LOOK_BYTES + hashed
        return self._left >= 0


class BlockFile:
    """A file that is open for reading.  Raises ArchiveError if it cannot be opened or read.

    `size`: bytes of the file when it was opened.
    `key`: of a sealed recording; b"": not sealed; None: sealed, but the key is not available, so
    that no hash can be checked.
    """

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        """`descriptor`: of the file, if it is open already; it is closed with this object."""
        self.path = path
        self.key: bytes | None = b""
        self._descriptor = files.open_file(path) if descriptor is None else descriptor
        status = os.fstat(self._descriptor)
        self.size, self._identity = status.st_size, (status.st_dev, status.st_ino)
        self._data, self._begin = memoryview(b""), 0
        self._parked = False
        if descriptor is None:  # its path leads to it
            openfiles.opened(self)

    @property
    def descriptor(self) -> int:
        """Of the file, which is opened again if it was parked; -1: it is closed."""
        if self._parked:
            descriptor = files.open_file(self.path)
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != self._identity:
                os.close(descriptor)
                raise ArchiveError(f"{self.path}: was replaced while it was read: ask again")
            self._descriptor, self._parked = descriptor, False
            openfiles.opened(self)
        return self._descriptor

    def park(self) -> None:
        """Close the file until it is read again."""
        os.close(self._descriptor)
        self._descriptor, self._parked = -1, True
        self.forget()

    def forget(self) -> None:
        """Give up the bytes that were read ahead."""
        self._data, self._begin = memoryview(b""), 0

    def look_again(self) -> None:
        """Find out how long the file is now; what was read ahead is forgotten."""
        self.size = os.fstat(self.descriptor).st_size
        self._data, self._begin = memoryview(b""), 0

    def close(self) -> None:
        """Close the file."""
        openfiles.closed(self)
        self.forget()
        self._parked = False
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`."""
        try:
            return os.pread(self.descriptor, length, offset)
        except OSError as error:
            raise ArchiveError(
                f"{self.path}: cannot be read at byte {offset}: {error.strerror}"
            ) from error

    def read(self, offset: int, length: int) -> memoryview:
        """Exactly `length` bytes.  Raises FormatError if the file ends before."""
        data = memoryview(self.pread(offset, length))
        if len(data) < length:
            raise FormatError(f"the file ends {length - len(data)} bytes too early", offset=0)
        return data

    def read_on(self, offset: int, length: int) -> memoryview:
        """Exactly `length` bytes, through a read-ahead window: for small reads from front to back.

        Raises FormatError if the file ends before.
        """
        at = offset - self._begin
        if not 0 <= at <= len(self._data) - length:
            ahead = _WINDOW if 0 < at <= len(self._data) else _GLANCE
            self._data, self._begin, at = (
                memoryview(self.pread(offset, max(ahead, length))),
                offset,
                0,
            )
            openfiles.read_ahead(self)
            if len(self._data) < length:
                raise FormatError(
                    f"the file ends {length - len(self._data)} bytes too early", offset=0
                )
        return self._data[at : at + length]

    def frame(self, offset: int) -> Frame:
        """The frame of the block at `offset`.

        Raises FormatError if the block is not all in the file.
        """
        frame = parse_frame(self.read_on(offset, FRAME.size))
        if offset + FRAME.size + frame.length > self.size:
            raise FormatError(
                f"a block of {FRAME.size + frame.length} bytes, "
                f"the file has {self.size - offset} of them",
                offset=0,
            )
        return frame

    def payload(self, offset: int, frame: Frame) -> memoryview:
        """The payload of the block at `offset`; in form COLUMNS only the index is checked by the
        hash.  Raises FormatError.
        """
        data = self.read(offset, FRAME.size + frame.length)
        self.check_hash(data, data[FRAME.size : FRAME.size + self.hashed(offset, frame)])
        return data[FRAME.size :]

    def check(self, offset: int, frame: Frame) -> None:
        """Check the hash of the block at `offset`.  Raises FormatError."""
        length = FRAME.size + self.hashed(offset, frame)
        data = self.read(offset, length) if length > _MAX_WINDOWED else self.read_on(offset, length)
        self.check_hash(data, data[FRAME.size :])

    def check_hash(self, frame: Buffer, part: Buffer) -> None:
        """`frame.check_hash` with the key of this file, if that is available."""
        if self.key is not None:
            check_hash(frame, part, self.key)

    def hashed(self, offset: int, frame: Frame) -> int:
        """Bytes of the payload that the frame's hash covers: all, in form COLUMNS the index."""
        if frame.form != FORM_COLUMNS:
            return frame.length
        return index_head(self.read_on(offset + FRAME.size, HEAD.size), frame.length)[1]

    def whole_blocks(self, first: int, last: int, budget: SearchBudget) -> Iterator[int]:
        """Offsets in first..last-1 at which a block begins that matches its hash.

        Raises FormatError if `budget` is spent: too many blocks do not match their hashes.
        """
        for offset in self._magics(first, last):
            hashed, frame = 0, None
            try:
                frame = self.frame(offset)
                hashed = self.hashed(offset, frame)
            except FormatError:
                frame = None
            if not budget.spend(hashed):
                raise self.wrong("too many false blocks: the rest is not searched", offset)
            try:
                if frame is not None:
                    self.check(offset, frame)
                    yield offset
            except FormatError:
                continue

    def _magics(self, first: int, last: int) -> Iterator[int]:
        """Offsets in first..last-1 at which there is a magic."""
        while first < last:
            data = self.pread(first, min(_WINDOW, last - first + len(MAGIC) - 1))
            at = data.find(MAGIC)
            while at >= 0:
                yield first + at
                at = data.find(MAGIC, at + 1)
            if len(data) < len(MAGIC):
                return
            first += len(data) - len(MAGIC) + 1

    def wrong(self, reason: str, offset: int) -> FormatError:
        """An error at `offset` of this file."""
        return FormatError(reason, path=self.path, offset=offset)

    def placed(self, error: FormatError, offset: int) -> FormatError:
        """An error of the block at `offset` as one of this file."""
        if error.path:
            return error
        return type(error)(error.reason, path=self.path, offset=offset + error.offset)

    def finding(self, error: FormatError, offset: int) -> Finding:
        """The finding of an error of the block at `offset`."""
        return damage(self.placed(error, offset))

    def damage(self, what: str, offset: int) -> Finding:
        """A finding at `offset` of this file."""
        return damage(self.wrong(what, offset))


class Scan:
    """The blocks of a segment, followed from the first, and after damage from the next whole one.

    `index`: INDEX records of the whole blocks without FOOTERs.
    `footers`: offsets of the FOOTERs.
    `last_hash`: of the last whole block.
    `findings`: the damage.
    `torn`: the finding about the end that a crash leaves.

    Only frames that match their hash are used, so that damage neither misleads the scan nor hides
    blocks.  Payloads are not decoded.
    """

    def __init__(self, file: BlockFile) -> None:
        self._file, self._budget = file, SearchBudget(file)
        self._records: list[tuple[int, ...]] = []
        self._parts: list[NDArray[np.void]] = []
        self.last_hash = NO_HASH
        self.footers: list[int] = []
        self.findings: list[Finding] = []
        self.torn: Finding | None = None
        self._follow_all()
        self.index: NDArray[np.void] = np.concatenate(
            [*self._parts, np.array(self._records, INDEX)]
        )

    def _follow_all(self) -> None:
        file = self._file
        end = self._follow(0)
        try:
            while (
                end < file.size
                and (good := next(file.whole_blocks(end + 1, file.size, self._budget), None))
                is not None
            ):
                self.findings.append(
                    file.damage(f"damaged; the next whole block is at byte {good}", end)
                )
                end = self._follow(good)
        except FormatError as error:
            self.findings.append(damage(error))
        if end < file.size:
            left = file.damage(f"the last {file.size - end} bytes are not a whole block", end)
            self.findings.append(left)
            if self._is_torn(end):
                self.torn = left

    def _follow(self, offset: int) -> int:
        """Take blocks from `offset` on; returns the offset of the first that is not whole."""
        while offset < self._file.size:
            frame = None
            try:
                frame = self._file.frame(offset)
                self._file.check(offset, frame)
            except FormatError:
                self._budget.spend(0 if frame is None else frame.length)
                break
            self._take(offset, frame)
            offset += FRAME.size + frame.length
        return offset

    def _take(self, offset: int, frame: Frame) -> None:
        self.last_hash = frame.hash
        if frame.kind == Kind.FOOTER:
            self.footers.append(offset)
        else:
            self._records.append(
                (
                    offset,
                    frame.time_min,
                    frame.time_max,
                    frame.rows,
                    frame.kind,
                    frame.family,
                    frame.stored_form,
                    0,
                )
            )
            if len(self._records) == _GATHERED:  # a tuple takes ten times what its record does
                self._parts.append(np.array(self._records, INDEX))
                self._records.clear()

    def _is_torn(self, offset: int) -> bool:
        """Whether the bytes from `offset` on are the beginning of the next block, or zeros, as file
        systems leave them after a power cut.
        """
        data: Buffer = self._file.pread(offset, FRAME.size)
        if len(data) < FRAME.size:
            return MAGIC.startswith(data[: len(MAGIC)]) or not any(data)
        try:
            frame = parse_frame(data)
        except FormatError:
            return not any(data)
        return (
            frame.previous == self.last_hash
            and offset + FRAME.size + frame.length > self._file.size
        )
