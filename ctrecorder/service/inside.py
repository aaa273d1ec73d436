"""The networks that are inside: the setting, or else the private ones and this router's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from ctrecorder.declared.values import networks as parse_networks
from ctrecorder.ends import NETWORKS
from ctrecorder.service.config import Configuration

_IPV4, _IPV6 = "/proc/net/route", "/proc/net/ipv6_route"
# Flags of a route in the kernel's tables: it is up; it leads to another router.
_UP, _GATEWAY = 0x1, 0x2

Route = tuple[str, "ipaddress.IPv4Network | ipaddress.IPv6Network", bool]  # interface, to, gateway


def networks(config: Configuration) -> tuple[str, ...]:
    """The networks that are inside."""
    written = config.written["record"].get("inside", "")
    return parse_networks(written) or (*NETWORKS, *own_networks())


def own_networks(*, certain: bool = False) -> list[str]:
    """The networks of this machine's interfaces that have no default route.  Link-local and
    multicast ones, and those of a single address, are left out.

    `certain`: none if there is no default route, because any interface can then lead outside.
    """
    routes = [*_routes4(), *_routes6()]
    outward = {interface for interface, network, _ in routes if not network.prefixlen}
    if certain and not outward - {"lo"}:  # the kernel has unreachable ones there
        return []
    return [
        str(network)
        for interface, network, gateway in routes
        if interface not in outward
        and interface != "lo"
        and not gateway
        and network.prefixlen < network.max_prefixlen
        and not network.is_link_local
        and not network.is_multicast
    ]


def _routes4() -> Iterator[Route]:
    for words in _lines(_IPV4):
        interface, target, _, flags, *_, mask = words[:8]
        if int(flags, 16) & _UP:
            numbers = (bytes.fromhex(each)[::-1] for each in (target, mask))
            address, netmask = map(ipaddress.IPv4Address, numbers)
            network = ipaddress.IPv4Network(f"{address}/{netmask}")
            yield interface, network, bool(int(flags, 16) & _GATEWAY)


def _routes6() -> Iterator[Route]:
    for words in _lines(_IPV6):
        target, length, *_, flags, interface = words[:10]
        if int(flags, 16) & _UP:
            network = ipaddress.IPv6Network((bytes.fromhex(target), int(length, 16)))
            yield interface, network, bool(int(flags, 16) & _GATEWAY)


def _lines(path: str) -> Iterator[list[str]]:
    """The words of each line of a table of the kernel; of none if it has no such family."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) >= 8 and words[0] != "Iface":
            yield words
