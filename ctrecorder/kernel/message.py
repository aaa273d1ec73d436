"""One conntrack message in plain Python, attribute by attribute: the specification of decoding.

`survey` returns the positions of the values in one netlink message; `walk` reads the values.
`decoder` surveys only the first message of each layout, and reads all other messages of that layout
with numpy.  No I/O.  No length is trusted: a message whose lengths do not fit raises MessageError.
But counters, times and the state of TCP are nested, and say nothing about who talks to whom: as in
the kernel, of these what is sound is kept.

Messages are accepted as by the kernel's nla_parse(): attributes come in any order, and all are
optional except the addresses of the original tuple.  Unknown attributes are skipped.  Of an
attribute that is repeated, the last one counts.  Of a payload longer than its value, the first
bytes are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from ctrecorder import uapi
from ctrecorder.columns import ADDRESSES, BY_NAME, MASTER, Event, bit, bits
from ctrecorder.errors import MessageError

MESSAGE_TYPES = (uapi.CT_NEW, uapi.CT_DELETE)

# An attribute's type maps to its field and the field's bytes, or to the attributes nested in it.
Spec: TypeAlias = Mapping[int, "tuple[str, int] | Spec"]
# A field maps to the offset and the size, in bytes, of its big-endian value.
Fields: TypeAlias = dict[str, tuple[int, int]]


class Layout(NamedTuple):
    """The positions of the values in a message.

    All messages with the same length and the same 4-byte words at `headers` have the same layout.

    family, event, present: values of these columns.
    headers: ascending byte offsets, multiples of 4.
    """

    family: int
    event: int
    present: int
    fields: Fields
    headers: tuple[int, ...]


def _ip(direction: str, family: int) -> Spec:
    if family == uapi.AF_INET:
        return {
            uapi.CTA_IP_V4_SRC: (f"{direction}_src", 4),
            uapi.CTA_IP_V4_DST: (f"{direction}_dst", 4),
        }
    return {
        uapi.CTA_IP_V6_SRC: (f"{direction}_src", 16),
        uapi.CTA_IP_V6_DST: (f"{direction}_dst", 16),
    }


def _tuple(direction: str, family: int) -> Spec:
    """The attributes of CTA_TUPLE_ORIG or CTA_TUPLE_REPLY.

    The fields `icmp_type` and `icmp_code` together make the column `dport`.
    """
    proto: dict[int, tuple[str, int] | Spec] = {
        uapi.CTA_PROTO_SRC_PORT: (f"{direction}_sport", 2),
        uapi.CTA_PROTO_DST_PORT: (f"{direction}_dport", 2),
    }
    if direction == "orig":
        proto[uapi.CTA_PROTO_NUM] = ("l4proto", 1)
    for base in (uapi.CTA_PROTO_ICMP_ID, uapi.CTA_PROTO_ICMPV6_ID):
        proto[base] = (f"{direction}_sport", 2)
        proto[base + 1] = (f"{direction}_icmp_type", 1)
        proto[base + 2] = (f"{direction}_icmp_code", 1)
    return {
        uapi.CTA_TUPLE_IP: _ip(direction, family),
        uapi.CTA_TUPLE_PROTO: proto,
        uapi.CTA_TUPLE_ZONE: (f"{direction}_zone", 2),
    }


def _master(family: int) -> Spec:
    """The attributes of CTA_TUPLE_MASTER."""
    return {
        uapi.CTA_TUPLE_IP: _ip("master", family),
        uapi.CTA_TUPLE_PROTO: {
            uapi.CTA_PROTO_NUM: ("master_l4proto", 1),
            uapi.CTA_PROTO_SRC_PORT: ("master_sport", 2),
            uapi.CTA_PROTO_DST_PORT: ("master_dport", 2),
        },
    }


def _counters(direction: str) -> Spec:
    return {
        uapi.CTA_COUNTERS_PACKETS: (f"{direction}_packets", 8),
        uapi.CTA_COUNTERS_BYTES: (f"{direction}_bytes", 8),
    }


def _message(family: int) -> Spec:
    return {
        uapi.CTA_TUPLE_ORIG: _tuple("orig", family),
        uapi.CTA_TUPLE_REPLY: _tuple("reply", family),
        uapi.CTA_TUPLE_MASTER: _master(family),
        uapi.CTA_HELP: {uapi.CTA_HELP_NAME: ("helper", 16)},
        uapi.CTA_LABELS: ("labels", 16),
        uapi.CTA_STATUS: ("status", 4),
        uapi.CTA_PROTOINFO: {
            uapi.CTA_PROTOINFO_TCP: {uapi.CTA_PROTOINFO_TCP_STATE: ("tcp_state", 1)}
        },
        uapi.CTA_MARK: ("mark", 4),
        uapi.CTA_COUNTERS_ORIG: _counters("orig"),
        uapi.CTA_COUNTERS_REPLY: _counters("reply"),
        uapi.CTA_ID: ("id", 4),
        uapi.CTA_ZONE: ("zone", 2),
        uapi.CTA_TIMESTAMP: {
            uapi.CTA_TIMESTAMP_START: ("start", 8),
            uapi.CTA_TIMESTAMP_STOP: ("stop", 8),
        },
        uapi.CTA_TIMESTAMP_EVENT: ("time", 8),
    }


# The nested attributes that must be sound, in a message and in these themselves.
_TUPLES = frozenset(
    (uapi.CTA_TUPLE_ORIG, uapi.CTA_TUPLE_REPLY, uapi.CTA_TUPLE_IP, uapi.CTA_TUPLE_PROTO)
)
SPECS: Mapping[int, Spec] = {family: _message(family) for family in uapi.FAMILIES}
ICMP_FIELDS = ("icmp_type", "icmp_code")
_NEW_FLAGS = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
SIGNED = frozenset({"time", "start", "stop"})
# Columns of bytes: an attribute can be shorter than these.
TEXTS = frozenset({"helper", "labels"})


def event_of(kind: int, flags: int, existing: bool) -> int:
    """The column `event` of a message.

    `kind`: nlmsg_type; `flags`: nlmsg_flags; `existing`: the message is part of a dump.
    """
    if kind == uapi.CT_DELETE:
        return Event.DESTROY
    if existing:
        return Event.EXISTING
    return Event.NEW if flags & _NEW_FLAGS else Event.UPDATE


def attributes(message: bytes | memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The attributes in message[start:end]: the type without flags, where the payload begins, ends.

    Raises MessageError if the length of an attribute does not fit.
    """
    while start < end:
        if end - start < uapi.NLA_HDRLEN:
            raise MessageError(f"{end - start} bytes at byte {start} are too few for an attribute")
        length, kind = struct.unpack_from("=HH", message, start)
        if not uapi.NLA_HDRLEN <= length <= end - start:
            raise MessageError(
                f"the attribute at byte {start} has length {length}, but {end - start} bytes follow"
            )
        yield kind & uapi.NLA_TYPE_MASK, start + uapi.NLA_HDRLEN, start + length
        start += (length + 3) & ~3


