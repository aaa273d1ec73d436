"""A sample of the flows, in which the recorder itself finds proofs of silent loss.

The rules are those of `connections/unheard`, which needs all flows; the recorder has no room for
them.  It keeps those whose id ends in six zero bits.  The kernel's id (nf_ct_get_id) is a hash of
the flow with a random key: of its tuple, its address and its namespace.  So this is a sample by a
hash of the key that nobody can predict or evade, and it costs a comparison for each event.  All
events of a flow have one id, so they are all in the sample or none is.

Instead of pairing, ids and ports are compared: a flow has a NEW if any NEW with them was received
since the dump before it.  They are used again, so this finds less, and nothing that is not so.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.columns import Event, Table, bit, bits
from ctrecorder.connections.proof import Proof
from ctrecorder.connections.repeats import NAT_CLASH, Gaps
from ctrecorder.connections.unheard import NEAR_NS, QUEUED_NS
from ctrecorder.ctlog.frame import Gap
from ctrecorder.spans import Span, joined
from ctrecorder.watch.hidden import NOTRACK

LIMIT_BYTES = 2 << 20
# Rows (40 bytes) are sorted so many at a time: each call of numpy costs more than a row.
_BATCH_ROWS = 1024
FIRST_MASK, _LAST_MASK = 63, 0xFFFFFFFF
_SUSPECT = np.dtype([("key", "u8"), ("start", "i8"), ("family", "u1"), ("l4proto", "u1")])
_ROW = np.dtype(
    [
        *(("time", "i8"), ("start", "i8"), ("present", "u4"), ("id", "u4"), ("status", "u4")),
        *(("orig_sport", "u2"), ("orig_dport", "u2")),
        *(("event", "u1"), ("l4proto", "u1"), ("family", "u1")),
    ]
)
_COLUMNS = tuple(name for name in _ROW.names or () if name != "family")
_ZERO = np.uint32(0)  # comparing with a number of Python costs a conversion
_ID, _START = np.uint32(bit("id")), np.uint32(bit("start"))
_TOLD = np.uint32(bits(("start", "status")))

_Keys = NDArray[np.uint64]
_Bools = NDArray[np.bool_]


class FlowSample:
    """Takes the rows of events and dumps, and the dumps; finds proofs between two complete ones.

    The key of a flow is its id and the ports of its original tuple.  Memory: at most LIMIT_BYTES,
    and 40 KiB for rows that wait.  Where that is not enough, the ids of the sample end in one more
    zero bit.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES, mask: int = FIRST_MASK) -> None:
        """`mask`: the bits of the id that are 0 in the sample."""
        self._limit = limit_bytes
        self._mask = np.uint32(mask)
        self._rows = np.zeros(_BATCH_ROWS, _ROW)
        self._used = 0  # rows that wait
        self._first: Span | None = None  # the last complete dump
        self._second: Span | None = None  # the next one, until it can be decided
        self._news: list[_Keys] = []  # since `_first` had ended
        self._later: list[_Keys] = []  # since `_second` had ended
        self._suspects: list[NDArray[np.void]] = []
        self._gaps: list[tuple[int, int, int | None]] = []
        self._steps: list[Span] = []

    @property
    def nbytes(self) -> int:
        """The bytes of keys and suspects."""
        return sum(each.nbytes for each in (*self._news, *self._later, *self._suspects))

    def take(self, table: Table) -> None:
        """Take the rows of a table of events or of a dump that are in the sample."""
        if "id" not in table:
            return
        chosen = ((table["id"] & self._mask) == _ZERO).nonzero()[0]
        while len(chosen):
            room = _BATCH_ROWS - self._used
            here, chosen = chosen[:room], chosen[room:]
            rows = self._rows[self._used : self._used + len(here)]
            rows["family"] = table.family
            for name in _COLUMNS:
                rows[name] = table[name][here] if name in table else 0
            self._used += len(here)
            if self._used == _BATCH_ROWS:
                self._sort()

    def add_gap(self, gap: Gap) -> None:
        """Add a GAP that has ended.

        What a NOTRACK rule hides has no entry in the table.  Before the first dump it explains
        nothing.
        """
        has_ended = gap.facts.get("open") is not True
        if has_ended and gap.reason != NOTRACK and self._first is not None:
            self._gaps.append((gap.begin, gap.end, gap.facts.get("family")))

    def add_step(self, begin: int, end: int) -> None:
        """Add a step of the clock or a suspend: times before and after cannot be compared."""
        self._steps = joined([*self._steps, (begin, end)])
        self._restart(None)

    def add_dump(self, begin: int, end: int, *, complete: bool) -> None:
        """Add a dump, ns UTC, whose rows were taken."""
        self._sort()
        if not complete:
            self._restart(None)
        elif self._first is None or begin < self._first[1]:
            self._restart((begin, end))
        else:
            # If the one before is not decided yet, this one takes its place.
            self._second = begin, end
            self._news += self._later
            self._later = []

    def proofs(self, watermark: int, lasting: Iterable[Gap]) -> list[Proof]:
        """The proofs since the last call.

        `watermark`: all events until then were taken, ns UTC.  `lasting`: the GAPs that are open.
        """
        first, second = self._first, self._second
        if first is None or second is None or watermark < second[1] + QUEUED_NS:
            return []
        self._sort()
        suspects = np.concatenate([np.empty(0, _SUSPECT), *self._suspects])
        lie = suspects["start"] <= second[1]
        found = []
        if not _touches(self._steps, (first[0], second[1])):
            proved = np.unique(self._unexplained(suspects[lie], lasting))
            for family in np.unique(proved["family"]):
                of_family = proved[proved["family"] == family]
                protocols = tuple(int(each) for each in np.unique(of_family["l4proto"]))
                found.append(Proof(first[0], second[1], int(family), protocols, len(of_family)))
        self._first, self._second = second, None
        self._news, self._later = self._later, []
        self._suspects = [suspects[suspects["start"] > second[1] + NEAR_NS]]
        near = second[0] - NEAR_NS
        self._gaps = [gap for gap in self._gaps if gap[1] >= near]
        self._steps = [step for step in self._steps if step[1] >= near]
        return found

    def _unexplained(self, suspects: NDArray[np.void], lasting: Iterable[Gap]) -> NDArray[np.void]:
        """The `suspects` that have no NEW and do not begin near a GAP."""
        suspects = suspects[~_are_in(suspects["key"], self._sorted_news())]
        gaps = self._gaps + [
            (gap.begin, times.END, gap.facts.get("family"))
            for gap in lasting
            if gap.reason != NOTRACK
        ]
        explained = np.zeros(len(suspects), np.bool_)
        for family in np.unique(suspects["family"]):
            spans = Gaps((begin, end) for begin, end, of in gaps if of in (None, family))
            near = spans.touch(suspects["start"], suspects["start"], NEAR_NS)
            explained |= near & (suspects["family"] == family)
        return suspects[~explained]

    def _sorted_news(self) -> _Keys:
        keys = np.concatenate([np.empty(0, np.uint64), *self._news, *self._later])
        keys.sort()
        return keys

    def _restart(self, first: Span | None) -> None:
        self._first, self._second = first, None
        self._news, self._later, self._suspects, self._gaps = [], [], [], []
        self._used = 0

    def _sort(self) -> None:
        """Sort the waiting rows into NEW and suspects."""
        rows = self._rows[: self._used]
        rows = rows[(rows["present"] & _ID) != 0]
        self._used = 0
        self._note_steps(rows)
        if self._first is None:
            return
        is_new = rows["event"] == Event.NEW
        news = self._news if self._second is None else self._later
        news.append(_keys(rows[is_new]))
        chosen = (rows["event"] == Event.DESTROY) | (rows["event"] == Event.EXISTING)
        chosen &= (rows["present"] & _TOLD) == _TOLD
        chosen &= (rows["status"] & NAT_CLASH) == 0
        rows = rows[chosen & (rows["start"] > self._first[1] + NEAR_NS)]
        suspects = np.empty(len(rows), _SUSPECT)
        suspects["key"] = _keys(rows)
        for name in ("start", "family", "l4proto"):
            suspects[name] = rows[name]
        self._suspects.append(suspects)
        if self.nbytes > self._limit:
            self._shrink()

    def _note_steps(self, rows: NDArray[np.void]) -> None:
        """A flow that begins after its event shows a step of the clock that was not noticed."""
        told = (rows["present"] & _START) != 0
        ahead = rows[told & (rows["start"] > rows["time"] + NEAR_NS)]
        if len(ahead):
            step = int(ahead["time"].min()), int(ahead["start"].max())
            self._steps = joined([*self._steps, step])

    def _shrink(self) -> None:
        """Drop what has a NEW; if that is not enough, take a smaller sample."""
        heard = self._sorted_news()
        self._suspects = [each[~_are_in(each["key"], heard)] for each in self._suspects]
        while self.nbytes > self._limit // 2 and self._mask != _LAST_MASK:
            self._mask = self._mask << np.uint32(1) | np.uint32(1)
            self._news = [each[self._in_sample(each)] for each in self._news]
            self._later = [each[self._in_sample(each)] for each in self._later]
            self._suspects = [each[self._in_sample(each["key"])] for each in self._suspects]
        if self.nbytes > self._limit // 2:  # these ids are no hashes
            self._restart(None)

    def _in_sample(self, keys: _Keys) -> _Bools:
        """(keys,): the id, which is the lower half of a key, ends in enough zero bits."""
        found: _Bools = (keys & np.uint64(self._mask)) == 0
        return found


def _keys(rows: NDArray[np.void]) -> _Keys:
    """(rows,): the keys."""
    keys = rows["id"].astype(np.uint64)
    keys |= rows["orig_sport"].astype(np.uint64) << np.uint64(32)
    keys |= rows["orig_dport"].astype(np.uint64) << np.uint64(48)
    return keys


def _are_in(keys: _Keys, ordered: _Keys) -> _Bools:
    """(keys,): whether each is one of `ordered`.  np.isin would take several times its memory."""
    if not len(ordered):
        return np.zeros(len(keys), np.bool_)
    index = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    found: _Bools = ordered[index] == keys
    return found


def _touches(spans: Iterable[Span], window: Span) -> bool:
    return any(begin - NEAR_NS <= window[1] and end + NEAR_NS >= window[0] for begin, end in spans)
