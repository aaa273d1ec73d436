"""A segment, read: its header, its blocks, the columns that are asked for; also while it is
written, after a crash, where it is damaged.

The footer tells where the blocks are; without one, or if it is damaged, they are followed from the
first.  What does not match its hash is never returned: it becomes a finding, and the rest is still
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Table
from ctrecorder.ctlog.bloom import Bloom
from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.decoder import LazyTable, decode_table
from ctrecorder.ctlog.frame import (
    FRAME,
    NO_HASH,
    TRAILER,
    VERSION,
    Frame,
    Gap,
    Json,
    Kind,
    Mark,
    parse_footer,
    parse_header,
    parse_trailer,
)
from ctrecorder.ctlog.index import (
    FORM_SMALL,
    Bound,
    Index,
    index_head,
    small_layout,
    small_run,
    small_table,
    unknown_columns,
)
from ctrecorder.errors import FormatError, NewerError
from ctrecorder.segment import files
from ctrecorder.segment.blockfile import BlockFile, Scan

_Note = TypeVar("_Note", Gap, Mark)

# A file whose first block is damaged is still a segment if there is a whole block in its first so
# many bytes.
_SEARCH = 1 << 20
# Records of an index that are kept in memory, 128 KiB; a longer one (a day of a block a second has
# 2.7 MB) is read again when it is asked for, so that a year of segments can be open.
_KEPT_RECORDS = 1 << 12
# Rows of small blocks that are read as one table: what pairing waits for.
_JOINED_ROWS = 1 << 16
# What is read of a block when only its index is wanted: most are not larger.
_INDEX_READ = 1 << 14


class Query(Protocol):
    """What is asked: a `filter.Question`.

    It may say yes too often, but never no to a row that it wants.
    """

    @property
    def names_addresses(self) -> bool:
        """If `may_match_addresses` can say no."""

    def may_contain_addresses(self, addresses: Bloom) -> bool:
        """If a segment with these addresses can hold a row that is wanted."""

    def may_contain_time(self, time_min: int, time_max: int) -> bool:
        """If a block of these times can hold a row that is wanted."""

    def may_contain(self, bounds: Bounds) -> bool:
        """If a block whose columns are within `bounds` can."""

    def columns_needed(self) -> Iterable[str]:
        """The columns that `mask` reads."""

    def evaluate(self, table: Table | LazyTable) -> NDArray[np.bool_]:
        """Which rows are wanted, (rows,)."""


class Bounds:
    """A block's index as a question sees it."""

    def __init__(self, kind: int, index: Index) -> None:
        self.kind, self.family, self._index = kind, index.family, index

    def get(self, name: str) -> Bound | None:
        """What is known of the values of column `name`; None: nothing."""
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

    @property
    def joins(self) -> bool:
        """Whether `Segment.in_recording_order` reads it together with others."""
        return self.form == FORM_SMALL and self.kind == Kind.EVENTS


def _as_blocks(index: NDArray[np.void]) -> list[Block]:
    """INDEX records as Blocks."""
    records: Any = index[list(Block._fields)].tolist()
    return list(map(Block._make, records))


