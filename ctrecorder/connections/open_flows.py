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

from ctrecorder.columns import Array, Table
from ctrecorder.connections import flowkey, late_dumps, lookalikes
from ctrecorder.connections.core import Core
from ctrecorder.connections.grouping import RecentEnds
from ctrecorder.connections.late_dumps import Dump
from ctrecorder.connections.parts import Parts, parts_of_events
from ctrecorder.connections.repeats import Gaps

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
# Dumps that wait with the rows (see `late_dumps`).  More: what ended between them is given later.
_MAX_DUMPS = 64
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
        """End the flows that a complete dump lacks; yields flows that ended.

        It can wait with the rows before it, until these are paired.
        """
        yield from self._root.snapshot(Dump(self._fed, begin_ns, end_ns))

    def may_pass(self, rows: int) -> bool:
        """Whether dumps may cost a pass over `rows` rows more, which is then counted."""
        if rows > self._credit:
            return False
        self._credit -= rows
        return True

    def settle(self) -> Iterator[Table]:
        """Pair all that waits; yields flows that ended."""
        for leaf in list(self._root.leaves()):
            yield from leaf.settle()

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
        self._core: Core | None = Core(flows, empty, [])
        self._store: Store | None = None
        self._waiting: list[Parts] = []
        self._dumps: list[Dump] = []  # which wait with the rows
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

    def snapshot(self, dump: Dump) -> Iterator[Table]:
        for leaf in list(self.leaves()):
            # A flow whose last row is later cannot be missing.
            if leaf.least()[1] < dump.begin:
                if leaf._dumps and not late_dumps.are_in_order(leaf._dumps[-1], dump):
                    yield from leaf.settle()
                for part in list(leaf.leaves()):
                    part._dumps.append(dump)
                    if len(part._dumps) >= _MAX_DUMPS:
                        yield from part.settle()

    def settle(self) -> Iterator[Table]:
        """Pair all that waits in a part that is not divided."""
        yield from self._pair()
        for leaf in self.leaves():
            leaf._note()

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

    def _loaded(self) -> Core:
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
        self._core = Core(self._flows, opened, saved[_ENDS])
        return self._core

    def _pair(self) -> Iterator[Table]:
        """Pair the waiting rows and dumps with the open flows; divide the part if too many stay
        open.
        """
        dumps, self._dumps = self._dumps, []
        if dumps and not self._flows.may_pass(self._rows_open + self._rows_waiting):
            dumps = []
        if not self._rows_waiting and not dumps:
            return
        core = self._loaded()
        batch = Parts.concat(self._waiting or [self._empty])
        self._waiting, self._rows_waiting, self._rows_held = [], 0, 0
        yield from core.pair(batch, dumps)
        del batch
        self._settle(core)
        if self._flows.memory.store is not None:
            yield from self._divide(core)

    def _divide(self, core: Core) -> Iterator[Table]:
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
            new = part._core = Core(self._flows, opened[number], kept)
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

    def _settle(self, core: Core) -> None:
        """Note what is open, when no rows wait."""
        self._rows_open = len(core.open.table)
        self._least, self._unseen = (_NEVER, _NEVER), [core.open.table]

    def _note(self) -> None:
        core = 0 if self._core is None else self._core.rows
        self._flows.memory.note(self, self._rows_held + core)
