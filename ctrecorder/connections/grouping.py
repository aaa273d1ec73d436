"""Groups parts into flows: the parts of one key, in the order of arrival, are cut into flows.

One key names many flows over time, because ids and tuples are used again.  `pairing` has the rules.
`RecentEnds` keeps the ends of flows with which later parts are compared.  Pure; all parts are
compared at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array, Source, Table
from ctrecorder.connections import flowkey
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.parts import COUNTERS, DESTROY, EXISTING, NEW, Bools, Ints, Parts
from ctrecorder.connections.repeats import Gaps, same_ends, same_news
from ctrecorder.times import SECOND

# The greatest difference in time between an EXISTING row and the event that it should have come
# before or after: a dump arrives through another socket than the events.  The backlog of a socket
# (some 100,000 events) is read in less than a second, and a block is written after one second.
# Less: ended flows appear again, and flows are cut in two.  More: if a tuple and an id are used
# again within this time, and the NEW was lost, the flow appears only with its next row.
RACE_NS = 5 * SECOND
# The greatest distance in rows for the same: some blocks of 65,536.  It bounds the memory for the
# ends that are kept for this comparison (about 20 MB).
RACE_ROWS = 262_144
# What `RecentEnds` keeps of an end.
_COMPARED = (*KEY, "start", "start_source", "end", "end_source", "seen", "time", "present")
_HASH_BITS = 16  # of a first comparison by a table
_PIECES = 16  # of ends that are kept; more are joined
# The greatest difference between two readings of one clock, and the rounding of squeezed times.
SKEW_NS = SECOND


@dataclass
class _Sorted:
    """Parts in the order of their keys, parts of one key in the order of arrival; (rows,) each.

    part: the number of the part.
    first: it is the first of its key.
    arrived: it has just arrived; the others are open flows and ends of earlier flows.
    seen: its column `seen`.
    """

    part: Ints
    first: Bools
    arrived: Bools
    seen: Array

    def __len__(self) -> int:
        return len(self.part)

    def take(self, index: Ints) -> _Sorted:
        return _Sorted(self.part[index], self.first[index], self.arrived[index], self.seen[index])


@dataclass
class Flows:
    """Parts cut into flows: flow k has the parts `order[at[k]:at[k + 1]]`.

    order: (parts,) numbers of parts; stale ones are left out.
    at: (flows,) where each flow begins in `order`.
    is_old_end: (flows,) the flow is only the end of an earlier flow, kept for comparison.
    is_closed: (flows,) another flow of the same key follows, which started at `closed_at`, ns.
    repeats: (repeats,) numbers of parts that the kernel sent again (see `repeats`), in no order.
    lone_ends: (some,) numbers of parts that are only a DESTROY, have just arrived, and begin a
    flow.
    """

    order: Ints
    at: Ints
    is_old_end: Bools
    is_closed: Bools
    closed_at: Ints
    repeats: Ints
    lone_ends: Ints


def group(
    parts: Parts, by_key: tuple[Ints, Bools], old_ends: int, carried: int, gaps: Gaps
) -> Flows:
    """Cut `parts` into flows.

    `by_key`: as `flowkey.sort` returns it.  The first `old_ends` parts are ends of earlier flows,
    the next ones, up to `carried`, are open flows, the others have just arrived.  `gaps`: of their
    family.
    """
    order, first = by_key
    rows = _Sorted(order, first, order >= carried, parts.table["seen"][order])
    if (rows.seen == EXISTING).any():
        rows = rows.take(np.flatnonzero(~_stale(parts, rows, gaps)))
    ends = _repeated_ends(parts, rows, gaps)
    repeats = rows.part[ends]
    if len(ends):
        kept = np.ones(len(rows), np.bool_)
        kept[ends] = False
        rows = rows.take(np.flatnonzero(kept))
    begins, news = _begins(parts, rows, gaps)
    repeats = np.concatenate([repeats, rows.part[news]])
    at = np.flatnonzero(begins)
    lone_ends = rows.part[np.flatnonzero(begins & rows.arrived & (rows.seen == DESTROY))]
    is_closed = np.zeros(len(at), np.bool_)
    is_closed[:-1] = ~rows.first[at[1:]]
    closed_at = np.zeros(len(at), np.int64)
    closed_at[:-1] = parts.table["start"][rows.part[at[1:]]]
    return Flows(rows.part, at, rows.part[at] < old_ends, is_closed, closed_at, repeats, lone_ends)


def _last_other(first: Bools, skipped: Bools) -> Ints:
    """For each row: the last row up to it, of its key, that is not `skipped`; -1: there is none."""
    numbers = np.arange(len(first))
    other = np.maximum.accumulate(np.where(skipped, -1, numbers))
    begin = np.maximum.accumulate(np.where(first, numbers, 0))
    return np.where(other >= begin, other, -1)


def _stale(parts: Parts, rows: _Sorted, gaps: Gaps) -> Bools:
    """(rows,): EXISTING rows that arrived after the DESTROY of their flow.

    A recorder that was started after the DESTROY made its dump after it: what is in it is alive.
    """
    start, start_source = parts.table["start"], parts.table["start_source"]
    existing = (rows.seen == EXISTING) & rows.arrived
    other = _last_other(rows.first, existing)
    after = np.flatnonzero(existing & (other >= 0))
    after = after[parts.ended[rows.part[other[after]]]]
    here, there = rows.part[after], rows.part[other[after]]
    close = np.abs(parts.last_time[here] - parts.last_time[there]) <= RACE_NS
    both_exact = (start_source[here] == Source.KERNEL) & (start_source[there] == Source.KERNEL)
    apart = np.abs(start[here] - start[there])
    close = np.where(both_exact, (apart == 0) | (close & (apart <= SKEW_NS)), close)
    close &= parts.row[here] - parts.row[there] <= RACE_ROWS
    close &= ~gaps.has_restart(parts.last_time[there], parts.last_time[here])
    # A row that is not stale begins a flow, and the EXISTING rows after it belong to that flow.
    fresh: Array = np.full(len(rows), -1, np.int64)
    fresh[after[~close]] = after[~close]
    fresh = np.maximum.accumulate(fresh)
    stale = np.zeros(len(rows), np.bool_)
    stale[after] = fresh[after] < other[after]
    return stale


def _repeated_ends(parts: Parts, rows: _Sorted, gaps: Gaps) -> Ints:
    """(some,): the rows that are a DESTROY which the kernel sent again."""
    after_end = ((rows.seen[:-1] & DESTROY) != 0) & (rows.seen[1:] == DESTROY)
    again: Ints = np.flatnonzero(after_end & rows.arrived[1:] & ~rows.first[1:]) + 1
    here, before = rows.part[again], rows.part[again - 1]
    close = parts.row[here] - parts.row[before] <= RACE_ROWS
    again, here, before = again[close], here[close], before[close]
    if len(again):
        again = again[same_ends(parts, here, before, gaps)]
    return again


def _begins(parts: Parts, rows: _Sorted, gaps: Gaps) -> tuple[Bools, Ints]:
    """(rows,): whether a row begins a flow; and (some,): the rows that are a repeated NEW."""
    start, start_source = parts.table["start"], parts.table["start_source"]
    after_end = np.zeros(len(rows), np.bool_)
    after_end[1:] = parts.ended[rows.part[:-1]]
    begins: Bools = rows.first | after_end | ~rows.arrived
    # A start that is later than all events of the flow before it belongs to another flow.
    inside = np.flatnonzero(~begins)
    here, before = rows.part[inside], rows.part[inside - 1]
    later = start[here] > parts.last_time[before] + SKEW_NS
    begins[inside[later & (start_source[here] == Source.KERNEL)]] = True
    is_new = (rows.seen & NEW) != 0
    news = np.flatnonzero(is_new & ~begins)
    if not len(news):
        return begins, news
    repeats = _repeated_news(parts, rows, is_new, begins, news, gaps)
    begins[news] = True
    begins[repeats] = False
    begins[_overtaken(parts, rows, begins, news)] = False
    return begins, repeats


def _repeated_news(
    parts: Parts, rows: _Sorted, is_new: Bools, begins: Bools, news: Ints, gaps: Gaps
) -> Ints:
    """Those of `news`, rows that are NEW inside a flow, that the kernel sent again.

    `begins`: (rows,) where flows begin if no NEW begins one.
    """
    numbers = np.arange(len(rows))
    last_new = np.maximum.accumulate(np.where(is_new, numbers, -1))
    begin = np.maximum.accumulate(np.where(begins, numbers, 0))
    # The rows from `begin` on are one flow, or several that begin with a NEW.
    second: Ints = news[last_new[news - 1] >= begin[news]]
    same = same_news(parts, rows.part[second], rows.part[second - 1], gaps)
    return np.compress(same, second)


def _overtaken(parts: Parts, rows: _Sorted, begins: Bools, news: Ints) -> Ints:
    """Those of `news`, rows that are NEW inside a flow, that EXISTING rows of it overtook."""
    start, start_source = parts.table["start"], parts.table["start_source"]
    only_existing = rows.seen == EXISTING
    joining: Ints = news[only_existing[news - 1]]
    begin = np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))
    alone = _last_other(rows.first, only_existing)[joining - 1] < begin[joining - 1]
    here, before = rows.part[joining], rows.part[joining - 1]
    ahead = start[here] - parts.last_time[before]
    exact = parts.exact[here] | (start_source[here] == Source.KERNEL)
    return np.compress(alone & (ahead <= np.where(exact, 0, RACE_NS)), joining)


class RecentEnds:
    """The ends of the last `RACE_ROWS` rows, with the columns that grouping compares."""

    def __init__(self, empty: Parts, kept: list[Parts]) -> None:
        """`kept`: the ends so far."""
        self._empty, self._kept = empty, kept
        self._hashes: list[NDArray[np.uint64]] = []  # of the first of `_kept`, as far as needed

    @property
    def kept(self) -> list[Parts]:
        """All of them, the oldest first."""
        return self._kept

    def remember(self, batch: Parts) -> None:
        """Keep the ends in `batch`, the last rows."""
        oldest = int(batch.row[-1]) + 1 - RACE_ROWS
        is_end = (batch.table["seen"] & DESTROY) != 0
        is_kept = is_end & (batch.row >= oldest)
        is_timed = (batch.table["start_source"] == Source.KERNEL) & (
            batch.table["end_source"] == Source.KERNEL
        )
        # Two events with kernel times are compared by these alone.
        counts = ("status", *COUNTERS) if (is_kept & ~is_timed).any() else ()
        compared = replace(batch, table=batch.table.select((*_COMPARED, *counts)))
        recent = compared.take(np.flatnonzero(is_kept))
        while self._kept and self._kept[0].row[-1] < oldest:
            del self._kept[0], self._hashes[:1]
        if len(recent.row):
            self._kept.append(recent)
        if len(self._kept) > _PIECES:
            whole = Parts.concat(self._kept)
            self._kept = [whole.take(np.flatnonzero(whole.row >= oldest))]
            self._hashes = []

    def like(self, table: Table) -> Parts:
        """Those that have the key of a row of `table`."""
        for part in self._kept[len(self._hashes) :]:
            self._hashes.append(flowkey.hashes(part.table))
        wanted = np.unique(flowkey.hashes(table))
        shift = np.uint64(64 - _HASH_BITS)
        upper = np.zeros(1 << _HASH_BITS, np.bool_)
        upper[wanted >> shift] = True
        found = [self._empty]
        for part, hashes in zip(self._kept, self._hashes, strict=True):
            near = np.flatnonzero(upper[hashes >> shift])
            near = near[np.isin(hashes[near], wanted)]
            if len(near):
                found.append(part.take(near))
        return Parts.concat(found)
