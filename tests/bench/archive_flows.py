"""Flows for the benchmarks of the archive: real ones if a file of them is named, otherwise made up;
as connections, and as events.

CTRECORDER_FLOWS names a file of flow records, gzip CSV: start_epoch_float, duration_s,
proto_number, src_ip, src_port, dst_ip, dst_port, ...  It can name several, with ":" between them:
bench_connection measures each, the others read the first. NAT and timeouts are put on top: outbound
flows of one /16 are SNATed to 4 addresses with the port kept; UDP ends after its duration and 30 s
(120 s if that was longer than 0.5 s), TCP after 120 s, and up to 4 ms.
"""

from __future__ import annotations

import csv
import gzip
import ipaddress
import os
from pathlib import Path

import numpy as np

from ctrecorder import uapi
from ctrecorder.columns import TUPLE, Array, Event, Source, Table, bits
from ctrecorder.ctlog.bloom import Collector
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.plans import SQUEEZED
from ctrecorder.maintain.ordering import BlockOrdering
from ctrecorder.segment.pending import addresses_block
from ctrecorder.segment.writer import SegmentWriter

# Start and duration in ns, protocol, source and target as packed bytes, both ports.
Flow = tuple[int, int, int, bytes, bytes, int, int]
SECOND = 1_000_000_000
INSIDE = 0x9320  # 147.32.0.0/16
PUBLIC = np.array([0xC6336401, 0xC6336402, 0xC6336403, 0xC6336404], "<u4")
BEGIN = 1_313_488_906 * SECOND


def paths() -> list[Path]:
    """The files that CTRECORDER_FLOWS names."""
    return [Path(path) for path in os.environ.get("CTRECORDER_FLOWS", "").split(":") if path]


def real() -> dict[str, Array] | None:
    """The IPv4 TCP and UDP flows of the first file in CTRECORDER_FLOWS; None without one."""
    if not paths():
        return None
    path = paths()[0]
    rows = []
    with gzip.open(path, "rt") as file:
        lines = csv.reader(file)
        next(lines)
        for start, duration, proto, source, sport, target, dport, *_ in lines:
            if proto in ("6", "17") and ":" not in source:
                seconds, _, fraction = start.partition(".")
                begun = int(seconds) * 10**6 + int(fraction.ljust(6, "0")[:6])
                ends = (
                    int(ipaddress.ip_address(source)),
                    int(sport or 0),
                    int(ipaddress.ip_address(target)),
                    int(dport or 0),
                )
                rows.append((begun, round(float(duration) * 1e6), int(proto), *ends))
    values = np.array(rows, np.int64).T
    return translate(values[0] * 1000, values[1] * 1000, *values[2:])


def of_both_families(path: Path) -> list[Table]:
    """The TCP and UDP flows of a file as events, a table for each family that occurs.

    IPv4 flows from private addresses, or from 147.32.0.0/16, to others are SNATed.  A flow whose
    tuple is still in the kernel's table, because of the timeouts, is no connection of its own and
    is left out.
    """
    rows: dict[int, list[Flow]] = {uapi.AF_INET: [], uapi.AF_INET6: []}
    with gzip.open(path, "rt") as file:
        for flow in csv.DictReader(file):
            if flow["proto_number"] not in ("6", "17"):
                continue
            source, target = (
                ipaddress.ip_address(flow["src_ip"]),
                ipaddress.ip_address(flow["dst_ip"]),
            )
            times = (nanoseconds(flow["start_epoch_float"]), nanoseconds(flow["duration_s"] or "0"))
            ports = (int(flow["src_port"] or 0), int(flow["dst_port"] or 0))
            family = uapi.AF_INET if source.version == 4 else uapi.AF_INET6
            rows[family].append(
                (*times, int(flow["proto_number"]), source.packed, target.packed, *ports)
            )
    return [
        events(_distinct(_columns(family, sorted(found))), family)
        for family, found in rows.items()
        if found
    ]


def nanoseconds(text: str) -> int:
    """Seconds with a fraction as ns, exact to a microsecond."""
    return round(float(text) * 1e6) * 1000


def _columns(family: int, rows: list[Flow]) -> dict[str, Array]:
    """Rows of start, duration (ns), protocol, source, target (packed) and ports as connections."""
    columns: list[Array] = [np.array(values) for values in zip(*rows, strict=True)]
    start, duration, proto, source, target, sport, dport = columns
    if family == uapi.AF_INET6:
        out: Array = np.zeros(len(rows), np.bool_)
    else:
        source = np.frombuffer(b"".join(row[3] for row in rows), ">u4").astype("<u4")
        target = np.frombuffer(b"".join(row[4] for row in rows), ">u4").astype("<u4")
        out = _is_inside(source) & ~_is_inside(target)
    return translate(start, duration, proto, source, sport, target, dport, out)


def _is_inside(addresses: Array) -> Array:
    """(n,) bool, of IPv4 addresses: private (RFC 1918), or of the university's network."""
    inside: Array = (
        (addresses >> 24 == 10)
        | (addresses >> 20 == 0xAC1)
        | (addresses >> 16 == 0xC0A8)
        | (addresses >> 16 == INSIDE)
    )
    return inside


