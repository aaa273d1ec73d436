"""Which rows of a listing are written: all, or the last ones (-n)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.order.batches import Batch


def last(batches: Iterable[Batch], count: int, kind: Kind) -> Iterator[Batch]:
    """The last `count` rows of batches whose rows are of `kind`."""
    kept: deque[Batch] = deque()
    rows = 0
    for batch in batches:
        kept.append(batch)
        rows += rows_of(batch)
        while kept and rows - rows_of(kept[0]) >= count:
            rows -= rows_of(kept.popleft())
    if kept and rows > count:
        first = kept.popleft()
        yield _last_rows(first, rows_of(first) - (rows - count), kind)
    yield from kept


def _last_rows(batch: Batch, count: int, kind: Kind) -> Batch:
    """The last `count` rows, at least one, of a batch."""
    order = batch.order
    if order is None:
        order = np.argsort(
            np.concatenate([row_times(kind, table) for table in batch.tables]), kind="stable"
        )
    return chosen_rows(batch.tables, order[len(order) - count :])


def chosen_rows(tables: Sequence[Table], chosen: NDArray[np.intp]) -> Batch:
    """The rows of `tables` with the numbers `chosen`, counted through, in that order."""
    wanted = np.sort(chosen)
    found: list[Table] = []
    begin = 0
    for table in tables:
        mine: NDArray[np.intp] = wanted[(wanted >= begin) & (wanted < begin + len(table))] - begin
        begin += len(table)
        if len(mine):
            found.append(table.take(mine))
    return Batch(found, np.searchsorted(wanted, chosen))


def rows_of(batch: Batch) -> int:
    """How many rows a batch has."""
    return sum(map(len, batch.tables))
