"""Parts of connections: what `pairing` puts together.

A part is one event, or a connection that an earlier pairing (of another segment) left incomplete.
Also: which columns a connection has, and when it is complete.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import MASTER, Array, Event, Source, Table, bit, bits, concat
from ctrecorder.connections.flowkey import KEY
from ctrecorder.times import END, SECOND

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Columns of which a connection has the last value that was present.
VALUES = (
    "status",
    "mark",
    "orig_packets",
    "orig_bytes",
    "reply_packets",
    "reply_bytes",
    "tcp_state",
    "helper",
    "labels",
)
SPAN = ("start", "start_source", "end", "end_source", "seen")
COUNTERS = ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes")
# The columns that pairing needs; a reader that pairs loads them, and of VALUES those that it wants.
# Status and counters show whether a DESTROY without kernel times came again.
NEEDS = frozenset((*KEY, *SPAN, "time", "event", "stop", "present", "status", *COUNTERS))

# An event that the kernel does not date is dated when it is received, at most this much too late.
# A recorder that received later writes a GAP.  More: a question names too many.  Less: a recorder
# on a busy machine has gaps all the time.
RECEIPT_LATE_NS = 3 * SECOND // 2

_EVENT_BITS = bits(("time", "event", "start", "stop"))
_SEEN = np.full(256, 1 << (Event.UPDATE - 1), np.uint8)
_SEEN[list(Event)] = [1 << (event - 1) for event in Event]
# Bits of the column `seen`
NEW, UPDATE, DESTROY, EXISTING = (int(_SEEN[event]) for event in Event)
# A start that is so much later than an event that came after it was dated by a clock that was set
# back since.  Less: rows that came late count.  More than the least overlap of two steps in
# `query.coverage`: after such steps, a flow counts as not begun.
_AHEAD_NS = 30 * SECOND
_START_SOURCE = np.full(256, Source.BOUND, np.uint8)
_START_SOURCE[[Event.NEW, Event.DESTROY]] = Source.RECEIPT, Source.UNKNOWN


@dataclass
class Parts:
    """Parts, the rows of `table`.

    The column `time` of the table is the greatest time of the part's events.  The arrays, (rows,)
    each, describe the part's last event in the order of arrival.  (One structured array instead of
    them is slower to join and to select from.)

    last_time: its time, ns.
    row: its number in the order of arrival.
    exact: the kernel reported that time.
    ended: the flow ended with it.
    """

    table: Table
    last_time: Ints
    row: Ints
    exact: Bools
    ended: Bools

    def take(self, index: Ints) -> Parts:
        """The parts with the numbers `index`."""
        return Parts(
            self.table.take(index),
            self.last_time.take(index),
            self.row.take(index),
            self.exact.take(index),
            self.ended.take(index),
        )

    @staticmethod
    def concat(parts: list[Parts]) -> Parts:
        """All parts of `parts` (at least one), in order."""
        parts = [part for part in parts if len(part.table)] or parts[:1]
        return Parts(
            concat([part.table for part in parts]),
            np.concatenate([part.last_time for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.exact for part in parts]),
            np.concatenate([part.ended for part in parts]),
        )


def parts_of_events(table: Table) -> Parts:
    """Each event as a part."""
    event, time = table["event"], table["time"].astype(np.int64)
    present = table["present"].astype(np.uint32)
    columns: dict[str, Array] = {
        name: table.columns[name] for name in (*KEY, *VALUES, *MASTER) if name in table
    }
    ended = event == Event.DESTROY
    start, start_source = np.where(ended, 0, time), _START_SOURCE[event]
    if "start" in table:
        exact = ((present & bit("start")) != 0) & (table["start"] > 0)
        # The clock was set back since: the flow began before this row, and it is not known when.
        exact &= ~is_ahead(table["start"], time)
        start = np.where(exact, table["start"], start)
        start_source = np.where(exact, np.uint8(Source.KERNEL), start_source)
    end = np.where(ended, time, 0)
    end_source = np.where(ended, np.uint8(Source.RECEIPT), np.uint8(Source.UNKNOWN))
    if "stop" in table:
        exact = ended & ((present & bit("stop")) != 0) & (table["stop"] > 0)
        end = np.where(exact, table["stop"], end)
        end_source = np.where(exact, np.uint8(Source.KERNEL), end_source)
    columns |= {
        "time": time,
        "start": start,
        "start_source": start_source,
        "end": end,
        "end_source": end_source,
        "seen": _SEEN[event],
        "present": present & np.uint32(~_EVENT_BITS & 0xFFFFFFFF),
    }
    rows, exact_time = len(table), (present & bit("time")) != 0
    part = Table(table.family, rows, columns)
    return Parts(part, time, np.zeros(rows, np.int64), exact_time, ended)


def is_ahead(start: Array, event: Ints) -> Bools:
    """(rows,): whether a start, ns, is too late for a flow with an event at `event` after it."""
    ahead: Bools = start > np.minimum(event, END - _AHEAD_NS) + _AHEAD_NS
    return ahead


def has_ended(table: Table) -> Bools:
    """(rows,): whether a connection has certainly ended.

    Its end is a DESTROY, or a BOUND that no later row can replace (then `time` is 0).
    """
    ended: Bools = ((table["seen"] & DESTROY) != 0) | (
        (table["end_source"] == Source.BOUND) & (table["time"] == 0)
    )
    return ended


def is_whole(table: Table) -> Bools:
    """(rows,): whether both start and end of a connection were paired.

    The other connections are parts, which can be joined with parts of other segments.
    """
    whole: Bools = ((table["seen"] & NEW) != 0) & has_ended(table) & (table["time"] == 0)
    whole |= table["seen"] == 0
    return whole


def with_possible_beginnings(table: Table, until: int) -> Table:
    """Connections of a segment, in which those that began up to `until`, ns, stay parts.

    Their NEW may have come again: then they began in the segment before.
    """
    both, has_id = NEW | DESTROY, (table["present"] & np.uint32(bit("id"))) != 0
    stay = ((table["seen"] & both) == both) & has_id & (table["start"] <= until)
    last = np.maximum(table["start"], table["end"]).astype(np.int64)
    time = np.where(stay, last, table["time"])
    return Table(table.family, len(table), {**table.columns, "time": time})


def parts_of_connections(table: Table) -> Parts:
    """Connections that are not whole as parts."""
    last = np.maximum(table["time"], np.maximum(table["start"], table["end"])).astype(np.int64)
    names = (*KEY, *VALUES, *MASTER, *SPAN, "present")
    rows = len(table)
    part = Table(table.family, rows, {**table.select(names).columns, "time": last})
    no_row, inexact = np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    return Parts(part, last, no_row, inexact, has_ended(table))
