"""The router under test: the lab, its recorders, the folder, and the life of each segment in it."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.model import network
from tests.model.clock import Clock
from tests.model.oracle import ABSENT, BEFORE, OPEN, Effect, Fault, Moment, Oracle, moment
from tests.model.standby import Standby
from tests.model.truth import SECOND
from tests.support.disks import tmpfs
from tests.support.router import CHECKOUT, Lab, event_sockets, wait_until
from tests.support.traffic import Tough

DISK_KBYTES = 32 * 1024
# Holds 3,276 events: enough for a recorder that is stopped for 10 s, too small for a flood.
BUFFER_KBYTES = 2048
# Holds a flood that conntrackd replicates.
STANDBY_BUFFER_KBYTES = 16 * 1024
POLL_SECONDS = 0.02
# A recorder that did not wait for events for so long had no CPU: without times of the kernel, it
# dates events too late, and writes a GAP (after 1.5 s).
STARVED = SECOND
# A dump follows a GAP after this time, and behind it an answer is complete again.
DUMPED = 6 * SECOND


@dataclass
class SegmentFile:
    """A segment of the main recorder.  `born`, `closed`: when its file appeared and was closed."""

    path: Path
    born: Moment
    closed: Moment = (OPEN, OPEN)
    harmed: bool = False


class Rig:
    """The system that faults are applied to."""

    def __init__(
        self,
        lab: Lab,
        work: Path,
        clock: Clock,
        oracle: Oracle,
        seed: int,
        standby: Standby | None = None,
    ) -> None:
        self.lab, self.clock, self.oracle, self.standby = lab, clock, oracle, standby
        self.disk = work / "disk"
        self.folder = self.disk / "log"
        self.standby_folder = self.disk / "standby"
        self.seed, self.random = seed, random.Random(seed)
        self.segments: list[SegmentFile] = []
        self.lock = threading.Lock()
        self.main: Tough
        self.second: Tough | None = None
        self.beside: Tough | None = None
        self._drops, self._looked = 0, time.time_ns()
        self.dumped = 0  # when the dump after the last loss is over, at the latest
        self.has_traffic = True  # an idle recorder waits for long
        self._waits: dict[int, tuple[int, int]] = {}  # of recorders: how often, and since when
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher")

    @contextlib.contextmanager
    def running(self) -> Iterator[Rig]:
        """Run the main recorder until the end of the block."""
        with tmpfs(self.disk, DISK_KBYTES, inodes=10_000):
            self.folder.mkdir()
            self._watcher.start()
            try:
                before = time.time_ns()
                self.main = self.recorder("main")
                self.oracle.add(Fault(BEFORE, Effect.LOST, (0, 0), moment(before), recorder="main"))
                self.oracle.add(Fault(ABSENT, Effect.LOST, (0, 0), recorder="udp"))
                self._record_beside()
                yield self
            finally:
                self._stopping.set()
                self._watcher.join()
                for recorder in (getattr(self, "main", None), self.second, self.beside):
                    if recorder is not None and recorder.process.poll() is None:
                        recorder.process.kill()
                        recorder.process.wait()

    def _record_beside(self) -> None:
        """The recorder of the standby, if there is one."""
        if self.standby is None:
            return
        self.standby_folder.mkdir()
        before = time.time_ns()
        self.beside = Tough(
            self.standby,
            self.standby_folder,
            "-b",
            STANDBY_BUFFER_KBYTES,
            environment=self.clock.environment,
            name="standby",
        )
        self.oracle.add(Fault(BEFORE, Effect.LOST, (0, 0), moment(before), recorder="standby"))

    @property
    def folders(self) -> list[Path]:
        """What is asked."""
        return [self.folder] if self.standby is None else [self.folder, self.standby_folder]

    def recorder(self, name: str, *options: object) -> Tough:
        """A new recorder in the router; returns when it records."""
        return Tough(
            self.lab,
            self.folder,
            "-b",
            BUFFER_KBYTES,
            *options,
            environment=self.clock.environment,
            name=name,
        )

    def command(self, name: str, *arguments: object, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of the product beside the recorder, by the router's clock."""
        environment = [f"{key}={value}" for key, value in self.clock.environment.items()]
        done = subprocess.run(
            ["env", *environment, CHECKOUT / "bin" / name, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode not in codes or "Traceback" in done.stderr:
            raise AssertionError(f"{name}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout + done.stderr

    # Segments.

    def _watch(self) -> None:
        known: set[str] = set()
        looked = time.time_ns()
        while not self._stopping.wait(POLL_SECONDS):
            now = time.time_ns()
            names = {path.name for path in self.folder.glob("*.ctlog")}
            for name in sorted(names - known):
                if not name.startswith("udp-"):
                    self._born(self.folder / name, (looked, time.time_ns()))
            known |= names
            looked = now
            if self.has_traffic and not self.clock.dated:
                self._look_for_starved(now)

    def _look_for_starved(self, now: int) -> None:
        """Enter times in which a recorder had no CPU, which no fault planned, into the timeline."""
        recorders = getattr(self, "main", None), self.second, self.beside
        for name, recorder in zip(("main", "udp", "standby"), recorders, strict=True):
            if recorder is None:
                continue
            pid = recorder.process.pid
            waits = _waits(pid)
            before, since = self._waits.get(pid, (waits, now))
            if waits == before:
                self._waits[pid] = before, since
                continue
            self._waits[pid] = waits, now
            if self.has_traffic and now - since > STARVED:
                begin, end = (since, since), (now + DUMPED, now + DUMPED)
                self.oracle.add(Fault("no CPU", Effect.UNSURE, begin, end, recorder=name))

    def _born(self, path: Path, born: Moment) -> None:
        with self.lock:
            if self.segments and self.segments[-1].closed == (OPEN, OPEN):
                self.segments[-1].closed = born
            self.segments.append(SegmentFile(path, born))

    def closed(self, at: Moment) -> None:
        """The main recorder ended at `at`: its segment is closed."""
        with self.lock:
            if self.segments and self.segments[-1].closed == (OPEN, OPEN):
                self.segments[-1].closed = at

    def closed_segments(self) -> list[SegmentFile]:
        """The closed segments that still exist, oldest first."""
        with self.lock:
            return [
                each for each in self.segments if each.closed != (OPEN, OPEN) and each.path.exists()
            ]

    def rotate(self) -> None:
        """A new segment of the main recorder."""
        count = len(self.segments)
        self.main.rotate()
        wait_until(lambda: len(self.segments) > count, "a new segment after SIGHUP")

    # Losses.

    def drops(self) -> int:
        """Events that the kernel dropped since the last call; a new recorder counts from 0."""
        total = sum(each.drops for each in event_sockets(self.main.process.pid))
        new = total - self._drops if total >= self._drops else total
        self._drops, self._looked = total, time.time_ns()
        return new

    def drained(self) -> None:
        """Wait until the main recorder has read everything that is queued."""
        pid = self.main.process.pid
        wait_until(
            lambda: not any(each.queued for each in event_sockets(pid)), "the queue read", 30
        )

    def look(self) -> None:
        """Enter losses that no fault planned (a busy machine) into the timeline."""
        if self.main.process.poll() is not None:
            raise AssertionError(f"ctrecord ended by itself: {self.main.log}")
        before, now = self._looked, time.time_ns()
        if self.drops():
            end = now, time.time_ns()
            note = "not planned"
            self.oracle.add(Fault("overrun", Effect.UNSURE, (before, before), end, note=note))
            self.awaits_dump(end)

    def awaits_dump(self, end: Moment) -> None:
        """Events were lost until `end`: a flow that began in the hole and is still open is unknown
        until the next dump.
        """
        dumped = end[1] + DUMPED
        self.oracle.add(Fault("overrun", Effect.PENDING, end, (dumped, dumped), until_dump=True))
        self.dumped = max(self.dumped, dumped)

    def pause_until_dumped(self) -> None:
        """Wait for the dump after the last loss: the destruction of the flows of a flood can be the
        next one.
        """
        while (left := self.dumped - time.time_ns()) > 0:
            self.pause(left / SECOND)

    def pause(self, seconds: float) -> None:
        """Wait, with a look each second."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 1))
            self.look()

    def flood(self, count: int) -> None:
        """Send `count` real datagrams, each a flow of its own without a reply."""
        with self.lab.inside.socket(
            socket.SOCK_DGRAM, network.SOURCES[network.IPV4][0], network.FLOOD_PORT
        ) as sock:
            for number in range(count):
                sock.sendto(b"", (f"198.18.{number >> 8 & 255}.{number & 255 or 1}", 1024 + number))


def _waits(pid: int) -> int:
    """How often a process has waited; 0 if there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split(maxsplit=1)[0])


def after(fault: Fault, before: int) -> Fault:
    """`fault` has ended, by an action that began at `before`."""
    fault.end = moment(before)
    return fault
