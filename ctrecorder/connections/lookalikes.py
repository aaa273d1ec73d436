"""Flows of one key that are open at the same time, so that only their order distinguishes them.

The C ctrecorder recorded no ids, no addresses of IPv6 and no id of ICMP.  In its files many flows
of one key are open at once.  They are assumed to end in the order in which they began, as that
program assumed.  `number` stores a number per flow in the column `id`; `present` still shows that
no id was recorded.  Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import ADDRESSES, PORTS, Array, Table, bit, bits
from ctrecorder.connections import flowkey

# In the rows of such flows the protocol is present, but not the id, and not the whole tuple.
_PROTOCOL_ALONE, _TUPLE = np.uint32(bit("l4proto")), np.uint32(bits((*ADDRESSES, *PORTS)))
_ID = np.uint32(bit("id"))
_PROTOCOL_AND_ID = np.uint32(bits(("l4proto", "id")))
# The first number of ends without a start.  A file has fewer starts than this.
_FIRST_WITHOUT_START = 1 << 31

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def has_id(table: Table) -> Bools:
    """(rows,): whether the kernel's id was recorded, so that `number` changes nothing."""
    recorded: Bools = (table["present"] & _ID) != 0
    return recorded


def may_be_alike(table: Table) -> Bools:
    """(rows,): whether a row has neither an id nor the whole tuple: several open flows can have its
    key.
    """
    present = table["present"]
    alike: Bools = (present & _PROTOCOL_AND_ID) == _PROTOCOL_ALONE
    alike &= (present & _TUPLE) != _TUPLE
    return alike


def number(table: Table, arrival: Ints, begins: Bools, ends: Bools) -> Table:
    """`table` with numbers in the column `id` of such flows; the same table if it has none.

    `arrival`: (rows,) the order of arrival.  `begins`, `ends`: (rows,) which rows are the start,
    and which the end, of a flow.
    """
    alike = np.flatnonzero(may_be_alike(table) & (begins ^ ends))
    if not len(alike):
        return table
    alike = alike[np.argsort(arrival[alike], kind="stable")]
    rows = Table(
        table.family,
        len(alike),
        {**table.select(flowkey.KEY).take(alike).columns, "id": np.zeros(len(alike), np.uint32)},
    )
    order, first = flowkey.sort(rows)
    numbers = np.array(table["id"], np.uint32)
    numbers[alike[order]] = _in_turn(begins[alike[order]], first)
    columns: dict[str, Array] = {**table.columns, "id": numbers}
    return Table(table.family, len(table), columns)


def _in_turn(begins: Bools, first: Bools) -> Ints:
    """(rows,): a number for each start and each end.

    The rows are sorted by key; `first` of each key.  The starts of a key are counted from 1, and an
    end gets the number of the earliest start without an end.
    """
    group = np.cumsum(first) - 1
    at = np.flatnonzero(first)[group]
    begun, ended = _count(begins, at), _count(~begins, at)
    # Starts minus ends falls to a new minimum below 0 at each end that has no start.  One running
    # minimum serves all keys, because the values of a key are shifted below those of the key
    # before.
    below = group * (2 * len(begins) + 2)
    without = -np.minimum(np.minimum.accumulate(begun - ended - below) + below, 0)
    is_without = without > np.where(first, 0, np.roll(without, 1))
    return np.where(
        begins, begun, np.where(is_without, _FIRST_WITHOUT_START + without, ended - without)
    )


def _count(rows: Bools, at: Ints) -> Ints:
    """(rows,): the number of True `rows` from the row `at` up to each row."""
    total = np.cumsum(rows)
    return total - (total - rows)[at]
