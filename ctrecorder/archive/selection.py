"""The segments to read for a question about a window of time: those in it, and the nearest ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrecorder.archive.find import Span
from ctrecorder.archive.near import Chains
from ctrecorder.archive.routers import router_of
from ctrecorder.times import BEGIN


class Selection(NamedTuple):
    """Paths of segments; whether there are more segments before and after these."""

    paths: list[str]
    more_before: bool
    more_after: bool


class Selector:
    """Selects segments of an archive; `chains`: which segment is before which."""

    def __init__(self, spans: list[Span]) -> None:
        """`spans`: of all segments of the archive."""
        self.chains = Chains(spans)
        self._paths = [span.path for span in spans]
        self._begins = np.array([_recorded_from(span) for span in spans], np.int64)
        self._ends = np.array([span.end for span in spans], np.int64)
        self._by_begin = np.argsort(self._begins, kind="stable")
        self._by_end = np.argsort(self._ends, kind="stable")

    def select(self, since: int, until: int, before: int, after: int) -> Selection:
        """The segments that overlap the window, and the nearest: `before` earlier, `after` later.

        Both counts are for each recording: where several record side by side, as many segments as
        overlap the window belong to the same hour.
        """
        overlapping = np.flatnonzero((self._begins < until) & (self._ends >= since))
        earlier = self._by_end[: np.searchsorted(self._ends[self._by_end], since)]
        later = self._by_begin[np.searchsorted(self._begins[self._by_begin], until) :]
        recordings = max(len(overlapping), 1)
        first, last = max(len(earlier) - before * recordings, 0), after * recordings
        chosen = np.concatenate((earlier[first:], overlapping, later[:last]))
        near = self.chains.near(since, until, before, after)
        paths = dict.fromkeys([*(self._paths[number] for number in chosen), *near.paths])
        return Selection([*paths], first > 0 or near.more_before, last < len(later))


def _recorded_from(span: Span) -> int:
    """When the earliest event of a segment was recorded, ns UTC.

    A squeezed segment begins with its oldest connection, which may be open for weeks.  That one is
    in the dump of each segment since.
    """
    return span.recorded if span.squeezed and span.begin > BEGIN else span.begin


def selectors(spans: list[Span]) -> list[Selector]:
    """What selects the segments of each router; one at least."""
    names: dict[str, str] = {}  # by the folder
    grouped: dict[str, list[Span]] = {}
    for span in spans:
        folder = span.path.rpartition("/")[0]
        if folder not in names:
            names[folder] = router_of(span.path)
        grouped.setdefault(names[folder], []).append(span)
    return [*map(Selector, grouped.values())] or [Selector([])]
