"""The memory policy of the merge: what is dropped is named, to be read again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctrecorder.columns import Table
from ctrecorder.order.batches import SortedRows
from ctrecorder.order.held_rows import NEVER, HeldRows, Unit
from tests.support.tables import ints

ROW_BYTES = 16  # a time as a column and as a key
SEGMENT: Any = None  # held rows never read


def rows_of(*times: int) -> SortedRows:
    column = np.array(times, np.int64)
    return SortedRows.of(Table(2, len(times), {"time": column}), column)


def unit_of(number: int, *times: int) -> Unit:
    return Unit(min(times), number, SEGMENT, [])


def taken(held: HeldRows, before: int) -> list[list[int]]:
    return [ints(rows.times) for rows in held.take(before)]


def test_rows_are_taken_in_the_order_of_their_units() -> None:
    held = HeldRows(1000)
    assert list(held.add(unit_of(2, 5, 7), rows_of(7, 5))) == []
    assert list(held.add(unit_of(1, 4, 6), rows_of(4, 6))) == []
    assert taken(held, 6) == [[4], [5]]
    assert held.row_count == 2
    assert taken(held, NEVER) == [[6], [7]]
    assert held.row_count == 0


def test_dropped_rows_are_read_again_from_their_units() -> None:
    held = HeldRows(5 * ROW_BYTES)
    assert list(held.add(unit_of(1, 1, 9), rows_of(1, 3, 9))) == []
    assert [held.over_limit] == [False]
    assert list(held.add(unit_of(2, 2, 8), rows_of(2, 4, 8))) == []
    assert [held.over_limit] == [True]
    assert held.median() == 4
    again = list(held.drop(4))
    assert [(unit.number, unit.time, unit.since, unit.until) for unit in again] == [
        (1, 9, 4, NEVER),
        (2, 4, 4, NEVER),
    ]
    assert [held.over_limit] == [False]
    # While the ceiling applies, later rows of other units are not held either.
    late = list(held.add(unit_of(3, 3, 5), rows_of(3, 5)))
    assert [(unit.number, unit.time, unit.since) for unit in late] == [(3, 5, 4)]
    assert taken(held, 4) == [[1, 3], [2], [3]]
    # When its time has come, a unit gives only the rows that were dropped.
    held.reach(again[1].time)
    assert list(held.add(again[1], rows_of(2, 4, 8))) == []
    assert taken(held, NEVER) == [[4, 8]]


@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 6), (0, 6)])
def test_a_small_slice_does_not_keep_the_memory_of_all(first: int, last: int) -> None:
    rows = rows_of(1, 2, 3, 4, 5, 6)
    part = rows.slice(first, last)
    assert part.times.tolist() == [1, 2, 3, 4, 5, 6][first:last]
    is_view = np.shares_memory(part.table["time"], rows.table["time"])
    assert is_view == (last - first >= 3)
