"""Connections that outlive what a question reads: followed by their keys to where they end."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.ctlog.frame import Kind
from ctrecorder.holders import who
from ctrecorder.holders.many import answer_many
from ctrecorder.holders.who import Answer, WhoQuery
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment import live
from ctrecorder.segment.reader import Segment
from ctrecorder.times import HOUR, SECOND
from ctrecorder.uapi import AF_INET
from tests.support import holders
from tests.support.holders import UDP, Flow, Log, T

HOURS = 60
NOW = T + 1000 * HOUR
INSIDE, REMOTE, PUBLIC = ("10.0.0.1", 1234), ("203.0.113.1", 443), ("192.0.2.1", 40000)
LONG = Flow(
    AF_INET, UDP, 7, INSIDE, REMOTE, REMOTE, PUBLIC, T + 5 * SECOND, T + 40 * HOUR + 9 * SECOND
)
ASKED = WhoQuery(who.parse_end("192.0.2.1:40000"), T + 3 * HOUR, T + 3 * HOUR + SECOND)


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where recorders publish their state; of this machine none is read."""
    monkeypatch.setattr(live, "FOLDER", str(tmp_path / "run"))


def logged(folder: Path, squeezed: bool, *flows: Flow) -> Log:
    folder.mkdir()
    log = Log(folder)
    log.write(flows, HOURS)
    if squeezed:
        for path in log.paths[:50]:
            squeeze(path, SqueezeOptions("ms"))
    return log


def spans(answer: Answer) -> list[tuple[int, int]]:
    facts = [one for table in answer.tables for one in holders.facts_of(table)]
    return [(one[-2], one[-1]) for one in facts]


@pytest.mark.parametrize("squeezed", [False, True])
def test_the_end_is_found_and_few_segments_are_paired(tmp_path: Path, squeezed: bool) -> None:
    logged(tmp_path / "log", squeezed, LONG)
    answer = who.answer([str(tmp_path / "log")], ASKED, NOW)
    assert spans(answer) == [(LONG.start, LONG.end)]
    assert answer.verdict.proved
    assert answer.stats.segments <= 6


@pytest.mark.parametrize("squeezed", [False, True])
def test_one_that_never_ends_stays_open(tmp_path: Path, squeezed: bool) -> None:
    logged(tmp_path / "log", squeezed, replace(LONG, end=0))
    answer = who.answer([str(tmp_path / "log")], ASKED, NOW)
    assert spans(answer) == [(LONG.start, 0)]
    assert answer.verdict.proved
    assert answer.stats.segments <= 6


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_later_flow_with_the_same_key_is_another_one(tmp_path: Path, squeezed: bool) -> None:
    again = replace(LONG, start=T + 45 * HOUR + SECOND, end=T + 52 * HOUR + SECOND)
    logged(tmp_path / "log", squeezed, LONG, again)
    later = replace(ASKED, since=T + 48 * HOUR, until=T + 48 * HOUR + 1)
    first, second = answer_many([str(tmp_path / "log")], [ASKED, later], NOW)
    assert spans(first) == [(LONG.start, LONG.end)]
    assert spans(second) == [(again.start, again.end)]


@pytest.mark.parametrize("squeezed", [False, True])
def test_an_end_that_was_lost_is_bounded_by_the_dump_that_lacks_it(
    tmp_path: Path, squeezed: bool
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log = Log(folder, deaf=[(LONG.end - SECOND, LONG.end + SECOND)])
    log.write([LONG], HOURS)
    if squeezed:
        for path in log.paths[:50]:
            squeeze(path, SqueezeOptions("ms"))
    ((start, end),) = spans(who.answer([str(folder)], ASKED, NOW))
    assert start == LONG.start
    assert LONG.end < end <= T + 41 * HOUR + SECOND


def test_a_segment_that_is_missing_ends_what_is_known(tmp_path: Path) -> None:
    """The same as if all had been read: nobody knows when it ended, but a later dump has it."""
    log = logged(tmp_path / "log", True, LONG)
    os.unlink(log.paths[20])
    answer = who.answer([str(tmp_path / "log")], ASKED, NOW)
    assert spans(answer) == [(LONG.start, LONG.end)]
    assert answer.verdict.proved


def test_a_damaged_segment_on_the_way_is_not_passed_over(tmp_path: Path) -> None:
    """It may have had the end, although the dump in it is whole."""
    other = replace(LONG, id=9, source=("10.0.0.2", 9), answered=("192.0.2.2", 9))
    other = replace(other, start=T + 20 * HOUR + SECOND, end=T + 20 * HOUR + 9 * SECOND)
    log = logged(tmp_path / "log", False, LONG, other)
    with Segment(log.paths[20]) as segment:
        _, events = segment.blocks_of(Kind.EVENTS)
    data = bytearray(Path(log.paths[20]).read_bytes())
    data[events.offset + 100] ^= 255
    Path(log.paths[20]).write_bytes(data)
    answer = who.answer([str(tmp_path / "log")], ASKED, NOW)
    assert spans(answer) == [(LONG.start, LONG.end)]
    assert [one.subject for one in answer.findings] == [log.paths[20]]


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_connection_of_weeks_makes_no_other_question_longer(
    tmp_path: Path, squeezed: bool
) -> None:
    """A squeezed segment begins with its oldest connection; it is not read for that."""
    short = replace(LONG, id=8, answered=("192.0.2.2", 40000), source=("10.0.0.2", 9))
    short = replace(short, start=T + 30 * HOUR, end=T + 30 * HOUR + SECOND)
    logged(tmp_path / "log", squeezed, replace(LONG, end=0), short)
    end = who.parse_end("192.0.2.2:40000")
    asked = WhoQuery(end, T + 30 * HOUR, T + 30 * HOUR + 1)
    answer = who.answer([str(tmp_path / "log")], asked, NOW)
    assert spans(answer) == [(short.start, short.end)]
    assert answer.stats.segments <= 4
