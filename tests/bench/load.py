"""The load: a flood of new UDP flows through a NATing router, and the table flushed at once; and
the programs that listen.

The sender takes CPU 0, the listener CPU 1.  Listeners run one after another, in turns: with two
CPUs a second listener would take the time of the first.  Only two that are nearly alike run beside
each other, where their difference is less than what the load of the machine changes in turns.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ctrecorder import uapi
from tests.bench.measure import cpu_seconds
from tests.support.router import Lab, borrowed, event_sockets, wait_until

SENDER_CPU, LISTENER_CPU = 0, 1
BUFFER_KBYTES = 65536  # every listener's netlink receive buffer: 64 MiB, which the kernel doubles
# Room for the largest flood (a hash bucket takes 8 bytes, an entry about 320 while it lives).
TABLE_BUCKETS, TABLE_MAX = 1 << 20, 1 << 22
LIMITS = Path("/proc/sys/net/netfilter")
LOCK = Path("/run/lock/ctrecorder-bench")
GATEWAY, OUTER = "198.51.99.2", "198.51.99.1"


def build(name: str, folder: Path) -> Path:
    """Compiles tests/bench/NAME.c into `folder`."""
    program = folder / name
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-o", program, Path(__file__).with_name(f"{name}.c")],
        check=True,
    )
    return program


@contextlib.contextmanager
def large_table() -> Iterator[None]:
    """Raises nf_conntrack_max and the hash size, which all namespaces share, and puts them back.

    One at a time: others wait.
    """
    wanted = {"nf_conntrack_buckets": TABLE_BUCKETS, "nf_conntrack_max": TABLE_MAX}
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {name: (LIMITS / name).read_text() for name in wanted}
        try:
            for name, value in wanted.items():
                if int(before[name]) < value:
                    (LIMITS / name).write_text(str(value))
            yield
        finally:
            for name, former in before.items():
                (LIMITS / name).write_text(former)


class FloodLab(Lab):
    """A lab with a second way out, `flood`, to 198.18.0.0/15: masqueraded, and dropped behind the
    router.

    The other end of `flood` is down: a packet is routed, translated, tracked and then thrown away
    at no further cost.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._flood = build("flood", folder)
        self.sink = build("sink", folder)
        self._mac = ""

    def _build(self) -> None:
        super()._build()
        router = self.router
        router.run("ip", "link", "add", "flood", "type", "veth", "peer", "name", "nowhere")
        router.run("ip", "addr", "add", "192.168.2.254/24", "dev", "lan")
        router.run("nft", "-f", "-", stdin="add rule inet nat postrouting oifname flood masquerade")
        self._raise_flood()
        # No flow may end by its timeout while it is measured.
        router.sysctl(nf_conntrack_udp_timeout=86400)
        self._mac = json.loads(router.run("ip", "-j", "link", "show", "lan").stdout)[0]["address"]

    def _raise_flood(self) -> None:
        """What a link that went down has lost."""
        self.router.run(
            "ip",
            "-batch",
            "-",
            stdin=f"""addr replace {OUTER}/24 dev flood
            link set flood up
            neigh replace {GATEWAY} lladdr 02:00:00:00:00:01 dev flood nud permanent
            route replace 198.18.0.0/15 via {GATEWAY} dev flood onlink""",
        )

    def flood(self, first: int, count: int, rate: int = 0, *, alone: bool = True) -> float:
        """Sends the flows first..first+count-1, at `rate` a second or as fast as it goes.  The
        seconds it took.

        Raises AssertionError if the kernel's table has not exactly so many more; not if other
        traffic goes on (`alone`).
        """
        before = self.entries()
        command = [
            "taskset",
            "-c",
            SENDER_CPU,
            self._flood,
            "eth0",
            self._mac,
            first,
            count,
            *([rate] if rate else []),
        ]
        seconds = float(self.inside.run(*command, timeout=600).stdout.split()[1])
        if alone and self.entries() - before != count:
            raise AssertionError(
                f"sent {count} new flows, but the table has {self.entries() - before} more"
            )
        return seconds

    def flush(self, *, alone: bool = True) -> None:
        """Empties the table at once, by `conntrack -F`; AssertionError if the kernel says it is not
        empty then (see `flood`).
        """
        self.router.run("taskset", "-c", SENDER_CPU, "conntrack", "-F", timeout=600)
        left = self.entries()
        if left and alone:
            raise AssertionError(f"{left} entries after the flush")

    def link_down(self) -> None:
        """Empties the table at once, by the kernel itself: a masqueraded link goes down, and comes
        up again.
        """
        self.router.run("ip", "link", "set", "flood", "down")
        wait_until(lambda: not self.entries(), "the kernel ending every masqueraded connection", 60)
        self._raise_flood()

    def entries(self) -> int:
        """How many entries the router's table has, by the kernel."""
        return self.router.sysctl_value("nf_conntrack_count")


class Listener:
    """A program in the router's namespace, on CPU 1, that gets every NEW and DESTROY; `command` may
    use its folder.
    """

    name = ""
    stop_signal = 15

    def __init__(self, lab: FloodLab) -> None:
        self.lab = lab
        self.folder = lab.folder / type(self).__name__
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.output, self.log = self.folder / "out", self.folder / "log"
        self.process = lab.router.spawn(
            "taskset", "-c", LISTENER_CPU, *self.command(), stdout=self.output, stderr=self.log
        )
        wait_until(self._subscribed, f"{self.name} subscribed to conntrack events")
        self.ready()
        self.started = cpu_seconds(self.process.pid)

    def _subscribed(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(
                f"{self.name} ended with {self.process.returncode}: {self.log.read_text()}"
            )
        return bool(event_sockets(self.process.pid))

    def command(self) -> list[object]:
        """The program and its arguments."""
        raise NotImplementedError

    def ready(self) -> None:
        """Waits for what the program says of itself."""

    def events(self) -> int:
        """How many events it really got, by its own output, after `stop`."""
        raise NotImplementedError

    def drops(self) -> int | None:
        """How many events the kernel dropped for it: None where it does not say."""
        return None

    def drain(self) -> None:
        """Waits until nothing is queued for it any more."""
        wait_until(
            lambda: not queued_bytes(self.process.pid),
            f"{self.name} reading all that is queued",
            120,
        )

    def settle(self) -> float:
        """Waits until it has done all there is to do; its CPU seconds then, since it was ready."""
        idle = 0
        last = cpu_seconds(self.process.pid)
        while idle < 5:
            time.sleep(0.3)
            now = cpu_seconds(self.process.pid)
            idle, last = (idle + 1 if now - last < 0.003 else 0), now
        return last - self.started

    def stop(self) -> None:
        """Ends it in order."""
        self.process.send_signal(self.stop_signal)
        self.process.wait(timeout=60)


def queued_bytes(pid: int) -> int:
    """What waits in the receive buffers of the process's event sockets."""
    return sum(each.queued for each in event_sockets(pid))


def set_event_buffer(pid: int, kbytes: int) -> None:
    """Gives the event sockets of another process a receive buffer of `kbytes`."""
    for each in event_sockets(pid):
        with borrowed(pid, each.fd) as sock:
            sock.setsockopt(socket.SOL_SOCKET, uapi.SO_RCVBUFFORCE, kbytes << 10)
