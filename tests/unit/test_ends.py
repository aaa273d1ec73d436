"""The ends of flows, against a slow evaluation of the table in the module's docstring."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ctrecorder import ends, uapi
from ctrecorder.columns import TUPLE, Array, Table, bits
from ctrecorder.ends import Inside, Kind

LAN, WAN, FAR, SERVER = "192.168.1.5", "203.0.113.1", "198.51.100.9", "192.168.1.80"
REMOTE_2 = "198.51.100.77"
TCP, ICMP = 6, 1


def table(*flows: tuple[int, str, int, str, int, str, int, str, int], family: int = 2) -> Table:
    """Flows: protocol, then source and destination of both directions, each with its port."""
    columns: dict[str, Array] = {
        "l4proto": np.array([flow[0] for flow in flows], np.uint8),
        "present": np.full(len(flows), bits(TUPLE), np.uint32),
    }
    for number, name in enumerate(("orig_src", "orig_dst", "reply_src", "reply_dst")):
        packed = [ipaddress.ip_address(flow[1 + 2 * number]).packed for flow in flows]
        columns[name] = (
            np.array([int.from_bytes(one, "big") for one in packed], "<u4")
            if family == uapi.AF_INET
            else np.frombuffer(b"".join(packed), "S16")
        )
        side, _, end = name.partition("_")
        columns[f"{side}_{end[0]}port"] = np.array([flow[2 + 2 * number] for flow in flows], "<u2")
    return Table(family, len(flows), columns)


def shown(address: Any, port: Any, has: Any) -> str:
    return f"{ipaddress.ip_address(int(address))}:{port}" if has else "-"


def of(one: Table, inside: Inside | None = None) -> list[tuple[Kind, str, str, str, bool]]:
    """Kind, inside, public, remote, translated of each row, of IPv4."""
    found = ends.ends_of(one, inside or Inside())
    return [
        (
            Kind(int(found.kind[row])),
            shown(found.inside[row], found.inside_port[row], found.has_inside[row]),
            shown(found.public[row], found.public_port[row], found.has_public[row]),
            shown(found.remote[row], found.remote_port[row], found.has_remote[row]),
            bool(found.translated[row]),
        )
        for row in range(len(one))
    ]


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        pytest.param(
            (TCP, LAN, 4000, FAR, 443, FAR, 443, WAN, 1024),
            (Kind.OUT, f"{LAN}:4000", f"{WAN}:1024", f"{FAR}:443", True),
            id="SNAT",
        ),
        pytest.param(
            (TCP, FAR, 5000, WAN, 80, SERVER, 8080, FAR, 5000),
            (Kind.IN, f"{SERVER}:8080", f"{WAN}:80", f"{FAR}:5000", True),
            id="DNAT: the caller is the remote end",
        ),
        pytest.param(
            (TCP, FAR, 5000, WAN, 80, SERVER, 8080, "192.168.1.1", 6000),
            (Kind.IN, f"{SERVER}:8080", f"{WAN}:80", f"{FAR}:5000", True),
            id="DNAT and SNAT: still the caller",
        ),
        pytest.param(
            (TCP, LAN, 4000, WAN, 80, SERVER, 8080, "192.168.1.1", 4000),
            (Kind.WITHIN, f"{LAN}:4000", "192.168.1.1:4000", "-", True),
            id="hairpin: both ends are inside",
        ),
        pytest.param(
            (TCP, LAN, 4000, SERVER, 22, SERVER, 22, LAN, 4000),
            (Kind.WITHIN, f"{LAN}:4000", "-", "-", False),
            id="within",
        ),
        pytest.param(
            (TCP, FAR, 5000, REMOTE_2, 22, REMOTE_2, 22, FAR, 5000),
            (Kind.THROUGH, "-", "-", "-", False),
            id="neither end is inside",
        ),
        pytest.param(
            (TCP, LAN, 4000, "192.168.1.1", 53, FAR, 53, WAN, 1024),
            (Kind.OUT, f"{LAN}:4000", f"{WAN}:1024", f"{FAR}:53", True),
            id="sent elsewhere: an inside address is no remote end",
        ),
        pytest.param(
            (TCP, LAN, 4000, FAR, 443, FAR, 443, LAN, 4000),
            (Kind.OUT, f"{LAN}:4000", "-", f"{FAR}:443", False),
            id="not translated: an inside address is no public end",
        ),
        pytest.param(
            (TCP, LAN, 4000, FAR, 443, FAR, 443, LAN, 4001),
            (Kind.OUT, f"{LAN}:4000", f"{LAN}:4001", f"{FAR}:443", True),
            id="only the port is translated",
        ),
        pytest.param(
            (ICMP, LAN, 77, FAR, 8 << 8, FAR, 9999, WAN, 0),
            (Kind.OUT, f"{LAN}:0", f"{WAN}:0", f"{FAR}:0", True),
            id="the id of ICMP is no port",
        ),
        pytest.param(
            (ICMP, LAN, 77, FAR, 8 << 8, FAR, 77, LAN, 0),
            (Kind.OUT, f"{LAN}:0", "-", f"{FAR}:0", False),
            id="ICMP's type differs between the directions without NAT",
        ),
    ],
)
def test_ends(flow: Any, expected: Any) -> None:
    assert of(table(flow)) == [expected]


def test_a_public_address_of_our_own_is_inside_and_public() -> None:
    flow = (TCP, "203.0.113.9", 4000, FAR, 443, FAR, 443, "203.0.113.9", 4000)
    inside = Inside([*ends.NETWORKS, "203.0.113.0/24"])
    own = "203.0.113.9:4000"
    assert of(table(flow), inside) == [(Kind.OUT, own, own, f"{FAR}:443", False)]


def test_without_a_reply_tuple_there_is_no_nat() -> None:
    one = table((TCP, LAN, 4000, FAR, 443, "0.0.0.0", 0, "0.0.0.0", 0))
    one.columns["present"] = np.full(1, bits(("l4proto", "orig_src", "orig_dst")), np.uint32)
    assert of(one) == [(Kind.OUT, f"{LAN}:4000", "-", f"{FAR}:443", False)]


def test_ipv6() -> None:
    found = ends.ends_of(
        table(
            (TCP, "fd00::5", 1, "2001:db8::1", 2, "2001:db8::1", 2, "2001:db8:f::1", 9),
            (TCP, "2001:db8::1", 1, "fd00::5", 2, "fd00::5", 2, "2001:db8::1", 1),
            family=uapi.AF_INET6,
        ),
        Inside(),
    )
    assert found.kind.tolist() == [Kind.OUT, Kind.IN]
    assert found.public[:1].tobytes() == ipaddress.ip_address("2001:db8:f::1").packed
    assert found.has_public.tolist() == [True, False]


def test_contains_as_ipaddress_does() -> None:
    random = np.random.default_rng(1)
    networks = [ipaddress.ip_network(name) for name in ends.NETWORKS]
    edges = [
        int(edge) + step
        for network in networks
        if network.version == 4
        for edge in (network[0], network[-1])
        for step in (-1, 0, 1)
    ]
    numbers: NDArray[np.uint32] = np.array([*edges, *random.integers(0, 2**32, 500)], "<u4")
    expected = [
        any(ipaddress.ip_address(int(one)) in network for network in networks) for one in numbers
    ]
    assert Inside().contains(numbers, uapi.AF_INET).tolist() == expected


@pytest.mark.parametrize("address", ["fc00::", "fdff:ffff::ffff", "fe80::1", "::1", "10.0.0.0"])
def test_inside_addresses(address: str) -> None:
    assert ends.is_inside(address)


@pytest.mark.parametrize("address", ["::", "fe00::1", "fbff::1", "2001:db8::", "172.32.0.0"])
def test_other_addresses(address: str) -> None:
    assert not ends.is_inside(address)


def test_nothing_is_inside_of_no_network() -> None:
    assert of(table((TCP, LAN, 1, FAR, 2, FAR, 2, LAN, 1)), Inside([]))[0][0] == Kind.THROUGH
