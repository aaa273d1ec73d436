"""What was acknowledged outlives crashes, damage and forgery of its file; doubt sends again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.archive import find
from ctrecorder.errors import ArchiveError
from ctrecorder.folder import Folder
from ctrecorder.kept import acknowledged
from ctrecorder.kept.acknowledged import SHIPPED, Shipment

ONE = Shipment("ssh://a:/b", "0" * 32, "edge/c/1.ctlog", "1.ctlog", 10, 5, "checked")
REFUSED = Shipment("ssh://a:/b", "1" * 32, "edge/c/2.ctlog", "2.ctlog", 10, 5, "", "damaged")


def test_what_is_noted_is_read(tmp_path: Path) -> None:
    with Folder(str(tmp_path)) as folder:
        assert not acknowledged.read(folder).last
        acknowledged.add(folder, ONE, REFUSED)
        known = acknowledged.read(folder)
    assert known.of(ONE.to) == [ONE, REFUSED]
    assert known.has(ONE.to, (ONE.hash,))
    assert known.has(ONE.to, ("2" * 32, ONE.hash))
    assert not known.has(ONE.to, (REFUSED.hash,))
    assert not known.has("ssh://other:/b", (ONE.hash,))
    assert (tmp_path / SHIPPED).stat().st_mode & 0o777 == 0o640
    assert find.find([str(tmp_path)]).foreign == []


def test_the_last_line_of_a_segment_counts(tmp_path: Path) -> None:
    arrived = replace(REFUSED, how="copied", why="")
    with Folder(str(tmp_path)) as folder:
        acknowledged.add(folder, REFUSED)
        acknowledged.add(folder, arrived)
        assert acknowledged.read(folder).has(REFUSED.to, (REFUSED.hash,))


def test_a_line_that_a_crash_cut_acknowledges_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    with Folder(str(tmp_path)) as folder:
        acknowledged.add(folder, ONE)
        whole = (tmp_path / SHIPPED).read_bytes()
        for cut in range(len(whole) - 1):
            (tmp_path / SHIPPED).write_bytes(whole[:cut])
            assert not acknowledged.read(folder).last
            acknowledged.add(folder, REFUSED)
            assert acknowledged.read(folder).of(ONE.to) == [REFUSED]


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b"null",
        b'{"to": 1}',
        b'{"to":"a","hash":"b","name":"c","path":"d","bytes":"1","time":1,"how":"x","why":""}',
        b"\xff\xfe",
        b"x" * 10_000,
    ],
)
def test_a_line_that_is_none_is_passed_over(tmp_path: Path, line: bytes) -> None:
    with Folder(str(tmp_path)) as folder:
        (tmp_path / SHIPPED).write_bytes(line + b"\n")
        acknowledged.add(folder, ONE)
        assert acknowledged.read(folder).of(ONE.to) == [ONE]


def test_a_reason_that_is_long_is_cut(tmp_path: Path) -> None:
    long = replace(REFUSED, why="x" * 10_000)
    with Folder(str(tmp_path)) as folder:
        acknowledged.add(folder, long, ONE)
        assert len(acknowledged.read(folder).of(ONE.to)) == 2


def test_what_is_not_wanted_is_forgotten(tmp_path: Path) -> None:
    with Folder(str(tmp_path)) as folder:
        acknowledged.add(folder, ONE, REFUSED)
        known = acknowledged.read(folder)
        acknowledged.rewrite(folder, known, lambda one: one is not known.of(ONE.to)[1])
        assert acknowledged.read(folder).of(ONE.to) == [ONE]
        assert acknowledged.read(folder).last == known.last


def test_a_file_that_is_none_of_ours_is_an_error(tmp_path: Path) -> None:
    (tmp_path / SHIPPED).mkdir()
    with Folder(str(tmp_path)) as folder:
        with pytest.raises(ArchiveError, match="cannot be read: is not a file"):
            acknowledged.read(folder)
        with pytest.raises(ArchiveError, match="cannot be written"):
            acknowledged.add(folder, ONE)


def test_one_ctship_at_a_time(tmp_path: Path) -> None:
    with Folder(str(tmp_path)) as folder:
        lock = acknowledged.take_lock(folder)
        assert lock is not None
        assert acknowledged.take_lock(folder) is None
        lock.release()
        again = acknowledged.take_lock(folder)
        assert again is not None
        again.release()
