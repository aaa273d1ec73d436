"""The order of connections in a squeezed segment: rounded, grouped by lifetime, sorted in a block.

Pure.  A block contains connections that ended one after the other and lived about equally long, so
that the times of its index exclude much.  Within a block they are sorted by protocol, addresses,
port and start: equal addresses follow each other and cost nearly nothing, and starts ascend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array, Source, Table, bit, concat
from ctrecorder.connections import flowkey, parts
from ctrecorder.ctlog.frame import ROWS_WRITTEN

# Resolutions of times, ns.
RESOLUTIONS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

# Lists show times in units of this many ns, and cut off the rest.
_SHOWN_NS = 1_000

# The longest lifetimes of the groups, ns; the last group has no limit.  Without groups, one
# connection of a day makes a block of an hour span a day.  Each group ends with a block that is not
# full, so there are few groups.
MAX_LIFETIMES_NS = (15 * 60 * 10**9, 6 * 3600 * 10**9)
# The group of parts: connections without a start or without an end.
_PARTS_GROUP = len(MAX_LIFETIMES_NS) + 1
# A group with fewer rows at the end joins the next one: the cost of a small block is larger than
# what its times exclude.
_MIN_GROUP_ROWS = 4096


def round_times(table: Table, resolution_ns: int) -> Table:
    """`start` rounded down, `end` and `time` rounded up, to multiples of `resolution_ns`.

    So a connection that was open at a moment still is, and one that a dump contained still has a
    `time` after that dump began.  Before that, `end` is cut to microseconds, as lists and queries
    see it: at a resolution of 1 us they show the same as before.
    """
    columns = dict(table.columns)
    if "start" in columns:
        columns["start"] = columns["start"] // resolution_ns * resolution_ns
    if "end" in columns:
        shown = columns["end"] // _SHOWN_NS * _SHOWN_NS
        columns["end"] = -(-shown // resolution_ns) * resolution_ns
    if "time" in columns:
        columns["time"] = -(-columns["time"] // resolution_ns) * resolution_ns
    return Table(table.family, len(table), columns)


def drop_ids(table: Table) -> Table:
    """The table without the kernel's ids, 4 random bytes a connection, and their `present` bit."""
    columns: dict[str, Array] = {
        name: array for name, array in table.columns.items() if name != "id"
    }
    columns["present"] = table["present"] & np.uint32(~bit("id") & 0xFFFFFFFF)
    return Table(table.family, len(table), columns)


class BlockOrdering:
    """Collects connections, and returns sorted blocks when they are full.

    Memory: less than two blocks for each group and family.
    """

    def __init__(self, resolution_ns: int, keep_ids: bool) -> None:
        self._resolution_ns, self._keep_ids = resolution_ns, keep_ids
        # Waiting tables by group and family.
        self._waiting: dict[tuple[int, int], list[Table]] = {}

    def add(self, table: Table) -> list[Table]:
        """Add connections; returns the blocks that are full now, of exactly ROWS_WRITTEN rows."""
        full = []
        table = round_times(table, self._resolution_ns)
        groups = _groups(table)
        order, ends = np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))
        for group, rows in enumerate(np.split(order, ends[:-1])):
            if not len(rows):
                continue
            part = table.take(rows)
            if group != _PARTS_GROUP and not self._keep_ids:
                part = drop_ids(part)
            waiting = self._waiting.setdefault((group, table.family), [])
            waiting.append(part)
            if sum(map(len, waiting)) >= ROWS_WRITTEN:
                whole = concat(waiting)
                rest = len(whole) // ROWS_WRITTEN * ROWS_WRITTEN
                full += _blocks(whole.slice(0, rest), group)
                self._waiting[group, table.family] = [whole.slice(rest, len(whole))]
        return full

    def finish(self) -> list[Table]:
        """The rows that wait, as blocks that are not full."""
        all_waiting, self._waiting = self._waiting, {}
        blocks = []
        for family in sorted({family for _, family in all_waiting}):
            waiting: list[Table] = []
            for group in range(_PARTS_GROUP + 1):
                waiting += all_waiting.get((group, family), [])
                rows = sum(map(len, waiting))
                # Parts and whole connections do not share a block.
                if rows and (rows >= _MIN_GROUP_ROWS or group >= _PARTS_GROUP - 1):
                    blocks += _blocks(concat(waiting), group)
                    waiting = []
        return blocks


def _groups(table: Table) -> NDArray[np.uint8]:
    """(rows,): the group of each connection, by its lifetime."""
    start = np.where(table["start_source"] == Source.UNKNOWN, table["end"], table["start"])
    group = np.searchsorted(np.array(MAX_LIFETIMES_NS), table["end"] - start)
    return np.where(parts.is_whole(table), group, _PARTS_GROUP).astype(np.uint8)


def _blocks(table: Table, group: int) -> list[Table]:
    """The rows of a group as sorted blocks of at most ROWS_WRITTEN rows."""
    return [
        _sorted(table.slice(first, first + ROWS_WRITTEN), group)
        for first in range(0, len(table), ROWS_WRITTEN)
    ]


def _sorted(table: Table, group: int) -> Table:
    """The rows of a block in their order.

    Parts of one key keep their order of arrival, by which they are joined again.
    """
    order = (
        table["orig_dport"],
        *_sort_keys(table["orig_dst"]),
        *_sort_keys(table["orig_src"]),
        table["l4proto"],
    )
    return table.take(np.lexsort(order if group == _PARTS_GROUP else (table["start"], *order)))


def _sort_keys(addresses: Array) -> list[Array]:
    """The keys that sort addresses, for np.lexsort: the least significant first."""
    return [addresses] if addresses.dtype.kind == "S" else [*flowkey.digits(addresses)]
