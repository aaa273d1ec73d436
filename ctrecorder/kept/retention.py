"""Two small files in an archive: holds, which protect segments from ctexpire, and receipts for
deleted segments.

Both are JSON.  Holds: one object, replaced as a whole.  Receipts: one object a line, only appended.
A holds file that cannot be read stops expiry; a receipt that cannot be read is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from ctrecorder import filelock
from ctrecorder.ctlog.frame import Json
from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.filelock import Holder, Purpose
from ctrecorder.folder import Folder
from ctrecorder.seals.ledger import line_hash

HOLDS = "ctexpire.holds"
RECEIPTS = "ctexpire.receipts"
_MODE = 0o640
# Bytes of the two files, and of a line.  A hold has 200 bytes, a receipt 400: longer ones are not
# ours.
_MAX_HOLDS, _MAX_RECEIPTS, _MAX_LINE = 1 << 20, 256 << 20, 1 << 16
# Deleting from a large archive takes minutes.  A ctexpire that was stopped must not stop all others
# for ever.
_LOCK_SECONDS = 600.0


Entry = TypeVar("Entry", "Hold", "Receipt")


@dataclass(frozen=True)
class Hold:
    """Segments that overlap `since` to `until` (ns UTC, exclusive) are not deleted.

    `set`: when the hold was set, ns UTC; `login`: who set it.
    """

    id: int
    since: int
    until: int
    reason: str
    set: int
    login: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """A segment that was deleted.

    `hashes`: its last hash, and those of the segments that it had replaced.
    `since`, `until`, `deleted`: ns UTC.
    """

    name: str
    since: int
    until: int
    rows: int
    bytes: int
    hashes: list[str]
    previous: str
    previous_hash: str
    deleted: int
    reason: str


@contextlib.contextmanager
def exclusive(path: str, on_wait: Callable[[str], None] | None = None) -> Iterator[Folder]:
    """Exclusive access to the archive `path` among ctexpire commands; waits for them.

    `on_wait`: is called with a line if it has to wait.  Raises ArchiveError if the folder cannot be
    opened or locked, or another ctexpire does not end.
    """
    with Folder(path) as folder:
        try:
            lock = filelock.take(folder, Purpose.EXPIRE, Holder.EXPIRE)
            if lock is None:
                if on_wait is not None:
                    on_wait(f"{path}: another ctexpire works here: waiting for it")
                lock = filelock.take(folder, Purpose.EXPIRE, Holder.EXPIRE, _LOCK_SECONDS)
        except OSError as error:
            file = _path(folder, filelock.LOCK_FILE)
            raise ArchiveError(f"{file}: cannot be locked: {error.strerror}") from error
        if lock is None:
            raise ArchiveError(f"{path}: another ctexpire is still at work after 10 minutes")
        try:
            yield folder
        finally:
            lock.release()


def holds(folder: Folder) -> list[Hold]:
    """The holds of the archive, by id.  Raises ArchiveError if their file cannot be read whole."""
    data = _read(folder, HOLDS, _MAX_HOLDS)
    if data is None:
        return []
    try:
        listed = json.loads(data)["holds"]
        return [_typed(Hold, entry) for entry in listed]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ArchiveError(
            f"{_path(folder, HOLDS)}: is damaged: "
            "nothing is deleted until it is repaired or removed"
        ) from None


def add_hold(folder: Folder, since: int, until: int, reason: str, now: int, login: str) -> Hold:
    """Set a hold.  Raises ArchiveError.  To be called within `exclusive`."""
    known = holds(folder)
    hold = Hold(max((one.id for one in known), default=0) + 1, since, until, reason, now, login)
    _write_holds(folder, [*known, hold])
    return hold


def release_hold(folder: Folder, number: int) -> Hold:
    """Delete a hold.  To be called within `exclusive`.

    Raises UsageError if there is none with this number.
    """
    known = holds(folder)
    released = [hold for hold in known if hold.id == number]
    if not released:
        raise UsageError(f"no hold {number} in {folder.path}: ctexpire --holds lists them")
    _write_holds(folder, [hold for hold in known if hold.id != number])
    return released[0]


def receipts(folder: Folder, most: int | None = None) -> list[Receipt]:
    """The receipts of the archive, in the order of deletion; the last ones if there are more than
    `most`.

    Raises ArchiveError if their file cannot be read.
    """
    return list(deque((receipt for receipt, _ in receipt_lines(folder)), most))


def receipt_lines(folder: Folder) -> Iterator[tuple[Receipt, str]]:
    """As `receipts`, one by one, each with the hash by which a ledger names it."""
    path = _path(folder, RECEIPTS)
    try:
        descriptor = folder.open(RECEIPTS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ArchiveError(f"{path}: is not a file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > _MAX_RECEIPTS:
            raise _too_long(path, _MAX_RECEIPTS)
        try:
            for line in iter(lambda: file.readline(_MAX_LINE), b""):
                data = line.removesuffix(b"\n")
                with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                    yield _typed(Receipt, json.loads(data)), line_hash(data)
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror}") from error


def hold_hash(hold: Hold) -> str:
    """The hash by which a ledger names a hold."""
    return line_hash(_json(asdict(hold)))


def add_receipt(folder: Folder, receipt: Receipt) -> None:
    """Append a receipt and sync it to the disk.  Raises ArchiveError."""
    try:
        descriptor = folder.open_own(RECEIPTS, _MODE)
        try:
            size = os.fstat(descriptor).st_size
            # A line that a crash cut must not spoil this one.
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write(descriptor, b"\n" * torn + _json(asdict(receipt)) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder.sync()
    except OSError as error:
        raise ArchiveError(
            f"{_path(folder, RECEIPTS)}: cannot be written, so nothing is deleted: {error.strerror}"
        ) from error


def _write_holds(folder: Folder, kept: list[Hold]) -> None:
    new = f".{HOLDS}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            folder.unlink(new)
        descriptor = folder.create_own(new, _MODE)
        try:
            _write(descriptor, _json({"holds": [asdict(hold) for hold in kept]}) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder.rename(new, HOLDS)
        folder.sync()
    except OSError as error:
        raise ArchiveError(
            f"{_path(folder, HOLDS)}: cannot be written: {error.strerror}"
        ) from error


def _path(folder: Folder, name: str) -> str:
    return os.path.join(folder.path, name)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read(folder: Folder, name: str, most: int) -> bytes | None:
    """The contents of the file `name`; None if there is none.  Raises ArchiveError."""
    try:
        descriptor = folder.open(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArchiveError(f"{_path(folder, name)}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ArchiveError(f"{_path(folder, name)}: {error.strerror}") from error
    if len(data) > most:
        raise _too_long(_path(folder, name), most)
    return data


def _too_long(path: str, most: int) -> ArchiveError:
    return ArchiveError(f"{path}: is longer than {most} bytes: not a file of ctexpire")


def _json(facts: Json) -> bytes:
    return json.dumps(facts, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")


def _typed(kind: type[Entry], entry: Json) -> Entry:
    """The entry as a `kind`.  Raises TypeError or KeyError if a field is wrong or missing."""
    types = {"int": int, "str": str, "list[str]": list}
    values: dict[str, Any] = {}
    for field in fields(kind):
        value = entry[field.name]
        if type(value) is not types[str(field.type)]:
            raise TypeError(field.name)
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise TypeError(field.name)
        values[field.name] = value
    return kind(**values)
