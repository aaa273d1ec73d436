"""Whoever may only read an archive locks all that can be locked in it: recording, squeezing, expiry
and repair go on.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctrecorder.filelock import LOCK_FILE, Holder
from ctrecorder.segment.reader import Segment
from tests.support.faulttable import Table
from tests.support.folders import locked
from tests.support.history import History
from tests.support.router import CHECKOUT, Lab, wait_until
from tests.support.traffic import Tough, Traffic, cttest

OWNER, READER, GROUP = 4000, 4001, 4002
# Takes every lock on the folder and on all files in it that this user may open, again and again.
ATTACKER = """
import fcntl, os, struct, sys, time
folder, kind = sys.argv[1:]
held, refused = {}, set()
whole = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
while True:
    for name in [".", *os.listdir(folder)]:
        path = os.path.join(folder, name)
        try:
            inode = os.stat(path).st_ino
            if inode in held:
                continue
            descriptor = os.open(path, os.O_RDONLY)
            if kind == "flock shared":
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            elif kind == "flock exclusive":
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif kind == "fcntl":
                fcntl.fcntl(descriptor, fcntl.F_SETLK, whole)
            else:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole)
            held[inode] = descriptor
        except OSError as error:
            refused.add(f"{name}: {type(error).__name__}")
    print(len(held), *sorted(refused), flush=True)
    time.sleep(0.01)
"""
KINDS = ["flock shared", "flock exclusive", "fcntl", "fcntl of a description"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An archive that its group may read."""
    # The folders of pytest are root's alone.
    with tempfile.TemporaryDirectory(prefix="ctrecorder-test-") as name:
        os.chmod(name, 0o755)
        path = Path(name) / "log"
        path.mkdir()
        os.chown(path, 0, GROUP)
        path.chmod(0o2750)
        yield path


@contextmanager
def attacker(folder: Path, kind: str, least: int) -> Iterator[subprocess.Popen[str]]:
    """The attack by a member of the group, once it has `least` locks."""
    process = subprocess.Popen(
        [sys.executable, "-c", ATTACKER, folder, kind],
        stdout=subprocess.PIPE,
        text=True,
        user=READER,
        group=GROUP,
        extra_groups=[],
    )
    assert process.stdout is not None
    try:
        line = "0"
        while int(line.split()[0]) < least:
            line = process.stdout.readline()
        if (folder / LOCK_FILE).exists():
            assert f"{LOCK_FILE}: PermissionError" in line
        yield process
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run(command: str, *arguments: object) -> str:
    """Run a command; what it said.  AssertionError if it fails."""
    done = subprocess.run(
        [CHECKOUT / "bin" / command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.claim("locks")
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_stops_nothing(
    lab: Lab, traffic: Traffic, folder: Path, kind: str, table: Table
) -> None:
    recorder = Tough(lab, folder)
    with attacker(folder, kind, 2):
        recorder.rotate()
        wait_until(lambda: len(list(folder.glob("*.ctlog"))) == 2, "a second segment")
        recorder.kill()  # the attacker has a lock on what it leaves
        time.sleep(1.1)
        recorder.again()
        assert len(list(folder.glob("*.ctlog"))) == 3
        live = max(folder.glob("*.ctlog"))
        said = run("ctsqueeze", folder)
        assert said.count("ctsqueeze: squeezed ") == 2
        assert "busy" not in said
        with Segment(str(live)) as segment:
            assert segment.state == "live"
        run("cttest", "--repair", min(folder.glob("*.ctlog")), "-o", folder / "repaired")
        (folder / "repaired").unlink()
        time.sleep(1.1)
        assert "deleted " in run("ctexpire", "--max-age", "1s", folder)
        assert live in folder.glob("*.ctlog")
        recorder.stop()
    cttest(folder)
    table.add_row(f"a reader's locks: {kind}")


def test_a_reader_knows_what_is_live(lab: Lab, folder: Path, table: Table) -> None:
    """It sees the recorder's lock in the kernel's list; after kill -9 there is none."""
    recorder = Tough(lab, folder)

    def said() -> str:
        command = [CHECKOUT / "bin/cttest", folder]
        done = subprocess.run(
            command, capture_output=True, text=True, user=READER, group=GROUP, extra_groups=[]
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "whole, live" in said()
    recorder.kill()
    assert "whole, crashed" in said()
    recorder.again()
    assert "whole, live" in said()
    recorder.stop()
    assert "live" not in said()
    table.add_row("a reader tells live from crashed")


def test_a_recorder_of_version_1_0_keeps_its_segment(tmp_path: Path, table: Table) -> None:
    """During an upgrade: it holds an exclusive flock, and writes at least once a minute."""
    history = History(tmp_path / "log", crash=True)
    path = history.paths[-1]
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = path.read_bytes()
        run("ctsqueeze", history.folder)
        run("ctexpire", "--max-age", "1s", history.folder)
        assert path.read_bytes() == before
        # A reader's lock does not count for longer.
        old = time.time() - 600
        os.utime(path, (old, old))
        assert "crashed in it" in run("ctsqueeze", history.folder)
    table.add_row("an upgrade while version 1.0 records")


@pytest.mark.parametrize(
    ("holder", "command", "other"),
    [
        (Holder.EXPIRE, ["ctsqueeze"], "ctexpire"),
        (Holder.SQUEEZE, ["ctexpire", "--max-age", "1s"], "ctsqueeze"),
    ],
)
def test_another_command_at_work_is_said(
    tmp_path: Path, holder: Holder, command: list[str], other: str, table: Table
) -> None:
    """A second run of the same command is no failure: the units test that."""
    history = History(tmp_path / "log")
    before = history.paths[0].read_bytes()
    with locked(history.paths[0], holder):
        done = subprocess.run(
            [CHECKOUT / "bin" / command[0], *command[1:], str(history.folder)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"is busy: {other} works on it" in done.stderr
    assert history.paths[0].read_bytes() == before
    table.add_row(f"{command[0]} where {other} works")
