"""Segments read: whole, live, crashed, cut and changed at every byte; and that a search finds what
reading all would find.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Array, Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import FRAME, MAGIC, NO_HASH, TABLES, Gap, Kind, Mark, pack_block
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.index import FORM_SMALL, Bound
from ctrecorder.ctlog.predicate import Bounds, Query
from ctrecorder.errors import ArchiveError, CtrecorderError, FormatError
from ctrecorder.findings import damage
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Block
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
from tests.support.tables import FAMILIES, NOON, SECOND, same

FEW = ("time", "event", "orig_src", "id", "present")


def write(
    path: Path, parts: Iterable[Table], close: bool = True, facts: dict[str, object] | None = None
) -> bytes:
    """A segment of these tables, with a gap and a mark behind them; returns its last hash."""
    writer = SegmentWriter.create(str(path), Header(host="router"), time_ns=NOON)
    for part in parts:
        writer.append(part)
    writer.gap(Gap(NOON, NOON + 5, "overrun", 7))
    writer.mark(Mark.at(NOON + 6, "heartbeat", facts or {}))
    if close:
        return writer.close()
    last_hash = writer.last_hash
    writer.sync()
    writer.abandon()
    return last_hash


def little(seed: int = 0) -> list[Table]:
    """Tables of few bytes: small and not small, of both families."""
    return [
        tables.events(uapi.AF_INET, 2, seed).select(FEW),
        tables.events(uapi.AF_INET6, 2, seed + 1).select(FEW),
        tables.events(uapi.AF_INET, 257, seed + 2).select(("time", "event")),
    ]


def rows_of(segment: Segment) -> int:
    """How many rows can be read, each block by itself; damage goes to the findings, as for whoever
    reads.
    """
    count = 0
    for block in segment.blocks_of(*TABLES):
        try:
            count += segment.read(block).rows
        except FormatError as error:
            segment.findings.append(damage(error))
    return count


@pytest.mark.parametrize("closed", [True, False])
def test_what_was_written_is_read(tmp_path: Path, closed: bool) -> None:
    made = [
        *(
            tables.events(family, rows, seed=rows)
            for family in FAMILIES
            for rows in (1, 256, 257, 3000)
        ),
        tables.events(uapi.AF_INET, 70_000),
    ]
    last_hash = write(tmp_path / "a", made, closed, {"x": [1]})
    with Segment(str(tmp_path / "a")) as segment:
        assert (segment.state, segment.findings, segment.torn) == (
            "closed" if closed else "crashed",
            [],
            None,
        )
        assert (segment.header.host, segment.previous_hash, segment.last_hash) == (
            "router",
            NO_HASH,
            last_hash,
        )
        read = [segment.read(block) for block in segment.blocks_of(Kind.EVENTS)]
        assert [len(table) for table in read[-2:]] == [65_536, 70_000 - 65_536]
        for got, wanted in zip(read[:-2], made[:-1], strict=True):
            same(got, wanted)
        same(read[-1], made[-1].slice(65_536, 70_000))
        assert [(gap.begin, gap.end, gap.reason, gap.lost) for gap in segment.gaps] == [
            (NOON, NOON + 5, "overrun", 7)
        ]
        assert [(mark.what, mark.begin, mark.facts) for mark in segment.marks] == [
            ("heartbeat", NOON + 6, {"x": [1]})
        ]
        assert segment.times == (
            min(NOON, *(int(t["time"].min()) for t in made)),
            max(NOON, *(int(t["time"].max()) for t in made)),
        )
        assert segment.totals == ({"rows": sum(map(len, made))} if closed else {})


def test_columns_are_read_by_need(tmp_path: Path) -> None:
    made = [tables.events(uapi.AF_INET, 9), tables.events(uapi.AF_INET6, 300)]
    write(tmp_path / "a", made)
    with Segment(str(tmp_path / "a")) as segment:
        for block, wanted in zip(segment.blocks_of(Kind.EVENTS), made, strict=True):
            read = segment.read(block, ["time", "reply_dst", "zone"])
            assert set(read.columns) == {"time", "reply_dst"}
            same(read, wanted.select(["time", "reply_dst"]))
            assert len(segment.read(block, [])) == len(wanted)


def test_small_blocks_are_read_as_one(tmp_path: Path) -> None:
    made = [tables.events(uapi.AF_INET, rows, seed=rows) for rows in range(8, 48)]
    made[20] = made[20].select(FEW)  # a block with other columns
    write(tmp_path / "a", made)
    with Segment(str(tmp_path / "a")) as segment:
        joined = segment.read_small(segment.blocks_of(Kind.EVENTS))
        assert [len(table) for table in joined] == [sum(range(8, 28)), 28, sum(range(29, 48))]
        whole = segment.read_small(segment.blocks_of(Kind.EVENTS), ["id"])
        assert (
            np.concatenate([t["id"] for t in whole]).tolist()
            == np.concatenate([t["id"] for t in made]).tolist()
        )


def blocks_before(data: bytes) -> list[int]:
    """Where the blocks of a whole segment end."""
    ends, at = [], 0
    while at < len(data):
        at += FRAME.size + int(struct.unpack_from("<I", data, at + 12)[0])
        ends.append(at)
    return ends


@pytest.mark.slow
def test_a_segment_cut_at_every_byte(tmp_path: Path) -> None:
    """Blocks before the cut are read; bytes after the last whole block are a finding."""
    path = tmp_path / "a"
    write(path, little())
    data = path.read_bytes()
    ends = blocks_before(data)
    for length in range(len(data) - 1, -1, -1):
        os.truncate(path, length)
        whole = [end for end in ends if end <= length]
        if not whole:
            with pytest.raises(FormatError, match="not a segment"):
                Segment(str(path))
            continue
        with Segment(str(path)) as segment:
            assert segment.state == "crashed"
            assert len(segment.index) == len(whole)
            assert rows_of(segment) == sum((2, 2, 257)[: max(len(whole) - 1, 0)])
            if whole[-1] == length:
                assert (segment.findings, segment.torn) == ([], None)
            else:
                assert segment.findings == [segment.torn]
                assert segment.torn is not None
                assert segment.torn.offset == whole[-1]


@pytest.mark.slow
@pytest.mark.parametrize("closed", [True, False])
def test_a_segment_changed_at_every_byte(tmp_path: Path, closed: bool) -> None:
    """Each change is found when all is read, costs at most the block that it is in, and gives no
    row that was not written.
    """
    path = tmp_path / "a"
    write(path, little(), closed)
    data = bytearray(path.read_bytes())
    ends = blocks_before(bytes(data))
    sizes = [0, 2, 2, 257, 0, 0, 0]
    for offset in range(len(data)):
        data[offset] ^= 1 << offset % 8
        path.write_bytes(data)
        data[offset] ^= 1 << offset % 8
        struck = next(number for number, end in enumerate(ends) if offset < end)
        with Segment(str(path)) as segment:
            rows = rows_of(segment)
            assert len(segment.gaps) + len(segment.marks) == 2 - (struck in (4, 5)), offset
            assert rows == 261 - sizes[struck], offset
            assert segment.findings, offset
            assert all(
                finding.subject == str(path) and 0 <= (finding.offset or 0) <= len(data)
                for finding in segment.findings
            )


def test_damage_in_the_middle_costs_what_it_covers(tmp_path: Path) -> None:
    """Whole blocks behind it are found by magic and hash, whatever lies between."""
    path = tmp_path / "a"
    made = [tables.events(uapi.AF_INET, 300, seed) for seed in range(5)]
    write(path, made, close=False)
    data = path.read_bytes()
    ends = blocks_before(data)
    for junk in (b"", b"\0" * 5000, MAGIC * 2000, os.urandom(9999), data[: ends[1]]):
        path.write_bytes(data[: ends[1] + 100] + junk + data[ends[2] + 7 :])
        with Segment(str(path)) as segment:
            assert segment.state == "crashed"
            ids = np.concatenate(
                [segment.read(block)["id"] for block in segment.blocks_of(Kind.EVENTS)]
            )
            wanted = [0, 3, 4] if junk != data[: ends[1]] else [0, 0, 3, 4]
            assert (
                ids.tolist() == np.concatenate([made[number]["id"] for number in wanted]).tolist()
            )
            assert segment.findings
            assert segment.torn is None


def test_a_file_full_of_false_blocks_does_not_take_for_ever(tmp_path: Path) -> None:
    """Each seems to reach to the end of the file; to hash all of them would be 40 GB."""
    path = tmp_path / "a"
    write(path, little(), close=False)
    frame = pack_block(Kind.GAP, b"{}", NO_HASH, (0, 0))[:64]
    count = 20_000
    junk = bytearray()
    for number in range(count):
        junk += frame[:12] + struct.pack("<I", (count - number - 1) * 64) + frame[16:]
    path.write_bytes(path.read_bytes() + junk)
    began = time.process_time()
    with Segment(str(path)) as segment:
        assert rows_of(segment) == 261
        assert "too many false blocks" in " ".join(map(str, segment.findings))
    assert time.process_time() - began < 5


def test_zeros_at_the_end_are_what_a_power_cut_leaves(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, little(), close=False)
    with path.open("ab") as file:
        file.write(bytes(4096))
    with Segment(str(path)) as segment:
        assert segment.torn in segment.findings
        assert rows_of(segment) == 261


def test_a_last_block_that_is_complete_but_wrong_is_damage_not_a_tear(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, little(), close=False)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with Segment(str(path)) as segment:
        assert segment.torn is None
        assert segment.findings


def test_a_footer_that_points_elsewhere_is_not_believed(tmp_path: Path) -> None:
    """A trailer is any 16 bytes; the blocks are found without it."""
    path = tmp_path / "a"
    write(path, little())
    data = path.read_bytes()
    for offset in (0, 64, len(data) - 16, len(data) - 1, len(data), 2**63, 2**64 - 1):
        path.write_bytes(data[:-16] + struct.pack("<Q", offset) + data[-8:])
        with Segment(str(path)) as segment:
            assert rows_of(segment) == 261
            assert segment.state == "crashed"
            assert segment.findings


def test_a_footer_of_another_segment_is_found_out(tmp_path: Path) -> None:
    """Right in itself, of the same length: each block is held against what it says."""
    write(tmp_path / "a", little())
    one = other = (tmp_path / "a").read_bytes()
    seed = 0
    while other == one or len(other) != len(one):
        seed += 10
        write(tmp_path / f"b{seed}", little(seed))
        other = (tmp_path / f"b{seed}").read_bytes()
    end = blocks_before(one)[-2]
    (tmp_path / "a").write_bytes(one[:end] + other[end:])
    with Segment(str(tmp_path / "a")) as segment:
        assert rows_of(segment) == 0
        assert "not the one that the footer lists" in str(segment.findings[0])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        MAGIC,
        b"\x1f\x8b" * 4000,
        bytes(200),
        pack_block(Kind.GAP, b"{}", NO_HASH, (0, 0))[:-1],
    ],
)
def test_what_is_no_segment_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(FormatError, match="not a segment") as caught:
        Segment(str(tmp_path / "a"))
    assert caught.value.path == str(tmp_path / "a")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "missing"):
        with pytest.raises(ArchiveError):
            Segment(str(tmp_path / name))


def test_a_file_that_is_cut_while_it_is_read_gives_findings(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, [tables.events(uapi.AF_INET, 300, seed) for seed in range(4)])
    with Segment(str(path)) as segment:
        os.truncate(path, 5000)
        assert rows_of(segment) < 1200
        assert "too early" in str(segment.findings[0])


def test_a_newer_kind_of_block_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a"
    last_hash = write(path, little(), close=False)
    with path.open("ab") as file:
        file.write(pack_block(99, b"anything", last_hash, (NOON, NOON)))  # type: ignore[arg-type]
    with Segment(str(path)) as segment:
        assert segment.findings == []
        assert segment.blocks[-1].kind == 99
        assert rows_of(segment) == 261


WRITER = """
import sys, time
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
writer = SegmentWriter.create(sys.argv[1], Header(host="router"), live=True)
print("ready", flush=True)
for number in range(100000):
    table = tables.events((2, 10)[number % 2], (3, 400)[number % 3 == 0], seed=number % 50)
    writer.append(table)
    print(writer.rows, flush=True)
    time.sleep(0.002)
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes tmp_path/live, and prints its number of rows after each block."""
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "live")],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_reading_while_it_is_written(tmp_path: Path, recorder: subprocess.Popen[str]) -> None:
    """Each look finds all that was written before it, no half block, and no fault."""
    assert recorder.stdout is not None
    for _ in range(25):
        written = int(recorder.stdout.readline())
        with Segment(str(tmp_path / "live")) as segment:
            assert (segment.state, segment.findings) == ("live", [])
            assert rows_of(segment) >= written
            assert segment.findings == []


def test_reading_after_kill_9(tmp_path: Path, recorder: subprocess.Popen[str]) -> None:
    assert recorder.stdout is not None
    written = [int(recorder.stdout.readline()) for _ in range(20)][-1]
    recorder.send_signal(signal.SIGKILL)
    recorder.wait()
    with Segment(str(tmp_path / "live")) as segment:
        assert segment.state == "crashed"
        assert segment.findings in ([], [segment.torn])
        assert rows_of(segment) >= written


@dataclass(frozen=True)
class Ask(Query):
    """A question for tests: rows with one of these source addresses.  Counts what it was shown."""

    wanted: Array = field(default_factory=lambda: np.zeros(0, "<u4"))
    shown: Counter[str] = field(default_factory=Counter)

    @property
    def names_addresses(self) -> bool:
        return False

    def may_contain_time(self, time_min: int, time_max: int) -> bool:
        return time_max >= self.since

    def may_contain(self, bounds: Bounds) -> bool:
        self.shown["index"] += 1
        if self.wanted.dtype.itemsize != (4 if bounds.family == uapi.AF_INET else 16):
            return False
        bound: Bound | None = bounds.get("orig_src")
        return (
            bound is None
            or not bound.parts
            or any(np.isin(self.wanted, part).any() for part in bound.parts)
        )

    def columns_needed(self) -> list[str]:
        return ["orig_src", "time"]

    def evaluate(self, table: Table | LazyTable) -> NDArray[np.bool_]:
        self.shown["rows"] += 1
        if table["orig_src"].dtype != self.wanted.dtype:
            return np.zeros(len(table), np.bool_)
        return np.isin(table["orig_src"], self.wanted) & (table["time"] >= self.since)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_search_finds_what_reading_all_finds(tmp_path: Path, family: int) -> None:
    made = [
        tables.events(each, rows, seed=rows + each)
        for each in FAMILIES
        for rows in (1, 200, 300, 2000)
    ]
    write(tmp_path / "a", made)
    source = next(table for table in made if table.family == family and len(table) == 2000)[
        "orig_src"
    ][:2]
    with Segment(str(tmp_path / "a")) as segment:
        ask = Ask(wanted=source)
        for block, table in zip(segment.blocks_of(Kind.EVENTS), made, strict=True):
            wanted = ask.evaluate(table)
            found = segment.ask(block, ["id", "reply_dst"], ask)
            if not wanted.any():
                assert found is None
            else:
                assert found is not None
                same(found, table.take(wanted).select(["id", "reply_dst", "orig_src", "time"]))
                every = segment.ask(block, None, ask)
                assert every is not None
                same(every, table.take(wanted))


def test_a_search_reads_only_indexes_where_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of blocks whose dictionary lacks the address not one column is read: a tenth of the bytes."""
    made = [tables.events(uapi.AF_INET, 5000, seed) for seed in range(4)]
    write(tmp_path / "a", made)
    ask = Ask(wanted=made[2]["orig_src"][:1])
    with Segment(str(tmp_path / "a")) as segment:
        read: list[int] = []
        pread = segment.file.pread

        def counted(offset: int, length: int) -> bytes:
            data = pread(offset, length)
            read.append(len(data))
            return data

        monkeypatch.setattr(segment.file, "pread", counted)
        monkeypatch.setattr("ctrecorder.segment.blockfile._WINDOW", 64)
        hits = [segment.ask(block, ["id"], ask) for block in segment.blocks_of(Kind.EVENTS)]
        assert [hit is not None for hit in hits] == [False, False, True, False]
        assert (ask.shown["index"], ask.shown["rows"]) == (4, 1)
        assert sum(read) < segment.size // 3


