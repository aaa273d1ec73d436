"""The clock set forth and back, by an hour and by years, also at a rotation: nothing is lost, each
step is told, the log stays in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.segment.reader import Segment
from ctrecorder.times import SECOND
from tests.support.faulttable import Table
from tests.support.folders import paths
from tests.support.router import Lab
from tests.support.traffic import Account, Tough, Traffic, cttest

HOUR, YEAR = 3600, 31_557_600
# libfaketime steps CLOCK_REALTIME for one process: the machine's own clock is not a test's to set.
(LIBRARY,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")


class Clock:
    """The wall clock of a recorder: `environment` for it, and `step`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.offset = 0
        self.step(0)
        self.environment: dict[str, object] = {
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": self._file,
            "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            "NO_FAKE_STAT": 1,
        }

    def step(self, seconds: int) -> None:
        """Set it by so many seconds forth (or back)."""
        self.offset += seconds
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{self.offset:+d}\n")
        aside.rename(self._file)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Without times of the kernel, so that events are dated by the recorder's clock."""
    with Lab(sysctls={"nf_conntrack_events": 1, "nf_conntrack_timestamp": 0}) as built:
        yield built


def marks_and_gaps(folder: Path) -> tuple[list[int], list[tuple[int, int, int | None]]]:
    """The steps that the MARKs tell, in s, and the GAPs `clock`: begin, end (ns UTC), lost."""
    steps, gaps = [], []
    for path in sorted(paths(folder), key=sequence):
        with Segment(str(path)) as segment:
            steps += [
                round(mark.facts["step_ns"] / SECOND)
                for mark in segment.marks
                if mark.what == "clock"
            ]
            gaps += [
                (gap.begin, gap.end, gap.lost) for gap in segment.gaps if gap.reason == "clock"
            ]
    return steps, gaps


def sequence(path: Path) -> int:
    with Segment(str(path)) as segment:
        assert segment.header.sequence is not None
        return segment.header.sequence


@pytest.mark.claim("clock")
@pytest.mark.parametrize("minutes", [1440, 60], ids=["daily", "hourly"])
def test_steps(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table, minutes: int) -> None:
    """Forth and back: all flows once, a MARK and a GAP a step; the chain goes on through years that
    never were.
    """
    folder, clock = tmp_path / "log", Clock(tmp_path)
    folder.mkdir()
    recorder = Tough(lab, folder, "-t", minutes, environment=clock.environment)
    steps = [HOUR, -HOUR, 7 * YEAR, -7 * YEAR, -20 * YEAR, 20 * YEAR]
    for number, step in enumerate(steps):
        traffic.burst(300)
        recorder.synced()
        clock.step(step)
        traffic.burst(300)
        recorder.wait("the clock was stepped", number + 1)
    recorder.synced()
    recorder.stop()
    account = Account(traffic, folder)
    assert account.missing == account.twice == []
    told, gaps = marks_and_gaps(folder)
    assert told == steps
    assert [(round((end - begin) / SECOND), lost) for begin, end, lost in gaps] == [
        (abs(step), 0) for step in steps
    ]
    # A hole in the time of another one may not be told of its own.
    assert "the clock was set" in account.told
    assert "did not run" not in account.told
    cttest(folder)
    # A leap out of its hour or day begins a new segment, if there is none of that second yet.
    assert len({path.name[:4] for path in recorder.segments}) >= 3
    table.add(
        f"clock set by an hour and by years, {'hourly' if minutes == 60 else 'daily'} segments",
        account,
        tried=len(steps),
    )


def test_restart_after_a_leap_back(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table
) -> None:
    """The segment of a clock that was years ahead is not the newest for ever: the chain does not
    fork there.
    """
    folder, clock = tmp_path / "log", Clock(tmp_path)
    folder.mkdir()
    clock.step(5 * YEAR)
    recorder = Tough(lab, folder, environment=clock.environment)
    for step in (-5 * YEAR, 10, 10):
        traffic.burst(100)
        recorder.synced()
        recorder.stop()
        clock.step(step)
        recorder.again()
    recorder.stop()
    numbers = [sequence(path) for path in paths(folder)]
    assert sorted(numbers) == [1, 2, 3, 4]
    account = Account(traffic, folder)
    assert account.missing == account.twice == []
    cttest(folder)
    table.add("restarted with a clock set back by years", account, tried=3)
