"""The ledger's file: only appended to, read line by line."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.folder import Folder, NotAFileError
from ctrecorder.sealing.state import SealError
from ctrecorder.seals.ledger import MAX_LINE_BYTES, NO_LINE, Json, Line, pack_line, parse_line

_MODE = 0o640
_TEXT = rb'"(?:[^"\\]|\\.)*"'
# The members of a line are in alphabetical order.
_RECORDED = re.compile(
    rb'"segment":(%s),"time":-?\d+,(?:"was":%s,)?"what":"(?:open|next|close)"}\t' % (_TEXT, _TEXT)
)
_REWRITTEN = re.compile(rb'"last_hash":"([0-9a-f]{32})"[^\n]*,"what":"(?:squeeze|repair)"}\t')
_BATCH, _MAX_HASHES = 1 << 11, 1 << 18


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


@dataclass(frozen=True)
class Names:
    """The segments in the lines of a ledger, of which no seal was checked.

    `begins`: the epoch of the first line.  `segments`: names of those that were recorded, as far as
    files in the folder have them.  `hashes`: last hashes of squeezed and repaired ones, hex.
    """

    begins: int
    segments: frozenset[str]
    hashes: frozenset[str]


def read_names(path: str) -> Names:
    """The names in the ledger at `path`.

    Lines are searched, not parsed: a ledger has some 50,000 in a year, and each answer needs the
    names.  Raises ArchiveError; FormatError if it is no regular file, or its first line is
    none.
    """
    try:
        with _opened(path) as file:
            first = parse_line(file.readline(MAX_LINE_BYTES))
            file.seek(0)
            here = set(os.listdir(os.path.dirname(path) or "."))
            segments: set[str] = set()
            hashes: set[str] = set()
            lines = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
            while data := b"".join(itertools.islice(lines, _BATCH)):
                segments |= here.intersection(map(_unquoted, set(_RECORDED.findall(data))))
                if len(hashes) < _MAX_HASHES:
                    hashes.update(one.decode("ascii") for one in _REWRITTEN.findall(data))
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error
    return Names(first.epoch, frozenset(segments), frozenset(hashes))


def _unquoted(text: bytes) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return ""


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The file, open for reading.  Raises OSError, ArchiveError; FormatError if it is no file."""
    with Folder.of(path) as folder:
        try:
            descriptor = folder.open(os.path.basename(path))
        except NotAFileError as error:
            raise FormatError("is not a file", path=path) from error
        with os.fdopen(descriptor, "rb") as file:
            yield file


def read_ledger(path: str) -> Iterator[tuple[int, Line | FormatError]]:
    """Each line of a ledger with its number from 1; FormatError for one that is none.

    An end without a newline is a line that a crash cut, or that is being written: it is left out.
    Raises ArchiveError; FormatError if it is no regular file.
    """
    try:
        with _opened(path) as file:
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
