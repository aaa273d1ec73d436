"""Questions: what is asked of a log, as masks over tables and as a "cannot be" for blocks that then
need not be read.

A question is a time window, protocols, events and terms, all of which must hold.  A term holds if
one of its ends, each an address and a port column, is in its networks and its ports.  Pure.
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
    """The addresses of one prefix, from `low` to `high`, both included, as 4 or 16 bytes in network
    order.
    """

    family: int
    low: bytes
    high: bytes


@dataclass(frozen=True)
class Term:
    """Holds for a row if one of `ends` is in one of `networks` (none: any) and its port in one of
    the ranges `ports` (none: any).
    """

    networks: tuple[Network, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    endpoints: tuple[tuple[str, str], ...] = ALL_ENDPOINTS


class Bounds(Protocol):
    """What a block's index tells of its columns."""

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""

    def get(self, name: str) -> Bound | None:
        """Bounds of the column's values; None: nothing is known."""


class Addresses(Protocol):
    """What a segment tells of its addresses."""

    def may_hold(self, address: bytes) -> bool:
        """If this one, of 4 or 16 bytes in network order, can be among them."""


@dataclass(frozen=True)
class Query:
    """What is asked.  `since` and `until`: ns, the first included and the last not.  `protocols`:
    none means any.

    `connections`: the rows are connections: those whose life touches the window are wanted, and
    `events` says nothing.
    """

    since: int = BEGIN
    until: int = END
    protocols: frozenset[int] = frozenset()
    events: frozenset[int] = HAPPENED
    terms: tuple[Term, ...] = ()
    connections: bool = False

    def __post_init__(self) -> None:
        if self.until <= self.since:
            raise UsageError("the time asked for ends before it begins: see --since and --until")

    @property
    def narrow(self) -> bool:
        """If the rows are chosen by more than time and event."""
        return bool(self.protocols or self.terms)

    def of_connections(self) -> Query:
        """The same, asked of connections."""
        return replace(self, connections=True)

    def of_flows(self) -> Query:
        """All that was ever recorded of flows that could be wanted: what pairing needs."""
        return replace(self, since=BEGIN, until=END, events=EVERY_EVENT)

    @property
    def names_addresses(self) -> bool:
        """If one of the terms asks for single addresses only: then `may_match_addresses` can say no."""
        return any(_single(term) for term in self.terms)

    def may_contain_addresses(self, addresses: Addresses) -> bool:
        """If a segment with these addresses can hold a wanted row."""
        return all(
            any(addresses.may_hold(network.low) for network in term.networks)
            for term in self.terms
            if _single(term)
        )

    def may_contain_time(self, time_min: int, time_max: int) -> bool:
        """If a block of these times can hold a wanted row.

        A connection without an end outlives its block's times.
        """
        return time_min < self.until and (self.connections or time_max >= self.since)

    def may_contain(self, bounds: Bounds) -> bool:
        """If a block of these bounds can hold a wanted row."""
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
            any(_endpoint_may_contain(bounds, term, end) for end in term.endpoints)
            for term in self.terms
        )

    def columns_needed(self) -> Iterable[str]:
        """The columns that `mask` reads."""
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
        """Which rows are wanted, (rows,)."""
        wanted = None
        for term in self.terms:
            wanted = _and(wanted, _holds(table, term))
        if wanted is not None and isinstance(table, LazyTable):
            # What remains is asked of the rows that were found, so that no more of its columns are
            # read.
            rows = np.flatnonzero(wanted)
            if len(rows):
                wanted[rows] = replace(self, terms=()).evaluate(table.take(rows))
            return wanted
        if self.protocols:
            wanted = _and(wanted, _is_in(table["l4proto"], self.protocols))
        wanted = _and(
            wanted,
            _touches(table, self.since, self.until) if self.connections else self._happened(table),
        )
        return np.ones(len(table), np.bool_) if wanted is None else wanted

    def _happened(self, table: Table | LazyTable) -> Bools | None:
        """The rows of the wanted events in the window; None: all."""
        wanted = None
        if self.since > BEGIN or self.until < END:
            time = table["time"]
            wanted = (time >= self.since) & (time < self.until)
        return (
            wanted
            if self.events == EVERY_EVENT
            else _and(wanted, _is_in(table["event"], self.events))
        )


