"""The bounds of a start that was not recorded: the dumps before it, and the steps of the clock."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.query.coverage import MIN_ONCE_NS
from ctrecorder.query.open import Archive


class Dumps:
    """The complete dumps of the table in the opened segments, and the long steps of the clock.

    A flow that the last dump before a time does not contain began after that dump.
    """

    def __init__(self, archive: Archive) -> None:
        chains: dict[str, list[tuple[int, int]]] = {}
        for segment in archive.segments:
            found = chains.setdefault(segment.header.chain or "", [])
            found += [(mark.end, mark.begin) for mark in segment.marks if mark.is_complete_dump]
        self._steps = np.array(
            sorted(
                gap.begin
                for segment in archive.segments
                for gap in segment.gaps
                if segment.step_of(gap) >= MIN_ONCE_NS
            ),
            np.int64,
        )
        self._first = archive.first
        self._ends: list[NDArray[np.int64]] = []
        # One more than ends: at i, the begin of the last dump before ends[i].
        self._begins: list[NDArray[np.int64]] = []
        for found in chains.values():
            found.sort()
            self._ends.append(np.array([end for end, _ in found], np.int64))
            self._begins.append(np.array([self._first, *(begin for _, begin in found)], np.int64))

    def last_begin(self, moments: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """When the last dump before each of `moments` began, (n,) ns.

        With several recordings it is the earliest of their last dumps; without a dump it is the
        begin of the archive.  The second array, (n,), is True where each recording has a dump.
        """
        begin, has_dump = np.full(len(moments), times.END), np.ones(len(moments), np.bool_)
        for ends, begins in zip(self._ends, self._begins, strict=True):
            index = np.searchsorted(ends, moments)
            has_dump &= index > 0
            begin = np.minimum(begin, begins[index])
        return begin, has_dump

    def last_step(self, moments: NDArray[np.int64]) -> NDArray[np.int64]:
        """When the clock was last set forward for long before each of `moments`, (n,) ns; else 0.

        A flow whose NEW was dated by that clock, and whose start is not known, began later.
        """
        return np.append(times.BEGIN, self._steps)[np.searchsorted(self._steps, moments)]
