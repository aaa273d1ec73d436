"""Connections as NAT events of RFC 8158, in messages of IPFIX (RFC 7011) and NetFlow 9 (RFC 3954).

The template is what nfdump and pmacct of Debian 12 and 13 read with the right times: start, end,
and the time of the event, which is the end.  A connection is one record, a "NAT session delete".
Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ctrecorder.columns import ADDRESSES, Array, Source, Table
from ctrecorder.times import SECOND
from ctrecorder.uapi import AF_INET

IPFIX, NETFLOW9 = 10, 9
_MILLISECOND = SECOND // 1000
# Bytes of records in a message: it fits one datagram on any path, with header and template.
_MAX_RECORDS = 1200
# natEvent of RFC 8158: NAT44 session delete; of IPv6 there is none of its own.
_SESSION_DELETE = 5
# The numbers of the addresses among IANA's information elements, in the order of ADDRESSES
# (source, destination, source and destination of the reply).
_IPV4, _IPV6 = (8, 12, 226, 225), (27, 28, 282, 281)
# Templates are lost with a datagram: each so many messages they are sent again.
TEMPLATE_EACH = 20


@dataclass(frozen=True)
class Field:
    """A field of a record: IANA's number, the column, and its type here and in the message."""

    element: int
    column: str
    kind: str

    @property
    def size(self) -> int:
        """Bytes in the message."""
        return np.dtype(self.kind).itemsize


# What few logs have: counters of both directions, as nfdump and pmacct name them (in, out), and the
# zone, as the VRF.
_COUNTED = (
    Field(1, "orig_bytes", ">u8"),
    Field(2, "orig_packets", ">u8"),
    Field(23, "reply_bytes", ">u8"),
    Field(24, "reply_packets", ">u8"),
    Field(234, "zone", ">u4"),
)


def fields(family: int, *, counted: bool = False) -> tuple[Field, ...]:
    """The fields of the records of a family, in order.  `counted`: with counters and the zone."""
    numbers, kind = (_IPV4, ">u4") if family == AF_INET else (_IPV6, "V16")
    src, dst, reply_src, reply_dst = (
        Field(number, column, kind) for number, column in zip(numbers, ADDRESSES, strict=True)
    )
    return (
        *(Field(number, name, ">u8") for number, name in ((152, "start"), (153, "end"))),
        Field(323, "end", ">u8"),
        *(src, dst, reply_dst, reply_src),
        Field(7, "orig_sport", ">u2"),
        Field(11, "orig_dport", ">u2"),
        Field(227, "reply_dport", ">u2"),
        Field(228, "reply_sport", ">u2"),
        Field(4, "l4proto", "u1"),
        Field(230, "", "u1"),
        *(_COUNTED if counted else ()),
    )


def ended(table: Table) -> Table:
    """The connections of `table` whose end is known: each is sent when it has ended, once."""
    return table.take(table["end_source"] != Source.UNKNOWN)


def _is_counted(table: Table) -> Array:
    """(rows,): which have a counter or a zone."""
    found = np.zeros(len(table), np.bool_)
    for one in _COUNTED:
        if one.column in table:
            found |= table[one.column] != 0
    return found


def _records(table: Table, *, counted: bool) -> Array:
    """The records of `table`, (rows,)."""
    known = fields(table.family, counted=counted)
    dtype = [(str(number), one.kind) for number, one in enumerate(known)]
    out = np.zeros(len(table), np.dtype(dtype))
    for number, one in enumerate(known):
        if one.column in ("start", "end"):
            moment = table["end"]
            if one.column == "start":
                begun = table["start_source"] != Source.UNKNOWN
                moment = np.where(begun, table["start"], table["end"])
            out[str(number)] = moment // _MILLISECOND
        elif one.kind == "V16":
            out[str(number)] = np.ascontiguousarray(table[one.column]).view("V16")
        elif not one.column:
            out[str(number)] = _SESSION_DELETE
        elif one not in _COUNTED or one.column in table:
            out[str(number)] = table[one.column]
    return out


def _template_number(family: int, *, counted: bool) -> int:
    return (256 if family == AF_INET else 257) + (2 if counted else 0)


def _template_set(version: int, family: int, *, counted: bool) -> bytes:
    known = fields(family, counted=counted)
    body = struct.pack(">HH", _template_number(family, counted=counted), len(known))
    body += b"".join(struct.pack(">HH", one.element, one.size) for one in known)
    return struct.pack(">HH", 2 if version == IPFIX else 0, len(body) + 4) + body


@dataclass
class Messages:
    """The messages of one exporter, in order.

    `version`: IPFIX or NETFLOW9.  `domain`: of the observation.  `sent`: records, or messages of
    NetFlow, that were made.
    """

    version: int
    domain: int
    sent: int = 0
    _made: int = 0

    def of(self, table: Table, now: int) -> Iterator[bytes]:
        """The messages with the connections of `table`.  `now`: ns UTC."""
        has = _is_counted(table)
        for counted in (False, True):
            if (has == counted).any():
                yield from self._of(table.take(has == counted), now, counted=counted)

    def _of(self, table: Table, now: int, *, counted: bool) -> Iterator[bytes]:
        """The messages with connections of one template."""
        records = _records(table, counted=counted)
        together = _MAX_RECORDS // records.dtype.itemsize
        for first in range(0, len(records), together):
            part = records[first : first + together]
            body = part.tobytes()
            body += b"\0" * (-len(body) % 4)
            number = _template_number(table.family, counted=counted)
            body = struct.pack(">HH", number, len(body) + 4) + body
            count = len(part)
            if self._made % TEMPLATE_EACH == 0 or first == 0:
                body = _template_set(self.version, table.family, counted=counted) + body
                count += 1
            self._made += 1
            yield self._header(len(body), count, now) + body
            self.sent += len(part) if self.version == IPFIX else 1

    def _header(self, length: int, count: int, now: int) -> bytes:
        second = now // SECOND
        if self.version == IPFIX:
            size = length + 16
            return struct.pack(">HHIII", IPFIX, size, second, self.sent & 0xFFFFFFFF, self.domain)
        uptime = now // _MILLISECOND & 0xFFFFFFFF
        sequence = self.sent & 0xFFFFFFFF
        return struct.pack(">HHIIII", NETFLOW9, count, uptime, second, sequence, self.domain)
