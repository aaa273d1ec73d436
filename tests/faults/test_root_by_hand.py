"""Root squeezes and repairs by hand in the folder of another user, who exchanges names in it
meanwhile, to become root.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.check.repair import repair
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import CtrecorderError
from ctrecorder.kept.retention import HOLDS
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support.faulttable import Table as Faults
from tests.support.router import CHECKOUT
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T, row
from tests.support.slow_pairing import table as table_of

OWNER, GROUP = 65534, 65534
ROUNDS, COMMANDS = 150, 4
# Exchanges each new segment that is not finished, and the lock file, for a link, in turns a
# symbolic and a hard one; prints how often.
ATTACKER = """
import os, sys
link, file = sys.argv[1:]
count = 0
print("ready", flush=True)
os.set_blocking(0, False)
while True:
    try:
        if os.read(0, 1) == b"":
            break
    except BlockingIOError:
        pass
    for name in os.listdir("."):
        if not name.startswith((".squeezing-", ".repairing-", ".ctrecorder.lock")):
            continue
        try:
            status = os.lstat(name)
            if status.st_nlink > 1 or os.path.islink(name):
                continue
            os.unlink(name)
            if count % 2:
                os.symlink(link, name)
            else:
                os.link(file, name)
            count += 1
        except OSError:
            pass
print(count)
"""


@pytest.fixture
def folder(place: Path) -> Path:
    """The archive, which belongs to the attacker."""
    made = place / "log"
    made.mkdir()
    os.chown(made, OWNER, GROUP)
    return made


@pytest.fixture
def secrets(place: Path) -> tuple[Path, Path]:
    """Files of root's: one to link to by name, and one that the attacker can link.

    fs.protected_hardlinks lets others link only what they can write.
    """
    paths = place / "link", place / "file"
    for path, mode in zip(paths, (0o600, 0o666), strict=True):
        path.write_bytes(b"secret")
        path.chmod(mode)
    return paths


@contextlib.contextmanager
def attacker(folder: Path, secrets: tuple[Path, Path]) -> Iterator[None]:
    """The attack, as the owner of the folder; AssertionError if root's files are not as before."""
    before = [path.lstat() for path in secrets]
    process = subprocess.Popen(
        [sys.executable, "-c", ATTACKER, *secrets],
        cwd=folder,
        user=OWNER,
        group=GROUP,
        extra_groups=[],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.stdin.close()
        swapped = int(process.stdout.read())
        process.stdout.close()
        process.wait(10)
    assert swapped > 0
    for path, status in zip(secrets, before, strict=True):
        now = path.lstat()
        assert (now.st_mode, now.st_uid, now.st_gid) == (status.st_mode, 0, status.st_gid)
        assert path.read_bytes() == b"secret"


def record(path: Path) -> bytes:
    """A segment of the owner of the folder; its bytes."""
    writer = SegmentWriter.create(str(path), Header(), time_ns=T)
    for number in range(50):
        writer.append(
            table_of([row(NEW, T + number, id=number), row(DESTROY, T + SECOND, id=number)])
        )
    writer.close()
    os.chown(path, OWNER, GROUP)
    return path.read_bytes()


@pytest.mark.claim("root-by-hand")
def test_names_are_exchanged_while_root_works(
    folder: Path, place: Path, secrets: tuple[Path, Path], table: Faults
) -> None:
    """Owner, mode and content of root's files never change, and no segment is lost."""
    raw = record(place / "raw")
    path, refused = folder / "a.ctlog", []
    with attacker(folder, secrets):
        for number in range(ROUNDS):
            path.write_bytes(raw)
            os.chown(path, OWNER, GROUP)
            path.chmod(0o640)
            try:
                squeeze(str(path), SqueezeOptions(keep=number % 2 == 1))
            except CtrecorderError as error:
                refused.append((str(error), path.read_bytes()))
                path.unlink()  # it may be a link of the attacker's
                path.write_bytes(raw)
            else:
                with Segment(str(path)) as segment:
                    assert segment.state == "closed"
                    assert segment.header.is_squeezed
            try:
                repair(str(path), str(folder / "saved"))
            except CtrecorderError as error:
                refused.append((str(error), raw))
            for saved in folder.glob("saved"):
                saved.unlink()
            for kept in folder.glob("replaced/*"):
                assert kept.read_bytes() == raw
                kept.unlink()
            assert secrets[0].lstat().st_nlink == 1, "the attacker cannot link it"
    assert refused
    assert all(content == raw or "exchanged" in why for why, content in refused)
    table.add_row("root squeezes and repairs: names exchanged", tried=ROUNDS)


@pytest.mark.claim("root-by-hand")
def test_the_command_that_the_page_shows(
    folder: Path, secrets: tuple[Path, Path], table: Faults
) -> None:
    """All at once: the attack, a link at `replaced`, and ctsqueeze by root's hand."""
    elsewhere = secrets[0].with_name("elsewhere")
    elsewhere.mkdir()
    with attacker(folder, secrets):
        for number in range(COMMANDS):
            for path in folder.iterdir():
                if path.is_symlink() or path.is_file():
                    path.unlink()
            record(folder / "a.ctlog")
            (folder / "replaced").symlink_to(elsewhere)
            done = subprocess.run(
                [CHECKOUT / "bin/ctsqueeze", "--keep", folder],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert "Traceback" not in done.stderr, done.stderr
            assert done.returncode in (0, 2), (number, done.stderr)
            assert list(elsewhere.iterdir()) == []
    table.add_row("root's ctsqueeze --keep: names exchanged", tried=COMMANDS)


@pytest.mark.claim("root-by-hand")
def test_a_hold_of_ctwho(folder: Path) -> None:
    """Root asks, and the owner of the folder sets the hold: who cannot, sets none."""
    record(folder / "a.ctlog")
    when = f"@{T // SECOND}"
    holds = folder / HOLDS
    words = ["-d", str(folder), "192.0.2.9:40000", when, "--hold", "--case", "7"]
    for group, code in ((0, 2), (GROUP, 0)):
        os.chown(folder, OWNER, group)
        done = subprocess.run(
            [CHECKOUT / "bin/ctwho", *words], capture_output=True, text=True, timeout=60
        )
        assert ("hold 1 set" in done.stderr) == (code == 0), done.stderr
        assert ("to the group root" in done.stderr) == (code == 2), done.stderr
        assert holds.exists() == (code == 0)
        assert (done.returncode == 2) == (code == 2)
    status = holds.stat()
    assert (status.st_uid, status.st_gid) == (OWNER, GROUP)
