"""Queries: which rows of a table match, and which blocks cannot contain a match.

A query is a time window, protocols, events and terms; a row matches if all of them match.  A term
matches if one of its endpoints, an address and a port column each, is in its networks and ports.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Array, Event, Table, bits
from ctrecorder.ctlog.decoder import LazyTable, address_within
from ctrecorder.ctlog.index import Bound
from ctrecorder.errors import UsageError
from ctrecorder.times import BEGIN, END

Bools = NDArray[np.bool_]

ORIG_SRC, ORIG_DST = ("orig_src", "orig_sport"), ("orig_dst", "orig_dport")
REPLY_SRC, REPLY_DST = ("reply_src", "reply_sport"), ("reply_dst", "reply_dport")
ALL_ENDPOINTS = (ORIG_SRC, ORIG_DST, REPLY_SRC, REPLY_DST)
_ICMP = (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6)
HAPPENED = frozenset((Event.NEW, Event.UPDATE, Event.DESTROY))
EVERY_EVENT = frozenset(Event)


@dataclass(frozen=True)
class Network:
    """A prefix: addresses from `low` to `high`, inclusive, 4 or 16 bytes in network order."""

    family: int
    low: bytes
    high: bytes


@dataclass(frozen=True)
class Term:
    """Matches a row if one of `endpoints` has an address in `networks` and a port in `ports`.

    Empty `networks` match any address, empty `ports` any port.  `ports`: inclusive ranges.
    """

    networks: tuple[Network, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    endpoints: tuple[tuple[str, str], ...] = ALL_ENDPOINTS


class Bounds(Protocol):
    """Bounds of the columns of a block, from its index."""

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""

    def get(self, name: str) -> Bound | None:
        """Bounds of the column's values; None: unknown."""


class Addresses(Protocol):
    """The addresses of a segment: a `bloom.Bloom`."""

    def may_hold(self, address: bytes) -> bool:
        """Whether `address`, 4 or 16 bytes in network order, can be one of them."""