def test_a_damaged_dictionary_never_hides_rows(tmp_path: Path) -> None:
    """It is under the frame's hash: the block is told of as damaged, not passed over as one that
    lacks the address.
    """
    path = tmp_path / "a"
    made = tables.events(uapi.AF_INET, 2000)
    write(path, [made])
    with Segment(str(path)) as segment:
        (block,) = segment.blocks_of(Kind.EVENTS)
        place = (
            block.offset
            + FRAME.size
            + segment.read_index(block).columns["orig_src"].dictionary_offset
            + 20
        )
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(FormatError, match="does not match its hash") as caught:
            segment.ask(block, None, Ask(wanted=made["orig_src"][:1]))
        assert caught.value.offset == block.offset


def test_a_sealed_segment(tmp_path: Path) -> None:
    """With the key it is checked, without it is read, with another it is refused."""
    path = tmp_path / "a"
    writer = SegmentWriter.create(str(path), Header(), key=b"key")
    made = [tables.events(uapi.AF_INET, 9), tables.events(uapi.AF_INET, 900)]
    for table in made:
        writer.append(table)
    writer.close()
    for key in (b"key", b""):
        with Segment(str(path), key) as segment:
            assert segment.sealed
            assert rows_of(segment) == 909
            assert segment.findings == []
    with pytest.raises(CtrecorderError, match="hash"):
        Segment(str(path), b"other")


