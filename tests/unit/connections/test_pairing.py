"""Pairing against a slow pairing in plain Python, in any batches; and each case of it by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrecorder import spill, times
from ctrecorder.columns import BY_NAME, Source, Table, bit
from ctrecorder.connections import core, flowkey, grouping, late_dumps, open_flows
from ctrecorder.connections.open_flows import Memory
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.repeats import OVERTAKEN_NS
from tests.support.slow_pairing import (
    DESTROY,
    EXISTING,
    NEW,
    RESULT,
    SECOND,
    UPDATE,
    V4,
    V6,
    VALUES,
    Gap,
    Row,
    Step,
    T,
    row,
    rows_of,
    slow,
    table,
    traffic,
)
from tests.support.tables import ints


def fast(
    steps: list[Step],
    cuts: Set[int] = frozenset(),
    gaps: Sequence[Gap] = (),
    repeats: list[int] | None = None,
    memory: Memory | None = None,
) -> Counter[tuple[Any, ...]]:
    """The connections that the package finds.

    `cuts`: after how many rows a table ends; it also ends where the family changes.  `repeats`: the
    number of repeats is appended.
    """
    done: list[Table] = []
    pairer, count = Pairer(memory=memory), 0
    pairer.add_gaps(gaps)
    for step in steps:
        if isinstance(step, tuple):
            done += pairer.snapshot(*step)
            continue
        part: list[Row] = []
        for each in step:
            if part and (count in cuts or each["family"] != part[0]["family"]):
                done += pairer.feed(table(part))
                part = []
            part.append(each)
            count += 1
        if part:
            done += pairer.feed(table(part))
    done += pairer.finish()
    if repeats is not None:
        repeats.append(pairer.repeats)
    return rows_of(done)


def one(steps: list[Step]) -> dict[str, Any]:
    """The one connection of `steps`, which the slow pairing must find too."""
    found = fast(steps)
    assert found == slow(steps)
    assert found.total() == 1, found
    return dict(zip(("family", *RESULT), next(iter(found)), strict=True))


def spans(
    steps: list[Step], gaps: Sequence[Gap] = (), repeats: int = 0
) -> list[tuple[int, int, int, int]]:
    """(start, start_source, end, end_source) of all connections, sorted.

    The slow pairing must find the same, and both of them `repeats`.
    """
    counts: list[int] = []
    found = fast(steps, gaps=gaps, repeats=counts)
    assert found == slow(steps, gaps, repeats)
    assert counts == [repeats]
    # Each row in a table of its own, and a batch: the result is the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_flows, "BATCH_ROWS", 1)
        assert fast(steps, set(range(100)), gaps, counts) == found
    assert counts == [repeats] * 2
    place = 1 + RESULT.index("start")
    return sorted(each[place : place + 4] for each in found.elements())


def test_new_and_destroy_are_one_connection_with_times_of_receipt() -> None:
    found = one(
        [[row(NEW, T, status=0x100, tcp_state=1), row(DESTROY, T + 5, status=0x20E, orig_bytes=99)]]
    )
    assert (found["start"], found["start_source"], found["end"], found["end_source"]) == (
        T,
        2,
        T + 5,
        2,
    )
    assert (found["status"], found["orig_bytes"], found["tcp_state"], found["seen"]) == (
        0x20E,
        99,
        1,
        5,
    )
    assert found["present"] == bit("id") | bit("status") | bit("tcp_state") | bit("orig_bytes")


def test_the_kernels_times_win() -> None:
    found = one([[row(NEW, T), row(DESTROY, T + 50, start=T - 3, stop=T + 40)]])
    assert (found["start"], found["start_source"], found["end"], found["end_source"]) == (
        T - 3,
        1,
        T + 40,
        1,
    )


def test_equal_times_pair_by_order() -> None:
    assert (
        spans([[row(NEW, T), row(DESTROY, T), row(NEW, T), row(DESTROY, T)]]) == [(T, 2, T, 2)] * 2
    )


def test_the_same_id_and_tuple_twice_are_two() -> None:
    steps: list[Step] = [[row(NEW, T), row(DESTROY, T + 1), row(NEW, T + 2), row(DESTROY, T + 3)]]
    assert spans(steps) == [(T, 2, T + 1, 2), (T + 2, 2, T + 3, 2)]


@pytest.mark.parametrize("name", flowkey.KEY)
def test_every_part_of_the_key_tells_flows_apart(name: str) -> None:
    for family in (V4, V6):
        other = b"\x01" + bytes(15) if BY_NAME[name].kind == "addr" and family == V6 else 3
        steps: list[Step] = [
            [row(NEW, T, family=family), row(DESTROY, T + 1, family=family, **{name: other})]
        ]
        found = fast(steps)
        assert found == slow(steps)
        assert found.total() == 2


def test_a_last_byte_of_an_ipv6_address_tells_flows_apart() -> None:
    one, two = bytes(15) + b"\x01", bytes(15) + b"\x02"
    assert (
        fast(
            [[row(NEW, T, family=V6, orig_src=one), row(DESTROY, T + 1, family=V6, orig_src=two)]]
        ).total()
        == 2
    )


def test_a_lost_destroy_is_bounded_by_the_next_new() -> None:
    steps: list[Step] = [[row(NEW, T), row(NEW, T + 9), row(DESTROY, T + 20)]]
    assert spans(steps, [(T + 1, T + 2, None)]) == [(T, 2, T + 9, 3), (T + 9, 2, T + 20, 2)]


def test_a_lost_destroy_and_a_lost_new_do_not_make_one_long_connection() -> None:
    late = T + 3600 * SECOND
    steps: list[Step] = [[row(NEW, T), row(DESTROY, late + 9, start=late, stop=late + 5)]]
    assert spans(steps) == [(T, 2, late, 3), (late, 1, late + 5, 1)]


def test_a_destroy_alone_has_no_start_unless_the_kernel_told_it() -> None:
    assert spans([[row(DESTROY, T)]]) == [(0, 0, T, 2)]
    assert spans([[row(DESTROY, T, start=T - 9)]]) == [(T - 9, 1, T, 2)]


def test_a_flow_first_seen_in_a_dump_or_an_update_has_a_bound() -> None:
    assert spans([[row(EXISTING, T)]]) == [(T, 3, 0, 0)]
    assert spans([[row(EXISTING, T, start=T - 9)]]) == [(T - 9, 1, 0, 0)]
    assert spans([[row(UPDATE, T), row(DESTROY, T + 1)]]) == [(T, 3, T + 1, 2)]


def test_existing_refreshes_an_open_flow() -> None:
    found = one(
        [
            [
                row(NEW, T, status=1, mark=5),
                row(EXISTING, T + 9 * SECOND, status=6, orig_bytes=10, start=T - 1),
            ]
        ]
    )
    assert (
        found["status"],
        found["mark"],
        found["orig_bytes"],
        found["start"],
        found["start_source"],
    ) == (6, 5, 10, T - 1, 1)
    assert (found["end"], found["end_source"], found["seen"]) == (0, 0, 9)


def test_a_dump_bounds_what_it_lacks() -> None:
    steps: list[Step] = [[row(NEW, T)], [row(EXISTING, T + 5, id=8)], (T + 1, T + 6)]
    assert spans(steps) == [(T, 2, T + 6, 3), (T + 5, 3, 0, 0)]


def test_a_dump_says_nothing_of_flows_that_began_or_were_heard_of_in_it() -> None:
    assert spans([[row(NEW, T + 1)], (T + 1, T + 6)]) == [(T + 1, 2, 0, 0)]
    assert spans([[row(NEW, T), row(UPDATE, T + 2)], (T + 1, T + 6)]) == [(T, 2, 0, 0)]


def test_a_destroy_that_comes_after_the_dump_says_it_better() -> None:
    assert spans([[row(NEW, T)], (T + 1, T + 6), [row(DESTROY, T + 8)]]) == [(T, 2, T + 8, 2)]
    minute = 60 * SECOND
    again: Step = (T + minute, T + minute + 1)
    assert spans([[row(NEW, T)], (T + 1, T + 6), again, [row(DESTROY, T + 61 * SECOND)]]) == [
        (T, 2, T + 61 * SECOND, 2)
    ]


def test_a_vanished_flow_does_not_wait_for_ever() -> None:
    later = T + late_dumps.LATE_NS + 10 * SECOND
    pairer = Pairer()
    pairer.feed(table([row(NEW, T)]))
    assert list(pairer.snapshot(T + 1, T + 6)) == []
    ended = [*pairer.snapshot(later, later + 1), *pairer.settle()]
    assert rows_of(ended).total() == 1
    assert list(pairer.finish()) == []


def test_a_flow_that_vanished_and_is_there_after_all_is_open() -> None:
    assert spans([[row(NEW, T)], (T + 1, T + 6), [row(UPDATE, T + 8)]]) == [(T, 2, 0, 0)]


def test_a_stale_row_of_a_dump_makes_no_ghost() -> None:
    assert spans(
        [[row(NEW, T), row(DESTROY, T + 9), row(EXISTING, T + 10), row(EXISTING, T + 11)]]
    ) == [(T, 2, T + 9, 2)]
    assert spans(
        [[row(NEW, T), row(DESTROY, T + 9)], [row(EXISTING, T + 10)], (T + 8, T + 11)]
    ) == [(T, 2, T + 9, 2)]


def test_a_row_of_a_dump_long_after_a_destroy_is_a_new_flow() -> None:
    late = T + 9 + grouping.RACE_NS + 1
    steps: list[Step] = [
        [row(NEW, T), row(DESTROY, T + 9), row(EXISTING, late), row(EXISTING, late - 2)]
    ]
    assert spans(steps) == [(T, 2, T + 9, 2), (late, 3, 0, 0)]


def test_an_open_flow_is_not_stale_in_a_later_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_flows, "BATCH_ROWS", 1)
    late = T + 9 + grouping.RACE_NS + 1
    rows = [
        row(NEW, T),
        row(DESTROY, T + 9),
        row(EXISTING, late),
        row(EXISTING, late - 2),
        row(EXISTING, late + 5),
    ]
    assert spans([[each] for each in rows]) == [(T, 2, T + 9, 2), (late, 3, 0, 0)]


def test_another_kernel_start_is_no_stale_row() -> None:
    new, end = T + 3 * SECOND, T + 2 * SECOND
    steps: list[Step] = [
        [row(NEW, T), row(DESTROY, end, start=T, stop=end), row(EXISTING, new + 5, start=new)]
    ]
    assert spans(steps) == [(T, 1, end, 1), (new, 1, 0, 0)]


def test_a_new_that_a_dump_overtook_joins_its_flow() -> None:
    assert spans([[row(EXISTING, T), row(NEW, T + SECOND), row(DESTROY, T + 2 * SECOND)]]) == [
        (T + SECOND, 2, T + 2 * SECOND, 2)
    ]
    # The NEW of a flow that only a dump contained is no repeat: without an event of the flow, it is
    # not known that the kernel sends events of it.
    late = T + grouping.RACE_NS + 1
    assert spans([[row(EXISTING, T), row(NEW, late)]]) == [(T, 3, late, 3), (late, 2, 0, 0)]


def test_the_kernels_event_time_tells_a_new_flow_from_an_overtaken_one() -> None:
    exact = row(NEW, T + SECOND)
    exact["present"] |= bit("time")
    assert spans([[row(EXISTING, T), exact]]) == [(T, 3, T + SECOND, 3), (T + SECOND, 2, 0, 0)]


def test_connections_join_across_segments_that_were_paired_apart() -> None:
    """Three segments, paired alone, then joined: a flow open in all of them is one connection."""
    minute = 60 * SECOND
    segments: list[list[Row]] = [
        [row(NEW, T, status=1), row(NEW, T + 1, id=9)],
        [row(EXISTING, T + minute, mark=5), row(DESTROY, T + minute + 1, id=9)],
        [row(EXISTING, T + 2 * minute), row(DESTROY, T + 2 * minute + 1, status=0x20E)],
    ]
    pairer, parts = Pairer(), []
    for rows in segments:
        apart = Pairer()
        parts += [*apart.feed(table(rows)), *apart.finish()]
    done = [whole for part in parts for whole in pairer.feed(part)]
    found = rows_of([*done, *pairer.finish()])
    assert found == slow(list(segments))


def test_a_part_that_another_flow_ended_does_not_go_on() -> None:
    """The next flow of the key ended one without a DESTROY; a later DESTROY is of another flow."""
    apart, pairer = Pairer(), Pairer()
    gap = (T + 1, T + 2, None)
    apart.add_gaps([gap])
    apart.feed(table([row(NEW, T), row(NEW, T + 5), row(DESTROY, T + 9)]))
    done = [whole for part in apart.finish() for whole in pairer.feed(part)]
    done += [*pairer.feed(table([row(DESTROY, T + 20)])), *pairer.finish()]
    assert rows_of(done) == slow(
        [[row(NEW, T), row(NEW, T + 5), row(DESTROY, T + 9), row(DESTROY, T + 20)]], [gap]
    )


def test_a_part_with_a_sure_end_ends_the_flow_that_it_is_part_of() -> None:
    minute = 60 * SECOND
    segments = [[row(NEW, T)], [row(EXISTING, T + minute), row(NEW, T + 2 * minute)]]
    gap = (T + minute + 1, T + minute + 2, None)
    pairer, done = Pairer(), []
    pairer.add_gaps([gap])
    for rows in segments:
        apart = Pairer()
        apart.add_gaps([gap])
        done += [
            whole
            for part in [*apart.feed(table(rows)), *apart.finish()]
            for whole in pairer.feed(part)
        ]
    assert rows_of([*done, *pairer.finish()]) == slow(list(segments), [gap])


def test_an_open_part_that_a_later_dump_lacks_is_bounded() -> None:
    apart, pairer = Pairer(), Pairer()
    apart.feed(table([row(NEW, T), row(UPDATE, T + 50, id=9)]))
    for part in apart.finish():
        assert pairer.feed(part) == []
    list(pairer.snapshot(T + 50, T + 60))
    place = 1 + RESULT.index("end")
    assert sorted(each[place : place + 2] for each in rows_of(list(pairer.finish()))) == [
        (0, 0),
        (T + 60, 3),
    ]


def test_whole_connections_pass_through() -> None:
    apart, pairer = Pairer(), Pairer()
    apart.feed(table([row(NEW, T), row(DESTROY, T + 1), row(NEW, T + 2)]))
    done = list(apart.finish())
    assert sum(rows_of(pairer.feed(part)).total() for part in done) == 1
    assert rows_of(list(pairer.finish())).total() == 1


def test_keys_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flowkey, "_hash", lambda words: np.zeros(len(words[0]), np.uint64))
    rows = [row(NEW, T + n, id=n % 50) for n in range(100)] + [
        row(DESTROY, T + 200 + n, id=n) for n in range(50)
    ]
    assert fast([rows]) == slow([rows])


_COUNTS = {"orig_packets": 1, "orig_bytes": 60, "reply_packets": 0, "reply_bytes": 0}
_GAP: list[Gap] = [(T + 7 * SECOND, T + 8 * SECOND, None)]


def test_a_new_that_came_again_is_one_event() -> None:
    steps: list[Step] = [
        [
            row(NEW, T, status=0x100),
            row(NEW, T + 1, status=0x102),
            row(NEW, T + 3600 * SECOND, status=0x106),
            row(DESTROY, T + 3601 * SECOND, status=0x306),
        ]
    ]
    assert spans(steps, repeats=2) == [(T, 2, T + 3601 * SECOND, 2)]
    assert one(steps)["status"] == 0x306


@pytest.mark.parametrize(
    ("gap", "repeats"),
    [
        ((T + 7 * SECOND, T + 8 * SECOND, None), 0),
        ((T + 7 * SECOND, T + 8 * SECOND, V4), 0),
        ((T + 7 * SECOND, T + 8 * SECOND, V6), 1),
        ((0, times.END, None), 0),  # losses were not counted
        ((T - 9 * SECOND, T - grouping.RACE_NS, None), 0),
        ((T - 9 * SECOND, T - grouping.RACE_NS - 1, None), 1),
        ((T + 20 * SECOND + grouping.RACE_NS, times.END, None), 0),
        ((T + 20 * SECOND + grouping.RACE_NS + 1, times.END, None), 1),
    ],
)
def test_a_new_after_a_gap_is_another_flow(gap: Gap, repeats: int) -> None:
    late = T + 20 * SECOND
    found = spans([[row(NEW, T), row(NEW, late)]], [gap], repeats)
    assert found == ([(T, 2, 0, 0)] if repeats else [(T, 2, late, 3), (late, 2, 0, 0)])
    # Without kernel times, the same is true of a DESTROY.
    counted = {"status": 6, **_COUNTS}
    found = spans([[row(DESTROY, T, **counted), row(DESTROY, late, **counted)]], [gap], repeats)
    assert len(found) == 2 - repeats


def test_a_new_of_a_flow_that_a_dump_lacked_is_another_flow() -> None:
    late = T + 6 + OVERTAKEN_NS + 1
    steps: list[Step] = [[row(NEW, T)], (T + 5, T + 6), [row(NEW, late)]]
    assert spans(steps) == [(T, 2, T + 6, 3), (late, 2, 0, 0)]


@pytest.mark.parametrize("cut", [False, True])
def test_a_new_that_came_again_and_that_a_dump_overtook_is_one_event(cut: bool) -> None:
    """The flow ended while the dump ran; its later events were decoded after it.

    `cut`: the DESTROY is not read together with the NEW.
    """
    again, end = T + 6 + OVERTAKEN_NS, T + 20 * SECOND
    rows = [row(NEW, again), row(DESTROY, end)]
    steps: list[Step] = [
        [row(NEW, T)],
        (T + 5, T + 6),
        *([[each] for each in rows] if cut else [rows]),
    ]
    assert spans(steps, repeats=1) == [(T, 2, end, 2)]


@pytest.mark.parametrize("dumped", [False, True])
def test_a_new_after_a_restart_is_another_flow(dumped: bool) -> None:
    """Nothing was received meanwhile: the first flow can have ended, and the tuple be another's."""
    restart, again = T + SECOND, T + 2 * SECOND
    pairer, done = Pairer(), []
    done += pairer.feed(table([row(NEW, T)]))
    pairer.add_restart(restart)
    if dumped:
        done += pairer.snapshot(restart, restart + 9)
    done += pairer.feed(table([row(NEW, again), row(NEW, again + SECOND)]))
    done += pairer.finish()
    assert (sum(map(len, done)), pairer.repeats) == (2, 1)


