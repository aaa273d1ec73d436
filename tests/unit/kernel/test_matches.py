"""Matches of made rules: those that this machine's nft does not make, and those that lie."""

from __future__ import annotations

import struct

import pytest

from ctrecorder import uapi
from ctrecorder.kernel import matches, tracking
from ctrecorder.kernel.matches import Matches
from ctrecorder.kernel.tracking import BOTH, Expression
from tests.support.conntrack_messages import attribute, nested, number

IPV4 = frozenset({uapi.AF_INET})


def meta(key: int, register: int = 1) -> Expression:
    return Expression(b"meta", b"", number(2, key, 4) + number(1, register, 4))


def payload(base: int, offset: int, length: int, register: int = 1) -> Expression:
    numbers = {1: register, 2: base, 3: offset, 4: length}
    return Expression(b"payload", b"", b"".join(number(*each, 4) for each in numbers.items()))


def compare(value: bytes, operator: int = 0, register: int = 1) -> Expression:
    data = nested(3, attribute(1, value))
    return Expression(b"cmp", b"", number(1, register, 4) + number(2, operator, 4) + data)


def lookup(name: bytes, flags: int = 0) -> Expression:
    return Expression(b"lookup", b"", attribute(1, name) + number(2, 1, 4) + number(5, flags, 4))


UDP, PORT_53 = [meta(16), compare(b"\x11")], [payload(2, 2, 2), compare(b"\0\x35")]


def read(expressions: list[Expression], families: frozenset[int] = BOTH) -> Matches:
    sets = {
        b"ports": [(b"\0\x35", b"\0\x35"), (b"\0\x64", b"\0\x6e")],
        b"pairs": [(b"\0\x35\0\0\x0a\0\0\1", b"\0\x35\0\0\x0a\0\0\1")],
    }
    return matches.read(expressions, families, sets.get)


def xt(name: bytes, info: bytes) -> Expression:
    return Expression(b"match", name, info)


def test_udp_to_a_port() -> None:
    found = read(UDP + PORT_53)
    assert (found.protocols, found.ports(), found.families) == (
        frozenset({17}),
        frozenset({53}),
        BOTH,
    )


@pytest.mark.parametrize(
    "between",
    [
        [Expression(b"ct", b"", number(1, 1, 4))],  # it overwrites the register
        [Expression(b"immediate", b"", number(1, 8, 4))],
        [meta(3)],  # the mark
        [payload(2, 2, 4, register=8)],
        [payload(1, 4, 16)],
        [Expression(b"lookup", b"", attribute(1, b"ports") + number(2, 1, 4) + number(3, 1, 4))],
        [Expression(b"of a later kernel", b"", b"")],
    ],
)
def test_what_a_register_held_before_narrows_nothing(between: list[Expression]) -> None:
    load, check = PORT_53
    assert read([*UDP, load, *between, check]).ports() == frozenset()


def test_registers_of_4_bytes_lie_in_those_of_16() -> None:
    found = read([*UDP, payload(2, 2, 2, register=1), compare(b"\0\x35", register=8)])
    assert found.ports() == {53}
    other = [*UDP, payload(2, 2, 2, register=9), compare(b"\0\x35", register=1)]
    assert read(other).ports() == frozenset()


@pytest.mark.parametrize(
    ("rule", "ports"),
    [
        ([*UDP, payload(2, 2, 2), compare(b"\0\x35", operator=1)], set()),  # not 53
        ([*UDP, payload(2, 2, 2), lookup(b"ports")], {53, *range(100, 111)}),
        ([*UDP, payload(2, 2, 2), lookup(b"ports", flags=1)], set()),  # not in the set
        ([*UDP, payload(2, 2, 2), lookup(b"pairs")], set()),
        ([*UDP, payload(2, 2, 2), lookup(b"another")], set()),
        (PORT_53, set()),  # ICMP has its checksum there
        ([meta(16), compare(b"\x01"), *PORT_53], set()),
        ([*UDP, payload(2, 2, 2), compare(b"\0\x64", 5), compare(b"\0\x66", 3)], {100, 101, 102}),
        ([*UDP, payload(2, 2, 2), compare(b"\0\x64", 5), compare(b"\0\xff", 3)], set()),
        ([*UDP, payload(2, 0, 4), compare(b"\0\x35\0\x36")], {53}),
    ],
)
def test_ports(rule: list[Expression], ports: set[int]) -> None:
    assert read(rule).ports() == ports


