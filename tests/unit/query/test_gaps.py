"""What the log lacks: times without a segment, and segments that are missing from their chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.predicate import Query
from ctrecorder.query import gaps
from ctrecorder.query.open import Archive, CountingQuery, open_archive
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import BEGIN, END, SECOND
from tests.support.slow_pairing import NEW, T, row, table

FIRST, LAST, NOW = T, T + 100 * SECOND, T + 1000 * SECOND


@pytest.mark.parametrize(
    ("since", "until", "live", "spans"),
    [
        (BEGIN, END, False, []),
        (FIRST, LAST, False, []),
        (FIRST - SECOND, LAST + SECOND, False, []),
        (FIRST - 9 * SECOND, LAST, False, [(FIRST - 9 * SECOND, FIRST)]),
        (FIRST, LAST + 9 * SECOND, False, [(LAST, LAST + 9 * SECOND)]),
        (FIRST, LAST + 9 * SECOND, True, []),
        (FIRST, END, False, [(LAST, NOW)]),
        (LAST + 5 * SECOND, END, False, [(LAST + 5 * SECOND, NOW)]),
        (FIRST - 9 * SECOND, FIRST - 5 * SECOND, False, [(FIRST - 9 * SECOND, FIRST - 5 * SECOND)]),
    ],
)
def test_spans_without_a_segment(
    since: int, until: int, live: bool, spans: list[tuple[int, int]]
) -> None:
    archive = Archive(CountingQuery(), first=FIRST, last=LAST, live=live)
    found = gaps.unrecorded_spans(archive, since, until, NOW)
    assert [(gap.begin, gap.end) for gap in found] == spans


def test_no_segment_is_no_span() -> None:
    assert gaps.unrecorded_spans(Archive(CountingQuery()), FIRST, LAST, NOW) == []


@pytest.mark.parametrize(
    ("removed", "since", "until", "missing"),
    [
        (None, BEGIN, END, []),
        (1, BEGIN, END, [(9, 20)]),
        (1, T + 10 * SECOND, T + 11 * SECOND, [(9, 20)]),
        (1, T + 21 * SECOND, END, []),
        (1, BEGIN, T + 9 * SECOND, []),
        (0, BEGIN, END, []),
    ],
)
def test_missing_segments(
    tmp_path: Path, removed: int | None, since: int, until: int, missing: list[tuple[int, int]]
) -> None:
    """Three segments of ten seconds in one chain; without the middle one the time between the
    others is missing.
    """
    paths, previous = [], bytes(16)
    for number in range(3):
        path = tmp_path / str(number)
        begin = T + 10 * number * SECOND
        writer = SegmentWriter.create(str(path), Header(chain="c"), previous, time_ns=begin)
        writer.append(table([row(NEW, begin + 9 * SECOND, id=number)]))
        previous = writer.close()
        paths.append(str(path))
    if removed is not None:
        del paths[removed]
    archive = open_archive(paths, Query())
    found = gaps.missing_segments(archive.segments, since, until)
    assert [(gap.begin, gap.end) for gap in found] == [
        (T + begin * SECOND, T + end * SECOND) for begin, end in missing
    ]
    archive.close()
