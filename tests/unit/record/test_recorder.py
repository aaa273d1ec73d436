"""The recorder's own loop, with a clock, sockets and signals that the test drives: no kernel, no
waiting.

`Machine` is the clock.  Its `wait` returns at once: it moves the clock to the next planned action,
or to the end of the wait, so that a minute of recording takes milliseconds.
"""

from __future__ import annotations

import signal
import struct
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.connections.parts import RECEIPT_LATE_NS
from ctrecorder.ctlog.frame import Gap, Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import KernelError
from ctrecorder.kernel import bpf, sockets
from ctrecorder.kernel.sockets import DumpSocket, EventSocket, SlotBuffer
from ctrecorder.record import metrics
from ctrecorder.record import report as counters
from ctrecorder.record.clock import Clock
from ctrecorder.record.configured import Configured
from ctrecorder.record.deadlines import FLUSH_NS, HEARTBEAT_NS
from ctrecorder.record.dump import RESYNC_DELAY_NS, STALL_NS
from ctrecorder.record.guard import Guard
from ctrecorder.record.options import RecorderOptions
from ctrecorder.record.recorder import Recorder
from ctrecorder.record.sample import FlowSample
from ctrecorder.sealing.live import LiveSeals
from ctrecorder.segment.reader import Segment
from ctrecorder.service import daemon, messages
from ctrecorder.service.daemon import SignalPipe
from ctrecorder.service.log import Log
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import Written
from ctrecorder.times import DAY, MINUTE, SECOND
from tests.support.conntrack_messages import (
    CREATE,
    attribute,
    ip4,
    message,
    nested,
    number,
    orig,
    ports,
)
from tests.support.folders import paths
from tests.support.tables import ints

START = 20_000 * DAY + 12 * 60 * MINUTE + 10 * MINUTE  # 12:10 UTC
SIGNALS, EVENTS, DUMP = 1001, 1002, 1003  # descriptors that no file has
MAX_WAITS = 10_000  # the longest test takes some 300
DONE = struct.pack("=IHHIIi", 20, uapi.NLMSG_DONE, uapi.NLM_F_MULTI, 0, 0, 0)


class Machine(Clock):
    """The clocks, and a plan of what happens when."""

    def __init__(self) -> None:
        self.wall_ns, self.monotonic_ns, self.boottime_ns = START, 50 * SECOND, 90 * SECOND
        self.ready: list[Callable[[], int | None]] = []  # a descriptor that is readable, or None
        self.waits = 0
        self._plan: list[tuple[int, Callable[[], object]]] = []
        super().__init__(lambda: self.wall_ns, lambda: self.monotonic_ns, lambda: self.boottime_ns)

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Plan `action` for that many seconds after the start of the test, by the clock that is
        never set.
        """
        self._plan.append((50 * SECOND + round(seconds * SECOND), action))
        self._plan.sort(key=lambda each: each[0])

    def wait(self, sources: Collection[Any], wait_ns: int) -> set[int]:
        self.waits += 1
        assert self.waits < MAX_WAITS, "the loop does not wait"
        assert wait_ns >= 0
        wanted = {source.fileno() for source in sources}
        until = self.monotonic_ns + wait_ns
        while not (found := self._found() & wanted):
            if not self._plan or self._plan[0][0] > until:
                self._move(until)
                break
            when, action = self._plan.pop(0)
            self._move(when)
            action()
        return found

    def step_wall(self, ns: int) -> None:
        self.wall_ns += ns

    def suspend(self, ns: int) -> None:
        self.wall_ns += ns
        self.boottime_ns += ns

    def _found(self) -> set[int]:
        return {descriptor for each in self.ready if (descriptor := each()) is not None}

    def _move(self, when: int) -> None:
        passed = max(when - self.monotonic_ns, 0)
        self.wall_ns += passed
        self.monotonic_ns += passed
        self.boottime_ns += passed


class Signals(SignalPipe):
    """Signals that the test sends."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def fileno(self) -> int:
        return SIGNALS

    def read(self) -> list[int]:
        sent, self.sent = self.sent, []
        return sent


class Events(EventSocket):
    """An event socket whose messages and drops the test makes."""

    def __init__(self, machine: Machine, buffer_bytes: int) -> None:
        self.foreign = self.truncated = 0
        self.capped = ""
        self.buffer_bytes = buffer_bytes
        self.dropped = 0
        self.changes: list[tuple[bool, bytes | None]] = []
        self.queued: list[bytes] = []
        self.largest_batch = 0
        self._machine = machine

    def fileno(self) -> int:
        return EVENTS

    def receive(self, buffer: SlotBuffer) -> int:
        first = buffer.used
        taken = self.queued[: min(sockets.BATCH, buffer.rows - first)]
        del self.queued[: len(taken)]
        self.largest_batch = max(self.largest_batch, len(taken))
        for row, data in enumerate(taken, first):
            buffer.slots[row, : len(data)] = np.frombuffer(data, np.uint8)
            buffer.sizes[row] = len(data)
        buffer.used = first + len(taken)
        buffer.received[first : buffer.used] = self._machine.wall()
        return len(taken)

    def drops(self) -> int:
        return self.dropped

    def change(self, updates: bool, program: bytes | None) -> None:
        self.changes.append((updates, program))


