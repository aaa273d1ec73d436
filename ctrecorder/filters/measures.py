"""What a row counts, and NAT: bytes, packets, duration, which ends were translated.  Each with
where it is known: an unknown value is not 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Array, Event, Source, Table, bit, bits
from ctrecorder.ctlog.decoder import LazyTable

Bools = NDArray[np.bool_]
Rows = Table | LazyTable

COUNTED = ("bytes", "packets")
SIDES = ("orig", "reply")
# The columns that the functions read.
OF_COUNTERS = ("present", *(f"{side}_{unit}" for side in SIDES for unit in COUNTED))
OF_DURATION_OF_CONNECTIONS = ("start", "start_source", "end")
OF_DURATION_OF_EVENTS = ("present", "event", "time", "start", "stop")
OF_SNAT = (
    *("l4proto", "present"),
    *("orig_src", "reply_dst", "orig_sport", "reply_dport", "reply_sport"),
)
OF_DNAT = ("l4proto", "orig_dst", "reply_src", "orig_dport", "reply_sport")


class Measure(NamedTuple):
    """`values`: (rows,), where they are `known`: (rows,) bool."""

    values: Array
    known: Bools


def counted(table: Rows, unit: str, side: str = "") -> Measure:
    """The "bytes" or "packets" of a direction, or of both, uint64.

    What one direction counted is known without the other one.
    """
    names = [f"{each}_{unit}" for each in ((side,) if side else SIDES)]
    present = table["present"]
    known = np.zeros(len(table), np.bool_)
    values = np.zeros(len(table), np.uint64)
    for name in names:
        has = (present & np.uint32(bit(name))) != 0
        known |= has
        values = values + np.where(has, table[name], np.uint64(0))
    return Measure(values, known)


def duration_of_connections(table: Rows, now: int) -> Measure:
    """From start to end, ns; of an open connection until `now`.  Unknown without a start."""
    start, end = table["start"].astype(np.int64), table["end"]
    known = table["start_source"] != Source.UNKNOWN
    return Measure(np.maximum(np.where(end == 0, now, end) - start, 0), known)


def duration_of_events(table: Rows) -> Measure:
    """From the start to the end of the connection that an event ends, ns; unknown of others."""
    present = table["present"]
    known = is_end(table) & ((present & np.uint32(bit("start"))) != 0)
    has_stop = (present & np.uint32(bit("stop"))) != 0
    end = np.where(has_stop, table["stop"], table["time"])
    return Measure(np.maximum(end - table["start"].astype(np.int64), 0), known)


def is_end(table: Rows) -> Bools:
    """(rows,): which events end a connection."""
    found: Bools = table["event"] == Event.DESTROY
    return found


def is_icmp(table: Rows) -> Bools:
    """(rows,): which are of ICMP or ICMPv6."""
    protocol = table["l4proto"]
    found: Bools = (protocol == uapi.IPPROTO_ICMP) | (protocol == uapi.IPPROTO_ICMPV6)
    return found


def snat(table: Rows) -> Bools:
    """(rows,): where the source was translated: its address, its port, or the id of ICMP.

    Where a remote end was left out, one of the ids is not known.
    """
    ids = np.uint32(bits(("orig_sport", "reply_sport")))
    same_port = np.where(
        is_icmp(table),
        (table["orig_sport"] == table["reply_sport"]) | ((table["present"] & ids) != ids),
        table["orig_sport"] == table["reply_dport"],
    )
    found: Bools = (table["orig_src"] != table["reply_dst"]) | ~same_port
    return found


def dnat(table: Rows) -> Bools:
    """(rows,): where the destination was translated: its address, or its port."""
    same_port = (table["orig_dport"] == table["reply_sport"]) | is_icmp(table)
    found: Bools = (table["orig_dst"] != table["reply_src"]) | ~same_port
    return found
