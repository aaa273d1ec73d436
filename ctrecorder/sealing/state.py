"""The present key of a recording: a folder with the key and its lock, which only the owner can
open.

The key is never changed in place: the new one is written aside, synced and renamed over the old
one, whose bytes are then overwritten.  An interruption leaves either key.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from ctrecorder import filelock
from ctrecorder.errors import ArchiveError, GoneError
from ctrecorder.filelock import Holder, Lock, Purpose
from ctrecorder.folder import Folder
from ctrecorder.seals import keys

KEY, _NEW = "key", ".key.new"
_MODE = 0o600
_MAX_BYTES = 1 << 12
# The lock is held for some 10 ms, on a slow disk for seconds.
LOCK_SECONDS = 10.0


class SealError(ArchiveError):
    """The key cannot be used or moved on.  Nothing was sealed."""


class BusyKeyError(SealError):
    """Another process uses the key."""


class NoKeyError(SealError):
    """There is no key."""

    def __init__(self, path: str, why: str = "no key: make one with ctrecord --setup-seal") -> None:
        super().__init__(f"{path}: {why}")


@dataclass(frozen=True)
class PresentKey:
    """The key of an epoch.

    `id`: of the verification key.  `folder`: of the segments and the ledger; "" before its first
    use.  `begun`: when the epoch began, ns of CLOCK_BOOTTIME; 0: it is not known.
    """

    id: str
    epoch: int
    key: str
    folder: str = ""
    begun: int = 0

    @property
    def bytes(self) -> bytes:
        return bytes.fromhex(self.key)


class SealState:
    """The open folder `path` of a recording's key.  Raises SealError, NoKeyError."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._folder = Folder(path)
        except GoneError as error:
            raise NoKeyError(path) from error
        except ArchiveError as error:
            raise SealError(str(error)) from error

    def close(self) -> None:
        self._folder.close()

    @contextlib.contextmanager
    def locked(self, wait_seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Exclusive use of the key.  Raises SealError, BusyKeyError if it is not free in time."""
        lock = self._lock(Purpose.KEY, wait_seconds, "another process has kept the key too long")
        try:
            yield
        finally:
            lock.release()

    def claim(self) -> Lock:
        """The lock of the one recorder that seals with the key.

        Raises SealError, BusyKeyError if another recorder has it.
        """
        why = "another recorder seals with this key (see --seal-state)"
        return self._lock(Purpose.SEALING, 0, why)

    def _lock(self, purpose: Purpose, wait_seconds: float, why: str) -> Lock:
        try:
            lock = filelock.take(self._folder, purpose, Holder.KEY, wait_seconds)
        except OSError as error:
            raise self._error("cannot be locked", error) from error
        if lock is None:
            raise BusyKeyError(f"{self.path}: {why}")
        return lock

    def read(self) -> PresentKey:
        """The present key.  Raises SealError, NoKeyError."""
        try:
            descriptor = self._folder.open(KEY)
        except FileNotFoundError as error:
            raise NoKeyError(self.path) from error
        except OSError as error:
            raise self._error("the key cannot be read", error) from error
        try:
            status = os.fstat(descriptor)
            owners = (0, os.geteuid(), os.fstat(self._folder.descriptor).st_uid)
            if status.st_uid not in owners:
                raise SealError(f"{self.path}: the key is not a file of this user")
            if status.st_mode & 0o077:
                raise SealError(f"{self.path}: the key is not secret: others may open it")
            return self._parse(os.read(descriptor, _MAX_BYTES))
        except OSError as error:
            raise self._error("the key cannot be read", error) from error
        finally:
            os.close(descriptor)

    def _parse(self, data: bytes) -> PresentKey:
        try:
            found = json.loads(data)
            key = PresentKey(**{one.name: found[one.name] for one in fields(PresentKey)})
            types = {one.name: one.type for one in fields(PresentKey)}
            if any(type(getattr(key, name)).__name__ != kind for name, kind in types.items()):
                raise TypeError
            if len(key.bytes) != keys.KEY_BYTES or not 0 <= key.epoch < 1 << 32:
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise SealError(
                f"{self.path}: the key is damaged: nothing can be sealed with it; make another "
                "with ctrecord --setup-seal --replace-key"
            ) from error
        return key

    def write(self, key: PresentKey) -> None:
        """Put `key` in the place of the present one, and destroy that one.  Raises SealError."""
        folder, old = self._folder, -1
        try:
            folder.remove(_NEW)
            with contextlib.suppress(FileNotFoundError):
                old = folder.open(KEY, os.O_RDWR)
            descriptor = folder.create_own(_NEW, _MODE)
            try:
                os.write(descriptor, json.dumps(asdict(key)).encode("ascii") + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            folder.rename(_NEW, KEY)
            folder.sync()
            _wipe(old)
        except OSError as error:
            raise self._error("the key cannot be moved on", error) from error
        finally:
            if old >= 0:
                os.close(old)

    def _error(self, what: str, error: OSError) -> SealError:
        return SealError(f"{self.path}: {what}: {error.strerror}")


def _wipe(descriptor: int) -> None:
    """Overwrite a key that has no name any more.  On flash and on a disk that copies on writing the
    old bytes may stay until they are used again.  A file that has another name is somebody else's
    that was linked here.
    """
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_nlink:
            return
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        os.fdatasync(descriptor)
