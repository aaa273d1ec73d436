"""Open flows in memory: rows paired with them, and what dumps end.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple, Protocol

import numpy as np

from ctrecorder.columns import Source, Table
from ctrecorder.connections import flowkey, grouping, late_dumps, lookalikes
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.grouping import RecentEnds
from ctrecorder.connections.late_dumps import LATE_NS, Dump, Touched
from ctrecorder.connections.merging import ended_flows, open_flows, with_bound
from ctrecorder.connections.parts import (
    DESTROY,
    EXISTING,
    NEW,
    Bools,
    Ints,
    Parts,
    parts_of_events,
)
from ctrecorder.connections.repeats import Gaps


class Family(Protocol):
    """What all flows of a family share: `open_flows.Flows`."""

    family: int
    gaps: Gaps

    def may_pass(self, rows: int) -> bool:
        """Whether dumps may cost a pass over `rows` rows more, which is then counted."""

    def given_repeats(self, table: Table) -> None:
        """Take events that are repeats."""


class Core:
    """Open flows, and flows that ended recently, in memory."""

    def __init__(self, flows: Family, opened: Parts, ends: list[Parts]) -> None:
        self._flows = flows
        self._empty = parts_of_events(Table(flows.family, 0, {}))
        self.open, self.ends = opened, RecentEnds(self._empty, ends)

    @property
    def rows(self) -> int:
        return len(self.open.table) + sum(len(ends.table) for ends in self.ends.kept)

    def pair(self, batch: Parts, dumps: list[Dump]) -> Iterator[Table]:
        """Pair rows with the open flows; yields flows that ended.

        `dumps`: between the rows, and after them.
        """
        if not len(batch.table) and not dumps:
            return
        sorted_rows = self._sorted(batch)
        touched = sorted_rows.touched(dumps) if dumps else None
        if touched is not None:
            yield from self._pair_apart(batch, touched)
        elif len(batch.table):
            yield from self._pair(sorted_rows, batch)
        if len(batch.table):
            self.ends.remember(batch)

    def _pair_apart(self, batch: Parts, touched: Touched) -> Iterator[Table]:
        """Pair those rows by themselves whose flows dumps can change, dump by dump."""
        opened = len(self.open.table)
        is_open, is_new = np.split(touched.keys, [opened])
        some, others = batch.take(np.flatnonzero(is_new)), batch.take(np.flatnonzero(~is_new))
        ends = self.ends.like(some.table)
        apart = Core(
            self._flows,
            self.open.take(np.flatnonzero(is_open)),
            [ends] if len(ends.table) else [],
        )
        self.open = self.open.take(np.flatnonzero(~is_open))
        cuts = np.searchsorted(some.row, [dump.row for dump in touched.dumps])
        for rows, dump in zip_longest(np.split(np.arange(len(some.row)), cuts), touched.dumps):
            yield from apart.pair(some.take(rows), [])
            if dump is not None and self._flows.may_pass(len(apart.open.table)):
                yield from apart.snapshot(dump.begin, dump.end)
        if len(others.table):
            yield from self._pair(self._sorted(others), others)
        self.open = Parts.concat([self.open, apart.open])

    def _pair(self, sorted_rows: _Sorted, batch: Parts) -> Iterator[Table]:
        flows = sorted_rows.grouped(self._flows.gaps)
        work = sorted_rows.parts
        if len(flows.lone_ends):
            # An end without a beginning is compared with flows that ended, too.
            alone = work.take(np.concatenate([flows.lone_ends, _of_dumps(work)]))
            ends = self.ends.like(alone.table)
            if len(ends.table) > sorted_rows.ends:
                sorted_rows = self._sorted(batch, ends)
                flows, work = sorted_rows.grouped(self._flows.gaps), sorted_rows.parts
        if len(flows.repeats):
            repeats = work.table.take(flows.repeats)
            self._flows.given_repeats(repeats.select((*KEY, "seen", "time")))
        self.open = open_flows(work, flows)
        done = ended_flows(work, flows)
        if len(done):
            yield _without_time(done)

    def snapshot(self, begin_ns: int, end_ns: int) -> Iterator[Table]:
        """End the flows that a complete dump lacks."""
        table = self.open.table
        if not len(table):
            return
        missing = table["time"] < begin_ns
        bound = missing & (table["end_source"] == Source.BOUND)
        late = bound & (np.abs(begin_ns - table["end"]) > LATE_NS)
        if late.any():
            yield _without_time(table.take(late))
        self.open.table = with_bound(table, missing & ~bound, end_ns)
        if late.any():
            self.open = self.open.take(np.flatnonzero(~late))

    def give_up(self, count: int) -> Table:
        """The `count` flows that were silent for longest, as they are: open."""
        order = np.argsort(self.open.table["time"], kind="stable")
        given = self.open.table.take(order[:count])
        self.open = self.open.take(np.sort(order[count:]))
        return given

    def _sorted(self, batch: Parts, ends: Parts | None = None) -> _Sorted:
        """`ends`, the open flows and `batch`, sorted by key.  None: those ends that a row of a dump
        may have to be compared with.
        """
        if ends is None:
            of_dumps = _of_dumps(batch)
            ends = self.ends.like(batch.table.take(of_dumps)) if len(of_dumps) else self._empty
        work = Parts.concat([ends, self.open, batch])
        work.table = _numbered(work, len(ends.table))
        carried = len(work.table) - len(batch.table)
        return _Sorted(work, *flowkey.sort(work.table), len(ends.table), carried)


class _Sorted(NamedTuple):
    """Parts and their order by key.

    `order`, `first`: as `flowkey.sort` returns them.
    `ends`: how many parts are ends of earlier flows, the first ones.
    `carried`: how many have not just arrived: these and the open flows.
    """

    parts: Parts
    order: Ints
    first: Bools
    ends: int
    carried: int

    def grouped(self, gaps: Gaps) -> grouping.Flows:
        """How they are cut into flows."""
        by_key = self.order, self.first
        return grouping.group(self.parts, by_key, self.ends, self.carried, gaps)

    def touched(self, dumps: list[Dump]) -> Touched | None:
        """What `dumps` can change of the open flows and the parts that arrived."""
        return late_dumps.touched(self.parts, self.order, self.first, self.ends, dumps)


def _of_dumps(parts: Parts) -> Ints:
    """(some,): the rows of dumps."""
    return np.flatnonzero(parts.table["seen"] == EXISTING)


def _without_time(table: Table) -> Table:
    return table.select([name for name in table.columns if name != "time"])


def _numbered(work: Parts, old_ends: int) -> Table:
    """The rows, with numbers for ids where flows of one key are open at once.

    The first `old_ends` rows are ends of earlier flows: they do not take part.
    """
    begins, ends = ((work.table["seen"] & event) != 0 for event in (NEW, DESTROY))
    ends[:old_ends] = begins[:old_ends]
    return lookalikes.number(work.table, work.row, begins, ends)
