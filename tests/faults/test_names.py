"""Names that lead elsewhere: templates that leave their folder, and links planted where a command
will make a file.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ctrecorder.archive import lock
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.kept.retention import HOLDS, RECEIPTS
from ctrecorder.segment import files
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.spool.target import Target
from ctrecorder.spool.template import expand_template
from tests.support.faulttable import Table
from tests.support.folders import names, paths
from tests.support.history import NOON, History
from tests.support.router import CHECKOUT, INSIDE, SERVER, Lab
from tests.support.traffic import Tough, cttest

PRECIOUS = b"root:x:0:0:root:/root:/bin/sh\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside the folder, which nothing may touch."""
    path = tmp_path / "victim"
    path.write_bytes(PRECIOUS)
    return path


@pytest.mark.parametrize(
    "template",
    [
        "../%H%M.ctlog/../../x/..",
        "%D.ctlog",  # 11/24/26
        "%Y/%m.ctlog",
        "..",
        ".",
        "",
        "%H/",
        "a\0b",
        "%n.ctlog",  # a newline
        "%A" * 60,
        "\x1b[2J%H",
    ],
)
def test_a_template_cannot_leave_its_folder(tmp_path: Path, template: str) -> None:
    """It is refused when it is read, or when a name is made of it; what is not refused stays in the
    folder.
    """
    with pytest.raises(UsageError):
        expand_template(f"{tmp_path}/log/{template}", NOON)


@pytest.mark.parametrize("template", ["../log/x%H", "%%s", "%s-%N", "-rf", "a b", "%é", "..x"])
def test_an_odd_template_stays_in_its_folder(tmp_path: Path, template: str) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    path = expand_template(f"{folder}/{template}", NOON)
    assert Path(path).parent.resolve() == folder


