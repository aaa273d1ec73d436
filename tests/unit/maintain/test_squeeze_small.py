"""Small segments: none is larger when it is squeezed, however short it is and however it ended."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.archive.find import find
from ctrecorder.ctlog.frame import VERSION, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.index import FORM_PACKED, WHOLE
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import mark_block, table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support import recorded, sealed
from tests.support.slow_pairing import DESTROY, NEW, SECOND, V6, Row, T, row, table

MINUTE = 60 * SECOND
HEADER = replace(recorded.HEADER, previous="20261124-050000.ctlog", sequence=7)


def flow(draw: random.Random, begin: int, end: int, family: int, *, is_open: bool) -> list[Row]:
    """The events of a connection of random ends."""
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


def record(
    path: Path, draw: random.Random, minutes: int, connections: int, *, is_closed: bool = True
) -> None:
    """A segment of `minutes` that a recorder with watermarks wrote, with as few blocks as it can:
    those of a minute, or a heartbeat where nothing happened.
    """
    writer = SegmentWriter.create(str(path), HEADER, bytes(16), time_ns=T)
    end, is_open = T + max(minutes, 1) * MINUTE, draw.random() < 0.5
    flows = [flow(draw, T, end, draw.choice((2, V6)), is_open=is_open) for _ in range(connections)]
    rows = sorted((each for one in flows for each in one), key=lambda each: each["time"])
    for begin in range(T, end, MINUTE):
        here = [each for each in rows if begin <= each["time"] < begin + MINUTE]
        for family in (2, V6):
            if part := [each for each in here if each["family"] == family]:
                for block in table_blocks(table(part)):
                    writer.write(block.with_watermark(begin + MINUTE))
        if not here and minutes:
            beat = mark_block(Mark.at(begin + MINUTE, "heartbeat", {"clock": recorded.CLOCK}))
            writer.write(beat.with_watermark(begin + MINUTE))
    if is_closed:
        writer.close({})
    else:
        writer.sync()
        writer.abandon()


def growth(path: Path) -> int:
    """Bytes that squeezing adds; a second run does nothing."""
    before = path.stat().st_size
    assert squeeze(str(path), SqueezeOptions()) is not None
    squeezed = path.read_bytes()
    assert squeeze(str(path), SqueezeOptions()) is None
    assert path.read_bytes() == squeezed
    return len(squeezed) - before


@pytest.mark.parametrize("ended", ["closed", "crashed"])
@pytest.mark.parametrize("minutes", [0, 1, 2, 3, 4, 5, 10, 60])
def test_none_grows(tmp_path: Path, minutes: int, ended: str) -> None:
    draw = random.Random(minutes)
    for number, connections in enumerate([0, 1, 2, 5, 12, 50, draw.randrange(61)]):
        path = tmp_path / str(number)
        record(path, draw, minutes, connections, is_closed=ended == "closed")
        assert growth(path) < 0, (minutes, connections)


def test_an_hour_of_silence_shrinks_to_a_tenth(tmp_path: Path) -> None:
    path = tmp_path / "a"
    record(path, random.Random(1), 60, 0)
    size = path.stat().st_size
    assert growth(path) < -0.9 * size


@pytest.mark.parametrize("connections", [0, 1, 12, 50])
def test_a_sealed_one_does_not_grow_and_is_proved(tmp_path: Path, connections: int) -> None:
    draw, recording = random.Random(connections), sealed.Recording(tmp_path)
    queue = recording.start()
    paths = []
    for _ in range(2):
        paths.append(Path(queue.path))
        begin = recording.clock.wall
        recording.clock.passes(20 * SECOND)
        for _ in range(connections):
            queue.add(table(flow(draw, begin, recording.clock.wall, 2, is_open=False)))
        assert queue.flush(recording.clock.wall)
        queue.rotate(recording.clock.wall)
    assert queue.close(recording.clock.wall)
    for path in paths:
        size = path.stat().st_size
        recording.squeeze(path)
        assert path.stat().st_size < size
    assert recording.check()[0] == 0


def test_a_small_one_says_all_that_the_other_readers_look_for(tmp_path: Path) -> None:
    """Its HEADER is packed: who reads only that finds the same in it."""
    path = tmp_path / "a.ctlog"
    record(path, random.Random(1), 1, 12)
    with Segment(str(path)) as old:
        header, times, watermark, last_hash = old.header, old.times, old.watermark, old.last_hash
    assert growth(path) < 0
    with Segment(str(path)) as new:
        assert new.frame(new.blocks[0]).form == FORM_PACKED
        assert replace(new.header, replaces=(), squeezed=None) == header
        assert (new.header.replaces[0].last_hash, new.watermark) == (last_hash.hex(), watermark)
        assert new.state == "closed"
        assert not new.findings
    (span,) = find([str(tmp_path)], spans=True).spans
    assert (span.chain, span.sequence, span.squeezed) == (HEADER.chain, HEADER.sequence, True)
    assert span.recorded == T
    assert span.end == times[1]


def test_a_segment_that_version_1_0_reads_stays_so(tmp_path: Path) -> None:
    """It has no `requires`; a packed header, which version 1.0 does not know, would need it."""
    path = tmp_path / "a"
    writer = SegmentWriter.create(str(path), Header(chain="0123"), bytes(16), time_ns=T)
    writer.close({})
    assert squeeze(str(path), SqueezeOptions()) is not None
    with Segment(str(path)) as new:
        assert new.version == VERSION
        assert new.frame(new.blocks[0]).form == WHOLE


def test_a_long_header_has_its_place_in_the_chain(tmp_path: Path) -> None:
    """Of a router whose rules do not track hundreds of networks: all of it has to be unpacked."""
    draw = random.Random(1)
    networks = [f"198.18.{draw.randrange(256)}.{draw.randrange(256)}/32" for _ in range(1500)]
    rule = {"family": 2, "networks": networks}
    long = replace(HEADER, state={**(HEADER.state or {}), "notrack": [rule]})
    SegmentWriter.create(str(tmp_path / "a"), long, bytes(16), time_ns=T).close({})
    assert squeeze(str(tmp_path / "a"), SqueezeOptions()) is not None
    (span,) = find([str(tmp_path)], spans=True).spans
    assert (span.chain, span.sequence, span.squeezed) == (HEADER.chain, HEADER.sequence, True)
    with Segment(str(tmp_path / "a")) as segment:
        assert segment.file.frame(0).form == FORM_PACKED
        assert segment.file.frame(0).length > 1 << 11
