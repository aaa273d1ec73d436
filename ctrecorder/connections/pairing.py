"""Pairing: events become connections, by what the kernel reported and by the order of arrival.

Pure and vectorised.  `Pairer` carries the open flows from one table to the next; the result does
not depend on where one table ends and the next begins.  Rows pair if (id, zones, tuple) is equal in
every column; a hash is only used to sort.  One key names many flows over time, because ids and
tuples are used again, so the order of arrival decides.  For the rows of one key:

- NEW begins a flow.  If a flow is still open and the NEW is no repeat, the DESTROY was lost: the
  flow ended at or before the start of the new flow (BOUND).
- DESTROY ends the flow.  UPDATE and EXISTING refresh it.  If no flow is open they begin one, which
  started at the kernel's start, or at or before the time of the row (BOUND).
- A kernel start that is later than all rows of the open flow belongs to another flow, whose NEW was
  lost.
- A dump arrives through another socket than the events, so an EXISTING row can arrive too early or
  too late (`RACE_NS`, `RACE_ROWS`).  Before the NEW of its flow: that NEW joins the flow.  After
  the DESTROY of its flow: the row is stale and begins no flow.  Equal kernel starts prove that,
  however late it is.
- A flow that a complete dump lacks ended at or before the end of the dump (BOUND).  Its DESTROY can
  still arrive, and its time is better: the flow waits for it until a later dump (`LATE_NS`).  (A
  dump lacks entries that have timed out and wait for the kernel's garbage collector.)
- The kernel can send a NEW or a DESTROY again; `repeats` has the rules for these.  A repeat is
  counted and is no event of its own.
- A DESTROY that arrives before its NEW (possible for some microseconds, on two CPUs) becomes a
  connection without a start.  The flow of the NEW is ended by the next dump.
- If neither the id nor the whole tuple is present, many flows of one key are open at once:
  `lookalikes` numbers them.

`grouping` decides which rows belong to one flow, `merging` makes one row of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ctrecorder.columns import Source, Table
from ctrecorder.connections import lookalikes
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.grouping import Flows, group
from ctrecorder.connections.merging import ended_flows, open_flows, with_bound
from ctrecorder.connections.parts import (
    DESTROY,
    EXISTING,
    NEW,
    Parts,
    is_whole,
    parts_of_connections,
    parts_of_events,
)
from ctrecorder.connections.recent_ends import RecentEnds
from ctrecorder.connections.repeats import Gaps
from ctrecorder.times import SECOND

# A flow that a dump lacked waits this long for its DESTROY.  The garbage collector needs up
# to a minute for a scan; this is twice that, and 30 s more.
LATE_NS = 150 * SECOND
# Rows wait until a pass over the open flows pays.  Fewer: slower.  More: more memory.
BATCH_ROWS = 65_536


class Pairer:
    """Turns tables of events into tables of connections; carries the open flows.

    Memory: the open flows (at most the size of the kernel's table), as many waiting rows or
    `BATCH_ROWS`, and the keys of flows that ended in the last `grouping.RACE_ROWS` rows.

    `repeats`: how many events were repeats, so far.

    A table of connections has the columns KEY, SPAN, `present` and of VALUES those that were fed.
    A connection that can still go on also has `time`, the greatest time of its events.
    """

    def __init__(self, on_repeats: Callable[[Table], None] | None = None) -> None:
        """`on_repeats`: is called with the events that are repeats: KEY, `seen`, `time`."""
        self.repeats = 0
        self._on_repeats = on_repeats
        self._families: dict[int, _Flows] = {}
        self._gaps: set[tuple[int, int, int | None]] = set()

    def add_gaps(self, gaps: Iterable[tuple[int, int, int | None]]) -> None:
        """Add times of which events may be missing: begin and end, ns, family or None for all.

        In these times no event counts as a repeat.  Call it before their rows are fed; to add a gap
        twice has no effect.  A recording that does not count its losses is one gap.
        """
        added = set(gaps) - self._gaps
        if added:
            self._gaps |= added
            for family, flows in self._families.items():
                flows.gaps = self._gaps_of(family)

    def _gaps_of(self, family: int) -> Gaps:
        return Gaps((begin, end) for begin, end, of in self._gaps if of in (None, family))

    def _add_repeats(self, table: Table) -> None:
        self.repeats += len(table)
        if self._on_repeats is not None:
            self._on_repeats(table)

    def feed(self, table: Table) -> list[Table]:
        """Take the next rows in order of arrival.  Returns connections that ended, in no order.

        `table`: events, or squeezed connections (without the column `event`).  Of those, whole ones
        are returned as they are, and the others are joined with the flows they belong to.
        """
        done = []
        if "event" in table:
            parts = parts_of_events(table)
        else:
            whole = is_whole(table)
            if whole.all():
                return [table] if len(table) else []
            if whole.any():
                done.append(table.take(whole))
            parts = parts_of_connections(table.take(~whole))
        if table.family not in self._families:
            self._families[table.family] = _Flows(
                table.family, self._gaps_of(table.family), self._add_repeats
            )
        return done + self._families[table.family].feed(parts)

    def snapshot(self, begin_ns: int, end_ns: int) -> list[Table]:
        """End the flows that a complete dump lacks.

        The dump ran from `begin_ns` to `end_ns`, and its rows were fed: a flow without a row since
        then has ended.  Returns connections that ended.
        """
        return [
            table for flows in self._families.values() for table in flows.snapshot(begin_ns, end_ns)
        ]

    def earliest(self) -> int | None:
        """The earliest start, ns, of the flows that are open or wait; None: there are none."""
        starts = [flows.earliest() for flows in self._families.values()]
        return min((start for start in starts if start is not None), default=None)

    def finish(self) -> list[Table]:
        """All remaining connections; the pairer is then empty.

        The open ones have `end` 0 (UNKNOWN); those that a dump has ended have a BOUND.
        """
        done = [table for flows in self._families.values() for table in flows.finish()]
        self._families = {}
        return done


def _without_time(table: Table) -> Table:
    return table.select([name for name in table.columns if name != "time"])


class _Flows:
    """The flows of one family: open flows, waiting rows, and flows that ended recently."""

    def __init__(self, family: int, gaps: Gaps, on_repeats: Callable[[Table], None]) -> None:
        self.gaps, self._on_repeats = gaps, on_repeats
        empty = parts_of_events(Table(family, 0, {}))
        self._empty, self._open = empty, empty
        self._ends = RecentEnds(empty)
        self._waiting: list[Parts] = []
        self._rows_waiting = self._rows_fed = 0

    def feed(self, parts: Parts) -> list[Table]:
        rows = len(parts.table)
        parts.row = np.arange(self._rows_fed, self._rows_fed + rows)
        self._rows_fed += rows
        self._rows_waiting += rows
        self._waiting.append(parts)
        return self._pair() if self._rows_waiting >= max(BATCH_ROWS, len(self._open.table)) else []

    def snapshot(self, begin_ns: int, end_ns: int) -> list[Table]:
        done = self._pair()
        table = self._open.table
        if not len(table):
            return done
        missing = table["time"] < begin_ns
        bound = missing & (table["end_source"] == Source.BOUND)
        late = bound & (np.abs(begin_ns - table["end"]) > LATE_NS)
        if late.any():
            done.append(_without_time(table.take(late)))
        self._open.table = with_bound(table, missing & ~bound, end_ns)
        if late.any():
            self._open = self._open.take(np.flatnonzero(~late))
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
        """Pair the waiting rows with the open flows."""
        if not self._rows_waiting:
            return []
        batch = Parts.concat(self._waiting)
        self._waiting, self._rows_waiting = [], 0
        has_dump = (batch.table["seen"] == EXISTING).any()
        ends = self._ends.all() if has_dump else self._empty
        work, flows = self._group(ends, batch)
        if not has_dump:
            # Of other rows, only an end without a beginning is compared with flows that ended.
            alone = flows.lone_ends
            ends = self._ends.like(work.table.take(alone)) if len(alone) else ends
            if len(ends.table):
                work, flows = self._group(ends, batch)
        if len(flows.repeats):
            self._on_repeats(work.table.take(flows.repeats).select((*KEY, "seen", "time")))
        self._ends.remember(batch, self._rows_fed)
        self._open = open_flows(work, flows)
        done = ended_flows(work, flows)
        return [_without_time(done)] if len(done) else []

    def _group(self, ends: Parts, batch: Parts) -> tuple[Parts, Flows]:
        """`ends`, the open flows and `batch`, and how they are cut into flows."""
        work = Parts.concat([ends, self._open, batch])
        old_ends = len(ends.table)
        work.table = _numbered(work, old_ends)
        return work, group(work, old_ends, len(work.table) - len(batch.table), self.gaps)


def _numbered(work: Parts, old_ends: int) -> Table:
    """The rows, with numbers for ids where flows of one key are open at once.

    The first `old_ends` rows are ends of earlier flows: they do not take part.
    """
    begins, ends = ((work.table["seen"] & event) != 0 for event in (NEW, DESTROY))
    ends[:old_ends] = begins[:old_ends]
    return lookalikes.number(work.table, work.row, begins, ends)
