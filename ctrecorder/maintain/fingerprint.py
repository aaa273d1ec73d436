"""What two segments must agree in, however their rows lie: counts and sums over rows.

Pure.  A sum adds a hash of each row, so it does not depend on their order, and a row that is lost,
doubled or altered shows.  It is against mistakes and bad disks; against people there are the hashes
of the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import COLUMNS, TUPLE, Event, Table
from ctrecorder.connections import parts
from ctrecorder.ctlog.bloom import Collector

_WORDS = NDArray[np.uint64]
_ODD, _MIX = 0x9E3779B97F4A7C15, np.uint64(0xBF58476D1CE4E5B9)
_FLOW = ("zone", "orig_zone", "reply_zone", *TUPLE)


@dataclass
class Fingerprint:
    """Of a segment: how many NEW and DESTROY were heard, and of which flows; how many connections,
    all that they say, their addresses.
    """

    news: int = 0
    ends: int = 0
    news_sum: int = 0
    ends_sum: int = 0
    connections: int = 0
    connections_sum: int = 0
    addresses: Collector = field(default_factory=Collector, compare=False)

    def add_events(self, table: Table) -> None:
        """Add events as they were recorded."""
        self._add_flows(table, table["event"] == Event.NEW, table["event"] == Event.DESTROY)

    def add_connections(self, table: Table) -> None:
        """Add the NEW and the DESTROY of each connection."""
        seen = table["seen"]
        self._add_flows(table, (seen & parts.NEW) != 0, (seen & parts.DESTROY) != 0)

    def add_content(self, table: Table) -> None:
        """Add connections with all that their columns say."""
        self.connections += len(table)
        self.addresses.add(table)
        self.connections_sum = _add(
            self.connections_sum, row_hashes(table, [column.name for column in COLUMNS])
        )

    def _add_flows(self, table: Table, new: NDArray[np.bool_], end: NDArray[np.bool_]) -> None:
        of_flow = row_hashes(table, _FLOW)
        self.news += int(np.count_nonzero(new))
        self.ends += int(np.count_nonzero(end))
        self.news_sum = _add(self.news_sum, of_flow[new])
        self.ends_sum = _add(self.ends_sum, of_flow[end])


def row_hashes(table: Table, names: list[str] | tuple[str, ...]) -> _WORDS:
    """A hash of each row, (rows,), over the columns `names`; a column that is not there counts as
    zeros.
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
            # Zeros add nothing, so a column of them is as one that is not there.
            term = words[:, number] * np.uint64((2 * column.id + number) * _ODD % (1 << 64) | 1)
            total += term ^ (term >> np.uint64(29))
    total ^= total >> np.uint64(32)
    total *= _MIX
    total ^= total >> np.uint64(29)
    return total


def _add(total: int, hashes: _WORDS) -> int:
    return (total + int(hashes.sum(dtype=np.uint64))) % (1 << 64)
