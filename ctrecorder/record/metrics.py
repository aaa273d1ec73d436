"""The metrics of a recorder, each ten seconds, from what it publishes and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ctrecorder import __version__, labels
from ctrecorder.columns import Event
from ctrecorder.ctlog.frame import REASONS
from ctrecorder.errors import KernelError
from ctrecorder.kernel.sockets import EventSocket
from ctrecorder.kernel.statistics import Statistics, read_statistics
from ctrecorder.kernel.timex import clock_state
from ctrecorder.metrics.text import Sample
from ctrecorder.metrics.write import remove, write
from ctrecorder.record.dump import TableDump
from ctrecorder.record.guard import Guard
from ctrecorder.record.options import RecorderOptions
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.times import SECOND

# Prometheus scrapes each 15 to 60 s.  Less often would make an alert late by that; more often shows
# no more.
PERIOD_NS = 10 * SECOND
_TRACKING = {"on": 1, "off": 0, "unknown": -1}


class Sources(NamedTuple):
    """The parts of a recorder that know the numbers."""

    queue: WriteQueue
    events: EventSocket
    guard: Guard
    dump: TableDump


class RecorderMetrics:
    """Writes the file of one recorder; each sample has the name of its recording."""

    def __init__(self, options: RecorderOptions, sources: Sources, log: Log, now: int) -> None:
        """`now`: ns UTC."""
        self._recording, self._directory, self._log = options.recording, options.metrics, log
        self._queue, self._events, self._guard, self._dump = sources
        self._counters, self._started = self._queue.counters, now
        self._due = 0  # monotonic ns
        self._problem = ""
        self._statistics = _statistics() if self._directory else None
        self._refused = Statistics(0, 0, 0)

    def write(self, now: int, monotonic: int) -> None:
        """Write the file if that is due; a failure is logged once.

        `now`: ns UTC.  `monotonic`: monotonic ns.
        """
        if not self._directory or monotonic < self._due:
            return
        self._due = monotonic + PERIOD_NS
        problem = write(f"ctrecord-{self._recording}", self._samples(now), self._directory)
        if problem and problem != self._problem:
            self._log.send(messages.SKIPPED, problem, path=self._directory, error=problem)
        self._problem = problem

    def stopped(self, *, gone: bool) -> None:
        """The recorder ends.  Its file stays: an alert says that the log ends there.

        `gone`: what was recorded does not exist any more; then the file is removed.
        """
        if gone and self._directory:
            remove(f"ctrecord-{self._recording}", self._directory)

    def _samples(self, now: int) -> Iterator[Sample]:
        for name, values, value in (
            *self._of_events(),
            *self._of_writing(),
            *self._of_holes(now),
            *self._of_machine(),
        ):
            yield Sample(f"ctrecorder_{name}", (self._recording, *values), value)

    def _of_events(self) -> Iterator[Sample]:
        yield Sample("build_info", (__version__,), 1)
        yield Sample("start_time_seconds", (), self._started / SECOND)
        for event in Event:
            yield Sample("events_total", (event.name.lower(),), self._counters.of(event))
        # Each reason from the start: Prometheus sees no increase of what was not there before.
        for reason in REASONS:
            yield Sample("events_lost_total", (reason,), self._counters.lost_of[reason])
        yield Sample("messages_refused_total", (), self._counters.foreign)
        used, size = self._events.memory()
        yield Sample("receive_buffer_bytes", (), size)
        yield Sample("receive_buffer_used_bytes", (), used)

    def _of_writing(self) -> Iterator[Sample]:
        queue, counters = self._queue, self._counters
        written = queue.written
        yield Sample("written_bytes_total", (), queue.series.bytes_written)
        yield Sample("write_errors_total", (), counters.write_errors)
        yield Sample("write_failing", (), int(queue.failing))
        yield Sample("held_bytes", (), queue.held_bytes)
        yield Sample("held_limit_bytes", (), queue.memory_bytes)
        yield Sample("watermark_timestamp_seconds", (), written.watermark / SECOND)
        yield Sample("synced_timestamp_seconds", (), written.synced / SECOND)
        yield Sample("syncs_total", (), counters.syncs)
        yield Sample("segment_sequence", (), queue.series.sequence)

    def _of_holes(self, now: int) -> Iterator[Sample]:
        lasting = Counter(
            (gap.reason, labels.FAMILIES.get(gap.facts.get("family", 0), "all"))
            for gap in self._guard.open_gaps(now)
        )
        for (reason, family), count in lasting.items():
            yield Sample("gap_open", (reason, family), count)
        for reason in REASONS:
            yield Sample("gap_seconds_total", (reason,), self._counters.gap_seconds[reason])
        if self._dump.seconds is not None:
            yield Sample("dump_duration_seconds", (), self._dump.seconds)

    def _of_machine(self) -> Iterator[Sample]:
        counted = _statistics()
        if counted is not None and self._statistics is not None:
            risen = counted.since(self._statistics)
            self._refused = Statistics(*map(sum, zip(self._refused, risen, strict=True)))
        self._statistics = counted or self._statistics
        full = max(self._refused.drop - self._refused.insert_failed, 0)
        yield Sample("kernel_refused_total", ("table-full",), full)
        yield Sample("kernel_refused_total", ("tuple-taken",), self._refused.insert_failed)
        clock = clock_state()
        if clock is not None:
            yield Sample("clock_synchronised", (), int(clock.synchronised))
            yield Sample("clock_error_seconds", (), clock.error_us / 1_000_000)
        state = self._guard.state
        for family, found in state.get("tracking", {}).items():
            yield Sample("tracking_active", (family,), _TRACKING.get(found, -1))
        if state.get("events") is not None:
            yield Sample("events_active", (), int(state["events"] != 0))


def _statistics() -> Statistics | None:
    try:
        return read_statistics()
    except KernelError:
        return None
