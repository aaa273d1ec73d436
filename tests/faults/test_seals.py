"""A real recorder that seals: killed, started again, squeezed while it records, attacked."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.archive import chain
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support.faulttable import Table
from tests.support.history import blocks_of
from tests.support.loops import loops
from tests.support.router import CHECKOUT, Lab, wait_until
from tests.support.traffic import Account, Tough, Traffic


class Sealed:
    """A folder of segments, a key, and what the operator wrote down."""

    def __init__(self, root: Path) -> None:
        self.folder, self.state = root / "log", root / "state"
        self.folder.mkdir()
        done = self.run("ctrecord", "--setup-seal", "-U", "root", "--seal-state", self.state)
        self.verification_key = done.stdout

    def run(
        self, command: str, *options: object, key: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [CHECKOUT / "bin" / command, *map(str, options)],
            input=key,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def squeeze(self) -> None:
        done = self.run("ctsqueeze", "--only-sealed", "--seal-state", self.state, self.folder)
        assert done.returncode == 0, done.stderr

    def check(self) -> tuple[int, str]:
        done = self.run("cttest", "--seals", self.folder, key=self.verification_key)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    return Sealed(tmp_path)


def test_killed_squeezed_and_attacked(
    lab: Lab, traffic: Traffic, sealed: Sealed, table: Table
) -> None:
    recorder = Tough(lab, sealed.folder, "--seal-state", sealed.state)
    with traffic.steady(500):
        for number in range(4):
            time.sleep(1)
            recorder.synced()
            if number % 2:
                recorder.rotate()
                time.sleep(0.2)
            else:
                recorder.kill()
                recorder.again()
            sealed.squeeze()
            code, said = sealed.check()
            assert code == 0, said
    recorder.synced()
    recorder.stop()
    sealed.squeeze()
    code, said = sealed.check()
    assert code == 0, said
    assert "sealed until" in said
    account = Account(traffic, sealed.folder)
    account.check()
    table.add("kill -9 and squeezing under seals", account, tried=4)

    for path in sorted(sealed.folder.glob("*.ctlog")):
        whole = path.read_bytes()
        path.unlink()
        assert sealed.check()[0] == 1, f"{path.name} was removed"
        path.write_bytes(whole[: len(whole) * 2 // 3])
        assert sealed.check()[0] == 1, f"{path.name} was cut"
        path.write_bytes(whole)
    assert sealed.check()[0] == 0


def removed(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(b"".join(blocks_of(path.read_bytes())[:-1]))


def replaced(path: Path) -> None:
    """By a segment without rows and without a seal, which says to replace it."""
    with Segment(str(path)) as old:
        header = replace(old.header, replaces=chain.successor(old), squeezed={}, seals=None)
        new = SegmentWriter.create(f"{path}.new", header, old.previous_hash, time_ns=old.times[0])
    new.close()
    os.rename(new.path, path)


def slipped_in(path: Path) -> None:
    new = SegmentWriter.create(str(path.with_name("slipped.ctlog")), Header(legacy={}))
    new.close()


@pytest.mark.claim("removed")
@pytest.mark.claim("cut")
@pytest.mark.claim("replaced")
@pytest.mark.claim("slipped-in")
def test_attacked_while_all_goes_on(
    lab: Lab, traffic: Traffic, sealed: Sealed, tmp_path: Path, table: Table
) -> None:
    """Recording, squeezing and expiry; what is attacked is the newest segment that is squeezed."""
    recorder = Tough(lab, sealed.folder, "--seal-state", sealed.state)
    state = ("--seal-state", sealed.state, sealed.folder)
    with (
        loops(
            ("ctsqueeze", "--only-sealed", *state),
            ("ctexpire", "--max-age", "9000d", *state),
        ) as running,
        traffic.steady(100),
    ):
        for _ in range(3):
            recorder.rotate()
        wait_until(lambda: len(squeezed(sealed.folder)) == 3, "squeezed segments")
        size = sum(path.stat().st_size for path in sealed.folder.glob("*.ctlog"))
        expired = sealed.run("ctexpire", "--max-size", size - 1, *state)
        assert "deleted " in expired.stderr
        victim = squeezed(sealed.folder)[-1]
        whole = victim.read_bytes()
        before, said = sealed.check()
        assert before == 0, said
        for attack, code in ((slipped_in, 2), (removed, 1), (cut, 1), (replaced, 1)):
            attack(victim)
            assert sealed.check()[0] == code, attack.__name__
            if attack is not replaced:
                victim.with_name("slipped.ctlog").unlink(missing_ok=True)
                victim.write_bytes(whole)
    told = recorder.stop().splitlines()
    anchors = tmp_path / "anchors"
    anchors.write_text(
        "\n".join([*told, expired.stderr, *(line for loop in running for line in loop.lines)])
    )
    arguments = ("--seals", "--anchors", anchors, sealed.folder)
    done = sealed.run("cttest", *arguments, key=sealed.verification_key)
    assert done.returncode == 1, done.stdout
    assert f"{victim}: was never logged" in done.stdout
    assert f"{victim.name}, its end in epoch " in done.stdout
    table.add_row("attacked while all goes on", tried=4)


def squeezed(folder: Path) -> list[Path]:
    """The squeezed segments, oldest first."""
    found = []
    for path in sorted(folder.glob("2*.ctlog")):
        with contextlib.suppress(ArchiveError), Segment(str(path)) as segment:
            if segment.header.is_squeezed:
                found.append(path)
    return found


def test_it_does_not_record_without_the_key_that_is_named(lab: Lab, sealed: Sealed) -> None:
    (sealed.state / "key").unlink()
    template = sealed.folder / "%H%M%S.ctlog"
    options = ("-F", "-U", "root", "-f", template, "--seal-state", sealed.state)
    done = lab.router.run(CHECKOUT / "bin/ctrecord", *options, check=False)
    assert done.returncode == 2
    assert "--setup-seal" in done.stderr
    assert not list(sealed.folder.iterdir())
