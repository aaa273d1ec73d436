"""What other machines acknowledged of an archive: a file beside the segments, one line for each.

The file is JSON, one object a line, only appended; `rewrite` leaves out what is no longer needed.
A line that a crash cut, or that cannot be read, acknowledges nothing: the segment is sent again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass

from ctrecorder import filelock
from ctrecorder.errors import ArchiveError
from ctrecorder.filelock import Holder, Lock, Purpose
from ctrecorder.folder import Folder

SHIPPED = "ctship.shipped"
_MODE = 0o640
# A line has some 300 bytes.  90 days of hourly segments to ten targets are 6 MB.
_MAX_FILE, _MAX_LINE = 64 << 20, 1 << 12


@dataclass(frozen=True, slots=True)
class Shipment:
    """A segment that was sent to a target, or that it refused.

    `to`: the target.  `hash`: the last hash of the segment, in hex.  `name`: the file there.
    `path`: the name of the file here.  `time`: ns UTC.
    `how`: "checked" by cttest there, or "copied"; "" if it was refused, then `why` has the reason.
    """

    to: str
    hash: str
    name: str
    path: str
    bytes: int
    time: int
    how: str
    why: str = ""

    @property
    def is_acknowledged(self) -> bool:
        """If the target has the segment."""
        return bool(self.how)


@dataclass
class Acknowledged:
    """All shipments of an archive: the last one of each target and segment."""

    last: dict[tuple[str, str], Shipment]

    def has(self, target: str, hashes: tuple[str, ...]) -> bool:
        """If `target` acknowledged a segment with one of these last hashes."""
        found = (self.last.get((target, each)) for each in hashes)
        return any(one is not None and one.is_acknowledged for one in found)

    def of(self, target: str) -> list[Shipment]:
        """The shipments to `target`, in the order in which they were first noted."""
        return [one for (to, _), one in self.last.items() if to == target]


def take_lock(folder: Folder) -> Lock | None:
    """The lock of the ctship that works on an archive; None if another has it.

    Raises ArchiveError.
    """
    try:
        return filelock.take(folder, Purpose.SHIP, Holder.SHIP)
    except OSError as error:
        raise _failed(folder, "cannot be locked", error, filelock.LOCK_FILE) from error


def read(folder: Folder) -> Acknowledged:
    """What was acknowledged.  Raises ArchiveError if the file cannot be read."""
    found = Acknowledged({})
    try:
        descriptor = folder.open(SHIPPED)
    except FileNotFoundError:
        return found
    except OSError as error:
        raise _failed(folder, "cannot be read", error) from error
    if os.fstat(descriptor).st_size > _MAX_FILE:
        os.close(descriptor)
        path = os.path.join(folder.path, SHIPPED)
        raise ArchiveError(f"{path}: is not a file of ctship: move it away")
    with os.fdopen(descriptor, "rb") as file:
        try:
            for one in _lines(file.readline):
                found.last[one.to, one.hash] = one
        except OSError as error:
            raise _failed(folder, "cannot be read", error) from error
    return found


def missing(
    folder: Folder, targets: Collection[str] | None, segments: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The segments that not all `targets` have acknowledged: by path, those that have not.

    `targets`: None: that is no matter; empty: nothing counts as acknowledged, and the target is "".
    `segments`: the last hashes of each, by path.  Raises ArchiveError.
    """
    if targets is None:
        return {}
    known = read(folder)
    found = {
        path: tuple(each for each in targets or ("",) if not known.has(each, hashes))
        for path, hashes in segments.items()
    }
    return {path: wanted for path, wanted in found.items() if wanted}


def add(folder: Folder, *shipments: Shipment) -> None:
    """Note shipments, on the disk.  Raises ArchiveError."""
    data = b"".join(map(_line, shipments))
    try:
        descriptor = folder.open_own(SHIPPED, _MODE)
        try:
            size = os.fstat(descriptor).st_size
            # A line that a crash cut must not spoil the next one.
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write(descriptor, b"\n" * torn + data)
        finally:
            os.close(descriptor)
        folder.sync()
    except OSError as error:
        raise _failed(folder, "cannot be written", error) from error


def rewrite(folder: Folder, known: Acknowledged, wanted: Callable[[Shipment], bool]) -> None:
    """Keep only the `wanted` shipments, if that leaves out any.  Raises ArchiveError."""
    kept = {key: one for key, one in known.last.items() if wanted(one)}
    if len(kept) == len(known.last):
        return
    new = f".{SHIPPED}.new"
    try:
        folder.remove(new)
        descriptor = folder.create_own(new, _MODE)
        try:
            _write(descriptor, b"".join(map(_line, kept.values())))
        finally:
            os.close(descriptor)
        folder.rename(new, SHIPPED)
        folder.sync()
    except OSError as error:
        raise _failed(folder, "cannot be written", error) from error
    known.last = kept


def _lines(readline: Callable[[int], bytes]) -> Iterator[Shipment]:
    """The shipments of the lines that can be read."""
    kinds = {"bytes": int, "time": int}
    for line in iter(lambda: readline(_MAX_LINE), b""):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            one = Shipment(**json.loads(line))
            if all(type(value) is kinds.get(name, str) for name, value in asdict(one).items()):
                yield one


def _line(one: Shipment) -> bytes:
    # A reason can be long; a line that is too long would not be read.
    facts = asdict(one) | {"why": one.why[:500]}
    return json.dumps(facts, separators=(",", ":")).encode() + b"\n"


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _failed(folder: Folder, what: str, error: OSError, name: str = SHIPPED) -> ArchiveError:
    return ArchiveError(f"{os.path.join(folder.path, name)}: {what}: {error.strerror}")
