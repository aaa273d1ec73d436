"""The oracle and the judge themselves: each kind of answer lands in its column, each fault has its
edges.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.model import judge
from tests.model.adapter import (
    COMPLETE,
    FAILED,
    NOT_COMPLETE,
    NOT_YET,
    VERSION_1,
    Answer,
    Candidate,
    read,
)
from tests.model.clock import Clock
from tests.model.faults import FAILOVER
from tests.model.judge import Asked, Judge
from tests.model.oracle import ABSENT, Class, Effect, Fault, Oracle, Window
from tests.model.questions import Question
from tests.model.truth import SECOND, Truth

T = 1_790_000_000 * SECOND
PUBLIC, INSIDE, REMOTE = (
    ("198.51.100.1", 20_000),
    ("192.168.1.100", 20_000),
    ("198.51.100.25", 9000),
)
STRANGER = ("192.168.1.101", 20_000)
LATER = T + 600 * SECOND
UDP = 17


def at(seconds: float) -> int:
    return T + int(seconds * SECOND)


class World:
    """One flow of UDP from 10 s to 11 s; `oracle` has what a test adds."""

    def __init__(self, folder: Path, *, paired: bool = False) -> None:
        self.clock, self.truth = Clock(folder, stepped=False), Truth()
        self.oracle = Oracle(self.clock, paired=paired)
        self.oracle.add(Fault(ABSENT, Effect.LOST, (0, 0), recorder="udp"))
        self.flow = self.truth.begin(UDP, INSIDE, REMOTE, None, at(10), False)
        self.truth.arrived(0, PUBLIC, at(10))
        self.truth.arrived(0, PUBLIC, at(11))
        self.flow.sent[1] = at(11)

    def fault(self, begin: float, end: float, **more: object) -> Fault:
        effect = more.pop("effect", Effect.LOST)
        assert isinstance(effect, Effect)
        moments = (at(begin), at(begin)), (at(end), at(end))
        return self.oracle.add(Fault("a fault", effect, *moments, **more))  # type: ignore[arg-type]

    def column(self, seconds: float, answer: Answer, asked: int = LATER) -> str:
        """Where the answer to a question about that moment lands."""
        question = Question(PUBLIC, at(seconds), 0, None, UDP, None)
        one = Asked(question, asked, asked, answer, "a test")
        table = Judge(self.truth, self.oracle, self.clock).table([one])
        ((_, column),) = table.cells
        return column

    def state(self, seconds: float, asked: int = LATER, **more: object) -> Class:
        """What the oracle says of that moment."""
        family, translated = str(more.get("family", "ipv4")), bool(more.get("translated", True))
        window = Window(at(seconds), at(seconds) + 1000, asked, asked, family, translated)
        return self.oracle.judge(window, [UDP]).state


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def holder(inside: tuple[str, int] = INSIDE, end: int | None = at(14)) -> Candidate:
    return Candidate(UDP, inside, PUBLIC, REMOTE, at(10), end)


def test_answers_in_covered_time(world: World) -> None:
    assert world.column(10.5, Answer(COMPLETE, [holder()])) == judge.RIGHT
    assert world.column(60, Answer(COMPLETE)) == judge.RIGHT
    assert world.column(10.5, Answer(COMPLETE)) == judge.ALIBI
    assert world.column(10.5, Answer(COMPLETE, [holder(), holder(STRANGER)])) == judge.WRONG
    assert world.column(10.5, Answer(NOT_COMPLETE, [holder()])) == judge.WOLF
    assert world.column(10.5, Answer(NOT_YET)) == judge.YET
    assert world.column(10.5, Answer(FAILED)) == judge.FAILED


def test_answers_about_a_hole(world: World) -> None:
    world.fault(8, 20)
    assert world.column(10.5, Answer(NOT_COMPLETE)) == judge.INCOMPLETE
    assert world.column(10.5, Answer(COMPLETE)) == judge.ALIBI
    assert world.column(10.5, Answer(COMPLETE, [holder()])) == judge.UNPROVED
    assert world.column(15, Answer(COMPLETE)) == judge.UNPROVED
    assert world.column(10.5, Answer(NOT_COMPLETE, [holder(STRANGER)])) == judge.WRONG


def test_a_holder_outside_of_its_time_is_wrong(world: World) -> None:
    assert world.column(15, Answer(COMPLETE, [holder()])) == judge.RIGHT
    assert world.column(40, Answer(COMPLETE, [holder(end=at(41))])) == judge.WRONG
    assert world.column(5, Answer(COMPLETE, [holder()])) == judge.WRONG
    # Its end was not heard: that takes the kernel a minute, and for ever where events were lost.
    assert world.column(40, Answer(COMPLETE, [holder(end=None)]), at(42)) == judge.RIGHT
    assert world.column(40, Answer(COMPLETE, [holder(end=None)])) == judge.WRONG
    world.fault(20, 22)
    assert world.column(40, Answer(COMPLETE, [holder(end=None)])) == judge.RIGHT


def test_a_router_that_takes_over_commits_old_entries(world: World) -> None:
    """One that timed out on the other router, and was not collected there yet."""
    again = Candidate(UDP, INSIDE, PUBLIC, REMOTE, at(30), at(33))
    assert world.column(31, Answer(COMPLETE, [again])) == judge.WRONG
    world.fault(30, 40, effect=Effect.NONE).kind = FAILOVER
    assert world.column(31, Answer(COMPLETE, [again])) == judge.RIGHT
    stranger = Candidate(UDP, STRANGER, PUBLIC, REMOTE, at(30), at(33))
    assert world.column(31, Answer(COMPLETE, [stranger])) == judge.WRONG


def test_nobody_is_missing_who_came_after_the_question(world: World) -> None:
    assert world.column(10, Answer(COMPLETE), at(9.9)) == judge.RIGHT
    assert world.column(10, Answer(COMPLETE), at(10.1)) == judge.ALIBI


def test_what_is_called_complete_of_what_was_covered(world: World) -> None:
    """ "not yet" counts neither way, but it is counted; an answer that is wrong besides is none."""
    answers = (
        [Answer(COMPLETE)] * 6 + [Answer(NOT_COMPLETE), Answer(FAILED)] + [Answer(NOT_YET)] * 2
    )
    world.fault(100, 105)
    question = Question(PUBLIC, at(60), 0, None, UDP, None)
    asked = [Asked(question, LATER, LATER, answer, "a test") for answer in answers]
    into_a_hole = Question(PUBLIC, at(102), 0, None, UDP, world.flow)
    asked += [Asked(into_a_hole, LATER, LATER, Answer(NOT_COMPLETE), "a test")] * 10
    table = Judge(world.truth, world.oracle, world.clock).table(asked)
    assert table.complete_share == 6 / 8
    assert table.not_yet_share == 2 / 10
    assert [table.share(name) for name in ("covered", "hole", "edge")] == [0.5, 0.5, 0]


def test_edges(world: World) -> None:
    world.fault(100, 105)
    states = [world.state(seconds) for seconds in (97.9, 98.1, 100, 105, 106.9, 107.1)]
    covered, either, hole = Class.COVERED, Class.EITHER, Class.HOLE
    assert states == [covered, either, hole, hole, either, covered]
    assert world.state(300, asked=at(302)) == Class.EITHER
    assert world.state(300, asked=at(304)) == Class.COVERED


def test_faults_hide_what_they_hide(world: World) -> None:
    world.fault(100, 105, only_untranslated=True, families=frozenset({"ipv6"}))
    assert world.state(102) == Class.COVERED
    assert world.state(102, family="ipv6") == Class.COVERED
    assert world.state(102, family="ipv6", translated=False) == Class.HOLE
    world.fault(200, 205, protocols=frozenset({6}))
    assert world.state(202) == Class.COVERED


def test_what_one_recorder_misses_another_may_have(world: World) -> None:
    world.fault(100, 105, recorder="main")
    assert world.state(102) == Class.HOLE
    world.oracle.faults[0].end = (at(90), at(91))
    assert world.state(102) == Class.COVERED
    world.fault(101, 103)
    assert world.state(102) == Class.HOLE


def test_both_routers_of_a_pair_must_be_covered(tmp_path: Path) -> None:
    pair = World(tmp_path, paired=True)
    pair.fault(100, 105, recorder="standby")
    pair.fault(200, 205, recorder="main")
    states = [pair.state(seconds) for seconds in (90, 102, 202, 300)]
    assert states == [Class.COVERED, Class.HOLE, Class.HOLE, Class.COVERED]
    pair.oracle.faults[0].end = (at(90), at(91))  # a second recorder of the first router
    assert [pair.state(seconds) for seconds in (102, 202)] == [Class.HOLE, Class.COVERED]
    # Its public address may be seen as the router's own.
    pair.fault(400, 405, only_untranslated=True)
    states = [pair.state(402, translated=translated) for translated in (True, False)]
    assert states == [Class.EITHER, Class.HOLE]


def test_pending_is_covered_afterwards(world: World) -> None:
    world.fault(100, 105, effect=Effect.PENDING)
    assert world.state(101, asked=at(106)) == Class.EITHER
    assert world.state(101, asked=at(110)) == Class.COVERED


def test_a_hole_before_the_dump_leaves_open_what_was_open(world: World) -> None:
    """Behind a loss, a dump is due until 106."""
    world.fault(100, 106, effect=Effect.PENDING, until_dump=True)
    world.fault(106.5, 108)
    world.fault(105.8, 108, recorder="udp")
    assert world.state(103) == Class.COVERED
    world.fault(105.8, 108, recorder="main")
    assert world.state(103) == Class.EITHER


def test_damage_counts_from_when_it_is_done(world: World) -> None:
    world.fault(100, 105, applied=(at(200), at(201)))
    assert world.state(102, asked=at(199)) == Class.COVERED
    assert world.state(102, asked=at(202)) == Class.HOLE


def test_the_clock_s_stretches(tmp_path: Path) -> None:
    clock = Clock(tmp_path, stepped=True, dated=False)
    clock.epochs += [(at(10), 60 * SECOND), (at(20), 0)]
    assert clock.shown(at(5), at(25)) == [
        (at(5), at(10)),
        (at(70), at(80)),
        (at(20), at(25)),
    ]
    assert clock.shown(at(12), at(12)) == [(at(72), at(72))]


def told(
    complete: object, verdict: str, *, persons: int = 0, holes: int = 0, **more: object
) -> str:
    """An answer as JSON."""
    nobody: list[object] = [{"flows": []}] * persons
    return json.dumps(
        {
            "complete": complete,
            "verdict": verdict,
            "persons": nobody,
            "holes": [{}] * holes,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("text", "code", "state"),
    [
        (told(True, "NOBODY"), 1, COMPLETE),
        (told(True, "ONE", persons=1), 0, COMPLETE),
        (told(True, "SEVERAL", persons=3), 0, COMPLETE),
        (told(True, "NOBODY"), 0, FAILED),
        (told(True, "ONE", persons=2), 0, FAILED),
        (told(False, "NOT YET", holes=1, complete_until="now"), 3, NOT_YET),
        (told(False, "NOBODY KNOWN (not proved)", holes=1), 3, NOT_COMPLETE),
        (told(False, "ONE KNOWN (not proved)", persons=1, holes=1), 3, NOT_COMPLETE),
        (told(False, "ONE", persons=1, holes=1), 3, FAILED),
        (told(False, "NOBODY KNOWN (not proved)", holes=1), 1, FAILED),
        (told(False, "NOBODY KNOWN (not proved)"), 3, FAILED),
        (told(True, "NOBODY KNOWN (not proved)", holes=1), 3, FAILED),
        (told("version 1.0", "NOBODY"), 1, VERSION_1),
        ("nobody", 1, FAILED),
        ("", 2, FAILED),
    ],
)
def test_reading_an_answer(text: str, code: int, state: str) -> None:
    assert read(code, text, "").state == state