def _distinct(flows: dict[str, Array]) -> dict[str, Array]:
    """Without the flows whose tuple is still open; `flows` are in order of start."""
    ends: dict[tuple[object, ...], int] = {}
    kept = []
    names = ("l4proto", "orig_src", "orig_dst", "orig_sport", "orig_dport")
    keys = zip(*(flows[name].tolist() for name in names), strict=True)
    times = zip(flows["start"].tolist(), flows["end"].tolist(), strict=True)
    for row, (key, (start, end)) in enumerate(zip(keys, times, strict=True)):
        if start > ends.get(key, 0):
            kept.append(row)
            ends[key] = end
    return {name: values[kept] for name, values in flows.items()}


def made(count: int, seed: int = 1, begin: int = BEGIN, seconds: int = 7750) -> dict[str, Array]:
    """`count` flows that resemble a university's: few busy hosts and servers, many that are seen
    once, mostly UDP.
    """
    random = np.random.default_rng(seed)
    udp = random.random(count) < 0.77
    start = np.sort(random.integers(0, seconds * 10**6, count)) * 1000 + begin
    duration = (random.lognormal(-2.5, 3.0, count) * 1e6).clip(0, 3.6e9).astype(np.int64) * 1000
    hosts = INSIDE * 65536 + (random.zipf(1.3, count) * 2654435761 % 65536)
    others = (random.zipf(1.25, count) * 2654435761 + 77) % (1 << 32)
    outbound = random.random(count) < 0.6
    sport = random.integers(1024, 65536, count)
    dport = np.where(
        random.random(count) < 0.8,
        random.choice([53, 80, 443, 22, 25], count),
        random.integers(1024, 65536, count),
    )
    source, target = np.where(outbound, hosts, others), np.where(outbound, others, hosts)
    return translate(start, duration, np.where(udp, 17, 6), source, sport, target, dport)


def translate(
    start: Array,
    duration: Array,
    proto: Array,
    source: Array,
    sport: Array,
    target: Array,
    dport: Array,
    out: Array | None = None,
) -> dict[str, Array]:
    """Flows as connections: with NAT and timeouts.

    `out`: (n,) bool, which are SNATed; None: those that leave the university's network.
    """
    random = np.random.default_rng(13)
    timeout = np.where(proto == 17, np.where(duration > SECOND // 2, 120, 30), 120) * SECOND
    if out is None:
        out = (source >> 16 == INSIDE) & (target >> 16 != INSIDE)
    address = np.dtype("S16" if source.dtype.kind == "S" else "<u4")
    public = PUBLIC[source % 4] if address.kind == "u" else source
    return {
        "start": start,
        "end": start + duration + timeout + random.integers(0, 4001, len(start)) * 1000,
        "l4proto": proto.astype("u1"),
        "orig_src": source.astype(address),
        "orig_dst": target.astype(address),
        "reply_src": target.astype(address),
        "reply_dst": np.where(out, public, source).astype(address),
        "orig_sport": sport.astype("<u2"),
        "orig_dport": dport.astype("<u2"),
        "reply_sport": dport.astype("<u2"),
        "reply_dport": sport.astype("<u2"),
    }


def elsewhere(addresses: Array, day: int) -> Array:
    """Each day the hosts outside are others."""
    outside = (addresses >> 16 != INSIDE) & ~np.isin(addresses, PUBLIC)
    return np.where(outside, addresses ^ np.uint32(day * 2654435761 % (1 << 32)), addresses)


def connections(flows: dict[str, Array]) -> Table:
    """The flows as connections whose both ends were seen, by end."""
    count = len(flows["start"])
    constant = {"start_source": Source.RECEIPT, "end_source": Source.RECEIPT, "seen": 5}
    columns = {**flows, **{name: np.full(count, value, "u1") for name, value in constant.items()}}
    columns["present"] = np.full(count, bits(TUPLE), "<u4")
    return Table(2, count, columns).take(np.argsort(flows["end"], kind="stable"))


def events(flows: dict[str, Array], family: int = uapi.AF_INET) -> Table:
    """The flows as NEW and DESTROY, in order of time, with ids, as they are recorded without other
    columns.
    """
    count = len(flows["start"])
    ids = np.random.default_rng(5).integers(1, 1 << 32, count).astype("<u4")
    columns = {
        name: np.concatenate((values, values))
        for name, values in {**flows, "id": ids}.items()
        if name not in ("start", "end")
    }
    columns["time"] = np.concatenate((flows["start"], flows["end"]))
    columns["event"] = np.repeat(np.array([Event.NEW, Event.DESTROY], "u1"), count)
    columns["present"] = np.full(2 * count, bits((*TUPLE, "id")), "<u4")
    return Table(family, 2 * count, columns).take(np.argsort(columns["time"], kind="stable"))


def record(path: Path, table: Table) -> None:
    """Write events as a recorder does."""
    writer = SegmentWriter.create(
        str(path), Header(host="bench", chain="bench"), time_ns=int(table["time"][0])
    )
    for first in range(0, len(table), 1 << 16):
        writer.append(table.slice(first, first + (1 << 16)))
    writer.close()


def put(writer: SegmentWriter, table: Table, resolution_ns: int, level: int) -> None:
    """Write connections as ctsqueeze does."""
    shelves, addresses = BlockOrdering(resolution_ns, keep_ids=False), Collector()
    for block in shelves.add(table) + shelves.finish():
        addresses.add(block)
        writer.append(block, kind=Kind.CONNECTIONS, level=level, plan=SQUEEZED)
    if payload := addresses.payload():
        writer.write(addresses_block(payload, writer.times))
