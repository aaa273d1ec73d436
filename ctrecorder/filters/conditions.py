"""Conditions of an expression beside `Term`: how they are joined, and those on single columns.

Each is a `predicate.Condition`: a mask, the columns that it reads, what can be skipped for it, and
what it says of all events of a flow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array, Source, bit
from ctrecorder.ctlog.index import may_be_in
from ctrecorder.ctlog.predicate import Addresses, Bounds, Condition
from ctrecorder.filters import measures
from ctrecorder.filters.measures import Rows
from ctrecorder.filters.tree import Range

Bools = NDArray[np.bool_]


class Plain:
    """A condition for which nothing is skipped, and that says nothing of a flow."""

    @property
    def names_addresses(self) -> bool:
        """As of Condition."""
        return False

    def may_hold(self, addresses: Addresses) -> bool:
        """As of Condition."""
        return True

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return True

    def of_flow(self) -> Condition | None:
        """As of Condition."""
        return None


@dataclass(frozen=True)
class Every:
    """All of `parts` match; without parts, all rows do."""

    parts: tuple[Condition, ...] = ()

    @property
    def names_addresses(self) -> bool:
        """As of Condition."""
        return any(part.names_addresses for part in self.parts)

    def may_hold(self, addresses: Addresses) -> bool:
        """As of Condition."""
        return all(part.may_hold(addresses) for part in self.parts)

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return all(part.may_contain(bounds) for part in self.parts)

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return [name for part in self.parts for name in part.columns()]

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        found = np.ones(len(table), np.bool_)
        for part in self.parts:
            found &= part.mask(table)
        return found

    def of_flow(self) -> Condition | None:
        """As of Condition."""
        known = [found for part in self.parts if (found := part.of_flow()) is not None]
        return Every(tuple(known)) if known else None


@dataclass(frozen=True)
class Some:
    """One of `parts`, at least two, matches."""

    parts: tuple[Condition, ...]

    @property
    def names_addresses(self) -> bool:
        """As of Condition."""
        return all(part.names_addresses for part in self.parts)

    def may_hold(self, addresses: Addresses) -> bool:
        """As of Condition."""
        return any(part.may_hold(addresses) for part in self.parts)

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return any(part.may_contain(bounds) for part in self.parts)

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return [name for part in self.parts for name in part.columns()]

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        found = np.zeros(len(table), np.bool_)
        for part in self.parts:
            found |= part.mask(table)
        return found

    def of_flow(self) -> Condition | None:
        """As of Condition: nothing is known if one part says nothing."""
        known = [found for part in self.parts if (found := part.of_flow()) is not None]
        return Some(tuple(known)) if len(known) == len(self.parts) else None


@dataclass(frozen=True)
class Not(Plain):
    """`part` does not match.  It is not an `Every` or a `Some`."""

    part: Condition

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return self.part.columns()

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        return ~self.part.mask(table)

    def of_flow(self) -> Condition | None:
        """As of Condition: what is exactly known of a flow is known of its opposite too."""
        return self if self.part.of_flow() is self.part else None


class OfTuple(Plain, ABC):
    """A condition on what all events of a flow have: its tuples and zones."""

    @abstractmethod
    def columns(self) -> Iterable[str]: ...
    @abstractmethod
    def mask(self, table: Rows) -> Bools: ...

    def of_flow(self) -> Condition | None:
        """As of Condition."""
        return self


@dataclass(frozen=True)
class Family(OfTuple):
    """The rows are of IPv4, or of IPv6."""

    family: int

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return bounds.family == self.family

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return ()

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        return np.full(len(table), table.family == self.family)


@dataclass(frozen=True)
class Protocols(OfTuple):
    """The protocol is in one of `ranges`."""

    ranges: tuple[Range, ...]

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return may_be_in(bounds.get("l4proto"), [(each.low, each.high) for each in self.ranges])

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return ("l4proto",)

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        return within(table["l4proto"], self.ranges)


@dataclass(frozen=True)
class Icmp(OfTuple):
    """The `part`, "type" or "code", of an ICMP message."""

    part: str
    ranges: tuple[Range, ...]

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return ("l4proto", "orig_dport")

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        both = table["orig_dport"]
        return measures.is_icmp(table) & within(
            both >> 8 if self.part == "type" else both & 255, self.ranges
        )


@dataclass(frozen=True)
class Nat(OfTuple):
    """The source (`snat`), or else the destination, was translated."""

    snat: bool

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return measures.OF_SNAT if self.snat else measures.OF_DNAT

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        return measures.snat(table) if self.snat else measures.dnat(table)


@dataclass(frozen=True)
class Zone(OfTuple):
    """The zone of the direction `side`: that of both directions, or its own."""

    side: str
    ranges: tuple[Range, ...]

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return ("zone", f"{self.side}_zone")

    def mask(self, table: Rows) -> Bools:
        """As of Condition: a flow has one of the two only, the other is 0."""
        return within(table["zone"] | table[f"{self.side}_zone"], self.ranges)


@dataclass(frozen=True)
class Mark(Plain):
    """The mark."""

    ranges: tuple[Range, ...]

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return ("mark",)

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        marks, found = table["mark"], np.zeros(len(table), np.bool_)
        for each in self.ranges:
            masked = marks & np.uint32(each.mask & 0xFFFFFFFF)
            found |= within(masked, (Range(each.low & each.mask, each.high & each.mask),))
        return found


@dataclass(frozen=True)
class Named(Plain):
    """The `column`, of which `ranges` are values; `known`: only where `present` has its bit."""

    column: str
    ranges: tuple[Range, ...]
    known: bool = False

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return may_be_in(bounds.get(self.column), [(each.low, each.high) for each in self.ranges])

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return (self.column, "present") if self.known else (self.column,)

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        found = within(table[self.column], self.ranges)
        if self.known:
            found &= (table["present"] & np.uint32(bit(self.column))) != 0
        return found


@dataclass(frozen=True)
class Status(Plain):
    """One of the `bits` of the status is set."""

    bits: int

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return ("status",)

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        found: Bools = (table["status"] & np.uint32(self.bits)) != 0
        return found


@dataclass(frozen=True)
class Counted(Plain):
    """The bytes or packets of a direction, or ("") of both, where they are known."""

    unit: str
    side: str
    ranges: tuple[Range, ...]
    connections: bool

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return measures.OF_COUNTERS if self.connections else (*measures.OF_COUNTERS, "event")

    def mask(self, table: Rows) -> Bools:
        """As of Condition: of events, only those that end a connection count."""
        found = measures.counted(table, self.unit, self.side)
        known = found.known if self.connections else found.known & measures.is_end(table)
        return known & within(found.values, self.ranges)


@dataclass(frozen=True)
class Duration(Plain):
    """The duration, ns, where it is known."""

    ranges: tuple[Range, ...]
    now: int
    connections: bool

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        if self.connections:
            return measures.OF_DURATION_OF_CONNECTIONS
        return measures.OF_DURATION_OF_EVENTS

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        found = (
            measures.duration_of_connections(table, self.now)
            if self.connections
            else measures.duration_of_events(table)
        )
        return found.known & within(found.values, self.ranges)


@dataclass(frozen=True)
class Life(Plain):
    """The life is before or after the time from `begin` to `end`, ns, or ("at") touches it."""

    word: str
    begin: int
    end: int
    connections: bool

    def columns(self) -> Iterable[str]:
        """As of Condition."""
        return ("start", "start_source", "end") if self.connections else ("time",)

    def mask(self, table: Rows) -> Bools:
        """As of Condition."""
        found: Bools
        if not self.connections:
            time = table["time"]
            if self.word == "before":
                found = time < self.begin
            elif self.word == "after":
                found = time >= self.end
            else:
                found = (time >= self.begin) & (time < self.end)
            return found
        start, end = table["start"], table["end"]
        if self.word == "before":
            found = (end != 0) & (end < self.begin)
        elif self.word == "after":
            source = table["start_source"]
            exact = (source == Source.KERNEL) | (source == Source.RECEIPT)
            found = exact & (start >= self.end)
        else:
            found = np.where(start == 0, end, start) < self.end
            found &= (end == 0) | (end >= self.begin)
        return found


def within(values: Array, ranges: Iterable[Range]) -> Bools:
    """(n,): which of `values`, (n,) integers, are in one of `ranges`."""
    limits = np.iinfo(values.dtype)
    found = np.zeros(len(values), np.bool_)
    for low, high, _ in ranges:
        low, high = max(low, int(limits.min)), min(high, int(limits.max))
        if low == high:
            found |= values == low
        elif low < high:
            found |= (values >= low) & (values <= high)
    return found
