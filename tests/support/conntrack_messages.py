"""Conntrack messages for the tests: the project's own recording of a kernel, and made ones,
attribute by attribute.
"""

from __future__ import annotations

import gzip
import json
import struct
from functools import cache
from pathlib import Path

from ctrecorder import uapi

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "netlink_kernel618.jsonl.gz"
CREATE = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL


@cache
def recorded() -> list[tuple[bytes, float]]:
    """841 messages of kernel 6.18, and when each was received (s): NEW, UPDATE, DESTROY; TCP, UDP,
    ICMP; both families; NAT.
    """
    lines = gzip.decompress(SAMPLES.read_bytes()).splitlines()
    return [(bytes.fromhex(entry["hex"]), entry["recv_time"]) for entry in map(json.loads, lines)]


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute with its padding."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """One attribute of attributes, flagged as the kernel does."""
    return attribute(kind | uapi.NLA_F_NESTED, b"".join(attributes))


def number(kind: int, value: int, width: int) -> bytes:
    """One attribute that is a big-endian number."""
    return attribute(kind, value.to_bytes(width, "big"))


def message(
    *attributes: bytes, kind: int = uapi.CT_NEW, flags: int = CREATE, family: int = uapi.AF_INET
) -> bytes:
    """One netlink message."""
    body = struct.pack("=BBH", family, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 7, 0) + body


def ip4(src: int, dst: int) -> bytes:
    """CTA_TUPLE_IP of IPv4."""
    return nested(
        uapi.CTA_TUPLE_IP, number(uapi.CTA_IP_V4_SRC, src, 4), number(uapi.CTA_IP_V4_DST, dst, 4)
    )


def ip6(src: bytes, dst: bytes) -> bytes:
    """CTA_TUPLE_IP of IPv6."""
    return nested(
        uapi.CTA_TUPLE_IP, attribute(uapi.CTA_IP_V6_SRC, src), attribute(uapi.CTA_IP_V6_DST, dst)
    )


def ports(protocol: int, sport: int, dport: int) -> bytes:
    """CTA_TUPLE_PROTO of a protocol with ports."""
    values = (
        number(uapi.CTA_PROTO_NUM, protocol, 1),
        number(uapi.CTA_PROTO_SRC_PORT, sport, 2),
        number(uapi.CTA_PROTO_DST_PORT, dport, 2),
    )
    return nested(uapi.CTA_TUPLE_PROTO, *values)


def orig(*attributes: bytes) -> bytes:
    """CTA_TUPLE_ORIG."""
    return nested(uapi.CTA_TUPLE_ORIG, *attributes)


def reply(*attributes: bytes) -> bytes:
    """CTA_TUPLE_REPLY."""
    return nested(uapi.CTA_TUPLE_REPLY, *attributes)


# The least that is a message: the addresses of the original tuple.
LEAST = orig(ip4(0x0A000001, 0x0A000002))


# A type with its flags, and a payload or the attributes nested in it.
Attribute = tuple[int, "bytes | list[Attribute]"]


def tree(data: bytes, start: int = 20) -> list[Attribute]:
    """The attributes of a recorded message."""
    found: list[Attribute] = []
    while start < len(data):
        length, kind = struct.unpack_from("=HH", data, start)
        payload = data[start + 4 : start + length]
        found.append((kind, tree(payload, 0) if kind & uapi.NLA_F_NESTED else payload))
        start += (length + 3) & ~3
    return found


def built(attributes: list[Attribute]) -> bytes:
    """The bytes of such attributes."""
    return b"".join(
        attribute(kind, built(value) if isinstance(value, list) else value)
        for kind, value in attributes
    )
