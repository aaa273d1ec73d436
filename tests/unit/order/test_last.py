"""The last rows of batches, against all of them: of two families, with and without an order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Kind
from ctrecorder.order.batches import Batch
from ctrecorder.order.last import last, rows_of
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support.tables import ints


def _ids(batch: Batch) -> list[int]:
    """The ids of the rows in their order."""
    found = np.concatenate([table["id"] for table in batch.tables])
    times = np.concatenate([table["time"] for table in batch.tables])
    order = np.argsort(times, kind="stable") if batch.order is None else batch.order
    return ints(found[order])


@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=5),
    count=st.integers(0, 20),
)
def test_the_last_rows(sizes: list[tuple[int, int, bool]], count: int) -> None:
    random = np.random.default_rng(count)
    batches, begin = [], 0
    for four, six, ordered in sizes:
        times = begin + np.sort(random.integers(0, 9, four + six))
        begin += 10
        ids = random.permutation(four + six).astype(np.uint32) + np.uint32(begin * 100)
        is_four = np.sort(random.permutation(four + six)[:four])
        is_six = np.setdiff1d(np.arange(four + six), is_four)
        tables = [
            Table(family, len(mine), {"time": times[mine], "id": ids[mine]})
            for family, mine in ((AF_INET, is_four), (AF_INET6, is_six))
            if len(mine)
        ]
        if tables:
            rows = np.argsort(np.concatenate([each["time"] for each in tables]), kind="stable")
            batches.append(Batch(tables, rows if ordered else None))
    every = [each for batch in batches for each in _ids(batch)]
    found = list(last(iter(batches), count, Kind.EVENTS))
    assert [each for batch in found for each in _ids(batch)] == every[
        len(every) - min(count, len(every)) :
    ]
    assert sum(map(rows_of, found)) == min(count, len(every))
