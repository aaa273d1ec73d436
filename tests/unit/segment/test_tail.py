"""A segment that is read while it grows."""

from __future__ import annotations

from pathlib import Path

from ctrecorder.ctlog.frame import NO_HASH, Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.tail import Tail
from ctrecorder.segment.writer import SegmentWriter
from tests.support.rows import event, table

BEGIN = 10**18


def test_each_block_once_until_the_footer(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    header = Header.from_json({"host": "r", "chain": "c"})
    writer = SegmentWriter.create(str(path), header, NO_HASH, time_ns=BEGIN)
    writer.append(table([event(time=BEGIN + 1)]))
    writer.sync()
    tail = Tail(str(path))
    kinds = [block.kind for block in tail.more()]
    assert kinds == [Kind.HEADER, Kind.EVENTS]
    assert tail.more() == []
    path.unlink()  # it stays open
    writer.append(table([event(time=BEGIN + 2), event(time=BEGIN + 3)]))
    writer.sync()
    (block,) = tail.more()
    assert (block.kind, block.rows, tail.last_time) == (Kind.EVENTS, 2, BEGIN + 3)
    assert len(tail.segment.read(block)) == 2
    states = [tail.closed]
    writer.close()
    assert Kind.EVENTS not in [block.kind for block in tail.more()]
    assert [*states, tail.closed] == [False, True]
    assert tail.more() == []
    tail.close()


def test_a_block_that_is_not_whole_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    header = Header.from_json({"host": "r", "chain": "c"})
    writer = SegmentWriter.create(str(path), header, NO_HASH, time_ns=BEGIN)
    writer.append(table([event(time=BEGIN + 1)]))
    writer.sync()
    whole = path.read_bytes()
    writer.abandon()
    path.write_bytes(whole[:-5])
    tail = Tail(str(path))
    assert [block.kind for block in tail.more()] == [Kind.HEADER]
    path.write_bytes(whole[:-5] + b"wrong")
    assert tail.more() == []
    path.write_bytes(whole)
    assert [block.kind for block in tail.more()] == [Kind.EVENTS]
    tail.close()
