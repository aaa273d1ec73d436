"""Network namespaces, links, addresses and routes for the tests, made by pyroute2.

All is done by rtnetlink, so a failure is an exception that names the request, and nothing is read
from text.  Functions that take no namespace work in that of the calling thread.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pyroute2 import IPRoute, netns

NETNS = Path("/run/netns")  # where ip-netns(8) keeps the names
_IFA_F_NODAD = 2  # linux/if_addr.h: the address can be used at once


def create(name: str) -> None:
    """A new namespace with the name `name`."""
    netns.create(name)


def delete(name: str) -> None:
    """Remove the name, if it is there; the namespace ends with its last process."""
    if (NETNS / name).exists():
        netns.remove(name)


def connect(name: str, peer: str, peer_namespace: str) -> None:
    """A veth pair: `name` here, `peer` in the namespace `peer_namespace`."""
    with IPRoute() as route:
        route.link(
            "add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": peer_namespace}
        )


def configure(name: str, *addresses: str) -> None:
    """Set `name` and the loopback up, with `addresses` such as "192.0.2.1/24"."""
    with IPRoute() as route:
        index = _index(route, name)
        for text in addresses:
            address = ipaddress.ip_interface(text)
            flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
            route.addr(
                "add",
                index=index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                **flags,
            )
        for each in (index, _index(route, "lo")):
            route.link("set", index=each, state="up")


def route_by(*gateways: str) -> None:
    """A default route by each of `gateways`, one for each family."""
    with IPRoute() as route:
        for gateway in gateways:
            default = "::/0" if ":" in gateway else "default"
            route.route("add", dst=default, gateway=gateway)


def _index(route: IPRoute, name: str) -> int:
    (index,) = route.link_lookup(ifname=name)
    return int(index)
