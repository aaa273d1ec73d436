"""Tables to store: all columns, both families, values that lean on each other as real ones do, and
extreme ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import (
    BY_NAME,
    COLUMNS,
    CONNECTION_ONLY,
    EVENT_ONLY,
    PORTS,
    Array,
    Table,
    bits,
)

SECOND = 1_000_000_000
NOON = 1_790_000_000 * SECOND
FAMILIES = (uapi.AF_INET, uapi.AF_INET6)
COUNTERS = ("start", "stop", "orig_packets", "orig_bytes", "reply_packets", "reply_bytes")
CONNECTION_COLUMNS = tuple(column.name for column in COLUMNS if column.name not in EVENT_ONLY)
EVENT_COLUMNS = tuple(column.name for column in COLUMNS if column.name not in CONNECTION_ONLY)


def addresses(random: np.random.Generator, family: int, rows: int, kinds: int) -> Array:
    """`rows` addresses of at most `kinds` kinds; those of 16 bytes share a prefix, and some end in
    zeros.
    """
    if family == uapi.AF_INET:
        return random.integers(0, 2**32, kinds, np.uint32)[random.integers(0, kinds, rows)]
    pool = np.zeros((kinds, 16), np.uint8)
    pool[:, :4] = (0x20, 0x01, 0x0D, 0xB8)
    pool[:, 8:] = random.integers(0, 256, (kinds, 8))
    pool[::3, 12:] = 0
    return np.ascontiguousarray(pool[random.integers(0, kinds, rows)]).view("S16").reshape(rows)


def noise(random: np.random.Generator, name: str, family: int, rows: int) -> Array:
    """Any value of the column's type."""
    dtype = BY_NAME[name].dtype(family)
    if dtype.kind == "S":
        return np.frombuffer(random.bytes(16 * rows), "S16")
    limits: np.iinfo[Any] = np.iinfo(dtype.name)
    return random.integers(
        limits.min, limits.max, rows, np.int64 if dtype.kind == "i" else np.uint64, endpoint=True
    ).astype(dtype)


def events(family: int, rows: int, seed: int = 0, kinds: int = 40) -> Table:
    """Events as a NAT router's kernel reports them: NEW rows know no counters, replies mirror the
    original direction.
    """
    random = np.random.default_rng(seed)
    ended = random.integers(0, 2, rows).astype(bool)
    columns: dict[str, Array] = {
        "time": NOON + np.cumsum(random.integers(-50_000, 1_000_000, rows)),
        "event": np.where(ended, 3, 1).astype(np.uint8),
        "l4proto": random.choice(np.array([6, 17, 1], np.uint8), rows),
        "orig_src": addresses(random, family, rows, kinds),
        "orig_dst": addresses(random, family, rows, kinds),
        "status": np.where(ended, 0x20E, 0x18).astype(np.uint32),
        "id": noise(random, "id", family, rows),
        "tcp_state": np.where(ended, 7, 0).astype(np.uint8),
        "present": np.where(ended, bits((*COUNTERS, "tcp_state", "id")), bits(("id",))).astype(
            np.uint32
        ),
    }
    columns["reply_src"] = columns["orig_dst"].copy()
    columns["reply_src"][::7] = addresses(random, family, rows, 3)[::7]
    columns["reply_dst"] = columns["orig_src"]
    for name in PORTS[:2]:
        columns[name] = noise(random, name, family, rows)
    columns["reply_sport"], columns["reply_dport"] = (
        columns["orig_dport"],
        columns["orig_sport"].copy(),
    )
    columns["reply_dport"][::5] += np.uint16(1)
    life = random.integers(0, 100 * SECOND, rows)
    columns["start"] = np.where(ended, columns["time"] - life, 0)
    columns["stop"] = np.where(ended, columns["time"] - 1000, 0)
    for name in COUNTERS[2:]:
        columns[name] = np.where(ended, random.integers(0, 1 << 20, rows), 0).astype(np.uint64)
    return Table(family, rows, columns)


def connections(family: int, rows: int, seed: int = 0, kinds: int = 40, step: int = 1000) -> Table:
    """Connections as a squeezed segment holds them, sorted by source, times multiples of `step`."""
    table = events(family, rows, seed, kinds)
    random = np.random.default_rng(seed)
    start = (NOON + random.integers(0, 900 * SECOND, rows)) // step * step
    columns = {name: array for name, array in table.columns.items() if name in CONNECTION_COLUMNS}
    columns["start"] = start
    columns["end"] = np.where(
        random.integers(0, 9, rows) > 0,
        start + random.integers(0, 200 * SECOND, rows) // step * step,
        0,
    )
    columns["start_source"] = np.ones(rows, np.uint8)
    columns["end_source"] = np.where(columns["end"] > 0, 2, 0).astype(np.uint8)
    order = np.lexsort((columns["start"], columns["orig_dst"], columns["orig_src"]))
    return Table(family, rows, columns).take(order)


def extremes(family: int, rows: int, names: Iterable[str] = BY_NAME) -> Table:
    """The least and the greatest value of each type in turn."""
    columns: dict[str, Array] = {}
    for name in names:
        dtype = BY_NAME[name].dtype(family)
        if dtype.kind == "S":
            ends = np.frombuffer(bytes(16) + b"\xff" * 16, "S16")
        else:
            limits: np.iinfo[Any] = np.iinfo(dtype.name)
            ends = np.array([limits.min, limits.max], dtype)
        columns[name] = ends[np.arange(rows) % 2]
    return Table(family, rows, columns)


def same(left: Table, right: Table) -> None:
    """Assert that the tables hold the same, to the byte, a column that is not there being 0."""
    assert (left.family, left.rows) == (right.family, right.rows)
    for column in COLUMNS:
        if column.name in left or column.name in right:
            one, other = left[column.name], right[column.name]
            assert one.dtype == other.dtype == column.dtype(left.family), column.name
            assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes(), (
                column.name
            )


def ints(values: Array) -> list[int]:
    """`values`: (n,) of any integer type, as Python's integers."""
    return cast("list[int]", values.tolist())


def times(table: Table) -> NDArray[np.int64]:
    return table["time"]
