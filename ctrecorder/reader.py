"""A segment, read: its header, its blocks, the columns that are asked for; also while it is written, after a crash, and where it is damaged.

The footer tells where the blocks are; without one, or if it is damaged, the frames are followed from the first.  What does not
match its hash is never returned: it becomes a finding, and the rest is still read.  All reading is by pread: a file that is cut
short meanwhile gives a finding, not a signal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ctrecorder import archive
from ctrecorder.codec import (
    FORM_COLUMNS,
    FORM_SMALL,
    HEAD,
    Bound,
    Index,
    decode_columns,
    decode_table,
    index_head,
    small_layout,
    small_run,
    small_table,
)
from ctrecorder.columns import Table
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.format import (
    FRAME,
    INDEX,
    MAGIC,
    MAX_JSON,
    NO_HASH,
    TRAILER,
    Frame,
    Gap,
    Json,
    Kind,
    Mark,
    check_hash,
    parse_footer,
    parse_frame,
    parse_header,
    parse_trailer,
)
from ctrecorder.runs import Buffer

# What one pread takes while frames are followed or a magic is looked for.  Small blocks are 500 bytes, so that this holds hundreds.
_WINDOW = 1 << 18
# A file that is no segment is searched this far for a block.
_SEARCH = 1 << 20
# What is read of a block at first when only its index is wanted: the index of most.
_INDEX_READ = 1 << 14
# A stranger's file can be full of magics.  Looking for good blocks hashes at most so many times the file's size, then gives up.
_HASH_FACTOR = 4


class Question(Protocol):
    """What is asked: `filter.Question`.  It may say yes too often, but never no to a row that it wants."""

    def may_match_time(self, time_min: int, time_max: int) -> bool:
        """If a block of these times can hold a row that is wanted."""

    def may_match(self, bounds: Bounds) -> bool:
        """If a block whose columns are within `bounds` can."""

    def columns_needed(self) -> Iterable[str]:
        """The columns that `mask` reads."""

    def mask(self, table: Table) -> NDArray[np.bool_]:
        """Which rows are wanted, (rows,)."""


class Bounds:
    """A block's index as a question sees it: `family`, `kind`, and `get(column)`, a `codec.Bound` or None if nothing is known of it."""

    def __init__(self, kind: int, index: Index) -> None:
        self.kind, self.family, self._index = kind, index.family, index

    def get(self, name: str) -> Bound | None:
        """What is known of the values of column `name`."""
        return self._index.bound(name)


class Block(NamedTuple):
    """A block of a segment: `offset` of its frame, and what the frame says."""

    offset: int
    time_min: int
    time_max: int
    rows: int
    kind: int
    family: int
    form: int


