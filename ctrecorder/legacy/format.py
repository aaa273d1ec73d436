"""The files of the C ctrecorder, 0.1.3 to 0.1.6: their bytes as a header and as tables.

One file holds one L4 protocol.  A header of 256 bytes is followed by records of one kind: events of
33 bytes, or, in a file that `ctrecorder -S` wrote, connections of 40.  All numbers are big-endian,
nothing is aligned.  This module takes bytes and returns columns; it raises `FormatError` for a
header that it does not know, and never for records: `resync` finds invalid ones.

Facts that those files lack stay unknown (`present`): the status except "replied", ids, counters,
zones, marks.  IPv6 was recorded with addresses 0.0.0.0 and ICMP without type, code and id: both are
shown as unknown, not as zeros.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import ADDRESSES, PORTS, Array, Event, Source, Table, bits
from ctrecorder.errors import FormatError
from ctrecorder.terminal import printable

MAGIC = b"CTNL"
VERSION = 2
HEADER_BYTES = 256
# As a little-endian host wrote the flag "squeezed" (it swapped 16 of the 32 bits), and as a
# big-endian one did.
SQUEEZED_FLAGS = (0x00010000, 0x00000001)
# The low bits of an event's type are NEW 1, UPDATE 2, DESTROY 3; this one is IPS_SEEN_REPLY.
TYPE_EVENT, TYPE_REPLIED = 0x03, 0x04
NS, US = 1_000_000_000, 1_000

_HEADER = struct.Struct(">4sIHHHIB33sIIIIIIiHBBBBB")
# Each end of a tuple is an address and a port, in this order.
_ENDS = (
    ("orig_src", "orig_sport"),
    ("orig_dst", "orig_dport"),
    ("reply_src", "reply_sport"),
    ("reply_dst", "reply_dport"),
)
_TUPLE = [field for address, port in _ENDS for field in ((address, ">u4"), (port, ">u2"))]
EVENT = np.dtype([("type", "u1"), ("sec", ">u4"), ("usec", ">u4"), *_TUPLE])
CONNECTION = np.dtype(
    [("start_sec", ">u4"), ("start_usec", ">u4"), ("end_sec", ">u4"), ("end_usec", ">u4"), *_TUPLE]
)

# Protocols for which the kernel always reports two ports (or GRE keys); the C ctrecorder wrote 0
# for all others.
_WITH_PORTS = frozenset({6, 17, 33, 47, 132, 136})
# getprotobynumber(3), which the C ctrecorder printed, names these; other numbers were "?" to it
# where /etc/protocols lacks them.
_NAMES = {
    **uapi.PROTOCOLS,
    58: "ipv6-icmp",
    2: "igmp",
    4: "ipencap",
    41: "ipv6",
    50: "esp",
    51: "ah",
    89: "ospf",
    112: "vrrp",
    115: "l2tp",
}

Records = NDArray[np.void]


@dataclass(frozen=True)
class Header:
    """The header, with the numbers of the file.

    `year` is since 1900 and `month` from 0, as C's struct tm has them.
    """

    flags: int
    l4proto: int
    host: str
    start_sec: int
    start_usec: int
    end_sec: int
    end_usec: int
    minuteswest: int
    dsttime: int
    utc_offset: int
    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int

    @property
    def squeezed(self) -> bool:
        """Whether the records are connections."""
        return self.flags in SQUEEZED_FLAGS

    @property
    def layout(self) -> np.dtype[np.void]:
        """The dtype of the records: EVENT or CONNECTION."""
        return CONNECTION if self.squeezed else EVENT

    @property
    def start_ns(self) -> int:
        """When recording began, ns UTC."""
        return self.start_sec * NS + self.start_usec * US

    @property
    def protocol(self) -> str:
        """The protocol's name, as the C ctrecorder printed it."""
        return _NAMES.get(self.l4proto, "?")

    def classic(self) -> str:
        """The output of `ctrecorder -H`, in local time (TZ); the month of `.startd` is one too low,
        as it was there.
        """
        started = f"{1900 + self.year:04}.{self.month:02}.{self.day:02}"
        started += f" {self.hour:02}:{self.minute:02}:{self.second:02}"
        return (
            f".magic: 0x{MAGIC.hex()}\n.version: 0x{VERSION:08x}\n.flags: 0x{self.flags:08x}\n"
            f".proto: 0x{self.l4proto:02x} ({self.protocol})\n.hostname: {printable(self.host)}\n"
            f".start: {_local(self.start_sec)}.{self.start_usec:06}\n.startd: {started}\n"
            f".end: {_local(self.end_sec)}.{self.end_usec:06}\n"
            f".tz: {self.minuteswest:x}.{self.dsttime}\n.utc_offset: {self.utc_offset}\n"
        )


