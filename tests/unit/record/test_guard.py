"""The guard without a kernel: what a probe, a loss and a dump decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ctrecorder.ctlog.frame import Gap, Mark
from ctrecorder.errors import ArchiveError
from ctrecorder.record import guard as guard_module
from ctrecorder.record.guard import PROOF_NS, Guard
from ctrecorder.service.log import Log
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.times import SECOND
from ctrecorder.watch.conditions import EVENTS
from tests.unit.watch.test_watcher import ON, START, UNKNOWN, Kernel, reading


class Probe:
    """Its events arrive when the test says so."""

    def __init__(self) -> None:
        self.pending = False
        self.sent = 0

    def send(self) -> None:
        self.pending, self.sent = True, self.sent + 1

    def close(self) -> None:
        pass


@dataclass
class Scene:
    """A guard, and what it queued."""

    guard: Guard
    kernel: Kernel
    probe: Probe
    gaps: list[Gap] = field(default_factory=list)
    dumps: list[str] = field(default_factory=list)
    second: int = 0

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def mark(self, mark: Mark) -> None:
        pass

    def look(self, seconds: int = 1, *, received: bool = True) -> bool:
        self.second += seconds
        return self.guard.look(at(self.second), self.second * SECOND, received=received)


def at(second: int) -> int:
    return START + second * SECOND


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    def no_folder() -> None:
        raise ArchiveError("none")

    kernel, probe = Kernel(), Probe()
    monkeypatch.setattr(guard_module, "Conditions", lambda: kernel)
    monkeypatch.setattr(guard_module, "Probe", lambda: probe)
    monkeypatch.setattr(guard_module, "Publisher", no_folder)
    monkeypatch.setattr(guard_module, "_statistics", lambda: None)
    scenes: list[Scene] = []

    def wall() -> int:
        return at(scenes[0].second)

    one = Scene(Guard(Log("test"), wall, accept_notrack=False, probe=True), kernel, probe)
    scenes.append(one)
    one.guard.attach(cast(WriteQueue, one), cast(Any, one.dumps.append))
    one.guard.open(START)
    return one


def test_a_probe_that_is_still_queued_is_no_hole(scene: Scene) -> None:
    """In a flood the buffer is not emptied: its events may be behind all others."""
    scene.look()
    assert scene.probe.pending
    scene.look(received=False)
    assert scene.gaps == []
    scene.look()
    (gap,) = scene.gaps
    assert (gap.reason, gap.begin, gap.facts["open"]) == ("no-events", START, True)


def test_a_probe_that_the_kernel_dropped_is_no_hole(scene: Scene) -> None:
    """The loss has a GAP of its own; another probe is sent at once."""
    scene.look()
    scene.guard.lost(Gap(START, at(1), "overrun", 1, ""))
    scene.look()
    assert scene.gaps == []
    assert scene.probe.sent == 2


def test_a_loss_by_another_cause_leaves_the_probe(scene: Scene) -> None:
    """Messages that cannot be read come each second, maybe: its events were not among them."""
    scene.look()
    scene.guard.lost(Gap(START, at(1), "unreadable", 1, ""))
    scene.look()
    assert [gap.reason for gap in scene.gaps] == ["no-events"]


def test_each_minute_is_proved(scene: Scene) -> None:
    for _ in range(3 * PROOF_NS // SECOND):
        scene.look()
        scene.probe.pending = False
    assert scene.probe.sent == 3
    assert scene.guard.proved
    assert scene.gaps == []


def test_events_that_are_off_are_one_hole(scene: Scene) -> None:
    """A probe would only find them off again."""
    scene.look()
    scene.probe.pending = False
    scene.kernel.values[EVENTS] = 0
    for _ in range(100):
        scene.look()
    assert scene.probe.sent == 1
    assert len(scene.gaps) == 1


def test_a_dump_that_began_before_the_end_proves_nothing(scene: Scene) -> None:
    """It may have passed the place in the table where a connection began afterwards."""
    scene.kernel.values[EVENTS] = 0
    scene.look(10)
    scene.kernel.values[EVENTS] = 1
    scene.look(10)
    assert scene.dumps == ["events were off"]
    scene.guard.dumped(at(19), at(21), True)
    assert [gap.facts.get("open") for gap in scene.guard.open_gaps(at(22))] == [True]
    scene.guard.dumped(at(20), at(22), False)
    assert [gap.facts.get("open") for gap in scene.guard.open_gaps(at(22))] == [True]
    scene.guard.dumped(at(20), at(23), True)
    assert scene.guard.open_gaps(at(24)) == []
    last = scene.gaps[-1]
    assert (last.begin, last.end, last.facts.get("open")) == (START, at(23), None)
    # The hole is over at the end of that dump: only a dump that begins later has it behind it.
    assert scene.dumps == ["events were off", "a hole has ended"]
    scene.guard.dumped(at(24), at(25), complete=True)
    assert len(scene.dumps) == 2


def test_a_dump_follows_when_tracking_is_not_unknown_any_more(scene: Scene) -> None:
    """What began meanwhile may be open, and no GAP asks for a dump."""
    scene.look()
    scene.kernel.found, scene.kernel.number = reading(ON, UNKNOWN), 8
    scene.look()
    scene.look()
    assert scene.dumps == []
    scene.kernel.found, scene.kernel.number = reading(ON, ON), 9
    scene.look()
    scene.look()
    assert scene.dumps == ["it was unknown whether connections were tracked"]
    assert [gap.reason for gap in scene.gaps if gap.reason != "no-events"] == []


def test_rules_that_change_while_they_are_read_prove_nothing(scene: Scene) -> None:
    assert scene.look()
    scene.kernel.number = 8
    scene.kernel.restless = 1
    assert not scene.look()
    scene.kernel.restless = 0
    assert scene.look()