class Segment:
    """An open segment.

    `header`: its facts; {} if they are damaged.  `state`: "live" while a recorder holds its lock,
    "closed" with a whole footer, else "crashed".  `previous_hash`: the last hash of the segment
    before; `last_hash`: its own.  `totals`: of the footer.  `findings`: what is wrong, as far as it
    was come across.  `torn`: the one that a crash leaves.

    `version`: of the format.  `unknown_columns`: ids of columns that this version does not know, of
    the blocks that were read whole.

    `key`: of a sealed recording; without it a sealed one is read, but not checked.  `descriptor`:
    of the file, where that is open already; it is closed with the segment.  Opening raises
    ArchiveError if the file cannot be read, FormatError if it is no segment, NewerError if it is
    one of a later format.
    """

    state: Literal["live", "closed", "crashed"]
    # whether its blocks have hashes, so that damage is found; a file of the C ctrecorder has none
    hashed = True

    def __init__(self, path: str, key: bytes = b"", descriptor: int | None = None) -> None:
        self.path = path
        self.findings: list[FormatError] = []
        self.torn: FormatError | None = None
        self.header: Json = {}
        self.totals: Json = {}
        self.previous_hash = self.last_hash = NO_HASH
        self.version = VERSION
        self.unknown_columns: set[int] = set()
        self._footer_at = 0
        self._index: NDArray[np.void] | None = None
        self.file = BlockFile(path, descriptor)
        try:
            self._read_header(key)
            if not self._read_footer():
                self._follow()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self.file.size

    @property
    def sealed(self) -> bool:
        """If the hashes are keyed."""
        return self.header.get("sealed") is True

    def _read_header(self, key: bytes) -> None:
        file = self.file
        try:
            frame = file.frame(0)
            if frame.kind != Kind.HEADER:
                raise FormatError("the first block is no header", offset=0)
            data = file.read(0, FRAME.size + frame.length)
            header = parse_header(data[FRAME.size :])
            if header.get("sealed") is True:
                file.key = key or None
            self._check_header(data)
            self.header, self.previous_hash, self.version = header, frame.previous, frame.version
        except FormatError as error:
            whole = next(file.whole_blocks(0, min(self.size, _SEARCH)), None)
            if whole is None and isinstance(error, NewerError):
                raise file.placed(error, 0) from None
            if whole is None:
                raise file.wrong(
                    f"not a segment of ctrecorder: {error.reason}", error.offset
                ) from None
            self.version = file.frame(whole).version
            self.findings.append(file.placed(error, 0))

    def _check_header(self, data: memoryview) -> None:
        try:
            self.file.check_hash(data, data[FRAME.size :])
        except FormatError as error:
            if self.file.key:
                raise FormatError(
                    "the header does not match its hash: damaged, or sealed with another key",
                    offset=0,
                ) from error
            raise

    def _read_footer(self) -> bool:
        """Take index and totals from the footer; False: there is none that is whole."""
        trailer = parse_trailer(self.file.pread(max(self.size - TRAILER.size, 0), TRAILER.size))
        if trailer is None or trailer[0] >= self.size:
            return False
        self._footer_at = trailer[0]
        try:
            index, self.totals, self.last_hash = self._load_footer()
        except FormatError as error:
            self.findings.append(self.file.placed(error, self._footer_at))
            return False
        self.state, self._index = "closed", index if len(index) <= _KEPT_RECORDS else None
        if not len(index):
            self._scan()
        return True

    def _load_footer(self) -> tuple[NDArray[np.void], Json, bytes]:
        """Index, totals and hash of the footer.  Raises FormatError."""
        frame = self.file.frame(self._footer_at)
        if frame.kind != Kind.FOOTER or self._footer_at + FRAME.size + frame.length != self.size:
            raise FormatError("the trailer at the end does not lead to a footer", offset=0)
        return *parse_footer(self.file.payload(self._footer_at, frame), self._footer_at), frame.hash

    def _follow(self) -> None:
        # Asked first: a segment that is closed between the two is then called live, not crashed.
        self.state = "live" if files.is_live(self.file.descriptor) else "crashed"
        self._scan()

    def _scan(self) -> None:
        scan = Scan(self.file)
        self.index, self.last_hash, self.torn = scan.index, scan.last_hash, scan.torn
        self.findings += [
            finding for finding in scan.findings if self.state != "live" or finding is not scan.torn
        ]

    @property
    def index(self) -> NDArray[np.void]:
        """INDEX records of all blocks but the footer.

        Raises FormatError if the file was changed since it was opened.
        """
        return self._load_footer()[0] if self._index is None else self._index

    @index.setter
    def index(self, index: NDArray[np.void]) -> None:
        self._index = index

    @property
    def blocks(self) -> list[Block]:
        """All blocks but the footer, in the file's order."""
        return _as_blocks(self.index)

    def blocks_of(self, *kinds: int) -> list[Block]:
        """The blocks of these kinds, in the file's order."""
        index = self.index
        chosen = np.zeros(256, np.bool_)
        chosen[list(kinds)] = True
        return _as_blocks(index[chosen[index["kind"]]])

    @property
    def times(self) -> tuple[int, int]:
        """The least time_min and the greatest time_max of all blocks, ns UTC."""
        index = self.index
        return int(index["time_min"].min()), int(index["time_max"].max())

    @property
    def unknown_parts(self) -> str:
        """What this version passes over, in words, "" if nothing.

        The kinds of blocks, and the columns of the blocks that were read whole.
        """
        kinds = sorted(set(np.unique(self.index["kind"]).tolist()) - set(Kind))
        found = [f"blocks of kind {kind}" for kind in kinds]
        return ", ".join([*found, *(f"column {number}" for number in sorted(self.unknown_columns))])

    @cached_property
    def gaps(self) -> list[Gap]:
        """All GAPs that can be read."""
        return list(self._notes(Kind.GAP, Gap.parse))

    @cached_property
    def marks(self) -> list[Mark]:
        """All MARKs that can be read."""
        return list(self._notes(Kind.MARK, Mark.parse))

    def _notes(self, kind: Kind, parse: Callable[[Frame, Buffer], _Note]) -> Iterator[_Note]:
        """The blocks of a kind, parsed; the error of one that cannot be is in `findings`."""
        for block in self.blocks_of(kind):
            try:
                frame = self.frame(block)
                yield parse(frame, self.file.payload(block.offset, frame))
            except FormatError as error:
                self.findings.append(self.file.placed(error, block.offset))

    def read(self, block: Block, names: Iterable[str] | None = None) -> Table:
        """The columns `names` (default: all) of a block of EVENTS or CONNECTIONS.

        Raises FormatError.
        """
        try:
            payload = self.file.payload(block.offset, self.frame(block))
            table = decode_table(payload, block.form, block.family, block.rows, names)
            self.unknown_columns |= unknown_columns(payload, block.form)
            return table
        except FormatError as error:
            raise self.file.placed(error, block.offset) from None

    def read_small(
        self, blocks: Iterable[Block], names: Iterable[str] | None = None
    ) -> list[Table]:
        """Blocks in form SMALL (of one family, in the file's order) as few tables: one for each run
        of blocks with the same columns.

        A block that is damaged is passed over; its error is in `findings`.
        """
        wanted = None if names is None else list(names)
        tables: list[Table] = []
        runs: list[tuple[int, Buffer]] = []
        layout, family = b"", 0
        for block in blocks:
            try:
                its_layout, run = self._read_run(block)
            except FormatError as error:
                self.findings.append(self.file.placed(error, block.offset))
                continue
            if its_layout != layout and runs:
                tables.append(small_table(layout, runs, family, wanted))
                runs = []
            if its_layout != layout:
                self.unknown_columns |= unknown_columns(its_layout, FORM_SMALL)
            layout, family = its_layout, block.family
            runs.append((block.rows, run))
        if runs:
            tables.append(small_table(layout, runs, family, wanted))
        return tables

    def in_recording_order(self, blocks: Iterable[Block]) -> Iterator[list[Block]]:
        """`blocks`, which are in the file's order, as groups, each of which is read at once.

        A group is one block, or blocks of one family that join, for `read_small`: at least
        _JOINED_ROWS rows of them, or fewer where a block of another kind or form follows.  No event
        changes places with such a block.  Groups of the two families between such blocks do, which
        pairing allows.  Each block costs the same, however many blocks wait.
        """
        small: dict[int, list[Block]] = {}
        rows: dict[int, int] = {}
        for block in blocks:
            if block.joins:
                small.setdefault(block.family, []).append(block)
                rows[block.family] = rows.get(block.family, 0) + block.rows
            if not block.joins or rows[block.family] >= _JOINED_ROWS:
                yield from small.values()
                small, rows = {}, {}
            if not block.joins:
                yield [block]
        yield from small.values()

    def _read_run(self, block: Block) -> tuple[bytes, Buffer]:
        """Layout and run of a block in form SMALL."""
        frame = self.frame(block)
        data = self.file.read_on(block.offset, FRAME.size + frame.length)
        self.file.check_hash(data, data[FRAME.size :])
        layout = small_layout(data[FRAME.size :], block.family)
        return layout, small_run(data[FRAME.size :], layout, block.rows)

    def may_contain(self, query: Query) -> bool:
        """If a row that is wanted can be in the segment, as its ADDRESSES tell; a damaged one tells
        nothing, and is in `findings`.
        """
        if not query.names_addresses:
            return True
        for block in self.blocks_of(Kind.ADDRESSES):
            try:
                return query.may_contain_addresses(
                    Bloom(self.file.payload(block.offset, self.frame(block)))
                )
            except FormatError as error:
                self.findings.append(self.file.placed(error, block.offset))
        return True

    def ask(self, block: Block, names: Iterable[str] | None, query: Query) -> Table | None:
        """The rows of a block that are wanted, with the columns `names` and those that the question
        needs; None if there are none.

        Reads no more than it must: the index; then the columns that the question needs; then, if
        any row is wanted, the others. Raises FormatError.
        """
        if not query.may_contain_time(block.time_min, block.time_max):
            return None
        try:
            return self._ask(block, names, query)
        except FormatError as error:
            raise self.file.placed(error, block.offset) from None

    def _ask(self, block: Block, names: Iterable[str] | None, query: Query) -> Table | None:
        needed = list(query.columns_needed())
        if block.form == FORM_SMALL:
            table = self.read(block, None if names is None else [*names, *needed])
            wanted = query.evaluate(table)
            return table.take(wanted) if wanted.any() else None
        index = self.read_index(block)
        if not query.may_contain(Bounds(block.kind, index)):
            return None
        begin = block.offset + FRAME.size

        def fetch(offset: int, length: int) -> Buffer:
            return self.file.read(begin + offset, length)

        rows = LazyTable(index, fetch)
        found = np.flatnonzero(query.evaluate(rows))
        return (
            rows.take(found).table(None if names is None else [*names, *needed])
            if len(found)
            else None
        )

    def read_index(self, block: Block) -> Index:
        """The index of a block in form COLUMNS, held against the frame's hash.

        Raises FormatError, its offset from the block.
        """
        frame = self.frame(block)
        data = self.file.read(block.offset, min(_INDEX_READ, FRAME.size + frame.length))
        end = FRAME.size + index_head(data[FRAME.size :], frame.length)[1]
        if end > len(data):
            data = self.file.read(block.offset, end)
        self.file.check_hash(data, data[FRAME.size : end])
        return Index(data[FRAME.size : end], block.family, block.rows, frame.length)

    def frame(self, block: Block) -> Frame:
        """The frame of a block, which must be as the segment's index says.

        Raises FormatError, its offset from the block.
        """
        frame = self.file.frame(block.offset)
        if (
            frame.time_min,
            frame.time_max,
            frame.rows,
            frame.kind,
            frame.family,
            frame.form,
        ) != block[1:]:
            raise FormatError("the block is not the one that the footer tells of", offset=0)
        return frame