def _collect(
    message: bytes | memoryview,
    start: int,
    end: int,
    spec: Spec,
    fields: Fields,
    headers: list[int],
    *,
    strict: bool = True,
) -> None:
    """Add the attributes in message[start:end] that are in `spec` to `fields`.

    Adds the offsets of all attributes to `headers`, also of one that is unsound.  `strict`: raises
    MessageError for that; else it is left out, and what is behind it.
    """
    found: dict[int, tuple[int, int]] = {}
    after = start
    try:
        for kind, first, last in attributes(message, start, end):
            headers.append(first - uapi.NLA_HDRLEN)
            found[kind] = first, last
            after = (last + 3) & ~3
    except MessageError:
        if strict:
            raise
        if end - after >= uapi.NLA_HDRLEN:
            headers.append(after)
    for kind, (first, last) in found.items():
        entry = spec.get(kind)
        if entry is None:
            continue
        if not isinstance(entry, tuple):
            _collect(
                message, first, last, entry, fields, headers, strict=strict and kind in _TUPLES
            )
        elif entry[0] in TEXTS:
            if last > first:
                fields[entry[0]] = (first, min(last - first, entry[1]))
        elif last - first >= entry[1]:
            fields[entry[0]] = (first, entry[1])
        elif strict:
            raise MessageError(
                f"{entry[0]} at byte {first} has {last - first} bytes instead of {entry[1]}"
            )


def survey(message: bytes | memoryview, existing: bool = False) -> Layout:
    """The layout of one netlink message, with at most 3 bytes of padding after it.

    `existing`: the message is part of a dump.  Raises MessageError.
    """
    if len(message) < uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN:
        raise MessageError(f"{len(message)} bytes are too few for a conntrack message")
    length, kind, flags = struct.unpack_from("=IHH", message)
    family = message[uapi.NLMSG_HDRLEN]
    if not uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN <= length <= len(message) < length + 4:
        raise MessageError(
            f"the message has length {length}, but {len(message)} bytes were received"
        )
    if kind not in MESSAGE_TYPES:
        raise MessageError(f"not a conntrack message: type {kind:#x}")
    if family not in SPECS:
        raise MessageError(f"neither IPv4 nor IPv6: family {family}")
    # nlmsg_len; nlmsg_type and flags; nfgenmsg.  The sequence number and the pid can differ.
    headers = [0, 4, uapi.NLMSG_HDRLEN]
    fields: Fields = {}
    _collect(message, uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN, length, SPECS[family], fields, headers)
    for name in ADDRESSES[:2]:
        if name not in fields:
            raise MessageError(f"no {name} of family {family}")
    return Layout(
        family, event_of(kind, flags, existing), _present(fields), fields, tuple(sorted(headers))
    )


def _present(fields: Fields) -> int:
    """The column `present` of a message with these fields."""
    present = bit("event") | bits(name for name in fields if name in BY_NAME and name not in MASTER)
    for direction in ("orig", "reply"):
        if any(f"{direction}_{name}" in fields for name in ICMP_FIELDS):
            present |= bit(f"{direction}_dport")
    return present


def walk(message: bytes | memoryview, existing: bool = False) -> dict[str, int | bytes]:
    """The columns of one message: numbers and IPv4 addresses as int; IPv6 addresses, helper and
    labels as 16 bytes.

    `family`, `event` and `present` are always returned, other columns if the message has them (so
    `time` only with CTA_TIMESTAMP_EVENT).  ICMP: the id is `sport`, type * 256 + code is `dport`.
    Arguments and errors as `survey`.
    """
    layout = survey(message, existing)
    values: dict[str, int | bytes] = {
        "family": layout.family,
        "event": layout.event,
        "present": layout.present,
    }
    for name, (offset, width) in layout.fields.items():
        payload = bytes(message[offset : offset + width])
        values[name] = (
            payload.ljust(16, b"\0")
            if width == 16 or name in TEXTS
            else int.from_bytes(payload, "big", signed=name in SIGNED)
        )
    for direction in ("orig", "reply"):
        parts = [values.pop(f"{direction}_{name}", None) for name in ICMP_FIELDS]
        if parts != [None, None]:
            icmp_type, icmp_code = (part if isinstance(part, int) else 0 for part in parts)
            values[f"{direction}_dport"] = icmp_type * 256 + icmp_code
    return values
