"""What the recorder counts since its start."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Event, Table


@dataclass
class Counters:
    """Counters since the start.

    `events`: (5,) int64, by the value of the column `event`.  `lost`: events that are not in the
    log.  `unreadable`: messages of the kernel that could not be decoded (they are in `lost` too).
    `foreign`: messages that a process sent.
    """

    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Event) + 1, np.int64))
    lost: int = 0
    unreadable: int = 0
    foreign: int = 0

    def add(self, table: Table) -> None:
        """Count the rows of `table`."""
        self.events += np.bincount(table["event"], minlength=len(self.events))

    def of(self, event: Event) -> int:
        """The number of rows of one kind."""
        return int(self.events[event])

    @property
    def total(self) -> int:
        """The number of all events; rows of a dump are no events."""
        return int(self.events.sum()) - self.of(Event.EXISTING)
