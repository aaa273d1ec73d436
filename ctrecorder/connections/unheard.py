"""Proof of silent loss: flows that began while events were received, and have no NEW.  Pure.

A complete dump of the table contains flows.  If one of them began after the complete dump before
it, its NEW was sent while the recorder received events.  If the log has no such NEW and no GAP
there, events were lost, and nothing else shows it.  The same is true of a DESTROY without a NEW.
What can be explained in another way proves nothing; `Unheard.proofs` has the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Source, Table, bit
from ctrecorder.connections import flowkey
from ctrecorder.connections.open_flows import Store
from ctrecorder.connections.parts import DESTROY, EXISTING, NEW, Bools, Ints
from ctrecorder.connections.proof import Proof
from ctrecorder.connections.repeats import NAT_CLASH, Gaps
from ctrecorder.times import SECOND

# A NEW of this age can still be in a queue.  Less: a NEW that is late is taken for lost.  More: a
# loss is reported later.
QUEUED_NS = 5 * SECOND
# A start so near to a GAP, or to the end of the dump before, proves nothing: two readings of a
# clock differ, and a packet can wait (NFQUEUE) between the creation of its flow and its insertion.
NEAR_NS = SECOND
_NATED = 0x30  # IPS_SRC_NAT, IPS_DST_NAT
# Connections of a family without a DESTROY that are kept in memory, 4 MiB.
_HELD_NEWS = 1 << 18


class Dump(NamedTuple):
    """A dump of the table.

    `begin`, `end`: ns.  `complete`: it contains the whole table.
    `protocols`: those that are recorded, empty for all.  `nat_only`: only connections with NAT are.
    """

    begin: int
    end: int
    complete: bool = True
    protocols: frozenset[int] = frozenset()
    nat_only: bool = False


@dataclass
class _Flows:
    """Connections of one family that may prove a loss; (rows,) each.

    start: of the kernel, ns.
    end: ns, of an end that is known.
    has_destroy: their DESTROY was received.
    has_bound: their end is a BOUND.
    protocol, is_nated: for filters.
    key: hash of the key.
    nameless: hash of the key without the id.
    """

    start: Ints
    end: Ints
    has_destroy: Bools
    has_bound: Bools
    protocol: NDArray[np.uint8]
    is_nated: Bools
    key: NDArray[np.uint64]
    nameless: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Ints | Bools) -> _Flows:
        return _Flows(*(getattr(self, each.name)[index] for each in fields(self)))

    @staticmethod
    def concat(flows: list[_Flows]) -> _Flows:
        return _Flows(
            *(np.concatenate([getattr(one, each.name) for one in flows]) for each in fields(_Flows))
        )


class _Window(NamedTuple):
    """The time between two complete dumps that follow each other; `second`: None after the last."""

    first: Dump
    second: Dump | None
    until: int


class Unheard:
    """Collects what one recording contains, and finds the proofs in it.

    Memory: the connections without a NEW.  Those without a DESTROY wait in temporary files, 16
    bytes each, if there are many.
    """

    def __init__(self, store: Callable[[], Store] | None = None) -> None:
        """`store`: makes a temporary file; None: nothing leaves the memory."""
        self._store = store
        self._dumps: list[Dump] = []
        self._gaps: list[tuple[int, int, int | None]] = []
        self._steps: list[tuple[int, int]] = []
        self._repeats: list[tuple[int, int]] = []
        self._flows: dict[int, list[_Flows]] = {}
        self._news: dict[int, _News] = {}
        self._doubtful: dict[int, list[NDArray[np.uint64]]] = {}

    @property
    def has_flows(self) -> bool:
        """Whether there is a flow that may prove a loss."""
        return bool(self._flows)

    def add_dump(self, dump: Dump) -> None:
        """Add a dump, in the order of recording.

        A dump that was not finished is added with `complete` False.  So is the dump that a segment
        lacks.
        """
        self._dumps.append(dump)

    def add_gap(self, begin: int, end: int, family: int | None = None) -> None:
        """Add a GAP, ns.  `family`: None for all.  One that has not ended: `end` is times.END."""
        self._gaps.append((begin, end, family))

    def add_step(self, begin: int, end: int) -> None:
        """Add a step of the clock or a suspend: the last time before it and the first after, ns."""
        self._steps.append((min(begin, end), max(begin, end)))

    def add_repeats(self, table: Table) -> None:
        """Add events that came again (`Pairer`'s `on_repeats`).

        A DESTROY that came again after long looks like one without a NEW.
        """
        if len(table):
            self.add_repeats_between(int(table["time"].min()), int(table["time"].max()))

    def add_repeats_between(self, begin: int, end: int) -> None:
        """Add that events came again between two times, ns."""
        self._repeats.append((begin, end))

    def add_events(self, table: Table) -> None:
        """Add events, as they are fed to `Pairer`.

        An event of a flow that begins later than the event shows a step of the clock that no MARK
        reports.  Without this, a flow that is older than the recording can look younger.
        """
        if "start" in table and "time" in table:
            time = table["time"].astype(np.int64)
            told = (table["present"] & np.uint32(bit("start"))) != 0
            ahead = np.flatnonzero(told & (table["start"] > time + NEAR_NS))
            if len(ahead):
                self.add_step(int(time[ahead].min()), int(table["start"][ahead].max()))

    def add_doubtful(self, table: Table) -> None:
        """Add DESTROY rows that may have come again: they prove nothing of their flows."""
        self._doubtful.setdefault(table.family, []).append(flowkey.hashes(table))

    def add_connections(self, table: Table) -> None:
        """Add connections that `Pairer` returned, with KEY, SPAN, `present` and `status`.

        Those of `Pairer.finish` too: without them, `proofs` cannot know of a NEW that was late.
        """
        seen = table["seen"]
        is_new = (seen & NEW) != 0
        alone = np.flatnonzero(is_new & ((seen & DESTROY) == 0))
        if len(alone):
            # ctsqueeze drops the id of one that a dump ended.
            news = table.take(alone)
            if table.family not in self._news:
                self._news[table.family] = _News(self._store)
            self._news[table.family].add(flowkey.hashes(news), news["start"].astype(np.int64))
        if "status" not in table:
            return  # then it is not known whether a flow lost a clash
        chosen = ~is_new & ((seen & (EXISTING | DESTROY)) != 0)
        chosen &= table["start_source"] == Source.KERNEL
        chosen &= (table["present"] & np.uint32(bit("status"))) != 0
        chosen &= (table["status"] & NAT_CLASH) == 0
        if chosen.any():
            rows = table.take(chosen)
            self._flows.setdefault(table.family, []).append(
                _Flows(
                    rows["start"].astype(np.int64),
                    rows["end"].astype(np.int64),
                    (rows["seen"] & DESTROY) != 0,
                    rows["end_source"] == Source.BOUND,
                    np.array(rows["l4proto"]),
                    (rows["status"] & _NATED) != 0,
                    flowkey.hashes(rows),
                    flowkey.hashes(_without_id(rows)),
                )
            )

    def proofs(self, watermark: int) -> list[Proof]:
        """The proofs of silent loss, by time and family.

        `watermark`: all events until then were added, ns.

        No proof are: a flow whose NEW may still be queued (QUEUED_NS before the watermark); a start
        within NEAR_NS of a GAP of its family; flows without a kernel start, or that lost a clash
        (NAT_CLASH); flows that filters leave out; all flows where the dump before or after is not
        complete, or a clock step or a suspend lies between; a flow whose key has a NEW that was not
        joined with it; a DESTROY where events came again, or that may have come again itself.
        """
        found = []
        windows = list(self._windows(watermark))
        for family, added in sorted(self._flows.items()):
            flows = _Flows.concat(added)
            flows = flows.take(np.argsort(flows.start, kind="stable"))
            gaps = Gaps((begin, end) for begin, end, of in self._gaps if of in (None, family))
            news = self._news.get(family) or _News(None)
            # A BOUND that is no dump's end is the start of another flow of the key.
            ends = [dump.end for dump in self._dumps if dump.complete]
            flows = flows.take(
                ~gaps.touch(flows.start, flows.start, NEAR_NS)
                & (~flows.has_bound | np.isin(flows.end, ends))
                & ~news.follow(flows.key, flows.start)
                & ~news.follow(flows.nameless, flows.start)
                & ~(flows.has_destroy & np.isin(flows.key, self._doubtful_keys(family)))
            )
            for window in windows:
                proved = self._in_window(window, flows, watermark)
                if len(proved):
                    protocols = tuple(int(each) for each in np.unique(proved.protocol))
                    found.append(
                        Proof(window.first.begin, window.until, family, protocols, len(proved))
                    )
        return sorted(found)

    def _doubtful_keys(self, family: int) -> NDArray[np.uint64]:
        return np.concatenate([np.empty(0, np.uint64), *self._doubtful.get(family, [])])

    def _windows(self, watermark: int) -> Iterator[_Window]:
        """The windows in which a flow without NEW is a proof."""
        steps = Gaps(self._steps)
        following: list[Dump | None] = [*self._dumps[1:], None]
        for first, second in zip(self._dumps, following, strict=False):
            until = watermark if second is None else second.end
            if not first.complete or until < first.end:
                continue
            if second is not None and (
                not second.complete
                or second.begin < first.end
                or second.end + QUEUED_NS > watermark
            ):
                continue
            if not _touch(steps, first.begin, until, NEAR_NS):
                yield _Window(first, second, until)

    def _in_window(self, window: _Window, flows: _Flows, watermark: int) -> _Flows:
        """Those of `flows`, which are in order of start, that the window proves to be lost."""
        first, second, until = window
        low, high = np.searchsorted(flows.start, [first.end + NEAR_NS, until], "right")
        flows = flows.take(np.arange(low, high))
        proved = np.ones(len(flows), np.bool_)
        if second is None:
            proved &= flows.has_destroy & (flows.end + QUEUED_NS <= watermark)
        for dump in (first, second or first):
            if dump.protocols:
                proved &= np.isin(flows.protocol, list(dump.protocols))
            if dump.nat_only:
                proved &= flows.is_nated
        if _touch(Gaps(self._repeats), first.begin, until, QUEUED_NS):
            proved &= ~flows.has_destroy
        return flows.take(proved)


def _without_id(table: Table) -> Table:
    return table.select([name for name in table.columns if name != "id"])


def _touch(spans: Gaps, begin: int, end: int, slack: int) -> bool:
    """Whether one of `spans` is within `slack` ns of the time from `begin` to `end`."""
    ends = np.array([[begin], [end]], np.int64)
    return bool(spans.touch(ends[0], ends[1], slack)[0])


class _News:
    """Starts of connections that have a NEW and no DESTROY, by the hash of their key."""

    def __init__(self, make_store: Callable[[], Store] | None) -> None:
        self._make_store = make_store
        self._stored: Store | None = None
        self._held: list[tuple[NDArray[np.uint64], Ints]] = []
        self._rows = 0  # of `_held`

    def add(self, keys: NDArray[np.uint64], starts: Ints) -> None:
        """Add connections.  Many are moved to a temporary file."""
        self._held.append((keys, starts))
        self._rows += len(keys)
        if self._rows < _HELD_NEWS or self._make_store is None:
            return
        if self._stored is None:
            self._stored = self._make_store()
        sorted_keys, sorted_starts = self._sorted()
        self._stored.append({"key": sorted_keys, "start": sorted_starts})
        self._held, self._rows = [], 0

    def follow(self, key: NDArray[np.uint64], start: Ints) -> Bools:
        """(rows,): whether one has the `key` of a flow and did not begin before its `start`."""
        found: Bools = np.zeros(len(key), np.bool_)
        for keys, starts in self._pieces():
            last = np.maximum(np.searchsorted(keys, key, "right") - 1, 0)
            found |= (keys[last] == key) & (starts[last] >= start - NEAR_NS)
        return found

    def _pieces(self) -> Iterator[tuple[NDArray[np.uint64], Ints]]:
        """All that was added, in pieces that are sorted by key and start."""
        if self._held:
            yield self._sorted()
        for columns in self._stored.read() if self._stored is not None else ():
            yield columns["key"], columns["start"]

    def _sorted(self) -> tuple[NDArray[np.uint64], Ints]:
        """What is in memory, by key and start."""
        keys = np.concatenate([keys for keys, _ in self._held])
        starts = np.concatenate([starts for _, starts in self._held])
        order = np.lexsort((starts, keys))
        return keys[order], starts[order]
