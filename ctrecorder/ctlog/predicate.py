"""Queries: which rows of a table match, and which blocks cannot contain a match.

A query is a time window, protocols, events and conditions; a row matches if all of them match.  A
`Term` is the condition that one of its endpoints, an address and a port column each, is in its
networks and ports; `filters` has others.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Array, Event, Table, address_within, bits
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.index import Bound, may_be_in
from ctrecorder.errors import UsageError
from ctrecorder.times import BEGIN, END

Bools = NDArray[np.bool_]

ORIG_SRC, ORIG_DST = ("orig_src", "orig_sport"), ("orig_dst", "orig_dport")
REPLY_SRC, REPLY_DST = ("reply_src", "reply_sport"), ("reply_dst", "reply_dport")
ALL_ENDPOINTS = (ORIG_SRC, ORIG_DST, REPLY_SRC, REPLY_DST)
_ICMP = (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6)
HAPPENED = frozenset((Event.NEW, Event.UPDATE, Event.DESTROY))
EVERY_EVENT = frozenset(Event)
_FEW_NETWORKS = 4  # of more, bisection is faster than to compare a column with each of them
_MOST_LOOKED_UP = 64  # of more addresses, the filter of a segment contains one by chance


@dataclass(frozen=True)
class Network:
    """A prefix: addresses from `low` to `high`, inclusive, 4 or 16 bytes in network order."""

    family: int
    low: bytes
    high: bytes


class Bounds(Protocol):
    """Bounds of the columns of a block, from its index; `family`: AF_INET or AF_INET6."""

    @property
    def family(self) -> int: ...

    def get(self, name: str) -> Bound | None:
        """Bounds of the column's values; None: unknown."""


class Addresses(Protocol):
    """The addresses of a segment: a `bloom.Bloom`."""

    def may_hold(self, address: bytes) -> bool:
        """Whether `address`, 4 or 16 bytes in network order, can be one of them."""


class Condition(Protocol):
    """What rows are selected by, and what is skipped for it."""

    @property
    def names_addresses(self) -> bool:
        """Whether it has single addresses, so `may_hold` can be False."""

    def may_hold(self, addresses: Addresses) -> bool:
        """Whether a segment with these addresses can contain a match."""

    def may_contain(self, bounds: Bounds) -> bool:
        """Whether a block of these bounds can contain a match."""

    def columns(self) -> Iterable[str]:
        """The columns that `mask` reads."""

    def mask(self, table: Table | LazyTable) -> Bools:
        """(rows,): which rows match."""

    def of_flow(self) -> Condition | None:
        """What all events of a flow have if its connection matches; None: nothing is known."""


class AddressRanges:
    """Many networks of a family as ascending ranges that do not touch.

    `lows`, `highs`: (n,) the first and last addresses, of the type of an address column.
    """

    def __init__(self, networks: Iterable[Network], family: int) -> None:
        found = sorted((each.low, each.high) for each in networks if each.family == family)
        merged: list[list[bytes]] = []
        for low, high in found:
            if merged and low <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        kind = ">u4" if family == uapi.AF_INET else "S16"
        ranges: Array = np.frombuffer(b"".join(map(b"".join, merged)), kind).reshape(-1, 2)
        ranges = ranges.astype("<u4") if family == uapi.AF_INET else ranges
        self.lows, self.highs = ranges[:, 0].copy(), ranges[:, 1].copy()

    def hold(self, addresses: Array) -> Bools:
        """(n,): which of `addresses`, (n,), are in one of them."""
        index = np.searchsorted(self.lows, addresses, side="right") - 1
        found: Bools = (index >= 0) & (addresses <= self.highs[index])
        return found

    def may_be_in(self, bound: Bound | None) -> bool:
        """Whether a value within `bound` can be in one of them."""
        if bound is None:
            return True
        ends: Array = np.array([bound.low, bound.high], self.lows.dtype)
        first = np.searchsorted(self.lows, ends[1:], side="right")[0]
        if not first or not (self.highs[first - 1 : first] >= ends[:1])[0]:
            return False
        return not bound.parts or any(
            (np.searchsorted(part, self.lows) < np.searchsorted(part, self.highs, "right")).any()
            for part in bound.parts
        )