class Dump(DumpSocket):
    """A dump socket that answers each request with the datagrams of `answers`."""

    answers: list[bytes]
    requests: int

    def __init__(self) -> None:
        self.foreign = 0
        self._answer = bytearray()
        self.pending: list[bytes] = []

    def request(self, family: int = uapi.AF_UNSPEC) -> None:
        type(self).requests += 1
        self.pending = list(self.answers)

    def fileno(self) -> int:
        return DUMP

    def close(self) -> None:
        self.pending = []

    def _receive(self, room: memoryview) -> tuple[int, int]:
        if not self.pending:
            return 0, 0
        data = self.pending.pop(0)
        room[: len(data)] = data
        return len(data), 0


class Entries(Log):
    """A log that the test reads: the kind and the text of each entry."""

    def __init__(self) -> None:
        super().__init__("test")
        self.entries: list[tuple[messages.Message, str]] = []

    def send(self, kind: messages.Message, text: str, **fields: object) -> None:
        self.entries.append((kind, text))

    def texts(self, kind: messages.Message) -> list[str]:
        return [text for each, text in self.entries if each is kind]


class Quiet(Guard):
    """A guard that has no kernel to look at: only its sample of the flows is real."""

    def __init__(
        self, log: Log, wall: Callable[[], int], *, accept_notrack: bool, probe: bool
    ) -> None:
        self._log, self._sample, self._probe, self._awaiting = log, FlowSample(), None, []
        self.unheard = 0
        self.settled = True
        self.published: list[int] = []
        self.waiting: list[Gap] = []

    def open(self, now: int) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def netns(self) -> str | None:
        return "1"

    @property
    def state(self) -> dict[str, Any]:
        return {"events": 1}

    def open_gaps(self, now: int) -> list[Gap]:
        return self.waiting

    def look(self, now: int, monotonic: int, *, received: bool) -> bool:
        return self.settled

    def heartbeat(self, now: int) -> Mark:
        return Mark.at(now, "heartbeat")

    def publish(self, chain: str, written: Written, counted: Counters, now: int) -> None:
        self.published.append(written.watermark)


class Stage:
    """A recorder with everything around it."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        buffer_bytes: int = 64 << 20,
        conf: Path | None = None,
    ) -> None:
        monkeypatch.setattr(counters, "log_obstacles", lambda *args: None)
        monkeypatch.setattr(sockets, "sysctl", lambda name: 1)
        self.reports: list[str] = []
        monkeypatch.setattr(metrics, "write", lambda *args: "")  # /run is the machine's
        monkeypatch.setattr(daemon, "notify", lambda *lines: self.reports.extend(lines))
        self.folder, self.log = folder, Entries()
        self.machine, self.signals = Machine(), Signals()
        self.events = Events(self.machine, buffer_bytes)
        Dump.answers, Dump.requests = [DONE], 0
        self.dumps: list[Dump] = []
        options = RecorderOptions(
            template=str(folder / "%Y%m%d-%H%M.ctlog"),
            rotate_minutes=60,
            protocols=(),
            nat_only=False,
            updates=False,
            resync=True,
            buffer_bytes=buffer_bytes,
            block_rows=16384,
            memory_bytes=1 << 20,
            sync_seconds=1,
            mode=0o640,
        )
        configured = None
        if conf is not None:
            configured = Configured({"template": options.template}, str(conf))
            options = configured.read()
        self.recorder = Recorder(options, self.log, self.machine, configured)
        self.recorder.open(lambda *args: self.events, self._connect_dump, Quiet)
        self.machine.ready = [
            lambda: SIGNALS if self.signals.sent else None,
            lambda: EVENTS if self.events.queued else None,
            lambda: DUMP if self.dumps[-1].pending else None,
        ]

    def _connect_dump(self) -> Dump:
        self.dumps.append(Dump())
        return self.dumps[-1]

    def run(self, seconds: float) -> None:
        """Record for that long, then SIGTERM."""
        self.machine.at(seconds, lambda: self.signals.sent.append(signal.SIGTERM))
        self.recorder.start()
        self.recorder.run(self.signals)

    def arrive(self, seconds: float, *ids: int) -> None:
        """Plan one NEW for each of `ids`, all at that moment."""
        self.machine.at(seconds, lambda: self.events.queued.extend(map(event, ids)))

    def segments(self) -> list[Path]:
        return paths(self.folder)


def event(number_: int, flags: int = CREATE) -> bytes:
    """A NEW of TCP whose id is `number_`."""
    return message(
        orig(ip4(0x0A000001, 0x0A000002), ports(6, 1000, 80)),
        number(uapi.CTA_ID, number_, 4),
        flags=flags,
    )


def blocks(path: Path) -> list[tuple[Kind, int, list[int]]]:
    """Of each block: its kind, its last time after the start in ms, and the ids of its rows."""
    with Segment(str(path)) as segment:
        assert segment.findings == []
        return [
            (
                Kind(block.kind),
                (block.time_max - START) // 1_000_000,
                ints(segment.read(block, ["id"])["id"]) if block.kind == Kind.EVENTS else [],
            )
            for block in segment.blocks
        ]


def ids(path: Path) -> list[int]:
    return [each for _, _, row_ids in blocks(path) for each in row_ids]


def marks(path: Path, what: str) -> list[Mark]:
    with Segment(str(path)) as segment:
        return [mark for mark in segment.marks if mark.what == what]


def gaps(path: Path) -> list[Gap]:
    with Segment(str(path)) as segment:
        return segment.gaps


def header(path: Path) -> Header:
    with Segment(str(path)) as segment:
        return segment.header


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_events_are_in_the_log_after_a_second(stage: Stage) -> None:
    """Not earlier either: each flush is a block and a sync."""
    stage.arrive(10, 1)
    stage.arrive(10.5, 2)
    seen: list[tuple[float, list[int]]] = []

    def look() -> None:
        seen.append((stage.machine.monotonic_ns / SECOND - 50, ids(stage.segments()[0])))

    for seconds in (10.9, 10.99, 11.1, 12):
        stage.machine.at(seconds, look)
    stage.run(20)
    assert [found for _, found in seen] == [[], [], [1, 2], [1, 2]]
    assert FLUSH_NS == SECOND


def test_a_batch_is_given_time_to_form(stage: Stage) -> None:
    for step in range(10):
        stage.arrive(10 + step / 1000, step)
    stage.run(20)
    assert ids(stage.segments()[0]) == list(range(10))
    assert stage.events.largest_batch == 10


def test_a_small_buffer_is_read_before_it_is_half_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 KiB hold 102 events, and a million may come a second: the wait is at most 51 us."""
    stage = Stage(tmp_path, monkeypatch, buffer_bytes=65536)
    for step in range(10):
        stage.arrive(10 + step / 1000, step)
    stage.run(20)
    assert ids(stage.segments()[0]) == list(range(10))
    assert stage.events.largest_batch == 1


