"""What a stranger's file may cost: the search for whole blocks behind damage, however many good
blocks lie between; and GAPs and MARKs, whose JSON grows when it is parsed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.frame import FRAME, MAGIC, NO_HASH, Kind, pack_block
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import DamagedError, SqueezeOptions, squeeze
from ctrecorder.segment import blockfile, notes
from ctrecorder.segment.blockfile import BlockFile
from ctrecorder.segment.pending import PendingBlock
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter


def false_block(length: int) -> bytes:
    """A frame whose block has `length` bytes and does not match its hash."""
    return FRAME.pack(MAGIC, Kind.GAP, 0, 1, 0, 0, length, 1, 1, NO_HASH, b"\1" * 16)


def test_many_bad_blocks_between_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each claims most of the file, and each good block ends a search."""
    path, size = tmp_path / "a", 4 << 20
    SegmentWriter.create(str(path), Header()).abandon()
    data = bytearray(path.read_bytes())
    good = pack_block(Kind.GAP, b'{"reason":"x"}', NO_HASH, (1, 1))
    while len(data) < size:
        data += false_block(size - len(data)) + good
    path.write_bytes(data + bytes(4096))
    hashed = 0
    check = BlockFile.check_hash

    def counted(file: BlockFile, frame: Buffer, part: Buffer) -> None:
        nonlocal hashed
        hashed += len(part)
        check(file, frame, part)

    monkeypatch.setattr(BlockFile, "check_hash", counted)
    with Segment(str(path)) as segment:
        assert any("too many false blocks" in finding.what for finding in segment.findings)
    assert hashed < 10 * size


def test_magics_alone_are_work_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    SegmentWriter.create(str(path), Header()).abandon()
    path.write_bytes(path.read_bytes() + b"x" + MAGIC * (1 << 17))
    looks = 0
    spend = blockfile.SearchBudget.spend

    def counted(budget: blockfile.SearchBudget, count: int) -> bool:
        nonlocal looks
        looks += 1
        return spend(budget, count)

    monkeypatch.setattr(blockfile.SearchBudget, "spend", counted)
    with Segment(str(path)) as segment:
        assert any("too many false blocks" in finding.what for finding in segment.findings)
    assert looks < 10_000


def with_gaps(path: Path, count: int, values: int) -> None:
    """A closed segment with GAPs whose JSON has so many values."""
    writer = SegmentWriter.create(str(path), Header())
    rest = ",".join(["[]"] * values)
    for number in range(count):
        payload = f'{{"reason":"overrun","rest":[{rest}]}}'.encode()
        writer.write(PendingBlock(Kind.GAP, payload, (number, number)))
    writer.close()


def test_gaps_whose_json_grows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gaps(tmp_path / "a", 100, 100)
    with Segment(str(tmp_path / "a")) as segment:
        assert (len(segment.gaps), segment.findings) == (100, [])
    monkeypatch.setattr(notes, "MAX_SEGMENT_BYTES", 100_000)
    with Segment(str(tmp_path / "a")) as segment:
        for _ in range(2):
            assert 5 < len(segment.gaps) < 10
            (finding,) = segment.findings
            assert "too many GAPs" in finding.what
        assert segment.is_damaged
    with pytest.raises(DamagedError, match="too many GAPs"):
        squeeze(str(tmp_path / "a"), SqueezeOptions())


def test_what_does_not_fit_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many segments; what one has kept is given back when it is closed."""
    monkeypatch.setattr(notes, "KEPT", notes.Allowance(20_000))
    for name in "ab":
        with_gaps(tmp_path / name, 10, 10)
    for _ in range(3):
        with Segment(str(tmp_path / "a")) as first, Segment(str(tmp_path / "b")) as second:
            assert first.gaps is first.gaps
            assert second.gaps is not second.gaps
            assert first.gaps == second.gaps
    assert notes.KEPT.take(20_000)