@dataclass(frozen=True)
class Term:
    """Matches a row if one of `endpoints` has an address in `networks` and a port in `ports`.

    Empty `networks` match any address, empty `ports` any port.  `ports`: inclusive ranges.
    """

    networks: tuple[Network, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    endpoints: tuple[tuple[str, str], ...] = ALL_ENDPOINTS

    @cached_property
    def ranges(self) -> dict[int, AddressRanges]:
        """The networks of each family as ranges."""
        return {family: AddressRanges(self.networks, family) for family in uapi.FAMILIES}

    @cached_property
    def few(self) -> dict[int, list[Network]]:
        """The networks of each family that has so few that `ranges` is slower."""
        found = {one: [each for each in self.networks if each.family == one] for one in self.ranges}
        return {one: each for one, each in found.items() if len(each) <= _FEW_NETWORKS}

    @cached_property
    def names_addresses(self) -> bool:
        """As of Condition."""
        return 0 < len(self.networks) <= _MOST_LOOKED_UP and all(
            network.low == network.high for network in self.networks
        )

    def may_hold(self, addresses: Addresses) -> bool:
        """As of Condition."""
        return not self.names_addresses or any(
            addresses.may_hold(network.low) for network in self.networks
        )

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return any(_endpoint_may_contain(bounds, self, endpoint) for endpoint in self.endpoints)

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        names = ["l4proto"] if self.ports else []
        names += [address for address, _ in self.endpoints] if self.networks else []
        names += [port for _, port in self.endpoints] if self.ports else []
        return [*names, "present"] if _with_port_0(self) else names

    def mask(self, table: Table | LazyTable) -> Bools:
        """As of Condition."""
        return _matches_term(table, self)

    def of_flow(self) -> Condition:
        """As of Condition: the tuples of a flow do not change."""
        return self


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
    terms: tuple[Condition, ...] = ()
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
        return replace(self, since=BEGIN, until=END, events=EVERY_EVENT, terms=self._of_flow())

    def of_events_in_connections(self) -> Query:
        """This query of events for the connections that can contain them."""
        return replace(self, connections=True, terms=self._of_flow())

    def _of_flow(self) -> tuple[Condition, ...]:
        found = (term.of_flow() for term in self.terms)
        return tuple(each for each in found if each is not None)

    @property
    def names_addresses(self) -> bool:
        """Whether a term has only single addresses, so `may_contain_addresses` can be False."""
        return any(term.names_addresses for term in self.terms)

    def may_contain_addresses(self, addresses: Addresses) -> bool:
        """Whether a segment with these addresses can contain a match."""
        return all(term.may_hold(addresses) for term in self.terms)

    def may_contain_time(self, time_min: int, time_max: int) -> bool:
        """Whether a block of these times can contain a match.

        A connection without an end can exist after the `time_max` of its block.
        """
        return time_min < self.until and (self.connections or time_max >= self.since)

    def may_contain(self, bounds: Bounds) -> bool:
        """Whether a block of these bounds can contain a match."""
        if self.protocols and not may_be_in(
            bounds.get("l4proto"), [(number, number) for number in self.protocols]
        ):
            return False
        if self.connections:
            end = bounds.get("end") if self.since > BEGIN else None
            if end is not None and not may_be_in(end, [(0, 0), (self.since, END)]):
                return False
        elif not may_be_in(bounds.get("event"), [(number, number) for number in self.events]):
            return False
        return all(term.may_contain(bounds) for term in self.terms)

    def columns_needed(self) -> Iterable[str]:
        """The columns that `evaluate` reads."""
        names = [] if self.connections else ["event"]
        if self.since > BEGIN or self.until < END:
            names += ["start", "end"] if self.connections else ["time"]
        names += ["l4proto"] if self.protocols else []
        for term in self.terms:
            names += term.columns()
        return dict.fromkeys(names)

    def evaluate(self, table: Table | LazyTable) -> Bools:
        """(rows,): which rows match."""
        matches: Bools | None = None
        for term in self.terms:
            matches = _and(matches, term.mask(table))
        if matches is not None and isinstance(table, LazyTable):
            # The rest of the query reads its columns only in the rows that match the terms.
            rows = np.flatnonzero(matches)
            if len(rows):
                matches[rows] = replace(self, terms=()).evaluate(table.take(rows))
            return matches
        if self.protocols:
            matches = _and(matches, is_in(table["l4proto"], self.protocols))
        matches = _and(matches, self._existed(table) if self.connections else self._happened(table))
        return np.ones(len(table), np.bool_) if matches is None else matches

    def _happened(self, table: Table | LazyTable) -> Bools | None:
        """(rows,): events of the wanted kinds in the window; None: all rows."""
        matches: Bools | None = None
        if self.since > BEGIN or self.until < END:
            matches = (table["time"] >= self.since) & (table["time"] < self.until)
        if self.events != EVERY_EVENT:
            matches = _and(matches, is_in(table["event"], self.events))
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


@overload
def _and(first: Bools | None, second: Bools) -> Bools: ...
@overload
def _and(first: Bools | None, second: Bools | None) -> Bools | None: ...
def _and(first: Bools | None, second: Bools | None) -> Bools | None:
    """Intersection of two masks; None stands for all rows."""
    return second if first is None else first if second is None else first & second


def is_in(values: Array, wanted: Iterable[int]) -> Bools:
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
    found = np.zeros(len(table), np.bool_)
    if term.networks and not len(term.ranges[table.family].lows):
        return found
    for address, port in term.endpoints:
        if not term.ports:
            found |= _in_networks(table, address, term) if term.networks else True
            continue
        # Few rows have a port: addresses are read only there.
        rows = np.flatnonzero(_in_ports(table, port, term))
        if term.networks and len(rows):
            rows = rows[_in_networks(_part(table, address, rows), address, term)]
        found[rows] = True
    if term.ports:  # the port columns of ICMP hold other numbers
        rows = np.flatnonzero(found)
        if len(rows):
            found[rows] = ~is_in(table["l4proto"][rows], _ICMP)
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


def _in_networks(table: Table | LazyTable, name: str, term: Term) -> Bools:
    """(rows,): whether the address in column `name` is in one of the term's networks."""

    def holds(addresses: Array) -> Bools:
        if (networks := term.few.get(table.family)) is None:
            return term.ranges[table.family].hold(addresses)
        return _any(address_within(addresses, each.low, each.high) for each in networks)

    if isinstance(table, LazyTable):
        return table.mask_of_addresses(name, holds)
    return holds(table[name])


def _any(masks: Iterable[Bools]) -> Bools:
    """Union of at least one mask."""
    first, *others = masks
    for mask in others:
        first = first | mask
    return first


def _endpoint_may_contain(bounds: Bounds, term: Term, endpoint: tuple[str, str]) -> bool:
    """Whether one endpoint of a term can match in a block."""
    address, port = endpoint
    if term.networks and bounds.family in term.few:
        values = [_as_values(each) for each in term.few[bounds.family]]
        if not values or not may_be_in(bounds.get(address), values):
            return False
    elif term.networks and not term.ranges[bounds.family].may_be_in(bounds.get(address)):
        return False
    return not term.ports or may_be_in(bounds.get(port), term.ports)


def _as_values(network: Network) -> tuple[int | bytes, int | bytes]:
    """The first and the last address of a network as values of an address column."""
    if network.family == uapi.AF_INET:
        return int.from_bytes(network.low, "big"), int.from_bytes(network.high, "big")
    return network.low, network.high
