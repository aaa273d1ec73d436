"""The ledger's file: only appended to, read line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.folder import Folder
from ctrecorder.sealing.state import SealError
from ctrecorder.seals.ledger import MAX_LINE_BYTES, NO_LINE, Json, Line, pack_line, parse_line

_MODE = 0o640


class LedgerFile:
    """The ledger `name` in `folder`, open for appending.

    `last`: its last line; None if it has none.
    """

    def __init__(self, folder: str, name: str) -> None:
        """Open it, or make it.  A line that a crash cut is taken away.  Raises SealError."""
        self.path = os.path.join(folder, name)
        self.descriptor = -1
        try:
            with Folder(folder) as opened:
                self.descriptor = opened.open_own(name, _MODE)
                self.last = self._read_last()
                if self.last is None:
                    opened.sync()
        except OSError as error:
            self.close()
            raise self._error(error) from error
        except ArchiveError as error:
            raise SealError(str(error)) from error
        except FormatError as error:
            self.close()
            raise SealError(
                f"{self.path}: the last line {error.reason}: move the file aside to go on with "
                "a new one"
            ) from error

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _read_last(self) -> Line | None:
        size = os.fstat(self.descriptor).st_size
        first = max(size - 2 * MAX_LINE_BYTES, 0)
        data = os.pread(self.descriptor, size - first, first)
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            if first and not whole:
                raise FormatError("is too long", offset=0)
            os.ftruncate(self.descriptor, first + len(whole))
        last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        return parse_line(last) if last else None

    def append(self, key: bytes, epoch: int, time_ns: int, what: str, facts: Json) -> Line:
        """Append a line and sync it.  Raises SealError; then the file is as it was."""
        previous = self.last.hash if self.last else NO_LINE
        size = -1
        try:
            line = pack_line(key, epoch, time_ns, what, previous, facts)
            size = os.fstat(self.descriptor).st_size
            _write_all(self.descriptor, line, size)
            os.fdatasync(self.descriptor)
        except OSError as error:
            if size >= 0:
                _cut(self.descriptor, size)
            raise self._error(error) from error
        except FormatError as error:
            raise SealError(f"{self.path}: {error.reason}") from error
        self.last = parse_line(line)
        return self.last

    def _error(self, error: OSError) -> SealError:
        return SealError(f"{self.path}: cannot be written: {error.strerror}")


def read_ledger(path: str) -> Iterator[tuple[int, Line | FormatError]]:
    """Each line of a ledger with its number from 1; FormatError for one that is none.

    An end without a newline is a line that a crash cut, or that is being written: it is left out.
    Raises ArchiveError.
    """
    try:
        with (
            Folder.of(path) as folder,
            os.fdopen(folder.open(os.path.basename(path)), "rb") as file,
        ):
            number = 0
            while data := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(data) == MAX_LINE_BYTES and not data.endswith(b"\n"):
                    yield number, FormatError("is too long", path=path)
                    return
                if not data.endswith(b"\n"):
                    return
                try:
                    yield number, parse_line(data)
                except FormatError as error:
                    yield number, error
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _cut(descriptor: int, size: int) -> None:
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        pass
