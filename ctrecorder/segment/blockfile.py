"""The blocks of a file: read where one is said to be, followed one after the other, found again
behind damage.

All reading is by pread: a file that is cut short meanwhile gives a finding, not a signal.  What a
block's bytes contradict raises FormatError; its offset is from the block's first byte until
`BlockFile.placed` makes it the file's.
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
from ctrecorder.segment import files

# What one pread takes while blocks are followed or a magic is looked for: some hundreds of small
# blocks.
_WINDOW = 1 << 18
# What one pread takes where reading does not go on behind what was read last.
_GLANCE = 1 << 12
# What is longer is read by itself: reading on would take a window for each.
_LITTLE = 1 << 14
# Records that are gathered before they become an array.
_GATHERED = 1 << 12
# A stranger's file can be full of magics.  Looking for whole blocks hashes so many times the file's
# size at most, then gives up.
_HASH_FACTOR = 4


class BlockFile:
    """A file that is open for reading; `size` is what it held when it was opened.  Raises
    ArchiveError if it cannot be opened or read.

    `descriptor`: of the file, where that is open already; it is closed with this. `key`: of a
    sealed recording, b"" of others; None: sealed, but the key is not at hand, so that no hash can
    be checked.
    """

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        self.path = path
        self.key: bytes | None = b""
        self.descriptor = files.open_file(path) if descriptor is None else descriptor
        self.size = os.fstat(self.descriptor).st_size
        self._data, self._begin = memoryview(b""), 0

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

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
        """The same, where much of the file is read in little pieces from front to back."""
        at = offset - self._begin
        if not 0 <= at <= len(self._data) - length:
            ahead = _WINDOW if 0 < at <= len(self._data) else _GLANCE
            self._data, self._begin, at = (
                memoryview(self.pread(offset, max(ahead, length))),
                offset,
                0,
            )
            if len(self._data) < length:
                raise FormatError(
                    f"the file ends {length - len(self._data)} bytes too early", offset=0
                )
        return self._data[at : at + length]

    def frame(self, offset: int) -> Frame:
        """The frame of a block that is all in the file.  Raises FormatError."""
        frame = parse_frame(self.read_on(offset, FRAME.size))
        if offset + FRAME.size + frame.length > self.size:
            raise FormatError(
                f"a block of {FRAME.size + frame.length} bytes, of which {self.size - offset} are there",
                offset=0,
            )
        return frame

    def payload(self, offset: int, frame: Frame) -> memoryview:
        """The payload of the block at `offset`; of form COLUMNS only the index is held against the
        hash.  Raises FormatError.
        """
        data = self.read(offset, FRAME.size + frame.length)
        self.check_hash(data, data[FRAME.size : FRAME.size + self._hashed(offset, frame)])
        return data[FRAME.size :]

    def check(self, offset: int, frame: Frame) -> None:
        """Hold what the hash of the block at `offset` covers against it.  Raises FormatError."""
        length = FRAME.size + self._hashed(offset, frame)
        data = self.read(offset, length) if length > _LITTLE else self.read_on(offset, length)
        self.check_hash(data, data[FRAME.size :])

    def check_hash(self, frame: Buffer, part: Buffer) -> None:
        """`format.check_hash` with this file's key, as far as it is at hand."""
        if self.key is not None:
            check_hash(frame, part, self.key)

    def _hashed(self, offset: int, frame: Frame) -> int:
        """How much of the payload the frame's hash covers: all, or in form COLUMNS the index."""
        if frame.form != FORM_COLUMNS:
            return frame.length
        return index_head(self.read_on(offset + FRAME.size, HEAD.size), frame.length)[1]

    def whole_blocks(self, first: int, last: int) -> Iterator[int]:
        """Offsets in first..last-1 at which a block begins that matches its hash.

        Raises FormatError if there are too many that do not.
        """
        budget = _HASH_FACTOR * self.size
        for offset in self._magics(first, last):
            try:
                frame = self.frame(offset)
                budget -= self._hashed(offset, frame)
                if budget >= 0:
                    self.check(offset, frame)
            except FormatError:
                continue
            if budget < 0:
                raise self.wrong("too many false blocks: what follows is not searched", offset)
            yield offset

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


class Scan:
    """A segment's blocks, followed from the first; behind damage from the next whole one.

    `index`: INDEX records of the blocks that are there, without FOOTERs, whose offsets are
    `footers`; `last_hash` of the last block; `findings`; `torn`: the one that a crash leaves at the
    end.  No frame is believed that does not match its hash: damage leads nowhere, and hides
    nothing.  Payloads are not looked at otherwise.
    """

    def __init__(self, file: BlockFile) -> None:
        self._file = file
        self._records: list[tuple[int, ...]] = []
        self._parts: list[NDArray[np.void]] = []
        self.last_hash = NO_HASH
        self.footers: list[int] = []
        self.findings: list[FormatError] = []
        self.torn: FormatError | None = None
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
                and (good := next(file.whole_blocks(end + 1, file.size), None)) is not None
            ):
                self.findings.append(
                    file.wrong(f"damaged; the next whole block is at byte {good}", end)
                )
                end = self._follow(good)
        except FormatError as error:
            self.findings.append(error)
        if end < file.size:
            left = file.wrong(f"the last {file.size - end} bytes are no whole block", end)
            self.findings.append(left)
            if self._is_torn(end):
                self.torn = left

    def _follow(self, offset: int) -> int:
        """Take blocks from `offset` on; returns the offset of the first that is not whole."""
        while offset < self._file.size:
            try:
                frame = self._file.frame(offset)
                self._file.check(offset, frame)
            except FormatError:
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
                    frame.form,
                    0,
                )
            )
            if len(self._records) == _GATHERED:  # a tuple takes ten times what its record does
                self._parts.append(np.array(self._records, INDEX))
                self._records.clear()

    def _is_torn(self, offset: int) -> bool:
        """If the bytes from `offset` on are the beginning of the next block, or zeros, as file
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
