"""Pairing: events become connections, by what the kernel said and in the order in which it was
heard.

Pure, vectorised, and the same whatever the batches: `Pairer` carries the open flows from one table
to the next.  Rows pair by (id, zones, tuple), compared column by column; a hash only orders them.
One key names many flows over time (ids and tuples come back), so the order of arrival decides.  In
it, of one key:

- NEW begins a flow.  One that was still open lost its DESTROY: it ended at or before the new one's
  start (BOUND).
- DESTROY ends the flow.  UPDATE and EXISTING refresh it, or begin one that was not known: it
  started at the kernel's start, or at or before the row's time (BOUND).
- A kernel start later than all that was heard of the open flow belongs to another flow, whose NEW
  was lost.
- A dump runs beside the events, through another socket, so an EXISTING row may come out of order by
  as much as is under way. Before its NEW: that NEW joins the flow.  After its DESTROY: that row is
  stale and makes no flow.  See `RACE_NS`, `RACE_ROWS`.
- A flow that a complete dump lacks ended at or before the dump's end (BOUND).  Its DESTROY may
  still be under way, and then says it better: the flow waits for it until a later dump (`LATE_NS`).
   (A dump leaves out what waits to be collected.)
- A DESTROY heard before its NEW (possible for some microseconds, on two CPUs) stays a connection
  without a start; the flow of the NEW is ended by the next dump.

- Where no id and not the whole tuple was told, many flows of one key are open at once: `alike`
  tells them apart.

Times: the kernel's (KERNEL) win over the time of the event (RECEIPT), that over a BOUND.  Of
status, mark, counters and TCP state the last that were `present` are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrecorder.columns import Array, Source, Table, bit
from ctrecorder.connections import flowkey, lookalikes
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.parts import (
    DESTROY,
    EXISTING,
    NEW,
    VALUES,
    Bools,
    Ints,
    Parts,
    is_whole,
    parts_of_connections,
    parts_of_events,
)

# An EXISTING row is at most this much younger than the row of the event socket that it should have
# come before or after.  The backlog of the socket (some 100,000 events) is read in less than a
# second, a block is written after one.  Shorter: ghosts of ended flows, and flows cut in two.
#  Longer: a flow whose tuple and id came back so soon, and whose NEW was lost, waits for its next
# row.
RACE_NS = 5_000_000_000
# Ended flows are remembered for that purpose over so many rows: some blocks of 65,536.  It bounds
# their memory (about 20 MB).
RACE_ROWS = 262_144
# Clocks are read at slightly different moments, and squeezed times may be whole seconds.
SKEW_NS = 1_000_000_000
# The collector of timed-out entries needs up to a minute for a scan; twice that, and some.
LATE_NS = 150_000_000_000
# Rows wait until they are worth a pass over the open flows.  Fewer: slower; more: memory.
BATCH_ROWS = 65_536

# Columns of a connection that are not simply its last part's
_OF_ALL_PARTS = frozenset(("seen", "time", "start", "start_source", "present"))
_RANK = np.array([0, 3, 2, 1] + [0] * 252, np.int64)  # of a Source: how good it is


class Pairer:
    """Turns tables of events into tables of connections; carries the open flows.

    Memory: the open flows (bounded by the conntrack table that was recorded), as many waiting rows
    or `BATCH_ROWS`, and the keys of what ended in the last `RACE_ROWS` rows.  A connection's table
    has the columns KEY, VALUES (those that were fed), SPAN and `present`; while it may go on also
    `time`, when last heard of.
    """

    def __init__(self) -> None:
        self._families: dict[int, _Flows] = {}

    def feed(self, table: Table) -> list[Table]:
        """Take the next rows in order of arrival; return connections that ended (now or in earlier
        rows), in no set order.

        `table` holds events, or connections (as squeezed: no column `event`), of which the whole
        ones are returned as they are and the parts join what they belong to.
        """
        done = []
        if "event" in table:
            parts_ = parts_of_events(table)
        else:
            whole = is_whole(table)
            if whole.all():
                return [table] if len(table) else []
            if whole.any():
                done.append(table.take(whole))
            parts_ = parts_of_connections(table.take(~whole))
        if table.family not in self._families:
            self._families[table.family] = _Flows(table.family)
        return done + self._families[table.family].feed(parts_)

    def snapshot(self, begin_ns: int, end_ns: int) -> list[Table]:
        """A complete dump, whose rows were fed, ran from `begin_ns` to `end_ns`: what was not heard
        of since has ended.
        """
        return [
            table for flows in self._families.values() for table in flows.snapshot(begin_ns, end_ns)
        ]

    def earliest(self) -> int | None:
        """The earliest start, ns, of a flow that is open or was not paired yet; None: there is none."""
        starts = [flows.earliest() for flows in self._families.values()]
        return min((start for start in starts if start is not None), default=None)

    def finish(self) -> list[Table]:
        """All that remains: the open flows (`end` 0, UNKNOWN), and those that a dump has ended
        (BOUND).  Starts afresh.
        """
        done = [table for flows in self._families.values() for table in flows.finish()]
        self._families = {}
        return done


def _without_time(table: Table) -> Table:
    return table.select([name for name in table.columns if name != "time"])


class _Flows:
    """The flows of one family: open ones, waiting rows, and what ended a short while ago."""

    def __init__(self, family: int) -> None:
        empty = parts_of_events(Table(family, 0, {}))
        self._empty, self._open = empty, empty
        self._ended: list[Parts] = [empty]
        self._waiting: list[Parts] = []
        self._rows_waiting = self._rows_heard = 0

    def feed(self, parts_: Parts) -> list[Table]:
        rows = len(parts_.table)
        parts_.row = np.arange(self._rows_heard, self._rows_heard + rows)
        self._rows_heard += rows
        self._rows_waiting += rows
        self._waiting.append(parts_)
        return self._pair() if self._rows_waiting >= max(BATCH_ROWS, len(self._open.table)) else []

    def snapshot(self, begin_ns: int, end_ns: int) -> list[Table]:
        done = self._pair()
        table = self._open.table
        if not len(table):
            return done
        gone = table["time"] < begin_ns
        bound = gone & (table["end_source"] == Source.BOUND)
        late = bound & (np.abs(begin_ns - table["end"]) > LATE_NS)
        if late.any():
            done.append(_without_time(table.take(late)))
        fresh = gone & ~bound
        if fresh.any():
            ends = np.where(fresh, end_ns, table["end"])
            sources = np.where(fresh, np.uint8(Source.BOUND), table["end_source"])
            self._open.table = Table(
                table.family, len(table), {**table.columns, "end": ends, "end_source": sources}
            )
        if late.any():
            self._open = self._open.take(~late)
        return done

    def earliest(self) -> int | None:
        tables = [part.table for part in (self._open, *self._waiting) if len(part.table)]
        starts = [np.where(table["start"] == 0, table["time"], table["start"]) for table in tables]
        return min((int(start.min()) for start in starts), default=None)

    def finish(self) -> list[Table]:
        done = self._pair()
        table = self._open.table
        self._open = self._empty
        return [*done, table] if len(table) else done

    def _pair(self) -> list[Table]:
        """Pair what waits with what is open; keep what stays open."""
        if not self._rows_waiting:
            return []
        batch = Parts.concat(self._waiting)
        self._waiting, self._rows_waiting = [], 0
        # What has ended matters to EXISTING rows alone.
        ended = (
            Parts.concat(self._ended) if (batch.table["seen"] == EXISTING).any() else self._empty
        )
        work = Parts.concat([ended, self._open, batch])
        carried = len(work.table) - len(batch.table)
        work.table = _tell_apart(work, len(ended.table))
        flows = _group(work, len(ended.table), carried)
        self._remember(batch)
        self._open = flows.take_open(work)
        done = flows.take_done(work)
        return [_without_time(done)] if len(done) else []

    def _remember(self, batch: Parts) -> None:
        """Keep the ends of the last `RACE_ROWS` rows; of each only what `_stale` and the key need."""
        oldest = self._rows_heard - RACE_ROWS
        recent = batch.take(
            np.flatnonzero(((batch.table["seen"] & DESTROY) != 0) & (batch.row >= oldest))
        )
        recent.table = recent.table.select((*KEY, "start", "start_source", "seen", "time"))
        kept = [part for part in self._ended if len(part.row) and part.row[-1] >= oldest]
        self._ended = [*kept, recent]


def _tell_apart(work: Parts, remembered: int) -> Table:
    """The rows, with numbers for ids where flows look alike.

    The first `remembered` are ends of the past, which have no part in it.
    """
    begins, ends = ((work.table["seen"] & event) != 0 for event in (NEW, DESTROY))
    ends[:remembered] = begins[:remembered]
    return lookalikes.number(work.table, work.row, begins, ends)


@dataclass
class _Grouped:
    """Rows in `order`, cut into flows: flow k has the rows order[at[k]:at[k + 1]].

    `skip` (flows,): an end that was only remembered; `closed` (flows,): followed by another flow of
    its key, which began at `closed_at`; `start` (flows,): the row in `order` that knows the start
    best.
    """

    order: Ints
    at: Ints
    skip: Bools
    closed: Bools
    closed_at: Ints

    def _merge(self, work: Parts, flows: Ints) -> tuple[Ints, Parts]:
        """The flows in the order of their last parts (so memory is read from front to back), and
        the parts of each as one.
        """
        table = work.table
        ends = np.append(self.at[1:], len(self.order))
        flow_of = np.full(len(table), -1, np.int64)
        flow_of[self.order[ends[flows] - 1]] = flows
        flows = flow_of[flow_of >= 0]
        starts, stops = self.at[flows], ends[flows]
        lengths = stops - starts
        last = self.order[stops - 1]
        # The rows of these flows alone, one after the other.
        offsets = np.cumsum(lengths) - lengths
        rows = self.order[np.arange(int(lengths.sum())) + np.repeat(starts - offsets, lengths)]
        several = len(rows) > len(flows)
        of_last = [name for name in table.columns if not several or name not in _OF_ALL_PARTS]
        columns: dict[str, Array] = {name: table[name].take(last) for name in of_last}
        if several:
            columns["seen"] = np.bitwise_or.reduceat(table["seen"][rows], offsets)
            columns["time"] = np.maximum.reduceat(table["time"][rows], offsets)
            best = rows[_best_start(table["start_source"][rows], offsets)]
            columns["start"], columns["start_source"] = (
                table["start"][best],
                table["start_source"][best],
            )
            known = table["present"][rows]
            columns["present"] = np.bitwise_or.reduceat(known, offsets)
            _fill_in(table, columns, rows, known, offsets)
        whole = Table(table.family, len(flows), columns)
        return flows, Parts(
            whole, work.heard[last], work.row[last], work.exact[last], work.ended[last]
        )

    def _ended(self, work: Parts) -> Bools:
        """(flows,): whether the last row is an end."""
        ended: Bools = work.ended[self.order[np.append(self.at[1:], len(self.order)) - 1]]
        return ended

    def take_open(self, work: Parts) -> Parts:
        """The flows that stay open."""
        return self._merge(work, np.flatnonzero(~(self.skip | self.closed | self._ended(work))))[1]

    def take_done(self, work: Parts) -> Table:
        """The flows that ended, each with its end."""
        ended = self._ended(work)
        flows, merged = self._merge(work, np.flatnonzero((self.closed | ended) & ~self.skip))
        table = merged.table
        cut = ~ended[flows] & (table["end_source"] == Source.UNKNOWN)
        if cut.any():
            ends = np.where(cut, self.closed_at[flows], table["end"])
            sources = np.where(cut, np.uint8(Source.BOUND), table["end_source"])
            table = Table(
                table.family, len(table), {**table.columns, "end": ends, "end_source": sources}
            )
        return table


def _best_start(source: Array, offsets: Ints) -> Ints:
    """For the flows that begin at `offsets`: the row with the best start; of KERNEL ones the last,
    of others the first.
    """
    places = np.arange(len(source))
    later = np.where(source == Source.KERNEL, places, len(source) - places)
    best = np.maximum.reduceat(_RANK[source] << 40 | later, offsets)
    place: Ints = best & ((1 << 40) - 1)
    return np.where(best >> 40 == _RANK[Source.KERNEL], place, len(source) - place)


def _fill_in(
    table: Table, columns: dict[str, Array], rows: Ints, known: Array, offsets: Ints
) -> None:
    """Where the last row of a flow was not told a value that an earlier one was: take it from the
    last that was.
    """
    last_known = np.append(known[offsets[1:] - 1], known[-1:])
    missing = columns["present"] & ~last_known
    for name in VALUES:
        lacks = np.flatnonzero(missing & bit(name))
        if name in table and len(lacks):
            told = np.where((known & bit(name)) != 0, np.arange(len(rows)), 0)
            values = columns[name].copy()
            values[lacks] = table[name][rows[np.maximum.reduceat(told, offsets)[lacks]]]
            columns[name] = values


def _group(work: Parts, remembered: int, carried: int) -> _Grouped:
    """Cut the rows into flows.

    The first `remembered` rows are ends of the past, those up to `carried` are the open flows.
    """
    order, first = flowkey.sort(work.table)
    seen = work.table["seen"][order]
    pure = seen == EXISTING
    if pure.any():
        keep = ~_stale(work, order, first, pure, carried)
        order, first, seen, pure = order[keep], first[keep], seen[keep], pure[keep]
    begins = _begins(work, order, first, seen, pure, carried)
    at = np.flatnonzero(begins)
    closed = np.zeros(len(at), np.bool_)
    closed[:-1] = ~first[at[1:]]
    closed_at = np.zeros(len(at), np.int64)
    closed_at[:-1] = work.table["start"][order[at[1:]]]
    return _Grouped(order, at, order[at] < remembered, closed, closed_at)


def _last_other(first: Bools, pure: Bools) -> Ints:
    """For each row: the last one up to it, of its key, that is not `pure`; -1 if there is none."""
    places = np.arange(len(first))
    other = np.maximum.accumulate(np.where(pure, -1, places))
    begin = np.maximum.accumulate(np.where(first, places, 0))
    return np.where(other >= begin, other, -1)


def _stale(work: Parts, order: Ints, first: Bools, pure: Bools, carried: int) -> Bools:
    """EXISTING rows that were on their way while the DESTROY of their flow was heard."""
    table, heard, row = work.table, work.heard, work.row
    waiting = pure & (order >= carried)
    other = _last_other(first, waiting)
    after = np.flatnonzero(waiting & (other >= 0))
    after = after[work.ended[order[other[after]]]]
    here, there = order[after], order[other[after]]
    close = (row[here] - row[there] <= RACE_ROWS) & (np.abs(heard[here] - heard[there]) <= RACE_NS)
    both = (table["start_source"][here] == Source.KERNEL) & (
        table["start_source"][there] == Source.KERNEL
    )
    close &= ~(both & (np.abs(table["start"][here] - table["start"][there]) > SKEW_NS))
    # A row that is not stale begins a flow, and the rows behind it belong to that.
    fresh: Array = np.full(len(order), -1, np.int64)
    fresh[after[~close]] = after[~close]
    fresh = np.maximum.accumulate(fresh)
    stale = np.zeros(len(order), np.bool_)
    stale[after] = fresh[after] < other[after]
    return stale


def _begins(
    work: Parts, order: Ints, first: Bools, seen: Array, pure: Bools, carried: int
) -> Bools:
    """(rows,): whether a row of `order` begins a flow."""
    table, heard = work.table, work.heard
    ended = np.zeros(len(order), np.bool_)
    ended[1:] = work.ended[order[:-1]]
    new = (seen & NEW) != 0
    begins: Bools = first | ended | (order < carried) | new
    before = np.append(order[:1], order[:-1])
    # A start that is later than anything heard of the flow before.
    inside = np.flatnonzero(~begins)
    here = order[inside]
    late = (table["start_source"][here] == Source.KERNEL) & (
        table["start"][here] > heard[before[inside]] + SKEW_NS
    )
    begins[inside[late]] = True
    # A NEW that comes behind the EXISTING rows of its own flow.
    maybe = np.zeros(len(order), np.bool_)
    maybe[1:] = new[1:] & pure[:-1]
    joining = np.flatnonzero(maybe & ~first & (order >= carried))
    if len(joining):
        begin = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
        alone = _last_other(first, pure)[joining - 1] < begin[joining - 1]
        here = order[joining]
        ahead = table["start"][here] - heard[before[joining]]
        exact = work.exact[here] | (table["start_source"][here] == Source.KERNEL)
        begins[joining[alone & (ahead <= np.where(exact, 0, RACE_NS))]] = False
    return begins
