"""The segments to read for a question about a window of time: those in it, and the nearest ones."""

from __future__ import annotations

from typing import NamedTuple

from ctrecorder.archive.find import Span
from ctrecorder.archive.near import Chains


class Selection(NamedTuple):
    """Paths of segments; whether there are more segments before and after these."""

    paths: list[str]
    more_before: bool
    more_after: bool


def select(
    spans: list[Span], chains: Chains, since: int, until: int, before: int, after: int
) -> Selection:
    """The segments that overlap the window, and the nearest ones: `before` earlier, `after` later.

    Both counts are for each recording: where several record side by side, as many segments as
    overlap the window belong to the same hour.  A squeezed segment overlaps with its connections.
    """
    overlapping = [span for span in spans if span.begin < until and span.end >= since]
    earlier = sorted((span for span in spans if span.end < since), key=lambda span: span.end)
    later = [span for span in spans if span.begin >= until]
    recordings = max(len(overlapping), 1)
    first, last = max(len(earlier) - before * recordings, 0), after * recordings
    selected = [*earlier[first:], *overlapping, *later[:last]]
    near = chains.near(since, until, before, after)
    paths = dict.fromkeys([*(span.path for span in selected), *near.paths])
    return Selection([*paths], first > 0 or near.more_before, last < len(later))
