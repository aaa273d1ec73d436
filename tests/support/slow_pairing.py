"""A slow, obviously right pairing: the rules of `pairing`, a row at a time in plain Python; and
random traffic to pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrecorder.columns import BY_NAME, Event, Source, Table, bit
from ctrecorder.connections import flowkey, grouping, late_dumps, parts, repeats

NEW, UPDATE, DESTROY, EXISTING = Event.NEW, Event.UPDATE, Event.DESTROY, Event.EXISTING
SECOND = 1_000_000_000
T = 1_700_000_000 * SECOND
V4, V6 = 2, 10
SEEN = {NEW: 1, UPDATE: 2, DESTROY: 4, EXISTING: 8}
COUNTED = ("status", "orig_packets", "orig_bytes", "reply_packets", "reply_bytes")
VALUES = ("status", "mark", "orig_bytes", "tcp_state")
RESULT = (*flowkey.KEY, *VALUES, *parts.SPAN, "present")

Row = dict[str, Any]
Gap = tuple[int, int, int | None]  # begin, end, family


def row(event: int, time: int, **columns: Any) -> Row:
    """An event; what is named beside the key and the event is `present`."""
    made = {
        "event": int(event),
        "time": time,
        "family": V4,
        "id": 7,
        "l4proto": 17,
        "orig_sport": 1000,
        **columns,
    }
    known = bit("id") | (bit("status") if "status" in columns else 0)
    for name in ("start", "stop", "mark", "tcp_state", *COUNTED[1:]):
        known |= bit(name) if name in columns else 0
    return {"present": known, **made}


def table(rows: list[Row]) -> Table:
    """Rows of one family as a table, of the columns that any of them names."""
    family = rows[0]["family"]
    names = [name for name in BY_NAME if any(name in each for each in rows)]
    columns = {
        name: np.array(
            [each.get(name, absent(name, family)) for each in rows], BY_NAME[name].dtype(family)
        )
        for name in names
    }
    return Table(family, len(rows), columns)


def absent(name: str, family: int) -> Any:
    """What a column that is not told holds."""
    return b"" if BY_NAME[name].kind == "addr" and family == V6 else 0


def rows_of(tables: list[Table]) -> Counter[tuple[Any, ...]]:
    """The connections in `tables`, as a bag."""
    bag: Counter[tuple[Any, ...]] = Counter()
    for each in tables:
        bag.update(
            zip(
                *([each.family] * len(each), *(each[name].tolist() for name in RESULT)), strict=True
            )
        )
    return bag


# As in ctrecorder.connections.parts: the clock was set back.
AHEAD_NS = 30 * SECOND


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
            known |= each["present"]
        for name in VALUES:
            told = [each for each in self.rows if each["present"] & bit(name)]
            values[name] = (told or [last])[-1].get(name, 0)
        start, start_source = self.started()
        if last["event"] == DESTROY:
            told_stop = last["present"] & bit("stop")
            end, end_source = (
                (last["stop"], Source.KERNEL) if told_stop else (last["time"], Source.RECEIPT)
            )
        elif self.bound is not None:
            end, end_source = self.bound, Source.BOUND
        else:
            end, end_source = 0, Source.UNKNOWN
        seen = 0
        for each in self.rows:
            seen |= SEEN[each["event"]]
        known &= ~(bit("time") | bit("event") | bit("start") | bit("stop"))
        key = [first.get(name, absent(name, first["family"])) for name in flowkey.KEY]
        key = [
            part.rstrip(b"\0") if isinstance(part, bytes) else part for part in key
        ]  # as numpy gives an S16
        span = [start, int(start_source), end, int(end_source), seen]
        return (first["family"], *key, *values.values(), *span, known)

    def started(self) -> tuple[int, Source]:
        """The start, and where it is from; at or before a later row, if that is much earlier."""
        number, start, source = self.best_start()
        least = min((each["time"] for each in self.rows[number + 1 :]), default=start)
        return (least, Source.BOUND) if start > least + AHEAD_NS else (start, source)

    def best_start(self) -> tuple[int, int, Source]:
        """The row with the best start, the start, and where it is from."""
        kernel = new = None
        numbers = {}
        for number, each in enumerate(self.rows):
            if kernel is None and each["present"] & bit("start"):
                if new is None or each["start"] <= new + grouping.SKEW_NS:
                    kernel, numbers["kernel"] = each["start"], number
            elif new is None and each["event"] == NEW:
                new, numbers["new"] = each["time"], number
        if kernel is not None:
            return numbers["kernel"], kernel, Source.KERNEL
        if new is not None:
            return numbers["new"], new, Source.RECEIPT
        first = self.rows[0]
        if first["event"] == DESTROY:
            return 0, 0, Source.UNKNOWN
        return 0, first["time"], Source.BOUND


class Slow:
    """The same rules, a row at a time."""

    def __init__(self, gaps: Sequence[Gap] = ()) -> None:
        self.gaps = gaps
        self.repeats = 0
        self.open: dict[tuple[Any, ...], Flow] = {}
        self.ended: dict[tuple[Any, ...], tuple[int, Row]] = {}
        self.done: list[Flow] = []
        self.count: Counter[int] = Counter()

    def feed(self, each: Row) -> None:
        key = (each["family"], *(each.get(name, 0) for name in flowkey.KEY))
        number = self.count[each["family"]]
        self.count[each["family"]] += 1
        flow = self.open.get(key)
        if each["present"] & bit("start") and each["start"] > each["time"] + AHEAD_NS:
            each = {**each, "present": each["present"] & ~bit("start")}  # the clock was set back
        start = each["start"] if each["present"] & bit("start") else None
        event = each["event"]
        if flow is None and event == EXISTING and self.is_stale(key, number, each, start):
            return
        if event == DESTROY and flow is None and self.is_repeated_end(key, number, each):
            self.repeats += 1
            self.ended[key] = number, each
            return
        if flow is not None and event == NEW and self.is_repeated_new(flow, each, start):
            self.repeats += 1
            flow.rows.append(each)
            flow.bound = None
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
        other = destroy["start"] if destroy["present"] & bit("start") else None
        if start is not None and other is not None and abs(start - other) > grouping.SKEW_NS:
            return False
        return number - then <= grouping.RACE_ROWS and (
            (start is not None and start == other)
            or abs(each["time"] - destroy["time"]) <= grouping.RACE_NS
        )

    def is_repeated_end(self, key: tuple[Any, ...], number: int, each: Row) -> bool:
        if key not in self.ended:
            return False
        then, other = self.ended[key]
        both = each["present"] & other["present"]
        if not both & bit("id") or number - then > grouping.RACE_ROWS:
            return False
        times = [
            [one[name] if one["present"] & bit(name) else None for name in ("start", "stop")]
            for one in (each, other)
        ]
        if times[0] != times[1]:
            return False
        if None not in times[0]:
            return True
        return (
            all(both & bit(name) for name in COUNTED)
            and all(each[name] == other[name] for name in COUNTED)
            and not each["status"] & 0x1000
            and not self.is_gap(each["family"], other["time"], each["time"])
        )

    def is_repeated_new(self, flow: Flow, each: Row, start: int | None) -> bool:
        before = flow.rows[-1]
        if not each["present"] & before["present"] & bit("id"):
            return False
        if all(one["event"] != NEW for one in flow.rows):
            return False
        if start is not None and start > before["time"] + grouping.SKEW_NS:
            return False
        began = each["time"] if start is None else start
        if flow.bound is not None and began > flow.bound + repeats.OVERTAKEN_NS:
            return False
        return not self.is_gap(each["family"], before["time"], began)

    def is_gap(self, family: int, one: int, other: int) -> bool:
        slack = repeats.GAP_SLACK_NS
        return any(
            begin <= max(one, other) + slack and end >= min(one, other) - slack
            for begin, end, of in self.gaps
            if of in (None, family)
        )

    def is_another(self, flow: Flow, each: Row, start: int | None) -> bool:
        before = flow.rows[-1]["time"]
        if each["event"] == NEW:
            slack = 0 if each["present"] & bit("time") or start is not None else grouping.RACE_NS
            only_dumped = all(one["event"] == EXISTING for one in flow.rows)
            return not (
                only_dumped and (each["time"] if start is None else start) - before <= slack
            )
        return start is not None and start > before + grouping.SKEW_NS

    def snapshot(self, begin: int, end: int) -> None:
        for key, flow in list(self.open.items()):
            if max(each["time"] for each in flow.rows) >= begin:
                continue
            if flow.bound is None:
                flow.bound = end
            elif abs(begin - flow.bound) > late_dumps.LATE_NS:
                self.done.append(self.open.pop(key))

    def finish(self) -> Counter[tuple[Any, ...]]:
        return Counter(flow.result() for flow in [*self.done, *self.open.values()])


Step = list[Row] | tuple[int, int]


def slow(
    steps: list[Step], gaps: Sequence[Gap] = (), expected: int | None = None
) -> Counter[tuple[Any, ...]]:
    """The connections; AssertionError if not `expected` events are repeats."""
    pairer = Slow(gaps)
    for step in steps:
        if isinstance(step, tuple):
            pairer.snapshot(*step)
        else:
            for each in step:
                pairer.feed(each)
    assert expected in (None, pairer.repeats), pairer.repeats
    return pairer.finish()


def traffic(seed: int, events: int, lost: float) -> list[Step]:
    """A random table of at most some hundred flows on few tuples, with losses, dumps, and rows of
    dumps out of order.
    """
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
                made |= row(
                    DESTROY,
                    now,
                    id=made["id"],
                    orig_sport=tuple_,
                    start=table_of[tuple_][1],
                    stop=now - 5,
                    status=0x20E,
                )
            del table_of[tuple_]
        else:
            table_of[tuple_] = int(random.integers(1, 3)), now
            made = row(NEW, now + 3, id=table_of[tuple_][0], orig_sport=tuple_, status=0x100)
        if random.random() >= lost:
            part.append(made)
        if random.random() < 0.002:
            begin = now
            dump = [
                row(EXISTING, now, id=number, orig_sport=port, status=6)
                for port, (number, _) in table_of.items()
            ]
            now += SECOND // 10
            steps += [part, dump, (begin, now)]
            part = []
    return [*steps, part]
