"""--sort against sorted(), in one pass and in several, with rows that do not fit in memory."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ctrecorder.errors import UsageError
from ctrecorder.order import external_sort
from ctrecorder.order.batches import Batch
from ctrecorder.order.by_column import columns_of, in_order, reversed_order
from ctrecorder.order.external_sort import Sorter
from ctrecorder.screen.fields import Look, items
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support.rows import NS, Row, event, table

LOOK = Look(connections=False, utc=True)


def rows_of(family: int, seed: int) -> list[Row]:
    random = np.random.default_rng(seed)
    found = []
    for number in range(500):
        low = int(random.integers(0, 50)) << 60
        address = (
            f"10.0.{int(random.integers(0, 4))}.{int(random.integers(0, 4))}"
            if family == AF_INET
            else str(ipaddress.IPv6Address((int(random.integers(1, 5)) << 125) | low | number % 3))
        )
        ends = {"orig_src": address, "orig_dst": address, "reply_src": address}
        row = event(time=NS + number, reply_dst=address, id=number, **ends)
        row["orig_dport"] = int(random.integers(0, 65536))
        if number % 7:
            row |= {"orig_bytes": int(random.integers(0, 9)) << 59, "reply_bytes": 0}
        found.append(row)
    return found


def listed(text: str, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of two families as --sort puts them; few rows fit in memory."""
    monkeypatch.setattr(Sorter.__init__, "__defaults__", (100,))
    four, six = rows_of(AF_INET, 1), rows_of(AF_INET6, 2)
    tables = [table(four), table(six, AF_INET6)]
    batches: Iterator[Batch] = iter(
        [
            Batch([one.slice(first, first + 50)], None)
            for first in range(0, 500, 50)
            for one in tables
        ]
    )
    found = []
    by_key = {(AF_INET, row["id"]): row for row in four} | {(AF_INET6, r["id"]): r for r in six}
    for tables, order in in_order(batches, text, LOOK):
        rows = [by_key[one.family, number] for one in tables for number in items(one["id"])]
        found += rows if order is None else [rows[number] for number in items(order)]
    assert len(found) == 1000
    return found


def version(row: Row) -> tuple[int, int]:
    address = ipaddress.ip_address(row["orig_src"])
    return address.version, int(address)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("orig_dport", lambda row: row["orig_dport"]),
        ("-orig_dport", lambda row: -row["orig_dport"]),
        ("bytes", lambda row: row.get("orig_bytes", 2**64)),
        ("-bytes", lambda row: -row.get("orig_bytes", -1)),
        ("orig_src", version),
        ("-orig_src", lambda row: tuple(-part for part in version(row))),
        ("-time", lambda row: -row["time"]),
        ("bytes,-time", lambda row: (row.get("orig_bytes", 2**64), -row["time"])),
        ("-bytes, orig_src", lambda row: (-row.get("orig_bytes", -1), version(row))),
        (
            "-orig_src,bytes,orig_dport",
            lambda row: (
                *(-part for part in version(row)),
                row.get("orig_bytes", 2**64),
                row["orig_dport"],
            ),
        ),
    ],
)
def test_order(text: str, key: Callable[[Row], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = listed(text, monkeypatch)
    expected = sorted([*rows_of(AF_INET, 1), *rows_of(AF_INET6, 2)], key=lambda row: row["time"])
    assert list(map(key, found)) == sorted(map(key, expected))


def test_without_it_nothing_is_sorted() -> None:
    batches = iter([Batch([], None)])
    assert in_order(batches, None, LOOK) is batches
    assert columns_of(None, connections=False) == ()


@pytest.mark.parametrize(("text", "turned"), [("time", "-time"), ("-bytes, proto", "bytes,-proto")])
def test_the_reverse_order(text: str, turned: str) -> None:
    assert reversed_order(text) == turned


def test_equal_values_stay_in_order_of_time_over_many_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More equal rows than are read of a run at once: runs are in the file, in turn."""
    monkeypatch.setattr(Sorter.__init__, "__defaults__", (100,))
    monkeypatch.setattr(external_sort, "_PART_ROWS", 10)
    rows = [event(time=NS + number, id=number, orig_dport=number % 2) for number in range(1000)]
    whole = table(rows)
    batches = (Batch([whole.slice(first, first + 50)], None) for first in range(0, 1000, 50))
    found = []
    for tables, order in in_order(batches, "orig_dport", LOOK):
        ids = np.concatenate([one["id"] for one in tables])
        found += items(ids if order is None else ids[order])
    assert found == [*range(0, 1000, 2), *range(1, 1000, 2)]


@pytest.mark.parametrize("text", ["nothing", "time,,bytes", "-", "--time", "time,nothing", ","])
def test_a_wrong_column_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        columns_of(text, connections=False)
