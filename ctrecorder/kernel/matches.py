"""Simple matches of a rule: what holds for each packet that passes all of them.

`read` walks the expressions of a rule as the kernel runs them.  It knows what is in each register,
and what a comparison of it with a constant means.  An expression that it does not know may have
written any register.  What it does not understand narrows nothing.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ctrecorder import uapi
from ctrecorder.kernel import tracking
from ctrecorder.kernel.tracking import Expression

# Ports of a rule that are listed one by one; of more, the ports do not narrow it.
MAX_PORTS = 64
MAX_NETWORKS = 16

# linux/netfilter/nf_tables.h
_NFTA_META_DREG, _NFTA_META_KEY = 1, 2
_META_PROTOCOL, _META_IIF, _META_IIFNAME, _META_OIFNAME = 1, 4, 6, 7
_META_NFPROTO, _META_L4PROTO, _META_OIF = 15, 16, 5
_NFTA_PAYLOAD_DREG, _NFTA_PAYLOAD_BASE, _NFTA_PAYLOAD_OFFSET, _NFTA_PAYLOAD_LEN = 1, 2, 3, 4
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_NFTA_CMP_SREG, _NFTA_CMP_OP, _NFTA_CMP_DATA = 1, 2, 3
_CMP_EQ, _CMP_LT, _CMP_LTE, _CMP_GT, _CMP_GTE = 0, 2, 3, 4, 5
_NFTA_RANGE_SREG, _NFTA_RANGE_OP, _NFTA_RANGE_FROM, _NFTA_RANGE_TO = 1, 2, 3, 4
_NFTA_BITWISE_SREG, _NFTA_BITWISE_DREG, _NFTA_BITWISE_MASK, _NFTA_BITWISE_XOR = 1, 2, 4, 5
_NFTA_BITWISE_OP = 6
_NFTA_LOOKUP_SET, _NFTA_LOOKUP_SREG, _NFTA_LOOKUP_DREG, _NFTA_LOOKUP_FLAGS = 1, 2, 3, 5
_NFTA_DATA_VALUE = 1
_REGISTER_OF_16_BYTES, _REGISTERS_OF_4_BYTES = 4, 8
_LOOPBACK_INDEX = 1  # always that of lo
# Statements and matches that write no register.
_HARMLESS = frozenset({b"counter", b"limit", b"log", b"quota", b"last"})

_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
# ip6 nexthdr is the protocol unless an extension header is next.
_EXTENSION_HEADERS = frozenset({0, 43, 44, 50, 51, 60, 135, 139, 140})
_ETHERTYPES = {0x0800: uapi.AF_INET, 0x86DD: uapi.AF_INET6}
# Where the network header has the source and the destination, and how long they are.
_ADDRESSES = {uapi.AF_INET: (12, 16), uapi.AF_INET6: (8, 24)}
_ADDRESS_BYTES = {uapi.AF_INET: 4, uapi.AF_INET6: 16}
# linux/netfilter/xt_tcpudp.h: both begin with two ranges of ports in host order; where the flags
# that invert them are.
_XT_INVERTED = {b"tcp": (6, 11), b"udp": (17, 8)}
_XT_MULTIPORT_BYTES = 48  # struct xt_multiport_v1

SetReader = Callable[[bytes], "list[tuple[bytes, bytes]] | None"]


@dataclass(frozen=True)
class _Value:
    """What a register holds: `kind`, and of an address which leading bits were kept."""

    kind: str
    length: int
    bits: int | None = None


@dataclass
class Matches:
    """What holds for all packets that pass; an empty set: it is not narrowed."""

    families: frozenset[int]
    protocols: frozenset[int] = frozenset()
    networks: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()
    _ports: dict[str, range | frozenset[int]] = field(default_factory=dict)

    def ports(self) -> frozenset[int]:
        """Ports of which each connection has one; empty unless all protocols have ports."""
        if not self.protocols or not self.protocols <= _WITH_PORTS:
            return frozenset()
        small = [each for each in self._ports.values() if 0 < len(each) <= MAX_PORTS]
        return frozenset(min(small, key=len)) if small else frozenset()

    def require_family(self, family: int) -> None:
        self.families = self.families & {family} or self.families

    def require_protocols(self, numbers: frozenset[int]) -> None:
        self.protocols = (self.protocols & numbers if self.protocols else numbers) or numbers

    def require_ports(self, end: str, ports: range | frozenset[int]) -> None:
        known = self._ports.get(end)
        if isinstance(known, range) and isinstance(ports, range):
            ports = range(max(known.start, ports.start), min(known.stop, ports.stop))
        if known is None or len(ports):
            self._ports[end] = ports

    def require_networks(self, networks: frozenset[str]) -> None:
        if not self.networks and len(networks) <= MAX_NETWORKS:
            self.networks = networks

    def require_interfaces(self, names: frozenset[str]) -> None:
        if not self.interfaces and len(names) <= MAX_NETWORKS:
            self.interfaces = names


def read(expressions: Iterable[Expression], families: frozenset[int], sets: SetReader) -> Matches:
    """What holds for each packet that passes all `expressions` of a rule.

    families: AF_INET, AF_INET6, those of the rule's table.
    sets: the ranges of the constant set with that name, None for any other set.
    """
    return _Walk(Matches(families), sets).walk(expressions)


class _Walk:
    """A walk through the expressions of one rule."""

    def __init__(self, found: Matches, sets: SetReader) -> None:
        self._found, self._sets = found, sets
        self._registers: dict[int, _Value] = {}  # by the first of their words of 4 bytes

    def walk(self, expressions: Iterable[Expression]) -> Matches:
        known = {
            b"meta": self._meta,
            b"payload": self._payload,
            b"cmp": self._cmp,
            b"range": self._range,
            b"bitwise": self._bitwise,
            b"lookup": self._lookup,
            b"match": self._match,
        }
        for expression in expressions:
            step = known.get(expression.name)
            if step is not None:
                step(expression)
            elif expression.name not in _HARMLESS:
                self._registers.clear()
        return self._found

    def _write(self, register: int, length: int, value: _Value | None) -> None:
        """`length` bytes are written: what was in these words is gone."""
        first = _word(register)
        last = first + (length + 3) // 4
        for word, old in list(self._registers.items()):
            if word < last and first < word + (old.length + 3) // 4:
                del self._registers[word]
        if value is not None:
            self._registers[first] = value

    def _value(self, register: int) -> _Value | None:
        return self._registers.get(_word(register))

    def _meta(self, expression: Expression) -> None:
        register = _number(expression.info, _NFTA_META_DREG)
        if register is None:
            return  # it sets a property of the packet, none of those that are matched here
        key = _number(expression.info, _NFTA_META_KEY)
        kinds = {
            _META_NFPROTO: _Value("nfproto", 1),
            _META_L4PROTO: _Value("protocol", 1),
            _META_PROTOCOL: _Value("ethertype", 2),
            _META_IIF: _Value("index", 4),
            _META_OIF: _Value("index", 4),
            _META_IIFNAME: _Value("interface", 16),
            _META_OIFNAME: _Value("interface", 16),
        }
        value = kinds.get(key if key is not None else -1)
        self._write(register, value.length if value else 16, value)

    def _payload(self, expression: Expression) -> None:
        info = expression.info
        register = _number(info, _NFTA_PAYLOAD_DREG)
        base, offset = _number(info, _NFTA_PAYLOAD_BASE), _number(info, _NFTA_PAYLOAD_OFFSET)
        length = _number(info, _NFTA_PAYLOAD_LEN) or 0
        if register is None:
            # The packet is rewritten: it may have matched by what it is not any more.
            self._found = Matches(self._found.families)
            self._registers.clear()
            return
        value = None
        if base == _TRANSPORT_HEADER:
            names = {(0, 2): "source", (2, 2): "destination", (0, 4): "both"}
            name = names.get((offset if offset is not None else -1, length))
            value = _Value(f"port {name}", length) if name else None
        elif base == _NETWORK_HEADER and len(self._found.families) == 1:
            value = self._network_header(offset, length)
        self._write(register, length, value)

    def _network_header(self, offset: int | None, length: int) -> _Value | None:
        family = next(iter(self._found.families))
        if (offset, length) == (9, 1) and family == uapi.AF_INET:
            return _Value("protocol", 1)
        if (offset, length) == (6, 1) and family == uapi.AF_INET6:
            return _Value("next header", 1)
        if offset in _ADDRESSES[family] and length <= _ADDRESS_BYTES[family]:
            return _Value("address", length, length * 8)
        return None

    def _bitwise(self, expression: Expression) -> None:
        info = expression.info
        target = _number(info, _NFTA_BITWISE_DREG) or 0
        value = self._value(_number(info, _NFTA_BITWISE_SREG) or 0)
        mask = _data(info, _NFTA_BITWISE_MASK)
        bits = _prefix_bits(mask)
        simple = not _number(info, _NFTA_BITWISE_OP) and not any(_data(info, _NFTA_BITWISE_XOR))
        if value and value.kind == "address" and len(mask) == value.length and simple and bits:
            self._write(target, value.length, _Value(value.kind, value.length, bits))
        else:
            self._write(target, max(16, len(mask)), None)

    def _cmp(self, expression: Expression) -> None:
        info = expression.info
        value = self._value(_number(info, _NFTA_CMP_SREG) or 0)
        data, operator = _data(info, _NFTA_CMP_DATA), _number(info, _NFTA_CMP_OP)
        if value is None or not data:
            return
        if operator == _CMP_EQ:
            self._require(value, [(data, data)])
        elif value.kind.startswith("port ") and len(data) == value.length == 2:
            number = int.from_bytes(data, "big")
            ranges = {
                _CMP_LT: range(number),
                _CMP_LTE: range(number + 1),
                _CMP_GT: range(number + 1, 65536),
                _CMP_GTE: range(number, 65536),
            }
            if operator in ranges:
                self._found.require_ports(value.kind, ranges[operator])

    def _range(self, expression: Expression) -> None:
        info = expression.info
        value = self._value(_number(info, _NFTA_RANGE_SREG) or 0)
        if value is not None and _number(info, _NFTA_RANGE_OP) == _CMP_EQ:
            ends = _data(info, _NFTA_RANGE_FROM), _data(info, _NFTA_RANGE_TO)
            self._require(value, [ends])

    def _lookup(self, expression: Expression) -> None:
        info = expression.info
        value = self._value(_number(info, _NFTA_LOOKUP_SREG) or 0)
        target = _number(info, _NFTA_LOOKUP_DREG)
        if target is not None:
            self._write(target, 16, None)  # a map
        elif value is not None and not _number(info, _NFTA_LOOKUP_FLAGS):
            ranges = self._sets(next(tracking.values(info, _NFTA_LOOKUP_SET), b""))
            if ranges:
                self._require(value, ranges)

    def _require(self, value: _Value, ranges: list[tuple[bytes, bytes]]) -> None:
        """The value is in one of `ranges`, first and last."""
        kind = value.kind
        if kind == "interface":
            names = [_interface(first) if first == last else "" for first, last in ranges]
            if all(names):
                self._found.require_interfaces(frozenset(names))
        elif any(len(first) != value.length or len(last) != value.length for first, last in ranges):
            return  # of a concatenation
        elif kind == "address":
            self._require_networks(value, ranges)
        elif kind == "index":
            if ranges == [(struct.pack("=I", _LOOPBACK_INDEX),) * 2]:
                self._found.require_interfaces(frozenset({"lo"}))
        elif kind == "port both":
            if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
                source, target = struct.unpack(">HH", ranges[0][0])
                self._found.require_ports("port source", frozenset({source}))
                self._found.require_ports("port destination", frozenset({target}))
        else:
            spans = [range(_int(first), _int(last) + 1) for first, last in ranges]
            self._require_numbers(kind, spans)

    def _require_numbers(self, kind: str, spans: list[range]) -> None:
        """The number is in one of `spans`."""
        found = self._found
        if kind.startswith("port ") and len(spans) == 1:
            found.require_ports(kind, spans[0])
            return
        if sum(map(len, spans)) > MAX_PORTS:
            return
        numbers = frozenset(number for span in spans for number in span)
        if kind.startswith("port "):
            found.require_ports(kind, numbers)
        elif kind == "protocol" or (kind == "next header" and not numbers & _EXTENSION_HEADERS):
            found.require_protocols(numbers)
        elif kind in ("nfproto", "ethertype") and len(numbers) == 1:
            number = next(iter(numbers))
            found.require_family(number if kind == "nfproto" else _ETHERTYPES.get(number, 0))

    def _require_networks(self, value: _Value, ranges: list[tuple[bytes, bytes]]) -> None:
        size = _ADDRESS_BYTES[next(iter(self._found.families))]
        kept = value.bits or 0
        networks: set[str] = set()
        for first, last in ranges:
            low = _int(first.ljust(size, b"\0"))
            # The bits that were not loaded or masked out can have any value.
            high = _int(last.ljust(size, b"\0")) | (1 << (size * 8 - kept)) - 1
            ends = (ipaddress.ip_address(each.to_bytes(size, "big")) for each in (low, high))
            networks |= {str(each) for each in ipaddress.summarize_address_range(*ends)}
            if len(networks) > MAX_NETWORKS:
                return
        self._found.require_networks(frozenset(networks))

    def _match(self, expression: Expression) -> None:
        """A match of iptables-nft; since 1.8.10 most are expressions of nftables instead."""
        name, info = expression.xtables, expression.info
        if name in _XT_INVERTED:
            protocol, flags_at = _XT_INVERTED[name]
            if len(info) <= flags_at:
                return
            self._found.require_protocols(frozenset({protocol}))
            first, last, first_to, last_to = struct.unpack_from("=4H", info)
            if not info[flags_at] & 1:
                self._found.require_ports("port source", range(first, last + 1))
            if not info[flags_at] & 2:
                self._found.require_ports("port destination", range(first_to, last_to + 1))
        elif name == b"multiport" and len(info) >= _XT_MULTIPORT_BYTES:
            where, count = info[0], min(info[1], 15)
            inverted, ranges = info[47], any(info[32 : 32 + count])
            if not inverted and not ranges and where in (0, 1, 2):
                ports = frozenset(struct.unpack_from(f"={count}H", info, 2))
                self._found.require_ports(f"multiport {where}", ports)


def _word(register: int) -> int:
    """The first word of 4 bytes: registers 1 to 4 have 16 bytes, those from 8 on have 4."""
    if register <= _REGISTER_OF_16_BYTES:
        return _REGISTERS_OF_4_BYTES + (register - 1) * 4
    return register


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _number(attributes: bytes, kind: int) -> int | None:
    found = next(tracking.values(attributes, kind), None)
    return None if found is None else int.from_bytes(found, "big")


def _data(attributes: bytes, kind: int) -> bytes:
    return next(tracking.values(attributes, kind, _NFTA_DATA_VALUE), b"")


def _interface(name: bytes) -> str:
    """A whole name; "" of a beginning of names ("wg*"), which has no NUL."""
    text, end, _ = name.partition(b"\0")
    return text.decode("ascii", "replace") if end else ""


def _prefix_bits(mask: bytes) -> int | None:
    """The length of the prefix whose mask this is; None of any other mask."""
    bits = int.from_bytes(mask, "big")
    length = bits.bit_count()
    whole = len(mask) * 8
    return length if bits == (1 << whole) - (1 << (whole - length)) else None
