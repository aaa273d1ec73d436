"""Who replaces or removes a segment: one at a time, never a live one, and leaving word of what it
was.

Whoever replaces or removes a segment holds its lock, the same that a recorder holds while it
writes.  So ctsqueeze and ctexpire can run twice, at once, and beside recorders and readers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ctrecorder import filelock
from ctrecorder.ctlog.frame import NO_HASH, Json
from ctrecorder.errors import ArchiveError, GoneError
from ctrecorder.folder import Folder
from ctrecorder.segment.reader import Segment

# Readers that check whether a segment is live hold its lock for microseconds.
_LOCK_SECONDS = 0.2
_FIELDS = {"name": str, "last_hash": str, "rows": int, "bytes": int, "state": str, "program": str}
_ASIDE = re.compile(r"\.squeezing-([0-9]+)")


class BusyError(ArchiveError):
    """The segment is live, or another command is at work on it, or it has just been replaced."""


@dataclass(frozen=True)
class Held:
    """A segment whose lock is held: `name` in `folder`; its `descriptor` and `status`."""

    folder: Folder
    name: str
    descriptor: int
    status: os.stat_result

    def is_there(self) -> bool:
        """If the name is still that of this segment."""
        return self.folder.has(self.name, self.status)


@contextlib.contextmanager
def locked(path: str, opened: int, folder: Folder | None = None) -> Iterator[Held]:
    """Hold the lock of the segment `path`.

    `opened`: a descriptor of the file that it must be.  `folder`: the folder of `path`, if that is
    open already.  Raises BusyError or GoneError, or ArchiveError if it cannot be opened (a symlink
    too).
    """
    with contextlib.ExitStack() as stack:
        within = stack.enter_context(Folder.of(path)) if folder is None else folder
        name = os.path.basename(path)
        try:
            descriptor = within.open(name)
        except FileNotFoundError as error:
            raise GoneError(f"{path}: {error.strerror}") from error
        except OSError as error:
            why = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise ArchiveError(f"{path}: {why}") from error
        stack.callback(os.close, descriptor)
        held = Held(within, name, descriptor, os.fstat(descriptor))
        if not stat.S_ISREG(held.status.st_mode):
            raise ArchiveError(f"{path}: is not a file")
        _lock(descriptor, path)
        if not held.is_there() or not os.path.samestat(os.fstat(opened), held.status):
            raise BusyError(f"{path}: has just been replaced or removed")
        yield held


def _lock(descriptor: int, path: str) -> None:
    try:
        if filelock.lock(descriptor, _LOCK_SECONDS):
            return
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be locked: {error.strerror}") from error
    raise BusyError(f"{path}: is being recorded, or another command is at work on it")


def successor_path(path: str, status: os.stat_result) -> str:
    """Where the successor of the segment `path` is written: a hidden name beside it, which its lock
    makes ours alone.
    """
    return os.path.join(os.path.dirname(path), f".squeezing-{status.st_ino}")


def clear_leavings(path: str) -> None:
    """Remove what interrupted runs left in the folder `path`, as far as no segment is there that it
    could still belong to.

    Raises ArchiveError.
    """
    with Folder(path) as folder:
        try:
            with os.scandir(folder.descriptor) as entries:
                inodes = {entry.inode(): entry.name for entry in entries}
            for name in inodes.values():
                match = _ASIDE.fullmatch(name)
                if match and int(match[1]) not in inodes:
                    folder.unlink(name)
        except FileNotFoundError:
            pass  # another run was faster
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror}") from error


@dataclass(frozen=True)
class Replaced:
    """A segment whose successor this is, as the successor's header names it.

    `state`: "closed" or "crashed" (then its last bytes may have been no whole block).
    """

    name: str
    last_hash: str
    rows: int
    bytes: int
    state: str
    program: str

    def json(self) -> Json:
        return asdict(self)


def successor(old: Segment) -> list[Json]:
    """The `replaces` of the segment that takes the place of `old`.

    The entries of `old` with all their members, then one for `old` itself.
    """
    rows = int(old.index["rows"].sum())
    name, program = os.path.basename(old.path), str(old.header.get("program", ""))
    replaced = Replaced(name, old.last_hash.hex(), rows, old.size, old.state, program)
    return [*_replaces(old.header), replaced.json()]


def replaced_by(header: Json) -> list[Replaced]:
    """What the segment with this header replaces, the recorded one first; [] if it was recorded so.

    A chain may name any of their hashes, or the segment's own.  What is no such entry (a stranger's
    header) is left out.
    """
    return [Replaced(**{name: entry[name] for name in _FIELDS}) for entry in _replaces(header)]


def _replaces(header: Json) -> list[Json]:
    listed = header.get("replaces")
    return [entry for entry in listed if _is_whole(entry)] if isinstance(listed, list) else []


def _is_whole(entry: object) -> bool:
    return isinstance(entry, dict) and all(
        type(entry.get(name)) is kind for name, kind in _FIELDS.items()
    )


def hashes(segment: Segment) -> list[str]:
    """The last hashes, in hex, by which the next segment may name this one: its own, and those of
    what it replaces.
    """
    own = [segment.last_hash.hex()] if segment.last_hash != NO_HASH else []
    return own + [entry.last_hash for entry in replaced_by(segment.header)]
