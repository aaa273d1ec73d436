"""The file of a segment: created, locked, opened.

A folder is opened once, and files in it by its descriptor: a folder or link that is exchanged
meanwhile cannot lead elsewhere.
"""

from __future__ import annotations

import errno
import os

from ctrecorder import filelock
from ctrecorder.errors import ArchiveError, GoneError, why
from ctrecorder.filelock import Holder, Lock
from ctrecorder.folder import Folder
from ctrecorder.folder import open_file as open_regular

# The owner writes, the group reads.
MODE = 0o640
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL


class ExistsError(ArchiveError):
    """The name of the new segment is taken."""


def first_free(path: str, but: str = "") -> str:
    """`path`, or, while that name is taken or is that of the path `but`, with -1, -2, ... before
    its suffix.
    """
    stem, suffix = os.path.splitext(path)
    candidate, number = path, 0
    while os.path.lexists(candidate) or os.path.basename(candidate) == os.path.basename(but):
        number += 1
        candidate = f"{stem}-{number}{suffix}"
    return candidate


def create(
    path: str,
    mode: int = MODE,
    *,
    folder: Folder | None = None,
    owner: os.stat_result | None = None,
) -> tuple[int, Folder]:
    """Create the file `path`, which must not exist; returns its descriptor and its folder, both to
    be closed.

    `folder`: the folder of `path`, if it is open already; it stays open.
    `owner`: status of a file whose owner and group the new file gets; None: those of the caller,
    and the umask limits `mode`.

    Raises ExistsError if there is such a file, otherwise ArchiveError.
    """
    name = os.path.basename(path)
    try:
        folder = Folder.of(path) if folder is None else Folder(".", within=folder)
    except ArchiveError as error:
        raise ArchiveError(f"{error}: make the folder, or choose another with -f") from error
    try:
        if owner is None:
            descriptor = folder.open(name, _CREATE, mode)
        else:
            descriptor = folder.create(name, mode, owner)
    except OSError as error:
        folder.close()
        if error.errno in (errno.EEXIST, errno.ELOOP):
            raise ExistsError(f"{path}: exists already, and is never overwritten") from error
        whose = "" if owner is None else " for the owner of the old segment"
        raise ArchiveError(f"{path}: cannot be made{whose}: {why(error)}") from error
    return descriptor, folder


def lock(descriptor: int, folder: Folder) -> Lock | None:
    """Take a recorder's lock on the open file `descriptor` of `folder`; None if that is impossible.

    Recording goes on without it: `live` tells readers too.
    """
    try:
        return filelock.take(folder, os.fstat(descriptor), Holder.RECORDER)
    except OSError:
        return None


def open_file(path: str, folder: int | None = None) -> int:
    """A descriptor for reading the regular file `path`, also by a link.

    Raises GoneError if there is no such file, otherwise ArchiveError.
    """
    try:
        return open_regular(path, within=folder, follow=True)
    except FileNotFoundError as error:
        raise GoneError(f"{path}: {why(error)}") from error
    except OSError as error:
        raise ArchiveError(f"{path}: {why(error)}") from error


def settle(path: str) -> None:
    """Sync a file that a recorder may have left unsynced when it died.

    What was read of it stays true after a power cut: a file that cannot be synced is read again
    from the disk.  A file that cannot be opened is left to who reads it.
    """
    try:
        descriptor = open_file(path)
    except ArchiveError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
