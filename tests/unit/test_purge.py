"""A purge of the package deletes the log, except the segments under a hold: the maintainer scripts,
run in a folder of the test.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from tests.support.slow_pairing import SECOND, T
from tests.unit.maintain.test_expire import DAY, days, record

DEBIAN = Path(__file__).resolve().parents[2] / "debian"


def script(name: str, root: Path, argument: str) -> str:
    """Run a maintainer script with `root` for /; its stderr."""
    text = (DEBIAN / f"ctrecorder.{name}").read_text()
    text = re.sub(r"(?<![\w.$\"])/(var|etc|run)/", rf"{root}/\1/", text)
    text = text.replace("    ctexpire --held", f"    sh {root}/ctexpire --held")
    done = subprocess.run(
        ["sh", "-c", text, name, argument], capture_output=True, text=True, check=True
    )
    return done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "var/log/ctrecorder").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir()
    program = DEBIAN.parent / "bin/ctexpire"
    (tmp_path / "ctexpire").write_text(f'exec /usr/bin/python3 -B {program} "$@"\n')
    for day in range(4):
        record(tmp_path / "var/log/ctrecorder", day)
    return tmp_path


def hold(log: Path, day: int) -> None:
    since = T + day * DAY
    retention.add_hold(Folder(str(log)), since, since + SECOND, "case", T, "root")


def test_without_a_hold_all_is_deleted(root: Path) -> None:
    log = root / "var/log/ctrecorder"
    hold(log, 1)
    retention.release_hold(Folder(str(log)), 1)
    script("prerm", root, "remove")
    assert script("postrm", root, "purge") == ""
    assert not log.exists()


def test_segments_under_a_hold_stay_and_the_place_is_named(root: Path) -> None:
    log = root / "var/log/ctrecorder"
    hold(log, 1)
    hold(log, 2)
    script("prerm", root, "remove")
    outside = root / "outside"
    outside.mkdir()
    (outside / "001.ctlog").write_text("")
    (log / "other").symlink_to(outside)
    status = os.stat(log)
    said = script("postrm", root, "purge")
    assert f"keep segments in {log}: they are not deleted" in said
    assert sorted(os.listdir(log)) == ["001.ctlog", "002.ctlog", "ctexpire.holds"]
    assert (os.stat(log).st_uid, os.stat(log).st_mode) == (status.st_uid, status.st_mode)
    assert os.listdir(outside) == ["001.ctlog"], "no link is followed"
    assert os.listdir(root / "var/log") == ["ctrecorder"]
    assert not (root / "var/lib/ctrecorder").exists()


def test_a_hold_that_keeps_nothing_keeps_nothing(root: Path) -> None:
    log = root / "var/log/ctrecorder"
    hold(log, 77)
    script("prerm", root, "remove")
    script("postrm", root, "purge")
    assert not log.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["no list", "another hold", "a segment is gone", "a file of root's"]
)
def test_if_it_is_not_known_what_is_held_all_stays(root: Path, change: str) -> None:
    log, held = root / "var/log/ctrecorder", root / "var/lib/ctrecorder.held"
    hold(log, 1)
    script("prerm", root, "remove")
    assert held.read_text() == f"{log}/001.ctlog\n"
    if change == "no list":
        held.unlink()
    elif change == "another hold":
        os.utime(held, (1, 1))
        hold(log, 2)
    elif change == "a file of root's":  # a ctexpire that a segment took over could print it
        (root / "etc").mkdir()
        (root / "etc/shadow").write_text("secret")
        with held.open("a") as file:
            file.write(f"{log}/../../../etc/shadow\n")
    else:
        (log / "001.ctlog").rename(log / "004.ctlog")
    assert "they are not deleted" in script("postrm", root, "purge")
    assert len(days(log)) == 4
    assert not held.exists()
    assert change != "a file of root's" or (root / "etc/shadow").read_text() == "secret"


def test_a_link_where_the_list_goes_is_not_followed(root: Path) -> None:
    """/var/lib/ctrecorder is the recorder's user's."""
    victim = root / "victim"
    victim.write_text("secret")
    (root / "var/lib/ctrecorder").mkdir()
    for name in ("held", "held.new"):
        (root / "var/lib/ctrecorder" / name).symlink_to(victim)
    hold(root / "var/log/ctrecorder", 1)
    script("prerm", root, "remove")
    script("postrm", root, "purge")
    assert victim.read_text() == "secret"
    assert days(root / "var/log/ctrecorder") == [1]
