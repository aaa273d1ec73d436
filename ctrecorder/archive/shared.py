"""Segments that many questions read: each is opened once, and what one question has decoded, the
next one need not.

An answer does not depend on the questions before it: the damage that each question meets is its
own, although the segments are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from ctrecorder.archive.open import Opener, open_placed
from ctrecorder.columns import Source, Table
from ctrecorder.connections.parts import DESTROY, NEW
from ctrecorder.ctlog.bloom import Bloom
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.index import FORM_COLUMNS
from ctrecorder.errors import FormatError
from ctrecorder.findings import Finding
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Block, Recording

# Segments that stay open between two questions.  Questions come in order of time, and most read
# fewer than ten.  With more, their GAPs and MARKs take memory for nothing.
_MAX_OPEN = 32
# Bytes of decoded rows that are kept: a dozen segments of 50,000 connections.  With fewer, blocks
# are decoded again for each question; the target for a thousand questions is 200 MiB in all.
_MAX_ROWS_BYTES = 64 << 20
# The same for the keys of open flows: 3,000,000 of them.
_MAX_KEYS_BYTES = 32 << 20
_BOTH_ENDS = np.uint8(NEW | DESTROY)  # of the column `seen`


class _Opened(NamedTuple):
    """An open segment, and the damage that opening it and reading its notes has met."""

    segment: Recording
    findings: list[Finding]


class Pool(Opener):
    """The open segments of an archive: they stay open until `trim`.

    `keys`: what `follow` has found in segments, by their paths.
    """

    def __init__(self, jobs: int = 1) -> None:
        """`jobs`: so many processes share the memory for what was decoded."""
        self._opened: dict[str, _Opened] = {}
        self._rows, self.keys = Kept(_MAX_ROWS_BYTES // jobs), Kept(_MAX_KEYS_BYTES // jobs)

    def open(self, path: str) -> Recording:
        """The segment `path`, with no damage found yet but that of its header, index and notes.

        Raises ArchiveError and FormatError.
        """
        found = self._opened.pop(path, None)
        if found is None:
            segment = self._open(path)
            _ = segment.marks, segment.gaps
            found = _Opened(segment, segment.findings)
        self._opened[path] = found
        found.segment.findings = [*found.findings]
        return found.segment

    def _open(self, path: str) -> Recording:
        return open_placed(path, kind=self._segment)

    def close(self, segment: Recording) -> None:
        """The next question may want it."""

    def _segment(self, path: str, key: bytes) -> Segment:
        return _SharedSegment(path, key, self._rows)

    def trim(self, most: int = _MAX_OPEN) -> None:
        """Close all but `most` segments: those that were opened last."""
        for path in [*self._opened][: max(len(self._opened) - most, 0)]:
            self._opened.pop(path).segment.close()


class _SharedSegment(Segment):
    """A segment whose rows, filter and times are kept."""

    def __init__(self, path: str, key: bytes, kept: Kept) -> None:
        self._kept = kept
        self._filters: dict[int, Bloom] = {}
        self._times: tuple[int, int] | None = None
        self._received: dict[int, bool] = {}
        super().__init__(path, key)

    def close(self) -> None:
        """Close the file; nothing of it is kept."""
        super().close()
        self._kept.drop(self.path)

    @property
    def times(self) -> tuple[int, int]:
        """The least time_min and the greatest time_max of all blocks but SEALs, ns UTC."""
        if self._times is None:
            self._times = super().times
        return self._times

    def addresses(self, block: Block) -> Bloom:
        """The filter in a block ADDRESSES.  Raises FormatError."""
        if block.offset not in self._filters:
            self._filters[block.offset] = super().addresses(block)
        return self._filters[block.offset]

    def rows(self, block: Block) -> LazyTable:
        """The rows of a block in form COLUMNS.  Raises FormatError."""
        key = (self.path, block.offset)
        found: LazyTable | None = self._kept.get(key)
        if found is None:
            found = super().rows(block)
            self._kept.put(key, found)
        return found

    def is_received(self, block: Block) -> bool:
        """Whether all rows of a block are connections whose start and end were received."""
        if block.kind != Kind.CONNECTIONS or block.form != FORM_COLUMNS:
            return False
        if block.offset not in self._received:
            try:
                rows = self.rows(block)
                received = (rows["seen"] & _BOTH_ENDS) == _BOTH_ENDS
                sources = rows["start_source"]
                received &= (sources != Source.BOUND) & (sources != Source.UNKNOWN)
            except FormatError:
                return False
            self._received[block.offset] = bool(received.all())
        return self._received[block.offset]

    def read_small(
        self, blocks: Iterable[Block], names: Iterable[str] | None = None
    ) -> list[Table]:
        """Blocks in form SMALL as few tables; findings are appended for damaged blocks."""
        blocks, names = list(blocks), None if names is None else sorted(set(names))
        key = (self.path, blocks[0].offset, blocks[-1].offset, str(names))
        found: _Small | None = self._kept.get(key)
        if found is None:
            before = len(self.findings)
            tables = super().read_small(blocks, names)
            self._kept.put(key, _Small(tables, self.findings[before:]))
            return tables
        self.findings += found.findings
        return found.tables


class _Small(NamedTuple):
    """Small blocks as tables, and their damage."""

    tables: list[Table]
    findings: list[Finding]

    @property
    def held_bytes(self) -> int:
        """Bytes of the columns."""
        return sum(column.nbytes for table in self.tables for column in table.columns.values())


class Sized(Protocol):
    """What is kept."""

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that it takes now."""


class Kept:
    """What is decoded, by the path of its segment and more; of `limit` bytes what was used last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: dict[tuple[Any, ...], Sized] = {}
        self._bytes: dict[tuple[Any, ...], int] = {}
        self._total = 0

    def get(self, key: tuple[Any, ...]) -> Any:
        """The rows; None if they are not kept."""
        rows = self._rows.pop(key, None)
        if rows is not None:
            self._rows[key] = rows
            self._measure(key, rows)
        return rows

    def put(self, key: tuple[Any, ...], rows: Sized) -> None:
        self._rows[key] = rows
        self._bytes[key] = 0
        self._measure(key, rows)

    def _measure(self, key: tuple[Any, ...], rows: Sized) -> None:
        """Note what rows take: a LazyTable grows.  The others make room."""
        size = rows.held_bytes
        self._total += size - self._bytes[key]
        self._bytes[key] = size
        while self._total > self._limit and len(self._rows) > 1:
            self._forget(next(iter(self._rows)))

    def _forget(self, key: tuple[Any, ...]) -> None:
        del self._rows[key]
        self._total -= self._bytes.pop(key)

    def drop(self, path: str) -> None:
        """Keep nothing of a segment."""
        for key in [key for key in self._rows if key[0] == path]:
            self._forget(key)
