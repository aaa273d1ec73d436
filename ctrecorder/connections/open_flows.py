"""The open flows of one family, in bounded memory.  Pure: the caller gives the temporary files.

`Flows` carries what `grouping` and `merging` need from one table to the next: open flows, rows that
wait, and flows that ended recently.  Flows of different keys have nothing to do with each other.
So what grows too large is divided by a hash of the key, and the parts are paired one after the
other; those that do not fit in memory wait in temporary files.  Only the order of arrival within a
key matters, and that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import SystemRandom
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array, Source, Table
from ctrecorder.connections import flowkey, grouping, lookalikes
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.grouping import RecentEnds
from ctrecorder.connections.merging import ended_flows, open_flows, with_bound
from ctrecorder.connections.parts import DESTROY, EXISTING, NEW, Parts, parts_of_events
from ctrecorder.connections.repeats import Gaps
from ctrecorder.times import SECOND

# A flow that a dump lacked waits this long for its DESTROY.  The garbage collector needs up
# to a minute for a scan; this is twice that, and 30 s more.
LATE_NS = 150 * SECOND
# Rows wait until a pass over the open flows pays.  Fewer: slower.  More: more memory.
BATCH_ROWS = 65_536
# Open flows that are paired at once, 125 to 175 bytes each; a pass over them and as many rows that
# wait takes some 150 MiB.  More are divided.
MAX_OPEN = 1 << 17
# Rows that all flows of a command keep in memory between passes: 40 MiB.
HELD_ROWS = 1 << 18
# Parts into which flows are divided, and how often: up to 33 million open flows, 16 times what a
# large router has.  Then, and where that many flows have one key, the oldest are given up as open.
_FANOUT_BITS, _MAX_DEPTH = 4, 2
# A dump is a pass over the open flows.  Dumps may cost this many rows for each row that is fed, and
# `_FREE_ROWS`; further ones end no flow.  A recording has every open flow in each dump, and needs
# less than a tenth of it.  Without a limit, a file of nothing but dumps costs hours.
_ROWS_FOR_DUMPS, _FREE_ROWS = 64, 1 << 24
_OPEN, _ENDS, _WAITING = range(3)
_NEVER = 1 << 63

OnRepeats = Callable[[Table], None]


class Store(Protocol):
    """A temporary file of arrays."""

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write arrays of one length to the end."""

    def read(self) -> Iterator[dict[str, Array]]:
        """All that was written, in order."""

    def close(self) -> None:
        """Delete the file."""


class Memory:
    """The rows that flows keep in memory, of all flows that share it."""

    def __init__(self, store: Callable[[], Store] | None = None) -> None:
        """`store`: makes a temporary file; None: nothing leaves the memory."""
        self.store = store
        self._rows: dict[_Part, int] = {}
        self._total = 0

    def note(self, part: _Part, rows: int) -> None:
        """`part` has `rows` rows in memory now.  Others are moved to their files to make room."""
        self._total += rows - self._rows.pop(part, 0)
        if rows:
            self._rows[part] = rows
        if self.store is not None:
            while self._total > HELD_ROWS:
                max(self._rows, key=self._rows.__getitem__).evict(self.store)


class Flows:
    """The flows of one family."""

    def __init__(self, family: int, gaps: Gaps, on_repeats: OnRepeats, memory: Memory) -> None:
        self.gaps, self._on_repeats, self.memory = gaps, on_repeats, memory
        self.family = family
        self._fed, self._credit = 0, _FREE_ROWS
        random = SystemRandom()
        # Nobody can choose keys that all fall into one part.
        self._salt = [random.getrandbits(64) | 1 for _ in range(16)]
        self._root = _Part(self, 0)

    def feed(self, parts: Parts) -> list[Table]:
        """Take the next parts in order of arrival; returns flows that ended."""
        rows = len(parts.table)
        parts.row = np.arange(self._fed, self._fed + rows)
        self._fed += rows
        self._credit += _ROWS_FOR_DUMPS * rows
        return list(self._root.feed(parts)) if rows else []

    def snapshot(self, begin_ns: int, end_ns: int) -> Iterator[Table]:
        """End the flows that a complete dump lacks; yields flows that ended."""
        cost = self._root.count()
        if cost <= self._credit:
            self._credit -= cost
            yield from self._root.snapshot(begin_ns, end_ns)

    def earliest(self) -> int | None:
        """The earliest start, ns, of the flows that are open or wait; None: there are none."""
        start = min(leaf.least()[0] for leaf in self._root.leaves())
        return None if start == _NEVER else start

    def finish(self) -> Iterator[Table]:
        """All flows that remain; then there are none."""
        for leaf in list(self._root.leaves()):
            yield from leaf.finish()

    def given_repeats(self, table: Table) -> None:
        self._on_repeats(table)

    def hashes(self, table: Table) -> NDArray[np.uint64]:
        """(rows,): a hash of the key of each row.  Flows that only their order distinguishes have
        one hash, whatever number `lookalikes` gave them.
        """
        ids = np.where(lookalikes.has_id(table), table["id"], np.uint32(0))
        words = flowkey.words(
            Table(self.family, len(table), {**table.columns, "id": ids}), with_zones=True
        )
        total = np.zeros(len(table), np.uint64)
        for word, factor in zip(words, self._salt[: len(words)], strict=True):
            total += word * np.uint64(factor)
        return total


