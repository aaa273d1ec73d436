"""Pieces of connections: an event, or a part of a connection that was squeezed before, as what
`pairing` puts together.

Also what the rows of a connection tell of it: in which columns, and by which events.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array, Event, Source, Table, bit, bits, concat
from ctrecorder.connections.flowkey import KEY

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

VALUES = (
    "status",
    "mark",
    "orig_packets",
    "orig_bytes",
    "reply_packets",
    "reply_bytes",
    "tcp_state",
)
SPAN = ("start", "start_source", "end", "end_source", "seen")
NEEDS = frozenset(
    (*KEY, *SPAN, "time", "event", "stop", "present")
)  # a reader that pairs must load these; VALUES as it likes

_EVENT_BITS = bits(("time", "event", "start", "stop"))
_SEEN = np.full(256, 1 << (Event.UPDATE - 1), np.uint8)
_SEEN[list(Event)] = [1 << (event - 1) for event in Event]
NEW, UPDATE, DESTROY, EXISTING = (int(_SEEN[event]) for event in Event)
_START_SOURCE = np.full(256, Source.BOUND, np.uint8)
_START_SOURCE[[Event.NEW, Event.DESTROY]] = Source.RECEIPT, Source.UNKNOWN


@dataclass
class Parts:
    """Pieces, the rows of `table`.

    `time` is when last heard of, `heard` (rows,) the time of the last row that went in, `row`
    (rows,) its number in the order of arrival, `exact` (rows,) whether that time is the kernel's,
    `ended` (rows,) whether the flow ended with it.
    """

    table: Table
    heard: Ints
    row: Ints
    exact: Bools
    ended: Bools

    def take(self, index: Array) -> Parts:
        return Parts(
            self.table.take(index),
            self.heard[index],
            self.row[index],
            self.exact[index],
            self.ended[index],
        )

    @staticmethod
    def concat(parts: list[Parts]) -> Parts:
        parts = [part for part in parts if len(part.table)] or parts[:1]
        return Parts(
            concat([part.table for part in parts]),
            np.concatenate([part.heard for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.exact for part in parts]),
            np.concatenate([part.ended for part in parts]),
        )


def parts_of_events(table: Table) -> Parts:
    """Each event as a part of a connection."""
    rows, event, time = len(table), table["event"], table["time"].astype(np.int64)
    known = table["present"].astype(np.uint32)
    columns: dict[str, Array] = {
        name: table.columns[name] for name in (*KEY, *VALUES) if name in table
    }
    ended = event == Event.DESTROY
    start, source = np.where(ended, 0, time), _START_SOURCE[event]
    if "start" in table:
        told = ((known & bit("start")) != 0) & (table["start"] > 0)
        start, source = (
            np.where(told, table["start"], start),
            np.where(told, np.uint8(Source.KERNEL), source),
        )
    end, end_source = (
        np.where(ended, time, 0),
        np.where(ended, np.uint8(Source.RECEIPT), np.uint8(Source.UNKNOWN)),
    )
    if "stop" in table:
        told = ended & ((known & bit("stop")) != 0) & (table["stop"] > 0)
        end, end_source = (
            np.where(told, table["stop"], end),
            np.where(told, np.uint8(Source.KERNEL), end_source),
        )
    columns |= {
        "time": time,
        "start": start,
        "start_source": source,
        "end": end,
        "end_source": end_source,
        "seen": _SEEN[event],
    }
    columns["present"] = known & np.uint32(~_EVENT_BITS & 0xFFFFFFFF)
    exact = (known & bit("time")) != 0
    return Parts(Table(table.family, rows, columns), time, np.zeros(rows, np.int64), exact, ended)


def has_ended(table: Table) -> Bools:
    """(rows,): which connections have ended for sure: by DESTROY, or by a BOUND that no later row
    can lift (they have no `time`).
    """
    ended: Bools = ((table["seen"] & DESTROY) != 0) | (
        (table["end_source"] == Source.BOUND) & (table["time"] == 0)
    )
    return ended


def is_whole(table: Table) -> Bools:
    """(rows,): which connections began and ended in what was paired; the others are parts, which
    may join others.
    """
    whole: Bools = (((table["seen"] & NEW) != 0) & has_ended(table)) | (table["seen"] == 0)
    return whole


def parts_of_connections(table: Table) -> Parts:
    """Parts of connections that were paired before."""
    last = np.maximum(table["time"], np.maximum(table["start"], table["end"])).astype(np.int64)
    names = (*KEY, *VALUES, *SPAN, "present")
    part = Table(table.family, len(table), {**table.select(names).columns, "time": last})
    return Parts(
        part, last, np.zeros(len(table), np.int64), np.zeros(len(table), np.bool_), has_ended(table)
    )