def parse_header(data: bytes, path: str) -> Header:
    """The header in the first 256 bytes of a file.

    Raises FormatError if it is cut, or of a version that is not this one.
    """
    if len(data) < HEADER_BYTES:
        raise FormatError(
            f"the header of a C ctrecorder's file is cut: {len(data)} of {HEADER_BYTES} bytes",
            path=path,
        )
    magic, version, size, record, footer, flags, l4proto, host, *numbers = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FormatError("not a file of the C ctrecorder", path=path)
    if version != VERSION:
        raise FormatError(
            f"format {version} of the C ctrecorder is not known, "
            f"only format {VERSION} (0.1.3 to 0.1.6)",
            path=path,
            offset=4,
        )
    if (size, record, footer) != (HEADER_BYTES, EVENT.itemsize, 0):
        raise FormatError(
            f"header, record and footer of {size}, {record} and {footer} bytes are not known, "
            f"only {HEADER_BYTES}, {EVENT.itemsize} and 0",
            path=path,
            offset=8,
        )
    if flags and flags not in SQUEEZED_FLAGS:
        raise FormatError(f"flags {flags:#010x} are not known", path=path, offset=14)
    return Header(
        flags, l4proto, host.split(b"\0")[0].decode("utf-8", "backslashreplace"), *numbers
    )


def header_of(facts: object) -> Header | None:
    """The header with the fields `facts`: a segment's `legacy`; None if they do not fit."""
    if not isinstance(facts, dict) or facts.keys() != {field.name for field in fields(Header)}:
        return None
    numbers = [value for name, value in facts.items() if name != "host"]
    if not isinstance(facts["host"], str) or not all(
        type(number) is int and 0 <= abs(number) < 1 << 32 for number in numbers
    ):
        return None
    return Header(**facts)


def to_table(records: Records, header: Header, names: Iterable[str] | None = None) -> Table:
    """The columns `names` (default: all) of `records`, (rows,) of `header.layout`; AF_INET."""
    made = _CONNECTION_COLUMNS if header.squeezed else _EVENT_COLUMNS
    wanted = made if names is None else [name for name in dict.fromkeys(names) if name in made]
    return Table(
        uapi.AF_INET, len(records), {name: made[name](records, header.l4proto) for name in wanted}
    )


def _field(name: str, dtype: str) -> _Make:
    """The column that is a field of the record, in the byte order of a table."""
    return lambda records, l4proto: records[name].astype(dtype)


def _l4proto(records: Records, l4proto: int) -> Array:
    return np.broadcast_to(np.uint8(l4proto), (len(records),))


def _status(records: Records, l4proto: int) -> Array:
    """The status of an event: only IPS_SEEN_REPLY is recorded."""
    status: Array = (records["type"] & np.uint8(TYPE_REPLIED)).astype("<u4") // np.uint32(
        TYPE_REPLIED // uapi.IPS_SEEN_REPLY
    )
    return status


