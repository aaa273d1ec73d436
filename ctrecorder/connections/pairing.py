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
  still arrive, and its time is better: the flow waits for it until a later dump
  (`late_dumps.LATE_NS`).  (A dump lacks entries that have timed out and wait for the kernel's
  garbage collector.)
- The kernel can send a NEW or a DESTROY again; `repeats` has the rules for these.  A repeat is
  counted and is no event of its own.  A repeated NEW that a dump overtook goes on with the flow
  that the dump has ended.
- A DESTROY that arrives before its NEW (possible for some microseconds, on two CPUs) becomes a
  connection without a start.  The flow of the NEW is ended by the next dump.
- If neither the id nor the whole tuple is present, many flows of one key are open at once:
  `lookalikes` numbers them.

`grouping` decides which rows belong to one flow, `merging` makes one row of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ctrecorder.columns import Table
from ctrecorder.connections.open_flows import Flows, Memory, OnRepeats
from ctrecorder.connections.parts import is_whole, parts_of_connections, parts_of_events
from ctrecorder.connections.repeats import Gaps

# Rows that are taken at once: a block of a recorder.  More cost memory.
_FED_ROWS = 1 << 16


class Pairer:
    """Turns tables of events into tables of connections; carries the open flows.

    Memory: that of `open_flows`: the open flows are in temporary files if they are too many.

    `repeats`: how many events were repeats, so far.

    A table of connections has the columns KEY, SPAN, `present` and of VALUES those that were fed.
    A connection that can still go on also has `time`, the greatest time of its events.
    """

    def __init__(self, on_repeats: OnRepeats | None = None, memory: Memory | None = None) -> None:
        """`on_repeats`: is called with the events that are repeats: KEY, `seen`, `time`.

        `memory`: for the open flows, which pairers can share; None: there is no bound.
        """
        self.repeats = 0
        self._memory = memory or Memory()
        self._on_repeats = on_repeats
        self._families: dict[int, Flows] = {}
        self._gaps: set[tuple[int, int, int | None]] = set()
        self._dumps: set[tuple[int, int]] = set()
        self._restarts: set[int] = set()

    def add_gaps(self, gaps: Iterable[tuple[int, int, int | None]]) -> None:
        """Add times of which events may be missing: begin and end, ns, family or None for all.

        In these times no event counts as a repeat.  Call it before their rows are fed; to add a gap
        twice has no effect.  A recording that does not count its losses is one gap.
        """
        added = set(gaps) - self._gaps
        if added:
            self._gaps |= added
            for family, flows in self._families.items():
                flows.gaps = Gaps(_of_family(added, family), flows.gaps)

    def add_dumps(self, dumps: Iterable[tuple[int, int]]) -> None:
        """Add complete dumps, begin and end, ns, whose `snapshot` comes after rows that are later.

        In squeezed segments, the dumps come last.  Call it before their rows are fed.
        """
        added = set(dumps) - self._dumps
        if added:
            self._dumps |= added
            for flows in self._families.values():
                flows.gaps = Gaps((), flows.gaps, added)

    def add_restart(self, moment: int) -> None:
        """Add when the recorder began anew, ns.  Call it before the rows of the new run are fed.

        A NEW after it is no repeat of one before it: the DESTROY between them was not received.
        """
        self._restarts.add(moment)
        for flows in self._families.values():
            flows.gaps = Gaps((), flows.gaps, restarts=(moment,))

    def _add_repeats(self, table: Table) -> None:
        self.repeats += len(table)
        if self._on_repeats is not None:
            self._on_repeats(table)

    def feed(self, table: Table) -> list[Table]:
        """Take the next rows in order of arrival.  Returns connections that ended, in no order.

        `table`: events, or squeezed connections (without the column `event`).  Of those, whole ones
        are returned as they are, and the others are joined with the flows they belong to.
        """
        if len(table) > _FED_ROWS:
            some = (table.slice(at, at + _FED_ROWS) for at in range(0, len(table), _FED_ROWS))
            return [connections for part in some for connections in self.feed(part)]
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
            self._families[table.family] = Flows(
                table.family,
                Gaps(
                    _of_family(self._gaps, table.family),
                    dumps=self._dumps,
                    restarts=self._restarts,
                ),
                self._add_repeats,
                self._memory,
            )
        return done + self._families[table.family].feed(parts)

    def snapshot(self, begin_ns: int, end_ns: int) -> Iterator[Table]:
        """End the flows that a complete dump lacks.

        The dump ran from `begin_ns` to `end_ns`, and its rows were fed: a flow without a row since
        then has ended.  Yields connections that ended; to be exhausted before the next rows.  Some
        wait, as rows do, and are returned later.
        """
        for flows in self._families.values():
            yield from flows.snapshot(begin_ns, end_ns)

    def settle(self) -> Iterator[Table]:
        """Pair all that waits: `earliest` is then that of flows that are open.

        Yields connections that ended; to be exhausted before the next rows.
        """
        for flows in self._families.values():
            yield from flows.settle()

    def earliest(self) -> int | None:
        """The earliest start, ns, of the flows that are open or wait; None: there are none."""
        starts = [flows.earliest() for flows in self._families.values()]
        return min((start for start in starts if start is not None), default=None)

    def finish(self) -> Iterator[Table]:
        """All remaining connections; the pairer is then empty.

        The open ones have `end` 0 (UNKNOWN); those that a dump has ended have a BOUND.
        """
        families, self._families = self._families, {}
        for flows in families.values():
            yield from flows.finish()


def _of_family(
    gaps: Iterable[tuple[int, int, int | None]], family: int
) -> Iterator[tuple[int, int]]:
    return ((begin, end) for begin, end, of in gaps if of in (None, family))
