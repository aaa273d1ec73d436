"""Open flows in bounded memory and time: what happens at the bounds.  `test_pairing` compares the
result with a slow pairing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ctrecorder import spill, uapi
from ctrecorder.columns import Event, Table, bits
from ctrecorder.connections import open_flows
from ctrecorder.connections.open_flows import Memory
from ctrecorder.connections.pairing import Pairer
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
    snapshot = open_flows._Core.snapshot

    def counted(core: open_flows._Core, begin: int, end: int) -> Iterator[Table]:
        passes.append(begin)
        return snapshot(core, begin, end)

    monkeypatch.setattr(open_flows._Core, "snapshot", counted)
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
