"""What filters are asked of: a home router and a campus, as archives that are raw, squeezed or
both; and the rows in them as ctlist's JSON has them.

The home router has all that the language has words for: NAT in both directions, hairpins, ICMP,
GRE, zones, marks, counters that are not known, open connections.  Its IPv6 twin has the same
connections: 192.0.2.7 is 2001:db8:c000:207::, and a prefix is 32 bits longer.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ctrecorder.columns import Event, Source, Table, concat
from ctrecorder.ctlog.frame import NO_HASH, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.predicate import Query
from ctrecorder.ends import Inside
from ctrecorder.filters.compile import compile_filter, merged
from ctrecorder.filters.tree import Context
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.uapi import AF_INET
from tests.bench import archive_flows
from tests.bench.made_archive import events
from tests.support.router import CHECKOUT
from tests.support.rows import Row, table

SECOND, HOUR = 10**9, 3600 * 10**9
BEGIN = 1795442400 * SECOND  # 2026-11-23 14:00:00 UTC
NOW = BEGIN + 30 * 24 * HOUR
HOURS = 3
FORMS = ("raw", "squeezed", "mixed")
INSIDE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "147.32.0.0/16")
PUBLIC = ("198.51.100.1", "198.51.100.2")
_LAN = [f"192.168.1.{number}" for number in range(100, 112)] + ["10.9.0.5", "10.9.8.7"]
_REMOTE = [f"203.0.113.{number}" for number in range(20, 40)] + ["192.0.2.7", "192.0.2.8"]
_SERVER = "192.168.1.10"
_PORTS = [80, 443, 443, 443, 53, 53, 25, 22, 123, 8080, 993, 5060]
_ICMP_TWIN = {8: 128, 0: 129, 3: 1, 11: 3}


def as_v6(address: str) -> str:
    """The IPv6 twin of an IPv4 address or network."""
    address, slash, length = address.partition("/")
    number = int(ipaddress.IPv4Address(address)) << 64 | 0x20010DB8 << 96
    return f"{ipaddress.IPv6Address(number)}{slash}{int(length) + 32 if slash else ''}"


def expression_as_v6(text: str) -> str:
    """The expression that asks the IPv6 twin the same."""
    text = re.sub(r"\bicmp\b", "icmp6", text)
    text = re.sub(
        r"(?<=type )(\d+)\b", lambda found: str(_ICMP_TWIN.get(int(found[1]), found[1])), text
    )
    text = re.sub(r"\bip4?\b(?! (?:\d|in))", "ip6", text)
    return re.sub(
        r"(\d+(?:\.\d+){3}(?:/\d+)?)(:\d+)?",
        lambda found: f"[{as_v6(found[1])}]{found[2]}" if found[2] else as_v6(found[1]),
        text,
    )


def _connection(chance: random.Random, number: int) -> tuple[Row, int, int | None]:
    """A connection: its columns, start, and end."""
    start = BEGIN + chance.randrange(HOURS * 3600 * 1000) * 1_000_000
    seconds = chance.choice([0.002, 0.5, 1, 12.25, 60, 120, 900, 3600, 4000, 7200])
    end: int | None = start + round(seconds * SECOND)
    protocol = chance.choice([6, 6, 6, 6, 17, 17, 1, 47, 132])
    inner, outer = chance.choice(_LAN), chance.choice(_REMOTE)
    sport, dport, public = chance.randrange(1024, 65536), chance.choice(_PORTS), PUBLIC[0]
    kind = chance.choice(["snat"] * 6 + ["port", "dnat", "dnat", "hairpin", "plain", "lan", "own"])
    if kind == "snat":
        ends = (inner, outer, outer, public)
        ports = (sport, dport, dport, sport)
    elif kind == "port":  # another public address, and another port
        ends = (inner, outer, outer, PUBLIC[1])
        ports = (sport, dport, dport, sport ^ 1)
    elif kind == "dnat":
        ends = (outer, public, _SERVER, outer)
        ports = (sport, 443, 8443, sport)
    elif kind == "hairpin":
        ends = (inner, public, _SERVER, "192.168.1.1")
        ports = (sport, 443, 8443, sport)
    elif kind == "plain":  # not translated
        ends = (inner, outer, outer, inner)
        ports = (sport, dport, dport, sport)
    elif kind == "lan":
        ends = (inner, "10.9.0.1", "10.9.0.1", inner)
        ports = (sport, dport, dport, sport)
    else:  # of the router, which is not inside
        ends = (public, outer, outer, public)
        ports = (sport, dport, dport, sport)
    columns: Row = dict(
        zip(("orig_src", "orig_dst", "reply_src", "reply_dst"), ends, strict=True),
        l4proto=protocol,
        id=number + 1,
        status=0x18E if chance.random() < 0.7 else 0x188 if chance.random() < 0.5 else 0x18A,
    )
    if protocol == 1:
        type_ = chance.choice([8, 8, 8, 3])
        ident = chance.randrange(65536)
        other = ident ^ 1 if kind == "port" else ident
        columns |= {"orig_icmp": (type_, 0, ident), "reply_icmp": (0, 0, other)}
    elif protocol != 47:
        names = ("orig_sport", "orig_dport", "reply_sport", "reply_dport")
        columns |= dict(zip(names, ports, strict=True))
    if chance.random() < 0.3:
        columns["mark"] = chance.choice([1, 2, 0x10, 0x1F, 0xFF0000])
    if chance.random() < 0.2:
        columns["zone"] = chance.choice([1, 2])
    elif chance.random() < 0.1:
        columns[chance.choice(["orig_zone", "reply_zone"])] = 3
    return columns, start, end if chance.random() < 0.93 else None


def _ended(chance: random.Random, columns: Row, start: int, end: int) -> Row:
    """The DESTROY of a connection."""
    row: Row = {**columns, "event": Event.DESTROY, "time": end, "status": columns["status"] | 0x200}
    if chance.random() < 0.8:
        row |= {"start": start, "stop": end}
    if chance.random() < 0.85:
        size = chance.choice([40, 1500, 999_999, 10_000_000, 10_485_760, 3 * 10**9])
        row |= {
            "orig_packets": 1 + size // 3000, "reply_packets": size // 1500,
            "orig_bytes": size // 4, "reply_bytes": size - size // 4,
        }  # fmt: skip
    if columns["l4proto"] == 6:
        row["tcp_state"] = chance.choice([7, 7, 7, 8, 3])
    return row


def home_rows(connections: int = 700, seed: int = 13) -> list[Row]:
    """The events and the rows of dumps, in order of time."""
    chance = random.Random(seed)
    rows = []
    for number in range(connections):
        columns, start, end = _connection(chance, number)
        begun = {**columns, "event": Event.NEW, "time": start, "status": columns["status"] & 0x188}
        rows.append({**begun, **({"tcp_state": 1} if columns["l4proto"] == 6 else {})})
        ended = _ended(chance, columns, start, end) if end is not None else {"start": start}
        if end is not None:
            rows.append(ended)
        for hour in range(1, HOURS):
            begin = BEGIN + hour * HOUR
            if start < begin and (end is None or end >= begin):
                told = {"start": start} if "start" in ended else {}
                rows.append({**columns, "event": Event.EXISTING, "time": begin, **told})
    return sorted(rows, key=lambda row: int(row["time"]))


def _twin(row: Row) -> Row:
    """The row in IPv6."""
    found = {
        name: as_v6(value) if name[-3:] in ("src", "dst") else value for name, value in row.items()
    }
    if row["l4proto"] == 1:
        found["l4proto"] = 58
        for name in ("orig_icmp", "reply_icmp"):
            type_, code, ident = row[name]
            found[name] = (_ICMP_TWIN[type_], code, ident)
    return found


def home(folder: Path, family: int = AF_INET, form: str = "raw") -> Path:
    """The home router's archive: three segments."""
    rows = home_rows() if family == AF_INET else [_twin(row) for row in home_rows()]
    whole = table(rows, family)
    return _archive(folder, [whole], form)


