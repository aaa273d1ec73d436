"""A NAT router between inside and outside, in network namespaces of its own, with real traffic
through it.

    with Lab() as lab:
        lab.tcp(INSIDE, (SERVER, 25))      # inside, SNATed to PUBLIC
        lab.tcp(SERVER, (PUBLIC, 8080))    # outside, DNATed to INSIDE_SERVER
        lab.flush()                        # every entry ends now

`lab.inside` (the client and a server behind the router), `lab.router` and `lab.outside` are
namespaces.  Entering builds everything in about 0.1 s; leaving kills what was spawned inside and
removes it, whatever happened.  Names carry the pid: what a killed run left is swept by the next
one.  Needs root, pyroute2, nftables; `flush` needs conntrack.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, Self, TypeVar

from ctrecorder import uapi
from ctrecorder.kernel import netns
from tests.support import links
from tests.support.links import NETNS

CHECKOUT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"ctrec-(\d+)-\d+-(inside|router|outside)")

# RFC 5737 and RFC 3849: addresses for documentation, and private ones.
INSIDE, INSIDE_2, INSIDE_SERVER = "192.168.1.100", "192.168.1.101", "192.168.1.80"
PUBLIC, SERVER, SERVER_2 = "198.51.100.1", "198.51.100.25", "198.51.100.26"
INSIDE6, INSIDE6_2, INSIDE6_SERVER = "fd00:db8::100", "fd00:db8::101", "fd00:db8::80"
PUBLIC6, SERVER6, SERVER6_2 = "2001:db8::1", "2001:db8::25", "2001:db8::26"
BEHIND = {PUBLIC: INSIDE_SERVER, PUBLIC6: INSIDE6_SERVER}
# Public ports that DNAT takes to the server inside, and its own ports.
FORWARDED = {8080: 80, 5353: 53}

# Plain rules, no map: nft 1.0.6, in a Debian 12 that is booted in this namespace, crashes when it
# lists a map that 1.1.3 made.
_FORWARDING = "\n".join(
    f"        iifname wan {family} daddr {public} {proto} dport {port} dnat {family} to "
    f"{behind}:{inner}"
    for family, public, behind in (
        ("ip", PUBLIC, INSIDE_SERVER),
        ("ip6", PUBLIC6, f"[{INSIDE6_SERVER}]"),
    )
    for port, inner in FORWARDED.items()
    for proto in ("tcp", "udp")
)
RULES = f"""
table inet nat {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
{_FORWARDING}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname wan ip saddr 192.168.1.0/24 snat ip to {PUBLIC}
        oifname wan ip6 saddr fd00:db8::/64 snat ip6 to {PUBLIC6}
    }}
}}
"""
SYSCTLS = {"nf_conntrack_events": 1, "nf_conntrack_acct": 1, "nf_conntrack_timestamp": 1}

T = TypeVar("T")
Endpoint = tuple[str, int]
_libc = ctypes.CDLL(None, use_errno=True)
_SYS_PIDFD_GETFD = 438  # asm-generic/unistd.h: the same on every architecture


def wait_until(done: Callable[[], T], what: str, seconds: float = 15) -> T:
    """The first true answer of `done`, asked every 20 ms; TimeoutError naming `what` after
    `seconds`.
    """
    end = time.monotonic() + seconds
    while not (answer := done()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return answer


def wait_for_next(period: int, left: float) -> None:
    """If less than `left` seconds of the period (of so many seconds, UTC) are left, wait until they
    are over.
    """
    rest = period - time.time() % period
    if rest < left:
        time.sleep(rest + 0.1)


class EventSocket(NamedTuple):
    """A netfilter netlink socket that has joined a group, of some process.

    Its file descriptor there, its netlink address, bytes queued, events dropped.
    """

    fd: int
    port: int
    queued: int
    drops: int


def event_sockets(pid: int) -> list[EventSocket]:
    """The sockets on which process `pid` gets events of connections.

    Empty: it has not subscribed yet; from then on it misses nothing.
    """
    fds = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            fds[os.readlink(path)] = int(path.name)
    found = []
    for line in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]:
        _, protocol, port, groups, queued, _, _, _, drops, inode = line.split()
        fd = fds.get(f"socket:[{inode}]")
        # The groups 1 to 3: new, update, destroy.  Another socket hears of changed rules.
        if fd is not None and int(protocol) == uapi.NETLINK_NETFILTER and int(groups, 16) & 7:
            found.append(EventSocket(fd, int(port), int(queued), int(drops)))
    return found


@contextlib.contextmanager
def borrowed(pid: int, fd: int) -> Iterator[socket.socket]:
    """The socket that is file descriptor `fd` of process `pid`, by pidfd_getfd(2): the same socket,
    also for its options.
    """
    process = os.pidfd_open(pid)
    try:
        ours = _libc.syscall(_SYS_PIDFD_GETFD, process, fd, 0)
        if ours < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    finally:
        os.close(process)
    with socket.socket(fileno=ours) as sock:
        yield sock


class Namespace:
    """A network namespace by its name in /run/netns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spawned: list[subprocess.Popen[bytes]] = []

    def command(self, *command: object) -> list[str]:
        """`command`, to be run inside, and killed if this process dies."""
        return [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "nsenter",
            f"--net={NETNS / self.name}",
            "--",
            *map(str, command),
        ]

    def run(
        self, *command: object, stdin: str = "", check: bool = True, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Runs `command` inside; with `check`, a failure is an AssertionError that shows its
        stderr.
        """
        done = subprocess.run(
            self.command(*command), input=stdin, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(map(str, command))}: exit {done.returncode}: "
                f"{done.stderr.strip() or done.stdout.strip()}"
            )
        return done

    def spawn(
        self, *command: object, stdout: Path | None = None, stderr: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts `command` inside, its output in files; it is killed when the lab is left."""
        with contextlib.ExitStack() as stack:
            files = [
                stack.enter_context(path.open("wb")) if path else subprocess.DEVNULL
                for path in (stdout, stderr)
            ]
            process = subprocess.Popen(
                self.command(*command), stdin=subprocess.DEVNULL, stdout=files[0], stderr=files[1]
            )
        self.spawned.append(process)
        return process

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns, called inside (in a thread that joined the namespace): a socket
        made there stays there.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                netns.enter(self.name)
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - handed to the caller below
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def socket(self, kind: int, address: str, port: int = 0) -> socket.socket:
        """A socket inside, of SOCK_STREAM or SOCK_DGRAM, bound to `address` (of either family) and
        `port`, with a timeout.
        """

        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            sock.settimeout(10)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            return sock

        return self.call(make)

    def sysctl(self, **values: int) -> None:
        """Sets net.netfilter.* inside."""
        self.run(
            "sysctl", "-qw", *(f"net.netfilter.{name}={value}" for name, value in values.items())
        )

    def sysctl_value(self, name: str) -> int:
        """A net.netfilter.* inside."""
        return int(self.run("sysctl", "-n", f"net.netfilter.{name}").stdout)

    def kill_spawned(self) -> None:
        """Kills and reaps what `spawn` started."""
        for process in self.spawned:
            if process.poll() is None:
                process.kill()
        for process in self.spawned:
            process.wait()
        self.spawned.clear()


def _port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


class Host(Namespace):
    """No namespace of its own: commands run where this process is."""

    def command(self, *command: object) -> list[str]:
        return ["setpriv", "--pdeathsig", "KILL", *map(str, command)]


class HasRouter(Protocol):
    """A Lab, or what stands in for one: where recorders run."""

    @property
    def router(self) -> Namespace: ...


class Outside:
    """Stands in for a Lab where a command is to be started outside of it."""

    def __init__(self) -> None:
        self.router = Host("")


class Lab:
    """The three namespaces.

    `asleep`: without any rule, so that connection tracking sees nothing; `sysctls` are
    net.netfilter's.
    """

    _count = 0

    def __init__(self, *, asleep: bool = False, sysctls: dict[str, int] | None = None) -> None:
        Lab._count += 1
        prefix = f"ctrec-{os.getpid()}-{Lab._count}"
        self.inside, self.router, self.outside = (
            Namespace(f"{prefix}-{part}") for part in ("inside", "router", "outside")
        )
        self.namespaces = (self.inside, self.router, self.outside)
        self._asleep = asleep
        self._sysctls = SYSCTLS if sysctls is None else sysctls
        # The system's choice is random: of 20 flows two would have one port in 1 of 150 runs, and
        # be one flow.
        self._ports = itertools.count(20_000)

    def __enter__(self) -> Self:
        sweep()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in self.namespaces:
            namespace.kill_spawned()
        for namespace in self.namespaces:
            links.delete(namespace.name)

    def _build(self) -> None:
        for namespace in self.namespaces:
            links.create(namespace.name)
            # Addresses are used at once: no duplicate address detection.
            namespace.run(
                "sysctl",
                "-qw",
                "net.ipv6.conf.default.accept_dad=0",
                "net.ipv6.conf.default.accept_ra=0",
            )
        self.router.call(lambda: links.connect("lan", "eth0", self.inside.name))
        self.router.call(lambda: links.connect("wan", "eth0", self.outside.name))
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.router.call(self._configure_router)
        self.inside.call(self._configure_inside)
        self.outside.call(self._configure_outside)
        # Where connection tracking is a module: its sysctls come with it.
        self.router.run("modprobe", "-q", "nf_conntrack", check=False)
        self.router.sysctl(**self._sysctls)
        if not self._asleep:
            self.router.run("nft", "-f", "-", stdin=RULES)

    def _configure_router(self) -> None:
        links.configure("lan", "192.168.1.1/24", "fd00:db8::1/64")
        links.configure("wan", f"{PUBLIC}/24", f"{PUBLIC6}/64")

    def _configure_inside(self) -> None:
        links.configure(
            "eth0",
            *(f"{each}/24" for each in (INSIDE, INSIDE_2, INSIDE_SERVER)),
            *(f"{each}/64" for each in (INSIDE6, INSIDE6_2, INSIDE6_SERVER)),
        )
        links.route_by("192.168.1.1", "fd00:db8::1")

    def _configure_outside(self) -> None:
        links.configure(
            "eth0",
            *(f"{each}/24" for each in (SERVER, SERVER_2)),
            *(f"{each}/64" for each in (SERVER6, SERVER6_2)),
        )

    def home(self, address: str) -> Namespace:
        """The namespace that has `address`."""
        return self.inside if address.startswith(("192.168.1.", "fd00:db8::")) else self.outside

    def _listener(self, kind: int, to: Endpoint) -> tuple[socket.socket, int]:
        address, port = (
            BEHIND.get(to[0], to[0]),
            FORWARDED.get(to[1], to[1]) if to[0] in BEHIND else to[1],
        )
        return self.home(address).socket(kind, address, port), port

    def tcp(self, source: str, to: Endpoint, *, sport: int = 0, payload: bytes = b"ping") -> int:
        """One TCP connection from `source` to the endpoint `to` (PUBLIC: what is behind it), echoed
        and closed.  The source port.
        """
        listener, _ = self._listener(socket.SOCK_STREAM, to)
        with listener, self.home(source).socket(socket.SOCK_STREAM, source, sport) as caller:
            listener.listen()
            caller.connect(to)
            accepted, _ = listener.accept()
            with accepted:
                caller.sendall(payload)
                accepted.sendall(_exactly(accepted, len(payload)))
                if _exactly(caller, len(payload)) != payload:
                    raise AssertionError("what came back is not what was sent")
                return _port(caller)

    def udp(
        self,
        source: str,
        to: Endpoint,
        *,
        sport: int = 0,
        payload: bytes = b"ping",
        replied: bool = True,
    ) -> int:
        """One UDP datagram from `source` to the endpoint `to`, and one back if `replied`: a flow of
        its own, unless a `sport` comes back.

        The source port.
        """
        listener, _ = self._listener(socket.SOCK_DGRAM, to)
        sport = sport or next(self._ports)
        with listener, self.home(source).socket(socket.SOCK_DGRAM, source, sport) as caller:
            caller.sendto(payload, to)
            data, peer = listener.recvfrom(65536)
            if replied:
                listener.sendto(data, peer)
                caller.recvfrom(65536)
            return _port(caller)

    def ping(self, source: str, to: str, *, identifier: int = 0) -> None:
        """One echo request from `source` to the address `to`, and its reply.

        `identifier`: the ICMP id, else one of ping's choice.
        """
        chosen = ["-e", identifier] if identifier else []
        self.home(source).run("ping", "-q", "-n", "-c", 1, "-W", 5, "-I", source, *chosen, to)

    def flush(self) -> None:
        """Every entry of the router's table ends now."""
        self.router.run("conntrack", "-F")


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise AssertionError(f"connection closed after {len(data)} of {size} bytes")
        data += part
    return data


def sweep() -> None:
    """Removes the namespaces of runs that are dead (their pid is in the name)."""
    for path in NETNS.glob("ctrec-*"):
        match = NAME.fullmatch(path.name)
        if match and not Path("/proc", match[1]).exists():
            for pid in subprocess.run(
                ["ip", "netns", "pids", path.name], capture_output=True, text=True
            ).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            links.delete(path.name)
