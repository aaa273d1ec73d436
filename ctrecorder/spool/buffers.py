"""Rows and blocks in memory on their way to a segment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ctrecorder.columns import Table, concat
from ctrecorder.segment.pending import PendingBlock, table_blocks

_Key = tuple[int, bool]  # address family; True for the rows of a table dump


class RowBuffer:
    """Rows that wait until they fill a block, at most `block_rows` of each kind.

    Blocks hold rows of one address family, and either of events or of a table dump.

    Attributes:
    `rows`: the number of rows that wait.
    """

    def __init__(self, block_rows: int) -> None:
        self.block_rows = block_rows
        self.rows = 0
        self._tables: dict[_Key, list[Table]] = {}

    def has_room(self, table: Table, existing: bool) -> bool:
        """True if the rows of `table` fit into the block that is being filled."""
        waiting = self._tables.get((table.family, existing), ())
        return sum(map(len, waiting)) + len(table) <= self.block_rows

    def add(self, table: Table, existing: bool) -> None:
        """Keep the rows of `table`, however many they are."""
        self._tables.setdefault((table.family, existing), []).append(table)
        self.rows += len(table)

    def take(self, family: int, existing: bool) -> list[PendingBlock]:
        """Remove the rows of one kind and return them as blocks."""
        tables = self._tables.pop((family, existing), [])
        if not tables:
            return []
        whole = concat(tables)
        self.rows -= len(whole)
        return [
            block
            for first in range(0, len(whole), self.block_rows)
            for block in table_blocks(whole.slice(first, first + self.block_rows))
        ]

    def take_all(self) -> Iterator[tuple[list[PendingBlock], bool]]:
        """Remove all rows and return them as blocks, with True for those of a table dump."""
        for family, existing in list(self._tables):
            yield self.take(family, existing), existing


class BlockBuffer:
    """Blocks that are not on the disk yet, in order: those to be written, those to be synced.

    A block is kept until it is synced: after a failed fsync the kernel may have discarded it.

    Attributes:
    `memory_bytes`: the memory that all of them take.
    `synced_watermark`: the last watermark that a synced block carries, ns UTC; 0: none.
    """

    def __init__(self) -> None:
        self.memory_bytes = self.synced_watermark = 0
        self._unwritten: deque[PendingBlock] = deque()
        self._unsynced: list[tuple[int, PendingBlock]] = []  # with its number in the segment

    @property
    def all_synced(self) -> bool:
        """True if every block that was written is synced."""
        return not self._unsynced

    @property
    def next(self) -> PendingBlock | None:
        """The block to be written next, None if all are written."""
        return self._unwritten[0] if self._unwritten else None

    def carry(self, watermark: int) -> bool:
        """Put a watermark, ns UTC, on the last block to be written; False if it cannot carry one.

        A watermark ends the times of its block, so the block may have no later time.
        """
        block = self._unwritten[-1] if self._unwritten else None
        if block is None or not block.carries or block.times[1] > watermark:
            return False
        self._unwritten[-1] = block.with_watermark(watermark)
        return True

    def append(self, block: PendingBlock) -> None:
        """Add a block behind all others."""
        self._unwritten.append(block)
        self.memory_bytes += block.size

    def mark_written(self, number: int) -> None:
        """Record that `next` was written, as the block with this number in its segment."""
        self._unsynced.append((number, self._unwritten.popleft()))

    def settle(self, synced: int) -> bool:
        """Drop the written blocks up to number `synced`; the later ones are to be written again.

        False if there are later ones.
        """
        again = []
        for number, block in self._unsynced:
            if number > synced:
                again.append(block)
                continue
            self.memory_bytes -= block.size
            if block.watermark is not None:
                self.synced_watermark = block.watermark
        self._unsynced.clear()
        self._unwritten.extendleft(reversed(again))
        return not again
