"""--state: which letters were answered, so that a mailbox can be read again and again.

A line of JSON for each letter.  A letter is known by its Message-ID and its hash together: a
Message-ID alone is what a stranger writes.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from types import TracebackType
from typing import Self

from ctrecorder.errors import ArchiveError, UsageError, why
from ctrecorder.letters.sighting import Letter

_MODE = 0o600
# A letter has 200 bytes: a longer file is not ours.
_MAX_BYTES = 256 << 20


class State:
    """The open state file `path`, locked; it is made if it is missing."""

    def __init__(self, path: str) -> None:
        """Raises UsageError, ArchiveError."""
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._descriptor = os.open(path, flags, _MODE)
        except OSError as error:
            raise ArchiveError(f"{path}: cannot be opened: {why(error)}") from error
        try:
            self._known = self._read()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def has(self, letter: Letter) -> bool:
        """If the letter was answered."""
        return _key(letter) in self._known

    def add(self, letter: Letter, verdicts: list[str]) -> None:
        """Note that the letter was answered, and have it on the disk.  Raises ArchiveError."""
        self._known.add(_key(letter))
        facts = {
            "message_id": letter.message_id,
            "sha256": letter.sha256,
            "file": letter.file,
            "verdicts": verdicts,
        }
        try:
            self._write(json.dumps(facts).encode() + b"\n")
            os.fsync(self._descriptor)
        except OSError as error:
            raise ArchiveError(f"{self._path}: cannot be written: {why(error)}") from error

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _read(self) -> set[tuple[str, str]]:
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{self._path}: is no file")
            if status.st_nlink != 1 or status.st_uid not in (0, os.geteuid()):
                raise UsageError(f"{self._path}: is a file of somebody else: choose another")
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if status.st_size > _MAX_BYTES:
                raise UsageError(f"{self._path}: is longer than any state of ctwho")
            data = os.pread(self._descriptor, status.st_size, 0)
            if data and not data.endswith(b"\n"):  # a line that a crash cut spoils no other
                self._write(b"\n")
        except BlockingIOError:
            raise UsageError(f"{self._path}: another ctwho works with it") from None
        except OSError as error:
            raise ArchiveError(f"{self._path}: cannot be read: {why(error)}") from error
        known = set()
        for number, line in enumerate(data.splitlines(), 1):
            try:
                facts = json.loads(line)
                known.add((str(facts["message_id"]), str(facts["sha256"])))
            except (ValueError, TypeError, KeyError, RecursionError):
                if number == 1:
                    raise UsageError(f"{self._path}: is no state of ctwho") from None
        return known


def _key(letter: Letter) -> tuple[str, str]:
    return letter.message_id, letter.sha256
