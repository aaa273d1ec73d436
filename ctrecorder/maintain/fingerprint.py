"""Counts and sums over the rows of a segment, to compare a squeezed segment with its original.

Pure.  A sum adds up a hash of each row, so it does not depend on the order of rows; a row that is
lost, duplicated or changed changes it.  This protects from software errors and bad disks; from
people, the hashes of the blocks do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import COLUMNS, TUPLE, Event, Table
from ctrecorder.connections import parts
from ctrecorder.ctlog.bloom import Collector

_WORDS = NDArray[np.uint64]
# Multipliers of splitmix64; any odd numbers with bits all over do.
_COLUMN_MULTIPLIER, _ROW_MULTIPLIER = 0x9E3779B97F4A7C15, np.uint64(0xBF58476D1CE4E5B9)
_FLOW = ("zone", "orig_zone", "reply_zone", *TUPLE)


@dataclass
class Fingerprint:
    """What a segment contains.

    `news`, `news_sum`, `ends`, `ends_sum`: received NEW and DESTROY, and the flows of these.
    `connections`, `connections_sum`: connections with all their columns.
    `addresses`: of the connections.
    """

    news: int = 0
    ends: int = 0
    news_sum: int = 0
    ends_sum: int = 0
    connections: int = 0
    connections_sum: int = 0
    addresses: Collector = field(default_factory=Collector, compare=False)

    def add_received(self, table: Table) -> None:
        """Add the NEW and DESTROY that are the rows of `table`, or belong to its connections."""
        if "event" in table:
            is_new, is_end = table["event"] == Event.NEW, table["event"] == Event.DESTROY
        else:
            is_new = (table["seen"] & parts.NEW) != 0
            is_end = (table["seen"] & parts.DESTROY) != 0
        hashes = row_hashes(table, _FLOW)
        self.news += int(np.count_nonzero(is_new))
        self.ends += int(np.count_nonzero(is_end))
        self.news_sum = _add(self.news_sum, hashes[is_new])
        self.ends_sum = _add(self.ends_sum, hashes[is_end])

    @property
    def flows(self) -> tuple[int, int, int, int]:
        """The received NEW and DESTROY, and their flows."""
        return self.news, self.ends, self.news_sum, self.ends_sum

    def drop_received(self, table: Table) -> None:
        """Undo `add_received` for events that the kernel sent again: they are no events."""
        repeats = Fingerprint()
        repeats.add_received(table)
        self.news -= repeats.news
        self.ends -= repeats.ends
        self.news_sum = (self.news_sum - repeats.news_sum) % (1 << 64)
        self.ends_sum = (self.ends_sum - repeats.ends_sum) % (1 << 64)

    def add_content(self, table: Table) -> None:
        """Add connections with all their columns."""
        self.connections += len(table)
        self.addresses.add(table)
        self.connections_sum = _add(
            self.connections_sum, row_hashes(table, [column.name for column in COLUMNS])
        )


def row_hashes(table: Table, names: list[str] | tuple[str, ...]) -> _WORDS:
    """A hash of each row, (rows,), over the columns `names`.

    An all-zero column hashes like an absent one.
    """
    total = np.full(len(table), table.family, np.uint64)
    for column in COLUMNS:
        if column.name not in names or column.name not in table:
            continue
        values = np.ascontiguousarray(table[column.name])
        words = (
            values.view("<u8").reshape(-1, 2)
            if values.dtype.kind == "S"
            else values.astype(np.uint64).reshape(-1, 1)
        )
        for number in range(words.shape[1]):
            multiplier = (2 * column.id + number) * _COLUMN_MULTIPLIER % (1 << 64) | 1
            term = words[:, number] * np.uint64(multiplier)
            total += term ^ (term >> np.uint64(29))
    total ^= total >> np.uint64(32)
    total *= _ROW_MULTIPLIER
    total ^= total >> np.uint64(29)
    return total


def _add(total: int, hashes: _WORDS) -> int:
    return (total + int(hashes.sum(dtype=np.uint64))) % (1 << 64)
