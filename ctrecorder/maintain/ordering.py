"""How connections lie in a squeezed segment: rounded, shelved by how long they lived, sorted so
that like stands by like.

Pure.  A block holds connections that ended one after the other and lived about equally long, so
that its times prune.  Inside it they stand by protocol, addresses, port and start: addresses cost
nearly nothing there, and starts ascend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array, Source, Table, bit, concat
from ctrecorder.connections import flowkey, parts
from ctrecorder.ctlog.frame import ROWS_WRITTEN

RESOLUTIONS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

# What lists show of a time, ns; they cut off the rest.
_SHOWN = 1_000

# Connections that lived up to so long share a shelf, so that one that lived a day does not make a
# block of an hour seem a day long.  Each shelf ends with a block that is not full, so there are
# few.  What has no start or no end has a shelf of its own.
SHELVES_NS = (15 * 60 * 10**9, 6 * 3600 * 10**9)
_PARTS = len(SHELVES_NS) + 1
# A shelf with fewer rows at the end joins the next one: a block of few rows costs more than it
# prunes.
_FEW_ROWS = 4096


def round_times(table: Table, resolution_ns: int) -> Table:
    """`start` rounded down, `end` and `time` up, to multiples of `resolution_ns`.

    So what was open at a moment still is, and what a dump showed was still heard of after that dump
    began.  What `end` has below a microsecond is cut off before: lists and questions have no more,
    so at 1 us they say what they said before.
    """
    columns = dict(table.columns)
    if "start" in columns:
        columns["start"] = columns["start"] // resolution_ns * resolution_ns
    if "end" in columns:
        columns["end"] = -(-(columns["end"] // _SHOWN * _SHOWN) // resolution_ns) * resolution_ns
    if "time" in columns:
        columns["time"] = -(-columns["time"] // resolution_ns) * resolution_ns
    return Table(table.family, len(table), columns)


def drop_ids(table: Table) -> Table:
    """The table without the kernel's ids (4 random bytes a connection), and `known` without their bit."""
    columns: dict[str, Array] = {
        name: array for name, array in table.columns.items() if name != "id"
    }
    columns["present"] = table["present"] & np.uint32(~bit("id") & 0xFFFFFFFF)
    return Table(table.family, len(table), columns)


class BlockOrdering:
    """Collects connections until a block is full.

    Memory: less than two blocks for each shelf and family.
    """

    def __init__(self, resolution_ns: int, keep_ids: bool) -> None:
        self._resolution, self._keep_ids = resolution_ns, keep_ids
        self._held: dict[tuple[int, int], list[Table]] = {}

    def add(self, table: Table) -> list[Table]:
        """Take connections; return the blocks that became full, of exactly ROWS_WRITTEN rows."""
        full = []
        table = round_times(table, self._resolution)
        shelves = _shelf(table)
        order, ends = np.argsort(shelves, kind="stable"), np.cumsum(np.bincount(shelves))
        for shelf, rows in enumerate(np.split(order, ends[:-1])):
            if not len(rows):
                continue
            part = table.take(rows)
            if shelf < _PARTS and not self._keep_ids:
                part = drop_ids(part)
            key = (shelf, table.family)
            held = self._held.setdefault(key, [])
            held.append(part)
            if sum(map(len, held)) >= ROWS_WRITTEN:
                whole = concat(held)
                last = len(whole) // ROWS_WRITTEN * ROWS_WRITTEN
                full += [
                    _sorted(whole.slice(first, first + ROWS_WRITTEN), shelf)
                    for first in range(0, last, ROWS_WRITTEN)
                ]
                self._held[key] = [whole.slice(last, len(whole))]
        return full

    def finish(self) -> list[Table]:
        """The blocks that are not full, and nothing is left."""
        held, self._held = self._held, {}
        blocks = []
        for family in sorted({family for _, family in held}):
            waiting: list[Table] = []
            for shelf in range(_PARTS + 1):
                waiting += held.get((shelf, family), [])
                rows = sum(map(len, waiting))
                if rows and (rows >= _FEW_ROWS or shelf >= _PARTS - 1):
                    whole = concat(waiting)
                    blocks += [
                        _sorted(whole.slice(first, first + ROWS_WRITTEN), shelf)
                        for first in range(0, rows, ROWS_WRITTEN)
                    ]
                    waiting = []
        return blocks


def _shelf(table: Table) -> NDArray[np.uint8]:
    """(rows,): the shelf of each connection; `_PARTS` for parts."""
    start = np.where(table["start_source"] == Source.UNKNOWN, table["end"], table["start"])
    shelf = np.searchsorted(np.array(SHELVES_NS), table["end"] - start)
    return np.where(parts.is_whole(table), shelf, _PARTS).astype(np.uint8)


def _sorted(table: Table, shelf: int) -> Table:
    """Rows of a block in their order.

    Parts of one key stay in order of arrival, by which they join again.
    """
    order = (
        table["orig_dport"],
        *_keys(table["orig_dst"]),
        *_keys(table["orig_src"]),
        table["l4proto"],
    )
    return table.take(np.lexsort(order if shelf == _PARTS else (table["start"], *order)))


def _keys(addresses: Array) -> list[Array]:
    """Keys that sort the addresses, the least first."""
    return [addresses] if addresses.dtype.kind == "S" else [*flowkey.digits(addresses)]
