"""The recorder's sample: each exclusion by name, against exact pairing, and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.columns import Array, Table, bit
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.proof import Proof
from ctrecorder.connections.unheard import NEAR_NS, QUEUED_NS, Dump, Unheard
from ctrecorder.ctlog.frame import Gap
from ctrecorder.record.sample import FlowSample
from tests.support.slow_pairing import DESTROY, EXISTING, NEW, SECOND, V4, V6, Row, T, row, table

UDP, TCP, CLASH = 17, 6, 0x1000
BEGAN, END = T + 30 * SECOND, T + 61 * SECOND
SHOWN = row(EXISTING, T + 60 * SECOND + 5, id=64, start=BEGAN, status=6)
ENDED = row(DESTROY, T + 40 * SECOND, id=128, start=BEGAN, stop=T + 39 * SECOND, status=0x206)
PROOF = Proof(T, END, V4, (UDP,), 1)


@dataclass
class Recorder:
    """What a recorder tells its sample, in order of time."""

    rows: Sequence[Row]
    dumps: Sequence[Dump] = (Dump(T, T + SECOND), Dump(T + 60 * SECOND, END))
    gaps: Sequence[Gap] = ()
    lasting: Sequence[Gap] = ()
    steps: Sequence[tuple[int, int]] = ()
    watermark: int = T + 100 * SECOND
    cuts: Sequence[int] = ()  # where a table ends and the next begins

    def proofs(self, sample: FlowSample | None = None) -> list[Proof]:
        sample = sample or FlowSample()
        told: list[tuple[int, Any]] = [(each["time"], each) for each in self.rows]
        told += [(dump.end, dump) for dump in self.dumps]
        told += [(gap.end, gap) for gap in self.gaps]
        told += [(max(step), step) for step in self.steps]
        found, waiting = [], list[Row]()

        def take() -> None:
            for family in (V4, V6):
                if rows := [each for each in waiting if each["family"] == family]:
                    sample.take(table(rows))
            waiting.clear()

        for number, (_, each) in enumerate(sorted(told, key=lambda one: one[0])):
            if isinstance(each, dict):
                waiting.append(each)
                if number in self.cuts:
                    take()
                continue
            take()
            if isinstance(each, Dump):
                found += sample.proofs(each.begin, self.lasting)
                sample.add_dump(each.begin, each.end, complete=each.complete)
            elif isinstance(each, Gap):
                sample.add_gap(each)
            else:
                sample.add_step(min(each), max(each))
        take()
        return found + sample.proofs(self.watermark, self.lasting)


def gap(begin: int, end: int, reason: str = "overrun", **facts: Any) -> Gap:
    return Gap(begin, end, reason, None, "", facts)


FIRST, SECOND_DUMP = Recorder([]).dumps


@pytest.mark.parametrize("shown", [SHOWN, ENDED], ids=["shown", "ended"])
@pytest.mark.parametrize(
    ("changed", "proved"),
    [
        ({}, True),
        ({"dumps": [SECOND_DUMP]}, False),
        # An incomplete dump on either side.
        ({"dumps": [FIRST._replace(complete=False), SECOND_DUMP]}, False),
        ({"dumps": [FIRST, SECOND_DUMP._replace(complete=False)]}, False),
        ({"dumps": [FIRST, Dump(T + 45 * SECOND, T + 46 * SECOND, False), SECOND_DUMP]}, False),
        # GAPs, also one that has not ended.
        ({"gaps": [gap(BEGAN, BEGAN)]}, False),
        ({"gaps": [gap(T + 2 * SECOND, BEGAN - NEAR_NS)]}, False),
        ({"gaps": [gap(T + 2 * SECOND, BEGAN - NEAR_NS - 1)]}, True),
        ({"gaps": [gap(BEGAN + NEAR_NS, BEGAN + 3 * SECOND, family=V4)]}, False),
        ({"gaps": [gap(BEGAN, BEGAN + 3 * SECOND, family=V6)]}, True),
        ({"gaps": [gap(BEGAN, BEGAN, "notrack")]}, True),
        ({"lasting": [gap(T, T + 2 * SECOND, "no-events", open=True)]}, False),
        ({"lasting": [gap(T, T + 2 * SECOND, "not-tracked", open=True, family=V6)]}, True),
        ({"lasting": [gap(T, T + 2 * SECOND, "notrack", open=True)]}, True),
        # A step of the clock or a suspend between the dumps; it touches the second one.
        ({"steps": [(T + 5 * SECOND, T + 4 * SECOND)]}, False),
        ({"steps": [(T + 55 * SECOND, T + 56 * SECOND)]}, False),
        # Its NEW may still be queued.
        ({"watermark": END + QUEUED_NS}, True),
        ({"watermark": END + QUEUED_NS - 1}, False),
    ],
)
def test_what_can_be_explained_is_no_proof(
    shown: Row, changed: dict[str, Any], proved: bool
) -> None:
    assert Recorder([shown], **changed).proofs() == [PROOF] * proved


@pytest.mark.parametrize("shown", [SHOWN, ENDED], ids=["shown", "ended"])
@pytest.mark.parametrize(
    ("changed", "proved"),
    [
        ({"start": T + SECOND + NEAR_NS + 1}, True),
        ({"start": T + SECOND + NEAR_NS}, False),
        ({"start": 0}, False),
        ({"status": CLASH | 6}, False),
        ({"present": bit("id") | bit("start")}, False),
        ({"present": bit("status") | bit("start"), "id": 0}, False),
        ({"present": bit("id") | bit("status")}, False),
        ({"id": 65}, False),
    ],
)
def test_of_a_flow_that_proves_nothing(shown: Row, changed: dict[str, int], proved: bool) -> None:
    assert Recorder([{**shown, **changed}]).proofs() == [PROOF] * proved


@pytest.mark.parametrize("late", [0, 35 * SECOND])
def test_a_new_makes_it_no_proof(late: int) -> None:
    """Also one that came after the dump, and one before a DESTROY that came again."""
    for shown in (SHOWN, ENDED):
        heard = row(NEW, BEGAN + late, id=shown["id"])
        assert Recorder([heard, shown]).proofs() == []
        other = row(NEW, BEGAN + late, id=shown["id"], orig_sport=7)
        assert Recorder([other, shown]).proofs() == [PROOF]
    assert Recorder([row(NEW, BEGAN, id=128), ENDED, ENDED, SHOWN]).proofs() == [PROOF]


def test_ids_that_are_no_hashes_end_the_sample() -> None:
    sample = FlowSample(1 << 10)
    sample.add_dump(T, T + SECOND, complete=True)
    for second in range(5):
        news = [row(NEW, T + second, id=0, orig_sport=port) for port in range(1024)]
        sample.take(table(news))
        assert sample.nbytes <= 1 << 10
    sample.take(table([SHOWN]))
    sample.add_dump(T + 60 * SECOND, END, complete=True)
    assert sample.proofs(END + QUEUED_NS, []) == []


def test_a_dump_that_began_before_the_first_ended_begins_anew() -> None:
    dumps = [FIRST, Dump(T, END)]
    assert Recorder([SHOWN], dumps).proofs() == []


def test_a_suspend_begins_anew() -> None:
    """The watermark goes on by it, though nothing was received: a NEW may still be queued."""
    step = T + 64 * SECOND, T + 90 * SECOND
    assert Recorder([SHOWN], steps=[step], watermark=T + 91 * SECOND).proofs() == []


def test_each_flow_is_counted_once() -> None:
    ends = {**ENDED, "id": 64, "time": T + 62 * SECOND, "stop": T + 62 * SECOND}
    assert Recorder([SHOWN, SHOWN, ends]).proofs() == [PROOF]
    six = {**SHOWN, "family": V6, "l4proto": TCP}
    assert Recorder([SHOWN, ENDED, six]).proofs() == [
        PROOF._replace(at_least=2),
        PROOF._replace(family=V6, protocols=(TCP,)),
    ]


def test_the_next_window_begins_with_the_second_dump() -> None:
    """What came between the dump and the decision belongs to it."""
    third = Dump(T + 120 * SECOND, T + 121 * SECOND)
    start, now = T + 64 * SECOND, T + 120 * SECOND + 5
    heard = [row(NEW, start, id=64), row(EXISTING, now, id=64, start=start, status=6)]
    lost = [row(DESTROY, start + SECOND, id=128, start=start, stop=start, status=6)]
    dumps = [FIRST, SECOND_DUMP, third]
    found = Recorder([*heard, *lost], dumps, watermark=T + 200 * SECOND).proofs()
    assert found == [Proof(T + 60 * SECOND, third.end, V4, (UDP,), 1)]


def test_a_dump_right_after_another_takes_its_place() -> None:
    third = Dump(T + 63 * SECOND, T + 64 * SECOND)
    rows = [SHOWN, row(NEW, T + 62 * SECOND, id=128), {**ENDED, "time": T + 63 * SECOND}]
    assert Recorder(rows, [FIRST, SECOND_DUMP, third]).proofs() == [
        Proof(T, third.end, V4, (UDP,), 1)
    ]


@pytest.mark.parametrize("seen", [True, False])
def test_a_clock_that_was_set_back_before_the_recorder_began(seen: bool) -> None:
    """The flow is older than the recording, and looks younger."""
    rows = [{**SHOWN, "time": T + 5}] if seen else []
    assert Recorder([*rows, SHOWN]).proofs() == ([] if seen else [PROOF])


_TIMES = st.integers(0, 90).map(lambda second: T + second * SECOND)


@st.composite
def _rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        event = draw(st.sampled_from((NEW, NEW, DESTROY, EXISTING)))
        known = {"id": 64 * draw(st.integers(1, 3)), "family": draw(st.sampled_from((V4, V4, V6)))}
        if event != NEW:
            known |= {"start": draw(_TIMES), "status": draw(st.sampled_from((6, 6, 0x1006)))}
        rows.append(row(event, draw(_TIMES), **known))
    return rows


_DUMPS = st.lists(st.tuples(_TIMES, st.sampled_from((True, True, False))), max_size=4).map(
    lambda found: [Dump(begin, begin + SECOND, complete) for begin, complete in sorted(found)]
)
_GAPS = st.lists(
    st.builds(
        lambda begin, of: gap(begin, begin + 3 * SECOND, **({"family": of} if of else {})),
        _TIMES,
        st.sampled_from((None, V4)),
    ),
    max_size=2,
)


def exact(recorder: Recorder) -> list[Proof]:
    """What exact pairing proves."""
    unheard, pairer, done = Unheard(), Pairer(), list[Table]()
    for each in recorder.gaps:
        unheard.add_gap(each.begin, each.end, each.facts.get("family"))
    dumps = list(recorder.dumps)
    for row_ in [*sorted(recorder.rows, key=lambda one: one["time"]), None]:
        while dumps and (row_ is None or dumps[0].end < row_["time"]):
            dump = dumps.pop(0)
            unheard.add_dump(dump)
            done += pairer.snapshot(dump.begin, dump.end) if dump.complete else []
        if row_ is not None:
            unheard.add_events(table([row_]))
            done += pairer.feed(table([row_]))
    for connections in [*done, *pairer.finish()]:
        unheard.add_connections(connections)
    return unheard.proofs(recorder.watermark)


_APART = st.tuples(st.integers(0, 20), st.integers(30, 40), st.integers(60, 80)).map(
    lambda seconds: [Dump(T + each * SECOND, T + (each + 1) * SECOND) for each in seconds]
)


@given(_rows(), _APART, _GAPS)
def test_it_proves_nothing_that_exact_pairing_does_not(
    rows: list[Row], dumps: list[Dump], gaps: list[Gap]
) -> None:
    recorder = Recorder(rows, dumps, gaps)
    exactly = {one[:3]: one.at_least for one in exact(recorder)}
    for proof in recorder.proofs():
        assert exactly.get(proof[:3], 0) >= proof.at_least


@given(_rows(), _DUMPS, _GAPS, st.sets(st.integers(0, 9)))
def test_neither_cuts_nor_order_of_families_matter(
    rows: list[Row], dumps: list[Dump], gaps: list[Gap], cuts: set[int]
) -> None:
    whole = Recorder(rows, dumps, gaps).proofs()
    assert Recorder(rows, dumps, gaps, cuts=sorted(cuts)).proofs() == whole
    swapped = sorted(rows, key=lambda one: -int(one["family"]))
    assert Recorder(swapped, dumps, gaps).proofs() == whole


def test_it_stays_within_its_memory_and_still_finds() -> None:
    """A flood of a million flows that end later: one in 8,192 is never reported."""
    sample, limit = FlowSample(64 << 10), 64 << 10
    sample.add_dump(T, T + SECOND, complete=True)
    greatest, lost, rows = 0, 0, 1 << 14
    for event in (NEW, DESTROY):
        for first in range(0, 1 << 20, rows):
            ids = np.arange(first, first + rows, dtype=np.uint32)
            columns: dict[str, Array] = {
                "id": ids,
                "event": np.full(rows, event, np.uint8),
                "time": np.full(rows, BEGAN + SECOND),
                "start": np.full(rows, BEGAN if event == DESTROY else 0),
                "status": np.full(rows, 6, np.uint32),
                "l4proto": np.full(rows, UDP, np.uint8),
                "present": np.full(rows, bit("id") | bit("status") | bit("start"), np.uint32),
            }
            is_lost = (ids % 8192 == 0) & (event == NEW)
            lost += int(is_lost.sum())
            sample.take(Table(V4, rows, columns).take(np.flatnonzero(~is_lost)))
            greatest = max(greatest, sample.nbytes)
    assert lost == 128
    assert limit // 4 < greatest <= limit
    sample.add_dump(T + 60 * SECOND, END, complete=True)
    (proof,) = sample.proofs(END + QUEUED_NS, [])
    assert 16 <= proof.at_least <= lost
