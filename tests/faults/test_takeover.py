"""ctship --take-over: what a router that is broken into may put into its inbox changes nothing of
what was taken over, and nothing of another router.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ctrecorder.ctlog.header import Header
from ctrecorder.kept import catalogue
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.shipping.waiting import examine
from tests.faults.test_shipping import CHAIN, archive
from tests.support.history import NOON, rows
from tests.support.router import CHECKOUT


def take_over(inbox: Path | str, root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [CHECKOUT / "bin" / "ctship", "--take-over", inbox, root],
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def send(folder: Path, inbox: Path) -> list[Path]:
    """Put the segments of a router there as rsync does; their paths."""
    sent = []
    for one in examine(str(folder), raw=True).ready:
        sent.append(inbox / one.name)
        sent[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(one.path, sent[-1])
    return sent


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*.ctlog"))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two routers have sent four segments each, and these were taken over."""
    (tmp_path / "root").mkdir()
    for name in ("edge1", "edge2"):
        archive(tmp_path / name, 4)
        send(tmp_path / name, tmp_path / "in" / name / name)
    code, said = take_over(tmp_path / "in", tmp_path / "root")
    assert (code, said.count("took over ")) == (0, 8), said
    return tmp_path


def test_what_arrived_is_taken_over_once(place: Path) -> None:
    inbox, root = place / "in", place / "root"
    arrived = {name.partition("/")[2]: data for name, data in contents(inbox).items()}
    assert contents(root) == arrived
    assert take_over(inbox, root) == (0, "")
    # It stays there for a day, for an interrupted run of ctship; what comes later follows.
    assert len(contents(inbox)) == 8
    os.utime(next(inbox.rglob("*.ctlog")))
    assert take_over(inbox, root) == (0, "")


def forge(path: Path, sequence: int, count: int = 5) -> None:
    """A whole segment of the same recording that never was one."""
    header = Header(host="edge1", chain=CHAIN, sequence=sequence)
    writer = SegmentWriter.create(str(path), header, bytes(16), time_ns=NOON)
    writer.append(rows(0, count))
    writer.close()


def test_an_intruder_changes_nothing(place: Path) -> None:
    inbox, root = place / "in", place / "root"
    before = contents(root)
    mine = inbox / "edge1" / "edge1"
    sent = sorted((mine / CHAIN).iterdir())
    # Other contents with a known name; another segment with a known number, whole.
    sent[0].write_bytes(sent[1].read_bytes())
    forged = place / "forged"
    forged.mkdir()
    forge(forged / "a.ctlog", 2)
    (number,) = send(forged, mine)
    # A name that is not that of the contents; damage; a cut file; one that is open.
    shutil.copy(sent[2], mine / CHAIN / "00000009-0123456789abcdef.ctlog")
    data = bytearray(sent[3].read_bytes())
    data[len(data) // 2] ^= 1
    (mine / CHAIN / "00000010-0123456789abcdef.ctlog").write_bytes(data)
    (mine / CHAIN / "00000011-0123456789abcdef.ctlog").write_bytes(data[: len(data) // 3])
    # Links, pipes, and what is another's.
    (mine / CHAIN / "00000012-0123456789abcdef.ctlog").symlink_to("/etc/shadow")
    os.mkfifo(mine / CHAIN / "00000013-0123456789abcdef.ctlog")
    (mine / "0123456789abcdef").symlink_to(root / "edge2" / CHAIN)
    (mine / "-rf").mkdir()
    (mine / CHAIN / "a\033[2J").write_text("?")
    shutil.copytree(inbox / "edge2" / "edge2", inbox / "edge1" / "edge2")
    (inbox / "edge1" / "edge3").symlink_to(root)
    (inbox / "edge9").symlink_to(root)
    (mine / CHAIN / catalogue.NAME).write_bytes(b"forged")
    # Deleted there, kept here.
    sent[3].unlink()
    code, said = take_over(inbox, root)
    assert code == 2
    assert contents(root) == before
    assert "\033" not in said
    for told in (
        f"{sent[0]}: not taken over: the archive has another file with this name",
        f"{number}: not taken over: the archive has another segment with this number",
        "00000009-0123456789abcdef.ctlog: not taken over: it is not the closed segment",
        "00000010-0123456789abcdef.ctlog: not taken over: ",
        "00000012-0123456789abcdef.ctlog: not taken over: is a symbolic link",
        "00000013-0123456789abcdef.ctlog: not taken over: is not a file",
        f"{inbox}/edge1/edge2: not taken over: is not of the router edge1",
        f"{inbox}/edge1/edge3: not taken over: is not of the router edge1",
        f"{inbox}/edge9: ",
    ):
        assert told in said, said
    assert not list(root.rglob(".taken"))


def test_one_router_keeps_nothing_from_another(place: Path) -> None:
    """And a segment that is written on after it was copied stays as it was checked."""
    inbox, root = place / "in", place / "root"
    writing = next((inbox / "edge1" / "edge1" / CHAIN).iterdir())
    with writing.open("r+b") as file:
        file.seek(80)
        file.write(b"other")
    more = place / "more"
    more.mkdir()
    forge(more / "a.ctlog", 5)
    send(more, inbox / "edge2" / "edge2")
    before = contents(root)
    code, said = take_over(inbox, root)
    assert (code, said.count("took over ")) == (1, 1), said
    assert before.items() <= contents(root).items()
    assert len(contents(root)) == 9


def test_what_arrived_long_ago_is_cleared(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctrecorder.inbox.takeover import TakeOver
    from ctrecorder.service.log import Log

    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 25 * 3600 * 10**9)
    before = contents(place / "root")
    with Log("ctship") as log:
        assert TakeOver(str(place / "in"), str(place / "root"), log).run() == 0
    assert contents(place / "in") == {}
    assert contents(place / "root") == before


def test_a_file_that_grows_is_copied_to_its_size(place: Path) -> None:
    """One that is written on faster than it is copied would fill the disk of the archive."""
    from ctrecorder.folder import Folder
    from ctrecorder.inbox.takeover import RefusedError, TakeOver
    from ctrecorder.service.log import Log

    endless = os.open("/dev/zero", os.O_RDONLY)
    target = next((place / "root" / "edge1").iterdir())
    with Log("ctship") as log, Folder(str(target)) as folder, pytest.raises(RefusedError):
        TakeOver(str(place / "in"), str(place / "root"), log)._copy(
            endless, 5000, folder, "00000009-0123456789abcdef.ctlog"
        )
    os.close(endless)
    assert len(contents(place / "root")) == 8


def test_the_inbox_has_a_name(place: Path) -> None:
    """An empty variable in a script is not the folder where it runs."""
    code, said = take_over("", place / "root")
    assert (code, said.count("\n")) == (2, 1), said