class Segment:
    """An open segment.

    `header`: its facts ({} if damaged).  `state`: "closed", "live" (a recorder holds its lock) or "crashed".  `index`: INDEX records of all blocks but
    the footer.  `previous_hash`: the last hash of the segment before; `last_hash`: of the last block.  `totals`: of the footer.  `findings`: what is wrong, so
    far as it was come across.  Opening raises ArchiveError if the file cannot be read, FormatError if it is no segment.
    """

    def __init__(self, path: str, key: bytes = b"") -> None:
        self.path, self._key = path, key
        self.findings: list[FormatError] = []
        self.header: Json = {}
        self.totals: Json = {}
        self.previous_hash = self.last_hash = NO_HASH
        self._descriptor = archive.open_file(path)
        try:
            self.size = os.fstat(self._descriptor).st_size
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        try:
            block = self.frame_at(0)
            if block.kind != Kind.HEADER or block.length > MAX_JSON:
                raise self._wrong("no header", 0)
            self.previous_hash = block.previous
            self.header = parse_header(self._whole(0, block))
        except FormatError as error:
            if not self._looks_like_segment():
                raise FormatError(f"not a segment of ctrecorder ({error.reason})", path=self.path, offset=error.offset) from None
            self.findings.append(self._placed(error, 0))
        if not self._read_footer():
            # Asked before the frames are followed: a segment that is closed meanwhile is then whole, not crashed.
            live = archive.is_live(self._descriptor)
            self.state = "live" if live else "crashed"
            self.index = _Scan(self, live).index

    def _looks_like_segment(self) -> bool:
        return next(self._good_blocks(0, min(self.size, _SEARCH)), None) is not None

    def _read_footer(self) -> bool:
        """Take index and totals from the footer; False: there is none that is whole."""
        trailer = parse_trailer(self.pread(self.size - TRAILER.size, TRAILER.size)) if self.size > TRAILER.size else None
        if trailer is None:
            return False
        offset = trailer[0]
        try:
            frame = self.frame_at(offset)
            if frame.kind != Kind.FOOTER or offset + FRAME.size + frame.length != self.size:
                raise self._wrong("the trailer does not lead to a footer", offset)
            self.index, self.totals = parse_footer(self._whole(offset, frame), offset)
        except FormatError as error:
            self.findings.append(self._placed(error, offset))
            return False
        self.state, self.last_hash = "closed", frame.hash
        return True

    @property
    def blocks(self) -> list[Block]:
        """All blocks but the footer, in the file's order."""
        return [Block(*record) for record in self.index[list(Block._fields)].tolist()]

    def blocks_of(self, *kinds: int) -> list[Block]:
        """The blocks of these kinds, in the file's order."""
        return [block for block in self.blocks if block.kind in kinds]

    @property
    def times(self) -> tuple[int, int]:
        """The least time_min and the greatest time_max of all blocks, ns UTC."""
        return int(self.index["time_min"].min()), int(self.index["time_max"].max())

    @property
    def gaps(self) -> list[Gap]:
        """All GAPs that can be read."""
        return [Gap.parse(frame, payload) for frame, payload in self._payloads(Kind.GAP)]

    @property
    def marks(self) -> list[Mark]:
        """All MARKs that can be read."""
        return [Mark.parse(frame, payload) for frame, payload in self._payloads(Kind.MARK)]

    def _payloads(self, kind: Kind) -> Iterator[tuple[Frame, Buffer]]:
        for block in self.blocks_of(kind):
            try:
                frame = self._frame_of(block)
                yield frame, self._whole(block.offset, frame)
            except FormatError as error:
                self.findings.append(self._placed(error, block.offset))

    def read(self, block: Block, names: Iterable[str] | None = None) -> Table:
        """The columns `names` (default: all) of a block of EVENTS or CONNECTIONS.  Raises FormatError."""
        try:
            return self._read(block, names)
        except FormatError as error:
            raise self._placed(error, block.offset) from None

    def _read(self, block: Block, names: Iterable[str] | None) -> Table:
        frame = self._frame_of(block)
        data = memoryview(self._bytes(block.offset, FRAME.size + frame.length))
        payload = data[FRAME.size :]
        if block.form == FORM_SMALL:
            check_hash(data, payload, self._key)
            return decode_table(payload, FORM_SMALL, block.family, block.rows, names)
        check_hash(data, payload[: index_head(payload, frame.length)[1]], self._key)
        index = Index(payload, block.family, block.rows, frame.length)
        return decode_columns(index, lambda offset, length: payload[offset : offset + length], names)

    def read_small(self, blocks: Iterable[Block], names: Iterable[str] | None = None) -> list[Table]:
        """Blocks in form SMALL (of one family, in the file's order) as few tables: one for each run of blocks with the same columns.

        A block that is damaged is passed over; its error is in `findings`.
        """
        tables: list[Table] = []
        runs: list[tuple[int, Buffer]] = []
        layout, family = b"", 0
        window = Window(self)
        for block in blocks:
            try:
                its_layout, run = self._small(block, window)
            except FormatError as error:
                self.findings.append(self._placed(error, block.offset))
                continue
            if its_layout != layout and runs:
                tables.append(small_table(layout, runs, family, names))
                runs = []
            layout, family = its_layout, block.family
            runs.append((block.rows, run))
        if runs:
            tables.append(small_table(layout, runs, family, names))
        return tables

    def _small(self, block: Block, window: Window) -> tuple[bytes, Buffer]:
        """Layout and run of a block in form SMALL."""
        frame = window.frame(block.offset)
        self._compare(block, frame)
        data = window.bytes(block.offset, FRAME.size + frame.length)
        payload = data[FRAME.size :]
        check_hash(data, payload, self._key)
        layout = small_layout(payload, block.family)
        return layout, small_run(payload, layout, block.rows)

    def ask(self, block: Block, names: Iterable[str] | None, question: Question) -> Table | None:
        """The columns `names` (and those that the question needs) of the rows that it wants; None if there are none.

        Reads no more than it must: first the index, then the columns that the question needs, then, if any row is wanted, the others.  Raises FormatError.
        """
        if not question.may_match_time(block.time_min, block.time_max):
            return None
        try:
            return self._ask(block, names, question)
        except FormatError as error:
            raise self._placed(error, block.offset) from None

    def _ask(self, block: Block, names: Iterable[str] | None, question: Question) -> Table | None:
        needed = list(question.columns_needed())
        if block.form == FORM_SMALL:
            table = self._read(block, None if names is None else {*names, *needed})
            wanted = question.mask(table)
            return table.take(wanted) if wanted.any() else None
        index = self.read_index(block)
        if not question.may_match(Bounds(block.kind, index)):
            return None
        payload_at = block.offset + FRAME.size
        table = decode_columns(index, lambda offset, length: self._bytes(payload_at + offset, length), needed)
        wanted = question.mask(table)
        if not wanted.any():
            return None
        more = [name for name in (index.columns if names is None else names) if name not in table]
        rest = decode_columns(index, lambda offset, length: self._bytes(payload_at + offset, length), more)
        return Table(block.family, block.rows, {**table.columns, **rest.columns}).take(wanted)

    def read_index(self, block: Block) -> Index:
        """The index of a block in form COLUMNS, held against the frame's hash.  Raises FormatError, its offset from the block."""
        frame = self._frame_of(block)
        data = self._bytes(block.offset, min(_INDEX_READ, FRAME.size + frame.length))
        length = index_head(data[FRAME.size :], frame.length)[1]
        if FRAME.size + length > len(data):
            data = self._bytes(block.offset, FRAME.size + length)
        part = memoryview(data)[FRAME.size : FRAME.size + length]
        check_hash(data, part, self._key)
        return Index(part, block.family, block.rows, frame.length)

    def frame_at(self, offset: int) -> Frame:
        """The frame at `offset`.  Raises FormatError, its offset from the block's first byte."""
        frame = parse_frame(self.pread(offset, FRAME.size))
        self.check_end(offset, frame)
        return frame

    def check_end(self, offset: int, frame: Frame) -> None:
        """Raise FormatError if the block at `offset` is longer than the file."""
        if offset + FRAME.size + frame.length > self.size:
            raise FormatError(f"a block of {FRAME.size + frame.length} bytes, of which {self.size - offset} are there", offset=0)

    def _frame_of(self, block: Block) -> Frame:
        """The frame of a block, which must be as the index says."""
        frame = self.frame_at(block.offset)
        self._compare(block, frame)
        return frame

    def _compare(self, block: Block, frame: Frame) -> None:
        said = (frame.time_min, frame.time_max, frame.rows, frame.kind, frame.family, frame.form)
        if said != block[1:]:
            raise FormatError("the block is not the one that the footer tells of", offset=0)

    def _whole(self, offset: int, frame: Frame) -> Buffer:
        """The payload of a block whose hash covers all of it, checked."""
        data = memoryview(self._bytes(offset, FRAME.size + frame.length))
        check_hash(data, data[FRAME.size :], self._key)
        return data[FRAME.size :]

    def _good_blocks(self, first: int, last: int) -> Iterator[int]:
        """Offsets in first..last-1 at which a block begins that matches its hash."""
        budget = _HASH_FACTOR * self.size
        for offset in self._magics(first, last):
            try:
                frame = self.frame_at(offset)
                budget -= frame.length
                if budget < 0:
                    self.findings.append(self._wrong("too many false blocks: what follows is not searched", offset))
                    return
                self.check_at(offset, frame)
            except FormatError:
                continue
            yield offset

    def check_at(self, offset: int, frame: Frame) -> None:
        """Hold the block at `offset` against its frame's hash.  Raises FormatError, its offset from the block's first byte."""
        part = frame.length
        if frame.form == FORM_COLUMNS:
            part = index_head(self.pread(offset + FRAME.size, HEAD.size), frame.length)[1]
        data = memoryview(self._bytes(offset, FRAME.size + part))
        check_hash(data, data[FRAME.size :], self._key)

    def _magics(self, first: int, last: int) -> Iterator[int]:
        """Offsets in first..last-1 at which there is a magic."""
        while first < last:
            data = self.pread(first, min(_WINDOW, last - first + len(MAGIC) - 1))
            if len(data) < len(MAGIC):
                return
            at = data.find(MAGIC)
            while at >= 0:
                yield first + at
                at = data.find(MAGIC, at + 1)
            first += len(data) - len(MAGIC) + 1

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes.  Raises ArchiveError."""
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise ArchiveError(f"{self.path}: cannot be read at byte {offset}: {error.strerror}") from error

    def _bytes(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes.  Raises FormatError if the file ends before."""
        data = self.pread(offset, length)
        if len(data) < length:
            raise FormatError(f"the file ends {length - len(data)} bytes too early", offset=0)
        return data

    def _wrong(self, reason: str, offset: int) -> FormatError:
        return FormatError(reason, path=self.path, offset=offset)

    def _placed(self, error: FormatError, offset: int) -> FormatError:
        """The error with this file's path, and its offset from the file's beginning."""
        return error if error.path else FormatError(error.reason, path=self.path, offset=offset + error.offset)


