"""The traffic generator: many short flows each second, and some that live over faults.

One thread serves both sides by one selector.  A client's socket is made in its namespace; a server
that gets a packet enters its arrival, and the peer that it saw, into the truth.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import heapq
import os
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial

from tests.model.network import (
    IPV4,
    IPV6,
    OUTSIDE_PORTS,
    PLAIN,
    PORTS,
    PUBLICS,
    SERVED,
    SERVERS,
    SOURCES,
    TCP,
    UDP,
)
from tests.model.truth import JOIN, SECOND, End, Flow, Truth
from tests.support.links import NETNS
from tests.support.router import BEHIND, FORWARDED, Lab, Namespace

NUMBER = struct.Struct("!Q")
SO_TIMESTAMPNS, STAMP = 35, struct.Struct("=qq")
FAMILY = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
KIND = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}
CLONE_NEWNET = 0x40000000
REFUSED = {errno.EADDRINUSE, errno.EADDRNOTAVAIL}
# Seconds until a connection that is not established is given up.
PATIENCE = 3.0
# Seconds between two packets of a flow: (least, most).
PAUSE = (0.25, 0.4)
# Share of flows, and how long such a flow lives, in s.
LIVES = ((0.80, 0.0, 0.3), (0.16, 1.0, 5.0), (0.04, 8.0, 30.0))
LONG = 1.0  # seconds; longer flows are candidates to live over an edge

_libc = ctypes.CDLL(None, use_errno=True)


class Generator:
    """`rate` flows a second through `lab`, entered into `truth`; a context manager."""

    def __init__(self, lab: Lab, truth: Truth, seed: int, rate: float) -> None:
        self._truth, self._random, self._rate = truth, random.Random(seed), rate
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._namespaces = {
            space: os.open(NETNS / space.name, os.O_RDONLY) for space in (lab.inside, lab.outside)
        }
        self._lab, self._here = lab, lab.router
        self._sockets: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")
        self.failure: BaseException | None = None
        for family in (IPV4, IPV6):
            for port in (SERVED, PLAIN):
                self._serve(lab.outside, SERVERS[family], port)
            for port in FORWARDED.values():
                self._serve(lab.inside, BEHIND[PUBLICS[family]], port)

    def __enter__(self) -> Generator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for sock in list(self._sockets):
            sock.close()
        self._selector.close()
        for descriptor in self._namespaces.values():
            os.close(descriptor)

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - the run looks at it
            self.failure = error

    def _loop(self) -> None:
        self._after(0, self._next_flow)
        while not self._stopping.is_set():
            wait = self._due[0][0] - time.monotonic() if self._due else 0.05
            for key, _ in self._selector.select(min(max(wait, 0), 0.05)):
                key.data()
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._order, action))

    # The far side.

    def _serve(self, space: Namespace, address: str, port: int) -> None:
        datagrams = space.socket(socket.SOCK_DGRAM, address, port)
        listener = space.socket(socket.SOCK_STREAM, address, port)
        listener.listen(512)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        datagrams.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        for sock in (datagrams, listener):
            sock.setblocking(False)
            self._sockets.add(sock)
        self._selector.register(
            datagrams, selectors.EVENT_READ, partial(self._datagrams, datagrams)
        )
        self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))

    def _datagrams(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                data, (stamp,), _, peer = sock.recvmsg(64, socket.CMSG_SPACE(STAMP.size))
            except BlockingIOError:
                return
            # When it arrived: on a busy machine it is read much later, and an entry of 2 s can have
            # ended meanwhile.
            seconds, ns = STAMP.unpack(stamp[2])
            now = seconds * SECOND + ns
            if len(data) != NUMBER.size:
                continue
            (number,) = NUMBER.unpack(data)
            self._truth.arrived(number, peer[:2], now)
            if number % 2:
                late = time.time_ns() - now > JOIN
                self._truth.late_reply |= late
                with contextlib.suppress(OSError):  # no way back while nothing is translated
                    sock.sendto(b"", peer)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._sockets.add(sock)
        self._selector.register(sock, selectors.EVENT_READ, partial(self._stream, sock, peer[:2]))

    def _stream(self, sock: socket.socket, peer: End) -> None:
        try:
            data = sock.recv(4096)
        except OSError:
            data = b""
        now = time.time_ns()
        if len(data) >= NUMBER.size:
            self._truth.arrived(NUMBER.unpack(data[: NUMBER.size])[0], peer, now)
        elif not data:
            self._close(sock)

    # The near side.

    def _next_flow(self) -> None:
        self._after(self._random.expovariate(self._rate), self._next_flow)
        family = self._random.choice((IPV4, IPV4, IPV6))
        protocol = self._random.choice((TCP, UDP, UDP))
        dice = self._random.random()
        inbound = dice < 0.12
        share = self._random.random()
        life = 0.0
        for part, least, most in LIVES:
            if share < part:
                life = self._random.uniform(least, most)
                break
            share -= part
        if inbound:
            forward = self._random.choice([*FORWARDED.items()])
            source = SERVERS[family], self._random.choice(OUTSIDE_PORTS)
            called: End | None = (PUBLICS[family], forward[0])
            inside, remote, to = (BEHIND[PUBLICS[family]], forward[1]), source, called
        else:
            source = self._random.choice(SOURCES[family]), self._random.choice(PORTS)
            port = PLAIN if protocol == UDP and dice > 0.85 else SERVED
            inside, remote, to, called = source, (SERVERS[family], port), None, None
        self._begin(family, protocol, inside, remote, called, source, to or remote, life)

    def _begin(
        self,
        family: str,
        protocol: int,
        inside: End,
        remote: End,
        called: End | None,
        source: End,
        to: End,
        life: float,
    ) -> None:
        self._enter(self._lab.outside if called else self._lab.inside)
        sock = socket.socket(FAMILY[family], KIND[protocol])
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, protocol == TCP)
        try:
            sock.bind(source)
        except OSError as error:
            sock.close()
            if error.errno not in REFUSED:
                raise
            return
        self._sockets.add(sock)
        flow = self._truth.begin(protocol, inside, remote, called, time.time_ns(), life >= LONG)
        try:
            sock.connect(to)
        except BlockingIOError:
            pass
        except OSError:  # TIME_WAIT of the same ends, or no route
            self._close(sock)
            return
        until = time.monotonic() + life
        if protocol == UDP:
            self._talk(sock, flow, until)
        else:
            self._selector.register(
                sock, selectors.EVENT_WRITE, partial(self._connected, sock, flow, until)
            )
            self._after(PATIENCE, partial(self._give_up, sock))

    def _connected(self, sock: socket.socket, flow: Flow, until: float) -> None:
        self._selector.unregister(sock)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._close(sock)
        else:
            self._talk(sock, flow, until)

    def _give_up(self, sock: socket.socket) -> None:
        if sock in self._sockets and sock.fileno() in self._selector.get_map():
            self._close(sock)

    def _talk(self, sock: socket.socket, flow: Flow, until: float) -> None:
        """One packet, and the next in a while; closed after `until`."""
        if sock not in self._sockets:
            return
        try:
            sock.send(NUMBER.pack(flow.number))
        except BlockingIOError:
            pass
        except OSError as error:
            if flow.protocol == TCP or error.errno not in (errno.ECONNREFUSED, errno.EHOSTUNREACH):
                flow.sent[1] = time.time_ns()
                self._close(sock)
                return
        flow.sent[1] = time.time_ns()
        pause = self._random.uniform(*PAUSE)
        if time.monotonic() + pause < until:
            self._after(pause, partial(self._talk, sock, flow, until))
        else:
            self._after(max(until - time.monotonic(), 0.02), partial(self._end, sock, flow))

    def _end(self, sock: socket.socket, flow: Flow) -> None:
        flow.sent[1] = time.time_ns()
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            self._sockets.remove(sock)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(sock)
            sock.close()

    def _enter(self, space: Namespace) -> None:
        """From now on this thread makes its sockets in `space`."""
        if self._here is not space:
            if _libc.setns(self._namespaces[space], CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {space.name}")
            self._here = space