@pytest.mark.slow
def test_a_flood_is_taken_whole_and_does_not_keep_signals_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3 * 32 * sockets.BATCH + 5
    stage.arrive(10, *range(count))
    left: list[int] = []
    stage.machine.at(10, lambda: stage.signals.sent.append(signal.SIGUSR1))
    log = stage.log.send

    def send(kind: messages.Message, text: str, **fields: object) -> None:
        if kind is messages.COUNTERS:
            left.append(len(stage.events.queued))
        log(kind, text, **fields)

    monkeypatch.setattr(stage.log, "send", send)
    stage.run(20)
    assert ids(stage.segments()[0]) == list(range(count))
    assert left[0] > 0


def test_a_heartbeat_each_minute_of_silence(stage: Stage) -> None:
    stage.arrive(100, 1)
    stage.run(300)
    times = [(mark.begin - START) // SECOND for mark in marks(stage.segments()[0], "heartbeat")]
    # The dump of the start is written in second 1, the rows of second 100 in second 101.
    assert times == [1, 61, 161, 221, 281]
    assert HEARTBEAT_NS == MINUTE


def test_a_new_segment_at_the_period_with_a_dump(stage: Stage) -> None:
    """12:10 to 13:00 is 3,000 s."""
    stage.arrive(2999.9, 1)
    stage.arrive(3000.1, 2)
    Dump.answers = [event(7, uapi.NLM_F_MULTI), DONE]
    stage.run(3010)
    first, second = stage.segments()
    assert (first.name[-10:], second.name[-10:]) == ("1210.ctlog", "1300.ctlog")
    assert ids(first) == [7, 1]
    assert sorted(ids(second)) == [2, 7]
    with Segment(str(first)) as one, Segment(str(second)) as two:
        assert one.state == two.state == "closed"
        assert two.previous_hash == one.last_hash
        assert two.index["time_min"][0] - START == 3000 * SECOND
    for path, reason in ((first, "start"), (second, "new segment")):
        (dump,) = marks(path, "dump")
        assert dump.is_complete_dump
        assert dump.facts == {"rows": 1, "complete": True, "detail": reason}
    assert Dump.requests == 2


def test_a_loss_is_a_gap_and_a_dump_follows(stage: Stage) -> None:
    def drop() -> None:
        stage.events.dropped += 30
        stage.events.queued.append(event(2))

    stage.arrive(10, 1)
    stage.machine.at(20, drop)
    stage.run(40)
    (path,) = stage.segments()
    (gap,) = gaps(path)
    assert (gap.reason, gap.lost) == ("overrun", 30)
    # From the last look without a loss, and the recorder looks each second.
    assert START + 18 * SECOND <= gap.begin < START + 20 * SECOND
    assert START + 20 * SECOND <= gap.end < START + 21 * SECOND
    first, after = marks(path, "dump")
    assert after.facts["detail"] == "after a loss"
    assert gap.end + RESYNC_DELAY_NS <= after.begin < gap.end + RESYNC_DELAY_NS + SECOND
    assert first.begin < START + 2 * SECOND
    assert stage.recorder.counters.lost == 30
    assert "30 lost" in stage.log.texts(messages.COUNTERS)[0]


def test_unreadable_messages_are_a_gap_and_foreign_ones_are_not(stage: Stage) -> None:
    def arrive() -> None:
        stage.events.queued.append(message(attribute(uapi.CTA_TUPLE_ORIG, b"\0" * 3)))
        stage.events.foreign += 4

    stage.machine.at(10, arrive)
    stage.run(20)
    (gap,) = gaps(stage.segments()[0])
    assert (gap.reason, gap.lost) == ("unreadable", 1)
    assert stage.log.texts(messages.REFUSED) == [
        "refused 4 messages that a process sent, not the kernel"
    ]


def test_a_dump_that_stalls_is_given_up_and_tried_again(stage: Stage) -> None:
    Dump.answers = [event(7, uapi.NLM_F_MULTI)]  # and no end

    def heal() -> None:
        Dump.answers = [DONE]

    stage.machine.at(5, heal)
    stage.run(60)
    stalled, whole = marks(stage.segments()[0], "dump")
    assert stalled.facts["detail"] == "the dump of the conntrack table has stalled"
    assert not stalled.is_complete_dump
    assert stalled.end - stalled.begin >= STALL_NS
    assert whole.is_complete_dump
    assert len(stage.dumps) == 2  # answers to the old socket are no part of the new dump


def test_a_dump_that_the_kernel_interrupted_is_not_complete(stage: Stage) -> None:
    """The kernel rebuilt the table meanwhile: entries may be missing."""
    flags = uapi.NLM_F_MULTI | uapi.NLM_F_DUMP_INTR
    Dump.answers = [struct.pack("=IHHIIi", 20, uapi.NLMSG_DONE, flags, 0, 0, 0)]
    stage.machine.at(2, lambda: setattr(Dump, "answers", [DONE]))
    stage.run(60)
    interrupted, whole = marks(stage.segments()[0], "dump")
    assert (
        interrupted.facts["detail"] == "the table, the clock or the settings were changed meanwhile"
    )
    assert not interrupted.is_complete_dump
    assert whole.is_complete_dump


def test_a_step_of_the_clock_is_a_mark_and_a_gap(stage: Stage) -> None:
    stage.arrive(10, 1)
    stage.machine.at(10.5, lambda: stage.machine.step_wall(-90 * SECOND))
    stage.arrive(12, 2)
    stage.run(20)
    (path,) = stage.segments()
    (mark,) = marks(path, "clock")
    assert mark.facts == {"step_ns": -90 * SECOND}
    (gap,) = [gap for gap in gaps(path) if gap.reason == "clock"]
    assert (gap.lost, gap.end - gap.begin) == (0, 90 * SECOND)
    order = [(kind, row_ids) for kind, _, row_ids in blocks(path) if kind != Kind.GAP]
    at = order.index((Kind.EVENTS, [1]))
    # The MARK, the dump, the watermark behind the GAP, and what came after the step.
    assert order[at + 1 : at + 5] == [(Kind.MARK, [])] * 3 + [(Kind.EVENTS, [2])]
    assert stage.log.texts(messages.CLOCK) == ["the clock was stepped by -90.000 s"]
    # A dump from before the step does not show what was open behind it.
    assert marks(path, "dump")[-1].begin >= START - 80 * SECOND
    assert [dump.facts["detail"] for dump in marks(path, "dump")] == [
        "start",
        "after a step or a suspend",
    ]


def test_a_dump_follows_when_the_times_that_came_twice_are_over(stage: Stage) -> None:
    """Else no dump is behind the GAP, and no answer about later times is complete."""
    stage.machine.at(10, lambda: stage.machine.step_wall(-90 * SECOND))
    stage.machine.at(20, lambda: stage.machine.step_wall(-30 * SECOND))
    stage.run(150)
    (path,) = stage.segments()
    end = max(gap.end for gap in gaps(path) if gap.reason == "clock")
    *_, last = marks(path, "dump")
    assert end < last.begin < end + 3 * SECOND
    assert last.is_complete_dump
    # Once, and at the end of all of them.
    assert [dump.facts["detail"] for dump in marks(path, "dump")] == [
        "start",
        "after a step or a suspend",
        "after a step or a suspend",
        "times that came twice are over",
    ]


@pytest.mark.parametrize("rotates", [False, True])
def test_a_dump_follows_when_the_recorder_was_restarted_within_times_that_come_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotates: bool
) -> None:
    first = Stage(tmp_path, monkeypatch)
    first.machine.at(10, lambda: first.machine.step_wall(-90 * SECOND))
    if rotates:
        first.machine.at(15, lambda: first.signals.sent.append(signal.SIGHUP))
    first.run(20)
    known = first.segments()
    end = max(gap.end for path in known for gap in gaps(path) if gap.reason == "clock")
    second = Stage(tmp_path, monkeypatch)
    second.machine.step_wall(-60 * SECOND)
    second.machine.look()
    second.run(100)
    (path,) = set(second.segments()) - set(known)
    *_, last = marks(path, "dump")
    assert last.facts["detail"] == "times that came twice are over"
    assert end < last.begin < end + 3 * SECOND


