"""Connections of recorders side by side: one row for a flow that several of them recorded.  Pure.

Each recording is paired by itself: a dump of one recorder says nothing about the flows of another,
and filters differ.  `Twins` joins the connections afterwards; `same_flows` decides which are one
flow.  A flow has the best times of all its rows, as `merging` has it for the parts of a flow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctrecorder.beside.same_flows import APART_NS, best_starts, by_end, same_flows
from ctrecorder.columns import Source, Table, concat
from ctrecorder.connections import flowkey
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.merging import join
from ctrecorder.connections.parts import Bools, Ints
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.spans import Span
from ctrecorder.times import BEGIN, END

# Rows are compared when so many came, or as many as wait on.  With fewer, those that wait on are
# compared too often; with more, they do not fit in the processor's cache.  Of flows that follow
# each other over the border of two batches, some can be listed twice if there are no kernel times.
_BATCH_ROWS = 1 << 16
# Rows whose start was not recorded, in memory: some 50 MiB.  Of more, those that are added last are
# compared only with rows near them in time, so some flows are listed twice.
_MAX_LATE_ROWS = 1 << 19
# The column with the number of a row's recording.  Connections have no column `stop`.
_RECORDING = "stop"


class Twins:
    """Joins connections of several recordings, family by family.

    First call `add` for all connections, and sort what it returns by start; then `feed` it in that
    order, and `finish`.

    Memory: `_BATCH_ROWS`, twice the rows that began within `same_flows.APART_NS`, and up to
    `_MAX_LATE_ROWS` rows whose start was not recorded.  These began at any time before their time,
    so their flow can come long before them.  There are at most as many as the kernel's table has,
    for each start of a recorder.
    """

    def __init__(self, tables: Sequence[int], spans: Sequence[Span] = ()) -> None:
        """`tables`: the number of the connection table of each recording.

        `spans`: when each was recorded, ns; (): all at one time.
        """
        self._tables = np.array(tables, np.int64)
        self._spans = np.array(spans or [(BEGIN, END)] * len(tables), np.int64).reshape(-1, 2)
        self._has_twin = np.bincount(self._tables)[self._tables] > 1
        self._families: dict[int, _Family] = {}
        # Rows that were fed since the last comparison, and those that wait on after it.
        self._rows = self._held = 0
        self._late_rows = 0

    def add(self, recording: int, table: Table) -> Table:
        """Take connections in any order.  Returns the rows that `feed` gets, sorted by start."""
        number = np.broadcast_to(np.int64(recording), (len(table),))
        table = Table(table.family, len(table), {**table.columns, _RECORDING: number})
        is_late = np.isin(table["start_source"], (Source.BOUND, Source.UNKNOWN))
        if not self._has_twin[recording] or not is_late.any() or self._late_rows > _MAX_LATE_ROWS:
            return table
        late = table.take(is_late)
        self._late_rows += len(late)
        self._family(table.family).add_late(late)
        return table.take(~is_late)

    def feed(self, tables: list[Table]) -> list[Table]:
        """Take the next rows: of each family a table, sorted by start.

        Returns flows of each family by start.  No later one starts before them.
        """
        for table in tables:
            self._family(table.family).add(table)
            self._rows += len(table)
        if self._rows < max(_BATCH_ROWS, self._held):
            return []
        self._rows = 0
        last = max(int(row_times(Kind.CONNECTIONS, table)[-1]) for table in tables)
        return self._settle(last - APART_NS)

    def finish(self) -> list[Table]:
        """The remaining flows of each family, by start."""
        return self._settle(None)

    def _family(self, family: int) -> _Family:
        if family not in self._families:
            self._families[family] = _Family(family, self._tables, self._spans)
        return self._families[family]

    def _settle(self, before: int | None) -> list[Table]:
        families = [family for _, family in sorted(self._families.items())]
        settled = [family.settle(before) for family in families]
        self._held = sum(family.waiting for family in families)
        return [table for table in settled if len(table)]


class _Family:
    """The rows of one family that wait.

    `_late`: rows whose start was not recorded; `_late_times`, `_late_keys`: (rows,) their times and
    hashes, in order of hash; `_is_late`: (rows,) those that are part of no flow yet.
    """

    def __init__(self, family: int, tables: Ints, spans: Ints) -> None:
        self._tables, self._spans = tables, spans
        self._empty = Table(family, 0, {})
        self._waiting: list[Table] = []
        self._added_late: list[Table] = []
        self._set_late(self._empty)

    @property
    def waiting(self) -> int:
        """How many rows wait, of those whose start was recorded."""
        return sum(map(len, self._waiting))

    def add_late(self, table: Table) -> None:
        self._added_late.append(table)

    def add(self, table: Table) -> None:
        self._waiting.append(table)

    def settle(self, before: int | None) -> Table:
        """The flows that start before `before`, ns, by start; None: all."""
        if self._added_late:
            self._set_late(concat(self._added_late))
            self._added_late = []
        waiting = concat(self._waiting or [self._empty])
        late = self._late_near(waiting, before)
        rows = concat([waiting, self._late.take(late)])
        if not len(rows):
            return self._empty
        recording = rows[_RECORDING].astype(np.int64)
        flow = same_flows(rows, recording, self._tables[recording], self._spans[recording])
        order, begin = by_end(rows, flow)
        flows = join(rows, order, begin, best_starts(rows, flow))
        times = row_times(Kind.CONNECTIONS, flows)
        is_due: Bools = np.ones(len(flows), np.bool_) if before is None else times < before
        due = np.flatnonzero(is_due)
        row_is_due = np.empty(len(rows), np.bool_)
        row_is_due[order] = np.repeat(is_due, np.diff(np.append(begin, len(order))))
        self._waiting = [waiting.take(~row_is_due[: len(waiting)])]
        self._is_late[late[row_is_due[len(waiting) :]]] = False
        due = due[np.argsort(times[due], kind="stable")]
        flows = flows.take(due)
        return flows.select([name for name in flows.columns if name not in ("time", _RECORDING)])

    def _set_late(self, table: Table) -> None:
        keys = _hashes(table)
        order = np.argsort(keys, kind="stable")
        self._late, self._late_keys = table.take(order), keys[order]
        self._late_times = row_times(Kind.CONNECTIONS, self._late)
        self._is_late = np.ones(len(table), np.bool_)

    def _late_near(self, waiting: Table, before: int | None) -> Ints:
        """The numbers of late rows that are due, or have the key of a due or a waiting row."""
        if before is None or not len(self._late):
            return np.flatnonzero(self._is_late)
        near = self._late_times < before
        due = self._late_keys[near & self._is_late]
        keys = np.unique(np.concatenate((_hashes(waiting), due)))
        low = np.searchsorted(self._late_keys, keys, "left")
        high = np.searchsorted(self._late_keys, keys, "right")
        change = np.zeros(len(near) + 1, np.int64)
        np.add.at(change, low, 1)
        np.add.at(change, high, -1)
        near |= np.cumsum(change[:-1]) > 0
        return np.flatnonzero(near & self._is_late)


def _hashes(table: Table) -> NDArray[np.uint64]:
    """(rows,): of the key without the id, which not all rows have."""
    columns = {name: table[name] for name in KEY if name != "id"}
    return flowkey.hashes(Table(table.family, len(table), columns))