@pytest.mark.slow
def test_memory_is_that_of_a_block(tmp_path: Path) -> None:
    """Opening and reading a segment of 40 blocks takes no more than one of them."""
    write(tmp_path / "a", [tables.events(uapi.AF_INET, 20_000, seed) for seed in range(10)] * 4)
    tracemalloc.start()
    with Segment(str(tmp_path / "a")) as segment:
        assert rows_of(segment) == 800_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def test_a_block_is_a_record_of_the_index(tmp_path: Path) -> None:
    write(tmp_path / "a", little())
    with Segment(str(tmp_path / "a")) as segment:
        assert [block.kind for block in segment.blocks] == [1, 2, 2, 2, 4, 5]
        small, _, large = segment.blocks_of(Kind.EVENTS)
        assert isinstance(small, Block)
        assert (small.form, small.rows, large.form, large.rows) == (FORM_SMALL, 2, 1, 257)
        assert small.time_max < NOON + SECOND * 1000


def test_a_long_index_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year of segments can be open; what an index says is read again, and held against its hash
    again.
    """
    path = tmp_path / "a"
    write(path, [tables.events(uapi.AF_INET, 3, seed) for seed in range(50)])
    monkeypatch.setattr("ctrecorder.segment.reader._KEPT_RECORDS", 10)
    with Segment(str(path)) as segment:
        assert segment._index is None
        assert len(segment.index) == 53
        assert rows_of(segment) == 150
        os.truncate(path, segment.size - 1)
        with pytest.raises(FormatError):
            len(segment.index)
