"""More segments than a process may have open files."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.segment import openfiles
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support.slow_pairing import NEW, T, row, table

SEGMENTS = 40


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """20 segments may be open at once."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(openfiles, "_RESERVED", before[0] - 20)
    return 20


def segments(folder: Path) -> list[Segment]:
    found = []
    for number in range(SEGMENTS):
        path = str(folder / f"{number}.ctlog")
        writer = SegmentWriter.create(path, Header(chain=f"c{number}"), time_ns=T)
        writer.append(table([row(NEW, T, id=number)]))
        writer.close()
        found.append(Segment(path))
    return found


def test_more_segments_than_open_files(tmp_path: Path, few: int) -> None:
    """Each is read all the same, in any order, and closing them leaves no file open."""
    before = open_files()
    opened = segments(tmp_path)
    for order in (range(SEGMENTS), reversed(range(SEGMENTS)), range(0, SEGMENTS, 3)):
        for number in order:
            (block,) = [one for one in opened[number].blocks if one.rows]
            assert opened[number].read(block)["id"].tolist() == [number]
            assert open_files() - before <= few
    for one in opened:
        one.close()
        assert one.file.descriptor == -1
    assert open_files() <= before  # files of other tests may have been parked


@pytest.mark.usefixtures("few")
def test_a_segment_that_was_replaced_while_it_was_not_open(tmp_path: Path) -> None:
    """What was read of it does not fit what is there now."""
    opened = segments(tmp_path)
    shutil.copy(tmp_path / "1.ctlog", tmp_path / "new")
    os.rename(tmp_path / "new", tmp_path / "0.ctlog")
    with pytest.raises(ArchiveError, match="replaced while it was read: ask again"):
        opened[0].read(opened[0].blocks[1])
    os.unlink(tmp_path / "1.ctlog")
    with pytest.raises(ArchiveError, match="No such file"):
        opened[1].read(opened[1].blocks[1])
    for one in opened:
        one.close()


def test_what_was_read_ahead_is_given_up(tmp_path: Path) -> None:
    opened = segments(tmp_path)
    assert sum(len(one.file._data) > 0 for one in opened) == openfiles._MAX_WINDOWS
    for one in opened:
        one.close()
