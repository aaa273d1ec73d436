"""The connections that held an address, for `ctlist --who`, as lines or JSON.

Pure.  There are few of them, so one object a row is fast enough.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import labels, times, uapi
from ctrecorder.columns import Source, Table
from ctrecorder.terminal import printable

_ENDS = {
    "inside": ("orig_src", "orig_sport"),
    "public": ("reply_dst", "reply_dport"),
    "remote": ("orig_dst", "orig_dport"),
}
_INBOUND_ENDS = {
    "inside": ("reply_src", "reply_sport"),
    "public": ("orig_dst", "orig_dport"),
    "remote": ("orig_src", "orig_sport"),
}
# Two routers of a pair take their time from one source, or from each other.
_CLOCKS_NS = times.SECOND
_WITHOUT_PORTS = (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6)


class Holder(NamedTuple):
    """A connection that held the address.

    inside, public, remote: address and port; for ICMP, the id in place of the port.
    start, end: ns UTC; 0: unknown.
    zone: of connection tracking.
    routers: the hosts that recorded it.
    """

    l4proto: int
    inside: tuple[str, int]
    public: tuple[str, int]
    remote: tuple[str, int]
    inbound: bool
    translated: bool
    start: int
    start_source: int
    end: int
    end_source: int
    zone: int
    routers: tuple[str, ...]


def holders(
    table: Table, inbound: NDArray[np.bool_], translated: NDArray[np.bool_], router: str = ""
) -> Iterator[Holder]:
    """The rows of `table`, which `router` recorded, as Holders."""
    for row in range(len(table)):
        ends = {
            name: _end(table, row, end)
            for name, end in (_INBOUND_ENDS if inbound[row] else _ENDS).items()
        }
        names = ("start", "start_source", "end", "end_source", "zone")
        start, start_source, end, end_source, zone = (int(table[name][row]) for name in names)
        yield Holder(
            int(table["l4proto"][row]),
            ends["inside"],
            ends["public"],
            ends["remote"],
            bool(inbound[row]),
            bool(translated[row]),
            start,
            start_source,
            end,
            end_source,
            zone,
            (router,),
        )


def joined(found: Iterable[Holder]) -> list[Holder]:
    """The Holders by start; a flow that several routers recorded is one.

    Routers of one high-availability pair have the same flow, which one of them got from the other.
    Its ends are equal on both, and its times overlap or touch.
    """
    flows: dict[tuple[object, ...], list[Holder]] = {}
    for one in sorted(found, key=lambda one: one.start or one.end):
        key = one[: one._fields.index("start")] + (one.zone,)
        same = flows.setdefault(key, [])
        for number, other in enumerate(same):
            if not set(one.routers) & set(other.routers) and _overlap(one, other):
                same[number] = _as_one(other, one)
                break
        else:
            same.append(one)
    ordered = (one for same in flows.values() for one in same)
    return sorted(ordered, key=lambda one: one.start or one.end)


def _overlap(first: Holder, second: Holder) -> bool:
    """If two spans have a time in common, as far as two clocks tell; an open one has no end."""
    begins = [one.start or one.end for one in (first, second)]
    ends = [one.end or times.END for one in (first, second)]
    return max(begins) <= min(ends) + _CLOCKS_NS


def _as_one(first: Holder, second: Holder) -> Holder:
    """The earlier start, and the later end; an end that one of them does not have is unknown."""
    last = max(first, second, key=lambda one: one.end or times.END)
    begun = first if first.start_source != Source.UNKNOWN else second
    return begun._replace(
        end=last.end, end_source=last.end_source, routers=(*first.routers, *second.routers)
    )


def _end(table: Table, row: int, end: tuple[str, str]) -> tuple[str, int]:
    address, port = end
    raw = table[address][row : row + 1].tobytes()
    number = (
        ipaddress.IPv6Address(raw)
        if table.family == uapi.AF_INET6
        else ipaddress.IPv4Address(int.from_bytes(raw, "little"))
    )
    return str(number), int(table[port][row])


def text(one: Holder, *, utc: bool, named: bool = False) -> str:
    """ "10.0.0.5:51234 held 192.0.2.1:40000 (tcp) from TIME (kernel) to TIME (kernel), to
    203.0.113.9:443".  `named`: with the routers.
    """
    inside, public, remote = (
        _joined(one.l4proto, end) for end in (one.inside, one.public, one.remote)
    )
    held = f"{inside} held {public}" if one.translated else f"{public} (not translated)"
    held += f" in zone {one.zone}" if one.zone else ""
    way = "called by" if one.inbound else "to"
    begun = f"from {_moment(one.start, one.start_source, 'its beginning (not recorded)', utc)}"
    ended = f"to {_moment(one.end, one.end_source, 'its end (not recorded, or still open)', utc)}"
    by = printable(f"; recorded by {' and '.join(one.routers)}") if named else ""
    return f"{held} ({labels.protocol(one.l4proto)}) {begun} {ended}, {way} {remote}{by}"


def _joined(l4proto: int, end: tuple[str, int]) -> str:
    address, port = end
    if l4proto in _WITHOUT_PORTS:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _moment(ns: int, source: int, unknown: str, utc: bool) -> str:
    if source == Source.UNKNOWN:
        return unknown
    if source == Source.BOUND:
        return f"at or before {times.text(ns, utc=utc)} (a dump of the table)"
    return f"{times.text(ns, utc=utc)} ({labels.SOURCES.get(source, str(source))})"


def as_json(one: Holder, *, named: bool = False) -> str:
    """One JSON object; `named`: with the routers.

    Times are RFC 3339 in UTC, null if unknown.  `start_source` and `end_source` name the source of
    each time.
    """
    facts: dict[str, Any] = {
        "protocol": labels.protocol(one.l4proto),
        "direction": "in" if one.inbound else "out",
        "translated": one.translated,
    }
    if one.zone:
        facts["zone"] = one.zone
    if named:
        facts["recorded_by"] = list(one.routers)
    for name in ("inside", "public", "remote"):
        address, port = getattr(one, name)
        facts[name] = (
            {"address": address}
            if one.l4proto in _WITHOUT_PORTS
            else {"address": address, "port": port}
        )
    for name, ns, source in (
        ("start", one.start, one.start_source),
        ("end", one.end, one.end_source),
    ):
        facts[name] = rfc3339(ns) if source != Source.UNKNOWN else None
        facts[f"{name}_source"] = labels.SOURCES.get(source, str(source))
    return json.dumps(facts)


def rfc3339(ns: int) -> str:
    """ "2026-11-24T01:02:03.123456789Z"."""
    moment = datetime.fromtimestamp(ns // times.SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % times.SECOND:09}Z"
