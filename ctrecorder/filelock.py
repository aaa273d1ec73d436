"""Locks that only the owner of a folder can take.

All locks of a folder are ranges of one file in it, `LOCK_FILE`, which nobody else can open (0600).
A lock on the segments themselves could be taken by everyone who may read them, and would keep the
recorder away.  The lock on a file is the range of its inode number.  The length of the range tells
what holds it, so that others can say it.

A lock belongs to an open file description (OFD, fcntl(2)): the end of the process releases it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import time
from enum import IntEnum
from pathlib import Path

from ctrecorder.folder import Folder

LOCK_FILE = ".ctrecorder.lock"
_MODE = 0o600
# Pause between two tries.
_PAUSE_SECONDS = 0.01
# struct flock: type, whence, start, length, pid (0 for OFD), padding.
_FLOCK = struct.Struct("hhqqi0q")
# Bytes of the range of one file, more than there are holders.
_STRIDE = 16
# Files of a kind that have no inode of their own come first.
_FIRST_INODE = 16
_MAX_INODE = 1 << 58
# Bytes of /proc/locks that are read: some 200,000 locks.
_MAX_LIST_BYTES = 16 << 20


class Holder(IntEnum):
    """What holds a lock: the length of its range in bytes."""

    OTHER = 0
    RECORDER = 1
    SQUEEZE = 2
    EXPIRE = 3
    LOG = 4
    DAEMON = 5
    KEY = 6
    SHIP = 7


class Purpose(IntEnum):
    """Locks of a folder that are on no file."""

    START = 0
    EXPIRE = 1
    UNSENT = 2
    KEY = 3
    SEALING = 4
    SHIP = 5


class Lock:
    """A lock that is held until it is released."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def is_in_place(self, folder: Folder) -> bool:
        """Whether others in `folder` see the lock: its file was not removed."""
        return folder.has(LOCK_FILE, os.fstat(self._descriptor))

    def release(self) -> None:
        """Release the lock.  It does not fail."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the disk is gone


def take(
    folder: Folder, what: Purpose | os.stat_result, holder: Holder, wait_seconds: float = 0.0
) -> Lock | None:
    """Take the lock on `what`, a file of `folder` or a purpose.

    None if another still holds it after `wait_seconds`.  Raises OSError if the lock file cannot be
    made or opened, or is not the owner's, or the file system has no locks.
    """
    descriptor = _open_own(folder)
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _start(what), holder, 0)
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
                taken, descriptor = Lock(descriptor), -1
                return taken
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline:
                    return None
                time.sleep(_PAUSE_SECONDS)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def holder_of(folder: Folder, what: Purpose | os.stat_result) -> Holder | None:
    """What holds the lock on `what`, a file of `folder` or a purpose; None: nothing does.

    Takes no lock.  Raises OSError if that cannot be found out.
    """
    try:
        descriptor = folder.open(LOCK_FILE)
    except FileNotFoundError:
        return None
    except PermissionError:
        return _listed_holder(folder, _start(what))
    try:
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _start(what), 1, 0)
        found = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request))
        if found[0] == fcntl.F_UNLCK:
            return None
        return _holder(found[2] == _start(what), found[3])
    finally:
        os.close(descriptor)


def has_exclusive_flock(descriptor: int) -> bool:
    """If another open file description of this file holds the exclusive lock of flock(2).

    False if that cannot be found out.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _start(what: Purpose | os.stat_result) -> int:
    """The first byte of the range of a lock."""
    if isinstance(what, Purpose):
        return what * _STRIDE
    return (what.st_ino % _MAX_INODE + _FIRST_INODE) * _STRIDE


def _holder(is_ours: bool, length: int) -> Holder:
    return Holder(length) if is_ours and 0 < length <= max(Holder) else Holder.OTHER


def _open_own(folder: Folder) -> int:
    """Open the lock file for taking locks, or make it.  Raises OSError."""
    try:
        return folder.create_own(LOCK_FILE, _MODE)
    except FileExistsError:
        descriptor = folder.open(LOCK_FILE, os.O_RDWR)
    try:
        status, user = os.fstat(descriptor), os.geteuid()
        owner = os.fstat(folder.descriptor).st_uid if user == 0 else user
        if status.st_nlink != 1:
            raise OSError(errno.EPERM, "has another name (a hard link): remove it")
        if status.st_uid != owner:
            raise OSError(errno.EPERM, f"belongs to uid {status.st_uid}: remove it")
        if stat.S_IMODE(status.st_mode) != _MODE:  # chmod -R; a backup
            os.fchmod(descriptor, _MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _listed_holder(folder: Folder, start: int) -> Holder | None:
    """`holder_of` for those who may not open the lock file: the kernel lists all locks."""
    descriptor = folder.open(LOCK_FILE, os.O_PATH)
    try:
        inode = re.escape(_identity(descriptor))
    finally:
        os.close(descriptor)
    with Path("/proc/locks").open("rb") as file:
        listed = file.read(_MAX_LIST_BYTES)
    for match in re.finditer(
        rf"OFDLCK +ADVISORY +WRITE +-?\d+ {inode} (\d+) (\d+|EOF)$".encode(), listed, re.MULTILINE
    ):
        first, last = int(match[1]), 1 << 62 if match[2] == b"EOF" else int(match[2])
        if first <= start <= last:
            return _holder(first == start, last - first + 1)
    if len(listed) == _MAX_LIST_BYTES:
        raise OSError(errno.EFBIG, "too many locks")
    return None


def _identity(descriptor: int) -> str:
    """Device and inode of an open file as /proc/locks has them.  Raises OSError.

    Not from stat(2): that tells another device for btrfs.
    """
    info = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii")
    facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    mount, inode = facts["mnt_id"].strip(), int(facts.get("ino") or os.fstat(descriptor).st_ino)
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        number, _, device = line.split(" ", 3)[:3]
        if number == mount:
            major, minor = device.split(":")
            return f"{int(major):02x}:{int(minor):02x}:{inode}"
    raise OSError(errno.ENOENT, "mount not found")
