"""A step and a suspend told apart, by clocks that a test sets."""

from __future__ import annotations

import pytest

from ctrecorder.record.clock import Clock, ClockChange
from ctrecorder.times import SECOND

NOON = 1_800_000_000 * SECOND


class Machine:
    """Three clocks: `asleep` stops the monotonic one, `step` sets the wall clock."""

    def __init__(self) -> None:
        self.wall, self.monotonic, self.boottime = NOON, 5 * SECOND, 7 * SECOND

    def awake(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns
        self.boottime += ns

    def asleep(self, ns: int) -> None:
        self.wall += ns
        self.boottime += ns

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.monotonic, lambda: self.boottime)


def test_time_goes_on() -> None:
    machine = Machine()
    clock = machine.clock()
    for ns in (0, 1, SECOND, 3600 * SECOND):
        machine.awake(ns)
        machine.wall += SECOND // 1000  # slewed
        assert clock.look() is None


@pytest.mark.parametrize(
    "step",
    [3600 * SECOND, -3600 * SECOND, 10 * 31_557_600 * SECOND, -10 * 31_557_600 * SECOND, SECOND],
)
def test_a_step(step: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.awake(2 * SECOND)
    machine.wall += step
    assert clock.look() == ClockChange(NOON + 2 * SECOND, NOON + 2 * SECOND + step, step, 0)
    machine.awake(SECOND)
    assert clock.look() is None


def test_a_suspend_is_no_step() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.awake(SECOND)
    machine.asleep(3600 * SECOND)
    assert clock.look() == ClockChange(NOON + SECOND, NOON + 3601 * SECOND, 0, 3600 * SECOND)


def test_a_suspend_after_which_the_clock_is_set() -> None:
    """As NTP does when the battery's clock went wrong meanwhile."""
    machine = Machine()
    clock = machine.clock()
    machine.asleep(60 * SECOND)
    machine.wall -= 5 * SECOND
    assert clock.look() == ClockChange(NOON, NOON + 55 * SECOND, -5 * SECOND, 60 * SECOND)
