"""Flows that share a key at the same time, so that only their order tells them apart.

The C ctrecorder recorded no ids, and IPv6 without addresses and ICMP without its id: there many
flows that are open at once look alike.  They are taken to end in the order in which they began, as
that program took them.  `number` gives such a flow's rows a number of their own where the kernel's
id would be; `present` still says that no id was told.  Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import ADDRESSES, PORTS, Array, Table, bit, bits
from ctrecorder.connections import flowkey

# Of the key of such a row the protocol was told, but neither the id nor all of these.
_PROTOCOL_ALONE, _TUPLE = np.uint32(bit("l4proto")), np.uint32(bits((*ADDRESSES, *PORTS)))
_PROTOCOL_AND_ID = np.uint32(bits(("l4proto", "id")))
# Numbers of ends whose start is not there; a file has fewer starts.
_NO_START = 1 << 31

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def number(table: Table, arrival: Ints, begins: Bools, ends: Bools) -> Table:
    """`table` with the column `id` as pairing needs it; the same table if its rows can be told
    apart.

    `arrival`: (rows,), what orders the rows.  `begins` and `ends`: (rows,), which rows are the
    start, and which the end, of a flow.
    """
    known = table["present"]
    alike = np.flatnonzero(
        ((known & _PROTOCOL_AND_ID) == _PROTOCOL_ALONE)
        & ((known & _TUPLE) != _TUPLE)
        & (begins ^ ends)
    )
    if not len(alike):
        return table
    alike = alike[np.argsort(arrival[alike], kind="stable")]
    rows = Table(
        table.family,
        len(alike),
        {**table.take(alike).columns, "id": np.zeros(len(alike), np.uint32)},
    )
    order, first = flowkey.sort(rows)
    numbers = np.array(table["id"], np.uint32)
    numbers[alike[order]] = _in_turn(begins[alike[order]], first)
    columns: dict[str, Array] = {**table.columns, "id": numbers}
    return Table(table.family, len(table), columns)


def _in_turn(begins: Bools, first: Bools) -> Ints:
    """The numbers of rows by key (`first` of each), each a start or an end: starts are counted, an
    end has that of the earliest left.
    """
    group = np.cumsum(first) - 1
    at = np.flatnonzero(first)[group]
    begun, ended = _count(begins, at), _count(~begins, at)
    # What is open falls below its least so far, and below 0, with each end that has no start.  One
    # running minimum serves all keys, because each is moved below all values of the one before.
    below = group * (2 * len(begins) + 2)
    without = -np.minimum(np.minimum.accumulate(begun - ended - below) + below, 0)
    is_without = without > np.where(first, 0, np.roll(without, 1))
    return np.where(begins, begun, np.where(is_without, _NO_START + without, ended - without))


def _count(rows: Bools, at: Ints) -> Ints:
    """(rows,): how many of `rows` are True up to each, from the row `at` on."""
    total = np.cumsum(rows)
    return total - (total - rows)[at]
