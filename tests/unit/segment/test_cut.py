"""A squeezed or repaired segment without its footer was cut short: that is damage, not a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder import uapi
from ctrecorder.asking import ctwho
from ctrecorder.check import verify
from ctrecorder.check.repair import repair
from ctrecorder.ctlog.frame import FRAME, Gap, Kind, Mark, parse_frame
from ctrecorder.ctlog.header import Header
from ctrecorder.filelock import Holder
from ctrecorder.listing import ctlist
from ctrecorder.maintain.squeeze import DamagedError, SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
from tests.support.folders import locked
from tests.support.tables import NOON, SECOND

CUT = "cut short: a squeezed or repaired segment has a footer"


def record(path: Path) -> None:
    """A closed segment of events, with a gap and a mark."""
    writer = SegmentWriter.create(str(path), Header(chain="c", sequence=1), time_ns=NOON)
    writer.append(tables.events(uapi.AF_INET, 300))
    writer.append(tables.events(uapi.AF_INET6, 20))
    writer.gap(Gap(NOON, NOON + SECOND, "overrun", 7))
    writer.mark(Mark.at(NOON + 2 * SECOND, "heartbeat"))
    writer.close()


def squeezed(path: Path) -> bytes:
    """The bytes of a squeezed segment."""
    record(path)
    squeeze(str(path), SqueezeOptions())
    return path.read_bytes()


def repaired(path: Path) -> bytes:
    """The bytes of a repaired segment."""
    old = path.with_name("old")
    record(old)
    repair(str(old), str(path))
    old.unlink()
    return path.read_bytes()


def ends(data: bytes) -> list[int]:
    """The ends of all blocks before the footer."""
    found, at = [], 0
    while at < len(data):
        frame = parse_frame(data[at:])
        if frame.kind == Kind.FOOTER:
            break
        at += FRAME.size + frame.length
        found.append(at)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("make", [squeezed, repaired])
def test_cut_at_the_end_of_any_block(
    tmp_path: Path, make: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ctlog"
    data = squeezed(path) if make is squeezed else repaired(path)
    assert verify.check([str(path)], print) == verify.WHOLE
    for end in ends(data):
        path.write_bytes(data[:end])
        with Segment(str(path)) as segment:
            assert (segment.state, segment.torn) == ("cut", None)
            (finding,) = segment.findings
            assert str(finding) == f"{path}: at byte {end}: {CUT}"
        lines: list[str] = []
        assert verify.check([str(path)], lines.append) == verify.DAMAGED
        assert lines[0] == f"{path}: at byte {end}: {CUT}"
        assert f"{path}: damaged, 1 finding, cut: " in lines[1]
        assert lines[-1] == "1 segment checked: 0 whole, 1 damaged"
        capsys.readouterr()
        asked = ["192.0.2.1:80", "2026-09-21", "-d", str(path)]
        for command, words, code in ((ctlist, [str(path)], 2), (ctwho, asked, 3)):
            assert command.main(words) == code
            assert CUT in capsys.readouterr().err


@pytest.mark.parametrize("cut", [1, 16, 60])
def test_cut_inside_a_block(tmp_path: Path, cut: int) -> None:
    """Also where a crash would leave the same bytes: nothing is called torn off."""
    path = tmp_path / "a.ctlog"
    data = squeezed(path)
    for end in (ends(data)[2] + cut, len(data) - cut):
        path.write_bytes(data[:end])
        lines: list[str] = []
        assert verify.check([str(path)], lines.append) == verify.DAMAGED
        assert any(CUT in line for line in lines)
        assert any("bytes are not a whole block" in line for line in lines)
        assert not any("torn off by a crash" in line for line in lines)


@pytest.mark.parametrize("cut", [0, 60])
def test_a_repaired_one_that_was_cut_is_not_squeezed(tmp_path: Path, cut: int) -> None:
    """A crashed segment is squeezed up to its last whole block; this one is damaged."""
    path = tmp_path / "a.ctlog"
    data = repaired(path)
    path.write_bytes(data[: ends(data)[2] + cut])
    with pytest.raises(DamagedError, match="a damaged segment is not squeezed"):
        squeeze(str(path), SqueezeOptions())


def test_no_lock_makes_it_live(tmp_path: Path) -> None:
    """It gets its name when it is whole."""
    path = tmp_path / "a.ctlog"
    data = repaired(path)
    path.write_bytes(data[: ends(data)[1]])
    with locked(path, Holder.RECORDER), Segment(str(path)) as segment:
        assert segment.state == "cut"


def test_a_repaired_one_has_a_gap_for_what_was_cut(tmp_path: Path) -> None:
    """Of any time: the rows of a squeezed segment are not in the order of time."""
    path, new = tmp_path / "a.ctlog", tmp_path / "new.ctlog"
    data = squeezed(path)
    path.write_bytes(data[: ends(data)[1]])
    with Segment(str(path)) as segment:
        times = segment.times
    assert repair(str(path), str(new)).holes == 1
    with Segment(str(new)) as segment:
        (gap,) = segment.gaps
        assert (gap.begin, gap.end, gap.reason, gap.lost) == (*times, "damaged", None)
    assert verify.check([str(new)], print) == verify.WHOLE
