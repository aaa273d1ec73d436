"""The connections that held an address, for `ctwho`, as lines or JSON.

Pure.  There are few of them, so one object a row is fast enough.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import labels, times, uapi
from ctrecorder.columns import Source, Table, bits
from ctrecorder.terminal import printable

_ORIG_SRC, _ORIG_DST = ("orig_src", "orig_sport"), ("orig_dst", "orig_dport")
_REPLY_SRC, _REPLY_DST = ("reply_src", "reply_sport"), ("reply_dst", "reply_dport")
# Inside, public and remote end, and the remote end as it is behind DNAT.
_OUTBOUND = (_ORIG_SRC, _REPLY_DST, _ORIG_DST, _REPLY_SRC)
_INBOUND = (_REPLY_SRC, _ORIG_DST, _ORIG_SRC, _ORIG_SRC)
# The id of ICMP is in the column of the source's port; the type and code are in the other one.
_ICMP_ID = {_REPLY_DST: "reply_sport", _ORIG_DST: "orig_sport"}
# Two routers of a pair take their time from one source, or from each other.
_CLOCKS_NS = times.SECOND
_ICMP = (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6)


class End(NamedTuple):
    """One end of a connection.

    `address`: "" if the end was left out.  `port`: of ICMP the id; None: the protocol has no ports.
    """

    address: str
    port: int | None


class Holder(NamedTuple):
    """A connection that held the address.

    remote: as the opener of the connection called it.  behind: what it is after DNAT, if that
    differs; else equal to `remote`.
    start, end: ns UTC; 0: unknown.
    zone, mark: of connection tracking.
    routers: the hosts that recorded it.
    """

    l4proto: int
    inside: End
    public: End
    remote: End
    behind: End
    inbound: bool
    translated: bool
    zone: int
    mark: int
    start: int
    start_source: int
    end: int
    end_source: int
    routers: tuple[str, ...]


def holders(
    table: Table,
    rows: NDArray[np.intp],
    inbound: NDArray[np.bool_],
    translated: NDArray[np.bool_],
    router: str = "",
) -> Iterator[Holder]:
    """The `rows` of `table`, which `router` recorded, as Holders."""
    names = ("zone", "mark", "start", "start_source", "end", "end_source")
    for number, row in enumerate(map(int, rows)):
        called, is_translated = bool(inbound[number]), bool(translated[number])
        inside, public, remote, behind = (
            _end(table, row, end) for end in (_INBOUND if called else _OUTBOUND)
        )
        if int(table["l4proto"][row]) in _ICMP:  # the id is that of who sent the first packet
            remote, behind = (end._replace(port=None) for end in (remote, behind))
        zone, mark, start, start_source, end, end_source = (int(table[name][row]) for name in names)
        yield Holder(
            int(table["l4proto"][row]),
            inside,
            public,
            remote,
            behind,
            called,
            is_translated,
            zone,
            mark,
            start,
            start_source,
            end,
            end_source,
            (router,),
        )


def joined(found: Iterable[Holder]) -> list[Holder]:
    """The Holders by start; a flow that several routers recorded is one.

    Routers of one high-availability pair have the same flow, which one of them got from the other.
    Its ends are equal on both, and its times overlap or touch.
    """
    flows: dict[tuple[object, ...], list[Holder]] = {}
    for one in sorted(found, key=lambda one: one.start or one.end):
        key = one[: one._fields.index("start")]
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


def _end(table: Table, row: int, end: tuple[str, str]) -> End:
    address, port = end
    raw = table[address][row : row + 1].tobytes()
    number = (
        ipaddress.IPv6Address(raw)
        if table.family == uapi.AF_INET6
        else ipaddress.IPv4Address(int.from_bytes(raw, "little"))
    )
    if int(table["l4proto"][row]) in _ICMP:
        port = _ICMP_ID.get(end, port)
    present = int(table["present"][row])
    if not present & bits([address]) and not int(number):
        return End("", None)
    is_known = present & bits([port])
    return End(str(number), int(table[port][row]) if is_known else None)


def lines(one: Holder, stamp: Callable[[int], str], *, named: bool = False) -> list[str]:
    """The protocol and the ends, then from when to when.  `stamp`: a time as text.  `named`: with
    the routers.
    """
    inside, public, remote, behind = (
        end_text(one.l4proto, end) for end in (one.inside, one.public, one.remote, one.behind)
    )
    way = "called by" if one.inbound else "to"
    held = f"{inside} as {public}" if one.translated else f"{inside} (not translated)"
    through = f", which is {behind}" if behind not in ("", remote) else ""
    by = printable(f"; recorded by {' and '.join(one.routers)}") if named else ""
    return [
        f"{labels.protocol(one.l4proto)}: {held}",
        f"  {way} {remote or 'an end that was not recorded (omit)'}{through}{by}",
        f"  {began(one.start, one.start_source, stamp)}",
        f"  {ended(one.end, one.end_source, stamp)}",
    ]


def end_text(l4proto: int, end: End) -> str:
    """ "192.0.2.1:80", "[2001:db8::1]:80"; of ICMP "192.0.2.1 id 4711"."""
    if end.port is None:
        return end.address
    if l4proto in _ICMP:
        return f"{end.address} id {end.port}"
    return f"[{end.address}]:{end.port}" if ":" in end.address else f"{end.address}:{end.port}"


def began(ns: int, source: int, stamp: Callable[[int], str]) -> str:
    """ "from TIME (kernel)"."""
    return f"from {_moment(ns, source, 'its beginning (not recorded)', stamp)}"


def ended(ns: int, source: int, stamp: Callable[[int], str]) -> str:
    """ "to TIME (kernel)"."""
    return f"to   {_moment(ns, source, 'its end (not recorded, or still open)', stamp)}"


def _moment(ns: int, source: int, unknown: str, stamp: Callable[[int], str]) -> str:
    if source == Source.UNKNOWN:
        return unknown
    if source == Source.BOUND:
        return f"at or before {stamp(ns)} (a dump of the table)"
    return f"{stamp(ns)} ({labels.SOURCES.get(source, str(source))})"


def as_json(one: Holder, *, named: bool = False) -> dict[str, Any]:
    """One object for json.dumps(); `named`: with the routers.

    Times are RFC 3339 in UTC, null if unknown.  `start_source` and `end_source` name the source of
    each time.
    """
    facts: dict[str, Any] = {
        "protocol": labels.protocol(one.l4proto),
        "direction": "in" if one.inbound else "out",
        "translated": one.translated,
    }
    facts |= {name: getattr(one, name) for name in ("zone", "mark") if getattr(one, name)}
    if named:
        facts["recorded_by"] = list(one.routers)
    for name in ("inside", "public", "remote"):
        if (end := getattr(one, name)).address:
            facts[name] = _end_json(one.l4proto, end)
    if one.behind != one.remote and one.behind.address:
        facts["remote_behind"] = _end_json(one.l4proto, one.behind)
    for name, ns, source in (
        ("start", one.start, one.start_source),
        ("end", one.end, one.end_source),
    ):
        facts[name] = rfc3339(ns) if source != Source.UNKNOWN else None
        facts[f"{name}_source"] = labels.SOURCES.get(source, str(source))
    return facts


def _end_json(l4proto: int, end: End) -> dict[str, Any]:
    if end.port is None:
        return {"address": end.address}
    return {"address": end.address, "id" if l4proto in _ICMP else "port": end.port}


def rfc3339(ns: int) -> str:
    """ "2026-11-24T01:02:03.123456789Z"."""
    moment = datetime.fromtimestamp(ns // times.SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % times.SECOND:09}Z"
