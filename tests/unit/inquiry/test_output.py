"""-o: a new file for its owner alone, whole or not at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ctrecorder.errors import ArchiveError, CtrecorderError, UsageError
from ctrecorder.inquiry.output import write_new
from tests.support import folders


def test_a_new_file_is_for_its_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_new(str(tmp_path / "answer"), b"text")
    finally:
        os.umask(before)
    assert (tmp_path / "answer").read_bytes() == b"text"
    assert (tmp_path / "answer").stat().st_mode & 0o7777 == 0o600
    assert folders.names(tmp_path) == ["answer"]


@pytest.mark.parametrize("kind", ["folder", "a file", "link", "loose link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    other, path = tmp_path / "other", tmp_path / "answer"
    other.write_bytes(b"mine")
    if kind == "a file":
        path.write_bytes(b"mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "nothing")
    with pytest.raises(UsageError, match="not overwritten"):
        write_new(str(path), b"text")
    assert other.read_bytes() == b"mine"
    assert not (tmp_path / "nothing").exists()
    assert folders.names(tmp_path) == ["answer", "other"]


@pytest.mark.parametrize("name", ["nowhere/answer", "", "folder/"])
def test_where_no_file_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CtrecorderError):
        write_new(f"{tmp_path}/{name}", b"text")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "ctwho", tmp_path], check=True)
    try:
        with pytest.raises(ArchiveError, match="No space left"):
            write_new(str(tmp_path / "answer"), bytes(1 << 20))
        assert folders.names(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
