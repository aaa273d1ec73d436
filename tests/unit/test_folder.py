"""Root by hand in a folder that belongs to another user, who exchanges names in it: nothing outside
is touched.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.check.repair import repair
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError, CtrecorderError
from ctrecorder.kept import retention
from ctrecorder.maintain.expire import Expiry, Limits
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter, WriteError
from ctrecorder.service.daemon import PidFile
from ctrecorder.service.log import Log
from tests.support.folders import names, paths
from tests.support.router import CHECKOUT
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T, row, table

NOBODY, NOGROUP = 65534, 65534


@pytest.fixture
def folder(place: Path) -> Path:
    """The archive, which belongs to `nobody`."""
    made = place / "log"
    made.mkdir()
    os.chown(made, NOBODY, NOGROUP)
    return made


def record(path: Path) -> Path:
    """A segment of `nobody`."""
    writer = SegmentWriter.create(str(path), Header(), time_ns=T)
    for number in range(50):
        writer.append(table([row(NEW, T + number, id=number), row(DESTROY, T + SECOND, id=number)]))
    writer.close()
    os.chown(path, NOBODY, NOGROUP)
    return path


def state(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    return status.st_mode, status.st_uid, status.st_gid, status.st_nlink, path.read_bytes()


def secret(path: Path, mode: int = 0o600) -> Path:
    """A file of root's."""
    path.write_bytes(b"secret")
    path.chmod(mode)
    return path