@pytest.mark.parametrize("step", [90, -90])
def test_events_of_before_a_step_that_were_received_after_it_are_in_a_gap(
    stage: Stage, step: int
) -> None:
    """They are dated by the new clock: one begins or ends a minute from when it did."""
    before: list[int] = []

    def happen() -> None:
        before.append(stage.machine.wall_ns)
        stage.events.queued.append(event(2))
        stage.machine.step_wall(step * SECOND)

    stage.arrive(10, 1)
    stage.machine.at(10.5, happen)
    stage.run(20)
    found = [gap for gap in gaps(stage.segments()[0]) if gap.reason in ("clock", "late")]
    happened = before[0] + min(step, 0) * SECOND
    assert any(gap.begin < happened <= gap.end for gap in found if gap.reason == "late")
    assert {gap.reason for gap in found} == {"clock", "late"}
    if step < 0:  # what is named for these times can have happened before the step or after it
        assert any(gap.begin <= happened - RECEIPT_LATE_NS for gap in found)


def test_a_loss_after_a_step_is_dated_by_the_new_clock(stage: Stage) -> None:
    def drop() -> None:
        stage.events.dropped += 1
        stage.events.queued.append(event(2))

    stage.machine.at(10, lambda: stage.machine.step_wall(30 * MINUTE))
    stage.machine.at(300, drop)
    stage.run(310)
    (gap,) = [gap for gap in gaps(stage.segments()[0]) if gap.reason == "overrun"]
    assert gap.begin >= START + 30 * MINUTE


