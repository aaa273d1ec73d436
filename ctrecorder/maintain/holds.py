"""Set, release and list the holds of an archive; each change is logged with its user."""

from __future__ import annotations

import time

from ctrecorder import times
from ctrecorder.archive import retention
from ctrecorder.archive.retention import Hold
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.folder import Folder
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.service.login import login_user
from ctrecorder.terminal import printable


def hold(
    folder: str, since: str | None, until: str | None, reason: str, utc: bool, log: Log
) -> int:
    """Set a hold from the begin of `since` to the end of `until`, times as in `parse_span`.

    Returns the exit code.  Raises UsageError, ArchiveError.
    """
    now = time.time_ns()
    begin = times.BEGIN if since is None else times.parse_span(since, now, utc=utc)[0]
    end = times.END if until is None else times.parse_span(until, now, utc=utc)[1]
    if end < begin:
        raise UsageError("the hold ends before it begins: see --since and --until")
    with retention.exclusive(folder) as archive:
        added = retention.add_hold(archive, begin, end, reason, now, login_user().name)
    _log_result("set", added, log)
    return ExitCode.OK


def release(folder: str, number: int, log: Log) -> int:
    """Release a hold; returns the exit code.  Raises UsageError, ArchiveError."""
    with retention.exclusive(folder) as archive:
        released = retention.release_hold(archive, number)
    _log_result("released", released, log)
    return ExitCode.OK


def show(folder: str, utc: bool) -> int:
    """List the holds on stdout; returns the exit code: 1 if there are none."""
    with Folder(folder) as archive:
        listed = retention.holds(archive)
    for one in listed:
        was_set = f"set {times.text(one.set, utc=utc)} by {one.login}"
        print(printable(f"{one.id}\t{_period(one, utc)}\t{was_set}\t{one.reason}"))
    return ExitCode.OK if listed else ExitCode.NO


def _period(one: Hold, utc: bool) -> str:
    since = "the first record" if one.since <= times.BEGIN else times.text(one.since, utc=utc)
    return f"{since} to {'for ever' if one.until >= times.END else times.text(one.until, utc=utc)}"


def _log_result(action: str, one: Hold, log: Log) -> None:
    text = f"hold {one.id} {action}: {_period(one, False)}: {one.reason}"
    since, until = (
        times.text(moment, utc=True) if times.BEGIN < moment < times.END else ""
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
