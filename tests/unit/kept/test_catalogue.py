"""The catalogue of a folder: what is no whole one is none."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from ctrecorder.folder import Folder
from ctrecorder.kept import catalogue
from ctrecorder.kept.catalogue import NAME, Entry


def written(folder: Path, head: object, rows: int) -> None:
    """A catalogue with the right hash, of `rows` segments."""
    body = json.dumps(head).encode() + b"\n" + np.zeros((rows, 9), "<i8").tobytes()
    (folder / NAME).write_bytes(hashlib.blake2b(body, digest_size=16).digest() + body)


def test_an_entry_counts_for_the_file_that_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    path.touch()
    (tmp_path / "b.ctlog").touch()
    time.sleep(0.2)  # a file that was just changed is not written
    with Folder(str(tmp_path)) as folder:
        catalogue.write(folder, [Entry("a.ctlog", path.stat(), 1, 2, 1, "c", 7, True)])
    known = catalogue.read(str(tmp_path), str(tmp_path))
    assert known is not None
    assert (known.names, known.column("sequence"), known.others) == (["a.ctlog"], [7], ["b.ctlog"])
    path.write_bytes(b"changed")
    known = catalogue.read(str(tmp_path), str(tmp_path))
    assert known is not None
    assert (known.names, known.others) == ([], ["a.ctlog", "b.ctlog"])


@pytest.mark.parametrize(
    "head",
    [
        {"version": 1, "names": {"a.ctlog": 1}, "chains": ["c"]},
        {"version": 1, "names": ["a.ctlog"], "chains": {"c": 1}},
        {"version": 1, "names": [["a"]], "chains": ["c"]},
        {"version": 1, "names": ["a/b"], "chains": ["c"]},
        {"version": 1, "names": ["a", "b"], "chains": ["c"]},
        {"version": 2, "names": ["a"], "chains": ["c"]},
        {"version": 1, "names": ["a"]},
        ["a"],
        None,
    ],
)
def test_a_strangers_catalogue_is_none(tmp_path: Path, head: object) -> None:
    written(tmp_path, head, 1)
    assert catalogue.read(str(tmp_path), str(tmp_path)) is None