def test_a_new_after_a_dump_is_a_repeat_if_its_kernel_start_is_that_of_the_flow() -> None:
    late = T + 60 * SECOND
    steps: list[Step] = [[row(NEW, T, start=T - 5)], (T + 5, T + 6)]
    end = row(DESTROY, late + 9, start=T - 5, stop=late + 8)
    again = [row(NEW, late, start=T - 5), end]
    assert spans([*steps, again], repeats=1) == [(T - 5, 1, late + 8, 1)]
    another = [row(NEW, late, start=late - 4)]
    assert spans([*steps, another]) == [(T - 5, 1, T + 6, 3), (late - 4, 1, 0, 0)]


def test_a_new_with_a_later_kernel_start_is_another_flow() -> None:
    late = T + 9 * SECOND
    assert len(spans([[row(NEW, T), row(NEW, late, start=late)]])) == 2
    assert spans([[row(NEW, T), row(NEW, late, start=T - 5)]], repeats=1) == [(T - 5, 1, 0, 0)]


def test_no_start_is_later_than_the_new() -> None:
    """The DESTROY and the NEW between them were lost, and no GAP shows it: the first flow stays."""
    late = T + 60 * SECOND
    rows = [row(NEW, T), row(NEW, late), row(DESTROY, late + 9, start=late - 1, stop=late + 5)]
    assert spans([rows], repeats=1) == [(T, 2, late + 5, 1)]
    rows[2]["start"] = T + grouping.SKEW_NS
    assert spans([rows], repeats=1) == [(T + grouping.SKEW_NS, 1, late + 5, 1)]


