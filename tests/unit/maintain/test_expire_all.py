"""Expiry at the collector: of each router by itself, and what is held anywhere above stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctrecorder.cli import ctexpire
from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from ctrecorder.service import config
from tests.support import asked
from tests.support.slow_pairing import SECOND, T

CHAIN = "0123456789abcdef"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "DEFAULT_PATH", str(tmp_path / "ctrecorder.conf"))
    for name in ("edge1", "edge2"):
        place = tmp_path / "root" / name / CHAIN
        place.mkdir(parents=True)
        asked.record(place, "10.0.0.5" if name == "edge1" else "10.0.0.6")
    return tmp_path / "root"


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.ctlog"))


def expire(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capfd.readouterr()
    code = ctexpire.main(list(map(str, arguments)))
    out, err = capfd.readouterr()
    return code, out + err


def test_by_age_in_every_recording_each_with_its_receipts(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = expire(capfd, "--max-age", "1s", "--dry-run", root)
    assert (code, said.count("would delete")) == (0, 6)
    assert expire(capfd, "--max-age", "1s", root)[0] == 0
    assert left(root) == []
    for name in ("edge1", "edge2"):
        with Folder(str(root / name / CHAIN)) as folder:
            assert len(retention.receipts(folder)) == 3


@pytest.mark.parametrize("where", [".", "edge2", f"edge2/{CHAIN}"])
def test_a_hold_keeps_all_that_is_below(
    root: Path, capfd: pytest.CaptureFixture[str], where: str
) -> None:
    hour = T // SECOND + 3600
    span = ("--since", f"@{hour + 60}", "--until", f"@{hour + 70}")
    code, said = expire(capfd, "--hold", *span, "--reason", "case 17", root / where)
    assert code == 0
    assert f"keeps {'2 segments' if where == '.' else '1 segment'}" in said
    assert expire(capfd, "--max-age", "1s", root)[0] == 0
    kept = left(root)
    routers = {path.split("/")[0] for path in kept}
    assert routers == ({"edge1", "edge2"} if where == "." else {"edge2"})
    code, said = expire(capfd, "--held", root / where)
    assert len(said.splitlines()) == len(kept)
    assert expire(capfd, "--release", "1", root / where)[0] == 0
    assert expire(capfd, "--max-age", "1s", root)[0] == 0
    assert left(root) == []


def test_holds_that_cannot_be_read_delete_nothing_of_that_router(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "edge1" / "ctexpire.holds").write_text("{")
    code, said = expire(capfd, "--max-age", "1s", root)
    assert code == 2
    assert "is damaged" in said
    assert {path.split("/")[0] for path in left(root)} == {"edge1"}


def test_a_limit_of_size_is_refused(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, said = expire(capfd, "--max-age", "1s", "--max-size", "1", root)
    assert code == 2
    assert "only --max-age deletes there" in said
    assert len(left(root)) == 6


def test_a_link_to_another_folder_is_not_followed(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An intruder who may write in the folder of a router deletes nothing elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    asked.record(outside)
    os.symlink(outside, root / "edge2" / "fedcba9876543210")
    assert expire(capfd, "--max-age", "1s", root)[0] == 0
    assert len(list(outside.glob("*.ctlog"))) == 3
