"""Connections as rows of ClickHouse's format RowBinary, straight from the columns.  Pure."""

from __future__ import annotations

import numpy as np

from ctrecorder.columns import ADDRESSES, Array, Source, Table
from ctrecorder.connections import flowkey
from ctrecorder.errors import CtrecorderError
from ctrecorder.times import MICROSECOND, SECOND
from ctrecorder.uapi import AF_INET

# The columns of the table `connections` in etc/clickhouse.sql that are sent, in this order.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("upload", "S16"),
    ("segment_begin", "<u4"),
    ("router", "V"),
    ("start", "<i8"),
    ("duration", "<i8"),
    ("l4proto", "u1"),
    ("inside", "S16"),
    ("inside_port", "<u2"),
    ("public", "S16"),
    ("port_shift", "<u2"),
    ("remote", "S16"),
    ("remote_port", "<u2"),
    ("behind", "S16"),
    ("behind_shift", "<u2"),
    ("status", "<u4"),
    ("zone", "<u2"),
    ("orig_zone", "<u2"),
    ("reply_zone", "<u2"),
    ("mark", "<u4"),
    ("orig_packets", "<u8"),
    ("orig_bytes", "<u8"),
    ("reply_packets", "<u8"),
    ("reply_bytes", "<u8"),
    ("tcp_state", "u1"),
    ("start_source", "u1"),
    ("end_source", "u1"),
    ("seen", "u1"),
    ("present", "<u4"),
    ("id", "<u4"),
    ("time", "<i8"),
    ("family", "u1"),
    ("block", "<u2"),
    ("turn", "<u4"),
)
_MAX_BLOCK, _MAX_SECOND = (1 << 16) - 1, (1 << 32) - 1
_SAME = (
    *("l4proto", "status", "zone", "orig_zone", "reply_zone", "mark", "orig_packets"),
    *("orig_bytes", "reply_packets", "reply_bytes", "tcp_state", "start_source", "end_source"),
    *("seen", "present", "id", "time"),
)
MAPPED = b"\0" * 10 + b"\xff\xff"
# In the column `behind`: it is `remote`; and of IPv6, it is :: itself.
SAME, ZERO = bytes(16), MAPPED + bytes(4)


def rows(table: Table, upload: bytes, begin: int, router: str, block: int = 0) -> bytes:
    """The connections of `table`.

    `upload`: the UUID, 16 bytes.  `begin`: of the segment, ns UTC.  `block`: the number of the
    table in its segment.  Raises CtrecorderError for times that a row cannot hold.
    """
    if block > _MAX_BLOCK or any((table[name] % MICROSECOND).any() for name in ("start", "end")):
        raise CtrecorderError("it cannot be stored as rows: squeeze it with this version")
    name = router.encode()
    out = np.zeros(len(table), _row(router))
    out["upload"] = np.void(upload_bytes(upload))
    out["segment_begin"] = min(max(begin // SECOND, 0), _MAX_SECOND)
    out["router"] = np.void(bytes([len(name)]) + name)
    start, end = table["start"], table["end"]
    begun = table["start_source"] != Source.UNKNOWN
    ended = table["end_source"] != Source.UNKNOWN
    out["start"] = np.where(begun, start, end) // MICROSECOND
    out["duration"] = np.where(begun & ended, end - start, 0) // MICROSECOND
    ends = dict(zip(("inside", "remote", "behind", "public"), ADDRESSES, strict=True))
    for column, source in ends.items():
        out[column] = _addresses(table[source], table.family)
    if table.family != AF_INET:
        out["behind"][out["behind"] == np.void(SAME)] = np.void(ZERO)
    out["behind"][np.asarray(table["reply_src"] == table["orig_dst"])] = np.void(SAME)
    out["inside_port"], out["remote_port"] = table["orig_sport"], table["orig_dport"]
    out["port_shift"] = table["reply_dport"] - table["orig_sport"]
    out["behind_shift"] = table["reply_sport"] - table["orig_dport"]
    for column in _SAME:
        out[column] = table[column]
    out["family"], out["block"], out["turn"] = table.family, block, _turns(table)
    return out.tobytes()


def row_bytes(router: str) -> int:
    """Bytes of each row of a router."""
    return _row(router).itemsize


def _row(router: str) -> np.dtype[np.void]:
    length = len(router.encode()) + 1  # the name has at most 63 bytes, so its length is one byte
    return np.dtype(
        [
            (column, f"V{length}" if kind == "V" else kind.replace("S", "V"))
            for column, kind in COLUMNS
        ]
    )


def upload_bytes(upload: bytes) -> bytes:
    """A UUID as ClickHouse writes it: two little-endian halves."""
    return upload[7::-1] + upload[:7:-1]


def texts(*values: str | int | bytes) -> bytes:
    """A row of texts, of numbers of 8 bytes with a sign, and of bytes as they are."""
    return b"".join(map(_value, values))


def _value(value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(8, "little", signed=True)
    return value if isinstance(value, bytes) else text(value.encode())


def text(data: bytes) -> bytes:
    """A String: its length, 7 bits a byte, and its bytes."""
    length, head = len(data), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + data


def _turns(table: Table) -> Array:
    """(rows,): how many rows of its flow are before each row: the table has another order."""
    order, first = flowkey.sort(table)
    number = np.arange(len(table))
    turns = np.empty(len(table), np.uint32)
    turns[order] = number - np.maximum.accumulate(np.where(first, number, 0))
    return turns


def _addresses(column: Array, family: int) -> Array:
    """(rows,) V16: addresses as IPv6; those of IPv4 are mapped."""
    if family != AF_INET:
        return np.ascontiguousarray(column).view("V16")
    wide = np.zeros((len(column), 16), np.uint8)
    wide[:, :12] = np.frombuffer(MAPPED, np.uint8)
    wide[:, 12:] = column.astype(">u4").reshape(-1, 1).view(np.uint8)
    return wide.view("V16").reshape(-1)