def test_a_destroy_that_came_again_with_its_kernel_times_is_one_event() -> None:
    """Also across a gap, after a NEW that was a repeat, with a dump row between."""
    ends = [row(DESTROY, T + n * SECOND, start=T - 3, stop=T - 1) for n in (1, 20, 30)]
    between = row(EXISTING, T + 2 * SECOND)
    rows = [row(NEW, T), row(NEW, T + 5), ends[0], between, *ends[1:]]
    assert spans([rows], _GAP[:0], repeats=3) == [(T - 3, 1, T - 1, 1)]
    assert spans([ends], _GAP, repeats=2) == [(T - 3, 1, T - 1, 1)]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"start": T, "stop": T + 5}, {"start": T, "stop": T + 5}, True),
        ({"start": T, "stop": T + 5}, {"start": T, "stop": T + 6}, False),
        ({"start": T - 1, "stop": T + 5}, {"start": T, "stop": T + 5}, False),
        ({"start": T, "stop": T + 5}, {}, False),
        ({}, {}, False),  # nothing to compare
        ({"status": 6}, {"status": 6}, False),
        (_COUNTS, _COUNTS, False),
        ({"status": 6, **_COUNTS}, {"status": 6, **_COUNTS}, True),
        ({"status": 6, **_COUNTS}, {"status": 2, **_COUNTS}, False),
        ({"status": 6, **_COUNTS}, {"status": 6, **_COUNTS, "reply_bytes": 1}, False),
        ({"status": 0x1006, **_COUNTS}, {"status": 0x1006, **_COUNTS}, False),
        ({"status": 6, "start": T, **_COUNTS}, {"status": 6, "start": T, **_COUNTS}, True),
        ({"status": 6, "start": T, **_COUNTS}, {"status": 6, **_COUNTS}, False),
    ],
)
def test_a_destroy_is_a_repeat_only_if_it_is_proved(
    first: dict[str, int], second: dict[str, int], same: bool
) -> None:
    rows = [row(DESTROY, T + 9, **first), row(DESTROY, T + 10, **second)]
    assert len(spans([rows], repeats=int(same))) == 2 - same


