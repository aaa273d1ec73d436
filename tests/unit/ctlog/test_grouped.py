"""Starts in groups: any rows of a block are read as all of them are, however the items are
stored.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.ctlog.codecs import Grouped
from ctrecorder.ctlog.compression import pack_planes
from ctrecorder.ctlog.decoder import Selection, decode_grouped
from ctrecorder.ctlog.encoder import encode_columns, encode_grouped
from ctrecorder.ctlog.entry import CONSTANT, GROUPED, PLANES, RANGES, Entry
from ctrecorder.ctlog.index import Index
from ctrecorder.ctlog.plans import GROUPS, SQUEEZED
from tests.support import tables
from tests.support.tables import FAMILIES

U8 = np.dtype("<u8")
HOW = replace(GROUPS["start"], ranges=1)


@given(
    st.lists(st.tuples(st.integers(-(2**61), 2**61 - 1), st.booleans()), min_size=1, max_size=50),
    st.data(),
)
def test_any_rows_of_any_groups(told: list[tuple[int, bool]], data: st.DataObject) -> None:
    numbers = np.array([number // 2 for number, _ in told], np.int64).view(U8)
    begins = np.array([True, *(begin for _, begin in told[1:])])
    stored = encode_grouped(numbers, begins, HOW, 1)
    assert stored is not None
    entry = Entry(16, stored.encoding, 0, scale=stored.scale, low=stored.low, high=stored.high)
    rows = data.draw(st.lists(st.integers(0, len(told) - 1), unique=True).map(sorted))
    for chosen in (None, np.array(rows, np.intp)):
        items = Selection(len(told), chosen)
        found = decode_grouped(entry, stored.body, items, begins, U8)
        assert found.tolist() == items.of(numbers).tolist()


@pytest.mark.parametrize("encoding", [CONSTANT, PLANES])
def test_other_ways_to_store_the_items(encoding: int) -> None:
    """A writer may choose them: ctlog(5) combines GROUPED with both."""
    items = np.arange(12, dtype=U8) * (encoding != CONSTANT)
    begins = np.arange(12) % 5 == 0
    entry = Entry(16, GROUPED | encoding, 8, scale=3, low=-7, high=10**6)
    body = b"" if encoding == CONSTANT else pack_planes(items, 1)
    wanted: list[int] = []
    for row, item in enumerate(items.tolist()):
        number = item * 1000 + (10**6 if begins[row] else wanted[-1] - 7)
        wanted.append(number)
    for rows in (None, np.array([3]), np.array([0, 4, 5, 11])):
        selection = Selection(12, rows)
        found = decode_grouped(entry, body, selection, begins, U8)
        assert found.tolist() == selection.of(np.array(wanted)).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_which_columns_make_a_group(family: int) -> None:
    """The four of ctlog(5): a difference in each of them alone begins one."""
    table = tables.connections(family, 1, seed=2).take(np.zeros(10, np.intp))
    for row, name in enumerate(Grouped.BY, 1):
        column = table[name].copy()
        column[2 * row :] = b"x" * 16 if column.dtype.kind == "S" else column[0] + 1
        table.columns[name] = column
    begins = Grouped.begins((table[name] for name in Grouped.BY), 10)
    assert begins.tolist() == [row in (0, 2, 4, 6, 8) for row in range(10)]


def test_starts_in_groups_take_less() -> None:
    """And they are not bounds of a block, as differences are not."""
    made = tables.connections(FAMILIES[0], 3000, seed=3, kinds=50)
    table = made.take(np.lexsort([made[name] for name in ("start", *reversed(Grouped.BY))]))
    before, after = (encode_columns(table, 1, plan) for plan in (SQUEEZED, GROUPS))
    index = Index(after, table.family, len(table), len(after))
    assert index.columns["start"].encoding == GROUPED | RANGES
    assert index.bound("start") is None
    assert len(after) <= len(before) + 64
