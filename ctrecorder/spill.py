"""Arrays in unnamed temporary files: what does not fit in memory.

They are in the folder TMPDIR, else in /var/tmp, which is on a disk; /tmp is often in memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

from ctrecorder.columns import Array
from ctrecorder.errors import ArchiveError

_ON_DISK = "/var/tmp"


def folder() -> str:
    """The folder of temporary files."""
    if not os.environ.get("TMPDIR") and os.access(_ON_DISK, os.W_OK):
        return _ON_DISK
    return tempfile.gettempdir()


def temporary_file() -> IO[bytes]:
    """A file without a name.  Raises OSError."""
    return tempfile.TemporaryFile(prefix="ctrecorder-", dir=folder())


def full(error: OSError) -> ArchiveError:
    """The error for a temporary file that cannot be written."""
    return ArchiveError(
        f"{folder()}: no temporary file can be written there: {error.strerror}; "
        "set TMPDIR to a folder with more room, or query a shorter time"
    )


class Piece:
    """Arrays of one length in a file, one after the other."""

    def __init__(self, columns: Mapping[str, Array], file: IO[bytes]) -> None:
        """Write `columns` to the end of `file`.  Raises OSError."""
        self._file, self._offset = file, file.seek(0, os.SEEK_END)
        self._columns = [(name, array.dtype, len(array)) for name, array in columns.items()]
        file.writelines(np.ascontiguousarray(array).tobytes() for array in columns.values())

    def load(self) -> dict[str, Array]:
        """The arrays.  Raises ArchiveError if the file was truncated."""
        self._file.seek(self._offset)
        columns: dict[str, Array] = {}
        for name, dtype, rows in self._columns:
            data = self._file.read(rows * dtype.itemsize)
            if len(data) < rows * dtype.itemsize:
                raise ArchiveError(f"{folder()}: a temporary file was truncated")
            columns[name] = np.frombuffer(data, dtype)
        return columns


class Store:
    """A temporary file of pieces.  Raises ArchiveError if it cannot be written."""

    def __init__(self) -> None:
        try:
            self._file = temporary_file()
        except OSError as error:
            raise full(error) from error
        self._pieces: list[Piece] = []

    def __del__(self) -> None:
        """A question that ends early reads no more of it."""
        if hasattr(self, "_file"):
            self.close()

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write arrays of one length to the end."""
        try:
            self._pieces.append(Piece(columns, self._file))
            self._file.flush()
        except OSError as error:
            raise full(error) from error

    def read(self) -> Iterator[dict[str, Array]]:
        """All that was written, in order."""
        for piece in self._pieces:
            yield piece.load()

    def close(self) -> None:
        """Delete the file."""
        try:
            self._file.close()
        except OSError:
            pass  # what could not be written is not needed any more
