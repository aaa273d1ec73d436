"""Many segments in one order of time: against sorting everything, with plenty of memory and with
next to none.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.columns import Array, Table
from ctrecorder.ctlog.frame import FRAME, Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.order.batches import BATCH_ROWS, Batch
from ctrecorder.order.held_rows import HELD_BYTES
from ctrecorder.order.merge import merge
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
from tests.support.tables import ints
from tests.unit.segment.test_reader import Ask

Row = tuple[int, int]  # time, id


class Archive:
    """Segments in a folder; the ids of the rows count up in the order of writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments: list[Segment] = []
        self.rows: list[Row] = []

    def table(self, family: int, times: list[int]) -> Table:
        first = len(self.rows)
        self.rows += [(time, first + place) for place, time in enumerate(times)]
        ids = np.arange(first, first + len(times), dtype=np.uint32)
        columns: dict[str, Array] = {
            "time": np.array(times, np.int64),
            "event": np.ones(len(times), np.uint8),
            "id": ids,
        }
        return Table(family, len(times), columns)

    def add(self, parts: list[tuple[int, list[int]]]) -> None:
        path = str(self.folder / f"{len(self.segments)}.ctlog")
        writer = SegmentWriter.create(path, Header(), time_ns=1)
        for family, times in parts:
            writer.append(self.table(family, times))
        writer.close()
        self.segments.append(Segment(path))

    def close(self) -> None:
        for segment in self.segments:
            segment.close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path)
    yield made
    made.close()


def rows_of(batch: Batch) -> list[Row]:
    """The rows of a batch in its order; it must keep what it promises."""
    families = [table.family for table in batch.tables]
    assert len(set(families)) == len(families)
    assert (batch.order is None) == (len(batch.tables) == 1)
    assert 0 < sum(map(len, batch.tables)) <= BATCH_ROWS
    for table in batch.tables:
        assert (np.diff(table["time"]) >= 0).all()
    rows = [
        row
        for table in batch.tables
        for row in zip(table["time"].tolist(), table["id"].tolist(), strict=True)
    ]
    if batch.order is None:
        return rows
    order = ints(batch.order)
    assert sorted(order) == list(range(len(rows)))
    return [rows[place] for place in order]


def all_rows(segments: list[Segment], held_bytes: int = HELD_BYTES) -> list[Row]:
    batches = merge(segments, ["id"], held_bytes=held_bytes)
    return [row for batch in batches for row in rows_of(batch)]


def random_parts(random: np.random.Generator) -> list[tuple[int, list[int]]]:
    parts = []
    for _ in range(int(random.integers(1, 12))):
        begin = int(random.integers(0, 1000))
        end = begin + int(random.choice([1, 2, 50, 1000]))
        count = int(random.choice([1, 3, 60, 300, 1500]))
        times = ints(random.integers(begin, end, count))
        parts.append((int(random.choice([2, 2, 10])), times))
    return parts


@pytest.mark.parametrize("held_bytes", [64 << 20, 20_000, 3000, 100])
@pytest.mark.parametrize("seed", range(8))
def test_all_rows_come_once_and_in_order(archive: Archive, seed: int, held_bytes: int) -> None:
    """Blocks of all lengths, that overlap in every way, of both families and both forms, over one
    to three segments.
    """
    random = np.random.default_rng(seed)
    for _ in range(1 + seed % 3):
        archive.add(random_parts(random))
    found = all_rows(archive.segments, held_bytes=held_bytes)
    assert [time for time, _ in found] == sorted(time for time, _ in archive.rows)
    assert sorted(found) == sorted(archive.rows)


def test_equal_times_keep_the_order_in_which_they_were_written(archive: Archive) -> None:
    archive.add([(2, [5] * 300), (2, [5, 4, 5]), (2, [5] * 4)])
    archive.add([(2, [5, 5]), (2, [3] * 300 + [5])])
    assert all_rows(archive.segments) == sorted(archive.rows)


def test_blocks_one_after_the_other_are_given_out_as_they_are(archive: Archive) -> None:
    """Nothing is copied or sorted where nothing overlaps; a batch is a block."""
    archive.add([(2, list(range(at, at + 1000))) for at in (0, 1000, 2000)])
    assert [
        [len(table) for table in batch.tables] for batch in merge(archive.segments, ["id"])
    ] == [[1000]] * 3


