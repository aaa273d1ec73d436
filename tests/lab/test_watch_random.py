"""Random changes of rules and sysctls under traffic: what is not reported lies in a hole.

The sender's own list of datagrams is the truth.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from dataclasses import dataclass

from ctrecorder import uapi
from ctrecorder.columns import Event
from ctrecorder.kernel import netns, sockets
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.sockets import EventSocket
from ctrecorder.watch.watcher import Hole, Watcher
from tests.support.router import RULES, Lab

SECONDS = 6
LOOPBACK = {uapi.AF_INET: "127.0.0.1", uapi.AF_INET6: "::1"}
RAW = "type filter hook output priority raw;"
# Transactions, with a moment between them; a number is a value of nf_conntrack_events.
CHANGES: tuple[tuple[str, ...] | int, ...] = (
    ("flush ruleset",),
    ("flush ruleset\n" + RULES,),
    ("flush ruleset", RULES),
    ("flush ruleset\ntable ip6 a { chain c { ct state new counter; }; }",),
    (f"table inet n {{ chain c {{ {RAW} udp dport 53 notrack; }}; }}",),
    ("table inet n\ndelete table inet n",),
    (
        f"table inet m {{ chain c {{ {RAW} udp dport {{ 53, 9 }} notrack; }}; }}",
        "delete table inet m",
    ),
    ("table inet f { chain c { counter; }; }", "delete table inet f"),
    0,
    1,
    2,
)


@dataclass
class Datagram:
    """One that was sent between two times, from a source port that no other has."""

    begin: int
    end: int
    family: int
    source: int
    port: int

    def is_in(self, hole: Hole, now: int) -> bool:
        scope, end = hole.scope, now if hole.end is None else hole.end
        touches = hole.start <= self.end and self.begin <= end
        ports = not scope.ports or self.port in scope.ports
        return touches and scope.family in (None, self.family) and ports


class Sender(threading.Thread):
    """Sends a datagram every few ms, in a network namespace."""

    def __init__(self, namespace: str, rng: random.Random) -> None:
        super().__init__()
        self.namespace, self.rng = namespace, rng
        self.sent: list[Datagram] = []
        self.done = threading.Event()

    def run(self) -> None:
        netns.enter(self.namespace)
        for source in range(20_000, 60_000):
            if self.done.is_set():
                return
            family, port = self.rng.choice(list(LOOPBACK)), self.rng.choice((9, 53, 1000))
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((LOOPBACK[family], source))
                begin = time.time_ns()
                sock.sendto(b"x", (LOOPBACK[family], port))
                self.sent.append(Datagram(begin, time.time_ns(), family, source, port))
            time.sleep(0.003)


def test_what_is_not_reported_lies_in_a_hole(lab: Lab) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    with (
        contextlib.closing(lab.router.call(lambda: EventSocket(16 << 20))) as events,
        contextlib.closing(
            lab.router.call(lambda: Watcher(time.time_ns, time.time_ns()))
        ) as watcher,
    ):
        compare(lab, seed, events, watcher)


def compare(lab: Lab, seed: int, events: EventSocket, watcher: Watcher) -> None:
    """Change rules and sysctls at random; what was not reported must lie in a hole."""
    rng = random.Random(seed)
    holes: list[Hole] = []

    def look() -> None:
        now = time.time_ns()
        holes.extend(lab.router.call(lambda: watcher.look(now)).closed)

    look()
    sender = Sender(lab.router.name, random.Random(seed + 1))
    sender.start()
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            change = rng.choice(CHANGES)
            if isinstance(change, int):
                lab.router.sysctl(nf_conntrack_events=change)
            else:
                for text in change:
                    lab.router.run("nft", "-f", "-", stdin=text, check=False)
                    time.sleep(rng.choice((0, 0.03)))
            # A sysctl that is set back between two looks leaves no trace: ctrecord(8).
            for _ in range(rng.randrange(isinstance(change, int), 4)):
                time.sleep(0.1)
                look()
    finally:
        sender.done.set()
        sender.join()
    look()
    slots = sockets.SlotBuffer(1 << 15)
    while events.receive(slots):
        pass
    reported: set[tuple[int, int]] = set()
    for table in Decoder().decode(*events.accept(slots)):
        begun = table["event"] == Event.NEW
        reported |= {(table.family, port) for port in table["orig_sport"][begun].tolist()}
    assert events.drops() == 0
    now = time.time_ns()
    everything = [*holes, *watcher.holes]
    hidden = [each for each in sender.sent if (each.family, each.source) not in reported]
    covered = [
        each for each in sender.sent if not any(each.is_in(hole, now) for hole in everything)
    ]
    print(f"{len(sender.sent)} sent, {len(hidden)} not reported, {len(covered)} covered")
    assert [each for each in hidden if each in covered] == []
