"""Flows that ended recently, kept for comparison with events that arrive late, or twice.  Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Source, Table
from ctrecorder.connections import flowkey, grouping
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.parts import COUNTERS, DESTROY, Parts

_COMPARED = (*KEY, "start", "start_source", "end", "end_source", "seen", "time", "present")
_HASH_BITS = 16  # of a first comparison by a table


class RecentEnds:
    """The ends of the last `grouping.RACE_ROWS` rows, with the columns that grouping compares."""

    def __init__(self, empty: Parts) -> None:
        self._empty = empty
        self._kept: list[Parts] = []
        self._hashes: list[NDArray[np.uint64]] = []  # of the first of `_kept`, as far as needed

    def remember(self, batch: Parts, rows_fed: int) -> None:
        """Keep the ends in `batch`, the last of `rows_fed` rows."""
        oldest = rows_fed - grouping.RACE_ROWS
        is_end = (batch.table["seen"] & DESTROY) != 0
        is_kept = is_end & (batch.row >= oldest)
        is_timed = (batch.table["start_source"] == Source.KERNEL) & (
            batch.table["end_source"] == Source.KERNEL
        )
        # Two events with kernel times are compared by these alone.
        counts = ("status", *COUNTERS) if (is_kept & ~is_timed).any() else ()
        compared = replace(batch, table=batch.table.select((*_COMPARED, *counts)))
        recent = compared.take(np.flatnonzero(is_kept))
        while self._kept and self._kept[0].row[-1] < oldest:
            del self._kept[0], self._hashes[:1]
        if len(recent.row):
            self._kept.append(recent)

    def all(self) -> Parts:
        """All of them."""
        return Parts.concat(self._kept) if self._kept else self._empty

    def like(self, table: Table) -> Parts:
        """Those that have the key of a row of `table`."""
        for part in self._kept[len(self._hashes) :]:
            self._hashes.append(flowkey.hashes(part.table))
        wanted = np.unique(flowkey.hashes(table))
        shift = np.uint64(64 - _HASH_BITS)
        upper = np.zeros(1 << _HASH_BITS, np.bool_)
        upper[wanted >> shift] = True
        found = [self._empty]
        for part, hashes in zip(self._kept, self._hashes, strict=True):
            near = np.flatnonzero(upper[hashes >> shift])
            near = near[np.isin(hashes[near], wanted)]
            if len(near):
                found.append(part.take(near))
        return Parts.concat(found)
