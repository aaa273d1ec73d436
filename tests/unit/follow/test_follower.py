"""--follow without a recorder: the last rows, two families in order, what does not go together.

tests/lab/test_follow.py has the rest, with a real recorder.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import NO_HASH, Gap
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.predicate import Query
from ctrecorder.follow.follower import Follower, Item, last_rows
from ctrecorder.listing import ctlist
from ctrecorder.order.batches import Batch
from ctrecorder.query.coverage import Hole
from ctrecorder.screen.fields import items
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.uapi import AF_INET6
from tests.support.rows import event, table

BEGIN = 10**18
S = 10**9
SIX = {"orig_src": "fd00::1", "orig_dst": "fd00::2", "reply_src": "fd00::2", "reply_dst": "fd00::1"}


def of(*ids: int) -> Table:
    return table([event(time=BEGIN + number * S, id=number) for number in ids])


def six(*ids: int) -> Table:
    return table([event(**SIX, time=BEGIN + number * S, id=number) for number in ids], AF_INET6)


def ids_of(batches: object) -> list[list[int]]:
    assert isinstance(batches, list)
    return [[number for one in batch.tables for number in items(one["id"])] for batch in batches]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [[7]]), (2, [[6, 7]]), (4, [[4, 6, 7, 5]]), (6, [[2, 3], [4, 6, 7, 5]])]
    + [(99, [[1, 2, 3], [4, 6, 7, 5]])],
)
def test_last_rows(count: int, expected: list[list[int]]) -> None:
    hole = Hole(0, 1, "overrun")
    batches: list[Item] = [Batch([of(1, 2, 3)], None), hole, Batch([of(4, 6, 7), six(5)], None)]
    assert ids_of(last_rows(batches, count)) == expected


def test_a_folder_that_grows(tmp_path: Path) -> None:
    """New segments of a recording in their sequence; a GAP once; other files are passed over."""
    (tmp_path / "notes.txt").write_text("no segment")
    first = _segment(tmp_path / "a", 1)
    first.append(of(1))
    first.sync()
    follower = Follower([str(tmp_path)], Query(since=BEGIN), ["id"])
    assert ids_of(list(follower.poll(S))) == [[1]]
    assert list(follower.poll(2 * S)) == []
    first.append(of(2))
    last_hash = first.close()
    (tmp_path / "empty").touch()  # the next one, before its header
    assert ids_of(list(follower.poll(3 * S))) == [[2]]
    (tmp_path / "empty").unlink()
    second = _segment(tmp_path / "b", 2, last_hash)
    gap = Gap(BEGIN + 2 * S, BEGIN + 3 * S, "overrun", 17)
    second.append(of(4))
    second.gap(gap)
    second.gap(gap)
    second.append(six(5))
    second.sync()
    rows, hole, more = follower.poll(4 * S)
    assert ids_of([rows, more]) == [[4], [5]]
    assert isinstance(hole, Hole)
    assert (hole.start, hole.end, hole.lost) == (BEGIN + 2 * S, BEGIN + 3 * S, 17)
    assert not follower.is_live
    second.abandon()
    follower.close()


def test_a_file_that_is_deleted_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    writer = _segment(path, 1)
    follower = Follower([str(path)], Query(since=BEGIN), ["id"])
    assert list(follower.poll(S)) == []
    path.unlink()
    writer.append(of(1))
    writer.sync()
    assert ids_of(list(follower.poll(3 * S))) == [[1]]
    writer.abandon()
    follower.close()


def test_only_the_last_segments_are_read_for_the_last_rows(tmp_path: Path) -> None:
    before = NO_HASH
    for sequence in (1, 2, 3):
        writer = _segment(tmp_path / str(sequence), sequence, before)
        writer.append(of(sequence))
        before = writer.close()
    for most, expected in ((0, [3]), (1, [2, 3]), (9, [1, 2, 3])):
        follower = Follower([str(tmp_path)], Query(), ["id"], most)
        found = [row for batch in ids_of(list(follower.poll(S))) for row in batch]
        assert found == expected
        follower.close()


def _segment(path: Path, sequence: int, before: bytes = NO_HASH) -> SegmentWriter:
    header = Header.from_json({"host": "r", "chain": "c1", "sequence": sequence})
    return SegmentWriter.create(str(path), header, before, time_ns=BEGIN)


@pytest.mark.parametrize(
    "option",
    [
        *("-s", "-H", "--until=now", "--sort=time", "--strict"),
        *("-c", "-r", "--top=inside", "--histogram=1h", "--plot=a.png"),
    ],
)
def test_what_does_not_go_together(
    option: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ctlist.main(["-F", option, str(tmp_path)]) == 2
    assert f"leave out {option.partition('=')[0]}" in capfd.readouterr().err


@pytest.mark.parametrize("options", [[], ["--since", "-1h"]])
def test_a_path_that_is_not_there_is_refused(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ctlist.main(["-F", *options, str(tmp_path / "none")]) == 2
    assert capfd.readouterr().err == f"ctlist: {tmp_path}/none: No such file or directory\n"
