"""The columns: every fact about a column has its home here, and a table of them is what all floors
pass on.

Decoding, the file format, filters, JSON, CSV, ctlog(5) and completion read `COLUMNS`.  A `Table` is
a struct of numpy arrays with one row an event (or a connection), never an object an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.labels import EVENTS, SEEN, SOURCES
from ctrecorder.labels import Event as Event
from ctrecorder.labels import Source as Source

Array = NDArray[Any]


@dataclass(frozen=True)
class Column:
    """One column: `id` is its number in a file and its bit in `present`; `kind` is a numpy dtype,
    or "addr".
    """

    id: int
    name: str
    kind: str
    unit: str
    kernel: str
    doc: str

    def dtype(self, family: int) -> np.dtype[np.generic]:
        """The numpy dtype in a table of this family.

        An IPv4 address is the number (1.2.3.4 is 0x01020304).  An IPv6 address is S16, the 16 bytes
        in network order: it compares, sorts and uniques rightly, but numpy strips trailing NULs
        from a scalar, so take bytes by `tobytes`.
        """
        if self.kind == "addr":
            return np.dtype("S16" if family == uapi.AF_INET6 else "<u4")
        return np.dtype(self.kind)


def _values(names: Mapping[int, str]) -> str:
    return ", ".join(f"{value} {name}" for value, name in names.items())


_PORTS = "port; ICMP: {}"
COLUMNS: tuple[Column, ...] = (
    Column(
        1,
        "time",
        "<i8",
        "ns UTC",
        "CTA_TIMESTAMP_EVENT",
        "time of the event; if not `present` from the kernel, of its receipt",
    ),
    Column(
        2,
        "event",
        "u1",
        "",
        "nlmsg_type, nlmsg_flags",
        f"{_values(EVENTS)} (seen in a table dump)",
    ),
    Column(3, "l4proto", "u1", "", "CTA_PROTO_NUM", "L4 protocol, as in IP's protocol field"),
    Column(4, "orig_src", "addr", "", "CTA_TUPLE_ORIG", "source address, original direction"),
    Column(5, "orig_dst", "addr", "", "CTA_TUPLE_ORIG", "destination address, original direction"),
    Column(
        6,
        "reply_src",
        "addr",
        "",
        "CTA_TUPLE_REPLY",
        "source address, reply direction: behind DNAT the real server",
    ),
    Column(
        7,
        "reply_dst",
        "addr",
        "",
        "CTA_TUPLE_REPLY",
        "destination address, reply direction: after SNAT the public address",
    ),
    Column(
        8, "orig_sport", "<u2", "", "CTA_PROTO_SRC_PORT, CTA_PROTO_ICMP_ID", _PORTS.format("id")
    ),
    Column(
        9,
        "orig_dport",
        "<u2",
        "",
        "CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_TYPE, _CODE",
        _PORTS.format("type * 256 + code"),
    ),
    Column(
        10, "reply_sport", "<u2", "", "CTA_PROTO_SRC_PORT, CTA_PROTO_ICMP_ID", _PORTS.format("id")
    ),
    Column(
        11,
        "reply_dport",
        "<u2",
        "",
        "CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_TYPE, _CODE",
        _PORTS.format("type * 256 + code"),
    ),
    Column(
        12,
        "id",
        "<u4",
        "",
        "CTA_ID",
        "the kernel's id: the same in NEW and DESTROY, not unique over time",
    ),
    Column(13, "status", "<u4", "", "CTA_STATUS", "IPS_ bits"),
    Column(14, "zone", "<u2", "", "CTA_ZONE", "conntrack zone, both directions"),
    Column(15, "mark", "<u4", "", "CTA_MARK", "conntrack mark"),
    Column(
        16,
        "start",
        "<i8",
        "ns UTC",
        "CTA_TIMESTAMP_START",
        "insertion into the table; of a connection: its start",
    ),
    Column(
        17,
        "stop",
        "<i8",
        "ns UTC",
        "CTA_TIMESTAMP_STOP",
        "expiry of the timeout, by the kernel's clock",
    ),
    Column(
        18, "orig_packets", "<u8", "packets", "CTA_COUNTERS_ORIG", "packets, original direction"
    ),
    Column(19, "orig_bytes", "<u8", "bytes", "CTA_COUNTERS_ORIG", "bytes, original direction"),
    Column(20, "reply_packets", "<u8", "packets", "CTA_COUNTERS_REPLY", "packets, reply direction"),
    Column(21, "reply_bytes", "<u8", "bytes", "CTA_COUNTERS_REPLY", "bytes, reply direction"),
    Column(22, "tcp_state", "u1", "", "CTA_PROTOINFO_TCP_STATE", "enum tcp_conntrack"),
    Column(
        23,
        "present",
        "<u4",
        "bits",
        "",
        "bit N set: the column with id N was told (by the kernel), not merely 0",
    ),
    Column(24, "orig_zone", "<u2", "", "CTA_TUPLE_ZONE", "zone of the original direction alone"),
    Column(25, "reply_zone", "<u2", "", "CTA_TUPLE_ZONE", "zone of the reply direction alone"),
    Column(26, "end", "<i8", "ns UTC", "", "of a connection: its end, 0 while unknown"),
    Column(
        27,
        "start_source",
        "u1",
        "",
        "",
        f"of a connection: {_values(SOURCES)} (at or before)",
    ),
    Column(
        28,
        "end_source",
        "u1",
        "",
        "",
        f"of a connection: {_values(SOURCES)} (at or before)",
    ),
    Column(
        29,
        "seen",
        "u1",
        "bits",
        "",
        f"of a connection: which events made it: {_values(SEEN)}",
    ),
)
BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}
BY_ID: Mapping[int, Column] = {column.id: column for column in COLUMNS}

CONNECTION_ONLY = frozenset({"end", "start_source", "end_source", "seen"})
EVENT_ONLY = frozenset({"time", "event", "stop"})
ADDRESSES = ("orig_src", "orig_dst", "reply_src", "reply_dst")
PORTS = ("orig_sport", "orig_dport", "reply_sport", "reply_dport")
TUPLE = ("l4proto", *ADDRESSES, *PORTS)


def bit(name: str) -> int:
    """The bit of the column `name` in `present`."""
    return 1 << BY_NAME[name].id


def bits(names: Iterable[str]) -> int:
    """The bits of the columns `names` in `present`."""
    return sum(bit(name) for name in names)


class Table:
    """`rows` rows of one `family` (AF_INET or AF_INET6): a dict of arrays, each (rows,) of its
    column's dtype.

    A column that is not there is 0 in every row.  Arrays may be read-only and may be broadcast
    (stride 0): a table is made once and not written to afterwards.
    """

    __slots__ = ("family", "rows", "columns")

    def __init__(self, family: int, rows: int, columns: dict[str, Array]) -> None:
        self.family, self.rows, self.columns = family, rows, columns

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Array:
        """The column `name`, (rows,); zeros if it is not there; KeyError if there is no such column."""
        found = self.columns.get(name)
        if found is None:
            return np.broadcast_to(np.zeros((), BY_NAME[name].dtype(self.family)), (self.rows,))
        return found

    def take(self, index: Array) -> Table:
        """The rows at `index` (an integer array, or a bool mask of (rows,)), in its order."""
        if index.dtype == np.bool_:
            index = np.flatnonzero(
                index
            )  # once; a mask of its own costs each column ten times as much
        return Table(
            self.family,
            len(index),
            {name: array.take(index) for name, array in self.columns.items()},
        )

    def slice(self, first: int, last: int) -> Table:
        """Rows first..last-1, as views."""
        first, last = max(first, 0), min(last, self.rows)
        return Table(
            self.family,
            max(last - first, 0),
            {name: array[first:last] for name, array in self.columns.items()},
        )

    def select(self, names: Iterable[str]) -> Table:
        """The same rows with those of the columns `names` that are there."""
        return Table(
            self.family,
            self.rows,
            {name: self.columns[name] for name in names if name in self.columns},
        )


def concat(tables: list[Table]) -> Table:
    """All rows of `tables` (at least one, of one family), in order; a column missing in some is 0
    there.
    """
    if len(tables) == 1:
        return tables[0]
    names = [column.name for column in COLUMNS if any(column.name in table for table in tables)]
    columns: dict[str, Array] = {
        name: np.concatenate([table[name] for table in tables]) for name in names
    }
    return Table(tables[0].family, sum(len(table) for table in tables), columns)
