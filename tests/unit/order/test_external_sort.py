"""Sorting in bounded memory: every row once and in order, whatever is written to disk when."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.columns import Array, Table
from ctrecorder.errors import ArchiveError
from ctrecorder.order import external_sort
from ctrecorder.order.external_sort import Sorter
from ctrecorder.times import END
from ctrecorder.uapi import AF_INET, AF_INET6


def key(table: Table) -> Array:
    return table["time"]


def rows_of(times: list[int], family: int, first: int) -> Table:
    """Rows with these times, each with an id of its own and, where it is IPv6, an address that ends
    in NULs.
    """
    numbers = np.arange(first, first + len(times), dtype=np.uint32)
    columns: dict[str, Array] = {
        "time": np.array(times, np.int64),
        "id": numbers,
        "mark": np.broadcast_to(np.uint32(5), (len(times),)),
    }
    if family == AF_INET6:
        columns["orig_src"] = np.array(
            [int(number).to_bytes(4, "little") + bytes(12) for number in numbers], "S16"
        )
    return Table(family, len(times), columns)


STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 50), max_size=40),
        st.sampled_from([AF_INET, AF_INET6]),
        st.one_of(st.none(), st.integers(0, 60)),
    ),
    max_size=12,
)


@pytest.mark.parametrize("held_rows", [0, 7, 100, 10**6])
@given(STEPS)
def test_every_row_once_and_in_order(
    held_rows: int, steps: list[tuple[list[int], int, int | None]]
) -> None:
    """`ready` gives all that is due then; with parts of 4 rows, so that runs have many."""
    waiting: list[tuple[int, int, int]] = []
    given_out: list[tuple[int, int, int]] = []
    with pytest.MonkeyPatch.context() as patch, Sorter(key, held_rows) as sorting:
        patch.setattr(external_sort, "_PART_ROWS", 4)
        count = 0
        for times, family, before in [*steps, ([], AF_INET, END)]:
            sorting.add(rows_of(times, family, count))
            waiting += [(time, family, count + place) for place, time in enumerate(times)]
            count += len(times)
            if before is None:
                continue
            due = sorted(row[0] for row in waiting if row[0] < before)
            waiting = [row for row in waiting if row[0] >= before]
            got: list[tuple[int, int, int]] = []
            for tables in sorting.ready(before):
                assert len({table.family for table in tables}) == len(tables)
                for table in tables:
                    assert (np.diff(table["time"]) >= 0).all()
                    assert (table["mark"] == 5).all()
                    if table.family == AF_INET6:
                        assert [row[:4] for row in table["orig_src"].view("V16").tolist()] == [
                            int(number).to_bytes(4, "little") for number in table["id"]
                        ]
                rows = [
                    (table.family, *row)
                    for table in tables
                    for row in zip(table["time"].tolist(), table["id"].tolist(), strict=True)
                ]
                listed = [(time, family, number) for family, time, number in rows]
                assert not got or min(row[0] for row in listed) >= got[-1][0]
                got += sorted(listed)
            assert [row[0] for row in got] == due
            assert len(sorting) == len(waiting)
            given_out += got
    assert sorted(row[2] for row in given_out) == list(range(count))


def test_memory_is_bounded_by_parts_of_runs() -> None:
    with Sorter(key, held_rows=1000) as sorting:
        for number in range(20):
            sorting.add(rows_of(list(range(900)), AF_INET, number * 900))
        assert len(sorting) == 18_000
        assert sum(map(len, sorting._held)) <= 1000
        assert sum(len(tables[0]) for tables in sorting.ready(END)) == 18_000


def test_no_room_to_sort_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    wanted = r"missing: no temporary file can be written there: .+ TMPDIR"
    with Sorter(key, held_rows=1) as sorting, pytest.raises(ArchiveError, match=wanted):
        sorting.add(rows_of([1, 2], AF_INET, 0))
