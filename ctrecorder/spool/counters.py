"""What the recorder counts since its start."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Event, Table
from ctrecorder.ctlog.frame import Gap
from ctrecorder.times import SECOND


@dataclass
class Counters:
    """Counters since the start.

    `events`: (5,) int64, by the value of the column `event`.  `lost`: events that are not in the
    log.  `unreadable`: messages of the kernel that could not be decoded (they are in `lost` too).
    `foreign`: messages that a process sent.  `lost_of`: events of GAPs with a number, by reason.
    `gap_seconds`: of GAPs that have ended, by reason.  `write_errors`: writes and syncs that
    failed.  `syncs`: those that worked, without those of SEALs and ends of segments.
    """

    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Event) + 1, np.int64))
    lost: int = 0
    unreadable: int = 0
    foreign: int = 0
    lost_of: Counter[str] = field(default_factory=Counter)
    gap_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    write_errors: int = 0
    syncs: int = 0

    def add(self, table: Table) -> None:
        """Count the rows of `table`."""
        self.events += np.bincount(table["event"], minlength=len(self.events))

    def add_gap(self, gap: Gap) -> None:
        """Count a GAP; one that lasts is counted when it has ended."""
        if gap.facts.get("open") is not True:
            self.lost_of[gap.reason] += gap.lost or 0
            self.gap_seconds[gap.reason] += max(gap.end - gap.begin, 0) / SECOND

    def of(self, event: Event) -> int:
        """The number of rows of one kind."""
        return int(self.events[event])

    @property
    def total(self) -> int:
        """The number of all events; rows of a dump are no events."""
        return int(self.events.sum()) - self.of(Event.EXISTING)
