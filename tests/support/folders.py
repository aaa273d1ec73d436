"""What is in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctrecorder import filelock
from ctrecorder.filelock import LOCK_FILE, Holder
from ctrecorder.folder import Folder


def names(folder: Path | str) -> list[str]:
    """The names in it, sorted, without the file that commands lock."""
    return sorted(name for name in os.listdir(folder) if name != LOCK_FILE)


def paths(folder: Path) -> list[Path]:
    """The paths of `names`."""
    return [folder / name for name in names(folder)]


@contextmanager
def locked(path: Path | str, holder: Holder) -> Iterator[None]:
    """With the lock of the file `path`, as a recorder or a command holds it."""
    with Folder.of(str(path)) as folder:
        lock = filelock.take(folder, os.stat(path), holder)
        assert lock is not None
        try:
            yield
        finally:
            lock.release()
