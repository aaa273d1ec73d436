"""Delete whole segments, oldest first, when a limit requires it; each deletion leaves a receipt.

`ages` derives how old a segment is.  A segment whose age is not known is not deleted by age.  Never
deleted are a live segment, a segment under a hold, one that another command uses, and a file that
is no segment.  The receipt is on the disk before the segment is deleted, so after an interruption
the next run continues.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ctrecorder import times
from ctrecorder.archive import chain, find, lock
from ctrecorder.archive.lock import Held, PassedError
from ctrecorder.archive.open import open_segment
from ctrecorder.errors import ArchiveError, CtrecorderError, ExitCode, GoneError
from ctrecorder.filelock import Holder
from ctrecorder.folder import Folder
from ctrecorder.kept import acknowledged, retention
from ctrecorder.kept.retention import Hold, Receipt
from ctrecorder.maintain.ages import Age, SegmentTimes, ages, times_of
from ctrecorder.sealing.header import sealed_by
from ctrecorder.sealing.state import NoKeyError
from ctrecorder.sealing.successor import KeyUser
from ctrecorder.segment.recording import Recording
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.terminal import count, printable

SECOND = times.SECOND


@dataclass(frozen=True)
class Limits:
    """Limits of an archive; None: no limit.

    `max_age`: of a segment, seconds.
    `max_size`: of all segments, bytes.
    `min_free`: free bytes of the file system, or (a float below 1) a share of it.
    `trust_clock`: `max_age` also applies where the clock was never synchronised.
    `shipped_to`: only `max_age` deletes a segment that not all of these targets of ctship have
    acknowledged; without any, that is no segment.  None: that is no matter.
    """

    max_age: int | None = None
    max_size: int | None = None
    min_free: int | float | None = None
    trust_clock: bool = False
    shipped_to: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ExpiryCandidate:
    """A segment of the archive.

    `live`: a recorder writes it.
    `sequence`: in its recording, 0 if it is in none.
    `age`: when it was recorded.
    `bytes`: of the file.
    `blocks_bytes`: that it takes on the disk.
    `state`: "squeezed", or that of the segment.
    `hashes`: its last hash, and those of the segments that it replaces, in hex.
    """

    path: str
    live: bool
    sequence: int
    age: Age
    bytes: int
    blocks_bytes: int
    state: str = "closed"
    hashes: tuple[str, ...] = ()

    def held_by(self, holds: list[Hold]) -> Hold | None:
        """The first hold that covers what it can contain; None if no hold does.

        In whole seconds, because squeezing may round times to seconds.
        """
        since, until = self.age.since // SECOND * SECOND, -(-self.age.until // SECOND) * SECOND
        return next((hold for hold in holds if since < hold.until and hold.since <= until), None)


@dataclass
class Summary:
    """A run: the segments that it `found`, how many `holds`, what it `deleted`, and why."""

    found: list[ExpiryCandidate] = field(default_factory=list)
    holds: int = 0
    deleted: list[tuple[ExpiryCandidate, str]] = field(default_factory=list)

    @property
    def left(self) -> list[ExpiryCandidate]:
        """The segments that were not deleted."""
        gone = {one.path for one, _ in self.deleted}
        return [one for one in self.found if one.path not in gone]


@dataclass
class Expiry:
    """One run over the archive `folder`, at `now` (ns UTC); `dry_run`: only print.

    `seals`: the keys that seal receipts.  `above`: holds that count beside those of the folder.
    `summary`: what the run did and left.
    """

    folder: str
    limits: Limits
    now: int
    log: Log
    dry_run: bool = False
    seals: KeyUser = field(default_factory=KeyUser)
    above: tuple[Hold, ...] = ()
    summary: Summary = field(default_factory=Summary)

    def run(self) -> int:
        """Delete the segments that the limits require.

        Returns the exit code: 0, or 2 if a segment could not be read or deleted.  Raises
        ArchiveError.
        """
        with retention.exclusive(self.folder, self._log_wait) as folder:
            holds = [*retention.holds(folder), *self.above]
            found, code = self._find(with_starts=bool(holds))
            self._log_undated(found)
            self.summary = Summary(found, len(holds))
            kept, hashes = 0, {one.path: one.hashes for one in found}
            unshipped = acknowledged.missing(folder, self.limits.shipped_to, hashes)
            known = (found, holds, self.limits, self.now, _space(self.folder))
            chosen = list(choose(*known, unshipped))
            waiting = {one.path for one, _ in choose(*known)}.intersection(unshipped)
            self._log_waiting(len(waiting.difference(one.path for one, _ in chosen)))
            for candidate, reason in chosen:
                if candidate.held_by(holds):
                    kept += 1
                    continue
                try:
                    self._log_unshipped(candidate, unshipped.get(candidate.path, ()))
                    self._delete(folder, candidate, reason)
                    self.summary.deleted.append((candidate, reason))
                except (PassedError, GoneError):
                    continue  # live, or just replaced; the next run tries again
                except CtrecorderError as error:
                    self._trouble(candidate.path, str(error))
                    code = ExitCode.FAILED
            if kept:
                self._trouble(
                    self.folder,
                    f"{count(kept, 'segment')} would be deleted, but a hold keeps "
                    f"{'it' if kept == 1 else 'them'}",
                )
        return code

    def _find(self, *, with_starts: bool) -> tuple[list[ExpiryCandidate], int]:
        """The segments of the archive; the exit code is 2 if one could not be read."""
        found, unreadable = candidates(
            self.folder,
            self.now,
            trust_clock=self.limits.trust_clock,
            with_starts=with_starts,
            routers=False,
        )
        for path, why in unreadable:
            self._trouble(path, why)
        return found, ExitCode.FAILED if unreadable else ExitCode.OK

    def _log_waiting(self, number: int) -> None:
        """Log that `number` segments exceed a limit of size, but are not shipped."""
        if number:
            told = f"{count(number, 'segment')} would be deleted, but keep_until_shipped keeps"
            it = "it" if number == 1 else "them"
            self._trouble(self.folder, f"{told} {it}: see ctship --status")

    def _log_unshipped(self, candidate: ExpiryCandidate, targets: Sequence[str]) -> None:
        """Log that a segment reaches its maximum age and was never shipped."""
        for target in targets if not self.dry_run else ():
            what = f"was never shipped to {target or 'any target'}, and reaches the maximum age"
            told, path = f"{candidate.path}: {what}", candidate.path
            self.log.send(messages.NOT_SHIPPED, told, path=path, to=target, error=what)

    def _log_undated(self, found: list[ExpiryCandidate]) -> None:
        """Log that segments are not deleted by age, because their age is not known."""
        undated = [one for one in found if not one.age.known and not one.live]
        undated.sort(key=lambda one: (one.sequence, one.path))
        if self.limits.max_age is None or not undated:
            return
        self._trouble(
            self.folder,
            f"not deleted by age, because the clock was not right or never synchronised: "
            f"{count(len(undated), 'segment')}, "
            f"the first is {os.path.basename(undated[0].path)}; limits of size apply "
            "(ctexpire(8), THE CLOCK)",
        )

    def _delete(self, folder: Folder, candidate: ExpiryCandidate, reason: str) -> None:
        """Delete a segment and log it.  Raises BusyError, GoneError, ArchiveError."""
        if self.dry_run:
            last = times.dated(candidate.age.ends, utc=False)
            what = f"{candidate.path}, {candidate.bytes:,} bytes, up to {last}"
            print(printable(f"would delete {what}: {reason}"))
            return
        with open_segment(candidate.path) as segment:
            lock.refuse_live(segment)
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
            descriptor = segment.file.descriptor
            self.seals.refuse_unknown(segment)
            with lock.locked(candidate.path, descriptor, Holder.EXPIRE, folder) as held:
                # An interrupted run may have left a receipt already.
                if not (receipt.hashes and _receipt_line(folder, receipt)):
                    retention.add_receipt(folder, receipt)
                self._seal(folder, segment, receipt)
                _unlink(candidate.path, held)
        self._log_result(candidate.path, receipt)

    def _seal(self, folder: Folder, segment: Recording, receipt: Receipt) -> None:
        """Note the receipt of a sealed segment in its ledger.  Raises SealError."""
        key_id = sealed_by(segment)
        if not key_id:
            return
        facts = {"segment": receipt.name, "line": _receipt_line(folder, receipt)}
        try:
            self.seals.note(key_id, self.folder, "receipt", facts)
        except NoKeyError as error:  # a copy of the archive, or the key is gone for ever
            self._trouble(segment.path, f"{error}: its receipt is not sealed")

    def _log_result(self, path: str, receipt: Receipt) -> None:
        since, until = times.dated(receipt.since, utc=True), times.dated(receipt.until, utc=True)
        last_hash = receipt.hashes[0] if receipt.hashes else ""
        what = f"{count(receipt.rows, 'row')} from {since} to {until}, {receipt.bytes:,} bytes"
        self.log.send(
            messages.EXPIRED,
            f"deleted {path}: {receipt.reason}; it contained {what}; last hash {last_hash}",
            path=path,
            since=since,
            until=until,
            rows=receipt.rows,
            bytes=receipt.bytes,
            last_hash=last_hash,
            reason=receipt.reason,
        )

    def _log_wait(self, why: str) -> None:
        self._trouble(self.folder, why)

    def _trouble(self, path: str, why: str) -> None:
        self.log.send(messages.SKIPPED, why, path=path, error=why)


def choose(
    found: list[ExpiryCandidate],
    holds: list[Hold],
    limits: Limits,
    now: int,
    space: tuple[int, int],
    unshipped: Collection[str] = (),
) -> Iterator[tuple[ExpiryCandidate, str]]:
    """The segments that exceed a limit, oldest first, each with the reason.

    Segments under a hold are among them, but they free no space: later ones are chosen instead.
    `space`: free and total bytes of the file system.  `unshipped`: paths that only `max_age`
    deletes.
    """
    size, (free, total) = sum(one.bytes for one in found), space
    wanted = 0 if limits.min_free is None else limits.min_free
    needed = int(wanted * total) if isinstance(wanted, float) else wanted
    for one in sorted(found, key=lambda one: (one.age.ends, one.sequence, one.path)):
        if one.live:
            continue
        too_old = limits.max_age is not None and one.age.ends < now - limits.max_age * SECOND
        if limits.max_age is not None and too_old and one.age.known:
            reason = f"older than {limits.max_age:,} s"
        elif one.path in unshipped:
            continue
        elif limits.max_size is not None and size > limits.max_size:
            reason = f"all segments take more than {limits.max_size:,} bytes"
        elif free < needed:
            reason = f"less than {needed:,} bytes are free"
        else:
            continue
        if one.held_by(holds) is None:
            size, free = size - one.bytes, free + one.blocks_bytes
        yield one, reason


def _receipt_line(folder: Folder, receipt: Receipt) -> str:
    """The hash of the line of a receipt; "" if it has none yet."""
    lines = retention.receipt_lines(folder)
    return next((line for one, line in lines if one.hashes == receipt.hashes), "")


class _Examined(NamedTuple):
    """A segment: as an ExpiryCandidate, with its own times."""

    times: SegmentTimes
    live: bool
    bytes: int
    blocks_bytes: int
    state: str
    hashes: tuple[str, ...]


def candidates(
    folder: str,
    now: int,
    *,
    trust_clock: bool = False,
    with_starts: bool = False,
    routers: bool = True,
) -> tuple[list[ExpiryCandidate], list[tuple[str, str]]]:
    """The segments in `folder`; and the paths that cannot be read, each with the reason.

    `now`: ns UTC.  `trust_clock`: as in Limits.  `with_starts`: for `held_by`, as in `times_of`.
    `routers`: also those in the folders of routers.
    """
    listed = find.find([folder], routers=routers)
    examined, unreadable = [], list(listed.unreadable)
    for path in listed.segments:
        try:
            examined.append(_examine(path, with_starts=with_starts))
        except GoneError:
            continue
        except CtrecorderError as error:
            unreadable.append((path, str(error)))
    known = ages((one.times for one in examined), now, trust_clock=trust_clock)
    return [
        ExpiryCandidate(
            one.times.path,
            one.live,
            one.times.sequence,
            known[one.times.path],
            one.bytes,
            one.blocks_bytes,
            one.state,
            one.hashes,
        )
        for one in examined
    ], unreadable


def undated(folder: str, now: int, *, trust_clock: bool = False) -> list[str]:
    """The segments in `folder` that are never deleted by age, because their age is not known.

    Live ones, and those that cannot be read, are not among them.  `now`, `trust_clock`: as in
    `candidates`.
    """
    found, _ = candidates(folder, now, trust_clock=trust_clock)
    return [one.path for one in found if not one.live and not one.age.known]


def _examine(path: str, *, with_starts: bool) -> _Examined:
    """Read the times and sizes of a segment.  Raises ArchiveError, FormatError."""
    with open_segment(path) as segment:
        if not len(segment.index):
            raise ArchiveError(
                f"{path}: none of its blocks can be read, so its age is unknown: it is not deleted"
            )
        status = os.fstat(segment.file.descriptor)
        is_live = segment.state == "live"
        times = times_of(segment, with_starts=with_starts)
        state = "squeezed" if segment.header.is_squeezed else segment.state
        replaced = (one.last_hash for one in segment.header.replaces)
        hashes = (segment.last_hash.hex(), *replaced)
        return _Examined(times, is_live, status.st_size, status.st_blocks * 512, state, hashes)


def _unlink(path: str, held: Held) -> None:
    """Delete the locked segment and sync its folder.  Raises ArchiveError."""
    try:
        held.folder.unlink(held.name)
        held.folder.sync()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be deleted: {error.strerror}") from error


def _space(folder: str) -> tuple[int, int]:
    """Free and total bytes of the file system.  Raises ArchiveError."""
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise ArchiveError(f"{folder}: {error.strerror}") from error
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
