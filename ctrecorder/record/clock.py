"""The wall clock, and what happens to it: a step (someone or NTP set it), or a sleep of the machine
(suspend).

CLOCK_BOOTTIME goes on through a suspend and CLOCK_MONOTONIC does not; neither is ever set.  So a
suspend is what the first gained on the second, a step is what the wall clock gained on the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

SECOND = 1_000_000_000
# NTP slews a clock by at most 500 ppm: between two looks, at most a minute apart, that is 30 ms.
STEP_NS = SECOND // 2
# A suspend that is shorter than this is the two clocks read one after the other on a busy machine.
SLEEP_NS = SECOND // 2

Reading = Callable[[], int]  # ns


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class ClockChange(NamedTuple):
    """What the clock has been through between two looks: `before` and `now` are ns UTC; `step` and
    `asleep` ns, 0 if there was none.

    `step` is positive where the clock was set forward.  `before`: what it showed when the step
    came, or the sleep began.
    """

    before: int
    now: int
    step: int
    asleep: int


class Clock:
    """Reads the clocks of the machine, or those that a test gives."""

    def __init__(
        self,
        wall: Reading = time.time_ns,
        monotonic: Reading = time.monotonic_ns,
        boottime: Reading = _boottime,
    ) -> None:
        self.wall, self.monotonic, self._boottime = wall, monotonic, boottime
        self._last_wall, self._last_monotonic, self._last_boottime = wall(), monotonic(), boottime()

    def look(self) -> ClockChange | None:
        """What happened since the last look; None if time just went on."""
        wall, monotonic, boottime = self.wall(), self.monotonic(), self._boottime()
        awake = monotonic - self._last_monotonic
        asleep = boottime - self._last_boottime - awake
        step = wall - self._last_wall - (boottime - self._last_boottime)
        before = self._last_wall + awake
        self._last_wall, self._last_monotonic, self._last_boottime = wall, monotonic, boottime
        asleep, step = asleep if asleep >= SLEEP_NS else 0, step if abs(step) >= STEP_NS else 0
        return ClockChange(before, wall, step, asleep) if asleep or step else None
