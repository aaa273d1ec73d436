"""A search for one of many routers widens for that one alone."""

from __future__ import annotations

from pathlib import Path

from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.holders import who
from ctrecorder.holders.who import WhoQuery
from ctrecorder.segment.pending import mark_block
from ctrecorder.segment.writer import SegmentWriter
from tests.support import asked
from tests.support.asked import HOUR
from tests.support.slow_pairing import SECOND, T

CHAIN = "0123456789abcdef"
NOW = T + 1000 * HOUR


def record_nothing(folder: Path, hours: int) -> None:
    """A router that has no connection in all these hours."""
    folder.mkdir(parents=True)
    previous, name = bytes(16), None
    for hour in range(hours):
        begin = T + hour * HOUR
        header = Header(
            requires=("coverage",), chain=CHAIN, sequence=hour + 1, host="idle", previous=name
        )
        path = folder / f"{hour:02}.ctlog"
        writer = SegmentWriter.create(str(path), header, previous, time_ns=begin)
        writer.mark(Mark(begin + 1, begin + 9, "dump", {"rows": 0, "complete": True}))
        writer.write(
            mark_block(Mark.at(begin + HOUR - 1, "heartbeat")).with_watermark(begin + HOUR)
        )
        previous, name = writer.close(), path.name


def test_the_others_are_read_no_wider(tmp_path: Path) -> None:
    (tmp_path / "edge1" / CHAIN).mkdir(parents=True)
    asked.record(tmp_path / "edge1" / CHAIN, chain=CHAIN)
    record_nothing(tmp_path / "edge2" / CHAIN, 12)
    # It ends two hours later: the third segment of edge1 has to be read for that.
    query = WhoQuery(who.parse_end(f"{asked.PUBLIC}:40000"), T + 70 * SECOND, T + 71 * SECOND)
    answer = who.answer([str(tmp_path)], query, NOW)
    assert [table["end"].tolist() for table in answer.tables] == [[T + 2 * HOUR + 20 * SECOND]]
    assert answer.verdict.proved
    read = [f"{one.host}/{Path(one.path).name}" for one in answer.segments]
    assert sorted(read) == [
        *(f"edge1/{hour:02}.ctlog" for hour in range(3)),
        *(f"edge2/{hour:02}.ctlog" for hour in range(2)),
    ]


def test_whether_anybody_had_it_needs_no_end(tmp_path: Path) -> None:
    asked.record(tmp_path)
    query = WhoQuery(
        who.parse_end(asked.PUBLIC), T + 70 * SECOND, T + 71 * SECOND, only_whether=True
    )
    answer = who.answer([str(tmp_path)], query, NOW)
    assert len(answer) == 1
    assert len(answer.segments) == 2