def test_without_an_id_nothing_is_a_repeat() -> None:
    told = {"start": T, "stop": T + 5}
    for event, known in ((NEW, {}), (DESTROY, told)):
        rows = [row(event, T + n, **known) for n in (9, 10)]
        for each in rows:
            each["present"] &= ~bit("id")
        assert len(spans([rows])) == 2


def test_a_new_between_two_destroys_makes_two_flows() -> None:
    counted = {"status": 6, **_COUNTS}
    rows = [row(DESTROY, T, **counted), row(NEW, T + 1), row(DESTROY, T + 2, **counted)]
    assert len(spans([rows])) == 2


def test_a_destroy_comes_again_only_within_some_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "RACE_ROWS", 5)
    for between, same in ((4, True), (5, False)):
        others = [row(NEW, T + 20 + n, id=9 + n) for n in range(between)]
        ends = [row(DESTROY, T + 9 + n, start=T, stop=T + 5) for n in (0, 90)]
        found = spans([[ends[0], *others, ends[1]]], repeats=int(same))
        assert len(found) == between + 2 - same


def test_repeats_are_handed_over() -> None:
    found: list[Table] = []
    pairer = Pairer(found.append)
    pairer.feed(table([row(NEW, T), row(NEW, T + 1), row(UPDATE, T + 2), row(NEW, T, id=9)]))
    list(pairer.finish())
    assert pairer.repeats == 1
    assert [(each["id"].tolist(), each["seen"].tolist()) for each in found] == [([7], [1])]


