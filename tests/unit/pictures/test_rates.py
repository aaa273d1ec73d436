"""Bins of time, and what began in them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ctrecorder.columns import Source, Table
from ctrecorder.pictures.rates import STEPS, Rates, edges_of, ints, step_for
from ctrecorder.render.dates import utc_offset
from ctrecorder.times import DAY, HOUR, MINUTE, SECOND

MIDNIGHT = 1_792_792_800 * SECOND  # 2026-10-24 00:00 in Prague; the clocks change a day later
NOON = 1_790_000_000 * SECOND


@pytest.fixture(autouse=True)
def in_prague() -> Iterator[None]:
    os.environ["TZ"] = "Europe/Prague"
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


def utc(seconds: Any) -> Any:
    return np.zeros_like(seconds)


def table(starts: list[int], **columns: Any) -> Table:
    count = len(starts)
    usual = {
        "start": np.array(starts, np.int64),
        "start_source": np.full(count, Source.KERNEL, "u1"),
        "l4proto": np.full(count, 6, "u1"),
    }
    return Table(2, count, {**usual, **columns})


def test_days_of_the_local_clock_can_have_25_hours() -> None:
    edges = edges_of(MIDNIGHT, MIDNIGHT + 4 * DAY, DAY, utc_offset)
    assert np.diff(edges).tolist()[:3] == [DAY, DAY + HOUR, DAY]
    local = [time.localtime(edge // SECOND).tm_hour for edge in ints(edges)[:-1]]
    assert set(local) == {0}


@pytest.mark.parametrize("step", STEPS[:10])
def test_bins_cover_the_window_and_nothing_else(step: int) -> None:
    for since, until in ((NOON + 12_345, NOON + 30 * step), (MIDNIGHT, MIDNIGHT + 1)):
        for offsets in (utc, utc_offset):
            edges = edges_of(since, until, step, offsets)
            assert (edges[0], edges[-1]) == (since, until)
            assert (np.diff(edges) > 0).all()
            assert (np.diff(edges) <= step + (HOUR if step >= HOUR else 0)).all()
            inner = edges[1:-1] // SECOND
            assert not ((inner + offsets(inner)) * SECOND % step).any()


def test_the_shortest_step_that_fits() -> None:
    assert step_for(0, 30 * MINUTE, 30) == MINUTE
    assert step_for(0, 30 * MINUTE + 1, 30) == 5 * MINUTE
    assert step_for(0, 2**62, 30) == STEPS[-1]


def test_as_counted_by_hand() -> None:
    random = np.random.default_rng(1)
    starts = random.integers(NOON - HOUR, NOON + 5 * HOUR, 3000)
    protocols = random.choice(np.array([6, 17, 1, 47], "u1"), 3000, p=[0.5, 0.3, 0.15, 0.05])
    sources = random.integers(0, 4, 3000).astype("u1")
    rates = Rates(edges_of(NOON, NOON + 4 * HOUR, 15 * MINUTE, utc))
    some = table(ints(starts), l4proto=protocols, start_source=sources)
    rates.add(some.slice(0, 1000))
    rates.add(some.slice(1000, 3000))
    told = {Source.KERNEL, Source.RECEIPT}
    edges = ints(rates.edges)
    by_hand: Counter[tuple[int, int]] = Counter()
    for start, protocol, source in zip(ints(starts), ints(protocols), ints(sources), strict=True):
        place = sum(edge <= start for edge in edges) - 1
        if source in told and 0 <= place < rates.bins:
            by_hand[protocol, place] += 1
    found = {number or 0: counts.tolist() for number, counts in rates.by_protocol(9)}
    assert list(found) == [6, 17, 1, 47]
    assert found == {
        protocol: [by_hand[protocol, place] for place in range(rates.bins)] for protocol in found
    }
    assert rates.unknown == sum(source not in told for source in ints(sources))
    short = rates.by_protocol(2)
    assert [number for number, _ in short] == [6, 17, None]
    assert np.array_equal(np.sum([counts for _, counts in short], axis=0), rates.total)


def test_holes_of_bins() -> None:
    rates = Rates(edges_of(NOON, NOON + 4 * MINUTE, MINUTE, utc))
    edges = ints(rates.edges)
    assert rates.holes([]) == [""] * rates.bins
    # A hole of a nanosecond, or of none, is a hole; two that touch hide all of a bin.
    third = edges[2] + SECOND
    spans = [(edges[0] + 5, edges[0] + 5), (edges[2], third), (third, edges[3])]
    assert rates.holes(spans)[:4] == ["part", "", "all", ""]
