"""Numbers in ranges: every number is decoded; false lengths are refused without allocation."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder import uapi
from ctrecorder.columns import Array, Table
from ctrecorder.ctlog import index
from ctrecorder.ctlog.compression import pack_planes
from ctrecorder.ctlog.decoder import decode_table
from ctrecorder.ctlog.encoder import encode_columns, encode_parts
from ctrecorder.ctlog.entry import RANGES
from ctrecorder.ctlog.index import FORM_COLUMNS
from ctrecorder.ctlog.plans import ColumnEncoding
from ctrecorder.ctlog.ranges import LIMIT, Ranges, pack_ranges, unpack_ranges
from ctrecorder.errors import FormatError

_NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.integers(-(10**7), 10**7),
    st.integers(-LIMIT, LIMIT - 1),
    st.sampled_from([30, 120]),
)


@given(st.lists(_NUMBERS, min_size=1, max_size=60), st.sampled_from([0, 1, 10, 1000]))
def test_every_number_comes_back(numbers: list[int], step: int) -> None:
    stored = pack_ranges(np.array(numbers, np.int64), 3, step)
    assert unpack_ranges(stored, len(numbers), 0).tolist() == numbers


@pytest.mark.parametrize("number", [0, 1, -1, 2, -2, 255, 256, -256, -257, LIMIT - 1, -LIMIT])
def test_the_ends_of_ranges(number: int) -> None:
    for numbers in ([number], [number] * 9, [number, 0, number]):
        assert (
            unpack_ranges(pack_ranges(np.array(numbers, np.int64), 3), len(numbers), 0).tolist()
            == numbers
        )


def test_many_peaks_fit_a_byte() -> None:
    numbers = np.repeat(np.arange(1, 40) * 10**9, 100) + np.arange(3900)
    assert unpack_ranges(pack_ranges(numbers, 3, 10**9), 3900, 0).tolist() == numbers.tolist()


def lives(count: int = 20_000) -> Array:
    """Durations as the kernel reports them, in us: a timeout, and a little more or much more."""
    random = np.random.default_rng(1)
    timeout = random.choice([10, 30, 120, 300], count) * 10**6
    return timeout + (random.exponential(2000, count) * 10 ** random.integers(0, 5, count)).astype(
        np.int64
    )


def test_lives_take_less_than_planes_and_are_close_to_their_entropy() -> None:
    numbers = lives()
    stored = len(pack_ranges(numbers, 9, 10**6))
    assert stored < 0.93 * len(pack_planes(numbers.astype("<u8"), 9))
    # Of each: the timeout 2 bits, the power of ten 2.3, and an exponential of mean m, log2(e m)
    # bits.
    entropy = 2 + 2.3 + np.mean([np.log2(np.e * 2000 * 10**power) for power in range(5)])
    assert stored * 8 / len(numbers) < 1.08 * entropy


@pytest.mark.parametrize(
    "scheme",
    [
        {"delta": True},
        {"partner": "start"},
        {},
        {"scale": True},
        {"partner": "start", "scale": True, "delta": True},
    ],
)
@pytest.mark.parametrize("step", [1, 1000, 10**9])
def test_columns_come_back(scheme: dict[str, Any], step: int) -> None:
    random = np.random.default_rng(2)
    start = random.integers(0, 10**9, 3000) * step + 7
    end = start + lives(3000) * step
    table = Table(
        2,
        3000,
        {"start": start, "end": end, "orig_bytes": random.integers(0, 1 << 63, 3000).astype("<u8")},
    )
    plan = {"end": ColumnEncoding(ranges=1, **scheme), "orig_bytes": ColumnEncoding(ranges=1)}
    found = decode_table(encode_columns(table, 3, plan), FORM_COLUMNS, uapi.AF_INET, 3000)
    assert found["end"].tolist() == end.tolist()
    assert found["orig_bytes"].tolist() == table["orig_bytes"].tolist()
    assert encode_parts(table, 3, plan)["end"].entry.encoding & RANGES


@pytest.mark.parametrize("few", [1, 17, 300])
def test_some_rows_are_those_of_all(few: int) -> None:
    """In ranges of all widths, with and without bits after whole bytes."""
    random = np.random.default_rng(few)
    numbers = np.concatenate([random.integers(-(1 << bits), 1 << bits, 60) for bits in range(62)])
    random.shuffle(numbers)
    for values in (numbers, lives(3000)):
        ranges = Ranges(pack_ranges(values, 3, 10**6), len(values), 0)
        rows = np.sort(random.choice(len(values), few, replace=False))
        assert ranges.at(rows).tolist() == values[rows].tolist()
        with np.errstate(over="ignore"):
            assert ranges.sums(rows).tolist() == np.cumsum(values)[rows].tolist()
        assert ranges.sums(np.array([0, 0, 5])).tolist() == [values[0], values[0], values[:6].sum()]


def test_a_range_of_64_bits() -> None:
    values = [0, 1, (1 << 63) + 5, (1 << 64) - 1]
    body = struct.pack("<HqBI", 1, 0, 64, 4) + bytes(4) + struct.pack("<4Q", *values)
    ranges = Ranges(body, 4, 0)
    assert (
        ranges.all().view(np.uint64).tolist()
        == ranges.at(np.arange(4)).view(np.uint64).tolist()
        == values
    )


def test_bounds_of_counters_in_ranges_are_told() -> None:
    values = np.array([70, 5, 900], "<u8")
    payload = encode_columns(
        Table(2, 3, {"orig_bytes": values}), 3, {"orig_bytes": ColumnEncoding(ranges=1)}
    )
    bound = index.Index(payload, 2, 3, len(payload)).bound("orig_bytes")
    assert bound is not None
    assert (bound.low, bound.high) == (5, 900)


def test_what_does_not_fit_is_stored_otherwise() -> None:
    values = np.array([0, (1 << 64) - 1] * 20, "<u8")
    part = encode_parts(
        Table(2, 40, {"orig_bytes": values}), 3, {"orig_bytes": ColumnEncoding(ranges=1)}
    )["orig_bytes"]
    assert not part.entry.encoding & RANGES


@given(st.binary(max_size=80), st.integers(1, 30))
def test_noise_is_refused_or_read(noise: bytes, count: int) -> None:
    try:
        assert len(unpack_ranges(noise, count, 0)) == count
    except FormatError:
        pass


@given(st.data())
def test_a_changed_byte_is_refused_or_read(data: st.DataObject) -> None:
    stored = bytearray(pack_ranges(lives(200), 3, 10**6))
    stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    del stored[data.draw(st.integers(len(stored) - 3, len(stored))) :]
    try:
        assert len(unpack_ranges(bytes(stored), 200, 0)) == 200
    except FormatError:
        pass


def test_what_is_claimed_takes_no_memory() -> None:
    body = struct.pack("<HqBI", 1, 0, 64, 4) + bytes(4)
    tracemalloc.start()
    for count in (4, 1 << 20):
        with pytest.raises(FormatError):
            unpack_ranges(body, count, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
