"""A backup of a sealed archive with rsync and with tar, also while all goes on, and how it is
restored: it is proved as the archive is, with its hold, its receipt and its ledger.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.folder import Folder
from ctrecorder.kept.retention import HOLDS, RECEIPTS
from ctrecorder.maintain import holds
from ctrecorder.maintain.expire import Expiry, Limits
from tests.support.attacked import (
    OWNER,
    RECORDER_UNIT,
    Attacked,
    Kept,
    as_user,
    give,
    recording_goes_on,
)
from tests.support.claims import LEVELS
from tests.support.faulttable import Table

# The ledger first, as the page has it: the archive may grow meanwhile.
BACKUPS = {
    "rsync": "rsync -a {0}/seal-*.ledger {1}/ && rsync -a --exclude 'seal-*' {0}/ {1}",
    "tar": "cd {0} && tar -c seal-*.ledger $(ls -A | grep -v ^seal-) | tar -x -C {1}",
}


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    with tempfile.TemporaryDirectory(prefix="ctrecorder-test-") as name:
        os.chmod(name, 0o755)
        yield Kept(Path(name) / "sealed", sealed=True)


@pytest.fixture
def site(kept: Kept) -> Attacked:
    """With a receipt, and a hold that was set after that."""
    site = kept.fresh()
    as_user(OWNER, lambda: _expire_one(site))
    assert site.paths[0].name in (site.folder / RECEIPTS).read_text()
    assert "case 17" in (site.folder / HOLDS).read_text()
    return site


def _expire_one(site: Attacked) -> None:
    ours, folder = site.ours, str(site.folder)
    log = ours.log = site.log_as(OWNER, "ctexpire.service")
    holds.release(folder, 1, log, ours.keys())
    size = sum(path.stat().st_size for path in site.paths) - 1
    assert Expiry(folder, Limits(max_size=size), ours.clock.wall, log, seals=ours.keys()).run() == 0
    ours.hold("case 17")


def backup(site: Attacked, how: str, place: Path) -> Attacked:
    """A copy of the archive in `place`, as a site to check."""
    place.mkdir()
    place.with_name("none.conf").touch()
    script = BACKUPS[how].format(site.folder, place)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60)
    # A file that goes, or grows, while it is read: tar says 1, rsync 24.
    assert done.returncode in (0, 1, 24), done.stderr
    moved = copy.copy(site.ours)
    moved.folder = place
    return replace(site, ours=moved)


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("how", BACKUPS)
def test_a_backup_is_proved(
    site: Attacked,
    how: str,
    goes_on: bool,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    table: Table,
) -> None:
    if goes_on:
        with recording_goes_on(site):
            made = replace(backup(site, how, place / "copy"), now=site.now)
    else:
        made = backup(site, how, place / "copy")
    for level in LEVELS:
        code, said = made.check(level, monkeypatch, capfd)
        assert code == 0, f"{level}: {said}"
    table.add_row(f"backup with {how}", tried=len(LEVELS))
    with Folder(str(made.folder)) as folder:
        assert folder.exists(HOLDS)
        assert folder.exists(RECEIPTS)
    # And the check still finds what is not in it.
    victim = made.folder / site.paths[2].name
    victim.unlink()
    code, said = made.check("seals", monkeypatch, capfd)
    assert (code, f"{victim.name}, " in said) == (1, True)


@pytest.mark.parametrize("how", BACKUPS)
def test_a_restored_archive_goes_on(
    site: Attacked,
    how: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The disk is new; the key is that of this machine."""
    made = backup(site, how, place / "copy")
    shutil.rmtree(site.folder)
    site.folder.mkdir(0o750)
    subprocess.run(["sh", "-c", BACKUPS[how].format(made.folder, site.folder)], check=True)
    give(site.folder, OWNER)
    site.ours.log = site.log_as(OWNER, RECORDER_UNIT)
    as_user(OWNER, lambda: _record_one(site))
    for level in LEVELS:
        code, said = site.check(level, monkeypatch, capfd)
        assert code == 0, f"{level}: {said}"
        assert "5 segments checked: 5 whole" in said


def _record_one(site: Attacked) -> None:
    site.ours.record(0)
