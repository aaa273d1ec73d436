"""Traffic whose every flow can be told from the log, and the account of what the log holds of it.

Flow number n is one UDP datagram from inside to an endpoint of its own in 198.18.0.0/15 (RFC 2544),
which the router tracks and translates and nobody answers.  So each is one NEW, and each that is not
in the log must lie in a GAP.
"""

from __future__ import annotations

import contextlib
import csv
import ipaddress
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ctrecorder.archive import find
from ctrecorder.ctlog.frame import REASONS, Gap
from ctrecorder.segment.reader import Segment
from tests.support.folders import paths
from tests.support.listeners import Recorder, one_segment
from tests.support.router import CHECKOUT, INSIDE, SERVER, HasRouter, Lab, event_sockets, wait_until

BASE = int(ipaddress.IPv4Address("198.18.0.0"))
PORTS = 1 << 15  # of each address, from FIRST_PORT on
FIRST_PORT = 1024
ADDRESSES = [str(ipaddress.IPv4Address(BASE + at)) for at in range(256)]
# A clock step or a busy machine may put some ms between a datagram and its event.
SLACK_NS = 50_000_000


def endpoint(number: int) -> tuple[str, int]:
    """Where flow `number` goes."""
    return ADDRESSES[number // PORTS], FIRST_PORT + number % PORTS


def number_of(address: str, port: int) -> int:
    """Which flow goes there; -1 if none of ours."""
    at = int(ipaddress.IPv4Address(address)) - BASE
    return at * PORTS + port - FIRST_PORT if 0 <= at < 1 << 17 else -1


class Traffic:
    """Sends flows through `lab`'s router.

    `sent[n]`: when flow n was, ns UTC, before and after the system call.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sent: list[tuple[int, int]] = []
        lab.router.run("ip", "route", "add", "198.18.0.0/15", "via", SERVER)
        # The server is no router: what is not for it is dropped there, silently.
        self._socket = lab.inside.socket(socket.SOCK_DGRAM, INSIDE)
        # No flow ends by itself while a test counts.
        lab.router.sysctl(nf_conntrack_udp_timeout=3600)

    def burst(self, count: int) -> None:
        """`count` flows as fast as it goes; AssertionError if the kernel's table has not so many
        more.
        """
        before = self.lab.router.sysctl_value("nf_conntrack_count")
        for _ in range(count):
            self._one()
        entries = self.lab.router.sysctl_value("nf_conntrack_count") - before
        if entries != count:
            raise AssertionError(f"sent {count} flows, but the table has {entries} more")

    def _one(self) -> None:
        to, before = endpoint(len(self.sent)), time.time_ns()
        self._socket.sendto(b"", to)
        self.sent.append((before, time.time_ns()))

    @contextlib.contextmanager
    def steady(self, rate: int) -> Iterator[None]:
        """`rate` flows a second, in the background."""
        stopping = threading.Event()

        def run() -> None:
            start, first = time.monotonic(), len(self.sent)
            while not stopping.wait(0.005):
                while len(self.sent) - first < (time.monotonic() - start) * rate:
                    self._one()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def close(self) -> None:
        self._socket.close()


class Account:
    """What the log in `folders` holds of `traffic`, by ctlist's own listing; `told`: what ctlist
    said on stderr.
    """

    def __init__(
        self, traffic: Traffic, *folders: Path, event: str = "new", codes: tuple[int, ...] = (0,)
    ) -> None:
        command: list[str | Path] = [
            CHECKOUT / "bin/ctlist",
            "--format",
            "csv",
            "--event",
            event,
            *folders,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode in codes, f"ctlist: exit {done.returncode}: {done.stderr}"
        self.told = done.stderr
        rows = csv.DictReader(done.stdout.splitlines())
        numbers = Counter(
            number_of(row["orig_dst"], int(row["orig_dport"] or 0))
            for row in rows
            if row["protocol"] == "udp"
        )
        numbers.pop(-1, None)
        self.twice = [number for number, times in numbers.items() if times > 1]
        self.found = set(numbers)
        self.sent = len(traffic.sent)
        self.missing = sorted(set(range(self.sent)) - self.found)
        self._traffic = traffic
        self.gaps = [gap for folder in folders for path in paths(folder) for gap in gaps_of(path)]

    def check(self) -> None:
        """None is there twice; each that is missing lies in a GAP; where the GAPs of a kind know
        their count, it is right.
        """
        assert not self.twice, f"listed twice: {self.twice[:5]}"
        holes = [gap for gap in self.gaps if gap.lost != 0]
        for number in self.missing:
            first, last = self._traffic.sent[number]
            inside = [
                gap for gap in holes if gap.begin - SLACK_NS <= last and first <= gap.end + SLACK_NS
            ]
            assert inside, f"flow {number} of {self.sent} is not in the log, and in no GAP: {holes}"
        for gap in holes:
            assert REASONS[gap.reason] in self.told, f"ctlist does not tell of {gap}: {self.told}"
        if all(gap.lost is not None for gap in holes):
            assert len(self.missing) == sum(gap.lost or 0 for gap in holes)

    def whole(self) -> None:
        """All is there, and no GAP says otherwise."""
        self.check()
        assert self.missing == []
        assert [gap for gap in self.gaps if gap.lost != 0] == []


def gaps_of(path: Path) -> list[Gap]:
    """The GAPs of a segment; none of a file that is no segment."""
    if str(path) not in find.find([str(path)]).segments:
        return []
    with Segment(str(path)) as segment:
        return segment.gaps


def cttest(*paths: Path | str, code: int = 0) -> str:
    """Runs cttest; AssertionError if its exit code is not `code`.  What it said."""
    done = subprocess.run(
        [CHECKOUT / "bin/cttest", *paths], capture_output=True, text=True, timeout=60
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, f"cttest: exit {done.returncode}: {said}"
    assert "Traceback" not in said, said
    return said


class Tough(Recorder):
    """A recorder in the router that is started again as a service would be, with settings of a file
    and an environment.
    """

    def __init__(
        self,
        lab: HasRouter,
        folder: Path,
        *options: object,
        environment: dict[str, object] | None = None,
        name: str = "ctrecord",
        **settings: object,
    ) -> None:
        self._lab, self.folder, self._options = lab, folder, options
        self._stderr, self._config = (
            folder.parent / f"{name}.stderr",
            folder.parent / f"{name}.conf",
        )
        self.metrics = folder.parent / "metrics"
        self.metrics.mkdir(exist_ok=True)
        self._config.write_text(
            f"[metrics]\ndirectory = {self.metrics}\n[record]\n"
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        self._environment = [f"{name}={value}" for name, value in (environment or {}).items()]
        self.start()

    def start(self) -> None:
        """Start it; returns once it records."""
        template = self.folder / "%Y%m%d-%H%M%S.ctlog"
        command = (
            "env",
            *self._environment,
            CHECKOUT / "bin/ctrecord",
            "-F",
            "-c",
            self._config,
            "-U",
            "root",
            "-f",
            template,
        )
        self.process = self._lab.router.spawn(
            *command, *one_segment(), *self._options, stderr=self._stderr
        )
        self.wait("recording to ")

    def kill(self) -> int:
        """kill -9; when, ns UTC."""
        self.process.kill()
        at = time.time_ns()
        self.process.wait()
        return at

    def again(self) -> None:
        """A new one, after the old one has ended."""
        self._stderr = self._stderr.with_name(f"{self._stderr.name}+")
        self.start()

    def rotate(self) -> None:
        """SIGHUP, once the template gives another name than before."""
        time.sleep(1.02 - time.time() % 1)
        self.process.send_signal(signal.SIGHUP)

    def synced(self) -> None:
        """Until all that was sent is in the log, or is told to be kept in memory."""
        wait_until(
            lambda: not any(each.queued for each in event_sockets(self.process.pid)),
            "ctrecord reading what is queued",
        )
        super().flush()

    def descriptors(self) -> int:
        """How many file descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
