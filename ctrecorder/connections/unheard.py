"""Proof of silent loss: flows that began while events were received, and have no NEW.  Pure.

A complete dump of the table contains flows.  If one of them began after the complete dump before
it, its NEW was sent while the recorder received events.  If the log has no such NEW and no GAP
there, events were lost, and nothing else shows it.  The same is true of a DESTROY without a NEW.
What can be explained in another way proves nothing; `Unheard.proofs` has the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Source, Table, bit
from ctrecorder.connections import flowkey
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

    Memory: the connections without a NEW, and 16 bytes for each one without a DESTROY.
    """

    def __init__(self) -> None:
        self._dumps: list[Dump] = []
        self._gaps: list[tuple[int, int, int | None]] = []
        self._steps: list[tuple[int, int]] = []
        self._repeats: list[tuple[int, int]] = []
        self._flows: dict[int, list[_Flows]] = {}
        self._news: dict[int, list[tuple[NDArray[np.uint64], Ints]]] = {}
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
            self._news.setdefault(table.family, []).append(
                (flowkey.hashes(news), news["start"].astype(np.int64))
            )
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
            news = _News(self._news.get(family, []))
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

    def __init__(self, added: list[tuple[NDArray[np.uint64], Ints]]) -> None:
        keys = np.concatenate([keys for keys, _ in added] or [np.empty(0, np.uint64)])
        starts = np.concatenate([starts for _, starts in added] or [np.empty(0, np.int64)])
        order = np.lexsort((starts, keys))
        self._keys, self._starts = keys[order], starts[order]

    def follow(self, key: NDArray[np.uint64], start: Ints) -> Bools:
        """(rows,): whether one has the `key` of a flow and did not begin before its `start`."""
        if not len(self._keys):
            return np.zeros(len(key), np.bool_)
        last = np.maximum(np.searchsorted(self._keys, key, "right") - 1, 0)
        found: Bools = self._keys[last] == key
        found &= self._starts[last] >= start - NEAR_NS
        return found
