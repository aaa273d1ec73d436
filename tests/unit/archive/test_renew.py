"""The catalogue of a folder: written by its owner, for what does not change any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ctrecorder.archive import find, renew
from ctrecorder.ctlog.header import Header
from ctrecorder.kept import catalogue
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment import files
from ctrecorder.segment.writer import SegmentWriter
from tests.support import asked
from tests.support.slow_pairing import T

CHAIN = "0123456789abcdef"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two routers of three segments each, of which one is squeezed."""
    monkeypatch.setattr(renew, "_MANY", 3)
    for name in ("edge1", "edge2"):
        place = tmp_path / name / CHAIN
        place.mkdir(parents=True)
        squeeze(asked.record(place, chain=CHAIN)[0], SqueezeOptions())
    return tmp_path


def looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that `find` opens; it finds the same as without catalogues."""
    opened = []
    really = files.open_file

    def open_file(path: str) -> int:
        opened.append(os.path.basename(path))
        return really(path)

    with monkeypatch.context() as patched:
        patched.setattr(find, "open_file", open_file)
        found = find.find([str(root)], spans=True)
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "read", lambda folder, asked: None)
        without = find.find([str(root)], spans=True)
    assert sorted(found.spans) == sorted(without.spans)
    assert found.segments == without.segments
    assert sorted(found.foreign) == sorted(without.foreign)
    return opened


def test_what_is_known_is_not_looked_at_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(looked_at(root, monkeypatch)) == 6
    (root / "edge1" / CHAIN / "notes.txt").write_text("mine")
    time.sleep(0.2)
    renew.renew(str(root))
    assert looked_at(root, monkeypatch) == ["notes.txt"]
    renew.renew(str(root))
    assert looked_at(root, monkeypatch) == ["notes.txt"]
    # A file more, one less, one replaced, one changed in its place: the others are known.
    here = root / "edge2" / CHAIN
    (here / "00.ctlog").unlink()
    os.replace(root / "edge1" / CHAIN / "01.ctlog", here / "01.ctlog")
    (here / "new.ctlog").write_bytes((here / "02.ctlog").read_bytes())
    assert sorted(looked_at(root, monkeypatch)) == ["01.ctlog", "new.ctlog", "notes.txt"]
    with (here / "02.ctlog").open("r+b") as file:
        file.seek(100)
        file.write(b"?")
    time.sleep(0.2)
    assert sorted(looked_at(root, monkeypatch))[:2] == ["01.ctlog", "02.ctlog"]
    renew.renew(str(root))
    assert looked_at(root, monkeypatch) == ["notes.txt"]


def test_an_open_segment_and_one_that_just_changed_are_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = root / "edge1" / CHAIN
    writer = SegmentWriter.create(
        str(place / "live.ctlog"), Header(chain=CHAIN, sequence=4), bytes(16), time_ns=T
    )
    time.sleep(0.2)
    os.utime(place / "02.ctlog")
    renew.renew(str(root))
    assert sorted(looked_at(root, monkeypatch)) == ["02.ctlog", "live.ctlog"]
    writer.close()


def test_only_the_owner_writes_it(root: Path) -> None:
    os.chown(root / "edge1" / CHAIN, 64_003, 64_003)
    renew.renew(str(root))
    assert not (root / "edge1" / CHAIN / catalogue.NAME).exists()
    assert (root / "edge2" / CHAIN / catalogue.NAME).exists()


def test_few_segments_have_none(tmp_path: Path) -> None:
    asked.record(tmp_path)
    renew.renew(str(tmp_path))
    assert not (tmp_path / catalogue.NAME).exists()