@dataclass(frozen=True)
class Query:
    """A query.

    since, until: ns; `since` is inclusive, `until` exclusive.
    protocols: empty matches any protocol.
    events: the events to match; not used for connections.
    terms: all of them must match.
    connections: the rows are connections.  Those that existed at some time in the window match.
    """

    since: int = BEGIN
    until: int = END
    protocols: frozenset[int] = frozenset()
    events: frozenset[int] = HAPPENED
    terms: tuple[Term, ...] = ()
    connections: bool = False

    def __post_init__(self) -> None:
        if self.until <= self.since:
            raise UsageError("the time window ends before it begins: see --since and --until")

    @property
    def narrow(self) -> bool:
        """Whether rows are selected by more than time and event."""
        return bool(self.protocols or self.terms)

    def of_connections(self) -> Query:
        """This query for connections."""
        return replace(self, connections=True)

    def of_flows(self) -> Query:
        """This query without window and events: all rows of the flows, which pairing needs."""
        return replace(self, since=BEGIN, until=END, events=EVERY_EVENT)

    @property
    def names_addresses(self) -> bool:
        """Whether a term has only single addresses, so `may_contain_addresses` can be False."""
        return any(_single(term) for term in self.terms)

    def may_contain_addresses(self, addresses: Addresses) -> bool:
        """Whether a segment with these addresses can contain a match."""
        return all(
            any(addresses.may_hold(network.low) for network in term.networks)
            for term in self.terms
            if _single(term)
        )

    def may_contain_time(self, time_min: int, time_max: int) -> bool:
        """Whether a block of these times can contain a match.

        A connection without an end can exist after the `time_max` of its block.
        """
        return time_min < self.until and (self.connections or time_max >= self.since)

    def may_contain(self, bounds: Bounds) -> bool:
        """Whether a block of these bounds can contain a match."""
        if self.protocols and not _may_be_in(
            bounds.get("l4proto"), [(number, number) for number in self.protocols]
        ):
            return False
        if self.connections:
            end = bounds.get("end") if self.since > BEGIN else None
            if end is not None and not _may_be_in(end, [(0, 0), (self.since, END)]):
                return False
        elif not _may_be_in(bounds.get("event"), [(number, number) for number in self.events]):
            return False
        return all(
            any(_endpoint_may_contain(bounds, term, endpoint) for endpoint in term.endpoints)
            for term in self.terms
        )

    def columns_needed(self) -> Iterable[str]:
        """The columns that `evaluate` reads."""
        names = [] if self.connections else ["event"]
        if self.since > BEGIN or self.until < END:
            names += ["start", "end"] if self.connections else ["time"]
        if self.protocols or any(term.ports for term in self.terms):
            names.append("l4proto")
        for term in self.terms:
            names += [address for address, _ in term.endpoints] if term.networks else []
            names += [port for _, port in term.endpoints] if term.ports else []
            names += ["present"] if _with_port_0(term) else []
        return dict.fromkeys(names)

    def evaluate(self, table: Table | LazyTable) -> Bools:
        """(rows,): which rows match."""
        matches: Bools | None = None
        for term in self.terms:
            matches = _and(matches, _matches_term(table, term))
        if matches is not None and isinstance(table, LazyTable):
            # The rest of the query reads its columns only in the rows that match the terms.
            rows = np.flatnonzero(matches)
            if len(rows):
                matches[rows] = replace(self, terms=()).evaluate(table.take(rows))
            return matches
        if self.protocols:
            matches = _and(matches, _is_in(table["l4proto"], self.protocols))
        matches = _and(matches, self._existed(table) if self.connections else self._happened(table))
        return np.ones(len(table), np.bool_) if matches is None else matches

    def _happened(self, table: Table | LazyTable) -> Bools | None:
        """(rows,): events of the wanted kinds in the window; None: all rows."""
        matches: Bools | None = None
        if self.since > BEGIN or self.until < END:
            time = table["time"]
            matches = (time >= self.since) & (time < self.until)
        if self.events != EVERY_EVENT:
            matches = _and(matches, _is_in(table["event"], self.events))
        return matches

    def _existed(self, table: Table | LazyTable) -> Bools | None:
        """(rows,): connections that existed in the window; None: all rows.

        A connection without an end still exists; of one without a start only its end is known.
        """
        if self.since <= BEGIN and self.until >= END:
            return None
        start, end = table["start"], table["end"]
        began = np.where(start == 0, end, start) < self.until
        matches: Bools = began & ((end == 0) | (end >= self.since))
        return matches


def _single(term: Term) -> bool:
    """Whether its networks are single addresses."""
    return bool(term.networks) and all(network.low == network.high for network in term.networks)


@overload
def _and(first: Bools | None, second: Bools) -> Bools: ...
@overload
def _and(first: Bools | None, second: Bools | None) -> Bools | None: ...
def _and(first: Bools | None, second: Bools | None) -> Bools | None:
    """Intersection of two masks; None stands for all rows."""
    return second if first is None else first if second is None else first & second


def _is_in(values: Array, wanted: Iterable[int]) -> Bools:
    """(n,): which of `values`, (n,) of u8, are in `wanted`."""
    chosen = np.zeros(256, np.bool_)
    chosen[list(wanted)] = True
    found: Bools = chosen[values]
    return found


def _with_port_0(term: Term) -> bool:
    """Whether port 0 matches: rows without ports have it too, so `present` must be read."""
    return any(low == 0 for low, _ in term.ports)


