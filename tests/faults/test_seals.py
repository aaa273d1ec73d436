"""A real recorder that seals: killed, started again, squeezed while it records, attacked."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.support.faulttable import Table
from tests.support.router import CHECKOUT, Lab
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


def test_it_does_not_record_without_the_key_that_is_named(lab: Lab, sealed: Sealed) -> None:
    (sealed.state / "key").unlink()
    template = sealed.folder / "%H%M%S.ctlog"
    options = ("-F", "-U", "root", "-f", template, "--seal-state", sealed.state)
    done = lab.router.run(CHECKOUT / "bin/ctrecord", *options, check=False)
    assert done.returncode == 2
    assert "--setup-seal" in done.stderr
    assert not list(sealed.folder.iterdir())
