"""The three ends of a flow: inside, public and remote; and which addresses are inside ones.

    kind      inside       public                      remote
    OUT       orig_src     reply_dst                   orig_dst; reply_src if that is inside
    IN        reply_src    orig_dst                    orig_src (the caller, also behind DNAT)
    WITHIN    orig_src     reply_dst if translated     none: both ends are inside
    THROUGH   none         reply_dst if translated     none: neither end is inside

The ends of a flow are orig_src and reply_src: where its packets begin and where they are answered.
A public end is one that is translated, or whose address has a meaning outside (none of `NETWORKS`):
a host inside can have a public address itself.  A flow whose reply tuple was not recorded counts as
one without NAT.  Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import TUPLE, Array, Table, bit

Mask = NDArray[np.bool_]
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 1918, RFC 6598, RFC 4193; loopback and link-local.  Not ipaddress.is_private, which also has
# the addresses for documentation.
NETWORKS = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *("127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128"),
)
# The bits of the ends, of rows without a source, and of rows without a destination.
_CALLED = np.uint32(bit("orig_dst") | bit("reply_src"))
_CALLS = np.uint32(bit("orig_src") | bit("reply_dst"))
_ENDS = _CALLED | _CALLS
# What `ends_of` reads.
COLUMNS = (*TUPLE, "present")


class Kind(IntEnum):
    """Which ends of a flow are inside."""

    THROUGH = 0  # neither
    OUT = 1  # the source
    IN = 2  # the destination
    WITHIN = 3  # both


class Inside:
    """The addresses that are inside; `networks`: as text."""

    def __init__(self, networks: Iterable[str | IpNetwork] = NETWORKS) -> None:
        """Raises ValueError if a text is no network."""
        found = [ipaddress.ip_network(network, strict=False) for network in networks]
        self.networks = tuple(map(str, found))
        v4 = [one for one in found if isinstance(one, ipaddress.IPv4Network)]
        v6 = [one for one in found if isinstance(one, ipaddress.IPv6Network)]
        self._bounds = {
            uapi.AF_INET: _bounds(ipaddress.collapse_addresses(v4), uapi.AF_INET),
            uapi.AF_INET6: _bounds(ipaddress.collapse_addresses(v6), uapi.AF_INET6),
        }

    def contains(self, addresses: Array, family: int) -> Mask:
        """(n,) bool: which of the addresses, (n,) as in a column of `family`, are inside."""
        low, high = self._bounds[family]
        if not len(low):
            return np.zeros(len(addresses), np.bool_)
        before = np.searchsorted(low, addresses, "right") - 1
        found: Mask = (before >= 0) & (addresses <= high[before])
        return found


def is_inside(address: str) -> bool:
    """Whether `address` has no meaning outside of its network.  ValueError: it is no address."""
    one = ipaddress.ip_address(address)
    family = uapi.AF_INET if one.version == 4 else uapi.AF_INET6
    return bool(_private().contains(_column([one.packed], family), family)[0])


@cache
def _private() -> Inside:
    return Inside()


class Ends(NamedTuple):
    """The ends of the n rows of a table, (n,) each.

    `kind`: uint8, a `Kind`.
    `inside`, `public`, `remote`: addresses as in the table's columns; `has_...`: which rows have
    that end, the others contain no meaning.
    `..._port`: uint16.  ICMP has no ports: 0.
    `omitted`: the remote end was left out: of THROUGH, the destination.
    `translated`: the public end differs from the inside end, or THROUGH from the source: NAT.
    `target_translated`: who answers differs from who was called.
    `far`, `far_port`: the other end as the source called it; of WITHIN and THROUGH the only
    destination, orig_dst.
    """

    kind: NDArray[np.uint8]
    inside: Array
    inside_port: Array
    has_inside: Mask
    public: Array
    public_port: Array
    has_public: Mask
    remote: Array
    remote_port: Array
    has_remote: Mask
    omitted: Mask
    translated: Mask
    target_translated: Mask
    far: Array
    far_port: Array


def ends_of(table: Table, inside: Inside) -> Ends:
    """The ends of the rows of `table`, which has `COLUMNS`."""
    family = table.family
    orig_src, orig_dst = table["orig_src"], table["orig_dst"]
    # Where the remote end is left out, one of both is known.
    source_known = (table["present"] & np.uint32(bit("reply_src"))) != 0
    known = (table["present"] & np.uint32(bit("reply_dst"))) != 0
    reply_src = np.where(source_known, table["reply_src"], orig_dst)
    reply_dst = np.where(known, table["reply_dst"], orig_src)
    is_icmp = np.isin(table["l4proto"], (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6))
    # Of ICMP the id can be translated: it is the source's port column of both tuples.
    answered_id = np.where(source_known, table["reply_sport"], table["orig_sport"])
    reply_sport = np.where(source_known, table["reply_sport"], table["orig_dport"])
    reply_dport = np.where(known, table["reply_dport"], table["orig_sport"])
    source_nat = (orig_src != reply_dst) | (
        table["orig_sport"] != np.where(is_icmp, answered_id, reply_dport)
    )
    target_nat = (orig_dst != reply_src) | (~is_icmp & (table["orig_dport"] != reply_sport))
    # Where the remote end is left out, the recorder knew what is inside.
    called = (table["present"] & _ENDS) == _CALLED
    calls = (table["present"] & _ENDS) == _CALLS
    source_in = inside.contains(orig_src, family) & ~called
    target_in = inside.contains(reply_src, family) & ~calls | called
    inbound = target_in & ~source_in
    outbound = source_in & ~target_in
    translated = np.where(inbound, target_nat, source_nat)
    public = np.where(inbound, orig_dst, reply_dst)
    called_inside = outbound & inside.contains(orig_dst, family)
    zero = np.uint16(0)
    return Ends(
        kind=source_in.astype(np.uint8) | target_in.astype(np.uint8) << np.uint8(1),
        inside=np.where(inbound, reply_src, orig_src),
        inside_port=np.where(is_icmp, zero, np.where(inbound, reply_sport, table["orig_sport"])),
        has_inside=source_in | target_in,
        public=public,
        public_port=np.where(is_icmp, zero, np.where(inbound, table["orig_dport"], reply_dport)),
        has_public=translated | (outbound | inbound) & ~_private().contains(public, family),
        remote=np.where(inbound, orig_src, np.where(called_inside, reply_src, orig_dst)),
        remote_port=np.where(
            is_icmp,
            zero,
            np.where(
                inbound,
                table["orig_sport"],
                np.where(called_inside, reply_sport, table["orig_dport"]),
            ),
        ),
        has_remote=(inbound | outbound) & ~called & ~calls,
        omitted=called | calls,
        translated=translated,
        target_translated=target_nat,
        far=np.where(inbound, orig_src, orig_dst),
        far_port=np.where(
            is_icmp, zero, np.where(inbound, table["orig_sport"], table["orig_dport"])
        ),
    )


def _bounds(networks: Iterable[IpNetwork], family: int) -> tuple[Array, Array]:
    """The first and last addresses of disjoint networks, ascending, (k,) each."""
    ends = sorted((network[0].packed, network[-1].packed) for network in networks)
    return (
        _column([first for first, _ in ends], family),
        _column([last for _, last in ends], family),
    )


def _column(addresses: list[bytes], family: int) -> Array:
    """Addresses as a column of `family`."""
    if family == uapi.AF_INET:
        return np.array([int.from_bytes(one, "big") for one in addresses], "<u4")
    return np.frombuffer(b"".join(addresses), "S16")
