"""Since when a segment has connections: with its last time, this decides if a hold keeps it.

A connection can have begun long before the segment: its end or a table dump shows it.  A squeezed
segment has this start in its index.  Of events it is read here, so that a hold means the same
before and after squeezing.
"""

from __future__ import annotations

import numpy as np

from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import FormatError
from ctrecorder.segment.recording import Block, Recording

_STARTS = ("start", "time")


def earliest_start(segment: Recording) -> int:
    """The earliest start of a connection, or the earliest time of a block, ns UTC.

    A damaged block is left out.
    """
    since = segment.times[0]
    for group in segment.in_recording_order(segment.blocks_of(Kind.EVENTS)):
        for table in _tables(segment, group):
            starts = np.where(table["start"] != 0, table["start"], table["time"])
            since = min(since, int(starts.min(initial=since)))
    return since


def _tables(segment: Recording, group: list[Block]) -> list[Table]:
    """The starts and times in a group of blocks; [] if a block is damaged."""
    if group[0].joins:
        return segment.read_small(group, _STARTS)
    try:
        return [segment.read(group[0], _STARTS)]
    except FormatError:
        return []
