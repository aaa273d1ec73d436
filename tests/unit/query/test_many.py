"""Many questions at once: the answers of one by one, and of a look at each connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query import who
from ctrecorder.query.many import answer_many
from ctrecorder.query.verdict import Completeness
from ctrecorder.query.who import Answer, WhoQuery
from ctrecorder.segment import live
from ctrecorder.times import HOUR
from tests.support import holders
from tests.support.holders import Log, Question, T

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


def logged(folder: Path, squeezed: Iterable[int], **options: Any) -> tuple[Log, Any]:
    folder.mkdir()
    log = Log(folder, **options)
    network = holders.flows(5, 900, HOURS, before=2 if log.stamped else 0)
    log.write(network, HOURS)
    for number in squeezed:
        squeeze(log.paths[number], SqueezeOptions("ms"))
    return log, network


@pytest.mark.slow
@pytest.mark.parametrize("squeezed", [(), (0, 2, 3), range(HOURS)])
@pytest.mark.parametrize("covered", [True, False])
@pytest.mark.parametrize("stamped", [True, False])
def test_as_a_look_at_each_connection(
    tmp_path: Path, squeezed: Sequence[int], covered: bool, stamped: bool
) -> None:
    """Every shape of NAT, protocol, tolerance and remote end: 0 differences."""
    _, network = logged(tmp_path / "log", squeezed, covered=covered, stamped=stamped)
    asked = holders.questions(7, network, 1000, HOURS)
    answers = answer_many([str(tmp_path / "log")], list(map(who_query, asked)), NOW)
    several = proved = 0
    for question, answer in zip(asked, answers, strict=True):
        wanted = sorted((flow.facts for flow in network if holders.holds(flow, question)), key=repr)
        found = [facts for table in answer.tables for facts in holders.facts_of(table)]
        assert sorted(found, key=repr) == wanted, question
        several += len(wanted) > 1
        is_covered = question.since >= T and question.until <= T + HOURS * HOUR - 1
        good = (Completeness.COMPLETE if covered else Completeness.VERSION_1_0,)
        assert (answer.verdict.completeness in good) == is_covered, question
        proved += is_covered
    assert several > 100
    assert 500 < proved < 1000