def test_parts_of_one_flow_with_a_new_each_are_one_connection() -> None:
    """The NEW came again in another segment, and each segment was paired by itself."""
    later = T + 60 * SECOND
    segments: list[list[Row]] = [[row(NEW, T)], [row(NEW, later)]]
    pairer, done = Pairer(), []
    for rows in segments:
        apart = Pairer()
        for part in [*apart.feed(table(rows)), *apart.finish()]:
            done += pairer.feed(part)
    assert rows_of([*done, *pairer.finish()]) == slow(list(segments), expected=1)
    assert pairer.repeats == 1


def _row(data: bytes) -> Row:
    """A row of one of few flows, drawn from 12 bytes at once: a draw for each field takes most of
    the time of a test.
    """
    number = int.from_bytes(data, "little")

    def take(count: int) -> int:
        nonlocal number
        number, choice = divmod(number, count)
        return choice

    event = (NEW, NEW, UPDATE, DESTROY, DESTROY, EXISTING)[take(6)]
    known: dict[str, int] = dict(_COUNTS) if take(2) else {}
    for name in VALUES:
        if take(2):
            known[name] = take(4)
    if event in (DESTROY, EXISTING) and take(2):
        known["start"] = T + take(41) * SECOND // 2
    if event == DESTROY and take(2):
        known["stop"] = T + take(41) * SECOND // 2
    made = row(event, T + take(41) * SECOND // 2, **known)
    made["family"] = (V4, V4, V4, V6)[take(4)]
    made["id"], made["orig_sport"], made["zone"] = 1 + take(2), 1 + take(2), take(2)
    if made["family"] == V6:
        made["orig_src"] = b"\x20" + (bytes(14) + b"\x01" if take(2) else bytes(15))
    if event == NEW and take(2):
        made["present"] |= bit("time")
    return made


def _rows(drawn: list[tuple[bytes, int]]) -> list[Row]:
    """The rows, each as often as drawn, half a second later each time."""
    rows = [(_row(data), again) for data, again in drawn]
    return [
        {**each, "time": each["time"] + time * SECOND // 2}
        for each, again in rows
        for time in range(again)
    ]


_ROWS = st.lists(
    st.tuples(st.binary(min_size=12, max_size=12), st.sampled_from((1, 1, 1, 1, 2, 3))), max_size=9
).map(_rows)
_DUMPS = st.tuples(st.integers(0, 40), st.integers(0, 400)).map(
    lambda dump: (T + dump[0] * SECOND // 2, T + (dump[0] + 2 * dump[1]) * SECOND // 2)
)
_GAPS = st.lists(
    st.tuples(st.integers(-20, 60), st.integers(0, 8), st.sampled_from((None, V4, V6))).map(
        lambda gap: (T + gap[0] * SECOND // 2, T + (gap[0] + gap[1]) * SECOND // 2, gap[2])
    ),
    max_size=3,
)
_STEPS = st.lists(st.one_of(_ROWS, _DUMPS), max_size=8)


@pytest.mark.slow
@settings(max_examples=3 * settings().max_examples)
@given(_STEPS, st.sets(st.integers(1, 90), max_size=20), _GAPS)
def test_like_the_slow_pairing_whatever_the_tables(
    steps: list[Step], cuts: set[int], gaps: list[Gap]
) -> None:
    repeats: list[int] = []
    assert fast(steps, cuts, gaps, repeats) == slow(steps, gaps)
    slow(steps, gaps, *repeats)


@settings(max_examples=3 * settings().max_examples // 2)
@given(_STEPS, st.sets(st.integers(1, 90), max_size=20), _GAPS)
def test_like_the_slow_pairing_when_every_table_is_a_batch(
    steps: list[Step], cuts: set[int], gaps: list[Gap]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_flows, "BATCH_ROWS", 1)
        patch.setattr(grouping, "RACE_ROWS", 5)
        repeats: list[int] = []
        assert fast(steps, cuts, gaps, repeats) == slow(steps, gaps)
        slow(steps, gaps, *repeats)


def without_giving_up(core: Any, count: int) -> Table:
    empty: Table = core.open.table.slice(0, 0)
    return empty


@pytest.mark.slow
@settings(max_examples=2 * settings().max_examples)
@given(
    _STEPS,
    st.sets(st.integers(1, 90), max_size=20),
    _GAPS,
    st.sampled_from([(1, 1, 1), (1, 2, 8), (1, 8, 2), (5, 3, 4)]),
)
def test_like_the_slow_pairing_with_no_memory(
    steps: list[Step], cuts: set[int], gaps: list[Gap], sizes: tuple[int, int, int]
) -> None:
    """Divided by keys, again and again, and all of it in files."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("BATCH_ROWS", "MAX_OPEN", "HELD_ROWS"), sizes, strict=True):
            patch.setattr(open_flows, name, size)
        patch.setattr(core.Core, "give_up", without_giving_up)
        patch.setattr(grouping, "RACE_ROWS", 5)
        repeats: list[int] = []
        assert fast(steps, cuts, gaps, repeats, Memory(spill.Store)) == slow(steps, gaps)
        slow(steps, gaps, *repeats)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_long_stream_in_little_memory(seed: int) -> None:
    steps = traffic(seed, 8_000, 0.02)
    cuts = set(ints(np.random.default_rng(seed).integers(1, 8_000, 60)))
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("BATCH_ROWS", 200), ("MAX_OPEN", 50), ("HELD_ROWS", 300)):
            patch.setattr(open_flows, name, size)
        found = fast(steps, cuts, memory=Memory(spill.Store))
    assert found == slow(steps)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_long_stream_with_reuse_losses_and_dumps(seed: int) -> None:
    steps = traffic(seed, 8_000, 0.02)
    cuts = set(ints(np.random.default_rng(seed).integers(1, 8_000, 60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_flows, "BATCH_ROWS", 200)
        found = fast(steps, cuts)
    assert found == slow(steps)
    assert found.total() > 3_500


def test_a_stream_without_losses_is_paired_whole() -> None:
    found = fast(traffic(9, 6_000, 0.0))
    place = 1 + RESULT.index("start_source")
    sources = Counter((each[place], each[place + 2]) for each in found.elements())
    assert set(sources) <= {(1, 1), (2, 2), (2, 0)}


@pytest.mark.parametrize("told", [True, False], ids=["kernel times", "receipt"])
def test_the_clock_was_set_back_while_a_flow_was_open(told: bool) -> None:
    """Its start was dated by a clock that was an hour ahead: it began before the next event."""
    ahead, back, end = T + 3600 * SECOND, T + 60 * SECOND, T + 500 * SECOND
    start = {"start": ahead} if told else {}
    stop = {**start, "stop": end} if told else {}
    steps: list[Step] = [
        [row(NEW, ahead + SECOND)],
        [row(EXISTING, back, **start)],
        [row(DESTROY, end, **stop)],
    ]
    source = Source.KERNEL if told else Source.RECEIPT
    assert spans(steps) == [(back, Source.BOUND, end, source)]
    # Without the dump, and without the NEW.
    assert spans([steps[0], steps[2]]) == [(end, Source.BOUND, end, source)]
    assert spans([steps[1], steps[2]]) == [(back, Source.BOUND, end, source)]
    # A row of a dump that comes a little late is no step.
    late: list[Step] = [[row(NEW, T)], [row(EXISTING, T - 29 * SECOND)]]
    assert spans(late)[0][:2] == (T, Source.RECEIPT)


@pytest.mark.parametrize(("since", "count"), [(60 * SECOND, 2), (1, 2), (0, 1)])
def test_a_new_after_a_dump_is_no_repeat_though_the_dump_comes_later(
    since: int, count: int
) -> None:
    """A squeezed segment has its dumps after its connections; their times are known before.

    `since`: ns from the end of the dump to the second NEW, which can have been rounded.
    """
    minute = 60 * SECOND
    dump = (T + minute, T + minute + 9)
    again = dump[1] + OVERTAKEN_NS - SECOND + since
    first, second = [row(NEW, T)], [row(NEW, again), row(DESTROY, T + 3 * minute)]
    apart, pairer = Pairer(), Pairer()
    pairer.feed(table(first))
    pairer.add_dumps([dump])
    done = [
        whole
        for part in [*apart.feed(table(second[:1])), *apart.finish()]
        for whole in pairer.feed(part)
    ]
    done += [*pairer.snapshot(*dump), *pairer.feed(table(second[1:])), *pairer.finish()]
    assert pairer.repeats == 2 - count
    assert sum(map(len, done)) == count