@pytest.mark.parametrize("template", ["%D.ctlog", "%Y/x.ctlog", "%n"])
def test_ctrecord_refuses_such_a_template(lab: Lab, tmp_path: Path, template: str) -> None:
    (tmp_path / "log").mkdir()
    done = lab.router.run(
        CHECKOUT / "bin/ctrecord",
        "-F",
        "-U",
        "root",
        "-f",
        tmp_path / "log" / template,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("ctrecord: ")
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == ["log"]


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_for_the_next_segment(tmp_path: Path, victim: Path, dangling: bool) -> None:
    """Whether or not its target exists: it is never opened, also if it comes between the look and
    the making.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    target = tmp_path / "new" if dangling else victim
    path = Path(Target(str(folder / "%H%M.ctlog"), 60, 0o640).path(NOON))
    path.symlink_to(target)
    with pytest.raises(files.ExistsError):
        SegmentWriter.create(str(path), Header())
    assert victim.read_bytes() == PRECIOUS
    assert not (tmp_path / "new").exists()
    assert files.first_free(str(path)) == str(path.with_name("1200-1.ctlog"))


@pytest.mark.claim("links")
def test_links_for_a_recorder(lab: Lab, tmp_path: Path, victim: Path, table: Table) -> None:
    """For its first segment, for each of the next seconds', and for its pid file."""
    folder = tmp_path / "log"
    folder.mkdir()
    for second in range(20):
        name = time.strftime("%Y%m%d-%H%M%S.ctlog", time.gmtime(time.time() + second))
        (folder / name).symlink_to(victim)
    (tmp_path / "pid").symlink_to(victim)
    done = lab.router.run(
        "ctrecord", "-U", "root", "-f", folder / "x-%H%M%S", "-P", tmp_path / "pid", check=False
    )
    assert done.returncode == 2
    assert "pid file" in done.stderr
    recorder = Tough(lab, folder)
    lab.udp(INSIDE, (SERVER, 53))
    recorder.rotate()
    recorder.wait("continuing in")
    recorder.synced()
    recorder.stop()
    assert victim.read_bytes() == PRECIOUS
    (segment,) = [path for path in paths(folder) if not path.is_symlink()]
    cttest(segment)
    table.add_row("links planted for a recorder", tried=21)


@pytest.mark.claim("links")
def test_a_link_for_what_ctsqueeze_makes(tmp_path: Path, victim: Path) -> None:
    """Its hidden file beside the segment, and the file of -o."""
    history = History(tmp_path / "log")
    for path in history.paths[:2]:
        Path(lock.successor_path(str(path), path.stat())).symlink_to(victim)
    history.run("ctsqueeze", history.folder)
    assert victim.read_bytes() == PRECIOUS
    assert not any(path.is_symlink() for path in paths(history.folder))
    cttest("--anchors", history.anchors, history.folder)
    new = tmp_path / "new"
    new.symlink_to(victim)
    other = History(tmp_path / "other")
    with pytest.raises(AssertionError, match="exists already"):
        other.run("ctsqueeze", "-f", other.paths[0], "-o", new)
    assert victim.read_bytes() == PRECIOUS


@pytest.mark.parametrize("command", ["ctsqueeze", "ctexpire"])
def test_a_segment_that_is_a_link(tmp_path: Path, command: str) -> None:
    """What it leads to is not in the folder: it is neither squeezed nor deleted."""
    outside, inside = History(tmp_path / "outside"), History(tmp_path / "inside")
    before = {path.name: path.read_bytes() for path in paths(outside.folder)}
    for path in outside.paths:
        (inside.folder / f"link-{path.name}").symlink_to(path)
    arguments = ["--max-age", "1d"] if command == "ctexpire" else []
    subprocess.run(
        [CHECKOUT / "bin" / command, *arguments, inside.folder],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert {path.name: path.read_bytes() for path in paths(outside.folder)} == before


@pytest.mark.claim("links")
@pytest.mark.parametrize("name", [RECEIPTS, HOLDS, f".{HOLDS}.new"])
def test_a_link_for_what_ctexpire_writes(tmp_path: Path, victim: Path, name: str) -> None:
    """A receipt that would be written elsewhere: nothing is deleted."""
    history = History(tmp_path / "log")
    (history.folder / name).symlink_to(victim)
    if name != RECEIPTS:
        subprocess.run(
            [CHECKOUT / "bin/ctexpire", "--hold", "--reason", "x", history.folder],
            capture_output=True,
            check=False,
            timeout=60,
        )
    done = subprocess.run(
        [CHECKOUT / "bin/ctexpire", "--max-age", "1d", history.folder],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert victim.read_bytes() == PRECIOUS
    assert "Traceback" not in done.stderr
    if name == RECEIPTS:
        assert done.returncode == 2
        assert all(path.exists() for path in history.paths)


@pytest.mark.parametrize(
    "swap",
    [lambda folder, other: folder.symlink_to(other), lambda folder, other: other.rename(folder)],
)
def test_a_folder_swapped_while_a_segment_is_made(
    tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    """What belongs to a segment is done in the folder that it was made in, by its descriptor: the
    lock, the sync, the removal.
    """
    folder, other = tmp_path / "log", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    writer = SegmentWriter.create(str(folder / "a.ctlog"), Header())
    folder.rename(tmp_path / "moved")
    swap(folder, other)
    writer.sync()
    writer.close()
    assert names(folder) == []
    assert (tmp_path / "moved" / "a.ctlog").stat().st_size > 0


def test_whoever_holds_a_lock_cannot_keep_a_recorder_from_starting(
    lab: Lab, tmp_path: Path
) -> None:
    """Who may read the folder can lock it."""
    folder = tmp_path / "log"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        recorder = Tough(lab, folder)
        recorder.stop()
    finally:
        os.close(descriptor)
    assert len(recorder.segments) == 1


def test_a_fifo_or_device_as_segment(tmp_path: Path) -> None:
    """Nothing waits for a FIFO, and none is opened for writing."""
    history = History(tmp_path / "log")
    os.mkfifo(history.folder / "fifo.ctlog")
    for command in (["cttest"], ["ctlist"], ["ctsqueeze"], ["ctexpire", "--max-age", "9000d"]):
        done = subprocess.run(
            [CHECKOUT / "bin" / command[0], *command[1:], history.folder],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 0, done.stderr
    with pytest.raises(ArchiveError):
        files.open_file(str(history.folder / "fifo.ctlog"))