def _single(term: Term) -> bool:
    """If it asks for one of some addresses, no network."""
    return bool(term.networks) and all(network.low == network.high for network in term.networks)


@overload
def _and(first: Bools | None, second: Bools) -> Bools: ...
@overload
def _and(first: Bools | None, second: Bools | None) -> Bools | None: ...
def _and(first: Bools | None, second: Bools | None) -> Bools | None:
    """Both; None: all."""
    return second if first is None else first if second is None else first & second


def _is_in(values: Array, wanted: Iterable[int]) -> Bools:
    """Which of the bytes `values` are among `wanted`."""
    chosen = np.zeros(256, np.bool_)
    chosen[list(wanted)] = True
    found: Bools = chosen[values]
    return found


def _touches(table: Table | LazyTable, since: int, until: int) -> Bools | None:
    """The connections that lived in since..until; None: all.

    One without an end lives on; one without a start is known at its end.
    """
    if since <= BEGIN and until >= END:
        return None
    start, end = table["start"], table["end"]
    touches: Bools = (np.where(start == 0, end, start) < until) & ((end == 0) | (end >= since))
    return touches


def _with_port_0(term: Term) -> bool:
    """Port 0 is also what stands where there are no ports."""
    return any(low == 0 for low, _ in term.ports)


def _holds(table: Table | LazyTable, term: Term) -> Bools:
    """Which rows the term holds for."""
    networks = [network for network in term.networks if network.family == table.family]
    found = np.zeros(len(table), np.bool_)
    if term.networks and not networks:
        return found
    for address, port in term.endpoints:
        here = None
        if networks:
            here = _any(_in_network(table, address, network) for network in networks)
        if term.ports:
            here = _and(
                here, _any((table[port] >= low) & (table[port] <= high) for low, high in term.ports)
            )
            if _with_port_0(term):
                here &= (table["present"] & np.uint32(bits([port]))) != 0
        found |= True if here is None else here
    if term.ports:
        found &= ~_is_in(table["l4proto"], _ICMP)
    return found


def _any(masks: Iterable[Bools]) -> Bools:
    """At least one mask, or-ed."""
    found: Bools = np.logical_or.reduce(list(masks))
    return found


def _in_network(table: Table | LazyTable, name: str, network: Network) -> Bools:
    """The rows whose address `name` is in the network, which is of the table's family."""
    if isinstance(table, LazyTable):
        return table.address_mask(name, network.low, network.high)
    return address_within(table[name], network.low, network.high)


def _endpoint_may_contain(bounds: Bounds, term: Term, end: tuple[str, str]) -> bool:
    """If one end of a term can hold in a block."""
    address, port = end
    if term.networks:
        networks = [network for network in term.networks if network.family == bounds.family]
        if not networks or not _may_be_in(
            bounds.get(address), [_as_values(network) for network in networks]
        ):
            return False
    return not term.ports or _may_be_in(bounds.get(port), list(term.ports))


def _as_values(network: Network) -> tuple[int | bytes, int | bytes]:
    """The network's ends as the values of an address column."""
    if network.family == uapi.AF_INET:
        return int.from_bytes(network.low, "big"), int.from_bytes(network.high, "big")
    return network.low, network.high


def _may_be_in(bound: Bound | None, ranges: Iterable[tuple[int | bytes, int | bytes]]) -> bool:
    """If a value within `bound` can be in one of the `ranges`, both ends included."""
    if bound is None:
        return True
    return any(
        _touch(bound.low, bound.high, low, high)
        and (not bound.parts or _any_part(bound.parts, low, high))
        for low, high in ranges
    )


def _touch(first: int | bytes, last: int | bytes, low: int | bytes, high: int | bytes) -> bool:
    """If first..last and low..high overlap: all numbers, or all addresses of 16 bytes, whose
    trailing NULs numpy may have cut.
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
    """If a value of the sorted `parts` is in low..high."""
    return any(
        np.searchsorted(part, part.dtype.type(low))
        < np.searchsorted(part, part.dtype.type(high), side="right")
        for part in parts
    )
