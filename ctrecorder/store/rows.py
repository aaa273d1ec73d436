"""The rows of a question as tables: what is asked as a condition, and RowBinary read back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import numpy as np

from ctrecorder.columns import BY_NAME, Array, Source, Table
from ctrecorder.connections.parts import DESTROY, NEW
from ctrecorder.ctlog.predicate import Network, Query, Term
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.shipping.rowbinary import SAME, ZERO, text, upload_bytes
from ctrecorder.shipping.server import TooLongError
from ctrecorder.store.manifest import Entry, Place, uploads
from ctrecorder.times import MICROSECOND
from ctrecorder.uapi import AF_INET, AF_INET6

# Bytes of the rows of a question: about 1,000,000.
_MAX_ROWS = 128 << 20
# Of a query: more segments are asked in several ones.  A query has 256 KiB at most.
_MAX_UPLOADS = 4_000
# What is asked of a row, its type in ClickHouse, and here.
_COLUMNS = (
    ("upload", "UUID", "S16"),
    ("block", "UInt16", "<u2"),
    ("turn", "UInt32", "<u4"),
    ("family", "UInt8", "u1"),
    ("start", "DateTime64(6, 'UTC')", "<i8"),
    ("duration", "Int64", "<i8"),
    ("l4proto", "UInt8", "u1"),
    ("inside", "IPv6", "V16"),
    ("inside_port", "UInt16", "<u2"),
    ("public", "IPv6", "V16"),
    ("port_shift", "UInt16", "<u2"),
    ("remote", "IPv6", "V16"),
    ("remote_port", "UInt16", "<u2"),
    ("behind", "IPv6", "V16"),
    ("behind_shift", "UInt16", "<u2"),
    ("status", "UInt32", "<u4"),
    ("zone", "UInt16", "<u2"),
    ("orig_zone", "UInt16", "<u2"),
    ("reply_zone", "UInt16", "<u2"),
    ("mark", "UInt32", "<u4"),
    ("orig_packets", "UInt64", "<u8"),
    ("orig_bytes", "UInt64", "<u8"),
    ("reply_packets", "UInt64", "<u8"),
    ("reply_bytes", "UInt64", "<u8"),
    ("start_source", "UInt8", "u1"),
    ("end_source", "UInt8", "u1"),
    ("seen", "UInt8", "u1"),
    ("present", "UInt32", "<u4"),
    ("id", "UInt32", "<u4"),
    ("time", "Int64", "<i8"),
)
_DTYPE = np.dtype([(name, kind) for name, _, kind in _COLUMNS])
_HEAD = bytes([len(_COLUMNS)]) + b"".join(
    text(word.encode())
    for word in (*(name for name, *_ in _COLUMNS), *(kind for _, kind, _ in _COLUMNS))
)
_SAME = (
    *("l4proto", "status", "zone", "orig_zone", "reply_zone", "mark", "orig_packets"),
    *("orig_bytes", "reply_packets", "reply_bytes", "start_source", "end_source", "seen"),
    *("present", "id", "time"),
)
# As ctsqueeze sorts them, the most significant last: the rows of one flow as they arrived.  A
# database gives them in any order.
_ORDER = (
    *("turn", "id", "zone", "orig_zone", "reply_zone", "behind_shift", "behind", "port_shift"),
    *("public", "inside_port", "remote_port", "remote", "inside", "l4proto", "family", "block"),
)
_BEHIND = "if(behind = toIPv6('::'), remote, behind)"
# The address and the port of each end, by the names that they have in the log.
_SQL = {
    "orig_src": "inside",
    "orig_sport": "inside_port",
    "orig_dst": "remote",
    "orig_dport": "remote_port",
    "reply_dst": "public",
    "reply_dport": "toUInt16(inside_port + port_shift)",
    "reply_src": _BEHIND,
    "reply_sport": "toUInt16(remote_port + behind_shift)",
}


def condition(query: Query) -> str:
    """What the rows of a query have.  Rows that it does not want can have it too."""
    terms = [_term(term) for term in query.terms if isinstance(term, Term)]
    if query.protocols:
        terms.append(f"l4proto IN ({', '.join(map(str, sorted(query.protocols)))})")
    return " AND ".join(terms) or "1"


def _term(term: Term) -> str:
    ends = []
    for address, port in term.endpoints:
        networks = [_network(_SQL[address], each) for each in term.networks]
        ports = [f"{_SQL[port]} BETWEEN {low} AND {high}" for low, high in term.ports]
        both = [f"({' OR '.join(each)})" for each in (networks, ports) if each]
        ends.append(" AND ".join(both) or "1")
    return f"({' OR '.join(ends)})"


def _network(column: str, network: Network) -> str:
    low, high = _as_ipv6(network.low), _as_ipv6(network.high)
    return f"{column} = {low}" if low == high else f"{column} BETWEEN {low} AND {high}"


def _as_ipv6(address: bytes) -> str:
    wide = address if len(address) == 16 else b"\0" * 10 + b"\xff\xff" + address
    parts = ":".join(f"{wide[at] << 8 | wide[at + 1]:x}" for at in range(0, 16, 2))
    return f"toIPv6('{parts}')"


# The rows of flows that can go on in another segment.
ARE_PARTS = (
    f"(bitAnd(seen, {NEW | DESTROY}) != {NEW | DESTROY} OR start_source IN "
    f"({Source.UNKNOWN:d}, {Source.BOUND:d}))"
)
# The rows of a segment, by the number of their block.
Blocks = dict[int, Table]


def fetch(place: Place, entries: list[Entry], conditions: Iterable[str]) -> dict[str, Blocks]:
    """The rows of segments that have one of the conditions, by the path of the segment.

    Raises ArchiveError.
    """
    wanted = " OR ".join(f"({each})" for each in dict.fromkeys(conditions))
    found: dict[str, Blocks] = {}
    waiting = [entries[at : at + _MAX_UPLOADS] for at in range(0, len(entries), _MAX_UPLOADS)]
    while waiting:
        some = waiting.pop()
        try:
            found |= _fetch(place, some, wanted)
        except TooLongError as error:
            if len(some) == 1:
                path = some[0].span.path
                what = f"{path}: more than {_MAX_ROWS:,} bytes of rows: ask with a port, or --to"
                raise ArchiveError(what) from error
            half = len(some) // 2
            waiting += [some[:half], some[half:]]
    return found


def _fetch(place: Place, entries: list[Entry], wanted: str) -> dict[str, Blocks]:
    names = ", ".join(name for name, *_ in _COLUMNS)
    query = (
        f"SELECT {names} FROM connections WHERE segment_begin {uploads(entries)} AND ({wanted}) "
        "FORMAT RowBinaryWithNamesAndTypes"
    )
    rows = parsed(place.text, place.ask(query, _MAX_ROWS))
    rows = rows[np.argsort(rows["upload"], kind="stable")]
    ids = np.array([upload_bytes(uuid.UUID(one.upload).bytes) for one in entries], "S16")
    begins = np.searchsorted(rows["upload"], ids, "left")
    ends = np.searchsorted(rows["upload"], ids, "right")
    return {
        entry.span.path: blocks(rows[int(begin) : int(end)])
        for entry, begin, end in zip(entries, begins, ends, strict=True)
    }


def parsed(where: str, data: bytes) -> Array:
    """The rows of an answer, of _DTYPE.  Raises ArchiveError."""
    if not data.startswith(_HEAD) or (len(data) - len(_HEAD)) % _DTYPE.itemsize:
        raise ArchiveError(f"{where}: what it answers is no list of connections")
    return np.frombuffer(data, _DTYPE, offset=len(_HEAD))


def blocks(rows: Array) -> Blocks:
    """The rows of a segment as they were in its blocks.  Raises FormatError."""
    rows = rows[np.lexsort([_sortable(rows[name]) for name in _ORDER])]
    numbers, begins = np.unique(rows["block"], return_index=True)
    each = np.split(rows, begins[1:])
    return {int(number): table_of(one) for number, one in zip(numbers, each, strict=False)}


def _sortable(column: Array) -> Array:
    if column.dtype.kind != "V":
        return column
    return np.ascontiguousarray(column).view("S16")


def table_of(rows: Array) -> Table:
    """The rows of a block as its table.  Raises FormatError."""
    family = int(rows["family"][0])
    if family not in (AF_INET, AF_INET6) or (rows["family"] != family).any():
        raise FormatError("rows of a block are not of one family")
    behind = np.where(rows["behind"] == np.void(SAME), rows["remote"], rows["behind"])
    if family == AF_INET6:
        behind[behind == np.void(ZERO)] = np.void(SAME)
    known_start = rows["start_source"] != Source.UNKNOWN
    known_end = rows["end_source"] != Source.UNKNOWN
    end = np.where(known_start, rows["start"] + rows["duration"], rows["start"])
    columns: dict[str, Array] = {
        "start": np.where(known_start, rows["start"], 0) * MICROSECOND,
        "end": np.where(known_end, end, 0) * MICROSECOND,
        "orig_src": _addresses(rows["inside"], family),
        "orig_dst": _addresses(rows["remote"], family),
        "reply_src": _addresses(behind, family),
        "reply_dst": _addresses(rows["public"], family),
        "orig_sport": rows["inside_port"],
        "orig_dport": rows["remote_port"],
        "reply_sport": rows["remote_port"] + rows["behind_shift"],
        "reply_dport": rows["inside_port"] + rows["port_shift"],
    }
    columns |= {name: rows[name] for name in _SAME}
    return Table(
        family,
        len(rows),
        {
            name: np.ascontiguousarray(array, BY_NAME[name].dtype(family))
            for name, array in columns.items()
        },
    )


def _addresses(column: Array, family: int) -> Array:
    """(rows,): IPv6 addresses in 16 bytes, as a column of the family."""
    wide = np.ascontiguousarray(column)
    if family == AF_INET6:
        return wide.view("S16")
    return wide.view(">u4").reshape(-1, 4)[:, 3]