def test_both_families_at_once_say_their_order(archive: Archive) -> None:
    archive.add([(2, [1, 3, 5, 7]), (10, [2, 4, 6])])
    (batch,) = merge(archive.segments, ["id"])
    assert [table.family for table in batch.tables] == [2, 10]
    assert batch.order is not None
    assert batch.order.tolist() == [0, 4, 1, 5, 2, 6, 3]


def test_large_batches_of_both_families_are_cut(archive: Archive) -> None:
    times = ints(np.random.default_rng(0).integers(0, 100, 150_000))
    archive.add([(2, times[:100_000]), (10, times[100_000:])])
    found = [rows_of(batch) for batch in merge(archive.segments, ["id"])]
    assert len(found) == 3
    assert sorted(row for rows in found for row in rows) == sorted(archive.rows)


def test_a_question_is_asked_of_every_row(archive: Archive, tmp_path: Path) -> None:
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(), time_ns=1)
    made = [
        tables.events(family, rows, seed)
        for seed, rows in enumerate((9, 300, 20, 2000))
        for family in (2, 10)
    ]
    for table in made:
        writer.append(table)
    writer.close()
    since = tables.NOON + 5_000_000
    sources = np.concatenate([table["orig_src"][:9] for table in made if table.family == 2])
    ask = Ask(wanted=sources, since=since)
    wanted = [
        row
        for table in made
        if table.family == 2
        for row in table.take(ask.evaluate(table))["id"].tolist()
    ]
    with Segment(str(tmp_path / "a")) as segment:
        found = [row for batch in merge([segment], ["id"], ask) for _, row in rows_of(batch)]
        assert sorted(found) == sorted(wanted)
        assert len(wanted) > 20


def test_connections_go_by_their_start(tmp_path: Path) -> None:
    """While the start is unknown by their end; events are another kind."""
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(), time_ns=1)
    table = tables.connections(uapi.AF_INET, 4)
    table.columns["start"] = np.array([7, 0, 3, 9], np.int64)
    table.columns["end"] = np.array([8, 5, 0, 10], np.int64)
    writer.append(table, kind=Kind.CONNECTIONS)
    writer.append(tables.events(uapi.AF_INET, 4))
    writer.close()
    with Segment(str(tmp_path / "a")) as segment:
        (batch,) = merge([segment], ["id"], kind=Kind.CONNECTIONS)
        assert batch.tables[0]["id"].tolist() == table["id"][[2, 1, 0, 3]].tolist()


def test_a_damaged_block_is_passed_over_and_told_of(archive: Archive) -> None:
    archive.add([(2, list(range(1000))), (2, [5]), (2, [6]), (2, list(range(1000, 2000)))])
    path = Path(archive.segments[0].path)
    large, small, _, _ = archive.segments[0].blocks_of(Kind.EVENTS)
    data = bytearray(path.read_bytes())
    for block in (large, small):
        data[block.offset + FRAME.size + 3] ^= 1
    path.write_bytes(data)
    with Segment(str(path)) as segment:
        found = all_rows([segment])
        assert found == [(6, 1001), *((time, time + 2) for time in range(1000, 2000))]
        assert [finding.offset for finding in segment.findings] == [large.offset, small.offset]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["one after the other", "all at once"])
def test_memory_does_not_grow_with_the_archive(archive: Archive, shape: str) -> None:
    """40 blocks of 20,000 rows: 13 MB of times and ids."""
    random = np.random.default_rng(0)
    for number in range(4):
        begin = [
            0 if shape == "all at once" else (10 * number + block) * 1000 for block in range(10)
        ]
        archive.add([(2, ints(random.integers(at, at + 1000, 20_000))) for at in begin])
    tracemalloc.start()
    before = -1
    count = 0
    for batch in merge(archive.segments, ["id"], held_bytes=2 << 20):
        (table,) = batch.tables
        assert table["time"][0] >= before
        before, count = int(table["time"][-1]), count + len(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 800_000
    assert peak < 9 << 20
