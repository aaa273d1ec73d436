"""Gaps before they are written: joined, and logged; and the one before a start."""

from __future__ import annotations

import os
from dataclasses import replace

from ctrecorder import times
from ctrecorder.ctlog.frame import Gap
from ctrecorder.segment.live import last_published, unwritten_losses
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.spool.target import Tail
from ctrecorder.times import SECOND

# A clock that is so much behind was set back; less is the two clocks being read one after another.
_MIN_STEP_NS = SECOND // 2


def before_start(tail: Tail, now_ns: int, boottime_ns: int, boot_id: str | None) -> Gap:
    """The gap between the end of the recording and a start at `now_ns`, ns UTC.

    If the clock was set back meanwhile, two times are not recorded: those after the end, by the
    clock of then, and those before the start, by the clock of now.  It is not known when it was
    set, so each can be as long as no recorder ran.  What is between them came twice.

    `boottime_ns`: of the start; `boot_id`: of this boot.
    """
    since, until = min(tail.covered, now_ns), now_ns
    reason = "stopped" if tail.closed else "crashed"
    detail = f"no recorder ran after {os.path.basename(tail.path)}"
    stopped = _stopped_ns(tail, boottime_ns, boot_id)
    if stopped is None and now_ns < tail.covered:
        stopped = boottime_ns  # in another boot, none ran in this one
        since, until = now_ns - stopped, tail.covered
    elif stopped is not None and now_ns - tail.covered < stopped - _MIN_STEP_NS:
        since, until = min(since, now_ns - stopped), max(until, tail.covered + stopped)
    if until > now_ns:
        detail += "; the clock was set back: these times come twice"
    lost = 0 if tail.closed else unwritten_losses(tail.chain, tail.path)
    return Gap(since, until, reason, lost or None, detail, {"at_least": True} if lost else {})


def _stopped_ns(tail: Tail, boottime_ns: int, boot_id: str | None) -> int | None:
    """For how long no recorder ran, by the clock that is never set; None if it is not known."""
    if boot_id is None or tail.boot_id != boot_id:
        return None
    stopped = boottime_ns - tail.boottime if tail.boottime else -1
    if not tail.boottime and (known := last_published(tail.chain)) is not None:
        stopped = boottime_ns - known[0] + known[1] - tail.covered
    return stopped if stopped >= 0 else None


def merged(one: Gap, other: Gap) -> Gap:
    """Both gaps as one, with the reason and the detail of the first."""
    lost = None if one.lost is None or other.lost is None else one.lost + other.lost
    return replace(one, begin=min(one.begin, other.begin), end=max(one.end, other.end), lost=lost)


def log_gap(log: Log, path: str, gap: Gap) -> None:
    """Log a gap of the segment `path`."""
    count = "an unknown number of" if gap.lost is None else f"{gap.lost}"
    count = f"at least {count}" if gap.facts.get("at_least") is True else count
    start, end = times.dated(gap.begin, utc=True), times.dated(gap.end, utc=True)
    text = (
        f"gap ({gap.reason}): {count} events from {start} to {end} are not in the log: {gap.detail}"
    )
    log.send(
        messages.GAP,
        text,
        path=path,
        reason=gap.reason,
        lost="unknown" if gap.lost is None else gap.lost,
        start=start,
        end=end,
    )
