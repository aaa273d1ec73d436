"""Complete dumps that wait with the rows between them, so that all is paired at once.  Pure.

A dump ends the flows that it lacks.  Most dumps lack none, and pairing before each of them would
cost much more than the rows do.  So the dumps wait with the rows, and `touched` finds those that
can change a flow, and the keys of such flows.  Only these are paired dump by dump.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Source
from ctrecorder.connections import lookalikes
from ctrecorder.connections.parts import Bools, Ints, Parts
from ctrecorder.times import SECOND

# A flow that a dump lacked waits this long for its DESTROY.  The garbage collector needs up
# to a minute for a scan; this is twice that, and 30 s more.
LATE_NS = 150 * SECOND


class Dump(NamedTuple):
    """A complete dump.

    `row`: the number of the next row in the order of arrival.  `begin`, `end`: ns.
    """

    row: int
    begin: int
    end: int


class Touched(NamedTuple):
    """What dumps can change.

    `keys`: (parts,) whether an open flow or a part that arrived has the key of one that is changed.
    `dumps`: those that change one.
    """

    keys: Bools
    dumps: list[Dump]


def are_in_order(before: Dump, after: Dump) -> bool:
    """Whether the times of two dumps are in order, as `touched` needs it."""
    return before.begin <= after.begin and before.end <= after.end


def touched(
    parts: Parts, order: Ints, first: Bools, old_ends: int, dumps: list[Dump]
) -> Touched | None:
    """What `dumps` can change, at least; None: nothing.

    `parts`: ends of earlier flows, `old_ends` of them, open flows and rows that arrived.
    `order`, `first`: as `flowkey.sort` returns them.
    `dumps`: at least one, in the order of arrival, and each after the open flows.
    """
    key = np.cumsum(first) - 1
    if old_ends:
        kept = np.flatnonzero(order >= old_ends)
        rows, key_of = order[kept], key[kept]
    else:
        rows, key_of = order, key
    found = _changes(parts, rows, key_of, dumps)
    alike = lookalikes.may_be_alike(parts.table)
    if found is None and not alike.any():
        return None
    keys, is_wanted = found or (key_of[:0], np.zeros(len(dumps), np.bool_))
    has_key = np.zeros(len(first), np.bool_)
    has_key[keys] = True
    chosen = np.empty(len(order), np.bool_)
    chosen[order] = has_key[key]
    # Which of the flows with one key goes on is not known before they are paired.
    chosen |= alike
    is_wanted |= bool(alike.any())
    return Touched(
        chosen[old_ends:], [dump for dump, wanted in zip(dumps, is_wanted, strict=True) if wanted]
    )


def _changes(
    parts: Parts, rows: Ints, key: Ints, dumps: list[Dump]
) -> tuple[Ints, NDArray[np.bool_]] | None:
    """The keys of the flows that are changed, and which dumps do it; None: none does.

    `rows`: numbers of parts in the order of their keys, `key` of each.
    """
    if not len(rows):
        return None
    at, begins, ends = np.array(dumps, np.int64).T
    row, time = parts.row[rows], parts.table["time"][rows].astype(np.int64)
    # The dumps between a part and the next one of its key are those from `low` to `high` - 1.
    low = np.searchsorted(at, row, "right")
    high = np.append(low[1:], 0)
    high[np.append(key[1:] != key[:-1], True)] = len(dumps)
    low = np.maximum(low, np.searchsorted(begins, time, "right"))
    found = np.flatnonzero((low < high) & ~parts.ended[rows])
    if not len(found):
        return None
    low, high, rows = low[found], high[found], rows[found]
    last = np.minimum(_last(parts, rows, low, begins, ends), high - 1)
    # The time of a flow is the greatest of its parts.  If an earlier one is greater, the first dump
    # that lacks the flow is a later one.
    last = np.where(_is_greatest(key, time)[found], last, high - 1)
    count = np.zeros(len(dumps) + 1, np.int64)
    np.add.at(count, low, 1)
    np.add.at(count, last + 1, -1)
    return key[found], np.cumsum(count)[:-1] > 0


def _last(parts: Parts, rows: Ints, low: Ints, begins: Ints, ends: Ints) -> Ints:
    """(rows,): the last dump that changes the flow, if no part of it follows: `low` is the first
    one.  A dump sets a BOUND, and the first one long after that takes the flow away.
    """
    table = parts.table
    is_bound = table["end_source"][rows] == Source.BOUND
    bound = np.where(is_bound, table["end"][rows], ends[low]).astype(np.int64)
    last = np.searchsorted(begins, bound + LATE_NS, "right")
    away = np.abs(begins[low] - bound) > LATE_NS
    # A dump that lasts so long takes a flow away that another one would keep.
    return np.where(away, np.where(is_bound, low, len(begins)), last)


def _is_greatest(key: Ints, time: Ints) -> Bools:
    """(rows,): whether no part before, of the same key, has a greater time."""
    if not len(time):
        return np.zeros(0, np.bool_)
    order = np.lexsort((time, key))
    rank = np.empty(len(time), np.int64)
    # Equal times have the same rank.
    steps = np.ones(len(time), np.int64)
    steps[1:] = (time[order[1:]] != time[order[:-1]]) | (key[order[1:]] != key[order[:-1]])
    rank[order] = np.cumsum(steps)
    greatest: Bools = np.maximum.accumulate(rank) == rank
    return greatest
