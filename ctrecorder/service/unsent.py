"""Log entries that could not be sent: kept in memory, and beside the archive when a command ends.

The log is evidence: cttest --anchors compares a folder with it.  So entries that are evidence are
kept when the process ends, in the file UNSENT of the folder.  It has JSON lines, to which others
are appended until all are sent.  The next command that logs to the journal sends them with their
original time, and says that they were kept there: for who could write them, they prove nothing.

Both are bounded.  Entries that are not evidence are dropped first, the oldest first.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ctrecorder import filelock
from ctrecorder.errors import ArchiveError
from ctrecorder.filelock import Holder, Purpose
from ctrecorder.folder import Folder
from ctrecorder.service import messages
from ctrecorder.service.messages import Message
from ctrecorder.terminal import printable

# Beside the segments, of the owner of the folder, whom alone it concerns.
UNSENT = "ctrecorder.unsent"
_MODE = 0o600
# Entries in memory.  A recorder logs some 50 entries an hour, so this is most of a day; fewer would
# lose evidence of a night, more would cost a small router memory that events need.
MAX_ENTRIES, MAX_BYTES = 1000, 1 << 20
# Bytes of the file.  Each stop of a recorder adds what it kept: room for four that kept all.
MAX_FILE_BYTES = 4 << 20
_COMMANDS = frozenset({"ctrecord", "ctsqueeze", "ctexpire", "ctlist", "cttest", "ctwho"})
# Commands hold its lock for milliseconds.
_LOCK_SECONDS = 1.0


@dataclass(frozen=True)
class Entry:
    """A log entry.

    `command`: that made it.  `fields`: by their names in `kind`.  `time`: when, ns UTC.
    `stored`: it was in the file meanwhile, so that the owner of the folder could have written it.
    """

    kind: Message
    command: str
    text: str
    fields: dict[str, str]
    time: int
    stored: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return 400 + len(self.text) + sum(map(len, self.fields.values()))

    @property
    def late_text(self) -> str:
        """The text of an entry that is sent later, with its time."""
        kept = f", kept in {UNSENT}" if self.stored else ""
        return f"{self.text} (at {self.time_text}{kept})"

    @property
    def time_text(self) -> str:
        """The time, RFC 3339 with 9 decimals."""
        seconds, rest = divmod(self.time, 10**9)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"

    def to_line(self) -> bytes:
        """The entry as a line of the file."""
        facts = {
            "command": self.command,
            "fields": self.fields,
            "id": self.kind.id,
            "text": self.text,
            "time": self.time,
        }
        return json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Entry | None:
        """The stored entry of a line; None if it is damaged, or not one that a command would store.

        The file belongs to the recorder's user and may be sent by root: only entries of this
        suite pass.
        """
        try:
            facts = json.loads(line)
            identity, fields = facts["id"], facts["fields"]
            command, text, time = facts["command"], facts["text"], facts["time"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        # Of wrong types, a set and a dict would raise.
        if not all(isinstance(one, str) for one in (identity, command, text)):
            return None
        kind = _evidence().get(identity)
        if kind is None or command not in _COMMANDS or not isinstance(fields, dict):
            return None
        # Years 1970 to 2261: what the format of the log has.
        if type(time) is not int or not 0 <= time < 1 << 63:
            return None
        if not all(
            name in kind.fields and isinstance(value, str) for name, value in fields.items()
        ):
            return None
        return cls(kind, command, printable(text), fields, time, stored=True)


def _evidence() -> dict[str, Message]:
    return {kind.id: kind for kind in messages.kinds().values() if kind.evidence}


class Backlog:
    """Entries in memory that wait, in their order.

    `dropped`: entries that did not fit, since `dropped` was last set to 0.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def evidence(self) -> list[Entry]:
        """The entries that are evidence."""
        return [entry for entry in self._entries if entry.kind.evidence]

    def add(self, entry: Entry) -> None:
        """Append an entry; drop others if there are too many."""
        self._entries.append(entry)
        self._bytes += entry.size
        while len(self._entries) > MAX_ENTRIES or self._bytes > MAX_BYTES:
            given_up = next((one for one in self._entries if not one.kind.evidence), None)
            given_up = given_up or self._entries[0]
            self._entries.remove(given_up)
            self._bytes -= given_up.size
            self.dropped += 1

    def send(self, send: Callable[[Entry], bool]) -> None:
        """Send entries with `send`, the oldest first, until one is not taken."""
        while self._entries and send(self._entries[0]):
            self._bytes -= self._entries.popleft().size


def store(path: str, entries: list[Entry]) -> int:
    """Append entries to the file in the folder `path` and sync it.

    Returns how many fitted.  Raises OSError, ArchiveError.
    """
    with Folder(path) as folder, _locked(folder) as descriptor:
        size = os.fstat(descriptor).st_size
        # A line that a crash cut must not spoil this one.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data, count = b"\n" * torn, 0
        for entry in entries:
            line = entry.to_line()
            if size + len(data) + len(line) > MAX_FILE_BYTES:
                break
            data, count = data + line, count + 1
        _append(descriptor, data)
        os.fsync(descriptor)
        folder.sync()
    return count


def deliver(path: str, send: Callable[[Entry], bool]) -> tuple[int, int]:
    """Send the entries of the file in the folder `path`, and remove it when all were taken.

    Returns how many remain, -1 if this user may not change the file, or if another command works on
    it; and how many lines were dropped, because no command stored them.  Never waits.

    Root leaves what another user stored to that user: as root's, the entries would prove more than
    that user can.
    """
    try:
        with Folder(path) as folder:
            if not _exists(folder):
                return 0, 0
            if os.geteuid() == 0 and os.fstat(folder.descriptor).st_uid != 0:
                return -1, 0
            with _locked(folder, 0.0) as descriptor:
                return _deliver(folder, descriptor, send)
    except (OSError, ArchiveError):
        return -1, 0


def _deliver(folder: Folder, descriptor: int, send: Callable[[Entry], bool]) -> tuple[int, int]:
    lines = [line for line in os.pread(descriptor, MAX_FILE_BYTES, 0).split(b"\n") if line]
    entries = [entry for line in lines if (entry := Entry.parse(line)) is not None]
    sent = 0
    while sent < len(entries) and send(entries[sent]):
        sent += 1
    if sent == len(entries):
        folder.unlink(UNSENT)
    elif sent:
        # After an interruption here, the next command sends some entries again: that is harmless.
        new = f".{UNSENT}.new"
        folder.remove(new)
        rest = folder.create_own(new, _MODE)
        try:
            _append(rest, b"".join(entry.to_line() for entry in entries[sent:]))
            os.fsync(rest)
        finally:
            os.close(rest)
        folder.rename(new, UNSENT)
    else:
        return len(entries), 0
    folder.sync()
    return len(entries) - sent, len(lines) - len(entries)


def _exists(folder: Folder) -> bool:
    try:
        os.stat(UNSENT, dir_fd=folder.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _locked(folder: Folder, wait_seconds: float = _LOCK_SECONDS) -> Iterator[int]:
    """The file, made if it is missing, for this process alone: its descriptor.  Raises OSError."""
    lock = filelock.take(folder, Purpose.UNSENT, Holder.LOG, wait_seconds)
    if lock is None:
        raise TimeoutError(f"{UNSENT} is locked")
    try:
        descriptor = folder.open_own(UNSENT, _MODE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    finally:
        lock.release()


def _append(descriptor: int, data: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_END)
    while data:
        data = data[os.write(descriptor, data) :]
