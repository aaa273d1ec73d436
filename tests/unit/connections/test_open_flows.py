"""Open flows in bounded memory and time: what happens at the bounds.  `test_pairing` compares the
result with a slow pairing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ctrecorder import spill, uapi
from ctrecorder.columns import Event, Table, bits
from ctrecorder.connections import core, open_flows
from ctrecorder.connections.late_dumps import Dump
from ctrecorder.connections.open_flows import Memory
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.parts import Parts
from tests.support.slow_pairing import SECOND, T


def news(first: int, count: int, *, alike: bool = False) -> Table:
    """NEW events, a second apart; `alike`: of one key, without an id, as in a stranger's file."""
    columns = {
        "time": T + np.arange(first, first + count) * SECOND,
        "event": np.full(count, Event.NEW, np.uint8),
        "l4proto": np.full(count, 6, np.uint8),
        "id": np.arange(first, first + count, dtype=np.uint32) * np.uint32(0 if alike else 1),
    }
    present = bits(["time", "l4proto"] if alike else ["time", "l4proto", "id"])
    return Table(uapi.AF_INET, count, {**columns, "present": np.full(count, present, np.uint32)})


def small(monkeypatch: pytest.MonkeyPatch, **sizes: int) -> None:
    for name, size in sizes.items():
        monkeypatch.setattr(open_flows, name, size)


@pytest.mark.parametrize("alike", [False, True])
def test_too_many_are_given_up_as_open_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    small(monkeypatch, BATCH_ROWS=10, MAX_OPEN=10, HELD_ROWS=50, _MAX_DEPTH=1)
    pairer, done = Pairer(memory=Memory(spill.Store)), []
    for first in range(0, 1000, 50):
        done += pairer.feed(news(first, 50, alike=alike))
    before = sum(map(len, done))
    assert before > 300
    done += pairer.finish()
    starts = np.concatenate([table["start"] for table in done])
    assert sorted(starts) == [T + number * SECOND for number in range(1000)]
    assert not any(table["end"].any() for table in done)
    # The oldest are given up first.
    given = np.concatenate([table["start"] for table in done])[:before]
    assert not alike or given.max() < T + 1000 * SECOND - 5 * SECOND


def test_rows_in_memory_are_bounded_over_all_pairers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder of many small recordings has them."""
    small(monkeypatch, HELD_ROWS=500)
    memory = Memory(spill.Store)
    pairers = [Pairer(memory=memory) for _ in range(50)]
    for pairer in pairers:
        assert pairer.feed(news(0, 100)) == []
        assert memory._total <= 500
    for pairer in pairers:
        assert pairer.earliest() == T
        assert sum(map(len, pairer.finish())) == 100
    assert memory._total == 0


def test_dumps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but dumps would be a pass over all open flows for each."""
    small(monkeypatch, _FREE_ROWS=0, _ROWS_FOR_DUMPS=3)
    passes = []
    snapshot = core.Core.snapshot

    def counted(part: core.Core, begin: int, end: int) -> Iterator[Table]:
        passes.append(begin)
        return snapshot(part, begin, end)

    monkeypatch.setattr(core.Core, "snapshot", counted)
    pairer = Pairer()
    pairer.feed(news(0, 100))
    for number in range(1000):
        # Each begins after one more flow.
        assert list(pairer.snapshot(T + number * SECOND + 1, T + number * SECOND + 2)) == []
    assert len(passes) == 3
    done = list(pairer.finish())
    assert sum(map(len, done)) == 100


def test_a_dump_after_which_every_flow_was_seen_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError

    pairer = Pairer()
    pairer.feed(news(0, 100))
    monkeypatch.setattr(open_flows._Part, "_pair", refused)
    assert list(pairer.snapshot(T, T + 1)) == []


def test_dumps_wait_and_only_the_flows_that_they_lack_are_paired_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100 flows are in each of 50 dumps, one is missing from the 20th on."""
    paired = []
    pair = core.Core.pair

    def counted(part: core.Core, batch: Parts, dumps: list[Dump]) -> Iterator[Table]:
        paired.append(len(batch.table))
        return pair(part, batch, dumps)

    monkeypatch.setattr(core.Core, "pair", counted)
    pairer, done = Pairer(), []
    done += pairer.feed(news(0, 101))
    for number in range(1, 51):
        begin = T + (1000 + 600 * number) * SECOND
        rows = news(0, 101 if number < 20 else 100)
        listed = {"event": np.full(len(rows), Event.EXISTING, np.uint8)}
        listed["time"] = np.full(len(rows), begin)
        done += pairer.feed(Table(rows.family, len(rows), {**rows.columns, **listed}))
        done += pairer.snapshot(begin, begin + 1)
    assert paired == []
    done += pairer.settle()
    # All rows at once; then those of the flow that vanished, before and after the two dumps that
    # change it.
    assert paired[0] == 101 + 19 * 101 + 31 * 100
    assert sum(paired[1:]) == 20
    assert len(paired) <= 4
    (ended,) = [table for table in done if len(table)]
    assert list(ended["id"]) == [100]
    assert list(ended["end"]) == [T + (1000 + 600 * 20) * SECOND + 1]
    assert sum(map(len, pairer.finish())) == 100


def test_after_so_many_dumps_what_ended_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who prints as it reads waits no longer than for these."""
    small(monkeypatch, _MAX_DUMPS=3)
    pairer = Pairer()
    pairer.feed(news(0, 5))
    given = []
    for number in range(1, 4):
        begin = T + 3600 * number * SECOND
        given.append(sum(map(len, pairer.snapshot(begin, begin + 1))))
    assert given == [0, 0, 5]


def test_dumps_out_of_order_wait_not_together() -> None:
    """The clock was set back between them: each is judged by itself."""
    pairer, done = Pairer(), list[Table]()
    pairer.feed(news(0, 5))
    for begin in (T + 7200 * SECOND, T + 3600 * SECOND):
        done += pairer.snapshot(begin, begin + 1)
    done += pairer.settle()
    assert sum(map(len, done)) == 5
    assert {int(end) for table in done for end in table["end"]} == {T + 7200 * SECOND + 1}
