"""Set, release and list the holds of an archive; each change is logged with its user."""

from __future__ import annotations

import sys
import time

from ctrecorder import times
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from ctrecorder.kept.retention import Hold
from ctrecorder.maintain.expire import candidates
from ctrecorder.moments.typed import parse_span
from ctrecorder.sealing import locate
from ctrecorder.sealing.state import NoKeyError, SealError
from ctrecorder.sealing.successor import KeyUser
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.service.login import login_user
from ctrecorder.terminal import count, printable


def hold(
    folder: str,
    period: tuple[str | None, str | None],
    reason: str,
    log: Log,
    seals: KeyUser,
    *,
    utc: bool,
    trust_clock: bool,
    once: bool = False,
) -> int:
    """Set a hold from the begin of the first to the end of the second time of `period`, as in
    `parse_span`.

    `seals`: the keys of the ledgers in `folder`, which note it.  `trust_clock`: as in Limits.
    `once`: not if there is one with this time and reason.

    Returns the exit code: 2 if the hold is set, and a ledger could not note it.  Raises UsageError,
    ArchiveError.
    """
    since, until = period
    now = time.time_ns()
    begin = times.BEGIN if since is None else parse_span(since, now, utc=utc)[0]
    end = times.END if until is None else parse_span(until, now, utc=utc)[1]
    if end <= begin:
        raise UsageError("the hold ends before or where it begins: see --since and --until")
    with retention.exclusive(folder) as archive:
        before = [one for one in retention.holds(archive) if _is_same(one, begin, end, reason)]
        if once and before:
            said = f"hold {before[0].id} is set already: {_period(before[0], False)}: {reason}"
            print(printable(said), file=sys.stderr)
            return ExitCode.OK
        added = retention.add_hold(archive, begin, end, reason, now, login_user().name)
        is_sealed = True
        try:
            _seal(archive, added, retention.hold_hash(added), log, seals)
        except SealError as error:  # it keeps segments all the same
            is_sealed = False
            text = f"{error}: the ledger does not note the hold"
            log.send(messages.SKIPPED, text, path=folder, error=str(error))
        found, unreadable = candidates(folder, now, trust_clock=trust_clock, with_starts=True)
    kept = sum(one.held_by([added]) is not None for one in found)
    _log_result("set", added, log, f", keeps {count(kept, 'segment')}")
    for path, reason_unread in unreadable:
        log.send(messages.SKIPPED, reason_unread, path=path, error=reason_unread)
    return ExitCode.OK if is_sealed and not unreadable else ExitCode.FAILED


def _is_same(one: Hold, since: int, until: int, reason: str) -> bool:
    return (one.since, one.until, one.reason) == (since, until, reason)


def release(folder: str, number: int, log: Log, seals: KeyUser) -> int:
    """Release a hold; returns the exit code.  Raises UsageError, ArchiveError."""
    with retention.exclusive(folder) as archive:
        for one in retention.holds(archive):
            if one.id == number:  # first the ledger: what it says to be held must be there
                _seal(archive, one, "", log, seals)
        released = retention.release_hold(archive, number)
    _log_result("released", released, log)
    return ExitCode.OK


def show(folder: str, *, utc: bool, trust_clock: bool) -> int:
    """List the holds on stdout; returns the exit code: 1 if there are none.

    `trust_clock`: as in Limits.
    """
    with Folder(folder) as archive:
        listed = retention.holds(archive)
    if not listed:
        return ExitCode.NO
    found, _ = candidates(folder, time.time_ns(), trust_clock=trust_clock, with_starts=True)
    for one in listed:
        kept = sum(segment.held_by([one]) is not None for segment in found)
        fields = (
            str(one.id),
            _period(one, utc),
            f"keeps {count(kept, 'segment')}",
            f"set {times.dated(one.set, utc=utc)} by {one.login}",
            one.reason,
        )
        print("\t".join(map(printable, fields)))
    return ExitCode.OK


def show_held(folder: str, *, trust_clock: bool) -> int:
    """List the segments that a hold keeps on stdout; returns the exit code.

    1 if there are none; 2 if a segment could not be read, so that a hold may keep more.
    `trust_clock`: as in Limits.
    """
    with Folder(folder) as archive:
        listed = retention.holds(archive)
    if not listed:
        return ExitCode.NO
    found, unreadable = candidates(
        folder, time.time_ns(), trust_clock=trust_clock, with_starts=True
    )
    held = sorted(one.path for one in found if one.held_by(listed))
    for path in held:
        print(printable(path))
    for _, reason in unreadable:
        print(printable(f"ctexpire: {reason}"), file=sys.stderr)
    if unreadable:
        return ExitCode.FAILED
    return ExitCode.OK if held else ExitCode.NO


def _seal(archive: Folder, one: Hold, line: str, log: Log, seals: KeyUser) -> None:
    """Note a hold in each ledger of the archive.  `line`: "" if it is released.

    Raises SealError.
    """
    for key_id, path in locate.ledgers(archive.path).items():
        try:
            seals.note(key_id, archive.path, "hold", {"hold": one.id, "line": line})
        except NoKeyError as error:
            text = f"{error}: the ledger does not note the hold"
            log.send(messages.SKIPPED, text, path=path, error=str(error))


def _period(one: Hold, utc: bool) -> str:
    since = "the first record" if one.since <= times.BEGIN else times.dated(one.since, utc=utc)
    return f"{since} to {'for ever' if one.until >= times.END else times.dated(one.until, utc=utc)}"


def _log_result(action: str, one: Hold, log: Log, keeps: str = "") -> None:
    text = f"hold {one.id} {action}: {_period(one, False)}{keeps}: {one.reason}"
    since, until = (
        times.dated(moment, utc=True) if times.BEGIN < moment < times.END else ""
        for moment in (one.since, one.until)
    )
    user = login_user()
    log.send(
        messages.HOLD,
        text,
        action=action,
        since=since,
        until=until,
        reason=one.reason,
        uid=user.uid,
        login=user.name,
    )
