"""What tells that a recorder writes a segment."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from ctrecorder import filelock
from ctrecorder.archive.lock import BusyError
from ctrecorder.check import verify
from ctrecorder.ctlog.frame import COVERAGE
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment import live
from ctrecorder.segment.live import LiveState, Publisher
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter

NEW = Header(chain="c", requires=(COVERAGE,))


def state_of(path: Path) -> str:
    with Segment(str(path)) as segment:
        return segment.state


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(live, "FOLDER", str(folder))
    return folder


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who can find out nothing about locks."""

    def refused(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock, "holder_of", refused)


def write(path: Path, header: Header = NEW, *, torn: bool = False) -> SegmentWriter:
    writer = SegmentWriter.create(str(path), header)
    if torn:
        with path.open("ab") as file:
            file.write(b"\xc7CTB")
    return writer


@pytest.mark.parametrize("moved", [False, True])
def test_a_recorder_publishes_its_segment(tmp_path: Path, run_folder: Path, moved: bool) -> None:
    """Wherever the file is now, and with no lock."""
    path = tmp_path / "a"
    writer = write(path)
    assert state_of(path) == "crashed"
    status = path.stat()
    publisher = Publisher(str(run_folder))
    publisher.publish(LiveState("c", str(path), status.st_dev, status.st_ino, 1))
    if moved:
        path = path.rename(tmp_path / "b")
    assert state_of(path) == "live"
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    assert state_of(copy) == "crashed"
    publisher.close()
    assert state_of(path) == "crashed"
    writer.abandon()


def test_where_nothing_shows_it_is_unclosed(
    tmp_path: Path, run_folder: Path, blind: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a"
    writer = write(path, torn=True)
    with Segment(str(path)) as segment:
        assert (segment.state, segment.findings) == ("unclosed", [])
        assert segment.torn is not None
    assert verify.check([str(path)], print) == verify.WHOLE
    said = capsys.readouterr().out
    assert "whole, unclosed" in said
    assert "its owner can find out" in said
    with pytest.raises(BusyError, match="cannot find out"):
        squeeze(str(path), SqueezeOptions())
    status = path.stat()
    publisher = Publisher(str(run_folder))
    publisher.publish(LiveState("c", str(path), status.st_dev, status.st_ino, 1))
    assert state_of(path) == "live"
    publisher.close()
    writer.abandon()


@pytest.mark.parametrize(
    ("header", "lock", "age", "state"),
    [
        (Header(chain="c"), fcntl.LOCK_EX, 0, "live"),
        (Header(chain="c"), fcntl.LOCK_SH, 0, "crashed"),
        (Header(chain="c"), fcntl.LOCK_EX, 600, "crashed"),
        (NEW, fcntl.LOCK_EX, 0, "crashed"),
    ],
)
def test_a_flock_is_that_of_version_1_0(
    tmp_path: Path, header: Header, lock: int, age: int, state: str
) -> None:
    """Which wrote at least once a minute, and no `requires`."""
    path = tmp_path / "a"
    write(path, header).abandon()
    os.utime(path, (0, time.time() - age))
    with path.open("rb") as held:
        fcntl.flock(held, lock)
        assert state_of(path) == state
    assert state_of(path) == "crashed"


def test_no_lock_file_where_none_can_be(tmp_path: Path) -> None:
    """A folder that the command cannot write: nothing is squeezed, and the reason is said."""
    path = tmp_path / "a"
    write(path).close()
    (tmp_path / filelock.LOCK_FILE).mkdir()
    with pytest.raises(ArchiveError, match=r"cannot be locked: .*\.ctrecorder\.lock"):
        squeeze(str(path), SqueezeOptions())
