"""Rules of nftables and of iptables-nft that keep packets from being tracked, or translate without
that: such NAT leaves no entry in the table, so it cannot be recorded.  So does Jool.

Which packets a rule stops is narrowed by the simple matches before its statement.  A match that is
not understood narrows nothing: what is read here is never less than what the rule hides.  Jumps to
a chain, the hook of a chain and verdicts before a rule are not read either, so that a rule in a
chain that no packet reaches is read as one that hides packets.

Rules of the legacy iptables are not listed by nftables; `tracking.legacy_tables` shows their table.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ctrecorder import uapi
from ctrecorder.errors import MessageError
from ctrecorder.kernel import matches, sockets, tracking
from ctrecorder.kernel.matches import MAX_PORTS, Matches
from ctrecorder.kernel.request import attribute

# More rules than this are read as one that is not narrowed: the state of a segment has to fit
# into a block of 64 KiB.
MAX_RULES = 32

_FAMILIES = {
    tracking.NFPROTO_INET: tracking.BOTH,
    uapi.AF_INET: frozenset({uapi.AF_INET}),
    uapi.AF_INET6: frozenset({uapi.AF_INET6}),
    # Packets that are not tracked on their way through a bridge or a device are not tracked later.
    tracking.NFPROTO_BRIDGE: tracking.BOTH,
    tracking.NFPROTO_NETDEV: tracking.BOTH,
}

# linux/netfilter/nf_tables.h
_NFT_MSG_GETSET, _NFT_MSG_GETSETELEM = 10 << 8 | 10, 10 << 8 | 13
_NFTA_RULE_TABLE = 1
_NFTA_SET_TABLE, _NFTA_SET_NAME, _NFTA_SET_FLAGS = 1, 2, 3
_NFT_SET_ANONYMOUS, _NFT_SET_CONSTANT, _NFT_SET_INTERVAL = 1, 2, 4
_NFTA_SET_ELEM_LIST_TABLE, _NFTA_SET_ELEM_LIST_SET, _NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
_NFTA_LIST_ELEM, _NFTA_SET_ELEM_KEY, _NFTA_SET_ELEM_FLAGS, _NFTA_DATA_VALUE = 1, 1, 3, 1
_NFT_SET_ELEM_INTERVAL_END = 1

# Names in the message of a rule that translates addresses without connection tracking: a `payload`
# expression may write them; SNPT and DNPT are targets of ip6tables.
STATELESS_NAT = (b"payload\0", b"SNPT\0", b"DNPT\0")
# The modules of Jool: NAT64 with state, and SIIT, which translates addresses one to one.
JOOL_MODULES = {"jool": "NAT64", "jool_siit": "SIIT"}
MODULES_FOLDER = "/sys/module"

_PREFIX_TARGETS = (b"SNPT", b"DNPT")
_NAMES = re.compile(b"|".join(map(re.escape, STATELESS_NAT)))


def _attribute(kind: int, value: bytes) -> bytes:
    """The pattern of a netlink attribute of 4 bytes."""
    return re.escape(struct.pack("=HH", 8, kind)) + value


# A payload expression that writes, as nft_payload_set_dump() in net/netfilter/nft_payload.c puts it
# into a message: NFTA_PAYLOAD_SREG, _BASE, _OFFSET, _LEN.  One that reads begins with _DREG.
_PAYLOAD_WRITE = re.compile(
    rb"payload\0...."
    + _attribute(5, rb"....")
    + _attribute(2, rb"\0\0\0(.)")
    + _attribute(3, rb"(....)")
    + _attribute(4, rb"(....)"),
    re.DOTALL,
)
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2  # NFT_PAYLOAD_*
_IPV4_ADDRESSES = range(12, 20)  # bytes of the header; a write of IPv4 has at most 8 bytes
_IPV6_ADDRESSES, _IPV6_BYTES = (8, 24), 16
_PORTS = range(4)


@dataclass(frozen=True)
class Untracked:
    """Packets that a rule keeps from being tracked.  None or empty: not narrowed by this.

    `family`: AF_INET or AF_INET6.  `protocols`: numbers.  `ports`, `networks` (prefixes as text),
    `interfaces` (names): one of them is at an end of the connection, or on the packet's way.
    """

    family: int | None = None
    protocols: tuple[int, ...] = ()
    ports: tuple[int, ...] = ()
    networks: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()

    def facts(self) -> dict[str, int | list[int] | list[str]]:
        """The narrowing members of a GAP, as in ctlog(5)."""
        found: dict[str, int | list[int] | list[str]] = {}
        if self.family is not None:
            found["family"] = self.family
        if self.protocols:
            found["protocols"] = list(self.protocols)
        if self.ports:
            found["ports"] = list(self.ports)
        if self.networks:
            found["networks"] = list(self.networks)
        if self.interfaces:
            found["interfaces"] = list(self.interfaces)
        return found


class Rules(NamedTuple):
    """What all rules do: `untracked`, without repeats, sorted.  `stateless`: one translates without
    connection tracking.
    """

    untracked: tuple[Untracked, ...]
    stateless: bool


def read() -> Rules:
    """What the rules of this network namespace do.

    Raises KernelError or MessageError if they cannot be read.
    """
    found: set[Untracked] = set()
    stateless = False
    for table_family in tracking.RULE_FAMILIES:
        families = _FAMILIES[table_family]
        sets = _Sets(table_family)
        for rule in sockets.ask(tracking.NFT_MSG_GETRULE, table_family):
            stateless = stateless or is_stateless_nat(rule)
            if len(found) <= MAX_RULES and tracking.STATEMENTS.search(rule):
                found |= _untracked(rule, families, sets)
    many = len(found) > MAX_RULES
    return Rules((Untracked(),) if many else tuple(sorted(found, key=repr)), stateless)


def _untracked(rule: bytes, families: frozenset[int], sets: _Sets) -> set[Untracked]:
    """What one rule hides: nothing, if it has no such statement."""
    try:
        table = next(tracking.values(rule, _NFTA_RULE_TABLE), b"")
        expressions = list(tracking.expressions(rule))
        stops = [tracking.is_notrack(each) for each in expressions]
        if not any(stops):
            return set()
        before = expressions[: stops.index(True)]
        found = matches.read(before, families, lambda name: sets.read(table, name))
    except MessageError:
        return {Untracked()}
    return {_narrowed(found)}


def _narrowed(found: Matches) -> Untracked:
    family = next(iter(found.families)) if len(found.families) == 1 else None
    return Untracked(
        family,
        tuple(sorted(found.protocols)),
        tuple(sorted(found.ports())),
        tuple(sorted(found.networks)),
        tuple(sorted(found.interfaces)),
    )


@dataclass
class _Sets:
    """Reads the constant sets that nft makes for { .. } in a rule; `table_family`: of its table."""

    table_family: int
    _constant: dict[tuple[bytes, bytes], bool] | None = None

    def read(self, table: bytes, name: bytes) -> list[tuple[bytes, bytes]] | None:
        """Ranges (first, last) of the keys of a set; None if it is another kind of set, or large.

        A named set is not read: packets can change it, and then no rule has changed.
        """
        if self._constant is None:
            self._constant = dict(_constant_sets(self.table_family))
        if (table, name) not in self._constant:
            return None
        wanted = attribute(_NFTA_SET_ELEM_LIST_TABLE, table)
        wanted += attribute(_NFTA_SET_ELEM_LIST_SET, name)
        elements: list[tuple[bytes, bool]] = []
        for part in sockets.ask(_NFT_MSG_GETSETELEM, self.table_family, wanted):
            elements += _elements(part)
            if len(elements) > 2 * MAX_PORTS:
                return None
        if not self._constant[table, name]:
            return [(key, key) for key, _ in elements]
        return _ranges(sorted(elements))


def _constant_sets(table_family: int) -> Iterator[tuple[tuple[bytes, bytes], bool]]:
    """Table and name of each set that never changes, and if it is one of ranges."""
    fixed = _NFT_SET_ANONYMOUS | _NFT_SET_CONSTANT
    for each in sockets.ask(_NFT_MSG_GETSET, table_family):
        flags = int.from_bytes(_one(each, _NFTA_SET_FLAGS), "big")
        if flags & fixed == fixed:
            key = _one(each, _NFTA_SET_TABLE), _one(each, _NFTA_SET_NAME)
            yield key, bool(flags & _NFT_SET_INTERVAL)


def _elements(attributes: bytes) -> Iterator[tuple[bytes, bool]]:
    """Key, and if it ends a range, of each element of an NFT_MSG_NEWSETELEM."""
    path = _NFTA_SET_ELEM_LIST_ELEMENTS, _NFTA_LIST_ELEM
    for element in tracking.values(attributes, *path):
        key = _one(element, _NFTA_SET_ELEM_KEY, _NFTA_DATA_VALUE)
        flags = int.from_bytes(_one(element, _NFTA_SET_ELEM_FLAGS), "big")
        yield key, bool(flags & _NFT_SET_ELEM_INTERVAL_END)


def _ranges(elements: list[tuple[bytes, bool]]) -> list[tuple[bytes, bytes]] | None:
    """Ranges (first, last) of the sorted elements of an interval set, whose ends are excluded."""
    found = []
    first: bytes | None = None
    for key, ends in elements:
        if not ends:
            if first is not None:
                return None
            first = key
        elif first is not None:
            last = int.from_bytes(key, "big") - 1
            found.append((first, last.to_bytes(len(key), "big")))
            first = None
    if first is not None:
        found.append((first, b"\xff" * len(first)))
    return found


def _one(attributes: bytes, *path: int) -> bytes:
    return next(tracking.values(attributes, *path), b"")


def is_stateless_nat(rule: bytes) -> bool:
    """If a rule, a message of NFT_MSG_NEWRULE, writes addresses or ports into packets."""
    if not _NAMES.search(rule):
        return False
    if any(b"\0" + name + b"\0" in rule for name in _PREFIX_TARGETS):
        return True
    for write in _PAYLOAD_WRITE.finditer(rule):
        base = write[1][0]
        offset, length = (int.from_bytes(write[group], "big") for group in (2, 3))
        if base == _TRANSPORT_HEADER and offset in _PORTS:
            return True
        if base == _NETWORK_HEADER and length == _IPV6_BYTES and offset in _IPV6_ADDRESSES:
            return True
        if base == _NETWORK_HEADER and length < _IPV6_BYTES and offset in _IPV4_ADDRESSES:
            return True
    return False


def jool() -> Iterator[str]:
    """The translators of Jool whose module is loaded."""
    for module, what_it_is in JOOL_MODULES.items():
        if os.path.isdir(os.path.join(MODULES_FOLDER, module)):
            yield f"Jool's {what_it_is} (its module is loaded)"
