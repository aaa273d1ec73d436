"""The ends of a connection: inside, public, remote, as ctfilter(7) defines them, once for all.

The two hosts of a connection are the source of the original tuple, which opened it, and that of the
reply tuple, which answered.  If one of them is inside and the other is not, there is a remote end,
and a public one: the end under which the outside sees the inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.ctlog.predicate import (
    ORIG_DST,
    ORIG_SRC,
    REPLY_DST,
    REPLY_SRC,
    Condition,
    Network,
    Term,
)
from ctrecorder.filters.conditions import Every, Not
from ctrecorder.filters.measures import Rows

Endpoint = tuple[str, str]  # the columns of an address and a port


class Places(NamedTuple):
    """Where an end is in a connection that was opened from inside, and from outside."""

    outbound: Endpoint
    inbound: Endpoint


PLACES: Mapping[str, Places] = {
    "inside": Places(ORIG_SRC, REPLY_SRC),
    "public": Places(REPLY_DST, ORIG_DST),
    "remote": Places(REPLY_SRC, ORIG_SRC),
}


class Sides(NamedTuple):
    """(rows,) bool each.

    outbound: opened from inside to outside.  inbound: opened from outside to inside.
    internal: both hosts are inside: the inside end is that which opened it, there is no other.
    """

    outbound: NDArray[np.bool_]
    inbound: NDArray[np.bool_]
    internal: NDArray[np.bool_]


class Ends:
    """The ends by the networks that are `inside`."""

    def __init__(self, inside: Iterable[Network]) -> None:
        networks = tuple(inside)
        self._opener = Term(networks, endpoints=(ORIG_SRC,))
        self._answerer = Term(networks, endpoints=(REPLY_SRC,))
        self.outbound: Condition = Every((self._opener, Not(self._answerer)))
        self.inbound: Condition = Every((Not(self._opener), self._answerer))

    def sides(self, table: Rows) -> Sides:
        """The sides of the rows, of which the four addresses are read."""
        opener, answerer = self._opener.mask(table), self._answerer.mask(table)
        return Sides(opener & ~answerer, answerer & ~opener, opener & answerer)

    def places(self, end: str, direction: str) -> list[tuple[Condition, Endpoint]]:
        """Where `end` ("inside", "public" or "remote") can be, and the condition for it.

        direction: "src" if it opened the connection, "dst" if it was called, "": either.
        """
        if end == "inside":
            found: list[tuple[Condition, Endpoint]] = [
                (self._opener, ORIG_SRC),
                (self._answerer, REPLY_SRC),
            ]
        elif end == "public":
            found = [(self.outbound, REPLY_DST), (self.inbound, ORIG_DST)]
        else:
            found = [(self.inbound, ORIG_SRC), (self.outbound, REPLY_SRC)]
        return {"src": found[:1], "dst": found[1:]}.get(direction, found)
