"""Connections of every shape of NAT, what a recorder logs of them, and who held an address and port
at a time, found by looking at each connection.

Nothing here uses the product's queries.  All times are whole milliseconds, so squeezing changes
none of them.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctrecorder.columns import Event, Table
from ctrecorder.ctlog.frame import COVERAGE, Gap, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.pending import gap_block, mark_block, table_blocks
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import HOUR, SECOND
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support import rows

MS = SECOND // 1000
T = 1_700_000_000 * SECOND
TCP, UDP, ICMP, ICMPV6, GRE = 6, 17, 1, 58, 47
End = tuple[str, int]

_INSIDE = {AF_INET: "10.0.0.{}", AF_INET6: "2001:db8:a::{}"}
_PUBLIC = {AF_INET: "192.0.2.{}", AF_INET6: "2001:db8:b::{}"}
_REMOTE = {AF_INET: "203.0.113.{}", AF_INET6: "2001:db8:c::{}"}


@dataclass(frozen=True)
class Flow:
    """A connection: both tuples, and when it lived; `end` 0: it outlives the log."""

    family: int
    protocol: int
    id: int
    source: End
    target: End
    answerer: End
    answered: End
    start: int
    end: int
    zone: int = 0

    def row(self, event: Event, time: int, *, stamped: bool) -> dict[str, Any]:
        """What the kernel reports of it."""
        known: dict[str, Any] = {
            "event": int(event),
            "time": time,
            "l4proto": self.protocol,
            "id": self.id,
            "zone": self.zone,
        }
        ends = zip(
            ("orig_src", "orig_dst", "reply_src", "reply_dst"),
            ("orig_sport", "orig_dport", "reply_sport", "reply_dport"),
            (self.source, self.target, self.answerer, self.answered),
            strict=True,
        )
        for address, port, end in ends:
            known[address] = end[0]
            if self.protocol in (TCP, UDP):
                known[port] = end[1]
        if self.protocol in (ICMP, ICMPV6):
            asked, told = (8, 0) if self.protocol == ICMP else (128, 129)
            known["orig_icmp"] = asked, 0, self.source[1]
            known["reply_icmp"] = told, 0, self.answered[1]
        if stamped and event != Event.NEW:
            known["start"] = self.start
        if stamped and event == Event.DESTROY:
            known["stop"] = self.end
        return known

    @property
    def facts(self) -> tuple[Any, ...]:
        """What an answer tells of it."""
        ports = self.protocol in (TCP, UDP)
        ends = (self.source, self.target, self.answerer, self.answered)
        told = tuple((address, port if ports else None) for address, port in ends)
        return self.protocol, self.zone, *told, self.start, self.end


@dataclass(frozen=True)
class Question:
    """Who held an address, and a port (0: any), at since <= time < until?

    `to`: the remote address ("": any) and port (0: any).  `protocols`: empty for all.
    """

    public: End
    since: int
    until: int
    to: End = ("", 0)
    protocols: frozenset[int] = frozenset()


def holds(flow: Flow, asked: Question) -> bool:
    """Whether a connection had the public end and the remote end at that time."""
    if asked.protocols and flow.protocol not in asked.protocols:
        return False
    if flow.start >= asked.until or (flow.end and flow.end < asked.since):
        return False

    def is_end(end: End, wanted: End) -> bool:
        if wanted[0] and end[0] != wanted[0]:
            return False
        return not wanted[1] or (flow.protocol in (TCP, UDP) and end[1] == wanted[1])

    outbound = is_end(flow.answered, asked.public) and (
        is_end(flow.target, asked.to) or is_end(flow.answerer, asked.to)
    )
    return outbound or (is_end(flow.target, asked.public) and is_end(flow.source, asked.to))


def flows(seed: int, count: int, hours: int, *, before: int = 0) -> list[Flow]:
    """`count` connections of `hours` hours from T on; `before`: some began so many hours earlier.

    Few addresses and ports, so that several hosts hold one at once.  One tuple is never twice in
    the table at a time.
    """
    chance = random.Random(seed)
    made: list[Flow] = []
    open_until: dict[tuple[Any, ...], int] = {}
    while len(made) < count:
        one = _flow(chance, len(made) + 1, hours, before)
        keys = [
            (one.zone, one.protocol, one.source, one.target),
            (one.zone, one.protocol, one.answerer, one.answered),
        ]
        is_logged = not one.end or one.end > T + MS
        if is_logged and all(open_until.get(key, 0) < one.start - SECOND for key in keys):
            made.append(one)
            for key in keys:
                open_until[key] = one.end or T * 2
    return made


def _flow(chance: random.Random, number: int, hours: int, before: int) -> Flow:
    family = chance.choice((AF_INET, AF_INET, AF_INET6))
    icmp = ICMP if family == AF_INET else ICMPV6
    protocol = chance.choice((TCP, TCP, UDP, UDP, UDP, icmp, GRE))
    start = T + chance.randrange(-before * 3_600_000, hours * 3_600_000) * MS
    life = int(chance.choice((SECOND, 60 * SECOND, HOUR, 5 * HOUR)) * (0.5 + chance.random()))
    end = start + life // MS * MS + MS
    if chance.random() < 0.02 or end >= T + hours * HOUR:
        end = 0
    inside = _INSIDE[family].format(chance.randrange(1, 6)), chance.randrange(1024, 65536)
    public = _PUBLIC[family].format(chance.randrange(1, 4)), 40000 + chance.randrange(4)
    remote = _REMOTE[family].format(chance.randrange(1, 12)), chance.choice((53, 443, 40001))
    other = _REMOTE[family].format(chance.randrange(1, 12)), chance.choice((53, 8443))
    caller = remote[0], chance.randrange(1024, 65536)
    router = _INSIDE[family].format(254), chance.randrange(1024, 65536)
    neighbour = _INSIDE[family].format(chance.randrange(6, 9)), 443
    shapes: list[tuple[End, End, End, End]] = [
        (inside, remote, remote, public),  # SNAT
        (inside, remote, remote, (public[0], inside[1])),  # SNAT that keeps the port
        (caller, public, neighbour, caller),  # DNAT
        (inside, remote, other, public),  # both: another server answers
        (caller, public, neighbour, router),  # both, called from outside
        (inside, public, neighbour, router),  # hairpin
        (public, remote, remote, public),  # a host that has a public address
        (caller, public, public, caller),  # the same, called
    ]
    zone = chance.choice((0, 0, 0, 1, 2))
    return Flow(family, protocol, number, *chance.choice(shapes), start, end, zone)


def questions(seed: int, network: Sequence[Flow], count: int, hours: int) -> list[Question]:
    """Questions about these connections, and some about nobody."""
    chance = random.Random(seed)
    asked = []
    for _ in range(count):
        flow = chance.choice(network)
        public = chance.choice((flow.answered, flow.answered, flow.target))
        if chance.random() < 0.2:
            public = public[0], 0
        to: End = "", 0
        if chance.random() < 0.4:
            to = chance.choice((flow.target, flow.answerer, flow.source))
            to = to[0], to[1] if chance.random() < 0.6 else 0
        at = chance.choice(
            (
                flow.start,
                flow.end or flow.start,
                chance.randrange(flow.start, (flow.end or T + hours * HOUR) + 1),
                T + chance.randrange(hours * 3600) * SECOND,
            )
        )
        tolerance = chance.choice((0, 0, MS, SECOND, 60 * SECOND, HOUR))
        protocols = frozenset({flow.protocol} if chance.random() < 0.3 else ())
        asked.append(Question(public, at - tolerance, at + tolerance + 1, to, protocols))
    return asked


@dataclass
class Log:
    """A recorder's log: segments of an hour, each with a dump at its beginning.

    `covered`: it writes watermarks; else it is of version 1.0.
    `stamped`: the kernel tells the start of connections that it dumps or that end.
    `deaf`: times of which events are lost, each with its GAP.
    `state`: what is noted of the machine, such as its clock.
    """

    folder: Path
    chain: str = "c"
    covered: bool = True
    stamped: bool = True
    deaf: Sequence[tuple[int, int]] = ()
    boot: str = "boot"
    state: dict[str, Any] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    def write(self, network: Iterable[Flow], hours: int) -> None:
        """Write the segments."""
        network = list(network)
        previous, name = bytes(16), None
        for hour in range(hours):
            path = self.folder / f"{self.chain}-{hour:02}.ctlog"
            begin = T + hour * HOUR
            header = Header(
                requires=(COVERAGE,) if self.covered else None,
                host="router",
                boot_id=self.boot,
                netns="4:1",
                chain=self.chain,
                sequence=hour + 1,
                previous=name,
                state=self.state or None,
            )
            writer = SegmentWriter.create(str(path), header, previous, time_ns=begin)
            self._write_hour(writer, network, begin)
            previous, name = writer.close(), path.name
            self.paths.append(str(path))

    def _write_hour(self, writer: SegmentWriter, network: list[Flow], begin: int) -> None:
        end = begin + HOUR
        existing = [
            (begin + MS, flow.row(Event.EXISTING, begin + MS, stamped=self.stamped), flow.family)
            for flow in network
            if flow.start < begin and (not flow.end or flow.end > begin + MS)
        ]
        self._append(writer, existing)
        facts = {"rows": len(existing), "complete": True}
        writer.mark(Mark(begin, begin + 2 * MS, "dump", facts))
        told = []
        for flow in network:
            for event, time in ((Event.NEW, flow.start), (Event.DESTROY, flow.end)):
                is_lost = any(first <= time < last for first, last in self.deaf)
                if begin <= time < end and not is_lost:
                    told.append((time, flow.row(event, time, stamped=self.stamped), flow.family))
        self._append(writer, sorted(told, key=lambda one: one[0]))
        for first, last in self.deaf:
            if begin <= first < end:
                writer.write(gap_block(Gap(first, last, "overrun", 1)))
        heartbeat = mark_block(Mark.at(end - 1, "heartbeat", self.state))
        writer.write(heartbeat.with_watermark(end - 1) if self.covered else heartbeat)

    @staticmethod
    def _append(writer: SegmentWriter, told: list[tuple[int, dict[str, Any], int]]) -> None:
        """Write events, in small and in large blocks."""
        for first in range(0, len(told), 400):
            part = told[first : first + 400]
            for family in (AF_INET, AF_INET6):
                of_family = [row for _, row, of in part if of == family]
                if of_family:
                    for block in table_blocks(rows.table(of_family, family)):
                        writer.write(block)


def facts_of(table: Table) -> list[tuple[Any, ...]]:
    """The connections of an answer as `Flow.facts` has them."""
    found = []
    for row in range(len(table)):
        protocol = int(table["l4proto"][row])
        ends = []
        for address, port in (
            ("orig_src", "orig_sport"),
            ("orig_dst", "orig_dport"),
            ("reply_src", "reply_sport"),
            ("reply_dst", "reply_dport"),
        ):
            value: Any = table[address][row]
            packed = (
                bytes(value).ljust(16, b"\0")
                if table.family == AF_INET6
                else int(value).to_bytes(4, "big")
            )
            text = str(ipaddress.ip_address(packed))
            ends.append((text, int(table[port][row]) if protocol in (TCP, UDP) else None))
        times = int(table["start"][row]), int(table["end"][row])
        found.append((protocol, int(table["zone"][row]), *ends, *times))
    return found
