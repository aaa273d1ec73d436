"""The recorder: one thread, one loop, from the kernel's events to the segments.

Each turn of the loop waits for events, lets a batch form in the kernel, receives it, and does what
is due: a step of a table dump, a flush, a rotation, a status report.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ctrecorder import __version__
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Gap, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import CtrecorderError
from ctrecorder.kernel import bpf
from ctrecorder.kernel.sockets import DumpSocket, EventSocket
from ctrecorder.record import report as counters
from ctrecorder.record.clock import Clock, ClockChange
from ctrecorder.record.configured import Configured
from ctrecorder.record.deadlines import Deadlines
from ctrecorder.record.dump import RESYNC_DELAY_NS, TableDump
from ctrecorder.record.guard import Guard, clock_facts
from ctrecorder.record.loss import LossCounter, gaps_of_step
from ctrecorder.record.metrics import RecorderMetrics, Sources
from ctrecorder.record.omission import Omission
from ctrecorder.record.options import RecorderOptions
from ctrecorder.record.receiver import Receiver
from ctrecorder.record.report import StatusLine
from ctrecorder.service import daemon, messages
from ctrecorder.service.daemon import SignalPipe
from ctrecorder.service.log import Log
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.sync_timer import SyncTimer
from ctrecorder.spool.target import Target
from ctrecorder.times import SECOND

if TYPE_CHECKING:
    from _typeshed import HasFileno

SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
# A namespace that was made anew is recorded after this time and a restart.
NAMESPACE_NS = SECOND

Connect = Callable[[int, bool, bytes | None], EventSocket]


class Recorder:
    """`open` with privileges, `start` without them, `run` until SIGTERM or SIGINT."""

    def __init__(
        self,
        options: RecorderOptions,
        log: Log,
        clock: Clock | None = None,
        configured: Configured | None = None,
    ) -> None:
        """`configured`: what made `options`; a reload reads it again."""
        self.options, self.log = options, log
        self.counters = Counters()
        self._clock = clock or Clock()
        self._configured = configured
        self._status = StatusLine(self.counters)
        self._loss = LossCounter(self.counters)
        target = Target(options.template, options.rotate_minutes, options.mode)
        self._deadlines = Deadlines(self._clock, target)
        self._series = SegmentSeries(target, self._header, log, options.key, options.seals)
        timer = SyncTimer(options.sync_seconds, self._clock.monotonic)
        self._queue = WriteQueue(
            self._series, options.block_rows, options.memory_bytes, self.counters, log, timer
        )
        self._segments_seen, self._stopping = 0, False
        self._omission = Omission(options)
        # All events that the kernel gave until then were received, or are in a GAP; ns UTC.
        self._received = 0
        self._steady = 0  # the same, when the clock was seen to be as before
        self._watermark = 0  # the same, and a look after it found what hid connections until then
        self.namespace_lost = False  # the reason why `run` ended
        self._namespace_due = self._clock.monotonic() if options.namespace else 0

    def open(
        self,
        connect: Connect = EventSocket,
        connect_dump: Callable[[], DumpSocket] = DumpSocket,
        make_guard: Callable[..., Guard] = Guard,
    ) -> None:
        """Subscribe to events.  Raises KernelError.

        Needs CAP_NET_ADMIN, and for a large buffer that of the initial user namespace.
        """
        options = self.options
        program = bpf.event_filter(options.protocols, options.nat_only)
        self._receiver = Receiver(
            connect(options.buffer_bytes, options.updates, program), self._take, self._clock.wall
        )
        self._guard = make_guard(
            self.log, self._clock.wall, accept_notrack=options.accept_notrack, probe=options.probe
        )
        self._guard.attach(self._queue, self._plan_dump)
        self._dump = TableDump(
            options.protocols,
            options.nat_only,
            self.counters,
            self._queue,
            self._clock,
            self.log,
            connect_dump,
            self._guard.take_existing,
            self._guard.dumped,
            self._omission.apply,
        )
        self._guard.omits = self._omission.active
        sources = Sources(self._queue, self._receiver.socket, self._guard, self._dump)
        self._metrics = RecorderMetrics(options, sources, self.log, self._clock.wall())

    def start(self) -> None:
        """Open the first segment; log what is recorded, and what makes the record incomplete.

        Raises ArchiveError.
        """
        self._clock.look()
        now = self._received = self._watermark = self._clock.wall()
        self._loss.reset(now)
        # The GAPs of its first look come before the segment, and are written behind its MARK.
        self._guard.open(now)
        repeated = self._queue.open(now, self._clock.boottime())
        self._deadlines.rotated(now)
        self._deadlines.stepped(repeated, now - repeated)
        self._queue.mark(Mark.at(now, "start", {"version": __version__, **clock_facts()}))
        size = self._receiver.socket.buffer_bytes
        counters.log_started(self.log, self._queue.path, self.options.protocols, size)
        counters.log_obstacles(self.log, self.options, self._receiver.socket)
        if self._configured is not None:
            self._configured.used(self.log, self._clock.monotonic())
        self._flush()

    def run(self, signals: SignalPipe) -> None:
        """Record until SIGTERM or SIGINT, or until the name of --netns is not that of this
        namespace; then close the segment in order and log the counters.

        Raises KernelError if the kernel refuses to give more events: those before are in the log.
        """
        daemon.notify("READY=1")
        try:
            while not self._stopping:
                self._turn(signals)
        finally:
            self._stop()

    def _turn(self, signals: SignalPipe) -> None:
        """Wait for events or a deadline, then do everything that is due."""
        sources: list[HasFileno] = [signals, self._receiver]
        if self._dump.active:
            sources.append(self._dump)
        wait = self._deadlines.wait_ns(self._dump.due, self._namespace_due)
        ready = self._clock.wait(sources, wait)
        if self._receiver.fileno() in ready:
            if not (self._dump.active or self._receiver.more):
                self._clock.wait([signals], self._receiver.batch_wait_ns)
            self._receive()
        self._handle(signals.read())
        self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        if (change := self._clock.look()) is not None:
            self._record_clock_change(change)
        self._steady = self._received
        if self._dump.active or 0 < self._dump.due <= self._clock.monotonic():
            self._dump.step()
            self._deadlines.flush_soon()
        if self._omission.look(self._clock.monotonic()) or self._deadlines.rotation_due:
            self._rotate()
        look_due = self._deadlines.look_due
        if self._deadlines.flush_due or self._queue.sync_due:
            self._flush()
        elif look_due:
            self._look()
            if not self._queue.reach(self._watermark):
                self._deadlines.flush_soon()
        if look_due:
            if self._deadlines.repeated():  # the dump after the step is in its GAP
                self._plan_dump("times that came twice are over")
            self.log.retry()
            if self._configured is not None:
                self._configured.remind(self.log, self._clock.monotonic())
            self._publish()
        if self._deadlines.status_due:
            self._status.report(self._queue.path, self._clock.monotonic())
            self._deadlines.reported(daemon.watchdog_seconds())
        if 0 < self._namespace_due <= self._clock.monotonic():
            self._check_namespace()

    def _check_namespace(self) -> None:
        """End if the name of the namespace is gone or names another one."""
        namespace = self.options.namespace
        self._namespace_due = self._clock.monotonic() + NAMESPACE_NS
        if namespace is not None and not namespace.is_current():
            said = f"the network namespace {namespace.name} was deleted or made anew: ending"
            self.log.send(messages.NAMESPACE, said, name=namespace.name)
            self._stopping = self.namespace_lost = True

    def _receive(self) -> bool:
        """Take what the kernel has queued, as much as a turn allows; True if that was all."""
        self._receiver.receive()
        self._deadlines.flush_soon()
        events = self._receiver.socket
        size, wall = events.buffer_bytes, self._clock.wall()
        self._lose(loss := self._loss.dropped(events.drops(), size, wall))
        if loss is not None or self._receiver.emptied is None:
            return False
        now = self._clock.monotonic()
        self._lose(self._loss.late(self._receiver.emptied, now, dated=self._receiver.dated))
        self._received = self._receiver.emptied
        return True

    def _look(self) -> None:
        """Receive everything, then look at what hides connections: the watermark goes on."""
        received = self._receive()
        self._receiver.decode()
        now, monotonic = self._clock.wall(), self._clock.monotonic()
        if self._guard.look(now, monotonic, received=received):
            self._watermark = self._received
            self._guard.prove_loss(self._watermark)

    def _publish(self) -> None:
        """Publish the state, with the watermarks of what is written and synced, and the metrics."""
        written, now = self._queue.written, self._clock.wall()
        if self._series.writer is not None:
            self._guard.publish(self._series.chain, written, self.counters, now)
        self._metrics.write(now, self._clock.monotonic())
        self._deadlines.looked()

    def _take(self, table: Table) -> None:
        table = self._guard.take(table)
        self.counters.add(table)
        self._queue.add(self._omission.apply(table))

    def _check_messages(self) -> None:
        """Record unreadable messages as a loss, and log those that a process sent."""
        receiver, now = self._receiver, self._clock.wall()
        self._lose(self._loss.unreadable(receiver.unreadable, receiver.problem, now))
        if count := self._loss.foreign(receiver.socket.foreign + self._dump.foreign):
            text = f"refused {count} messages that a process sent, not the kernel"
            self.log.send(messages.REFUSED, text, refused=count)

    def _lose(self, gap: Gap | None) -> None:
        """Record a loss.  A dump follows: it contains the connections whose start was lost, and
        ends those whose end was lost.
        """
        if gap is not None:
            self._queue.gap(gap)
            self._guard.lost(gap)
            self._deadlines.flush_soon()
            self._plan_dump("after a loss", RESYNC_DELAY_NS)

    def _plan_dump(self, reason: str, delay_ns: int = 0) -> None:
        if self.options.resync:
            self._dump.plan(reason, self._clock.monotonic() + delay_ns)

    def _record_clock_change(self, change: ClockChange) -> None:
        """Record a suspend as a GAP; a step as a MARK, and a GAP for the times that were skipped or
        that come twice.
        """
        before, now, step, suspended = change
        if suspended:
            seconds = f"{suspended / SECOND:.0f}"
            self.log.send(
                messages.SUSPENDED, f"the machine was suspended for {seconds} s", seconds=seconds
            )
            end = before + suspended
            self._queue.gap(Gap(before, end, "not-recording", 0, "the machine was suspended"))
        if step:
            text = f"the clock was stepped by {step / SECOND:+.3f} s"
            self.log.send(messages.CLOCK, text, step_seconds=f"{step / SECOND:.3f}")
            self._receiver.decode()  # events before the step are written before the MARK
            self._queue.mark(Mark.at(now, "clock", {"step_ns": step}))
            for gap in gaps_of_step(change, self._steady, dated=self._receiver.dated):
                self._queue.gap(gap)
            self._deadlines.stepped(before, step)
            self._dump.interrupt()
            # Of the new clock nothing is proved yet.
            self._received, self._watermark = min(self._received, now), min(self._watermark, now)
        self._guard.incomparable(min(before, now), max(before, now))
        # What is open now is known by a dump, not by one before the times in doubt.
        self._plan_dump("after a step or a suspend")
        self._loss.reset(now)
        self._deadlines.flush_soon()

    def _flush(self, *, look: bool = True, sync: bool = False) -> None:
        """Write everything that was received; without a look, up to the last watermark.

        `sync`: sync it at once.
        """
        now = self._clock.wall()
        if look:
            self._look()
        self._receiver.decode()
        self._check_messages()
        if self._series.opened > self._segments_seen > 0:
            for gap in self._guard.open_gaps(now):
                self._queue.gap(gap)
        if self._deadlines.heartbeat_due and self._queue.idle:
            self._queue.mark(self._guard.heartbeat(now))
        wrote = not self._queue.idle
        complete = self._queue.flush(now, self._watermark, sync=sync)
        self._deadlines.flushed(wrote=wrote, complete=complete)
        if self._series.opened > self._segments_seen:
            self._plan_dump("new segment" if self._segments_seen else "start")
            self._segments_seen = self._series.opened

    def _rotate(self) -> None:
        """Begin a new segment.  A table dump follows: each segment answers for its own period."""
        now = self._clock.wall()
        self._look()
        self._queue.rotate(now, self._watermark)
        self._deadlines.rotated(now)
        self._flush()
        self._publish()

    def _reload(self) -> None:
        """Read the settings again.  If it must not record with them, it goes on as before."""
        if self._configured is None:
            return
        try:
            wanted = self._configured.read()
            new = self.options.reloaded(wanted)
            if not new.records_as(self.options):
                self._filter(new)
        except CtrecorderError as error:
            self._configured.refused(error, self.log, self._clock.monotonic())
            return
        counters.log_reloaded(self.log, self.options, new, wanted)
        self.options = new
        self._series.target = target = Target(new.template, new.rotate_minutes, new.mode)
        self._deadlines.follow(target)
        self._queue.memory_bytes = new.memory_bytes
        self._queue.timer.seconds = new.sync_seconds
        self._configured.used(self.log, self._clock.monotonic())

    def _filter(self, new: RecorderOptions) -> None:
        """Receive other events from now on; a GAP lasts until the header of the next segment.

        Raises KernelError.
        """
        self._receive()
        self._receiver.decode()
        self._receiver.socket.change(new.updates, bpf.event_filter(new.protocols, new.nat_only))
        self._dump.change(new.protocols, new.nat_only)
        self._omission.change(new)
        self._guard.omits = self._omission.active
        since, now = self._received, self._clock.wall()
        self._guard.incomparable(since, now)
        detail = "the settings of what is recorded were changed"
        self._queue.gap(Gap(since, now, "not-recording", None, detail))

    def _handle(self, signals: list[int]) -> None:
        for number in signals:
            if number == signal.SIGHUP:
                daemon.notify("RELOADING=1", f"MONOTONIC_USEC={self._clock.monotonic() // 1000}")
                self._reload()
                self._rotate()
                daemon.notify("READY=1")
            elif number == signal.SIGUSR1:
                self._receive()
                self._flush(sync=True)
                self._log_counters()
            else:
                self._stopping = True

    def _stop(self) -> None:
        daemon.notify("STOPPING=1")
        if self._stopping:
            # Everything that a full buffer holds, but not what a flood adds meanwhile.
            for _ in range(self._receiver.turns):
                if self._receive() or not self._receiver.more:
                    break
        self._flush(look=self._stopping)
        now, path = self._clock.wall(), self._queue.path
        if self._stopping:  # so that the last MARK carries the watermark
            self._look()
        facts = {"events": self.counters.total, "lost": self.counters.lost}
        mark = Mark.at(now, "stop", {**facts, "boottime_ns": self._clock.boottime()})
        self._queue.mark(mark)
        closed = "is closed" if self._queue.close(now, self._watermark) else "could not be closed"
        self._guard.close()
        self._metrics.stopped(gone=self.namespace_lost)
        self._log_counters()
        self.log.send(messages.STOPPED, f"stopped; {path} {closed}", path=path, **facts)

    def _log_counters(self) -> None:
        counters.log_counters(self.log, self.counters, self._queue.path, self._series.bytes_written)

    def _header(self) -> Header:
        """The header of a segment that is opened now."""
        size, guard = self._receiver.socket.buffer_bytes, self._guard
        return self._omission.header(self.options.header(size, guard.netns, guard.state))