def _time(name: str) -> _Make:
    """The time whose seconds are in `<name>_sec`; 0 (unknown) where these are 0."""
    return lambda records, l4proto: np.where(
        records[f"{name}_sec"] != 0,
        nanoseconds(records[f"{name}_sec"], records[f"{name}_usec"]),
        np.int64(0),
    )


def _source(name: str) -> _Make:
    return lambda records, l4proto: np.where(
        records[f"{name}_sec"] != 0, np.uint8(Source.RECEIPT), np.uint8(Source.UNKNOWN)
    )


def _seen(records: Records, l4proto: int) -> Array:
    """A start came with a NEW, an end with a DESTROY."""
    new, destroy = (np.uint8(1 << (event - 1)) for event in (Event.NEW, Event.DESTROY))
    seen: Array = (records["start_sec"] != 0).astype("u1") * new | (records["end_sec"] != 0).astype(
        "u1"
    ) * destroy
    return seen


def _event_known(records: Records, l4proto: int) -> Array:
    """`time` is that of receipt, so its bit is not set."""
    return _tuple_known(records, l4proto, bits(("event", "l4proto", "status")))


def _connection_known(records: Records, l4proto: int) -> Array:
    return _tuple_known(records, l4proto, bits(("l4proto",)))


def _tuple_known(records: Records, l4proto: int, known: int) -> Array:
    """`known`, and the bits of addresses and ports where they were recorded: where not all four are
    0.
    """
    known |= bits(PORTS) if l4proto in _WITH_PORTS else 0
    unsure = (ADDRESSES,) if l4proto in _WITH_PORTS else (ADDRESSES, PORTS)
    all_known: Array = np.broadcast_to(np.uint32(known), (len(records),))
    for names in unsure:
        told = np.logical_or.reduce([records[name] != 0 for name in names])
        all_known = all_known | told * np.uint32(bits(names))
    return all_known


_Make = Callable[[Records, int], Array]
_TUPLE_COLUMNS: dict[str, _Make] = {
    "l4proto": _l4proto,
    **{name: _field(name, "<u4") for name in ADDRESSES},
    **{name: _field(name, "<u2") for name in PORTS},
}
_EVENT_COLUMNS: dict[str, _Make] = {
    "time": lambda records, l4proto: nanoseconds(records["sec"], records["usec"]),
    "event": lambda records, l4proto: records["type"] & np.uint8(TYPE_EVENT),
    **_TUPLE_COLUMNS,
    "status": _status,
    "present": _event_known,
}
_CONNECTION_COLUMNS: dict[str, _Make] = {
    **_TUPLE_COLUMNS,
    **{name: _time(name) for name in ("start", "end")},
    **{f"{name}_source": _source(name) for name in ("start", "end")},
    "present": _connection_known,
    "seen": _seen,
}


def record_times(records: Records) -> tuple[int, int]:
    """The earliest and the latest time of `records` (at least one), ns UTC, as in
    `frame.block_times`.
    """
    if records.dtype == EVENT:
        sec, usec = records["sec"].astype("<u4"), records["usec"]
        first, last = sec.min(), sec.max()
        return _nanosecond(first, usec[sec == first].min()), _nanosecond(
            last, usec[sec == last].max()
        )
    start, end = (_time(name)(records, 0) for name in ("start", "end"))
    earliest = np.where(start != 0, start, end)
    return int(earliest.min()), int(np.maximum(earliest, end).max())


def _nanosecond(sec: np.integer[Any], usec: np.integer[Any]) -> int:
    return int(sec) * NS + int(usec) * US


def nanoseconds(sec: Array, usec: Array) -> NDArray[np.int64]:
    """Times in ns of big-endian u32 columns; no 32-bit value overflows."""
    result = sec.astype("<i8")
    result *= NS
    result += usec.astype("<i8") * US
    return result


def _local(seconds: int) -> str:
    """A time as C's strftime printed it."""
    return time.strftime("%Y.%m.%d %H:%M:%S", time.localtime(seconds))
