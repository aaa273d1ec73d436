"""ctexpire: whole segments go, oldest first, when they must and not before; each leaves a receipt.

What goes is chosen by the latest time of each segment.  Never a live one, one under a hold, one
that another command is at work on, or a file that is no segment.  The receipt is on the disk before
the segment goes: after an interruption the next run goes on there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from ctrecorder import times
from ctrecorder.archive import chain, find, lock, retention
from ctrecorder.archive.lock import BusyError, Held
from ctrecorder.archive.open import open_segment
from ctrecorder.archive.retention import Hold, Receipt
from ctrecorder.errors import ArchiveError, CtrecorderError, ExitCode, GoneError
from ctrecorder.folder import Folder
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.terminal import count, printable

SECOND = times.SECOND


@dataclass(frozen=True)
class Limits:
    """None: no such limit.

    `max_age`: seconds; `max_size`: bytes; `min_free`: bytes, or (a float below 1) a share of the
    file system.
    """

    max_age: int | None = None
    max_size: int | None = None
    min_free: int | float | None = None


@dataclass(frozen=True)
class ExpiryCandidate:
    """A segment as it was found.

    `since`, `until`: ns UTC; `bytes` of the file, `blocks_bytes` on the disk.
    """

    path: str
    live: bool
    since: int
    until: int
    bytes: int
    blocks_bytes: int

    def held_by(self, holds: list[Hold]) -> Hold | None:
        """The first hold that keeps it."""
        return next(
            (hold for hold in holds if self.since <= hold.until and hold.since <= self.until), None
        )


@dataclass
class Expiry:
    """One run over the archive `folder`, at `now` (ns UTC)."""

    folder: str
    limits: Limits
    now: int
    log: Log
    dry_run: bool = False

    def run(self) -> int:
        """Delete what must go; returns the exit code: 0, or 2 if something could not be deleted or
        read.  Raises ArchiveError.
        """
        with retention.exclusive(self.folder) as folder:
            holds = retention.holds(folder)
            found, code = self._find()
            kept = 0
            for candidate, reason in chosen(
                found, holds, self.limits, self.now, _space(self.folder)
            ):
                if candidate.held_by(holds):
                    kept += 1
                    continue
                try:
                    self._delete(folder, candidate, reason)
                except (BusyError, GoneError):
                    continue  # another command's; the next run sees what became of it
                except CtrecorderError as error:
                    self._trouble(candidate.path, str(error))
                    code = ExitCode.FAILED
            if kept:
                self._trouble(
                    self.folder,
                    f"{count(kept, 'segment')} would have gone, but a hold keeps {'it' if kept == 1 else 'them'}",
                )
        return code

    def _find(self) -> tuple[list[ExpiryCandidate], int]:
        """The segments of the archive, and 2 if there is something that could not be read."""
        listed = find.find([self.folder])
        found = []
        code: int = ExitCode.OK
        for path, why in listed.unreadable:
            self._trouble(path, why)
            code = ExitCode.FAILED
        for path in listed.segments:
            try:
                found.append(_examine(path))
            except GoneError:
                continue
            except CtrecorderError as error:
                self._trouble(path, str(error))
                code = ExitCode.FAILED
        return found, code

    def _delete(self, folder: Folder, candidate: ExpiryCandidate, reason: str) -> None:
        if self.dry_run:
            last = times.text(candidate.until, utc=False)
            print(
                printable(
                    f"would delete {candidate.path}, {candidate.bytes:,} bytes, up to {last}: {reason}"
                )
            )
            return
        with open_segment(candidate.path) as segment:
            if segment.state == "live":
                raise BusyError(f"{candidate.path}: is being recorded")
            since, until = segment.times
            receipt = Receipt(
                os.path.basename(candidate.path),
                since,
                until,
                int(segment.index["rows"].sum()),
                candidate.bytes,
                list(chain.link(segment).hashes),
                segment.header.previous or "",
                segment.previous_hash.hex(),
                self.now,
                reason,
            )
            with lock.locked(candidate.path, segment.file.descriptor, folder) as held:
                if not any(
                    receipt.hashes and one.hashes == receipt.hashes
                    for one in retention.receipts(folder)
                ):
                    retention.add_receipt(folder, receipt)
                _unlink(candidate.path, held)
        self._log_result(candidate.path, receipt)

    def _log_result(self, path: str, receipt: Receipt) -> None:
        since, until = times.text(receipt.since, utc=True), times.text(receipt.until, utc=True)
        last_hash = receipt.hashes[0] if receipt.hashes else ""
        what = f"{count(receipt.rows, 'row')} from {since} to {until}, {receipt.bytes:,} bytes"
        self.log.send(
            messages.EXPIRED,
            f"deleted {path}: {receipt.reason}; it held {what}; last hash {last_hash}",
            path=path,
            since=since,
            until=until,
            rows=receipt.rows,
            bytes=receipt.bytes,
            last_hash=last_hash,
            reason=receipt.reason,
        )

    def _trouble(self, path: str, why: str) -> None:
        self.log.send(messages.SKIPPED, why, path=path, error=why)


def chosen(
    found: list[ExpiryCandidate],
    holds: list[Hold],
    limits: Limits,
    now: int,
    space: tuple[int, int],
) -> Iterator[tuple[ExpiryCandidate, str]]:
    """What must go, oldest first, each with the limit that says so; also what is held and would
    have gone, which frees nothing.

    `space`: bytes that are free, and all bytes, of the file system.
    """
    size, (free, whole) = sum(one.bytes for one in found), space
    wanted = 0 if limits.min_free is None else limits.min_free
    needed = int(wanted * whole) if isinstance(wanted, float) else wanted
    for one in sorted(found, key=lambda one: (one.until, one.path)):
        if one.live:
            continue
        if limits.max_age is not None and one.until < now - limits.max_age * SECOND:
            reason = f"older than {limits.max_age:,} s"
        elif limits.max_size is not None and size > limits.max_size:
            reason = f"all segments take more than {limits.max_size:,} bytes"
        elif free < needed:
            reason = f"less than {needed:,} bytes are free"
        else:
            continue
        if one.held_by(holds) is None:
            size, free = size - one.bytes, free + one.blocks_bytes
        yield one, reason


def _examine(path: str) -> ExpiryCandidate:
    with open_segment(path) as segment:
        if not len(segment.index):
            raise ArchiveError(
                f"{path}: no block of it can be read, so nothing tells its age: it is not deleted"
            )
        status = os.fstat(segment.file.descriptor)
        return ExpiryCandidate(
            path, segment.state == "live", *segment.times, status.st_size, status.st_blocks * 512
        )


def _unlink(path: str, held: Held) -> None:
    try:
        held.folder.unlink(held.name)
        held.folder.sync()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be deleted: {error.strerror}") from error


def _space(folder: str) -> tuple[int, int]:
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise ArchiveError(f"{folder}: {error.strerror}") from error
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