class _Part:
    """Flows whose hashes have the same first bits: paired at once, or divided into parts."""

    def __init__(self, flows: Flows, depth: int) -> None:
        self._flows, self._depth = flows, depth
        self._parts: list[_Part] = []
        empty = parts_of_events(Table(flows.family, 0, {}))
        self._empty = empty
        self._core: _Core | None = _Core(flows, empty, [])
        self._store: Store | None = None
        self._waiting: list[Parts] = []
        self._rows_held = 0  # of `_waiting`; the other numbers also count what is in the file
        self._rows_open = self._rows_waiting = 0
        # The least start, and the least time, of all rows but those of `_unseen`.
        self._least = _NEVER, _NEVER
        self._unseen: list[Table] = []

    def leaves(self) -> Iterator[_Part]:
        """The parts that are not divided."""
        if self._parts:
            for part in self._parts:
                yield from part.leaves()
        else:
            yield self

    def count(self) -> int:
        """The rows that are open or wait."""
        return sum(leaf._rows_open + leaf._rows_waiting for leaf in self.leaves())

    def feed(self, parts: Parts) -> Iterator[Table]:
        if self._parts:
            for part, some in zip(self._parts, self._divided(parts), strict=True):
                if len(some.table):
                    yield from part.feed(some)
            return
        self._waiting.append(parts)
        self._rows_waiting += len(parts.table)
        self._rows_held += len(parts.table)
        self._unseen.append(parts.table)
        if self._rows_waiting >= max(BATCH_ROWS, self._rows_open):
            yield from self._pair()
        self._note()

    def snapshot(self, begin_ns: int, end_ns: int) -> Iterator[Table]:
        for leaf in list(self.leaves()):
            # A flow whose last row is later cannot be missing.
            if leaf.least()[1] < begin_ns:
                yield from leaf._pair()
                for part in list(leaf.leaves()):
                    core = part._loaded()
                    yield from core.snapshot(begin_ns, end_ns)
                    part._settle(core)
                    part._note()

    def finish(self) -> Iterator[Table]:
        """All flows of a part that is not divided."""
        yield from self._pair()
        for leaf in list(self.leaves()):
            core = leaf._loaded()
            if len(core.open.table):
                yield core.open.table
            core.open, core.ends = leaf._empty, RecentEnds(leaf._empty, [])
            leaf._settle(core)
            leaf._note()

    def evict(self, make_store: Callable[[], Store]) -> None:
        """Move all rows to a file."""
        self.least()
        if self._store is None:
            self._store = make_store()
        if self._core is not None:
            self._save(self._store, _OPEN, [self._core.open])
            self._save(self._store, _ENDS, self._core.ends.kept)
            self._core = None
        self._save(self._store, _WAITING, self._waiting)
        self._waiting, self._rows_held = [], 0
        self._note()

    def _save(self, store: Store, kind: int, parts: list[Parts]) -> None:
        rows = Parts.concat(parts) if parts else self._empty
        if len(rows.table):
            columns = {**rows.table.columns, "last_time": rows.last_time, "row": rows.row}
            columns |= {"exact": rows.exact, "ended": rows.ended}
            columns["part"] = np.full(len(rows.table), kind, np.uint8)
            store.append(columns)

    def _loaded(self) -> _Core:
        """All that the part has, in memory; the file is deleted."""
        if self._core is not None:
            return self._core
        saved: dict[int, list[Parts]] = {_OPEN: [], _ENDS: [], _WAITING: []}
        if self._store is not None:
            for columns in self._store.read():
                kind = int(columns.pop("part")[0])
                rest = [columns.pop(name) for name in ("last_time", "row", "exact", "ended")]
                table = Table(self._flows.family, len(rest[0]), columns)
                saved[kind].append(Parts(table, *rest))
            self._store.close()
            self._store = None
        self._waiting = saved[_WAITING] + self._waiting
        opened = saved[_OPEN][0] if saved[_OPEN] else self._empty
        self._core = _Core(self._flows, opened, saved[_ENDS])
        return self._core

    def _pair(self) -> Iterator[Table]:
        """Pair the waiting rows with the open flows; divide the part if too many stay open."""
        if not self._rows_waiting:
            return
        core = self._loaded()
        batch = Parts.concat(self._waiting)
        self._waiting, self._rows_waiting, self._rows_held = [], 0, 0
        yield from core.pair(batch)
        del batch
        self._settle(core)
        if self._flows.memory.store is not None:
            yield from self._divide(core)

    def _divide(self, core: _Core) -> Iterator[Table]:
        """Divide the part if too many flows are open; yields those that are given up."""
        if self._rows_open <= MAX_OPEN:
            return
        if self._depth == _MAX_DEPTH:
            yield core.give_up(self._rows_open - MAX_OPEN // 2)
            self._settle(core)
            return
        self._core, self._rows_open, self._unseen = None, 0, []
        self._note()
        opened, ends = self._divided(core.open), [self._divided(one) for one in core.ends.kept]
        core.open, core.ends = self._empty, RecentEnds(self._empty, [])
        self._parts = [_Part(self._flows, self._depth + 1) for _ in range(1 << _FANOUT_BITS)]
        for number, part in enumerate(self._parts):
            kept = [one[number] for one in ends if len(one[number].table)]
            new = part._core = _Core(self._flows, opened[number], kept)
            opened[number] = self._empty
            part._settle(new)
            yield from part._divide(new)
            part._note()

    def _divided(self, parts: Parts) -> list[Parts]:
        """`parts` by the next bits of their hashes."""
        shift = 64 - _FANOUT_BITS * (self._depth + 1)
        digits = (self._flows.hashes(parts.table) >> np.uint64(shift)).astype(np.uint8)
        digits &= np.uint8((1 << _FANOUT_BITS) - 1)
        order = np.argsort(digits, kind="stable")
        at = np.searchsorted(digits[order], np.arange((1 << _FANOUT_BITS) + 1))
        return [parts.take(order[at[n] : at[n + 1]]) for n in range(1 << _FANOUT_BITS)]

    def least(self) -> tuple[int, int]:
        """The least start and the least time, ns, of the rows that are open or wait."""
        for table in self._unseen:
            if len(table):
                starts = np.where(table["start"] == 0, table["time"], table["start"])
                start, time = self._least
                self._least = min(start, int(starts.min())), min(time, int(table["time"].min()))
        self._unseen = []
        return self._least

    def _settle(self, core: _Core) -> None:
        """Note what is open, when no rows wait."""
        self._rows_open = len(core.open.table)
        self._least, self._unseen = (_NEVER, _NEVER), [core.open.table]

    def _note(self) -> None:
        core = 0 if self._core is None else self._core.rows
        self._flows.memory.note(self, self._rows_held + core)


class _Core:
    """Open flows, and flows that ended recently, in memory."""

    def __init__(self, flows: Flows, opened: Parts, ends: list[Parts]) -> None:
        self._flows = flows
        self._empty = parts_of_events(Table(flows.family, 0, {}))
        self.open, self.ends = opened, RecentEnds(self._empty, ends)

    @property
    def rows(self) -> int:
        return len(self.open.table) + sum(len(ends.table) for ends in self.ends.kept)

    def pair(self, batch: Parts) -> Iterator[Table]:
        """Pair rows with the open flows; yields flows that ended."""
        has_dump = (batch.table["seen"] == EXISTING).any()
        ends = self.ends.all() if has_dump else self._empty
        work, flows = self._group(ends, batch)
        if not has_dump:
            # Of other rows, only an end without a beginning is compared with flows that ended.
            alone = flows.lone_ends
            ends = self.ends.like(work.table.take(alone)) if len(alone) else ends
            if len(ends.table):
                work, flows = self._group(ends, batch)
        if len(flows.repeats):
            repeats = work.table.take(flows.repeats)
            self._flows.given_repeats(repeats.select((*KEY, "seen", "time")))
        self.ends.remember(batch)
        self.open = open_flows(work, flows)
        done = ended_flows(work, flows)
        if len(done):
            yield _without_time(done)

    def snapshot(self, begin_ns: int, end_ns: int) -> Iterator[Table]:
        """End the flows that a complete dump lacks."""
        table = self.open.table
        if not len(table):
            return
        missing = table["time"] < begin_ns
        bound = missing & (table["end_source"] == Source.BOUND)
        late = bound & (np.abs(begin_ns - table["end"]) > LATE_NS)
        if late.any():
            yield _without_time(table.take(late))
        self.open.table = with_bound(table, missing & ~bound, end_ns)
        if late.any():
            self.open = self.open.take(np.flatnonzero(~late))

    def give_up(self, count: int) -> Table:
        """The `count` flows that were silent for longest, as they are: open."""
        order = np.argsort(self.open.table["time"], kind="stable")
        given = self.open.table.take(order[:count])
        self.open = self.open.take(np.sort(order[count:]))
        return given

    def _group(self, ends: Parts, batch: Parts) -> tuple[Parts, grouping.Flows]:
        """`ends`, the open flows and `batch`, and how they are cut into flows."""
        work = Parts.concat([ends, self.open, batch])
        old_ends = len(ends.table)
        work.table = _numbered(work, old_ends)
        carried = len(work.table) - len(batch.table)
        return work, grouping.group(work, old_ends, carried, self._flows.gaps)


def _without_time(table: Table) -> Table:
    return table.select([name for name in table.columns if name != "time"])


def _numbered(work: Parts, old_ends: int) -> Table:
    """The rows, with numbers for ids where flows of one key are open at once.

    The first `old_ends` rows are ends of earlier flows: they do not take part.
    """
    begins, ends = ((work.table["seen"] & event) != 0 for event in (NEW, DESTROY))
    ends[:old_ends] = begins[:old_ends]
    return lookalikes.number(work.table, work.row, begins, ends)
