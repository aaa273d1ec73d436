"""Gaps before they are written: joined, and logged."""

from __future__ import annotations

from dataclasses import replace

from ctrecorder import times
from ctrecorder.ctlog.frame import Gap
from ctrecorder.service import messages
from ctrecorder.service.log import Log


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