def campus(folder: Path, form: str = "raw") -> Path:
    """2,000 flows that resemble a university's, without counters."""
    flows = archive_flows.made(2_000, begin=BEGIN, seconds=7750)
    numbers = {**flows, "id": (flows["start"] % (1 << 31)).astype("<u4")}
    tables = [
        events(numbers, Event.NEW, flows["start"]),
        events(numbers, Event.DESTROY, flows["end"]),
    ]
    for hour in range(1, HOURS):
        begin = BEGIN + hour * HOUR
        alive = (flows["start"] < begin) & (flows["end"] >= begin)
        opened = {name: values[alive] for name, values in numbers.items()}
        times = np.full(len(opened["start"]), begin)
        tables.append(events(opened, Event.EXISTING, times))
    return _archive(folder, [concat(tables)], form)


def _archive(folder: Path, tables: list[Table], form: str) -> Path:
    """Segments of an hour each; of the form `mixed`, the first ones are squeezed."""
    folder.mkdir()
    (whole,) = tables
    previous, name = NO_HASH, None
    for hour in range(HOURS):
        begin = BEGIN + hour * HOUR
        last = begin + (HOUR if hour < HOURS - 1 else 1000 * HOUR)
        path = folder / f"{hour}.ctlog"
        header = Header(
            host="router", boot_id="b", chain="c", sequence=hour + 1, previous=name, netns="4:1"
        )
        writer = SegmentWriter.create(str(path), header, previous, time_ns=begin)
        writer.mark(Mark.at(begin, "start", {}))
        chosen = whole.take((whole["time"] >= begin) & (whole["time"] < last))
        rows = chosen.take(chosen["time"].argsort(kind="stable"))
        dumped = rows["event"] == Event.EXISTING
        if dumped.any():
            writer.append(rows.take(dumped))
        facts = {"complete": True, "rows": int(dumped.sum())}
        writer.mark(Mark(begin, begin + 1, "dump", facts))
        rows = rows.take(~dumped)
        for first in range(0, len(rows), 900):
            writer.append(rows.slice(first, first + 900))
        previous, name = writer.close(), path.name
        if form == "squeezed" or (form == "mixed" and hour < HOURS - 1):
            squeeze(str(path), SqueezeOptions("us"))
    return folder


