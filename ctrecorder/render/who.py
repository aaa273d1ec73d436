"""The connections that held an address, for `ctlist --who`, as lines or JSON.

Pure.  There are few of them, so one object a row is fast enough.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import labels, times, uapi
from ctrecorder.columns import Source, Table

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
_WITHOUT_PORTS = (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6)


class Holder(NamedTuple):
    """A connection that held the address.

    inside, public, remote: address and port; for ICMP, the id in place of the port.
    start, end: ns UTC; 0: unknown.
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


def holders(
    table: Table, inbound: NDArray[np.bool_], translated: NDArray[np.bool_]
) -> Iterator[Holder]:
    """The rows of `table` as Holders."""
    for row in range(len(table)):
        ends = {
            name: _end(table, row, end)
            for name, end in (_INBOUND_ENDS if inbound[row] else _ENDS).items()
        }
        span = [int(table[name][row]) for name in ("start", "start_source", "end", "end_source")]
        yield Holder(
            int(table["l4proto"][row]),
            ends["inside"],
            ends["public"],
            ends["remote"],
            bool(inbound[row]),
            bool(translated[row]),
            *span,
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


def text(one: Holder, *, utc: bool) -> str:
    """ "10.0.0.5:51234 held 192.0.2.1:40000 (tcp) from TIME (kernel) to TIME (kernel), to
    203.0.113.9:443".
    """
    inside, public, remote = (
        _joined(one.l4proto, end) for end in (one.inside, one.public, one.remote)
    )
    held = f"{inside} held {public}" if one.translated else f"{public} (not translated)"
    way = "called by" if one.inbound else "to"
    begun = f"from {_moment(one.start, one.start_source, 'its beginning (not recorded)', utc)}"
    ended = f"to {_moment(one.end, one.end_source, 'its end (not recorded, or still open)', utc)}"
    return f"{held} ({labels.protocol(one.l4proto)}) {begun} {ended}, {way} {remote}"


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


def as_json(one: Holder) -> str:
    """One JSON object.

    Times are RFC 3339 in UTC, null if unknown.  `start_source` and `end_source` name the source of
    each time.
    """
    facts: dict[str, Any] = {
        "protocol": labels.protocol(one.l4proto),
        "direction": "in" if one.inbound else "out",
        "translated": one.translated,
    }
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
