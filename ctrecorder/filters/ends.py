"""Conditions on the inside, public or remote end of a connection, as `ctrecorder.ends` has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import ends
from ctrecorder.columns import Array, Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.predicate import (
    ORIG_DST,
    ORIG_SRC,
    REPLY_DST,
    REPLY_SRC,
    Addresses,
    Bounds,
    Term,
)
from ctrecorder.ends import Ends, Inside, Kind
from ctrecorder.filters.conditions import OfTuple
from ctrecorder.filters.measures import Rows

Endpoint = tuple[str, str]  # the columns of an address and a port

# Where an end can be, by who opened the connection.
PLACES: Mapping[str, Mapping[str, tuple[Endpoint, ...]]] = {
    "inside": {"src": (ORIG_SRC,), "dst": (REPLY_SRC,)},
    "public": {"src": (REPLY_DST,), "dst": (ORIG_DST,)},
    "remote": {"src": (ORIG_SRC,), "dst": (ORIG_DST, REPLY_SRC)},
}


class _At(NamedTuple):
    """(n,) each: addresses, ports, and which rows have this end."""

    address: Array
    port: Array
    has: NDArray[np.bool_]


@dataclass(frozen=True)
class AtEnd(OfTuple):
    """`end` ("inside", "public" or "remote") is in the networks and ports of `value`.

    `direction`: "src" if this end opened the connection, "dst" if it was called, "": either.
    """

    end: str
    direction: str
    value: Term
    inside: Inside

    @property
    def _anywhere(self) -> Term:
        """What a row must match: the value is where the end can be."""
        places = PLACES[self.end]
        found = [
            place
            for direction in places
            if self.direction in ("", direction)
            for place in places[direction]
        ]
        return Term(self.value.networks, self.value.ports, tuple(dict.fromkeys(found)))

    @property
    def names_addresses(self) -> bool:
        """As of Condition."""
        return self._anywhere.names_addresses

    def may_hold(self, addresses: Addresses) -> bool:
        """As of Condition."""
        return self._anywhere.may_hold(addresses)

    def may_contain(self, bounds: Bounds) -> bool:
        """As of Condition."""
        return self._anywhere.may_contain(bounds)

    def columns(self) -> tuple[str, ...]:
        """As of Condition."""
        return ends.COLUMNS

    def mask(self, table: Rows) -> NDArray[np.bool_]:
        """As of Condition: the ends are found of the rows only that can match."""
        found = self._anywhere.mask(table)
        rows = np.flatnonzero(found)
        if len(rows):
            part = table.take(rows)
            whole = part.table(ends.COLUMNS) if isinstance(part, LazyTable) else part
            fits = np.zeros(len(rows), np.bool_)
            for each in self._places(whole, ends.ends_of(whole, self.inside)):
                columns = {
                    "l4proto": whole["l4proto"],
                    "present": whole["present"],
                    "orig_src": each.address,
                    "orig_sport": each.port,
                }
                one = Table(whole.family, len(rows), columns)
                term = Term(self.value.networks, self.value.ports, (ORIG_SRC,))
                fits |= each.has & term.mask(one)
            found[rows] = fits
        return found

    def _places(self, table: Table, found: Ends) -> Iterator[_At]:
        """The end where it opened the connection, and where it was called."""
        opened = found.kind != Kind.IN
        if self.end == "inside":
            within = found.kind == Kind.WITHIN
            sides = {
                "src": _At(found.inside, found.inside_port, found.has_inside & opened),
                "dst": _At(table["reply_src"], table["reply_sport"], within | ~opened),
            }
        else:
            address, port, has = {
                "public": (found.public, found.public_port, found.has_public),
                "remote": (found.remote, found.remote_port, found.has_remote),
            }[self.end]
            opener = ~opened if self.end == "remote" else opened
            sides = {
                "src": _At(address, port, has & opener),
                "dst": _At(address, port, has & ~opener),
            }
        for direction, at in sides.items():
            if self.direction in ("", direction):
                yield at
