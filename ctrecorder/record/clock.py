"""The clocks of the machine, and what happens to the wall clock: a step (NTP or a person set it),
or a suspend of the machine.

CLOCK_BOOTTIME runs on through a suspend and CLOCK_MONOTONIC does not; neither is ever set.  So a
suspend is the time that the first gained on the second, and a step is the time that the wall clock
gained on the first.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from ctrecorder.times import SECOND

if TYPE_CHECKING:
    from _typeshed import HasFileno

# NTP slews a clock by at most 500 ppm: between two looks, at most a minute apart, that is 30 ms.
MIN_STEP_NS = SECOND // 2
# A shorter difference is the two clocks being read one after the other on a busy machine.
MIN_SUSPEND_NS = SECOND // 2

Reading = Callable[[], int]  # ns


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class ClockChange(NamedTuple):
    """A step or a suspend between two looks.

    `before`: the wall clock's time at which the step or the suspend began, ns UTC.
    `now`: the wall clock's time, ns UTC.
    `step`: ns, positive if the clock was set forward; 0 if there was no step.
    `suspended`: ns that the machine was suspended; 0 if it was not.
    """

    before: int
    now: int
    step: int
    suspended: int


class Clock:
    """Reads the clocks of the machine, or those that a test gives, and waits for descriptors."""

    def __init__(
        self,
        wall: Reading = time.time_ns,
        monotonic: Reading = time.monotonic_ns,
        boottime: Reading = _boottime,
    ) -> None:
        self.wall, self.monotonic, self.boottime = wall, monotonic, boottime
        self._last_wall, self._last_monotonic, self._last_boottime = wall(), monotonic(), boottime()

    def wait(self, sources: Collection[HasFileno], wait_ns: int) -> set[int]:
        """Wait until one of `sources` is readable, at most `wait_ns`.

        Returns the descriptors that are readable.
        """
        ready, _, _ = select.select(sources, (), (), wait_ns / SECOND)
        return {source.fileno() for source in ready}

    def look(self) -> ClockChange | None:
        """The change since the last look; None if there was no step and no suspend."""
        wall, monotonic, boottime = self.wall(), self.monotonic(), self.boottime()
        awake = monotonic - self._last_monotonic
        suspended = boottime - self._last_boottime - awake
        step = wall - self._last_wall - (boottime - self._last_boottime)
        before = self._last_wall + awake
        self._last_wall, self._last_monotonic, self._last_boottime = wall, monotonic, boottime
        if suspended < MIN_SUSPEND_NS:
            suspended = 0
        if abs(step) < MIN_STEP_NS:
            step = 0
        return ClockChange(before, wall, step, suspended) if suspended or step else None