def test_a_step_past_the_period_begins_a_segment(stage: Stage) -> None:
    stage.machine.at(10, lambda: stage.machine.step_wall(2 * 60 * MINUTE))
    stage.run(20)
    assert [path.name[-10:] for path in stage.segments()] == ["1210.ctlog", "1410.ctlog"]


@pytest.mark.parametrize(("seconds", "is_late"), [(0.2, False), (1.6, True)])
def test_events_that_waited_are_a_gap(stage: Stage, seconds: float, is_late: bool) -> None:
    """The kernel did not date them, and the usual tolerance of a question is 1 s."""

    def stall() -> None:
        stage.events.queued.append(event(1))
        stage.machine._move(stage.machine.monotonic_ns + round(seconds * SECOND))

    stage.machine.at(10, stall)
    stage.run(20)
    late = [gap for gap in gaps(stage.segments()[0]) if gap.reason == "late"]
    assert bool(late) == is_late
    assert all(gap.begin <= START + 10 * SECOND for gap in late)
    assert all(gap.end >= START + (10 + seconds) * SECOND for gap in late)


def test_a_suspend_is_a_gap(stage: Stage) -> None:
    stage.machine.at(10, lambda: stage.machine.suspend(600 * SECOND))
    stage.run(20)
    (gap,) = gaps(stage.segments()[0])
    assert (gap.reason, gap.lost, gap.end - gap.begin) == ("not-recording", 0, 600 * SECOND)


