"""Work grows with the number of blocks, not with its square: lines of code that ran are counted,
not time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.predicate import Query
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query.connections import list_connections
from ctrecorder.query.open import open_archive
from ctrecorder.segment.writer import SegmentWriter
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T, row, table

PACKAGE = str(Path(squeeze.__code__.co_filename).parents[1])


def record(path: Path, blocks: int) -> str:
    """A segment of `blocks` blocks of one event each, as a quiet router writes it."""
    writer = SegmentWriter.create(str(path), Header(chain="c"), time_ns=T)
    for number in range(blocks):
        flow, event = number // 2, (NEW, DESTROY)[number % 2]
        writer.append(table([row(event, T + number * SECOND, id=flow, orig_sport=flow)]))
    writer.close()
    return str(path)


def pair(path: str) -> None:
    archive = open_archive([path], Query())
    rows = sum(
        len(part) for batch in list_connections(archive, ["start", "end"]) for part in batch.tables
    )
    assert rows == archive.segments[0].index["rows"].sum() // 2


def make_small(path: str) -> None:
    result = squeeze(path, SqueezeOptions())
    assert result is not None
    assert result.connections == result.events // 2


def lines_run(work: Callable[[], None]) -> int:
    """How many lines of the package `work` runs."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("work", [pair, make_small])
def test_joining_small_blocks_is_linear(work: Callable[[str], None], tmp_path: Path) -> None:
    counts: list[int] = []
    for blocks in (1000, 1000, 2000):  # the first run imports
        path = record(tmp_path / str(len(counts)), blocks)
        counts.append(lines_run(lambda: work(path)))  # noqa: B023 -- called at once
    assert counts[2] < 2.1 * counts[1]
