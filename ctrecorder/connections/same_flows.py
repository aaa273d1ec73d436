"""Which connections of recorders side by side are one flow.  Pure; all rows are compared at once.

The recorders heard one connection table.  In a table, the flows of one tuple (and zones) follow
each other.  So of each recorder the rows of one tuple are a part of the same sequence of flows, and
two rows are one flow if they have the same place in it:

- Both starts are of the kernel: they are equal, and so are two ends of the kernel, as far as
  squeezing has rounded them.
- Else: each was alive while the other can have been, within a slack.

Ids must be equal where both rows have one.  Rows of one recording are never one flow.  Rows of two
recordings are matched one to one: equal times in turn, others the nearest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from ctrecorder.columns import Array, Table
from ctrecorder.connections.agreement import EVENT, KERNEL, ROUNDING_NS, Rows, latest
from ctrecorder.connections.grouping import RACE_NS, SKEW_NS
from ctrecorder.connections.merging import RANK
from ctrecorder.connections.parts import Bools, Ints
from ctrecorder.times import SECOND

# The greatest difference between times of receipt of one message, in the order in which they are
# tried; the last one only for equal ids.  The first is what recorders differ by as a rule.  Less
# in the last: a flow is listed twice if one recorder was slow.  More: two flows that follow each
# other, of which each recorder has missed the other one, become one.
_SLACKS_NS = (SECOND // 10, SKEW_NS, RACE_NS)
# Rows of one flow can differ this much in their start, if it was recorded.
APART_NS = _SLACKS_NS[-1] + 2 * ROUNDING_NS[-1]
# The nearest rows are paired in rounds, some of which pair few rows: where flows of one tuple
# follow each other so fast that their times are equal.  What is left is paired in turn.
_ROUNDS = 8
_FAR = 1 << 62

_Side = tuple[Bools, Bools, list[Array]]


def same_flows(table: Table, recording: Ints, connection_table: Ints) -> Ints:
    """(rows,): the number of one row of its flow, the same for all rows of a flow.

    `table`: connections of one family, with KEY, SPAN and `present`; `time` where it is known.
    `recording`, `connection_table`: (rows,) numbers.
    """
    rows = Rows.of(table, connection_table)
    flow = np.arange(len(table))
    several = np.bincount(rows.key, minlength=1)[rows.key] > 1
    first: Ints = np.empty(0, np.int64)
    for number in np.unique(recording[several]):
        second = np.flatnonzero(several & (recording == number))
        here, there = _Matching(rows, first, second).pairs()
        flow[there] = here
        rows.learn(here, there)
        alone = np.ones(len(table), np.bool_)
        alone[there] = False
        first = np.concatenate((first, second[alone[second]]))
    return flow


def best_starts(table: Table, flow: Ints) -> Ints:
    """The row with the best start of each flow, in the order of `flow`: see `same_flows`."""
    start, rank = table["start"].astype(np.int64), RANK[table["start_source"]]
    order = np.lexsort((-latest(start), rank, flow))
    best: Ints = order[_lasts(flow[order])]
    return best


def by_end(table: Table, flow: Ints) -> tuple[Ints, Ints]:
    """The rows in the order of `flow`, the best end of each flow last; and where each flow begins.

    Of open flows, the row with the last event is the last.
    """
    order = np.lexsort((table["time"], -table["end"], RANK[table["end_source"]], flow))
    lasts = _lasts(flow[order])
    return order, np.append(0, lasts[:-1] + 1) if len(lasts) else lasts


def _lasts(values: Ints) -> Ints:
    """Where the last of each run of equal values is."""
    return np.flatnonzero(np.append(values[1:] != values[:-1], len(values) > 0))


class _Matching:
    """Pairs rows of `first` with rows of `second`, in which no two rows are one flow."""

    def __init__(self, rows: Rows, first: Ints, second: Ints) -> None:
        self._rows, self._first, self._second = rows, first, second
        self._free = np.ones(len(rows.key), np.bool_)
        self._here, self._there = [first[:0]], [first[:0]]

    def pairs(self) -> tuple[Ints, Ints]:
        """Rows of `first`, and the row of `second` that is one flow with each."""
        self._exact()
        rows = self._rows
        for slack in _SLACKS_NS:
            for mine, theirs, more in _both_or_one(rows.has_id, rows.id):
                if more or slack < _SLACKS_NS[-1]:
                    for find in (_in_chains, _nearest, _in_turn_near):
                        self._find(find, mine, theirs, [rows.key, *more], slack)
        return np.concatenate(self._here), np.concatenate(self._there)

    def _exact(self) -> None:
        """Pair rows whose starts are of the kernel: the least rounding first.

        Two rows are compared as the one that was rounded more.
        """
        rows = self._rows
        start, end = rows.start_rank == KERNEL, rows.end_rank == KERNEL
        for unit in ROUNDING_NS:
            coarse, finer = rows.rounded == unit, rows.rounded < unit
            keys = [rows.key, rows.start // unit]
            ends = _both_or_one(
                end, rows.end if unit == 1 else -(-(rows.end // 1000 * 1000) // unit)
            )
            either: list[_Side] = [(coarse, coarse | finer, []), (finer, coarse, [])]
            for sides in product(_both_or_one(rows.has_id, rows.id), ends, either):
                mine, theirs = start.copy(), start.copy()
                for one, other, _ in sides:
                    mine &= one
                    theirs &= other
                first, second = self._left(mine, theirs)
                if len(first) and len(second):
                    more = [key for _, _, added in sides for key in added]
                    self._take(*_in_turn(first, second, [*keys, *more], rows.start, rows.end))

    def _find(self, find: _Find, mine: Bools, theirs: Bools, keys: list[Array], slack: int) -> None:
        first, second = self._left(mine, theirs)
        if len(first) and len(second):
            for here, there in find(self._rows, first, second, keys, slack):
                self._take(here, there)

    def _left(self, mine: Bools, theirs: Bools) -> tuple[Ints, Ints]:
        """The rows of both sides that are not paired yet, of those that are wanted."""
        first, second = self._first, self._second
        return first[(mine & self._free)[first]], second[(theirs & self._free)[second]]

    def _take(self, here: Ints, there: Ints) -> None:
        self._here.append(here)
        self._there.append(there)
        self._free[here] = self._free[there] = False


_Find = Callable[[Rows, Ints, Ints, list[Array], int], Iterator[tuple[Ints, Ints]]]


def _both_or_one(known: Bools, value: Array) -> list[_Side]:
    """The ways in which two rows can agree in a value that is not `known` of all rows.

    Each: which rows of the first and of the second side, and the keys that must be equal.
    """
    everywhere = np.ones_like(known)
    return [(known, known, [value]), (~known, everywhere, []), (known, ~known, [])]


def _in_turn(
    first: Ints, second: Ints, keys: list[Array], start: Ints, end: Ints
) -> tuple[Ints, Ints]:
    """The rows of `first` and `second` with equal keys, in the order of their times: the n-th of
    one side with the n-th of the other.
    """
    rows = np.concatenate((first, second))
    side = np.arange(len(rows)) >= len(first)
    order = np.lexsort((end[rows], start[rows], side, *(key[rows] for key in keys)))
    rows, side = rows[order], side[order]
    if not len(rows):
        return rows, rows
    begin = np.flatnonzero(_changes(rows, keys))
    length = np.diff(np.append(begin, len(rows)))
    mine = length - np.add.reduceat(side.astype(np.int64), begin)
    place = np.arange(len(rows)) - np.repeat(begin, length)
    mine, length = np.repeat(mine, length), np.repeat(length, length)
    here = np.flatnonzero(~side & (place < length - mine))
    return rows[here], rows[here + mine[here]]


def _changes(rows: Ints, keys: list[Array]) -> Bools:
    """(rows,): where one of the keys differs from that of the row before."""
    changes = np.ones(len(rows), np.bool_)
    changes[1:] = False
    for key in keys:
        values = key[rows]
        changes[1:] |= values[1:] != values[:-1]
    return changes


def _in_chains(
    rows: Rows, first: Ints, second: Ints, keys: list[Array], slack: int
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of rows with equal keys in turn, where both sides have as many.

    A chain is rows that begin within `slack` ns of each other.  If two rows of it that have one
    place do not agree, none of it are paired.
    """
    number = np.concatenate((first, second))
    number = number[np.lexsort((rows.moment[number], *(key[number] for key in keys)))]
    begins = _changes(number, keys)
    begins[1:] |= np.diff(rows.moment[number]) > slack
    chain = np.zeros(len(rows.key), np.int64)
    chain[number] = np.cumsum(begins)
    rest = np.bincount(chain[first], minlength=len(number) + 1)
    rest -= np.bincount(chain[second], minlength=len(number) + 1)
    here, there = _in_turn(
        first[rest[chain[first]] == 0],
        second[rest[chain[second]] == 0],
        [chain],
        rows.moment,
        rows.end,
    )
    rest[chain[here[~rows.agree(here, there, slack)]]] = 1
    agree = rest[chain[here]] == 0
    yield here[agree], there[agree]


