"""Many questions at once: the answers of one by one, and of a look at each connection."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.archive import open as opening
from ctrecorder.archive import shared
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import ArchiveError, NoSegmentsError
from ctrecorder.holders import who
from ctrecorder.holders.many import answer_each, answer_many
from ctrecorder.holders.who import Answer, WhoQuery
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query.verdict import Completeness
from ctrecorder.segment import live
from ctrecorder.segment.reader import Segment
from ctrecorder.times import HOUR, SECOND
from tests.support import holders
from tests.support.holders import MS, Log, Question, T

HOURS = 6
NOW = T + 1000 * HOUR


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where recorders publish their state; of this machine none is read."""
    monkeypatch.setattr(live, "FOLDER", str(tmp_path / "run"))


def who_query(asked: Question) -> WhoQuery:
    def term(end: tuple[str, int]) -> Any:
        address = f"[{end[0]}]" if ":" in end[0] else end[0]
        return who.parse_end(f"{address}:{end[1]}" if end[1] else end[0])

    to = term(asked.to) if asked.to[0] else None
    return WhoQuery(term(asked.public), asked.since, asked.until, to, asked.protocols)


def told(answer: Answer) -> tuple[Any, ...]:
    """All that an answer says."""
    tables = [
        (table.family, {name: column.tolist() for name, column in sorted(table.columns.items())})
        for table in answer.tables
    ]
    return (
        tables,
        answer.routers,
        answer.hosts,
        answer.verdict,
        answer.scope,
        list(map(str, answer.failed)),
        list(map(str, answer.findings)),
        answer.copies,
        answer.clocks,
    )


def logged(
    folder: Path, squeezed: Iterable[int], *, count: int = 900, hours: int = HOURS, **options: Any
) -> tuple[Log, list[holders.Flow]]:
    folder.mkdir()
    log = Log(folder, **options)
    network = holders.flows(5, count, hours, before=2 if log.stamped else 0)
    log.write(network, hours)
    for number in squeezed:
        squeeze(log.paths[number], SqueezeOptions("ms"))
    return log, network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("squeezed", "covered", "stamped"),
    [
        ((), True, True),
        ((), False, False),
        ((0, 2, 3), True, False),
        ((0, 2, 3), False, True),
        (range(HOURS), True, True),
        (range(HOURS), False, False),
    ],
)
def test_as_a_look_at_each_connection(
    tmp_path: Path, squeezed: Sequence[int], covered: bool, stamped: bool
) -> None:
    """Every shape of NAT, protocol, tolerance and remote end: 0 differences."""
    _, network = logged(tmp_path / "log", squeezed, covered=covered, stamped=stamped)
    asked = holders.questions(7, network, 300, HOURS)
    answers = answer_many([str(tmp_path / "log")], list(map(who_query, asked)), NOW)
    several = proved = 0
    for question, answer in zip(asked, answers, strict=True):
        wanted = sorted((flow.facts for flow in network if holders.holds(flow, question)), key=repr)
        found = [facts for table in answer.tables for facts in holders.facts_of(table)]
        assert sorted(found, key=repr) == wanted, question
        several += len(wanted) > 1
        is_covered = question.since >= T and question.until <= T + HOURS * HOUR - 1
        good = Completeness.COMPLETE if covered else Completeness.VERSION_1_0
        assert (answer.verdict.completeness is good) == is_covered, question
        proved += is_covered
    assert several > 50
    assert 150 < proved < 300


def is_proved(question: Question, deaf: Sequence[tuple[int, int]]) -> bool:
    """Whether a log with these holes can prove an answer: it covers the window, and the time since
    the last dump before it or up to the first one after it.
    """

    def is_whole(begin: int, end: int) -> bool:
        inside = begin >= T and end <= T + HOURS * HOUR - 1
        return inside and not any(first < end and last > begin for first, last in deaf)

    dumps = [(T + hour * HOUR, T + hour * HOUR + 2 * MS) for hour in range(HOURS)]
    before = [begin for begin, end in dumps if end <= question.since][-1:]
    after = [end for _, end in dumps if end > question.since][:1]
    return is_whole(question.since, question.until) and (
        any(is_whole(begin, question.until) for begin in before)
        or any(is_whole(question.since, max(end, question.until)) for end in after)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("squeezed", "stamped"), [((), False), ((1, 2), True), (range(HOURS), False)]
)
def test_holes_hide_nobody_without_a_word(
    tmp_path: Path, squeezed: Sequence[int], stamped: bool
) -> None:
    """Where events were lost: who is not named held the end at a time that is not proved."""
    chance = random.Random(3)
    begins = [T + chance.randrange(HOURS * 3600) * SECOND for _ in range(5)]
    deaf = [(begin, begin + chance.randrange(1, 900) * SECOND) for begin in begins]
    _, network = logged(tmp_path / "log", squeezed, stamped=stamped, deaf=deaf)
    asked = holders.questions(8, network, 300, HOURS)
    answers = answer_many([str(tmp_path / "log")], list(map(who_query, asked)), NOW)
    hidden = proved = 0
    for question, answer in zip(asked, answers, strict=True):
        true = {flow.facts[:-2] for flow in network if holders.holds(flow, question)}
        found = {facts[:-2] for table in answer.tables for facts in holders.facts_of(table)}
        assert found <= {flow.facts[:-2] for flow in network}, question
        if answer.verdict.proved:
            assert is_proved(question, deaf), question
            assert true <= found, question
        hidden += not true <= found
        proved += answer.verdict.proved
    assert hidden > 0
    assert proved > 50


