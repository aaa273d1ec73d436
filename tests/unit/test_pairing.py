"""Pairing against a slow pairing in plain Python, whatever the batches; and the cases that it exists for, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrecorder import keys, pairing
from ctrecorder.columns import BY_NAME, Event, Source, Table, bit
from ctrecorder.pairing import Pairer

NEW, UPDATE, DESTROY, EXISTING = Event.NEW, Event.UPDATE, Event.DESTROY, Event.EXISTING
SECOND = 1_000_000_000
V4, V6 = 2, 10
SEEN = {NEW: 1, UPDATE: 2, DESTROY: 4, EXISTING: 8}
VALUES = ("status", "mark", "orig_bytes", "tcp_state")
RESULT = (*pairing.KEY, *VALUES, *pairing.SPAN, "known")

Row = dict[str, Any]


def row(event: int, time: int, **columns: Any) -> Row:
    """An event; what is named beside the key and the event is `known`."""
    made = {"event": int(event), "time": time, "family": V4, "id": 7, "l4proto": 17, "orig_sport": 1000, **columns}
    known = bit("status") if "status" in columns else 0
    for name in ("start", "stop", "mark", "orig_bytes", "tcp_state"):
        known |= bit(name) if name in columns else 0
    return {"known": known, **made}


def table(rows: list[Row]) -> Table:
    """Rows of one family as a table, of the columns that any of them names."""
    family = rows[0]["family"]
    names = [name for name in BY_NAME if any(name in each for each in rows)]
    columns = {name: np.array([each.get(name, absent(name, family)) for each in rows], BY_NAME[name].dtype(family)) for name in names}
    return Table(family, len(rows), columns)


def absent(name: str, family: int) -> Any:
    """What a column that is not told holds."""
    return b"" if BY_NAME[name].kind == "addr" and family == V6 else 0


def rows_of(tables: list[Table]) -> Counter[tuple[Any, ...]]:
    """The connections in `tables`, as a bag."""
    bag: Counter[tuple[Any, ...]] = Counter()
    for each in tables:
        bag.update(zip(*([each.family] * len(each), *(each[name].tolist() for name in RESULT)), strict=True))
    return bag


@dataclass
class Flow:
    """One connection of the slow pairing: its rows, in order, and a bound from outside."""

    rows: list[Row] = field(default_factory=list)
    bound: int | None = None

    def result(self) -> tuple[Any, ...]:
        first, last = self.rows[0], self.rows[-1]
        known = 0
        values = {}
        for each in self.rows:
            known |= each["known"]
        for name in VALUES:
            told = [each for each in self.rows if each["known"] & bit(name)]
            values[name] = (told or [last])[-1].get(name, 0)
        kernel = [each["start"] for each in self.rows if each["known"] & bit("start")]
        news = [each["time"] for each in self.rows if each["event"] == NEW]
        if kernel:
            start, start_source = kernel[-1], Source.KERNEL
        elif news:
            start, start_source = news[0], Source.RECEIPT
        elif first["event"] == DESTROY:
            start, start_source = 0, Source.UNKNOWN
        else:
            start, start_source = first["time"], Source.BOUND
        if last["event"] == DESTROY:
            told_stop = last["known"] & bit("stop")
            end, end_source = (last["stop"], Source.KERNEL) if told_stop else (last["time"], Source.RECEIPT)
        elif self.bound is not None:
            end, end_source = self.bound, Source.BOUND
        else:
            end, end_source = 0, Source.UNKNOWN
        seen = 0
        for each in self.rows:
            seen |= SEEN[each["event"]]
        known &= ~(bit("time") | bit("event") | bit("start") | bit("stop"))
        key = [first.get(name, absent(name, first["family"])) for name in pairing.KEY]
        key = [part.rstrip(b"\0") if isinstance(part, bytes) else part for part in key]  # as numpy gives an S16
        span = [start, int(start_source), end, int(end_source), seen]
        return (first["family"], *key, *values.values(), *span, known)


class Slow:
    """The same rules, a row at a time."""

    def __init__(self) -> None:
        self.open: dict[tuple[Any, ...], Flow] = {}
        self.ended: dict[tuple[Any, ...], tuple[int, Row]] = {}
        self.done: list[Flow] = []
        self.count: Counter[int] = Counter()

    def feed(self, each: Row) -> None:
        key = (each["family"], *(each.get(name, 0) for name in pairing.KEY))
        number = self.count[each["family"]]
        self.count[each["family"]] += 1
        flow = self.open.get(key)
        start = each["start"] if each["known"] & bit("start") else None
        event = each["event"]
        if flow is None and event == EXISTING and self.is_stale(key, number, each, start):
            return
        if flow is not None and self.is_another(flow, each, start):
            if flow.bound is None:
                flow.bound = each["time"] if start is None else start
            self.done.append(flow)
            flow = None
        if flow is None:
            flow = self.open[key] = Flow()
        flow.rows.append(each)
        flow.bound = None
        if event == DESTROY:
            self.done.append(self.open.pop(key))
            self.ended[key] = number, each

    def is_stale(self, key: tuple[Any, ...], number: int, each: Row, start: int | None) -> bool:
        if key not in self.ended:
            return False
        then, destroy = self.ended[key]
        other = destroy["start"] if destroy["known"] & bit("start") else None
        if start is not None and other is not None and abs(start - other) > pairing.SKEW_NS:
            return False
        return number - then <= pairing.RACE_ROWS and abs(each["time"] - destroy["time"]) <= pairing.RACE_NS

    def is_another(self, flow: Flow, each: Row, start: int | None) -> bool:
        before = flow.rows[-1]["time"]
        if each["event"] == NEW:
            slack = 0 if each["known"] & bit("time") or start is not None else pairing.RACE_NS
            only_dumped = all(one["event"] == EXISTING for one in flow.rows)
            return not (only_dumped and (each["time"] if start is None else start) - before <= slack)
        return start is not None and start > before + pairing.SKEW_NS

    def snapshot(self, begin: int, end: int) -> None:
        for key, flow in list(self.open.items()):
            if max(each["time"] for each in flow.rows) >= begin:
                continue
            if flow.bound is None:
                flow.bound = end
            elif abs(begin - flow.bound) > pairing.LATE_NS:
                self.done.append(self.open.pop(key))

    def finish(self) -> Counter[tuple[Any, ...]]:
        return Counter(flow.result() for flow in [*self.done, *self.open.values()])


Step = list[Row] | tuple[int, int]


def slow(steps: list[Step]) -> Counter[tuple[Any, ...]]:
    pairer = Slow()
    for step in steps:
        if isinstance(step, tuple):
            pairer.snapshot(*step)
        else:
            for each in step:
                pairer.feed(each)
    return pairer.finish()


def fast(steps: list[Step], cuts: Set[int] = frozenset()) -> Counter[tuple[Any, ...]]:
    """The real one; `cuts`: after how many rows a table ends (it ends also where the family changes)."""
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
    """(start, start_source, end, end_source) of all connections, which the slow pairing must find too; sorted."""
    found = fast(steps)
    assert found == slow(steps)
    place = 1 + RESULT.index("start")
    return sorted(each[place : place + 4] for each in found.elements())


T = 1_700_000_000 * SECOND


def test_new_and_destroy_are_one_connection_with_times_of_receipt() -> None:
    found = one([[row(NEW, T, status=0x100, tcp_state=1), row(DESTROY, T + 5, status=0x20E, orig_bytes=99)]])
    assert (found["start"], found["start_source"], found["end"], found["end_source"]) == (T, 2, T + 5, 2)
    assert (found["status"], found["orig_bytes"], found["tcp_state"], found["seen"]) == (0x20E, 99, 1, 5)
    assert found["known"] == bit("status") | bit("tcp_state") | bit("orig_bytes")


def test_the_kernels_times_win() -> None:
    found = one([[row(NEW, T), row(DESTROY, T + 50, start=T - 3, stop=T + 40)]])
    assert (found["start"], found["start_source"], found["end"], found["end_source"]) == (T - 3, 1, T + 40, 1)


def test_equal_times_pair_by_order() -> None:
    assert spans([[row(NEW, T), row(DESTROY, T), row(NEW, T), row(DESTROY, T)]]) == [(T, 2, T, 2)] * 2


def test_the_same_id_and_tuple_twice_are_two() -> None:
    steps: list[Step] = [[row(NEW, T), row(DESTROY, T + 1), row(NEW, T + 2), row(DESTROY, T + 3)]]
    assert spans(steps) == [(T, 2, T + 1, 2), (T + 2, 2, T + 3, 2)]


@pytest.mark.parametrize("name", pairing.KEY)
def test_every_part_of_the_key_tells_flows_apart(name: str) -> None:
    for family in (V4, V6):
        other = b"\x01" + bytes(15) if BY_NAME[name].kind == "addr" and family == V6 else 3
        steps: list[Step] = [[row(NEW, T, family=family), row(DESTROY, T + 1, family=family, **{name: other})]]
        found = fast(steps)
        assert found == slow(steps)
        assert found.total() == 2


def test_a_last_byte_of_an_ipv6_address_tells_flows_apart() -> None:
    one, two = bytes(15) + b"\x01", bytes(15) + b"\x02"
    assert fast([[row(NEW, T, family=V6, orig_src=one), row(DESTROY, T + 1, family=V6, orig_src=two)]]).total() == 2


def test_a_lost_destroy_is_bounded_by_the_next_new() -> None:
    assert spans([[row(NEW, T), row(NEW, T + 9), row(DESTROY, T + 20)]]) == [(T, 2, T + 9, 3), (T + 9, 2, T + 20, 2)]


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
    found = one([[row(NEW, T, status=1, mark=5), row(EXISTING, T + 9 * SECOND, status=6, orig_bytes=10, start=T - 1)]])
    assert (found["status"], found["mark"], found["orig_bytes"], found["start"], found["start_source"]) == (6, 5, 10, T - 1, 1)
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
    assert spans([[row(NEW, T)], (T + 1, T + 6), again, [row(DESTROY, T + 61 * SECOND)]]) == [(T, 2, T + 61 * SECOND, 2)]


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
    assert spans([[row(NEW, T), row(DESTROY, T + 9), row(EXISTING, T + 10), row(EXISTING, T + 11)]]) == [(T, 2, T + 9, 2)]
    assert spans([[row(NEW, T), row(DESTROY, T + 9)], [row(EXISTING, T + 10)], (T + 8, T + 11)]) == [(T, 2, T + 9, 2)]


def test_a_row_of_a_dump_long_after_a_destroy_is_a_new_flow() -> None:
    late = T + 9 + pairing.RACE_NS + 1
    steps: list[Step] = [[row(NEW, T), row(DESTROY, T + 9), row(EXISTING, late), row(EXISTING, late - 2)]]
    assert spans(steps) == [(T, 2, T + 9, 2), (late, 3, 0, 0)]


def test_an_open_flow_is_not_stale_in_a_later_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "BATCH_ROWS", 1)
    late = T + 9 + pairing.RACE_NS + 1
    rows = [row(NEW, T), row(DESTROY, T + 9), row(EXISTING, late), row(EXISTING, late - 2), row(EXISTING, late + 5)]
    assert spans([[each] for each in rows]) == [(T, 2, T + 9, 2), (late, 3, 0, 0)]


def test_another_kernel_start_is_no_stale_row() -> None:
    new, end = T + 3 * SECOND, T + 2 * SECOND
    steps: list[Step] = [[row(NEW, T), row(DESTROY, end, start=T, stop=end), row(EXISTING, new + 5, start=new)]]
    assert spans(steps) == [(T, 1, end, 1), (new, 1, 0, 0)]


def test_a_new_that_a_dump_overtook_joins_its_flow() -> None:
    assert spans([[row(EXISTING, T), row(NEW, T + SECOND), row(DESTROY, T + 2 * SECOND)]]) == [(T + SECOND, 2, T + 2 * SECOND, 2)]
    late = T + pairing.RACE_NS + 1
    assert spans([[row(EXISTING, T), row(NEW, late)]]) == [(T, 3, late, 3), (late, 2, 0, 0)]


def test_the_kernels_event_time_tells_a_new_flow_from_an_overtaken_one() -> None:
    exact = row(NEW, T + SECOND)
    exact["known"] |= bit("time")
    assert spans([[row(EXISTING, T), exact]]) == [(T, 3, T + SECOND, 3), (T + SECOND, 2, 0, 0)]


def test_connections_join_across_segments_that_were_paired_apart() -> None:
    """Three segments, each paired by itself, then as parts: a flow that is open in all of them is one connection."""
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


def test_an_open_part_that_a_later_dump_lacks_is_bounded() -> None:
    apart, pairer = Pairer(), Pairer()
    apart.feed(table([row(NEW, T), row(UPDATE, T + 50, id=9)]))
    for part in apart.finish():
        assert pairer.feed(part) == []
    pairer.snapshot(T + 50, T + 60)
    place = 1 + RESULT.index("end")
    assert sorted(each[place : place + 2] for each in rows_of(pairer.finish())) == [(0, 0), (T + 60, 3)]


def test_whole_connections_pass_through() -> None:
    apart, pairer = Pairer(), Pairer()
    apart.feed(table([row(NEW, T), row(DESTROY, T + 1), row(NEW, T + 2)]))
    done = apart.finish()
    assert sum(rows_of(pairer.feed(part)).total() for part in done) == 1
    assert rows_of(pairer.finish()).total() == 1


def test_keys_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_hash", lambda words: np.zeros(len(words[0]), np.uint64))
    rows = [row(NEW, T + n, id=n % 50) for n in range(100)] + [row(DESTROY, T + 200 + n, id=n) for n in range(50)]
    assert fast([rows]) == slow([rows])


_TIMES = st.integers(0, 40).map(lambda n: T + n * SECOND // 2)


@st.composite
def _rows(draw: st.DrawFn) -> Row:
    event = draw(st.sampled_from([NEW, NEW, UPDATE, DESTROY, DESTROY, EXISTING]))
    known: dict[str, int] = {}
    for name in VALUES:
        if draw(st.booleans()):
            known[name] = draw(st.integers(0, 3))
    if event in (DESTROY, EXISTING) and draw(st.booleans()):
        known["start"] = draw(_TIMES)
    if event == DESTROY and draw(st.booleans()):
        known["stop"] = draw(_TIMES)
    made = row(event, draw(_TIMES), **known)
    made["family"] = draw(st.sampled_from([V4, V4, V4, V6]))
    made["id"], made["orig_sport"], made["zone"] = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    if made["family"] == V6:
        made["orig_src"] = draw(st.sampled_from([b"\x20" + bytes(14) + b"\x01", b"\x20" + bytes(15)]))
    if event == NEW and draw(st.booleans()):
        made["known"] |= bit("time")
    return made


_DUMPS = st.tuples(_TIMES, st.integers(0, 400)).map(lambda dump: (dump[0], dump[0] + dump[1] * SECOND))
_STEPS = st.lists(st.one_of(st.lists(_rows(), max_size=12), _DUMPS), max_size=8)


@settings(max_examples=300, deadline=None)
@given(_STEPS, st.sets(st.integers(1, 90), max_size=20))
def test_like_the_slow_pairing_whatever_the_tables(steps: list[Step], cuts: set[int]) -> None:
    assert fast(steps, cuts) == slow(steps)


@settings(max_examples=150, deadline=None)
@given(_STEPS, st.sets(st.integers(1, 90), max_size=20))
def test_like_the_slow_pairing_when_every_table_is_a_batch(steps: list[Step], cuts: set[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "BATCH_ROWS", 1)
        patch.setattr(pairing, "RACE_ROWS", 5)
        assert fast(steps, cuts) == slow(steps)


def traffic(seed: int, events: int, lost: float) -> list[Step]:
    """A random table of at most some hundred flows on few tuples, with losses, dumps, and rows of dumps out of order."""
    random = np.random.default_rng(seed)
    table_of: dict[int, tuple[int, int]] = {}
    steps: list[Step] = []
    part: list[Row] = []
    now = T
    for _ in range(events):
        now += int(random.integers(0, SECOND // 50))
        tuple_ = int(random.integers(0, 300))
        if tuple_ in table_of:
            made = row(DESTROY, now, id=table_of[tuple_][0], orig_sport=tuple_, status=0x20E)
            if random.random() < 0.5:
                made |= row(DESTROY, now, id=made["id"], orig_sport=tuple_, start=table_of[tuple_][1], stop=now - 5, status=0x20E)
            del table_of[tuple_]
        else:
            table_of[tuple_] = int(random.integers(1, 3)), now
            made = row(NEW, now + 3, id=table_of[tuple_][0], orig_sport=tuple_, status=0x100)
        if random.random() >= lost:
            part.append(made)
        if random.random() < 0.002:
            begin = now
            dump = [row(EXISTING, now, id=number, orig_sport=port, status=6) for port, (number, _) in table_of.items()]
            now += SECOND // 10
            steps += [part, dump, (begin, now)]
            part = []
    return [*steps, part]


@pytest.mark.parametrize("seed", range(4))
def test_a_long_stream_with_reuse_losses_and_dumps(seed: int) -> None:
    steps = traffic(seed, 8_000, 0.02)
    cuts = set(np.random.default_rng(seed).integers(1, 8_000, 60).tolist())
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
