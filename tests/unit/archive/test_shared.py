"""Segments that many questions read: kept open, and what is known of their blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.archive.shared import Kept, Pool
from ctrecorder.ctlog.frame import Kind
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Block
from ctrecorder.times import HOUR, SECOND
from ctrecorder.uapi import AF_INET
from tests.support.holders import UDP, Flow, Log, T

FLOW = Flow(
    AF_INET, UDP, 1, ("10.0.0.1", 9), ("203.0.113.1", 443), ("203.0.113.1", 443), ("192.0.2.1", 9),
    T + 600 * SECOND, T + 700 * SECOND,
)  # fmt: skip


def squeezed(folder: Path) -> list[str]:
    """Two hours: 300 connections of the first one, and 300 that end in the second one."""
    short = [replace(FLOW, id=number, source=("10.0.0.1", number)) for number in range(1, 301)]
    long = [
        replace(one, id=one.id + 300, source=("10.0.0.2", one.id), end=T + HOUR + 60 * SECOND)
        for one in short
    ]
    log = Log(folder)
    log.write([*short, *long], 2)
    for path in log.paths:
        squeeze(path, SqueezeOptions("ms"))
    return log.paths


def blocks(path: str) -> list[Block]:
    with Segment(path) as segment:
        return segment.blocks_of(Kind.CONNECTIONS)


def test_which_blocks_have_both_ends_of_all_their_connections(tmp_path: Path) -> None:
    first, second = squeezed(tmp_path)
    pool = Pool()
    whole, parts = blocks(first)
    (ends,) = blocks(second)
    assert whole.rows == parts.rows == ends.rows == 300
    segment = pool.open(first)
    assert [segment.is_received(block) for block in (whole, parts)] == [True, False]
    assert not pool.open(second).is_received(ends)
    begin, end = FLOW.start, FLOW.end
    assert not segment.is_outside(whole, begin, begin + 1)
    assert not segment.is_outside(whole, end, end + 1)
    assert segment.is_outside(whole, end + SECOND, end + 2 * SECOND)
    assert segment.is_outside(whole, begin - SECOND, begin)
    assert not segment.is_outside(parts, begin - SECOND, begin)
    pool.trim(0)


def test_what_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    path, _ = squeezed(tmp_path)
    whole, parts = blocks(path)
    with Segment(path) as segment:
        at = {
            block.offset: block.offset + 64 + segment.read_index(block).columns["seen"].offset
            for block in (whole, parts)
        }
    data = bytearray(Path(path).read_bytes())
    data[at[whole.offset]] ^= 255
    Path(path).write_bytes(data)
    pool = Pool()
    assert not pool.open(path).is_received(whole)
    pool.trim(0)


def test_only_the_last_segments_stay_open(tmp_path: Path) -> None:
    first, second = squeezed(tmp_path)
    pool = Pool()
    one, two = pool.open(first), pool.open(second)
    assert pool.open(first) is one
    pool.trim(1)
    assert (one.file.descriptor >= 0, two.file.descriptor >= 0) == (True, False)
    assert pool.open(second) is not two
    pool.trim(0)


@pytest.mark.parametrize("limit", [100, 250, 1000])
def test_no_more_is_kept_than_the_limit(limit: int) -> None:
    class Rows:
        held_bytes = 50

    kept, rows = Kept(limit), [Rows() for _ in range(10)]
    for number, one in enumerate(rows):
        kept.put((str(number),), one)
        kept.get(("0",))
    found = [kept.get((str(number),)) is not None for number in range(10)]
    assert sum(found) == min(10, limit // 50)
    assert found[0]  # it was used last
    rows[9].held_bytes = limit * 2  # it has grown
    assert kept.get(("9",)) is rows[9]
    assert kept.get(("0",)) is None
    kept.drop("9")
    assert kept.get(("9",)) is None
