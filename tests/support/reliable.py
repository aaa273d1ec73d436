"""A listener in reliable mode that falls behind: the kernel sends NEW and DESTROY again, to every
listener of the namespace.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from ctrecorder import uapi
from tests.support.router import INSIDE, SERVER, Lab

_SOL_NETLINK, _ADD_MEMBERSHIP, _BROADCAST_ERROR, _NO_ENOBUFS = 270, 1, 4, 5
_NEW, _DESTROY = 1, 3  # NFNLGRP_CONNTRACK_NEW, _DESTROY


class ReliableListener:
    """Reads an event each `pause` seconds from a buffer for a few events, until it is released."""

    def __init__(self, lab: Lab, pause: float = 0.002) -> None:
        self._socket = lab.router.call(_make)
        self._pause = pause
        self._stop, self._free = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._socket.recv(1 << 16)
            if not self._free.is_set():
                time.sleep(self._pause)

    def release(self) -> None:
        """Read as fast as events come: the kernel gets rid of what it holds back."""
        self._free.set()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def reliable_listener(lab: Lab) -> Iterator[ReliableListener]:
    """Such a listener in the lab's router."""
    listener = ReliableListener(lab)
    try:
        yield listener
    finally:
        listener.stop()


def _make() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uapi.NETLINK_NETFILTER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for option in (_BROADCAST_ERROR, _NO_ENOBUFS):
        sock.setsockopt(_SOL_NETLINK, option, 1)
    sock.bind((0, 0))
    for group in (_NEW, _DESTROY):
        sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, struct.pack("i", group))
    sock.settimeout(0.1)
    return sock


def udp_flows(
    lab: Lab, flows: int, rounds: int, between: Callable[[], None] = lambda: None
) -> list[int]:
    """`flows` UDP flows from INSIDE to SERVER, each with `rounds` datagrams each way.

    `between` is called after the first round.  Returns their source ports.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(lab.outside.socket(socket.SOCK_DGRAM, SERVER, 4000))

        def make() -> list[socket.socket]:
            made = []
            for port in range(30_000, 30_000 + flows):
                sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.bind((INSIDE, port))
                sock.settimeout(5)
                made.append(sock)
            return made

        clients = lab.inside.call(make)
        for number in range(rounds):
            if number == 1:
                between()
            for client in clients:
                client.sendto(b"ping", (SERVER, 4000))
                server.sendto(*server.recvfrom(100))
                client.recv(100)
        return [client.getsockname()[1] for client in clients]
