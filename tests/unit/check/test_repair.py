"""cttest --repair: all that is whole, GAPs for what is missing, and the damaged file as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctrecorder import uapi
from ctrecorder.archive.lock import BusyError
from ctrecorder.check import verify
from ctrecorder.check.repair import RepairResult, repair
from ctrecorder.cli import cttest
from ctrecorder.columns import Table, concat
from ctrecorder.ctlog.frame import NO_HASH, Gap, Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support import c_ctrecorder as old
from tests.support import tables
from tests.support.folders import names
from tests.support.tables import NOON, SECOND

NAMES = ("time", "event", "orig_src", "id", "present")


def make(
    path: Path, previous: tuple[str, bytes] = ("", NO_HASH), number: int = 1, close: bool = True
) -> bytes:
    """A segment of eight blocks behind its header; returns its last hash."""
    header = {"chain": "c", "sequence": number, "previous": previous[0] or None}
    writer = SegmentWriter.create(
        str(path), Header.from_json(header), previous[1], time_ns=NOON + number * SECOND
    )
    for seed in range(3):
        writer.append(tables.events(uapi.AF_INET, 500, seed).select(NAMES))
        writer.append(tables.events(uapi.AF_INET6, 20, seed).select(NAMES))
    writer.gap(Gap(NOON, NOON + SECOND, "overrun", 7))
    writer.mark(Mark.at(NOON + SECOND, "heartbeat", {"a": 1}))
    if close:
        return writer.close()
    writer.sync()
    last_hash = writer.last_hash
    writer.abandon()
    return last_hash


def told(path: Path) -> list[tuple[Any, ...]]:
    """Each block behind the header, and what it says."""
    found: list[tuple[Any, ...]] = []
    with Segment(str(path)) as segment:
        gaps, marks = iter(segment.gaps), iter(segment.marks)
        for block in segment.blocks:
            if block.kind == Kind.GAP:
                found.append((next(gaps),))
            elif block.kind == Kind.MARK:
                found.append((next(marks),))
            elif block.kind != Kind.HEADER:
                table = segment.read(block)
                found.append((block[1:], *(table[name].tobytes() for name in NAMES)))
    return found


def fixed(path: Path) -> tuple[RepairResult, Path]:
    """Repaired, the result found whole, and the damaged file untouched."""
    new = path.with_name("new")
    new.unlink(missing_ok=True)
    before = path.read_bytes()
    result = repair(str(path), str(new))
    assert path.read_bytes() == before
    lines: list[str] = []
    assert verify.check([str(new)], lines.append) == verify.WHOLE, lines
    return result, new


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("victim", range(1, 9))
def test_one_damaged_block_becomes_one_gap(victim: int, close: bool, tmp_path: Path) -> None:
    path = tmp_path / "segment"
    make(path, close=close)
    everything = told(path)
    with Segment(str(path)) as segment:
        blocks = segment.blocks
    offset = (
        (blocks[victim].offset + blocks[victim + 1].offset) // 2
        if victim < 8
        else blocks[victim].offset + 70
    )
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
    result, new = fixed(path)
    found = told(new)
    gaps = [each for each in found if getattr(each[0], "reason", "") in ("damaged", "crashed")]
    assert (len(gaps), result.holes) == (1, 1)
    assert found[victim - 1] == gaps[0]
    assert found[: victim - 1] + found[victim:] == everything[: victim - 1] + everything[victim:]
    assert gaps[0][0].lost is None
    if close:
        assert (gaps[0][0].begin, gaps[0][0].end) == (
            blocks[victim].time_min,
            blocks[victim].time_max,
        )


def test_a_hole_in_the_middle_of_a_crashed_segment(tmp_path: Path) -> None:
    """Bytes that are gone, so that all later ones have moved."""
    path = tmp_path / "segment"
    make(path, close=False)
    everything = told(path)
    with Segment(str(path)) as segment:
        blocks = segment.blocks
    data = path.read_bytes()
    path.write_bytes(data[: blocks[3].offset + 40] + data[blocks[5].offset - 30 :])
    result, new = fixed(path)
    found = told(new)
    assert result.holes == 1
    assert found[:2] + found[3:] == everything[:2] + everything[4:]
    gap = found[2][0]
    assert (gap.begin, gap.end) == tuple(sorted((blocks[2].time_max, blocks[5].time_min)))


def test_a_block_that_somebody_took_out(tmp_path: Path) -> None:
    """All that is left is whole, and nothing is between it: only the chain of hashes tells."""
    path = tmp_path / "segment"
    make(path, close=False)
    everything = told(path)
    with Segment(str(path)) as segment:
        blocks = segment.blocks
    data = path.read_bytes()
    path.write_bytes(data[: blocks[3].offset] + data[blocks[4].offset :])
    result, new = fixed(path)
    found = told(new)
    assert (result.holes, [str(one)[-38:] for one in result.findings]) == (
        1,
        ["does not follow on the block before it"],
    )
    assert found[:2] + found[3:] == everything[:2] + everything[3:]
    assert (found[2][0].reason, found[2][0].lost) == ("damaged", None)


def test_the_chain_goes_on_over_it(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    first = make(folder / "1")
    second = make(folder / "2", ("1", first), 2)
    make(folder / "3", ("2", second), 3)
    data = bytearray((folder / "2").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "2").write_bytes(data)
    assert verify.check([str(folder)], lambda line: None) == verify.DAMAGED
    _, new = fixed(folder / "2")
    new.rename(folder / "2")
    assert verify.check([str(folder)], lambda line: None) == verify.WHOLE


def rows(path: Path) -> Table:
    with Segment(str(path)) as segment:
        return concat([segment.read(block) for block in segment.blocks_of(Kind.EVENTS)])


def test_a_c_ctrecorders_file_that_is_out_of_step(tmp_path: Path) -> None:
    """Two full disks and a cut end: all whole records are saved, and can then be squeezed."""
    events = old.traffic(300)
    records = [event.pack() for event in events]
    path = tmp_path / "old.ct"
    whole = [*events[:100], *events[120:200], *events[201:299]]
    body = [
        *records[:100],
        records[100][:17],
        *records[120:200],
        records[200][:32],
        *records[201:299],
        records[299][:6],
    ]
    path.write_bytes(old.header() + b"".join(body))
    result, new = fixed(path)
    assert (result.rows, result.holes, len(result.findings)) == (len(whole), 3, 3)
    times = [event.sec * 10**9 + event.usec * 1000 for event in whole]
    table = rows(new)
    assert table["time"].tolist() == times
    assert list(zip(table["orig_src"].tolist(), table["reply_dport"].tolist(), strict=True)) == [
        (e.ends[0], e.ends[7]) for e in whole
    ]
    with Segment(str(new)) as segment:
        assert [(gap.reason, gap.begin, gap.end) for gap in segment.gaps] == [
            ("write-error", times[99], times[100]),
            ("write-error", times[179], times[180]),
            ("crashed", times[-1], times[-1]),
        ]
        assert segment.header.host == "router"
    squeezed = squeeze(str(new), SqueezeOptions(), str(tmp_path / "small"))
    assert squeezed is not None
    assert squeezed.events == len(whole)


def test_a_squeezed_one(tmp_path: Path) -> None:
    path = old.SQUEEZED[2]
    (tmp_path / "old").write_bytes(path.read_bytes()[:-3])
    result, new = fixed(tmp_path / "old")
    assert result.rows == (path.stat().st_size - 256) // 40 - 1
    squeezed = squeeze(str(new), SqueezeOptions(), str(tmp_path / "small"))
    assert squeezed is not None
    assert squeezed.connections == result.rows


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, new = tmp_path / "segment", tmp_path / "new"
    make(path)
    assert cttest.main(["--repair", str(path), "-o", str(new)]) == 0
    assert capsys.readouterr().out == f"{new}: 1,560 rows saved, nothing is missing\n"
    assert cttest.main(["--repair", str(path), "-o", str(new)]) == 2
    assert "exists already, and is never overwritten" in capsys.readouterr().err
    assert cttest.main(["--repair", str(path)]) == 2
    assert "--repair FILE -o NEW" in capsys.readouterr().err
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    new.unlink()
    assert cttest.main(["--repair", str(path), "-o", str(new)]) == 1
    assert capsys.readouterr().out.endswith(
        f"{new}: 1,560 rows saved, 1 gap where something is missing\n"
    )


def test_what_cannot_be_repaired(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(b"nothing of ours" * 100)
    with pytest.raises(FormatError, match="not a segment"):
        repair(str(tmp_path / "foreign"), str(tmp_path / "new"))
    writer = SegmentWriter.create(str(tmp_path / "live"), Header(), live=True)
    with pytest.raises(BusyError):
        repair(str(tmp_path / "live"), str(tmp_path / "new"))
    writer.close()
    with pytest.raises(ArchiveError):
        repair(str(tmp_path / "live"), str(tmp_path / "no folder" / "new"))
    assert names(tmp_path) == ["foreign", "live"]
