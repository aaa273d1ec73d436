"""The columns of events and connections, and tables of them.

All facts about a column are in `COLUMNS`: decoding, the file format, filters, JSON, CSV, ctlog(5)
and completion use it.  A `Table` has one numpy array a column, with one row an event or connection.
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
    """A column.

    id: its number in a file, and its bit in `present`.
    kind: a numpy dtype, "addr", or "bytes": 16 bytes, filled up with NUL.
    kernel: the attribute of the kernel that it is read from.
    doc: its meaning, as in ctlog(5).
    """

    id: int
    name: str
    kind: str
    unit: str
    kernel: str
    doc: str

    def dtype(self, family: int) -> np.dtype[np.generic]:
        """The numpy dtype in a table of this family.

        An IPv4 address is a number (1.2.3.4 is 0x01020304).  An IPv6 address is S16: 16 bytes in
        network order.  S16 arrays compare and sort correctly, but numpy strips trailing NULs from a
        scalar, so use `tobytes` to get the bytes.
        """
        if self.kind == "addr":
            return np.dtype("S16" if family == uapi.AF_INET6 else "<u4")
        if self.kind == "bytes":
            return np.dtype("S16")
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
        "time of the event: of the kernel if `present`, otherwise of receipt",
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
        "bit N set: the column with id N was recorded; not set: it is 0 because it is unknown",
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
    Column(
        30,
        "helper",
        "bytes",
        "",
        "CTA_HELP_NAME",
        "name of the helper in ASCII, filled up with NUL",
    ),
    Column(31, "labels", "bytes", "", "CTA_LABELS", "conntrack labels, as the kernel reports them"),
    Column(
        32,
        "master_l4proto",
        "u1",
        "",
        "CTA_TUPLE_MASTER",
        "L4 protocol of the connection to which this one belongs (its master); 0: none",
    ),
    Column(
        33, "master_src", "addr", "", "CTA_TUPLE_MASTER", "its source address, original direction"
    ),
    Column(
        34,
        "master_dst",
        "addr",
        "",
        "CTA_TUPLE_MASTER",
        "its destination address, original direction",
    ),
    Column(35, "master_sport", "<u2", "", "CTA_TUPLE_MASTER", "its source port"),
    Column(36, "master_dport", "<u2", "", "CTA_TUPLE_MASTER", "its destination port"),
)
BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}
BY_ID: Mapping[int, Column] = {column.id: column for column in COLUMNS}

CONNECTION_ONLY = frozenset({"end", "start_source", "end_source", "seen"})
EVENT_ONLY = frozenset({"time", "event", "stop"})
ADDRESSES = ("orig_src", "orig_dst", "reply_src", "reply_dst")
PORTS = ("orig_sport", "orig_dport", "reply_sport", "reply_dport")
TUPLE = ("l4proto", *ADDRESSES, *PORTS)
MASTER = ("master_l4proto", "master_src", "master_dst", "master_sport", "master_dport")
# Columns above have no bit in `present`: 0 is none.
LAST_BIT = 31


def bit(name: str) -> int:
    """The bit of the column `name` in `present`.  ValueError: it has none."""
    if BY_NAME[name].id > LAST_BIT:
        raise ValueError(f"{name} has no bit")
    return 1 << BY_NAME[name].id


def bits(names: Iterable[str]) -> int:
    """The bits of the columns `names` in `present`."""
    return sum(bit(name) for name in names)


class Table:
    """`rows` rows of one `family` (AF_INET or AF_INET6), with an array (rows,) for each column.

    A column without an array is 0 in every row.  Arrays can be read-only and broadcast (stride 0):
    nothing writes to a table after it is made.
    """

    __slots__ = ("family", "rows", "columns")

    def __init__(self, family: int, rows: int, columns: dict[str, Array]) -> None:
        self.family, self.rows, self.columns = family, rows, columns

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Array:
        """The column `name`, (rows,); zeros if the table lacks it.  KeyError: no such column."""
        found = self.columns.get(name)
        if found is None:
            return np.broadcast_to(np.zeros((), BY_NAME[name].dtype(self.family)), (self.rows,))
        return found

    def take(self, index: Array) -> Table:
        """The rows at `index` (an integer array, or a bool mask of (rows,)), in its order."""
        if index.dtype == np.bool_:
            index = np.flatnonzero(index)  # selecting by mask takes ten times as long per column
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
        """The same rows with the columns `names`, if the table has them."""
        return Table(
            self.family,
            self.rows,
            {name: self.columns[name] for name in names if name in self.columns},
        )


def concat(tables: list[Table]) -> Table:
    """All rows of `tables` (at least one, all of one family), in order.

    A column that some of them lack is 0 in their rows.
    """
    if len(tables) == 1:
        return tables[0]
    names = [column.name for column in COLUMNS if any(column.name in table for table in tables)]
    columns: dict[str, Array] = {
        name: np.concatenate([table[name] for table in tables]) for name in names
    }
    return Table(tables[0].family, sum(len(table) for table in tables), columns)
