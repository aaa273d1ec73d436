"""Connections as rows of ClickHouse's format RowBinary, straight from the columns.  Pure."""

from __future__ import annotations

import numpy as np

from ctrecorder.columns import ADDRESSES, Array, Source, Table
from ctrecorder.times import MICROSECOND, SECOND
from ctrecorder.uapi import AF_INET

# The columns of the table `connections` in etc/clickhouse.sql that are sent, in this order.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("upload", "S16"),
    ("segment_begin", "<u4"),
    ("router", "V"),
    ("start", "<i8"),
    ("duration", "<u8"),
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
)
_SAME = (
    *("l4proto", "status", "zone", "orig_zone", "reply_zone", "mark", "orig_packets"),
    *("orig_bytes", "reply_packets", "reply_bytes", "tcp_state", "start_source", "end_source"),
    *("seen", "present", "id", "time"),
)
_MAPPED = b"\0" * 10 + b"\xff\xff"


def rows(table: Table, upload: bytes, begin: int, router: str) -> bytes:
    """The connections of `table`.

    `upload`: the UUID, 16 bytes.  `begin`: of the segment, ns UTC.
    """
    name = router.encode()  # at most 63 bytes, so its length is one byte
    dtype = [
        (column, f"V{len(name) + 1}" if kind == "V" else kind.replace("S", "V"))
        for column, kind in COLUMNS
    ]
    out = np.zeros(len(table), np.dtype(dtype))
    # ClickHouse writes a UUID as two little-endian halves.
    out["upload"] = np.void(upload[7::-1] + upload[:7:-1])
    out["segment_begin"] = begin // SECOND
    out["router"] = np.void(bytes([len(name)]) + name)
    start, end = table["start"], table["end"]
    begun = table["start_source"] != Source.UNKNOWN
    ended = table["end_source"] != Source.UNKNOWN
    out["start"] = np.where(begun, start, end) // MICROSECOND
    out["duration"] = np.where(begun & ended, np.maximum(end - start, 0), 0) // MICROSECOND
    ends = dict(zip(("inside", "remote", "behind", "public"), ADDRESSES, strict=True))
    for column, source in ends.items():
        out[column] = _addresses(table[source], table.family)
    out["behind"][np.asarray(table["reply_src"] == table["orig_dst"])] = np.void(bytes(16))
    out["inside_port"], out["remote_port"] = table["orig_sport"], table["orig_dport"]
    out["port_shift"] = table["reply_dport"] - table["orig_sport"]
    out["behind_shift"] = table["reply_sport"] - table["orig_dport"]
    for column in _SAME:
        out[column] = table[column]
    return out.tobytes()


def _addresses(column: Array, family: int) -> Array:
    """(rows,) V16: addresses as IPv6; those of IPv4 are mapped."""
    if family != AF_INET:
        return np.ascontiguousarray(column).view("V16")
    wide = np.zeros((len(column), 16), np.uint8)
    wide[:, :12] = np.frombuffer(_MAPPED, np.uint8)
    wide[:, 12:] = column.astype(">u4").reshape(-1, 1).view(np.uint8)
    return wide.view("V16").reshape(-1)
