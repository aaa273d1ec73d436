"""Small segments.  What a squeezed one says of the one that it replaces takes some 230 bytes, and
the heartbeat that carries the last watermark 120, whatever else is in it.  So only a segment of
less than five minutes can grow, by no more than these.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import mark_block, table_blocks
from ctrecorder.segment.writer import SegmentWriter
from tests.support.slow_pairing import DESTROY, NEW, SECOND, V6, Row, T, row, table

MINUTE = 60 * SECOND
MOST_GROWTH = 360
CLOCK = {"synchronised": True, "error_us": 4000, "offset_us": -3}


def flow(draw: random.Random, begin: int, end: int, *, is_open: bool) -> list[Row]:
    """The events of a connection of random ends; half of them are IPv6."""
    family = draw.choice((2, V6))
    inside, remote = (
        b"\x20\x01\x0d\xb8" + draw.randbytes(12) if family == V6 else draw.randrange(2**32)
        for _ in range(2)
    )
    start = draw.randrange(begin, end)
    ends = {"orig_src": inside, "orig_dst": remote, "reply_src": remote, "reply_dst": inside}
    known = {**ends, "id": draw.randrange(2**32), "orig_sport": draw.randrange(2**16)}
    stop = draw.randrange(start, end)
    rows = [row(NEW, start, start=start - 9, family=family, **known)]
    if not is_open:
        rows.append(row(DESTROY, stop, start=start - 9, stop=stop, family=family, **known))
    return rows


def record(path: Path, draw: random.Random, minutes: int, connections: int) -> None:
    """A segment of `minutes` that a recorder with watermarks wrote, with as few blocks as it can:
    those of a minute, or a heartbeat where nothing happened.
    """
    header = Header(
        host="router",
        chain="0123456789abcdef",
        sequence=7,
        previous="20261124-050000.ctlog",
        requires=("coverage",),
    )
    writer = SegmentWriter.create(str(path), header, bytes(16), time_ns=T)
    end, is_open = T + max(minutes, 1) * MINUTE, draw.random() < 0.5
    flows = [flow(draw, T, end, is_open=is_open) for _ in range(connections)]
    rows = sorted((each for one in flows for each in one), key=lambda each: each["time"])
    for begin in range(T, end, MINUTE):
        here = [each for each in rows if begin <= each["time"] < begin + MINUTE]
        for family in (2, V6):
            if part := [each for each in here if each["family"] == family]:
                for block in table_blocks(table(part)):
                    writer.write(block.with_watermark(begin + MINUTE))
        if not here and minutes:
            beat = mark_block(Mark.at(begin + MINUTE, "heartbeat", {"clock": CLOCK}))
            writer.write(beat.with_watermark(begin + MINUTE))
    writer.close({})


def growth(path: Path) -> int:
    """Bytes that squeezing adds; a second run does nothing."""
    before = path.stat().st_size
    assert squeeze(str(path), SqueezeOptions()) is not None
    squeezed = path.read_bytes()
    assert squeeze(str(path), SqueezeOptions()) is None
    assert path.read_bytes() == squeezed
    return len(squeezed) - before


@pytest.mark.parametrize("minutes", [5, 6, 10, 60])
def test_of_five_minutes_or_more_none_grows(tmp_path: Path, minutes: int) -> None:
    draw = random.Random(minutes)
    for number, connections in enumerate([0, 1, 2, 12, *(draw.randrange(61) for _ in range(6))]):
        path = tmp_path / str(number)
        record(path, draw, minutes, connections)
        assert growth(path) < 0, (minutes, connections)


def test_a_shorter_one_grows_by_its_header_at_most(tmp_path: Path) -> None:
    """With one block of events there is nothing to join, and the HEADER says what was replaced."""
    draw, grown = random.Random(7), []
    for number in range(20):
        path = tmp_path / str(number)
        record(path, draw, number % 5, draw.randrange(61))
        grown.append(growth(path))
    assert 0 < max(grown) < MOST_GROWTH


def test_an_hour_of_silence_shrinks_to_a_tenth(tmp_path: Path) -> None:
    path = tmp_path / "a"
    record(path, random.Random(1), 60, 0)
    size = path.stat().st_size
    assert growth(path) < -0.9 * size
