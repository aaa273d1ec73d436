"""Events that the kernel sent again: how to recognise that two events are one.  Pure.

One listener that uses reliable mode and falls behind makes the kernel send NEW and DESTROY again,
to every listener: a DESTROY until that listener has it, a NEW with the next packet of its flow.

- A DESTROY is a repeat if the event before it, of its key, is a DESTROY with the same kernel start
  and stop.  Without kernel times, status and counters must be equal, no GAP may lie between, and
  the status must not be that of a clash, whose flows have no NEW.
- A NEW is a repeat if its flow has a NEW and is open, and no GAP lies between it and the event
  before it.  A dump that lacks the flow has closed it: a NEW that began later is another flow's,
  unless the dump can have overtaken it (`OVERTAKEN_NS`).  (The dumps of a squeezed segment come
  after its connections, so `Gaps` has their times.)  So has a new start of the recorder.

In doubt an event is not a repeat but belongs to a flow whose other events were lost.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ctrecorder.columns import Source, bit, bits
from ctrecorder.connections.parts import (
    COUNTERS,
    EXISTING,
    RECEIPT_LATE_NS,
    Bools,
    Ints,
    Parts,
)
from ctrecorder.times import SECOND

# IPS_NAT_CLASH: the loser of a clash of two packets; the kernel sends no NEW for it.
NAT_CLASH = 0x1000
# A GAP is compared with times of events.  These can be older than their receipt by the backlog of
# a socket (less than a second), and a GAP ends with the block that follows it (a second).  Less:
# the event of another flow counts as a repeat.  More: repeats near a GAP become connections.
GAP_SLACK_NS = 5 * SECOND
_ROUNDED_NS = SECOND  # the greatest rounding of squeezed times
# The rows of a dump are written at once, those of events up to a second later.  So a NEW from
# before the end of a dump can come after it, dated this much later.  Less: a flow that ended while
# the dump ran is listed twice.  More: a flow that began after it can be joined with one that ended
# before, which hides neither.
OVERTAKEN_NS = RECEIPT_LATE_NS
_ID, _COUNTED = np.uint32(bit("id")), np.uint32(bits((*COUNTERS, "status")))
_LEAST, _GREATEST = -(1 << 62), 1 << 62  # times beyond them would overflow when slack is added


class Gaps:
    """The times of which events may be missing, for one family; and of dumps and restarts."""

    def __init__(
        self,
        spans: Iterable[tuple[int, int]] = (),
        known: Gaps | None = None,
        dumps: Iterable[tuple[int, int]] = (),
        restarts: Iterable[int] = (),
    ) -> None:
        """`spans`: (begin, end) of each, ns, in any order.  `known`: gaps to be added to.

        `dumps`: complete dumps, (begin, end) of each, ns.  `restarts`: of the recorder, ns.
        """
        self._begins: Ints
        self._ends: Ints
        self._dumps: Ints = np.array(sorted(dumps), np.int64).reshape(-1, 2)
        self._restarts: Ints = np.array(sorted(restarts), np.int64)
        if known is not None:
            self._restarts = np.union1d(known._restarts, self._restarts)
            self._dumps = np.unique(np.concatenate([known._dumps, self._dumps]), axis=0)
        # The least end of each dump and those that began after it.
        self._dump_ends: Ints = np.minimum.accumulate(self._dumps[::-1, 1])[::-1]
        bounds = [[min(max(each, _LEAST), _GREATEST) for each in span] for span in spans]
        array = np.array(bounds, np.int64).reshape(-1, 2)
        begins, ends = array[:, 0], array[:, 1]
        if known is not None:
            begins = np.concatenate([known._begins, begins])
            ends = np.concatenate([known._ends, ends])
        order = np.argsort(begins, kind="stable")
        begins, ends = begins[order], np.maximum.accumulate(ends[order])
        first = np.ones(len(begins), np.bool_)
        first[1:] = begins[1:] > ends[:-1]
        at = np.flatnonzero(first)
        self._begins, self._ends = begins[at], ends[np.append(at[1:] - 1, len(ends) - 1)[: len(at)]]

    def touch(self, first: Ints, second: Ints, slack: int) -> Bools:
        """(rows,): whether a gap lies within `slack` ns of the time between `first` and `second`.

        `first`, `second`: (rows,) ns, in either order.
        """
        touched = np.zeros(len(first), np.bool_)
        if len(self._begins) and len(first):
            low, high = np.minimum(first, second) - slack, np.maximum(first, second) + slack
            last = np.searchsorted(self._begins, high, "right") - 1
            touched = (last >= 0) & (self._ends[np.maximum(last, 0)] >= low)
        return touched

    def has_dump(self, after: Ints, until: Ints) -> Bools:
        """(rows,): whether a dump began after one time and ended before another, ns."""
        first = np.searchsorted(self._dumps[:, 0], after, "right")
        has_dump: Bools = np.append(self._dump_ends, _GREATEST)[first] < until
        return has_dump

    def has_restart(self, after: Ints, until: Ints) -> Bools:
        """(rows,): whether the recorder began anew between two times, ns."""
        first = np.searchsorted(self._restarts, after, "right")
        has_restart: Bools = first < np.searchsorted(self._restarts, until, "right")
        return has_restart


def same_ends(parts: Parts, here: Ints, before: Ints, gaps: Gaps) -> Bools:
    """(rows,): whether part `here` is the same DESTROY as part `before`, the last of its key."""
    table = parts.table
    first, second = table.take(before), table.take(here)
    same: Bools = ((first["present"] & second["present"]) & _ID) != 0
    is_timed = np.ones(len(here), np.bool_)
    for time, source in (("start", "start_source"), ("end", "end_source")):
        exact, again = (each[source] == Source.KERNEL for each in (first, second))
        same &= (exact == again) & (~exact | (first[time] == second[time]))
        is_timed &= exact
    untimed = np.flatnonzero(same & ~is_timed)
    if len(untimed):
        same[untimed] = _same_counts(parts, here[untimed], before[untimed], gaps)
    return same


def _same_counts(parts: Parts, here: Ints, before: Ints, gaps: Gaps) -> Bools:
    """(rows,): the same for parts without kernel times."""
    first, second = parts.table.take(before), parts.table.take(here)
    same: Bools = (first["present"] & second["present"] & _COUNTED) == _COUNTED
    for name in ("status", *COUNTERS):
        same &= first[name] == second[name]
    same &= (first["status"] & NAT_CLASH) == 0
    return same & ~gaps.touch(parts.last_time[before], parts.last_time[here], GAP_SLACK_NS)


def same_news(parts: Parts, here: Ints, before: Ints, gaps: Gaps) -> Bools:
    """(rows,): whether the NEW of part `here` is a repeat.

    Part `before` is the event before it, of a flow that has a NEW and did not end.
    """
    table = parts.table
    same: Bools = ((table["present"][here] & table["present"][before]) & _ID) != 0
    last, start = parts.last_time[before], table["start"][here]
    is_bound = table["end_source"][before] == Source.BOUND
    same &= ~is_bound | (start <= table["end"][before] + OVERTAKEN_NS)
    # A squeezed start was rounded down.  A part with a row of a dump was in it.
    lacked = gaps.has_dump(last, start + _ROUNDED_NS - OVERTAKEN_NS)
    same &= ~lacked | ((table["seen"][here] & EXISTING) != 0)
    same &= ~gaps.has_restart(last, start + _ROUNDED_NS)
    return same & ~gaps.touch(last, start, GAP_SLACK_NS)
