"""A file for an answer: never over another file, and for its owner alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ctrecorder.errors import ArchiveError, UsageError, why
from ctrecorder.folder import Folder

_MODE = 0o600


def write_new(path: str, data: bytes) -> None:
    """Write `data` to the new file `path`, of mode 0600: all of it, or nothing.

    Raises UsageError if there is a file, ArchiveError if it cannot be written.
    """
    name = os.path.basename(path)
    if not name:
        raise UsageError(f"{path}: is a folder: name a file")
    with Folder.of(path) as folder:
        try:
            with _aside(folder, name) as descriptor:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
                folder.link(descriptor, name)
            folder.sync()
        except FileExistsError:
            raise UsageError(f"{path}: exists already, and is not overwritten") from None
        except OSError as error:
            raise ArchiveError(f"{path}: cannot be written: {why(error)}") from error


@contextlib.contextmanager
def _aside(folder: Folder, name: str) -> Iterator[int]:
    """The descriptor of a new hidden file, which is removed at the end."""
    aside = f".{name}.{os.getpid()}.new"
    descriptor = folder.create(aside, _MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        folder.remove(aside)
