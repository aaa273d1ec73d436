"""What ctexpire did and left, as metrics."""

from __future__ import annotations

from collections import Counter

from ctrecorder.maintain.expire import Limits, Summary
from ctrecorder.metrics.job import Values, by_label
from ctrecorder.times import SECOND

# Each from the start: an alert compares with 0.
_STATES = ("live", "closed", "crashed", "squeezed")
# By the beginnings of what a receipt says.
_LIMITS = {"older": "max_age", "all": "max_size", "less": "min_free"}


def archive_values(summary: Summary, limits: Limits) -> Values:
    """The samples of a run."""
    left = summary.left
    states = {**dict.fromkeys(_STATES, 0), **Counter(one.state for one in left)}
    reasons = Counter(_LIMITS[reason.partition(" ")[0]] for _, reason in summary.deleted)
    dated = [one.age.ends for one in left if one.age.known]
    return [
        ("archive_bytes", (), sum(one.bytes for one in left)),
        *by_label("archive_segments", states),
        *((("archive_oldest_timestamp_seconds", (), min(dated) / SECOND),) if dated else ()),
        *((("archive_max_age_seconds", (), limits.max_age),) if limits.max_age else ()),
        *by_label("expired_segments", {**dict.fromkeys(_LIMITS.values(), 0), **reasons}),
        ("holds", (), summary.holds),
    ]