def test_64_ports_are_listed_and_65_are_not() -> None:
    def up_to(last: int) -> frozenset[int]:
        info = struct.pack("=4HB7x", 0, 65535, 1, last, 0)
        return read([xt(b"udp", info)], IPV4).ports()

    assert up_to(64) == set(range(1, 65))
    assert up_to(65) == set()


@pytest.mark.parametrize(
    ("expression", "protocols", "ports"),
    [
        (xt(b"udp", struct.pack("=4HB7x", 0, 65535, 53, 53, 0)), {17}, {53}),
        (xt(b"udp", struct.pack("=4HB7x", 0, 65535, 53, 53, 2)), {17}, set()),
        (xt(b"udp", struct.pack("=4HB7x", 53, 53, 0, 65535, 2)), {17}, {53}),
        (xt(b"tcp", struct.pack("=4H4B", 0, 65535, 22, 23, 0, 0, 0, 0)), {6}, {22, 23}),
        (xt(b"tcp", struct.pack("=4H4B", 22, 22, 0, 65535, 0, 0, 0, 1)), {6}, set()),
        (xt(b"udp", b"cut"), set(), set()),
    ],
)
def test_matches_of_iptables_of_debian_12(
    expression: Expression, protocols: set[int], ports: set[int]
) -> None:
    found = read([expression], IPV4)
    assert (set(found.protocols), set(found.ports())) == (protocols, ports)


@pytest.mark.parametrize(
    ("where", "second_is_range", "inverted", "ports"),
    [(0, 0, 0, {53, 123}), (2, 0, 0, {53, 123}), (1, 1, 0, set()), (1, 0, 1, set())],
)
def test_multiport(where: int, second_is_range: int, inverted: int, ports: set[int]) -> None:
    info = struct.pack(
        "=BB15H15BB", where, 2, 53, 123, *[9] * 13, second_is_range, *[0] * 14, inverted
    )
    assert read([*UDP, xt(b"multiport", info)], IPV4).ports() == ports


def test_a_packet_that_the_rule_rewrites() -> None:
    rewrite = Expression(b"payload", b"", number(5, 1, 4) + number(2, 2, 4) + number(3, 2, 4))
    found = read([*UDP, *PORT_53, rewrite])
    assert (found.protocols, found.ports()) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    ("rule", "families", "networks"),
    [
        ([payload(1, 12, 1), compare(b"\x0a")], IPV4, {"10.0.0.0/8"}),
        ([payload(1, 16, 4), compare(b"\x0a\0\0\1")], IPV4, {"10.0.0.1/32"}),
        ([payload(1, 12, 4), compare(b"\x0a\0\0\1")], BOTH, set()),  # of IPv6 another field
        ([meta(15), compare(b"\2"), payload(1, 12, 1), compare(b"\x0a")], BOTH, {"10.0.0.0/8"}),
        ([payload(1, 14, 2), compare(b"\x0a\0")], IPV4, set()),  # the end of an address
    ],
)
def test_networks(rule: list[Expression], families: frozenset[int], networks: set[str]) -> None:
    assert read(rule, families).networks == networks


def test_an_extension_header_is_no_protocol() -> None:
    ipv6 = frozenset({uapi.AF_INET6})
    assert read([payload(1, 6, 1), compare(b"\x11")], ipv6).protocols == {17}
    assert read([payload(1, 6, 1), compare(b"\x2c")], ipv6).protocols == frozenset()


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ([meta(6), compare(b"lan\0")], {"lan"}),
        ([meta(7), compare(b"wan".ljust(16, b"\0"))], {"wan"}),
        ([meta(6), compare(b"wg")], set()),  # wg*
        ([meta(4), compare(struct.pack("=I", 1))], {"lo"}),
        ([meta(4), compare(struct.pack("=I", 2))], set()),
    ],
)
def test_interfaces(rule: list[Expression], names: set[str]) -> None:
    assert read(rule).interfaces == names


def test_ethertypes() -> None:
    assert read([meta(1), compare(b"\x86\xdd")]).families == {uapi.AF_INET6}
    assert read([meta(1), compare(b"\x81\0")]).families == BOTH


def test_notrack_of_iptables_by_its_data() -> None:
    for info, stops in ((b"\1\0\0\0", True), (b"\2\0\0\0", False)):
        expression = Expression(b"target", b"CT", info)
        assert tracking.is_notrack(expression) is stops