def _matches_term(table: Table | LazyTable, term: Term) -> Bools:
    """(rows,): which rows match the term."""
    networks = [network for network in term.networks if network.family == table.family]
    found = np.zeros(len(table), np.bool_)
    if term.networks and not networks:
        return found
    for address, port in term.endpoints:
        if not term.ports:
            found |= _in_networks(table, address, networks) if networks else True
            continue
        # Few rows have a port: addresses are read only there.
        rows = np.flatnonzero(_in_ports(table, port, term))
        if networks and len(rows):
            rows = rows[_in_networks(_part(table, address, rows), address, networks)]
        found[rows] = True
    if term.ports:  # the port columns of ICMP hold other numbers
        rows = np.flatnonzero(found)
        if len(rows):
            found[rows] = ~_is_in(table["l4proto"][rows], _ICMP)
    return found


def _part(table: Table | LazyTable, name: str, rows: NDArray[np.intp]) -> Table | LazyTable:
    """Some rows of column `name`."""
    if isinstance(table, LazyTable):
        return table.take(rows)
    return Table(table.family, len(rows), {name: table[name][rows]})


def _in_ports(table: Table | LazyTable, name: str, term: Term) -> Bools:
    """(rows,): whether the port in column `name` is one of the term."""
    ports = table[name]
    found = _any(
        ports == low if low == high else (ports >= low) & (ports <= high)
        for low, high in term.ports
    )
    if _with_port_0(term):
        found &= (table["present"] & np.uint32(bits([name]))) != 0
    return found


def _in_networks(table: Table | LazyTable, name: str, networks: Iterable[Network]) -> Bools:
    """(rows,): whether the address in column `name` is in one of `networks`."""
    return _any(_in_network(table, name, network) for network in networks)


def _any(masks: Iterable[Bools]) -> Bools:
    """Union of at least one mask."""
    first, *others = masks
    for mask in others:
        first = first | mask
    return first


def _in_network(table: Table | LazyTable, name: str, network: Network) -> Bools:
    """(rows,): whether the address in column `name` is in `network`, of the table's family."""
    if isinstance(table, LazyTable):
        return table.address_mask(name, network.low, network.high)
    return address_within(table[name], network.low, network.high)


def _endpoint_may_contain(bounds: Bounds, term: Term, endpoint: tuple[str, str]) -> bool:
    """Whether one endpoint of a term can match in a block."""
    address, port = endpoint
    if term.networks:
        ranges = [_as_values(each) for each in term.networks if each.family == bounds.family]
        if not ranges or not _may_be_in(bounds.get(address), ranges):
            return False
    return not term.ports or _may_be_in(bounds.get(port), term.ports)


def _as_values(network: Network) -> tuple[int | bytes, int | bytes]:
    """The first and the last address of a network as values of an address column."""
    if network.family == uapi.AF_INET:
        return int.from_bytes(network.low, "big"), int.from_bytes(network.high, "big")
    return network.low, network.high


def _may_be_in(bound: Bound | None, ranges: Iterable[tuple[int | bytes, int | bytes]]) -> bool:
    """Whether a value within `bound` can be in one of the inclusive `ranges`."""
    if bound is None:
        return True
    return any(
        _overlap(bound.low, bound.high, low, high)
        and (not bound.parts or _any_part(bound.parts, low, high))
        for low, high in ranges
    )


def _overlap(first: int | bytes, last: int | bytes, low: int | bytes, high: int | bytes) -> bool:
    """Whether first..last and low..high overlap.

    All four are numbers, or addresses of 16 bytes, of which numpy may have cut trailing NULs.
    """
    if (
        isinstance(first, bytes)
        and isinstance(last, bytes)
        and isinstance(low, bytes)
        and isinstance(high, bytes)
    ):
        return first.ljust(16, b"\0") <= high and last.ljust(16, b"\0") >= low
    return int(first) <= int(high) and int(last) >= int(low)


def _any_part(parts: tuple[Array, ...], low: int | bytes, high: int | bytes) -> bool:
    """Whether a value of the sorted `parts` is in low..high."""
    return any(
        np.searchsorted(part, part.dtype.type(low))
        < np.searchsorted(part, part.dtype.type(high), side="right")
        for part in parts
    )
