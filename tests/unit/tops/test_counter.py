"""The memory of counting by keys; what it counts, test_count compares with a slow counter."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from ctrecorder import spill
from ctrecorder.tops.counter import Counter, Keyed

MOST = 1 << 17
BYTES_OF_KEY = 24


def keyed(first: int, rows: int) -> Keyed:
    words = np.arange(first, first + rows, dtype=np.uint64).reshape(-1, 1)
    return Keyed(words, np.ones(rows, np.uint64), np.zeros(rows, np.uint64))


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@pytest.mark.unmeasured
def test_joining_takes_as_much_again_as_what_waits() -> None:
    """It took three and a half times as much as what waits, in all."""
    counter = Counter(1, MOST, spill.Store)
    with traced():
        for first in range(0, MOST + 1, 1 << 12):
            counter.add(keyed(first, 1 << 12))
        peak = tracemalloc.get_traced_memory()[1]
    assert peak < 2.5 * MOST * BYTES_OF_KEY
    found, distinct = counter.best(3)
    assert [one.key[0] for one in found] == [0, 1, 2]
    assert distinct == MOST + (1 << 12)


@pytest.mark.unmeasured
def test_few_keys_of_many_blocks_take_no_memory() -> None:
    """The arrays of a block without many keys take more memory than the keys."""
    counter, blocks = Counter(1, MOST, spill.Store), 20_000
    with traced():
        for block in range(blocks):
            counter.add(keyed(block % 2, 1))
        peak = tracemalloc.get_traced_memory()[1]
    assert peak < 2 * MOST * BYTES_OF_KEY
    found, distinct = counter.best(3)
    assert [(one.key[0], one.amount) for one in found] == [(0, blocks // 2), (1, blocks // 2)]
    assert distinct == 2
