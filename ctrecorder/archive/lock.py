"""Exclusive access to a segment while it is replaced or deleted.

The lock is the one that a recorder holds while it writes (`filelock`).  So ctsqueeze and ctexpire
can run twice, at the same time, and beside recorders and readers.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctrecorder import filelock
from ctrecorder.errors import ArchiveError, GoneError
from ctrecorder.filelock import Holder, Lock
from ctrecorder.folder import Folder
from ctrecorder.segment.recording import Recording

_SUCCESSOR = re.compile(r"\.squeezing-([0-9]+)")


class BusyError(ArchiveError):
    """Another command works on the segment, or something else keeps it."""


class PassedError(BusyError):
    """The segment is passed over, and that is no failure.

    It is live, another run of the same command works on it, or it has just been replaced.
    """


_HOLDERS = {
    Holder.RECORDER: "is being recorded",
    Holder.SQUEEZE: "ctsqueeze works on it",
    Holder.EXPIRE: "ctexpire works on it",
}


@dataclass(frozen=True)
class Held:
    """A segment whose lock is held: `name` in `folder`; its `descriptor` and `status`."""

    folder: Folder
    name: str
    descriptor: int
    status: os.stat_result

    def is_there(self) -> bool:
        """Whether the name is still that of this segment."""
        return self.folder.has(self.name, self.status)


def refuse_live(segment: Recording) -> None:
    """Raise PassedError if a recorder writes the segment, BusyError if one may write it."""
    if segment.state == "live":
        raise PassedError(f"{segment.path}: is being recorded")
    if segment.state == "unclosed":
        raise BusyError(
            f"{segment.path}: is not closed, and this user cannot find out whether a recorder "
            "writes it: its owner can"
        )


@contextlib.contextmanager
def locked(path: str, opened: int, holder: Holder, folder: Folder | None = None) -> Iterator[Held]:
    """Hold the lock of the segment `path`.

    `opened`: a descriptor of the file that must have this path.
    `holder`: the command that takes the lock.
    `folder`: the folder of `path`, if it is open already.

    Raises BusyError or GoneError, or ArchiveError if it cannot be opened (a symlink neither).
    """
    with contextlib.ExitStack() as stack:
        within = stack.enter_context(Folder.of(path)) if folder is None else folder
        name = os.path.basename(path)
        try:
            descriptor = within.open(name)
        except FileNotFoundError as error:
            raise GoneError(f"{path}: {error.strerror}") from error
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        held = Held(within, name, descriptor, os.fstat(descriptor))
        stack.callback(_lock(held, path, holder).release)
        if not held.is_there() or not os.path.samestat(os.fstat(opened), held.status):
            raise PassedError(f"{path}: has just been replaced or removed")
        yield held


def _lock(held: Held, path: str, holder: Holder) -> Lock:
    file = os.path.join(held.folder.path, filelock.LOCK_FILE)
    try:
        lock = filelock.take(held.folder, held.status, holder)
        other = filelock.holder_of(held.folder, held.status) or holder
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be locked: {file}: {error.strerror}") from error
    if lock is not None:
        return lock
    if other in (Holder.RECORDER, holder):
        raise PassedError(f"{path}: {_HOLDERS[other]}")
    raise BusyError(f"{path}: is busy: {_HOLDERS.get(other, f'a program has locked {file}')}")


def successor_path(path: str, status: os.stat_result) -> str:
    """Where the successor of the segment `path` is written: a hidden name beside it.

    Only the holder of the segment's lock may use it.
    """
    return os.path.join(os.path.dirname(path), f".squeezing-{status.st_ino}")


def clear_leavings(path: str) -> None:
    """Delete files that interrupted runs left in the folder `path`, unless their segment is still
    there.  Raises ArchiveError.
    """
    with Folder(path) as folder:
        try:
            with os.scandir(folder.descriptor) as entries:
                inodes = {entry.inode(): entry.name for entry in entries}
            for name in inodes.values():
                match = _SUCCESSOR.fullmatch(name)
                if match and int(match[1]) not in inodes:
                    folder.unlink(name)
        except FileNotFoundError:
            pass  # another run was faster
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror}") from error
