"""Proofs of silent loss: each exclusion by name, and against a slow model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrecorder import spill, times
from ctrecorder.columns import Source, Table, bit
from ctrecorder.connections import flowkey, parts
from ctrecorder.connections import unheard as module
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.proof import Proof
from ctrecorder.connections.unheard import NEAR_NS, QUEUED_NS, Dump, Unheard
from tests.support.slow_pairing import (
    DESTROY,
    EXISTING,
    NEW,
    SECOND,
    UPDATE,
    V4,
    V6,
    Gap,
    Row,
    T,
    row,
    table,
)

UDP, TCP, CLASH = 17, 6, 0x1000
BEGAN = T + 30 * SECOND
FIRST, SECOND_DUMP = Dump(T, T + SECOND), Dump(T + 60 * SECOND, T + 61 * SECOND)
# Flows that began between the two dumps: one that is in the second, one that ended before it.
SHOWN = row(EXISTING, T + 60 * SECOND + 5, start=BEGAN, status=6)
ENDED = row(DESTROY, T + 40 * SECOND, id=8, start=BEGAN, stop=T + 39 * SECOND, status=0x206)
OF_SHOWN = OF_ENDED = Proof(T, T + 61 * SECOND, V4, (UDP,), 1)


@dataclass(frozen=True)
class Log:
    """What a recording contains."""

    rows: Sequence[Row]
    dumps: Sequence[Dump] = (FIRST, SECOND_DUMP)
    gaps: Sequence[Gap] = ()
    steps: Sequence[tuple[int, int]] = ()
    watermark: int = T + 100 * SECOND

    def proofs(self) -> list[Proof]:
        unheard = Unheard()
        pairer = Pairer(unheard.add_repeats)
        pairer.add_gaps(self.gaps)
        for gap in self.gaps:
            unheard.add_gap(*gap)
        for step in self.steps:
            unheard.add_step(*step)
        done: list[Table] = []
        marks = list(self.dumps)

        def end(dump: Dump) -> None:
            unheard.add_dump(dump)
            done.extend(pairer.snapshot(dump.begin, dump.end) if dump.complete else [])

        for each in self.rows:
            while marks and marks[0].end < each["time"]:
                end(marks.pop(0))
            events = table([each])
            unheard.add_events(events)
            done += pairer.feed(events)
        for dump in marks:
            end(dump)
        for connections in [*done, *pairer.finish()]:
            unheard.add_connections(connections)
        found = unheard.proofs(self.watermark)
        assert found == unheard.proofs(self.watermark)
        return found


@pytest.mark.parametrize("shown", [SHOWN, ENDED])
def test_a_flow_that_began_between_two_dumps_and_has_no_new_is_a_proof(shown: Row) -> None:
    assert Log([shown]).proofs() == [OF_SHOWN]


def test_a_new_makes_it_no_proof() -> None:
    for shown in (SHOWN, ENDED):
        assert Log([row(NEW, BEGAN, id=shown["id"]), shown]).proofs() == []


def test_all_of_a_window_are_one_proof_for_each_family() -> None:
    six = row(EXISTING, T + 60 * SECOND, start=BEGAN + 1, status=6, family=V6, l4proto=TCP)
    tcp = {**SHOWN, "l4proto": TCP}
    late = T + 70 * SECOND
    alone = row(DESTROY, late + 9, id=10, start=late, stop=late + 1, status=6)
    assert Log([ENDED, SHOWN, six, tcp, alone]).proofs() == [
        Proof(T, T + 61 * SECOND, V4, (TCP, UDP), 3),
        Proof(T, T + 61 * SECOND, V6, (TCP,), 1),
        Proof(T + 60 * SECOND, T + 100 * SECOND, V4, (UDP,), 1),
    ]


def test_a_flow_that_a_later_dump_ended_is_a_proof() -> None:
    """Of a kernel that reports nothing, a DESTROY does not come either."""
    third = Dump(T + 80 * SECOND, T + 81 * SECOND)
    assert Log([SHOWN], [FIRST, SECOND_DUMP, third], watermark=T + 300 * SECOND).proofs() == [
        OF_SHOWN
    ]


@pytest.mark.parametrize("shown", [SHOWN, ENDED], ids=["shown", "ended"])
@pytest.mark.parametrize(
    ("changed", "proved"),
    [
        ({"dumps": []}, False),
        ({"dumps": [SECOND_DUMP]}, False),
        # An incomplete dump on either side.
        ({"dumps": [FIRST._replace(complete=False), SECOND_DUMP]}, False),
        ({"dumps": [FIRST, SECOND_DUMP._replace(complete=False)]}, False),
        ({"dumps": [FIRST, Dump(T + 50 * SECOND, T + 51 * SECOND, False), SECOND_DUMP]}, False),
        # What filters leave out.
        ({"dumps": [FIRST._replace(protocols=frozenset((UDP, 1))), SECOND_DUMP]}, True),
        ({"dumps": [FIRST._replace(protocols=frozenset((TCP,))), SECOND_DUMP]}, False),
        ({"dumps": [FIRST, SECOND_DUMP._replace(protocols=frozenset((TCP,)))]}, False),
        ({"dumps": [FIRST._replace(nat_only=True), SECOND_DUMP]}, False),
        ({"dumps": [FIRST, SECOND_DUMP._replace(nat_only=True)]}, False),
        # GAPs.
        ({"gaps": [(BEGAN, BEGAN, None)]}, False),
        ({"gaps": [(T + 2 * SECOND, times.END, None)]}, False),
        ({"gaps": [(BEGAN - 9 * SECOND, BEGAN - NEAR_NS, None)]}, False),
        ({"gaps": [(BEGAN - 9 * SECOND, BEGAN - NEAR_NS - 1, None)]}, True),
        ({"gaps": [(BEGAN + NEAR_NS, BEGAN + 3 * SECOND, V4)]}, False),
        ({"gaps": [(BEGAN + NEAR_NS + 1, BEGAN + 3 * SECOND, V4)]}, True),
        ({"gaps": [(BEGAN, BEGAN, V6)]}, True),
        # A step of the clock, or a suspend, anywhere between the dumps.
        ({"steps": [(T + 5 * SECOND, T + 4 * SECOND)]}, False),
        ({"steps": [(T + 55 * SECOND, T + 56 * SECOND)]}, False),
        ({"steps": [(T - 9 * SECOND, T - NEAR_NS - 1)]}, True),
        ({"steps": [(T + 63 * SECOND, T + 64 * SECOND)]}, True),
        # Its NEW may still be queued.
        ({"watermark": T + 61 * SECOND + QUEUED_NS}, True),
        ({"watermark": T + 61 * SECOND + QUEUED_NS - 1}, False),
    ],
)
def test_what_can_be_explained_is_no_proof(
    shown: Row, changed: dict[str, Any], proved: bool
) -> None:
    assert Log([shown], **changed).proofs() == [OF_SHOWN] * proved


@pytest.mark.parametrize("shown", [SHOWN, ENDED], ids=["shown", "ended"])
@pytest.mark.parametrize(
    ("changed", "proved"),
    [
        ({"start": T + SECOND + NEAR_NS + 1}, True),
        ({"start": T + SECOND + NEAR_NS}, False),
        ({"start": T - 1}, False),
        ({"start": 0}, False),
        ({"status": CLASH | 6}, False),
    ],
)
def test_of_a_flow_that_proves_nothing(shown: Row, changed: dict[str, int], proved: bool) -> None:
    assert Log([{**shown, **changed}]).proofs() == [OF_SHOWN] * proved
    translated = {**shown, **changed, "status": shown["status"] | changed.get("status", 0) | 0x10}
    dumps = [FIRST._replace(nat_only=True), SECOND_DUMP]
    assert Log([translated], dumps).proofs() == [OF_SHOWN] * proved


def test_without_kernel_start_or_status_nothing_is_proved() -> None:
    for shown in (SHOWN, ENDED):
        for name in ("start", "status"):
            assert Log([{**shown, "present": shown["present"] & ~bit(name)}]).proofs() == []


def test_a_destroy_without_a_later_dump_waits_for_the_watermark() -> None:
    proof = Proof(T, T + 40 * SECOND + QUEUED_NS, V4, (UDP,), 1)
    end = {**ENDED, "stop": T + 40 * SECOND}
    assert Log([end], [FIRST], watermark=proof.until).proofs() == [proof]
    assert Log([end], [FIRST], watermark=proof.until - 1).proofs() == []
    assert Log([SHOWN], [FIRST]).proofs() == []  # it is of a dump that was not finished


def test_a_destroy_that_overtook_its_new_is_no_proof() -> None:
    assert Log([ENDED, row(NEW, T + 40 * SECOND, id=8)]).proofs() == []
    # Another flow of the key, which ended before, changes nothing.
    assert Log([row(NEW, T + 5 * SECOND, id=8), ENDED]).proofs() == [OF_ENDED]


@pytest.mark.parametrize("ends", [False, True])
def test_a_new_that_is_late_is_no_proof(ends: bool) -> None:
    """The recorder was stopped: the event came long after the row of the dump."""
    late = T + 90 * SECOND
    rows = [SHOWN, row(NEW, late)]
    if ends:
        rows.append(row(DESTROY, late + 5, start=BEGAN, stop=late, status=0x206))
    assert Log(rows, watermark=T + 300 * SECOND).proofs() == []


def test_a_row_of_a_dump_long_after_the_destroy_is_no_proof() -> None:
    rows = [row(NEW, BEGAN), {**ENDED, "id": 7}, {**SHOWN, "time": T + 60 * SECOND + 9}]
    assert Log(rows).proofs() == []


def test_a_destroy_is_no_proof_where_events_came_again() -> None:
    again = [row(NEW, T + 20 * SECOND, id=99), row(NEW, T + 21 * SECOND, id=99)]
    assert Log([*again, ENDED]).proofs() == []
    assert Log([*again, SHOWN]).proofs() == [OF_SHOWN]


def test_a_start_after_the_row_shows_a_clock_step() -> None:
    """The flow is older than the recording: the clock was set back before it began."""
    old = {**SHOWN, "time": T + 5}
    assert Log([old, SHOWN]).proofs() == []


def test_a_dump_that_began_before_the_first_ended_proves_nothing() -> None:
    assert Log([SHOWN], [Dump(T, T + SECOND), Dump(T, T + 61 * SECOND)]).proofs() == []


def test_a_key_hashes_alike_in_every_table() -> None:
    """A table has the columns of zones if any of its rows has a zone."""
    for family in (V4, V6):
        one = row(NEW, T, family=family)
        zoned = [one, {**one, "zone": 4}, {**one, "orig_zone": 4}, {**one, "reply_zone": 4}]
        first, *others = [int(each) for each in flowkey.hashes(table(zoned))]
        assert flowkey.hashes(table([one])).tolist() == [first]
        assert len({first, *others}) == 4


@dataclass
class Made:
    """Connections of a random log."""

    dumps: list[Dump]
    gaps: list[Gap]
    steps: list[tuple[int, int]]
    connections: list[dict[str, int]] = field(default_factory=list)
    watermark: int = T


def may_prove(made: Made, one: dict[str, int]) -> bool:
    """Whether a connection is one that can prove a loss, in the right window."""
    start = one["start"]
    if one["seen"] & parts.NEW or not one["seen"] & (parts.DESTROY | parts.EXISTING):
        return False
    if one["start_source"] != Source.KERNEL or one["status"] & CLASH:
        return False
    if one["end_source"] == Source.BOUND and not any(
        dump.complete and dump.end == one["end"] for dump in made.dumps
    ):
        return False
    near_gap = any(
        begin - NEAR_NS <= start <= end + NEAR_NS and of in (None, one["family"])
        for begin, end, of in made.gaps
    )
    has_new = any(
        (other["family"], other["id"]) == (one["family"], one["id"])
        and other["seen"] & parts.NEW
        and not other["seen"] & parts.DESTROY
        and other["start"] >= start - NEAR_NS
        for other in made.connections
    )
    return not near_gap and not has_new


def proves(made: Made, one: dict[str, int], first: Dump, second: Dump | None) -> bool:
    """Whether a connection that may prove a loss does so between two dumps."""
    until = second.end if second else made.watermark
    if not first.complete or not first.end + NEAR_NS < one["start"] <= until:
        return False
    if second is None:
        if not one["seen"] & parts.DESTROY or one["end"] + QUEUED_NS > made.watermark:
            return False
    elif not second.complete or second.begin < first.end or until + QUEUED_NS > made.watermark:
        return False
    if any(b - NEAR_NS <= until and e + NEAR_NS >= first.begin for b, e in made.steps):
        return False
    return all(
        (not dump.protocols or one["l4proto"] in dump.protocols)
        and (not dump.nat_only or one["status"] & 0x30)
        for dump in (first, second or first)
    )


def slow(made: Made) -> list[Proof]:
    """The rules, a connection and a pair of dumps at a time."""
    counts: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for one in made.connections:
        for first, second in zip(made.dumps, [*made.dumps[1:], None], strict=False):
            if may_prove(made, one) and proves(made, one, first, second):
                until = second.end if second else made.watermark
                counts[first.begin, until, one["family"]].append(one["l4proto"])
    return sorted(
        Proof(*window, tuple(sorted(set(protocols))), len(protocols))
        for window, protocols in counts.items()
    )


_TIME = st.integers(0, 80).map(lambda half: T + half * SECOND // 2)
_SPAN = st.tuples(_TIME, st.integers(0, 6)).map(lambda at: (at[0], at[0] + at[1] * SECOND // 2))
_DUMP = st.tuples(
    st.booleans() | st.just(True),
    st.sampled_from((frozenset[int](), frozenset[int](), frozenset((UDP,)))),
    st.sampled_from((False, False, True)),
)
_DUMPS = st.lists(st.tuples(_TIME, _DUMP), max_size=4).map(
    lambda found: [
        Dump(begin, begin + SECOND, *dump) for begin, dump in sorted(found, key=lambda one: one[0])
    ]
)
_CONNECTION = st.fixed_dictionaries(
    {
        "family": st.sampled_from((V4, V6)),
        "id": st.integers(1, 6),
        "l4proto": st.sampled_from((UDP, TCP)),
        "start": _TIME,
        "end": _TIME,
        "start_source": st.sampled_from((Source.KERNEL, Source.KERNEL, Source.KERNEL, 2, 3)),
        "end_source": st.sampled_from((0, 1, 3)),
        "seen": st.sampled_from((4, 8, 8, 12, 2, 1, 5, 9)),
        "status": st.sampled_from((6, 6, 0x16, 0x1006)),
    }
)


@pytest.mark.slow
@settings(max_examples=2 * settings().max_examples)
@given(
    _DUMPS,
    st.lists(st.tuples(_SPAN, st.sampled_from((None, V4, V6))), max_size=2),
    st.lists(_SPAN, max_size=1),
    st.lists(_CONNECTION, max_size=12),
    _TIME,
)
def test_like_the_slow_model(
    dumps: list[Dump],
    gaps: list[tuple[tuple[int, int], int | None]],
    steps: list[tuple[int, int]],
    connections: list[dict[str, int]],
    watermark: int,
) -> None:
    made = Made(dumps, [(*span, of) for span, of in gaps], steps, connections)
    made = replace(made, watermark=watermark + 20 * SECOND)
    for each in connections:
        # One key for each id: l4proto is one of its columns.
        each["l4proto"] = UDP if each["id"] % 2 else TCP
    expected = slow(made)
    assert fed(Unheard(), made, connections).proofs(made.watermark) == expected
    with pytest.MonkeyPatch.context() as patch:  # each two connections go to a file
        patch.setattr(module, "_HELD_NEWS", 2)
        spilled = fed(Unheard(spill.Store), made, connections)
    assert spilled.proofs(made.watermark) == expected


def fed(unheard: Unheard, made: Made, connections: list[dict[str, int]]) -> Unheard:
    for dump in made.dumps:
        unheard.add_dump(dump)
    for gap in made.gaps:
        unheard.add_gap(*gap)
    for step in made.steps:
        unheard.add_step(*step)
    for each in connections:
        whole: Row = {**each, "present": bit("id") | bit("status")}
        unheard.add_connections(table([whole]))
    return unheard


def test_updates_alone_prove_nothing() -> None:
    assert Log([row(UPDATE, T + 60 * SECOND, start=BEGAN, status=6)]).proofs() == []
