"""Counting connections by the keys of tops.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctrecorder import ends, uapi
from ctrecorder.columns import ADDRESSES, PORTS, Array, Source, Table, bits
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ends import Inside
from ctrecorder.tops.counter import Counter, Keyed, Ranked, Store, Sums
from ctrecorder.tops.fields import Measure, Top
from ctrecorder.tops.keys import Distinct, Layout, keys
from ctrecorder.tops.values import Offsets, Values

# Bytes of keys in memory, of all tops together.  Joining them takes as much again.
_KEYS_BYTES = 24 << 20
# Rows whose sums are exact as 64-bit floating point numbers of halves: 2**52 / 2**32.
_EXACT_ROWS = 1 << 20
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_SIDES = {"inside", "public", "remote"}


@dataclass(frozen=True)
class Row:
    """A row of a top.

    `values`: of the fields: numbers, of an address with 32 or 128 bits.
    """

    family: int
    values: tuple[int, ...]
    amount: int


@dataclass(frozen=True)
class Counted:
    """A top.

    `rows`: the greatest first.  `distinct`: how many keys there are.
    `without`: connections that lack a field of the key.
    """

    top: Top
    rows: list[Row]
    distinct: int
    without: int


class Sub(NamedTuple):
    """Keys of the top `number`, of a family."""

    number: int
    family: int
    keyed: Keyed


class Totals(NamedTuple):
    """What is counted of all connections: see `Tops`.  `without`: as of `Counted`, of each top."""

    connections: int
    open: int
    whole: int
    unmeasured: int
    without: list[int]


class Tops:
    """Counts the connections of an archive.

    `connections`: how many were counted.  `open`: how many of them had not ended.
    `whole`: the sum of the measure.  `unmeasured`: connections of which it is not known.
    """

    def __init__(
        self,
        tops: Sequence[Top],
        measure: Measure,
        inside: Inside,
        offsets: Offsets,
        now: int,
        store: Callable[[], Store],
        jobs: int = 1,
    ) -> None:
        """`now`: ns, until which an open connection lasts.  `store`: makes a temporary file.
        `jobs`: the processes that share the memory for keys.
        """
        self._most_bytes = _KEYS_BYTES // len(tops) // jobs
        self._tops, self._measure, self._now = tops, measure, now
        self._inside, self._offsets, self._store = inside, offsets, store
        self._counters: dict[tuple[int, int], tuple[Layout, Counter]] = {}
        self._without = [0] * len(tops)
        self.connections = self.open = self.whole = self.unmeasured = 0

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        found = ["end", *_measured(self._measure)]
        for name in {field.name for top in self._tops for field in top.fields}:
            found += _columns_of(name)
        return sorted(set(found))

    def add(self, rows: Table | LazyTable) -> None:
        """Count connections."""
        if len(rows) > _EXACT_ROWS and isinstance(rows, Table):
            for first in range(0, len(rows), _EXACT_ROWS):
                self.add(rows.slice(first, first + _EXACT_ROWS))
            return
        values = Values(rows, self._inside, self._offsets)
        # All columns are decoded before anything is counted: damage raises here.
        amounts, unmeasured = self._amounts(rows)
        of_tops = [list(keys(top, values, len(rows))) for top in self._tops]
        ended = rows["end"] if isinstance(rows, Table) else None
        if ended is not None:  # a block that is read as it is stored has no open ones
            self.open += len(rows) - int(np.count_nonzero(ended))
        self.connections += len(rows)
        self.unmeasured += unmeasured
        self.whole += len(rows) if amounts is None else sum(map(_total, amounts))
        for number, distinct in enumerate(of_tops):
            has = np.zeros(len(rows), np.bool_)
            for found in distinct:
                has[slice(None) if found.rows is None else found.rows] = True
                self._count(number, rows.family, found, amounts)
            self._without[number] += len(rows) - int(np.count_nonzero(has))

    def _count(self, number: int, family: int, found: Distinct, amounts: list[Sums] | None) -> None:
        top = self._tops[number]
        if not any(field.is_address for field in top.fields):
            family = 0
        layout, counter = self._counter(number, family)
        rows = np.bincount(found.codes, minlength=found.keys)
        chosen = np.flatnonzero(rows)
        low: Sums = rows[chosen].astype(np.uint64)
        high: Sums = np.zeros(len(chosen), np.uint64)
        if amounts is not None:
            low, high = _sums(found, chosen, amounts)
        counter.add(Keyed(found.words(layout, chosen), low, high))

    def _counter(self, number: int, family: int) -> tuple[Layout, Counter]:
        """Of a top and a family (0: without addresses)."""
        if (number, family) not in self._counters:
            layout = Layout(self._tops[number], family)
            most = self._most_bytes // (8 * layout.words + 16)
            self._counters[number, family] = layout, Counter(layout.words, most, self._store)
        return self._counters[number, family]

    def drain(self) -> Iterator[Sub | Totals]:
        """What was counted, for `join` in another process; nothing is counted then."""
        for (number, family), (_, counter) in self._counters.items():
            for keyed in counter.drain():
                yield Sub(number, family, keyed)
        yield Totals(self.connections, self.open, self.whole, self.unmeasured, self._without)
        self._counters, self._without = {}, [0] * len(self._tops)
        self.connections = self.open = self.whole = self.unmeasured = 0

    def join(self, found: Sub | Totals) -> None:
        """Add what another one has yielded."""
        if isinstance(found, Sub):
            self._counter(found.number, found.family)[1].add(found.keyed)
            return
        self.connections += found.connections
        self.open += found.open
        self.whole += found.whole
        self.unmeasured += found.unmeasured
        self._without = [sum(both) for both in zip(self._without, found.without, strict=True)]

    def _amounts(self, rows: Table | LazyTable) -> tuple[list[Sums] | None, int]:
        """What is added up, as terms (None: each row counts 1), and of how many rows it is not
        known.
        """
        if self._measure == Measure.CONNECTIONS:
            return None, 0
        if self._measure == Measure.DURATION:
            known = rows["start_source"] != Source.UNKNOWN
            end = np.where(rows["end"] == 0, self._now, rows["end"])
            length = np.where(known, np.maximum(end - rows["start"], 0), 0)
            return [length.astype(np.uint64)], int(np.count_nonzero(~known))
        names = _measured(self._measure)[1:]
        known = (rows["present"] & np.uint32(bits(names))) != 0
        terms = [rows[name].astype(np.uint64) for name in names]
        return terms, int(np.count_nonzero(~known))

    def best(self, length: int) -> list[Counted]:
        """The tops of at most `length` rows each; it is then empty."""
        found = []
        for number, top in enumerate(self._tops):
            rows: list[Row] = []
            distinct = 0
            for family in (0, uapi.AF_INET, uapi.AF_INET6):
                if (number, family) in self._counters:
                    layout, counter = self._counters.pop((number, family))
                    ranked, count = counter.best(length)
                    distinct += count
                    rows += [_row(family, layout, one) for one in ranked]
            rows.sort(key=lambda row: (-row.amount, row.family, row.values))
            found.append(Counted(top, rows[:length], distinct, self._without[number]))
        return found


def _row(family: int, layout: Layout, one: Ranked) -> Row:
    return Row(family, tuple(layout.unpack(list(one.key))), one.amount)


def _sums(found: Distinct, chosen: Array, amounts: list[Sums]) -> tuple[Sums, Sums]:
    """The sums of the keys `chosen`, as low and high halves, which are not yet carried."""
    low, high = np.zeros(len(chosen), np.uint64), np.zeros(len(chosen), np.uint64)
    for amount in amounts:
        here = amount if found.rows is None else amount[found.rows]
        low += _sum(found, here & _LOW)[chosen]
        if len(here) and int(here.max()) >> 32:
            high += _sum(found, here >> _HALF)[chosen]
    return low, high


def _sum(found: Distinct, halves: Sums) -> Sums:
    """Exact: there are at most 2**20 halves below 2**32."""
    return np.bincount(found.codes, halves.astype(np.float64), found.keys).astype(np.uint64)


def _total(amounts: Sums) -> int:
    return (int((amounts >> _HALF).sum()) << 32) + int((amounts & _LOW).sum())


def _measured(measure: Measure) -> list[str]:
    if measure == Measure.CONNECTIONS:
        return []
    if measure == Measure.DURATION:
        return ["start", "start_source"]
    return ["present", f"orig_{measure.value}", f"reply_{measure.value}"]


def _columns_of(name: str) -> Sequence[str]:
    if name in _SIDES:
        return ends.COLUMNS
    if name == "ip":
        return (*ADDRESSES, "present")
    if name == "port":
        return ("orig_dport", "l4proto", "present")
    if name == "anyport":
        return (*PORTS, "l4proto", "present")
    if name in ("hour", "day"):
        return ("start", "start_source")
    if name == "zone":
        return ("zone", "orig_zone")
    if name in ("src", "dst"):
        return (f"orig_{name}", "present")
    return ("l4proto" if name == "proto" else name,)
