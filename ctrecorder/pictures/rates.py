"""How many connections began in each part of a time, by protocol.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ctrecorder import spans
from ctrecorder.columns import Source, Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.spans import Span
from ctrecorder.times import DAY, HOUR, MINUTE, SECOND

Ints = NDArray[np.int64]
# Seconds by which local time is ahead of UTC at each of some seconds.
Offsets = Callable[[Ints], Ints]

COLUMNS = ("start", "start_source", "l4proto")
# The lengths that are chosen: each divides the next larger unit of a clock.
STEPS = (
    *(SECOND, 5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR),
    *(6 * HOUR, 12 * HOUR, DAY, 7 * DAY, 28 * DAY, 91 * DAY, 364 * DAY),
)
# More lines nobody reads, and a mistyped "1s" for a year would take all memory.
MAX_BINS = 100_000


def step_for(since: int, until: int, most: int) -> int:
    """The shortest of STEPS, ns, with at most `most` bins in since..until."""
    return next((step for step in STEPS if step * most >= until - since), STEPS[-1])


def edges_of(since: int, until: int, step: int, offsets: Offsets) -> Ints:
    """(bins + 1,): the edges of bins of `step` ns, from `since` to `until`, ns.

    The others are at multiples of `step` of the local clock; those of hours and more also after the
    clock was changed for summer, so that a day can have 25 hours.
    """
    ahead = int(offsets(np.array([since // SECOND]))[0]) * SECOND
    first = (since + ahead) // step
    last = -(-(until + ahead) // step) + 1
    local = np.arange(first, max(last, first + 1) + 1, dtype=np.int64) * step
    found: Ints = local - ahead
    if step >= HOUR:
        # The offset at the edge, found by that at the same time of day without a change.
        found = local - offsets(found // SECOND) * SECOND
        found = np.unique(found)
    found = found[(found > since) & (found < until)]
    return np.concatenate(([since], found, [until]))


def ints(values: Ints) -> list[int]:
    """An array of one dimension as numbers of Python."""
    return cast("list[int]", values.tolist())


class Rates:
    """Counts connections that began in `edges`, (bins + 1,) ns, ascending.

    `unknown`: connections whose start is not known; they are in no bin.
    """

    def __init__(self, edges: Ints) -> None:
        self.edges = edges
        self.unknown = 0
        self._counts: dict[int, Ints] = {}

    @property
    def bins(self) -> int:
        return len(self.edges) - 1

    def add(self, rows: Table | LazyTable) -> None:
        """Count connections, with COLUMNS."""
        start, sources = rows["start"], rows["start_source"]
        protocols = rows["l4proto"].astype(np.int64)
        known = (sources == Source.KERNEL) | (sources == Source.RECEIPT)
        self.unknown += len(rows) - int(np.count_nonzero(known))
        place = np.searchsorted(self.edges, start, "right").astype(np.int64) - 1
        inside = known & (place >= 0) & (place < self.bins)
        both = protocols[inside] * self.bins + place[inside]
        for number in np.unique(protocols[inside]).tolist():
            here = both[both // self.bins == number] - number * self.bins
            counts = np.bincount(here, minlength=self.bins)
            self._counts[number] = self._counts.get(number, np.zeros(self.bins, np.int64)) + counts

    @property
    def total(self) -> Ints:
        """(bins,): of all protocols."""
        found: Ints = sum(self._counts.values(), np.zeros(self.bins, np.int64))
        return found

    def by_protocol(self, most: int) -> list[tuple[int | None, Ints]]:
        """(bins,) of the `most` protocols with the most connections, and of all others (None)."""
        ranked = sorted(self._counts.items(), key=lambda one: (-int(one[1].sum()), one[0]))
        found: list[tuple[int | None, Ints]] = list(ranked[:most])
        if rest := ranked[most:]:
            found.append((None, sum((one for _, one in rest), np.zeros(self.bins, np.int64))))
        return found

    def holes(self, holes: Iterable[Span]) -> list[str]:
        """For each bin "" if it is covered, "part" or "all": how much of it is in a hole."""
        joined = spans.joined(holes)
        found = []
        for begin, end in itertools.pairwise(ints(self.edges)):
            hidden = sum(b - a for one in joined for a, b in spans.clip(one, (begin, end)))
            touched = any(max(a, begin) < min(max(b, a + 1), end) for a, b in joined)
            found.append("" if not touched else "all" if hidden >= end - begin else "part")
        return found
