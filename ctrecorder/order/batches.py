"""Rows in order of time as batches of bounded size, without copying where nothing overlaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Table, concat

# Rows of a batch at most.  With fewer, a consumer's cost for each batch shows; with more, a batch
# does not fit in the processor's cache.
BATCH_ROWS = 1 << 16
# With more tables than this, looking for rows that overlap with nothing costs more than it saves.
_MAX_TABLES_TO_SPLIT = 8


class Batch(NamedTuple):
    """Rows that follow the rows of the batch before in time.

    `tables`: at most one for each family, each in order of time.
    `order`: (all rows,) intp: which row of the tables laid end to end comes next; None: the order
    of time.
    """

    tables: list[Table]
    order: NDArray[np.intp] | None


class SortedRows(NamedTuple):
    """Rows of one family in order of time.

    `times`: (rows,) int64, ns, by which they are ordered.
    """

    table: Table
    times: NDArray[np.int64]

    @classmethod
    def of(cls, table: Table, times: NDArray[np.int64]) -> SortedRows:
        """The rows of `table`, sorted by `times` (rows,).  Equal times keep their order."""
        if (times[1:] >= times[:-1]).all():
            return cls(table, times)
        order = np.argsort(times, kind="stable")
        return cls(table.take(order), times[order])

    @property
    def bytes(self) -> int:
        """Bytes of memory of the columns and the times."""
        return len(self.times) * (8 + sum(array.itemsize for array in self.table.columns.values()))

    def slice(self, first: int, last: int) -> SortedRows:
        """Rows first..last-1.

        A copy if these are less than half: a view would keep the memory of all rows.
        """
        table, times = self.table.slice(first, last), self.times[first:last]
        if 2 * len(times) < len(self.times):
            copies = {name: array.copy() for name, array in table.columns.items()}
            return SortedRows(Table(table.family, len(table), copies), times.copy())
        return SortedRows(table, times)

    def between(self, since: int, until: int) -> SortedRows:
        """The rows with since <= time < until."""
        first, last, times = 0, len(self.times), self.times
        if len(times) and since > times[0]:
            first = int(np.searchsorted(times, since))
        if len(times) and until <= times[-1]:
            last = int(np.searchsorted(times, until))
        return self.slice(first, last)


def batches_of(rows: list[SortedRows]) -> Iterator[Batch]:
    """All `rows` in order of time, as batches of at most BATCH_ROWS rows.

    Rows with equal times keep the order of the list, one family after the other.
    """
    families = {
        family: [each for each in rows if each.table.family == family]
        for family in sorted({each.table.family for each in rows})
    }
    if len(families) == 1:
        for run in _in_order(rows):
            for first in range(0, len(run.times), BATCH_ROWS):
                yield Batch([run.table.slice(first, first + BATCH_ROWS)], None)
    elif families:
        yield from _interleaved(*(_joined(each) for each in families.values()))


def _in_order(rows: list[SortedRows]) -> Iterator[SortedRows]:
    """Rows of one family in order of time.

    Most often only the ends of blocks overlap: the rows of the last table after all other rows are
    returned without a copy.
    """
    if len(rows) == 1:
        yield rows[0]
        return
    if len(rows) > _MAX_TABLES_TO_SPLIT:
        yield _joined(rows)
        return
    last = max(rows, key=lambda each: int(each.times[-1]))
    others = [each for each in rows if each is not last]
    cut = int(np.searchsorted(last.times, max(int(each.times[-1]) for each in others), "right"))
    if cut:
        yield _joined([each.slice(0, cut) if each is last else each for each in rows])
    else:
        yield from _in_order(others)
    if cut < len(last.times):
        yield last.slice(cut, len(last.times))


def _joined(rows: list[SortedRows]) -> SortedRows:
    """All rows of one family as one table."""
    if len(rows) == 1:
        return rows[0]
    return SortedRows.of(
        concat([each.table for each in rows]), np.concatenate([each.times for each in rows])
    )


def _interleaved(first: SortedRows, second: SortedRows) -> Iterator[Batch]:
    """The rows of two families as batches with their order."""
    order = np.argsort(np.concatenate((first.times, second.times)), kind="stable")
    first_row = second_row = 0  # of each family, the next row
    for at in range(0, len(order), BATCH_ROWS):
        numbers = order[at : at + BATCH_ROWS]
        is_second = numbers >= len(first.times)
        second_count = int(np.count_nonzero(is_second))
        first_count = len(numbers) - second_count
        tables = [
            first.table.slice(first_row, first_row + first_count),
            second.table.slice(second_row, second_row + second_count),
        ]
        # Numbers of rows in the whole families become numbers of rows in these two tables.
        numbers = numbers - np.where(
            is_second, len(first.times) + second_row - first_count, first_row
        )
        first_row, second_row = first_row + first_count, second_row + second_count
        filled = [table for table in tables if len(table)]
        yield Batch(filled, numbers if len(filled) > 1 else None)