def rows_of(folder: Path, *, connections: bool) -> list[dict[str, Any]]:
    """All rows as ctlist lists them in JSON, times as ns."""
    asked = ["-s"] if connections else ["--event", "new,update,destroy,existing"]
    done = subprocess.run(
        [CHECKOUT / "bin" / "ctlist", "--format", "json", *asked, folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        for name in ("time", "start", "end", "stop"):
            if name in row:
                row[name] = _ns(row[name])
        if row.get("end_source") == Source.UNKNOWN.name.lower():
            row.pop("end", None)
    return rows


def _ns(text: str) -> int:
    """The time of RFC 3339 with nanoseconds."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    whole = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
    return int(whole.timestamp()) * SECOND + int((fraction or "0").ljust(9, "0"))


def lists(folder: Path, *, v6: bool = False) -> dict[str, str]:
    """Files of hosts and of ports: the `{hosts}` and `{ports}` of an expression."""
    hosts, ports = folder / "hosts", folder / "ports"
    found = ["203.0.113.20", "203.0.113.32/29", "192.168.1.100"]
    found += [f"192.0.2.{number}" for number in range(256)]
    found = [as_v6(each) for each in found] if v6 else found
    hosts.write_text("# of a block list\n" + "\n".join(found[:2]) + ", " + " ".join(found[2:]))
    ports.write_text("22 # ssh\n25, 8443\n")
    return {"hosts": str(hosts), "ports": str(ports)}


def context(*, connections: bool, v6: bool = False) -> Context:
    """What an expression is about."""
    inside = Inside(map(as_v6, INSIDE) if v6 else INSIDE)
    return Context(
        connections, NOW, True, inside, service,
        lambda path: Path(path).read_text(),
    )  # fmt: skip


def service(name: str) -> int | None:
    """The port of a name, as services(5) has it."""
    try:
        return socket.getservbyname(name)
    except OSError:
        return None


def query(text: str, *, connections: bool, v6: bool = False) -> Query:
    """The query of an expression alone."""
    return merged([compile_filter(text, context(connections=connections, v6=v6))])