def spoiled(folder: Path, seed: int) -> None:
    """A folder as it can be after years: two recorders at once, one of them of version 1.0, a
    router beside them, holes, and segments that are squeezed, missing, cut, damaged or there twice.
    """
    chance = random.Random(seed)
    folder.mkdir()
    network = holders.flows(seed, 700, HOURS, before=1)
    deaf = [(T + HOUR + 600 * SECOND, T + HOUR + 900 * SECOND)]
    logs = [
        Log(folder, "a", deaf=deaf if seed % 2 else ()),
        Log(folder, "b", stamped=False, covered=bool(seed % 3), boot="boot" if seed % 2 else "x"),
    ]
    for log in logs:
        log.write(network, HOURS)
        for path in log.paths:
            if chance.random() < 0.5:
                squeeze(path, SqueezeOptions(chance.choice(("ms", "s"))))
    first, second = logs[0].paths, logs[1].paths
    os.unlink(first[seed % HOURS])
    shutil.copy(second[2], folder / "copy.ctlog")
    os.truncate(second[-1], os.stat(second[-1]).st_size - 200)
    if seed == 0:
        (folder / "notes.txt").write_text("no segment")
    with Segment(second[1]) as segment:
        block = max(segment.blocks_of(Kind.EVENTS, Kind.CONNECTIONS), key=lambda one: one.rows)
        end = Path(second[1]).stat().st_size
    data = bytearray(Path(second[1]).read_bytes())
    data[min(block.offset + 3000, end - 300)] ^= 255
    Path(second[1]).write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_each_answer_is_that_of_the_question_alone(tmp_path: Path, seed: int) -> None:
    """Tables, verdict, holes, damage, copies and clocks: 0 differences."""
    folder = tmp_path / "log"
    spoiled(folder, seed)
    network = holders.flows(seed, 700, HOURS, before=1)
    asked = [
        replace(who_query(one), add_clock_error=number % 3 == 0)
        for number, one in enumerate(holders.questions(seed, network, 80, HOURS))
    ]
    together = answer_many([str(folder)], asked, NOW)
    shared_out = answer_many([str(folder)], asked, NOW, jobs=2)
    assert list(map(told, shared_out)) == list(map(told, together))
    for one, answer in zip(asked, together, strict=True):
        assert told(answer) == told(who.answer([str(folder)], one, NOW)), one
    assert sum(map(len, together)) > 100
    assert {bool(answer.failed) for answer in together} == {seed == 0}
    assert any(answer.verdict.proved for answer in together) == (seed != 0)
    assert not all(answer.verdict.proved for answer in together)


def test_damage_is_met_by_the_question_that_reads_it(tmp_path: Path) -> None:
    log, network = logged(tmp_path / "log", range(2), count=2500, hours=2)
    with Segment(log.paths[1]) as segment:
        block = max(segment.blocks_of(Kind.CONNECTIONS), key=lambda one: one.rows)
        at = block.offset + 64 + segment.read_index(block).columns["reply_dport"].body_offset
    data = bytearray(Path(log.paths[1]).read_bytes())
    data[at] ^= 255
    Path(log.paths[1]).write_bytes(data)
    time = T + HOUR + 1800 * SECOND
    public = next(flow.answered for flow in network if flow.family == 2)
    near = who_query(Question(public, time, time + SECOND))
    nobody = who_query(Question(("198.51.100.7", 40000), time, time + SECOND))
    first, second, third = answer_many([str(tmp_path / "log")], [nobody, near, nobody], NOW)
    assert second.findings
    assert not second.verdict.proved
    for answer in (first, third):
        assert not answer.findings
        assert answer.verdict.proved


def test_each_segment_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = logged(tmp_path / "log", (0, 2, 3))
    opened = []
    really = opening.open_segment

    def open_segment(path: str, **options: Any) -> Any:
        opened.append(path)
        return really(path, **options)

    monkeypatch.setattr(shared, "open_placed", open_segment)
    asked = list(map(who_query, holders.questions(9, network, 20, HOURS)))
    answer_many([str(tmp_path / "log")], asked, NOW)
    assert len(opened) == len(set(opened)) == HOURS


def test_the_answers_are_in_the_order_of_the_questions(tmp_path: Path) -> None:
    _, network = logged(tmp_path / "log", ())
    folder = [str(tmp_path / "log")]
    asked = list(map(who_query, holders.questions(10, network, 12, HOURS)))
    each = dict(answer_each(folder, asked, NOW))
    found = answer_many(folder, asked, NOW)
    assert [told(each[number]) for number in range(12)] == list(map(told, found))
    assert [answer.scope.since for answer in found] == [one.since for one in asked]
    assert answer_many(folder, [], NOW) == []
    with pytest.raises(NoSegmentsError, match="no segments here"):
        answer_many([str(tmp_path)], asked, NOW)


def test_a_killed_process_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an answer less; and the others end."""
    network = holders.flows(4, 40, HOURS)
    (tmp_path / "log").mkdir()
    (tmp_path / "empty").mkdir()
    Log(tmp_path / "log").write(network, HOURS)
    asked = list(map(who_query, holders.questions(4, network, 32, HOURS)))
    parent, attempt, killed = os.getpid(), who.Asked.attempt, max(asked, key=lambda one: one.since)

    def or_die(self: who.Asked, query: WhoQuery, reach: who.Reach) -> Answer | who.Reach:
        if query == killed and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return attempt(self, query, reach)

    monkeypatch.setattr(who.Asked, "attempt", or_die)
    with pytest.raises(ArchiveError, match=r"was killed, .*fewer at once"):
        answer_many([str(tmp_path / "log")], asked, NOW, jobs=2)
    children = Path(f"/proc/self/task/{parent}/children").read_text()
    assert not children.split()
    monkeypatch.undo()
    with pytest.raises(NoSegmentsError):
        answer_many([str(tmp_path / "empty")], asked, NOW, jobs=2)