def by_hand(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As root: it becomes the owner of the folder."""
    words = [str(CHECKOUT / "bin" / command), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def expire(folder: Path) -> int:
    """As a process that is still root."""
    limits = Limits(max_age=86_400, trust_clock=True)
    return Expiry(str(folder), limits, time.time_ns(), Log("ctexpire")).run()


@pytest.mark.parametrize("plant", ["a link", "a file"])
def test_a_link_at_replaced_is_refused(folder: Path, place: Path, plant: str) -> None:
    path = record(folder / "a.ctlog")
    before = path.read_bytes()
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    if plant == "a link":
        (folder / "replaced").symlink_to(elsewhere)
    else:
        (folder / "replaced").write_bytes(b"")
    for arguments in ([str(folder)], ["-f", str(path)]):
        done = by_hand("ctsqueeze", "--keep", *arguments)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert (
            line == f"ctsqueeze: {folder}/replaced: is a symbolic link or a file, "
            "not a folder: remove it"
        )
        assert names(elsewhere) == []
        assert path.read_bytes() == before
        assert names(folder) == ["a.ctlog", "replaced"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_keep_keeps_the_file_that_was_opened(
    folder: Path, place: Path, link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment is exchanged for a link to a file of root's after it was checked, just before it
    gets its second name.
    """
    path, other = record(folder / "a.ctlog"), secret(place / "other")
    raw = path.read_bytes()
    mkdir = os.mkdir

    def mkdir_and_swap(*arguments: Any, **options: Any) -> None:
        mkdir(*arguments, **options)
        path.rename(folder / "moved.ctlog")
        link(other, path)

    monkeypatch.setattr(os, "mkdir", mkdir_and_swap)
    before = other.stat().st_nlink + (link is os.link)
    with pytest.raises(CtrecorderError, match="has just been replaced"):
        squeeze(str(path), SqueezeOptions(keep=True))
    assert other.stat().st_nlink == before
    assert [each.read_bytes() for each in paths(folder / "replaced")] == [raw]
    assert path.samefile(other)


def test_the_new_segment_is_private_until_it_has_its_owner(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first bytes it has the old one's owner and mode; until then it is root's alone."""
    path = record(folder / "a.ctlog")
    path.chmod(0o604)
    seen = []
    pwrite, fchown = os.pwrite, os.fchown

    def look(descriptor: int, call: Any, *arguments: Any) -> Any:
        status = os.fstat(descriptor)
        seen.append((call.__name__, status.st_mode & 0o777, status.st_uid, status.st_size))
        return call(descriptor, *arguments)

    monkeypatch.setattr(os, "pwrite", lambda descriptor, *rest: look(descriptor, pwrite, *rest))
    monkeypatch.setattr(os, "fchown", lambda descriptor, *rest: look(descriptor, fchown, *rest))
    squeeze(str(path), SqueezeOptions())
    assert seen[-1] == ("pwrite", 0o604, NOBODY, seen[-1][3])
    begun = seen.index(("pwrite", 0o604, NOBODY, 0))
    assert seen[begun - 1] == ("fchown", 0o600, 0, 0)


@pytest.mark.parametrize("plant", ["a hard link", "a file of root's"])
def test_a_file_put_where_receipts_go_is_not_given_away(
    folder: Path, place: Path, plant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, other = record(folder / "a.ctlog"), secret(place / "other")
    receipts = folder / retention.RECEIPTS
    if plant == "a hard link":
        os.link(other, receipts)
    else:
        other = other.rename(receipts)
    before = state(other)
    assert expire(folder) == 2
    assert f"{receipts}: cannot be written, so nothing is deleted: " in capfd.readouterr().err
    assert state(other) == before
    assert by_hand("ctexpire", "--max-age", "1d", folder).returncode == 2
    assert state(other) == before
    assert path.exists()


def test_a_folder_swapped_while_root_deletes(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipt and deletion are in the folder that was opened, not in what has its name now."""
    record(folder / "a.ctlog")
    other = place / "other"
    other.mkdir()
    record(other / "a.ctlog")
    lines = retention.receipt_lines

    def swap(opened: Any) -> Any:
        found = lines(opened)
        folder.rename(place / "moved")
        folder.symlink_to(other)
        return found

    monkeypatch.setattr(retention, "receipt_lines", swap)
    assert expire(folder) == 0
    assert names(other) == ["a.ctlog"]
    assert names(place / "moved") == [retention.RECEIPTS]


def test_a_folder_swapped_while_root_squeezes(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new segment is made and gets its place in the folder that was opened."""
    path = record(folder / "a.ctlog")
    other = place / "other"
    other.mkdir()
    raw = record(other / "a.ctlog").read_bytes()
    close = SegmentWriter.close

    def swap(self: SegmentWriter, totals: Any) -> bytes:
        folder.rename(place / "moved")
        folder.symlink_to(other)
        return close(self, totals)

    monkeypatch.setattr(SegmentWriter, "close", swap)
    assert squeeze(str(path), SqueezeOptions(keep=True)) is not None
    assert names(other) == ["a.ctlog"]
    assert path.read_bytes() == raw
    with Segment(str(place / "moved" / "a.ctlog")) as segment:
        assert segment.header.is_squeezed


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_where_the_pid_file_goes_is_refused(folder: Path, place: Path, link: Any) -> None:
    other = place / "other"
    other.write_bytes(b"")  # as an old pid file may be
    link(other, folder / "pid")
    with pytest.raises(ArchiveError, match="pid file"):
        PidFile(str(folder / "pid"))
    assert other.read_bytes() == b""


def test_the_pid_file_is_removed_from_the_folder_that_it_was_made_in(
    folder: Path, place: Path
) -> None:
    pidfile = PidFile(str(folder / "pid"))
    pidfile.write()
    other = place / "other"
    other.mkdir()
    secret(other / "pid")
    folder.rename(place / "moved")
    folder.symlink_to(other)
    pidfile.remove()
    assert names(other) == ["pid"]
    assert names(place / "moved") == []


def test_repair_removes_only_what_it_made(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails on the way, and the folder of its output is another one by then."""
    path = record(place / "a.ctlog")
    other = place / "other"
    other.mkdir()
    secret(other / "new")

    def swap_and_fail(self: SegmentWriter) -> bytes:
        folder.rename(place / "moved")
        folder.symlink_to(other)
        raise WriteError("new", OSError(28, "No space left on device"))

    monkeypatch.setattr(SegmentWriter, "close", swap_and_fail)
    with pytest.raises(WriteError):
        repair(str(path), str(folder / "new"))
    assert names(other) == ["new"]
    assert names(place / "moved") == []