def test_stop_takes_what_is_queued_and_closes_the_segment(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that the kernel queued before the signal, and the loop has not seen."""
    read = stage.signals.read

    def read_late() -> list[int]:
        sent = read()
        if signal.SIGTERM in sent:
            stage.events.queued.extend(map(event, range(5)))
        return sent

    monkeypatch.setattr(stage.signals, "read", read_late)
    stage.run(20)
    (path,) = stage.segments()
    with Segment(str(path)) as segment:
        assert segment.state == "closed"
    assert ids(path) == list(range(5))
    (stop,) = marks(path, "stop")
    assert stop.facts == {"events": 5, "lost": 0, "boottime_ns": 110 * SECOND}
    assert stage.log.entries[-1] == (messages.STOPPED, f"stopped; {path} is closed")
    assert stage.reports[0] == "READY=1"
    assert stage.reports[-1] == "STOPPING=1"


def test_sighup_begins_a_segment(stage: Stage) -> None:
    stage.machine.at(130, lambda: stage.signals.sent.append(signal.SIGHUP))
    stage.run(140)
    assert [path.name[-10:] for path in stage.segments()] == ["1210.ctlog", "1212.ctlog"]


def test_a_kernel_that_refuses_leaves_a_closed_segment(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(buffer: SlotBuffer) -> int:
        raise KernelError("cannot receive conntrack events: no")

    stage.arrive(10, 1)
    stage.machine.at(20, lambda: monkeypatch.setattr(stage.events, "receive", refuse))
    stage.arrive(20, 2)
    with pytest.raises(KernelError):
        stage.run(30)
    (path,) = stage.segments()
    with Segment(str(path)) as segment:
        assert segment.state == "closed"
    assert ids(path) == [1]


def test_the_status_has_the_rate(stage: Stage) -> None:
    for second in range(1, 40):
        stage.arrive(second + 0.5, *range(10 * second, 10 * second + 10))
    stage.run(45)
    statuses = [line for line in stage.reports if line.startswith("STATUS=")]
    name = stage.segments()[0].name
    assert statuses[2].startswith("STATUS=10 events/s, ")
    assert statuses[2].endswith(f" in all, 0 lost; {name}")
    assert 45 <= len(statuses) <= 47  # each second: what was received is in it soon
    assert statuses[12].startswith("STATUS=10 events/s, 110 in all")


def watermarks(path: Path) -> list[tuple[Kind, float]]:
    """The blocks with a watermark, and the watermark in seconds after the start."""
    with Segment(str(path)) as segment:
        return [
            (Kind(block.kind), (block.time_max - START) / SECOND)
            for block in segment.blocks
            if block.watermark
        ]


def test_each_write_ends_with_a_watermark(stage: Stage) -> None:
    """Of the moment before the receive that found the buffer empty."""
    stage.arrive(10, 1)
    stage.run(20.5)
    (path,) = stage.segments()
    found = watermarks(path)
    assert [kind for kind, _ in found if kind == Kind.EVENTS] == [Kind.EVENTS]
    (written,) = [seconds for kind, seconds in found if kind == Kind.EVENTS]
    assert 10 <= written <= 11.1
    assert found[-1] == (Kind.MARK, found[-1][1])
    assert 19 <= found[-1][1] <= 20.5


def test_a_watermark_is_of_the_time_before_the_receive(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event can be queued while the receive that finds nothing returns."""
    begun: set[int] = set()
    original = stage.events.receive

    def receive(buffer: SlotBuffer) -> int:
        before, taken = stage.machine.wall(), original(buffer)
        if not taken:
            begun.add(before)
            stage.machine._move(stage.machine.monotonic_ns + SECOND // 100)
        return taken

    monkeypatch.setattr(stage.events, "receive", receive)
    stage.arrive(10, 1)
    stage.run(20)
    with Segment(str(stage.segments()[0])) as segment:
        found = {block.time_max for block in segment.blocks if block.watermark}
    assert found
    assert found <= begun | {START}


def test_a_watermark_does_not_stretch_a_dump(stage: Stage) -> None:
    """A MARK of a period carries none: what came behind the dump is not in it."""
    stage.run(10)
    (path,) = stage.segments()
    with Segment(str(path)) as segment:
        blocks = [block for block in segment.blocks if block.kind == Kind.MARK]
        pairs = zip(blocks, segment.marks, strict=True)
        carriers = {mark.what for block, mark in pairs if block.watermark}
    assert "dump" not in carriers
    assert "heartbeat" in carriers


@pytest.mark.slow
def test_the_watermark_stands_still_while_the_buffer_is_not_empty(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood that always has more: its events are written, but nothing is proved."""

    original = stage.events.receive

    def receive(buffer: SlotBuffer) -> int:
        if 10 <= stage.machine.monotonic_ns / SECOND - 50 < 15:
            stage.events.queued.extend([event(1)] * (2 * sockets.BATCH))
            del stage.events.queued[4 * sockets.BATCH :]
            stage.machine._move(stage.machine.monotonic_ns + SECOND // 200)
        return original(buffer)

    stage.arrive(10, 1)

    monkeypatch.setattr(stage.events, "receive", receive)
    stage.run(30)
    during = [seconds for _, seconds in watermarks(stage.segments()[0]) if 10.2 < seconds < 14.8]
    assert during == []
    assert max(seconds for _, seconds in watermarks(stage.segments()[0])) > 20


def test_a_loss_is_written_before_the_watermark_behind_it(stage: Stage) -> None:
    def drop() -> None:
        stage.events.dropped += 30
        stage.events.queued.append(event(2))

    stage.machine.at(20, drop)
    stage.run(40)
    with Segment(str(stage.segments()[0])) as segment:
        (gap,) = gaps(stage.segments()[0])
        at = [Kind(block.kind) for block in segment.blocks].index(Kind.GAP)
        before = [block.time_max for block in segment.blocks[:at] if block.watermark]
        assert max(before) <= gap.begin


def test_holes_that_last_are_in_each_segment(stage: Stage) -> None:
    hole = Gap(START, START + SECOND, "no-events", None, "", {"number": 7, "open": True})
    guard = stage.recorder._guard
    assert isinstance(guard, Quiet)
    guard.waiting.append(hole)
    stage.machine.at(70, lambda: stage.signals.sent.append(signal.SIGHUP))
    stage.run(90)
    first, second = stage.segments()
    assert [gap.facts for gap in gaps(second)] == [{"number": 7, "open": True}]
    assert gaps(first) == []
    with Segment(str(second)) as segment:
        assert segment.header.requires == ("coverage",)
        assert segment.version == 2


def test_a_crash_is_a_gap_from_the_last_watermark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Stage(tmp_path, monkeypatch)
    first.arrive(10, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first.recorder, "_stop", lambda: None)
        first.run(20)
    writer = first.recorder._series.writer
    assert writer is not None
    writer.abandon()
    (path,) = first.segments()
    until = watermarks(path)[-1][1]
    second = Stage(tmp_path, monkeypatch)
    second.machine.step_wall(100 * SECOND)
    second.machine.look()
    second.run(10)
    (gap,) = [gap for gap in gaps(second.segments()[-1]) if gap.reason == "crashed"]
    assert (gap.begin - START) / SECOND == until


def test_a_crash_behind_a_full_block_is_a_gap_from_the_last_watermark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full block is written at once, without a watermark: events beside it wait in memory."""
    first = Stage(tmp_path, monkeypatch)
    first.arrive(10.5, *range(20_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first.recorder, "_stop", lambda: None)
        first.run(10.5)
    writer = first.recorder._series.writer
    assert writer is not None
    writer._release()  # kill -9: what was written stays, synced or not
    (path,) = first.segments()
    second = Stage(tmp_path, monkeypatch)
    second.machine.step_wall(100 * SECOND)
    second.machine.look()
    second.run(10)
    (gap,) = [gap for gap in gaps(second.segments()[-1]) if gap.reason == "crashed"]
    with Segment(str(path)) as segment:
        assert max(segment.index["time_max"]) > START + 10 * SECOND
        assert gap.begin == segment.watermark
    assert gap.begin <= START + 10.5 * SECOND


def test_the_published_watermark_is_that_of_what_can_be_read(stage: Stage) -> None:
    stage.arrive(10, 1)
    stage.run(30)
    guard = stage.recorder._guard
    assert isinstance(guard, Quiet)
    assert len(guard.published) >= 28
    assert guard.published == sorted(guard.published)
    assert guard.published[-1] > START + 28 * SECOND


@pytest.mark.parametrize("settled", [True, False])
def test_the_published_watermark_goes_back_with_the_clock(stage: Stage, settled: bool) -> None:
    """What the clock said before the step would cover times that are still to come."""
    before = 0

    def step() -> None:
        nonlocal before
        guard = stage.recorder._guard
        assert isinstance(guard, Quiet)
        guard.settled, before = settled, len(guard.published)
        stage.machine.step_wall(-900 * SECOND)

    stage.machine.at(10.5, step)
    for tenth in range(200):
        stage.arrive(tenth / 10, tenth)
    stage.run(20)
    guard = stage.recorder._guard
    assert isinstance(guard, Quiet)
    assert guard.published[before - 1] > START + 8 * SECOND
    assert max(guard.published[before + 1 :]) <= START - 880 * SECOND


def test_nothing_is_proved_while_the_rules_are_not_known(stage: Stage) -> None:
    def change(settled: bool) -> None:
        guard = stage.recorder._guard
        assert isinstance(guard, Quiet)
        guard.settled = settled

    stage.machine.at(10.5, lambda: change(settled=False))
    stage.machine.at(15.5, lambda: change(settled=True))
    for second in range(9, 18):
        stage.arrive(second, second)
    stage.run(30)
    found = [seconds for _, seconds in watermarks(stage.segments()[0])]
    assert not [seconds for seconds in found if 10.5 < seconds < 15.5]
    assert max(found) > 20


def shown(
    id_: int, began: float, *, kind: int = uapi.CT_NEW, flags: int = uapi.NLM_F_MULTI
) -> bytes:
    """A row of a dump, or a DESTROY: of a flow that began so many seconds after the start."""
    start = START + round(began * SECOND)
    return message(
        orig(ip4(0x0A000001, 0x0A000002), ports(6, 1000, 80)),
        number(uapi.CTA_STATUS, 6, 4),
        number(uapi.CTA_ID, id_, 4),
        nested(uapi.CTA_TIMESTAMP, number(uapi.CTA_TIMESTAMP_START, start, 8)),
        kind=kind,
        flags=flags,
    )


UNTIL = 3000 + 20  # the second segment begins after 50 minutes, with a dump


def hidden(stage: Stage, *heard: int) -> None:
    """Two flows that the second dump shows, and one that ended; a NEW of each of `heard`."""
    stage.arrive(100, *heard)

    def dump() -> None:
        Dump.answers = [shown(64, 100) + shown(128, 100), DONE]

    def end() -> None:
        stage.events.queued.append(shown(192, 100, kind=uapi.CT_DELETE, flags=0))

    stage.machine.at(2000, dump)
    stage.machine.at(1000, end)


def test_connections_that_the_kernel_did_not_report_are_a_gap(stage: Stage) -> None:
    hidden(stage, 128, 7)
    stage.run(UNTIL)
    first, second = stage.segments()
    (before,), (after,) = marks(first, "dump"), marks(second, "dump")
    assert gaps(first) == []
    (gap,) = gaps(second)
    assert (gap.begin, gap.end, gap.reason, gap.lost) == (before.begin, after.end, "unheard", 2)
    found = {"family": uapi.AF_INET, "protocols": [6], "flows": 2}
    assert gap.facts == {"at_least": True, "unheard": [found]}
    (warning,) = stage.log.texts(messages.UNHEARD)
    assert "in a sample at least 2 of IPv4 (tcp)" in warning
    (line,) = stage.log.texts(messages.GAP)
    assert line.startswith("gap (unheard): at least 2 events from")


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["heard", "early", "loss", "step", "suspend", "resized"])
def test_what_explains_a_connection_without_a_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    hidden(stage, *([64, 128, 192] if reason == "heard" else []))
    if reason == "loss":
        stage.machine.at(100.5, lambda: setattr(stage.events, "dropped", 1))
    elif reason == "step":
        stage.machine.at(1500, lambda: stage.machine.step_wall(-3 * SECOND))
    elif reason == "suspend":
        stage.machine.at(1500, lambda: stage.machine.suspend(3 * SECOND))
    elif reason == "resized":
        buckets = iter(range(99))
        monkeypatch.setattr(sockets, "sysctl", lambda name: next(buckets))
    stage.run(3000 + 4 if reason == "early" else UNTIL)
    found = [gap.reason for path in stage.segments() for gap in gaps(path)]
    assert "unheard" not in found
    assert stage.log.texts(messages.UNHEARD) == []
    complete = [mark.is_complete_dump for path in stage.segments() for mark in marks(path, "dump")]
    assert all(complete) is (reason != "resized")


def reload_at(stage: Stage, seconds: float, conf: Path, text: str) -> None:
    """Plan a change of the configuration and SIGHUP."""

    def change() -> None:
        conf.write_text(text)
        stage.signals.sent.append(signal.SIGHUP)

    stage.machine.at(seconds, change)


def test_a_reload_changes_what_is_recorded_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, folder = tmp_path / "x.conf", tmp_path / "log"
    folder.mkdir()
    conf.write_text("[record]\nprotocols = tcp\n")
    stage = Stage(folder, monkeypatch, conf=conf)
    new = "[record]\nnat_only = yes\nupdates = yes\nrotate = 20\nmemory = 128\nbuffer = 128\n"
    spans: list[tuple[int, int]] = []
    monkeypatch.setattr(
        stage.recorder._guard, "incomparable", lambda since, until: spans.append((since, until))
    )
    reload_at(stage, 70, conf, new)
    stage.arrive(69.9, 1)
    stage.arrive(80, 2)
    stage.run(1000)
    first, second, third = stage.segments()
    assert (ids(first), ids(second), ids(third)) == ([1], [2], [])
    assert (header(first).protocols, header(first).nat_only) == (("tcp",), False)
    assert (header(second).protocols, header(second).nat_only) == ((), True)
    assert (header(first).updates, header(second).updates) == (False, True)
    assert stage.events.changes == [(True, bpf.event_filter((), True))]
    assert stage.recorder._queue.memory_bytes == 128 << 20
    (gap,) = gaps(first) + gaps(second)
    assert (gap.reason, gap.detail) == (
        "not-recording",
        "the settings of what is recorded were changed",
    )
    assert START + 69 * SECOND <= gap.begin <= START + 70 * SECOND <= gap.end
    assert gap.end - gap.begin < 2 * SECOND
    assert spans == [(gap.begin, gap.end)], "a wider filter shows flows without a NEW"
    assert third.name.endswith("-1220.ctlog"), "rotate = 20"
    (said,) = stage.log.texts(messages.RELOADED)
    assert "changed: rotate, protocols, nat_only, updates, memory" in said
    assert said.endswith("after the next restart: buffer")


def test_a_reload_of_a_sealed_recorder_does_not_say_that_seals_need_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, monkeypatch)
    plain, log = stage.recorder.options, stage.log
    sealed = replace(plain, seals=LiveSeals("", "", Log("ctrecord")))
    counters.log_reloaded(log, sealed, sealed.reloaded(plain), plain)
    assert log.texts(messages.RELOADED) == ["settings were read again; changed: nothing"]


def test_a_reload_that_changes_nothing_only_begins_a_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, folder = tmp_path / "x.conf", tmp_path / "log"
    folder.mkdir()
    conf.write_text("[record]\nprotocols = tcp\n")
    stage = Stage(folder, monkeypatch, conf=conf)
    reload_at(stage, 70, conf, "[record]\nprotocols = tcp\n[expire]\nmax_age = ?\n")
    stage.run(100)
    assert len(stage.segments()) == 2
    assert [gap for path in stage.segments() for gap in gaps(path)] == []
    assert stage.events.changes == []
    assert stage.log.texts(messages.RELOADED) == ["settings were read again; changed: nothing"]
    assert stage.log.texts(messages.WRONG_SETTING) == []


@pytest.mark.slow
def test_a_wrong_setting_is_said_each_hour_and_never_widens_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, folder = tmp_path / "x.conf", tmp_path / "log"
    folder.mkdir()
    conf.write_text("[record]\nnat_only = yes\nrotate = 1m\n")
    stage = Stage(folder, monkeypatch, conf=conf)
    monkeypatch.setattr(sys.modules[__name__], "MAX_WAITS", 100_000)
    reload_at(stage, 3 * 3600 + 1800, conf, "[record]\nnat_only = nein\nrotate = 60\n")
    stage.machine.at(4 * 3600, conf.unlink)
    stage.machine.at(4 * 3600 + 1, lambda: stage.signals.sent.append(signal.SIGHUP))
    stage.run(4 * 3600 + 60)
    said = stage.log.texts(messages.WRONG_SETTING)
    assert len(said) == 6
    assert all(line.endswith("in minutes; using rotate = 60") for line in said[:4])
    assert said[4].endswith("nat_only = nein: allowed is yes or no; using nat_only = yes")
    assert "no such file" in said[5]
    assert said[5].endswith("; recording continues with the settings of before")
    assert {header(path).nat_only for path in stage.segments()} == {True}
    assert stage.events.changes == []
