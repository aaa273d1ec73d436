"""Pairing against a slow pairing in plain Python, in any batches; and each case of it by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrecorder.columns import BY_NAME, bit
from ctrecorder.connections import flowkey, grouping, pairing
from ctrecorder.connections.pairing import Pairer
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


def fast(steps: list[Step], cuts: Set[int] = frozenset()) -> Counter[tuple[Any, ...]]:
    """The connections that the package finds.

    `cuts`: after how many rows a table ends; it also ends where the family changes.
    """
    pairer, done, count = Pairer(), [], 0
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
    return rows_of(done + pairer.finish())


def one(steps: list[Step]) -> dict[str, Any]:
    """The one connection of `steps`, which the slow pairing must find too."""
    found = fast(steps)
    assert found == slow(steps)
    assert found.total() == 1, found
    return dict(zip(("family", *RESULT), next(iter(found)), strict=True))


def spans(steps: list[Step]) -> list[tuple[int, int, int, int]]:
    """(start, start_source, end, end_source) of all connections, which the slow pairing must find
    too; sorted.
    """
    found = fast(steps)
    assert found == slow(steps)
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
    assert spans([[row(NEW, T), row(NEW, T + 9), row(DESTROY, T + 20)]]) == [
        (T, 2, T + 9, 3),
        (T + 9, 2, T + 20, 2),
    ]


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
    later = T + pairing.LATE_NS + 10 * SECOND
    pairer = Pairer()
    pairer.feed(table([row(NEW, T)]))
    assert pairer.snapshot(T + 1, T + 6) == []
    assert rows_of(pairer.snapshot(later, later + 1)).total() == 1
    assert pairer.finish() == []


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
    monkeypatch.setattr(pairing, "BATCH_ROWS", 1)
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
        parts += apart.feed(table(rows)) + apart.finish()
    done = [whole for part in parts for whole in pairer.feed(part)]
    found = rows_of(done + pairer.finish())
    assert found == slow(list(segments))


def test_a_part_that_another_flow_ended_does_not_go_on() -> None:
    """The next flow of the key ended one without a DESTROY; a later DESTROY is of another flow."""
    apart, pairer = Pairer(), Pairer()
    apart.feed(table([row(NEW, T), row(NEW, T + 5), row(DESTROY, T + 9)]))
    done = [whole for part in apart.finish() for whole in pairer.feed(part)]
    done += pairer.feed(table([row(DESTROY, T + 20)])) + pairer.finish()
    assert rows_of(done) == slow(
        [[row(NEW, T), row(NEW, T + 5), row(DESTROY, T + 9), row(DESTROY, T + 20)]]
    )


def test_a_part_with_a_sure_end_ends_the_flow_that_it_is_part_of() -> None:
    minute = 60 * SECOND
    segments = [[row(NEW, T)], [row(EXISTING, T + minute), row(NEW, T + 2 * minute)]]
    pairer, done = Pairer(), []
    for rows in segments:
        apart = Pairer()
        done += [
            whole
            for part in apart.feed(table(rows)) + apart.finish()
            for whole in pairer.feed(part)
        ]
    assert rows_of(done + pairer.finish()) == slow(list(segments))


def test_an_open_part_that_a_later_dump_lacks_is_bounded() -> None:
    apart, pairer = Pairer(), Pairer()
    apart.feed(table([row(NEW, T), row(UPDATE, T + 50, id=9)]))
    for part in apart.finish():
        assert pairer.feed(part) == []
    pairer.snapshot(T + 50, T + 60)
    place = 1 + RESULT.index("end")
    assert sorted(each[place : place + 2] for each in rows_of(pairer.finish())) == [
        (0, 0),
        (T + 60, 3),
    ]


def test_whole_connections_pass_through() -> None:
    apart, pairer = Pairer(), Pairer()
    apart.feed(table([row(NEW, T), row(DESTROY, T + 1), row(NEW, T + 2)]))
    done = apart.finish()
    assert sum(rows_of(pairer.feed(part)).total() for part in done) == 1
    assert rows_of(pairer.finish()).total() == 1


def test_keys_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flowkey, "_hash", lambda words: np.zeros(len(words[0]), np.uint64))
    rows = [row(NEW, T + n, id=n % 50) for n in range(100)] + [
        row(DESTROY, T + 200 + n, id=n) for n in range(50)
    ]
    assert fast([rows]) == slow([rows])


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
    known: dict[str, int] = {}
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


_ROWS = st.lists(st.binary(min_size=12, max_size=12).map(_row), max_size=12)
_DUMPS = st.tuples(st.integers(0, 40), st.integers(0, 400)).map(
    lambda dump: (T + dump[0] * SECOND // 2, T + (dump[0] + 2 * dump[1]) * SECOND // 2)
)
_STEPS = st.lists(st.one_of(_ROWS, _DUMPS), max_size=8)


@settings(max_examples=3 * settings().max_examples)
@given(_STEPS, st.sets(st.integers(1, 90), max_size=20))
def test_like_the_slow_pairing_whatever_the_tables(steps: list[Step], cuts: set[int]) -> None:
    assert fast(steps, cuts) == slow(steps)


@settings(max_examples=3 * settings().max_examples // 2)
@given(_STEPS, st.sets(st.integers(1, 90), max_size=20))
def test_like_the_slow_pairing_when_every_table_is_a_batch(
    steps: list[Step], cuts: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "BATCH_ROWS", 1)
        patch.setattr(grouping, "RACE_ROWS", 5)
        assert fast(steps, cuts) == slow(steps)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_long_stream_with_reuse_losses_and_dumps(seed: int) -> None:
    steps = traffic(seed, 8_000, 0.02)
    cuts = set(ints(np.random.default_rng(seed).integers(1, 8_000, 60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "BATCH_ROWS", 200)
        found = fast(steps, cuts)
    assert found == slow(steps)
    assert found.total() > 3_500


def test_a_stream_without_losses_is_paired_whole() -> None:
    found = fast(traffic(9, 6_000, 0.0))
    place = 1 + RESULT.index("start_source")
    sources = Counter((each[place], each[place + 2]) for each in found.elements())
    assert set(sources) <= {(1, 1), (2, 2), (2, 0)}
