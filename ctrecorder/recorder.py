"""The recorder: one thread, one loop, from the kernel's events to the segments.

poll; wait a little, so that a batch forms in the kernel; take it with few system calls into a slot buffer; decode that when it
is full or a flush is due (decoding thousands at once is what makes it cheap); hand the tables to the spool.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ctrecorder import __version__, accounts, bpf, messages, netlink, service
from ctrecorder.accounts import Counters
from ctrecorder.columns import bit
from ctrecorder.decode import Decoder
from ctrecorder.place import SECOND, Place
from ctrecorder.service import Log, SignalPipe
from ctrecorder.snapshot import RESYNC_DELAY_NS, Snapshot
from ctrecorder.spool import HEARTBEAT_NS, Spool

SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)

# Slots of 1 KiB: 4 MiB.  Fewer would decode smaller batches in a flood; more would not get faster, and would cost memory.
SLOTS = 4096
# After poll() has said readable: the wait that lets a batch form.  It bounds the error of a time of receipt, so it is short
# where the kernel does not date its events (before Linux 6.14, or nf_conntrack_timestamp=0).
WAIT_DATED = 0.05
WAIT_UNDATED = 0.02
# A queued event takes 1,280 bytes of a buffer that the kernel made twice as large as asked (measured), and no router makes
# 1,000,000 events a second: the wait is cut so that the buffer is at most half full after it.
EVENT_BUFFER_BYTES = 1280
MOST_EVENTS_A_SECOND = 1_000_000
# What was received is in the log, and can be listed, after so long.
FLUSH_NS = SECOND
STATUS_NS = 10 * SECOND
# NTP slews a clock by at most 500 ppm: half a second between two flushes is a step.
CLOCK_STEP_NS = SECOND // 2
HEADER_SYSCTLS = ("nf_conntrack_events", "nf_conntrack_timestamp", "nf_conntrack_acct")


@dataclass(frozen=True)
class Settings:
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


class Recorder:
    """`open` with privileges, `start` without, `run` until SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.settings, self.log = settings, log
        self.counters = Counters()
        place = Place(settings.template, settings.rotate_minutes, settings.mode)
        self._spool = Spool(place, settings.block_rows, settings.memory_bytes, self._facts, log)
        self._decoder = Decoder()
        self._slots = netlink.SlotBuffer(SLOTS)
        self._stopping = self._dated = False
        self._flush_due = self._boundary = self._status_due = 0  # ns UTC; 0: nothing is due
        self._drops_seen = self._unread_seen = self._foreign_seen = 0
        self._looked_ns = 0  # when nothing was lost yet
        self._clock_offset = 0  # realtime minus monotonic, ns
        self._status = (0, 0)  # when, and how many events by then

    def open(self) -> None:
        """Subscribe.  Raises KernelError; needs CAP_NET_ADMIN, and for a large buffer that of the initial user namespace."""
        settings = self.settings
        program = bpf.event_filter(settings.protocols, settings.nat_only)
        self._events = netlink.EventSocket(settings.buffer_bytes, settings.updates, program)
        self._snapshot = Snapshot(netlink.DumpSocket(), settings.protocols, settings.nat_only, self.counters, self._spool, self.log)

    def start(self) -> None:
        """Open the first segment; say what is recorded, and what is in the way.  Raises ArchiveError."""
        now = time.time_ns()
        self._clock_offset = now - time.monotonic_ns()
        self._looked_ns = now
        self._spool.open(now)
        self._boundary = self._spool.place.next_boundary(now)
        self._spool.mark("start", {"version": __version__}, now)
        self._spool.flush(now)
        accounts.say_started(self.log, self._spool.path, self.settings.protocols, self._events.buffer_bytes)
        accounts.say_obstacles(self.log, self.settings.buffer_bytes, self._events)
        if self.settings.resync:
            self._snapshot.want("start", now)

    def run(self, signals: SignalPipe) -> None:
        """Record until told to stop; then close the segment in order and say the counters."""
        service.notify("READY=1")
        events = select.poll()
        events.register(signals, select.POLLIN)
        events.register(self._events, select.POLLIN)
        while not self._stopping:
            dumping = self._snapshot.active
            if dumping:
                events.register(self._snapshot, select.POLLIN)
            ready = {fd for fd, _ in events.poll(self._milliseconds())}
            if dumping:
                events.unregister(self._snapshot)
            if self._events.fileno() in ready:
                if not dumping:
                    select.select([signals], [], [], self._batch_wait())
                self._receive()
            self._handle(signals.read())
            self._do_what_is_due()
        self._stop()

    def _milliseconds(self) -> int:
        """How long to wait for events: until the next thing is due, rounded up."""
        dues = (self._flush_due, self._boundary, self._status_due, self._snapshot.due_ns, self._heartbeat_due())
        wait = min(due for due in dues if due) - time.time_ns()
        return max(wait // 1_000_000 + 1, 0)

    def _heartbeat_due(self) -> int:
        return self._spool.last_write_ns + HEARTBEAT_NS

    def _batch_wait(self) -> float:
        """Seconds to wait for a batch to form."""
        wait = WAIT_DATED if self._dated else WAIT_UNDATED
        capacity = 2 * self._events.buffer_bytes / EVENT_BUFFER_BYTES
        return min(wait, capacity / 2 / MOST_EVENTS_A_SECOND)

    def _do_what_is_due(self) -> None:
        now = time.time_ns()
        self._check_clock(now)
        if self._snapshot.active or 0 < self._snapshot.due_ns <= now:
            self._snapshot.step(now)
            self._flush_soon(now)
        if 0 < self._boundary <= now:
            self._rotate(now)
        if 0 < self._flush_due <= now or self._heartbeat_due() <= now:
            self._flush(now)
        if self._status_due <= now:
            self._report_status(now)

    def _flush_soon(self, now: int) -> None:
        self._flush_due = self._flush_due or now + FLUSH_NS

    def _receive(self) -> None:
        """Take what the kernel has queued; decode whenever the slots are full."""
        taken = netlink.BATCH
        while taken == netlink.BATCH:
            if self._slots.used == self._slots.rows:
                self._decode()
            taken = self._events.receive(self._slots)
        now = time.time_ns()
        self._flush_soon(now)
        self._check_loss(now)

    def _decode(self) -> None:
        slots, used = self._slots, slice(0, self._slots.used)
        for table in self._decoder.decode(slots.slots[used], slots.lengths[used], slots.received[used]):
            self.counters.add(table)
            self._dated = bool(int(table["known"][-1]) & bit("time"))
            self._spool.add(table)
        slots.clear()

    def _check_loss(self, now: int) -> None:
        """Count what the kernel dropped since the last look."""
        dropped = self._events.drops() - self._drops_seen
        if dropped:
            self._drops_seen += dropped
            self._lose(now, "overrun", dropped, f"the receive buffer of {self._events.buffer_bytes >> 10} KiB was full")
        self._looked_ns = now

    def _check_refused(self, now: int) -> None:
        """Count messages that are not in the log: those of a process never should be; those that could not be read are a loss."""
        unread = self._events.truncated + self._decoder.rejected
        if unread > self._unread_seen:
            why = self._decoder.first_rejection or "longer than a slot"
            self._lose(now, "unreadable", unread - self._unread_seen, f"messages of the kernel could not be read: {why}")
            self._unread_seen = self.counters.unreadable = unread
        foreign = self._events.foreign
        if foreign > self._foreign_seen:
            count = foreign - self._foreign_seen
            self.log.say(messages.REFUSED, f"refused {count} messages that a process sent, not the kernel", refused=count)
            self._foreign_seen = self.counters.foreign = foreign

    def _lose(self, now: int, reason: str, count: int, detail: str) -> None:
        """A GAP, and a dump soon: it shows the connections whose start was lost, and ends those whose end was."""
        self.counters.lost += count
        self._spool.gap(min(self._looked_ns, now), now, reason, count, detail)
        self._flush_soon(now)
        if self.settings.resync:
            self._snapshot.want("after a loss", now + RESYNC_DELAY_NS)

    def _check_clock(self, now: int) -> None:
        """A MARK for a step of the clock: times before and after it do not compare, and what is due is due anew."""
        offset = now - time.monotonic_ns()
        step, self._clock_offset = offset - self._clock_offset, offset
        if abs(step) < CLOCK_STEP_NS:
            return
        self.log.say(messages.CLOCK, f"the clock was stepped by {step / SECOND:+.3f} s", step_seconds=f"{step / SECOND:.3f}")
        self._spool.mark("clock", {"step_ns": step}, now)
        self._spool.last_write_ns = self._looked_ns = self._status_due = self._flush_due = now
        self._snapshot.clock_stepped(step)
        self._boundary = self._spool.place.next_boundary(now)

    def _flush(self, now: int) -> None:
        self._decode()
        self._check_refused(now)
        if self._spool.idle and self._heartbeat_due() <= now:
            self._spool.mark("heartbeat", {}, now)
        written = self._spool.flush(now)
        self._flush_due = 0 if written else time.time_ns() + FLUSH_NS

    def _rotate(self, now: int) -> None:
        """Begin a new segment, with a dump of the table so that it answers for its own period."""
        self._receive()
        self._flush(now)
        if self._spool.rotate(now) and self.settings.resync:
            self._snapshot.want("new segment", now)
        self._boundary = self._spool.place.next_boundary(now)

    def _handle(self, signals: list[int]) -> None:
        for number in signals:
            if number == signal.SIGHUP:
                service.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._rotate(time.time_ns())
                service.notify("READY=1")
            elif number == signal.SIGUSR1:
                self._receive()
                self._flush(time.time_ns())
                self._say_counters()
            else:
                self._stopping = True

    def _stop(self) -> None:
        service.notify("STOPPING=1")
        self._receive()
        now = time.time_ns()
        self._flush(now)
        path = self._spool.path
        self._spool.mark("stop", {"events": self.counters.total, "lost": self.counters.lost}, now)
        closed = "is closed" if self._spool.close(now) else "could not be closed"
        self._say_counters()
        text = f"stopped; {path} {closed}"
        self.log.say(messages.STOPPED, text, path=path, events=self.counters.total, lost=self.counters.lost)

    def _say_counters(self) -> None:
        accounts.say_counters(self.log, self.counters, self._spool.path, self._spool.bytes_written)

    def _report_status(self, now: int) -> None:
        before, events_before = self._status
        self._status = now, self.counters.total
        accounts.notify_status(self.counters, (self.counters.total - events_before) * SECOND / max(now - before, 1), self._spool.path)
        watchdog = service.watchdog_seconds()
        self._status_due = now + (min(STATUS_NS, int(watchdog * SECOND)) if watchdog else STATUS_NS)

    def _facts(self) -> dict[str, object]:
        """The facts of a segment's header."""
        settings = self.settings
        return {
            "host": socket.gethostname(),
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
            "kernel": os.uname().release,
            "protocols": accounts.protocol_names(settings.protocols),
            "updates": settings.updates,
            "nat_only": settings.nat_only,
            "buffer_bytes": self._events.buffer_bytes,
            "sysctls": {name: netlink.sysctl(name) for name in HEADER_SYSCTLS},
        }