def _nearest(
    rows: Rows, first: Ints, second: Ints, keys: list[Array], slack: int
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of rows with equal keys that agree: the nearest first.

    The flows of a key follow each other, so the rows of one flow are neighbours in the order of
    any time at which it was alive.
    """
    number, side = _alternating(rows, first, second, keys)
    for _ in range(_ROUNDS):
        left, right = number[:-1], number[1:]
        fits = ~_changes(number, keys)[1:] & (side[:-1] != side[1:])
        fits &= rows.agree(left, right, slack)
        if not fits.any():
            return
        gap = np.where(fits, rows.distance(left, right), _FAR)
        before, after = np.append(_FAR, gap[:-1]), np.append(gap[1:], _FAR)
        chosen = np.flatnonzero(fits & (gap < before) & (gap <= after))
        here, there, swap = left[chosen], right[chosen], side[chosen]
        yield np.where(swap, there, here), np.where(swap, here, there)
        kept = np.ones(len(number), np.bool_)
        kept[chosen] = kept[chosen + 1] = False
        number, side = number[kept], side[kept]


def _in_turn_near(
    rows: Rows, first: Ints, second: Ints, keys: list[Array], slack: int
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of rows with equal keys that agree, in turn among those with nearly equal times.

    Where receipts differ by more than the flows are apart, rows of one flow are no neighbours.
    """
    free = np.ones(len(rows.key), np.bool_)
    has_end = rows.end_rank >= EVENT
    for width, shift in ((SECOND, 0), (slack, 0), (slack, slack // 2)):
        # Squeezing rounds a start down and an end up.
        begin, end = (rows.moment + shift) // width, -(-(rows.end + shift) // width)
        for chosen, more in ((has_end, [end]), (np.ones_like(has_end), [])):
            some, other = first[(free & chosen)[first]], second[(free & chosen)[second]]
            here, there = _in_turn(some, other, [*keys, begin, *more], rows.moment, rows.end)
            agree = rows.agree(here, there, slack)
            yield here[agree], there[agree]
            free[here[agree]] = free[there[agree]] = False


def _alternating(rows: Rows, first: Ints, second: Ints, keys: list[Array]) -> tuple[Ints, Bools]:
    """The rows in the order of the keys and of time, and whether each is of `second`.

    Of equal times the two sides take turns: a batch has one time of receipt.
    """
    number = np.concatenate((first, second))
    side = np.arange(len(number)) >= len(first)
    moment, values = rows.moment[number], [key[number] for key in keys]
    order = np.lexsort((rows.end[number], side, moment, *values))
    same = _changes(number[order], [*keys, rows.moment])
    same[1:] |= side[order][1:] != side[order][:-1]
    begin = np.maximum.accumulate(np.where(same, np.arange(len(order)), 0))
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - begin
    order = np.lexsort((side, turn, moment, *values))
    return number[order], side[order]