class Window:
    """Reads a segment's small blocks one after the other by few preads."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._data, self._begin = memoryview(b""), 0

    def bytes(self, offset: int, length: int) -> memoryview:
        """`length` bytes at `offset`.  Raises FormatError, its offset from there, if the file ends before."""
        at = offset - self._begin
        if not 0 <= at <= len(self._data) - length:
            self._data, self._begin, at = memoryview(self._segment.pread(offset, max(_WINDOW, length))), offset, 0
            if len(self._data) < length:
                raise FormatError(f"the file ends {length - len(self._data)} bytes too early", offset=0)
        return self._data[at : at + length]

    def frame(self, offset: int) -> Frame:
        """The frame at `offset`.  Raises FormatError, its offset from there."""
        frame = parse_frame(self.bytes(offset, FRAME.size))
        self._segment.check_end(offset, frame)
        return frame


class _Scan:
    """Follows a segment's frames.  `index`: INDEX records of what is whole.

    A frame is believed if the next one names its hash, otherwise only if it matches it itself: a damaged length leads nowhere.
    """

    def __init__(self, segment: Segment, live: bool) -> None:
        self._segment = segment
        self._records: list[tuple[int, ...]] = []
        self._window = Window(segment)
        end = self._follow(0)
        while end < segment.size:
            good = next(segment._good_blocks(end + 1, segment.size), None)
            if good is None:
                break
            segment.findings.append(segment._wrong(f"damaged: the next whole block is at byte {good}", end))
            end = self._follow(good)
        if end < segment.size and not live:
            segment.findings.append(segment._wrong(f"the last {segment.size - end} bytes are no whole block (torn off by a crash?)", end))
        self.index = np.array(self._records, INDEX) if self._records else np.zeros(0, INDEX)

    def _follow(self, offset: int) -> int:
        """Take blocks from `offset` on; returns the offset of the first that is not whole."""
        before: Frame | None = None
        before_at = offset
        while True:
            frame = self._frame(offset)
            confirmed = before is not None and frame is not None and frame.previous == before.hash
            if before is not None:
                if not confirmed and not self._matches(before_at, before):
                    return before_at
                self._take(before_at, before)
            if frame is None:
                return offset
            before, before_at = frame, offset
            offset += FRAME.size + frame.length

    def _frame(self, offset: int) -> Frame | None:
        try:
            return self._window.frame(offset)
        except FormatError:
            return None

    def _matches(self, offset: int, frame: Frame) -> bool:
        try:
            self._segment.check_at(offset, frame)
        except FormatError:
            return False
        return True

    def _take(self, offset: int, frame: Frame) -> None:
        self._segment.last_hash = frame.hash
        if frame.kind != Kind.FOOTER:
            self._records.append((offset, frame.time_min, frame.time_max, frame.rows, frame.kind, frame.family, frame.form, 0))


