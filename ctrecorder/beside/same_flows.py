"""Which connections of recorders side by side are one flow.  Pure; all rows are compared at once.

The recorders heard one connection table.  In a table, the flows of one tuple (and zones) follow
each other.  So of each recorder the rows of one tuple are a part of the same sequence of flows, and
two rows are one flow if they have the same place in it:

- Both starts are of the kernel: they are equal, and so are two ends of the kernel, as far as
  squeezing has rounded them.
- Else: each was alive while the other can have been, within a slack.  Each must be the only one
  that the other can be one flow with.  Or both recorders heard of as many flows that follow each
  other, or one of them only of the first or of the last: these are matched in turn.

Two recorders heard one NEW, or one DESTROY, only if they ran at one time.  Ids must be equal where
both rows have one.  Rows of one recording are never one flow.  Rows of two
recordings are matched one to one.

Limit: without kernel times, where flows of one tuple follow each other within the slack and a
recorder missed some of them, it is not known which; then the rows stay separate, and flows are
listed twice.  So are, without ids, short flows of a recorder that was late by more than SKEW_NS.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from ctrecorder.beside.agreement import EVENT, KERNEL, ROUNDING_NS, Places, Rows, Spans, latest
from ctrecorder.columns import Array, Table
from ctrecorder.connections.grouping import RACE_NS, SKEW_NS
from ctrecorder.connections.merging import RANK
from ctrecorder.connections.parts import Bools, Ints

# The greatest difference between times of receipt of one message, in the order in which they are
# tried; the last one only for equal ids.  Less: rows are compared with too few others, and the one
# of another flow seems to be the only one; and a flow is listed twice if one recorder was slow.
# More: two flows that follow each other, of which each recorder has missed the other one, become
# one.
_SLACKS_NS = (SKEW_NS, RACE_NS)
# Rows of one flow can differ this much in their start, if it was recorded.
APART_NS = _SLACKS_NS[-1] + 2 * ROUNDING_NS[-1]

# Flows of one tuple that live for so long begin as long after each other, so a recorder that was
# late by less than half of it heard the same one.
_LONG_NS = 2 * _SLACKS_NS[-1]

_Side = tuple[Bools, Bools, list[Array]]


def same_flows(table: Table, recording: Ints, connection_table: Ints, spans: Ints) -> Ints:
    """(rows,): the number of one row of its flow, the same for all rows of a flow.

    `table`: connections of one family, with KEY, SPAN and `present`; `time` where it is known.
    `recording`, `connection_table`: (rows,) numbers.  `spans`: (rows, 2) ns, when the recording of
    each row was made.
    """
    rows = Rows.of(table, connection_table, spans)
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
        for slack in _SLACKS_NS:
            for find in (_only_ones, _in_chains):
                everywhere = np.ones_like(self._free)
                first, second = self._left(everywhere, everywhere)
                if len(first) and len(second):
                    self._take(*find(self._rows, first, second, slack))
        everywhere = np.ones_like(self._free)
        first, second = self._left(everywhere, everywhere)
        if len(first) and len(second):
            self._take(*_by_lives(self._rows, first, second))
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
                    here, there = _in_turn(first, second, [*keys, *more], rows.start, rows.until)
                    together = rows.lived_together(here, there, SKEW_NS)
                    self._take(here[together], there[together])

    def _left(self, mine: Bools, theirs: Bools) -> tuple[Ints, Ints]:
        """The rows of both sides that are not paired yet, of those that are wanted."""
        first, second = self._first, self._second
        return first[(mine & self._free)[first]], second[(theirs & self._free)[second]]

    def _take(self, here: Ints, there: Ints) -> None:
        self._here.append(here)
        self._there.append(there)
        self._free[here] = self._free[there] = False


def _both_or_one(known: Bools, value: Array) -> list[_Side]:
    """The ways in which two rows can agree in a value that is not `known` of all rows.

    Each: which rows of the first and of the second side, and the keys that must be equal.  Of
    several flows with one start, one that is open for both sides is one flow.
    """
    return [(known, known, [value]), (~known, ~known, []), (~known, known, []), (known, ~known, [])]


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


def _only_ones(rows: Rows, first: Ints, second: Ints, slack: int) -> tuple[Ints, Ints]:
    """Pairs of rows with equal keys, each of which can be one flow with no other row."""
    mine, theirs = Spans.of(rows, first, slack), Spans.of(rows, second, slack)
    places, other = Places.of_both(rows, mine, theirs)
    only = places.only(other)
    here = np.flatnonzero(only >= 0)
    here = here[other.only(places)[only[here]] == here]
    one, another = mine.row[here], theirs.row[only[here]]
    agree = _agree(rows, one, another, slack)
    return one[agree], another[agree]


def _agree(rows: Rows, here: Ints, there: Ints, slack: int) -> Bools:
    """(pairs,): whether two rows can be one flow; with the last slack only by their ids."""
    agree = rows.agree(here, there, slack)
    return agree & rows.has_id[here] & rows.has_id[there] if slack == _SLACKS_NS[-1] else agree


def _by_lives(rows: Rows, first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Pairs of rows with equal keys that lived for _LONG_NS and began within half of that.

    A table has one flow of a tuple at a time.  If the rows were two flows, one recorder would have
    been later than the other by more than times of receipt differ.
    """
    long = (rows.start_rank >= EVENT) & (rows.alive - rows.moment >= _LONG_NS)
    first, second = (
        each[np.lexsort((rows.moment[each], rows.key[each]))]
        for each in (first[long[first]], second[long[second]])
    )
    times = [
        rows.moment[each] + shift
        for shift in (-_LONG_NS // 2, 0, _LONG_NS // 2)
        for each in (first, second)
    ]
    moments, place = np.unique(np.concatenate(times), return_inverse=True)
    least, least_other, at, at_other, most, most_other = (
        rows.key[each] * len(moments) + part
        for each, part in zip(
            (first, second) * 3,
            np.split(place.reshape(-1), np.cumsum([len(each) for each in times])[:-1]),
            strict=True,
        )
    )
    only = _only_between(at_other, least, most)
    back = np.append(_only_between(at, least_other, most_other), -1)
    here = np.flatnonzero((only >= 0) & (back[only] == np.arange(len(first))))
    one, other = first[here], second[only[here]]
    agree = rows.may_be_one(one, other) & rows.lived_together(one, other, _SLACKS_NS[-1])
    return one[agree], other[agree]


def _only_between(places: Ints, least: Ints, most: Ints) -> Ints:
    """(rows,): the one of `places`, which rise, from `least` to `most`; -1: none or several."""
    low, high = np.searchsorted(places, least, "left"), np.searchsorted(places, most, "right")
    only: Ints = np.where(high - low == 1, low, -1)
    return only


def _in_chains(rows: Rows, first: Ints, second: Ints, slack: int) -> tuple[Ints, Ints]:
    """Pairs of rows with equal keys in turn, whose starts were recorded.

    A chain is rows that begin within `slack` ns of each other.  If one side has fewer rows, it
    began or ended to record in the chain: the rows are counted from the front or from the back.  If
    rows of one place do not agree, or both ways are possible, none of the chain are paired.
    """
    first, second = (each[rows.start_rank[each] >= EVENT] for each in (first, second))
    number = np.concatenate((first, second))
    number = number[np.lexsort((rows.moment[number], rows.key[number]))]
    begins = _changes(number, [rows.key])
    # One row that was rounded can be anywhere between others.
    at = np.flatnonzero(begins)
    rounded = np.maximum.reduceat(rows.rounded[number], at) if len(at) else at
    rounded = np.repeat(rounded, np.diff(np.append(at, len(number))))
    begins[1:] |= np.diff(rows.moment[number]) > slack + rounded[1:]
    chain = np.zeros(len(rows.key), np.int64)
    chain[number] = np.cumsum(begins)
    chains = len(number) + 1
    uneven = np.bincount(chain[first], minlength=chains) != np.bincount(
        chain[second], minlength=chains
    )
    ways = []
    for sign in (1, -1):
        here, there = _in_turn(first, second, [chain], sign * rows.moment, sign * rows.until)
        fits = np.ones(chains, np.bool_)
        fits[chain[here[~_agree(rows, here, there, slack)]]] = False
        ways.append((here, there, fits))
    (here, there, front), (here_back, there_back, back) = ways
    forward = (front & ~(uneven & back))[chain[here]]
    backward = (back & uneven & ~front)[chain[here_back]]
    return (
        np.concatenate((here[forward], here_back[backward])),
        np.concatenate((there[forward], there_back[backward])),
    )
