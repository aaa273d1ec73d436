"""The recorder: one thread, one loop, from the kernel's events to the segments.

poll; wait a little, so that a batch forms in the kernel; take it with few system calls into a slot
buffer; decode that when it is full or a flush is due (decoding thousands at once is what makes it
cheap); hand the tables to the spool.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ctrecorder import __version__, labels
from ctrecorder.columns import bit
from ctrecorder.kernel import bpf, sockets
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.netns import Namespace
from ctrecorder.record import counters
from ctrecorder.record.clock import SECOND, Clock, ClockChange
from ctrecorder.record.counters import Counters
from ctrecorder.record.dump import RESYNC_DELAY_NS, TableDump
from ctrecorder.record.queue import HEARTBEAT_NS, WriteQueue
from ctrecorder.record.segments import SegmentSeries
from ctrecorder.record.target import Target
from ctrecorder.service import daemon, messages
from ctrecorder.service.daemon import SignalPipe
from ctrecorder.service.log import Log

SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)

# Slots of 1,088 bytes: 3.2 MiB.  Fewer would decode smaller batches in a flood; more would cost
# memory, of which 50 MiB is all there is.
SLOTS = 3072
# Batches (32,768 events, some 50 ms) before signals, flushes and the watchdog get their turn: a
# flood that always has more must not keep them waiting.
BATCHES_A_TURN = 32
# After poll() has said readable: the wait that lets a batch form.  It bounds the error of a time of
# receipt, so it is short where the kernel does not date its events (before Linux 6.14, or
# nf_conntrack_timestamp=0).
WAIT_DATED = 0.05
WAIT_UNDATED = 0.02
# A queued event takes 1,280 bytes of a buffer that the kernel made twice as large as asked
# (measured), and no router makes 1,000,000 events a second: the wait is cut so that the buffer is
# at most half full after it.
EVENT_BUFFER_BYTES = 1280
MOST_EVENTS_A_SECOND = 1_000_000
# What was received is in the log, and can be listed, after so long.
FLUSH_NS = SECOND
STATUS_NS = 10 * SECOND
# A namespace that was made anew is recorded after this time and a restart.
NAMESPACE_NS = SECOND
HEADER_SYSCTLS = ("nf_conntrack_events", "nf_conntrack_timestamp", "nf_conntrack_acct")


@dataclass(frozen=True)
class RecorderOptions:
    """What to record and where.  The defaults are those of `settings`."""

    template: str
    rotate_minutes: int
    protocols: Collection[int]  # empty: all
    nat_only: bool
    updates: bool
    resync: bool
    buffer_bytes: int
    block_rows: int
    memory_bytes: int
    mode: int
    key: bytes = field(default=b"", repr=False)  # b"": not sealed
    namespace: Namespace | None = None  # that of --netns


class Recorder:
    """`open` with privileges, `start` without, `run` until SIGTERM or SIGINT.

    What is due is due by the monotonic clock, whatever happens to the wall clock; only segments
    begin by that one.
    """

    def __init__(self, settings: RecorderOptions, log: Log, clock: Clock | None = None) -> None:
        self.settings, self.log = settings, log
        self.counters = Counters()
        self._clock = clock or Clock()
        self._target = Target(settings.template, settings.rotate_minutes, settings.mode)
        self._series = SegmentSeries(self._target, self._facts, log, settings.key)
        self._queue = WriteQueue(
            self._series, settings.block_rows, settings.memory_bytes, self.counters, log
        )
        self._decoder = Decoder()
        self._slots = sockets.SlotBuffer(SLOTS)
        self.namespace_lost = False  # the reason why `run` ended
        self._stopping = self._dated = False
        self._flush_due = 0  # monotonic ns, as all that are due; 0: nothing is
        self._status_due = self._heartbeat_due = self._clock.monotonic()
        self._namespace_due = self._clock.monotonic() if settings.namespace else 0
        self._period = (
            0,
            0,
        )  # ns UTC: a new segment begins when the wall clock is not in it any more
        self._drops_seen = self._unread_seen = self._foreign_seen = self._opened_seen = 0
        self._looked_ns = 0  # ns UTC, when nothing was lost yet
        self._status = (0, 0)  # when, and how many events by then
        self._fixed_facts = {
            "host": socket.gethostname(),
            "boot_id": _boot_id(),
            "kernel": os.uname().release,
        }

    def open(self) -> None:
        """Subscribe.

        Raises KernelError; needs CAP_NET_ADMIN, and for a large buffer that of the initial user
        namespace.
        """
        settings = self.settings
        program = bpf.event_filter(settings.protocols, settings.nat_only)
        self._events = sockets.EventSocket(settings.buffer_bytes, settings.updates, program)
        self._dump = TableDump(
            settings.protocols, settings.nat_only, self.counters, self._queue, self._clock, self.log
        )

    def start(self) -> None:
        """Open the first segment; say what is recorded, and what is in the way.

        Raises ArchiveError.
        """
        self._clock.look()
        now = self._looked_ns = self._clock.wall()
        self._queue.open(now)
        self._period = self._target.period(now)
        self._queue.mark("start", {"version": __version__}, now)
        counters.log_started(
            self.log, self._queue.path, self.settings.protocols, self._events.buffer_bytes
        )
        inside = self.settings.namespace.inside if self.settings.namespace else ""
        counters.log_obstacles(self.log, self.settings.buffer_bytes, self._events, inside)
        self._flush()

    def run(self, signals: SignalPipe) -> None:
        """Record until told to stop, or until the name of --netns is not that of this namespace.

        Then close the segment in order and log the counters.

        Raises KernelError if the kernel will not give any more: what came until then is in the log.
        """
        daemon.notify("READY=1")
        try:
            self._loop(signals)
        finally:
            self._stop()

    def _loop(self, signals: SignalPipe) -> None:
        events = select.poll()
        events.register(signals, select.POLLIN)
        events.register(self._events, select.POLLIN)
        more = False
        while not self._stopping:
            dumping = self._dump.active
            if dumping:
                events.register(self._dump, select.POLLIN)
            ready = {fd for fd, _ in events.poll(self._milliseconds())}
            if dumping:
                events.unregister(self._dump)
            if self._events.fileno() in ready:
                if not (dumping or more):
                    select.select([signals], [], [], self._batch_wait())
                more = self._receive()
            self._handle(signals.read())
            self._do_what_is_due()

    def _milliseconds(self) -> int:
        """How long to wait for events: until the next thing is due, rounded up."""
        dues = (
            *(self._flush_due, self._status_due, self._heartbeat_due),
            *(self._dump.due, self._namespace_due),
        )
        wait = min(due for due in dues if due) - self._clock.monotonic()
        wait = min(wait, self._period[1] - self._clock.wall())
        return max(wait // 1_000_000 + 1, 0)

    def _batch_wait(self) -> float:
        """Seconds to wait for a batch to form."""
        wait = WAIT_DATED if self._dated else WAIT_UNDATED
        return min(wait, self._capacity() / 2 / MOST_EVENTS_A_SECOND)

    def _capacity(self) -> float:
        """How many events the kernel's buffer holds."""
        return 2 * self._events.buffer_bytes / EVENT_BUFFER_BYTES

    def _do_what_is_due(self) -> None:
        change = self._clock.look()
        if change is not None:
            self._record_clock_change(change)
        now = self._clock.monotonic()
        if self._dump.active or 0 < self._dump.due <= now:
            self._dump.step()
            self._flush_soon()
        if not self._period[0] <= self._clock.wall() < self._period[1]:
            self._rotate()
        if 0 < self._flush_due <= now or self._heartbeat_due <= now:
            self._flush()
        if self._status_due <= now:
            self._report_status(now)
        if 0 < self._namespace_due <= now:
            self._check_namespace(now)

    def _check_namespace(self, now: int) -> None:
        """End if the name of the namespace is gone or names another: we keep the old one alive."""
        namespace = self.settings.namespace
        self._namespace_due = now + NAMESPACE_NS
        if namespace is not None and not namespace.is_current():
            text = f"the network namespace {namespace.name} was deleted or made anew: ending"
            self.log.send(messages.NAMESPACE, text, name=namespace.name)
            self._stopping = self.namespace_lost = True

    def _flush_soon(self) -> None:
        self._flush_due = self._flush_due or self._clock.monotonic() + FLUSH_NS

    def _receive(self) -> bool:
        """Take what the kernel has queued, so much of it as a turn allows; decode when the slots
        are full.  True: there is more.
        """
        taken = 0
        for _ in range(BATCHES_A_TURN):
            if self._slots.rows - self._slots.used < sockets.BATCH:
                self._decode()
            taken = self._events.receive(self._slots)
            if taken < sockets.BATCH:
                break
        self._flush_soon()
        self._check_loss()
        return taken == sockets.BATCH

    def _decode(self) -> None:
        for table in self._decoder.decode(*self._events.accept(self._slots)):
            self.counters.add(table)
            self._dated = bool(int(table["present"][-1]) & bit("time"))
            self._queue.add(table)

    def _check_loss(self) -> None:
        """Count what the kernel dropped since the last look."""
        now, dropped = self._clock.wall(), self._events.drops() - self._drops_seen
        if dropped:
            self._drops_seen += dropped
            self._lose(
                now,
                "overrun",
                dropped,
                f"the receive buffer of {self._events.buffer_bytes >> 10} KiB was full",
            )
        self._looked_ns = now

    def _check_refused(self) -> None:
        """Count messages that are not in the log: those of a process never should be; those that
        could not be read are a loss.
        """
        unread = self._events.truncated + self._decoder.rejected
        if unread > self._unread_seen:
            why = self._decoder.first_rejection or "longer than a slot"
            self._lose(
                self._clock.wall(),
                "unreadable",
                unread - self._unread_seen,
                f"messages of the kernel could not be read: {why}",
            )
            self._unread_seen = self.counters.unreadable = unread
        foreign = self._events.foreign + self._dump.foreign
        if foreign > self._foreign_seen:
            count = foreign - self._foreign_seen
            self.log.send(
                messages.REFUSED,
                f"refused {count} messages that a process sent, not the kernel",
                refused=count,
            )
            self._foreign_seen = self.counters.foreign = foreign

    def _lose(self, now: int, reason: str, count: int, detail: str) -> None:
        """A GAP, and a dump soon: it shows the connections whose start was lost, and ends those
        whose end was.
        """
        self.counters.lost += count
        self._queue.gap(min(self._looked_ns, now), now, reason, count, detail)
        self._flush_soon()
        self._want_dump("after a loss", RESYNC_DELAY_NS)

    def _want_dump(self, reason: str, delay_ns: int = 0) -> None:
        if self.settings.resync:
            self._dump.want(reason, self._clock.monotonic() + delay_ns)

    def _record_clock_change(self, change: ClockChange) -> None:
        """Times before and after a step do not compare: a MARK, and a GAP for those that never were
        or that come twice.
        """
        before, now, step, asleep = change
        if asleep:
            text = f"the machine slept for {asleep / SECOND:.0f} s"
            self.log.send(messages.SLEPT, text, seconds=f"{asleep / SECOND:.0f}")
            self._queue.gap(
                before, before + asleep, "not-recording", 0, "the machine was suspended"
            )
        if step:
            self.log.send(
                messages.CLOCK,
                f"the clock was stepped by {step / SECOND:+.3f} s",
                step_seconds=f"{step / SECOND:.3f}",
            )
            self._decode()  # what came before the step is written before the MARK
            self._queue.mark("clock", {"step_ns": step}, now)
            which = (
                "forward: these times never were" if step > 0 else "back: these times come twice"
            )
            self._queue.gap(
                min(before, now), max(before, now), "clock", 0, f"the clock was set {which}"
            )
        self._looked_ns = now
        self._flush_soon()

    def _flush(self) -> None:
        self._decode()
        self._check_refused()
        now = self._clock.wall()
        if self._heartbeat_due <= self._clock.monotonic() and self._queue.idle:
            self._queue.mark("heartbeat", {}, now)
        written = not self._queue.idle
        whole = self._queue.flush(now)
        after = self._clock.monotonic()
        self._flush_due = 0 if whole else after + FLUSH_NS
        if written or not whole:
            self._heartbeat_due = after + HEARTBEAT_NS
        if self._series.opened > self._opened_seen:
            self._want_dump("new segment" if self._opened_seen else "start")
            self._opened_seen = self._series.opened

    def _rotate(self) -> None:
        """Begin a new segment: it answers for its own period, for a dump of the table follows."""
        self._receive()
        self._decode()
        now = self._clock.wall()
        self._queue.rotate(now)
        self._period = self._target.period(now)
        self._flush()

    def _handle(self, signals: list[int]) -> None:
        for number in signals:
            if number == signal.SIGHUP:
                daemon.notify("RELOADING=1", f"MONOTONIC_USEC={self._clock.monotonic() // 1000}")
                self._rotate()
                daemon.notify("READY=1")
            elif number == signal.SIGUSR1:
                self._receive()
                self._flush()
                self._log_counters()
            else:
                self._stopping = True

    def _stop(self) -> None:
        daemon.notify("STOPPING=1")
        if self._stopping:
            # What a full buffer holds, and not what a flood adds for ever.
            turns = int(self._capacity() // (BATCHES_A_TURN * sockets.BATCH)) + 1
            while turns and self._receive():
                turns -= 1
        self._flush()
        now, path = self._clock.wall(), self._queue.path
        self._queue.mark("stop", {"events": self.counters.total, "lost": self.counters.lost}, now)
        closed = "is closed" if self._queue.close(now) else "could not be closed"
        self._log_counters()
        text = f"stopped; {path} {closed}"
        self.log.send(
            messages.STOPPED, text, path=path, events=self.counters.total, lost=self.counters.lost
        )

    def _log_counters(self) -> None:
        counters.log_counters(self.log, self.counters, self._queue.path, self._series.bytes_written)

    def _report_status(self, now: int) -> None:
        before, events_before = self._status
        self._status = now, self.counters.total
        counters.notify_status(
            self.counters,
            (self.counters.total - events_before) * SECOND / max(now - before, 1),
            self._queue.path,
        )
        watchdog = daemon.watchdog_seconds()
        self._status_due = now + (min(STATUS_NS, int(watchdog * SECOND)) if watchdog else STATUS_NS)

    def _facts(self) -> dict[str, object]:
        """The facts of a segment's header."""
        settings = self.settings
        return {
            **self._fixed_facts,
            "protocols": [labels.protocol(number) for number in sorted(settings.protocols)],
            "updates": settings.updates,
            "nat_only": settings.nat_only,
            "buffer_bytes": self._events.buffer_bytes,
            "sysctls": {name: sockets.sysctl(name) for name in HEADER_SYSCTLS},
        }


def _boot_id() -> str | None:
    """Which boot of the machine this is; None if the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
