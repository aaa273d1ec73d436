"""Reading a segment: its header, its blocks, columns of a block; also while it is written, after a
crash, and where it is damaged.

The footer lists the blocks; without a whole footer they are followed from the first.  Bytes that do
not match their hash are never returned: they become a finding, and the rest is still read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Table
from ctrecorder.ctlog.bloom import Bloom
from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.decoder import LazyTable, decode_table
from ctrecorder.ctlog.frame import (
    FRAME,
    TRAILER,
    VERSION,
    Frame,
    Gap,
    Json,
    Kind,
    Mark,
    parse_footer,
    parse_trailer,
)
from ctrecorder.ctlog.header import Header
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
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError, NewerError
from ctrecorder.segment import notes
from ctrecorder.segment.blockfile import BlockFile, Scan, SearchBudget
from ctrecorder.segment.liveness import is_live
from ctrecorder.segment.recording import Block, Recording

_Note = TypeVar("_Note", Gap, Mark)

# A file whose first block is damaged is still a segment if a whole block begins in these first
# bytes.
_SEARCH = 1 << 20
# Records of an index that is kept in memory, 128 KiB; a longer one (a block a second for a day: 2.7
# MB) is read again for each use, so that a year of segments can be open.
_KEPT_RECORDS = 1 << 12
# Bytes that are read of a block for its index: most indexes are not larger.
_INDEX_READ = 1 << 14


class Bounds:
    """The index of a block as a query sees it."""

    def __init__(self, kind: int, index: Index) -> None:
        self.kind, self.family, self._index = kind, index.family, index

    def get(self, name: str) -> Bound | None:
        """The bounds of the values of column `name`; None: they are not known."""
        return self._index.bound(name)


class Segment(Recording):
    """An open segment of ctrecord.

    `version`: of the format.
    `footer_at`: the offset of the FOOTER; 0: there is none.
    `is_listed`: the FOOTER has a record of each block.
    """

    def __init__(self, path: str, key: bytes = b"", descriptor: int | None = None) -> None:
        """Open `path`.

        `key`: of a sealed recording; without it a sealed one is read, but not checked.
        `descriptor`: of the file, if it is open already; it is closed with the segment.

        Raises ArchiveError if the file cannot be read, FormatError if it is not a segment,
        NewerError if it is one of a later format.
        """
        super().__init__(path, BlockFile(path, descriptor))
        self.version = VERSION
        self.footer_at, self.is_listed = 0, False
        self._index: NDArray[np.void] | None = None
        self._gaps: list[Gap] | None = None
        self._marks: list[Mark] | None = None
        self._cost = 0  # of both
        self._noted: set[tuple[int, str]] = set()
        try:
            self._read_header(key)
            if not self._read_footer():
                self._follow()
        except BaseException:
            self.close()
            raise

    def _read_header(self, key: bytes) -> None:
        file = self.file
        try:
            frame = file.frame(0)
            if frame.kind != Kind.HEADER:
                raise FormatError("the first block is no header", offset=0)
            data = file.read(0, FRAME.size + frame.length)
            header = Header.parse(data[FRAME.size :], frame.form)
            if header.sealed is True:
                file.key = key or None
            self._check_header(data)
            self.header, self.previous_hash, self.version = header, frame.previous, frame.version
        except FormatError as error:
            whole = next(file.whole_blocks(0, min(self.size, _SEARCH), SearchBudget(file)), None)
            if whole is None and isinstance(error, NewerError):
                raise file.placed(error, 0) from None
            if whole is None:
                raise file.wrong(
                    f"not a segment of ctrecorder: {error.reason}", error.offset
                ) from None
            self.version = file.frame(whole).version
            self.findings.append(file.finding(error, 0))

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
        """Take index and totals from the footer; False if it is missing or damaged."""
        trailer = parse_trailer(self.file.pread(max(self.size - TRAILER.size, 0), TRAILER.size))
        if trailer is None or trailer[0] >= self.size:
            return False
        self.footer_at = trailer[0]
        try:
            index, self.totals, self.last_hash = self._load_footer()
        except FormatError as error:
            self.findings.append(self.file.finding(error, self.footer_at))
            return False
        self.state, self._index = "closed", index if len(index) <= _KEPT_RECORDS else None
        self.is_listed = bool(len(index))
        if not self.is_listed:
            self._scan()
        return True

    def _load_footer(self) -> tuple[NDArray[np.void], Json, bytes]:
        """Index, totals and hash of the footer.  Raises FormatError."""
        frame = self.file.frame(self.footer_at)
        if frame.kind != Kind.FOOTER or self.footer_at + FRAME.size + frame.length != self.size:
            raise FormatError("the trailer at the end does not lead to a footer", offset=0)
        return *parse_footer(self.file.payload(self.footer_at, frame), self.footer_at), frame.hash

    def _follow(self) -> None:
        """Find the blocks of a segment without a whole footer, and why it has none."""
        if self.header.is_squeezed or self.header.is_repaired:
            # It gets its name when it is whole.  Until then the old segment is the log: so a part
            # of it is damage, whatever left it.
            self.state = "cut"
            self._scan()
            self.torn = None
            self.findings.append(
                self.file.damage(
                    "cut short: a squeezed or repaired segment has a footer", self.size
                )
            )
            return
        # Before the scan: a segment that is closed between the two is then live, not crashed.
        live = is_live(self.path, self.file.descriptor, self.header)
        self.state = "unclosed" if live is None else "live" if live else "crashed"
        self._scan()

    def _scan(self) -> None:
        scan = Scan(self.file)
        self.index, self.last_hash, self.torn = scan.index, scan.last_hash, scan.torn
        self.findings += [
            finding
            for finding in scan.findings
            if self.state not in ("live", "unclosed") or finding is not scan.torn
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
    def gaps(self) -> list[Gap]:
        """All GAPs that can be read; damaged ones are in `findings`."""
        self._gaps, found = self._notes(Kind.GAP, Gap.parse, self._gaps)
        return found

    @property
    def marks(self) -> list[Mark]:
        """All MARKs that can be read; damaged ones are in `findings`."""
        self._marks, found = self._notes(Kind.MARK, Mark.parse, self._marks)
        return found

    def _notes(
        self, kind: Kind, parse: Callable[[Frame, Buffer], _Note], kept: list[_Note] | None
    ) -> tuple[list[_Note] | None, list[_Note]]:
        """The blocks of a kind, parsed: to be kept, if there is memory for them, and to be used.

        Findings are appended for damaged ones, once.
        """
        if kept is not None:
            return kept, kept
        found: list[_Note] = []
        cost = 0
        for block in self.blocks_of(kind):
            try:
                frame = self.frame(block)
                payload = self.file.payload(block.offset, frame)
                cost += notes.cost(payload)
                if cost > notes.MAX_SEGMENT_BYTES:
                    self._add_finding(
                        FormatError(f"too many {kind.name}s: the others are not read"), block
                    )
                    break
                found.append(parse(frame, payload))
            except FormatError as error:
                self._add_finding(error, block)
        if not notes.KEPT.take(cost):
            return None, found
        self._cost += cost
        return found, found

    def _add_finding(self, error: FormatError, block: Block) -> None:
        if (block.offset, error.reason) not in self._noted:
            self._noted.add((block.offset, error.reason))
            self.findings.append(self.file.finding(error, block.offset))

    def close(self) -> None:
        """Close the file."""
        super().close()
        notes.KEPT.give_back(self._cost)
        self._cost = 0

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

        Findings are appended for damaged blocks, which are left out.
        """
        wanted = None if names is None else list(names)
        tables: list[Table] = []
        runs: list[tuple[int, Buffer]] = []
        layout, family = b"", 0
        for block in blocks:
            try:
                its_layout, run = self._read_run(block)
            except FormatError as error:
                self.findings.append(self.file.finding(error, block.offset))
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

    def _read_run(self, block: Block) -> tuple[bytes, Buffer]:
        """Layout and run of a block in form SMALL."""
        frame = self.frame(block)
        data = self.file.read_on(block.offset, FRAME.size + frame.length)
        self.file.check_hash(data, data[FRAME.size :])
        layout = small_layout(data[FRAME.size :], block.family)
        return layout, small_run(data[FRAME.size :], layout, block.rows)

    def may_contain(self, query: Query) -> bool:
        """Whether a wanted row can be in the segment, by its ADDRESSES; True without them.

        A finding is appended for a damaged ADDRESSES.
        """
        if not query.names_addresses:
            return True
        for block in self.blocks_of(Kind.ADDRESSES):
            try:
                return query.may_contain_addresses(self.addresses(block))
            except FormatError as error:
                self.findings.append(self.file.finding(error, block.offset))
        return True

    def addresses(self, block: Block) -> Bloom:
        """The filter in a block ADDRESSES.  Raises FormatError."""
        return Bloom(self.file.payload(block.offset, self.frame(block)))

    def ask(self, block: Block, names: Iterable[str] | None, query: Query) -> Table | None:
        """The wanted rows of a block, with the columns `names` (None: all) and those that the query
        needs; None if there are none.

        Reads the index; then the columns that the query needs; then the others, if any row is
        wanted.  Raises FormatError.
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
        rows = self.rows(block)
        if not query.may_contain(Bounds(block.kind, rows.index)):
            return None
        found = np.flatnonzero(query.evaluate(rows))
        return (
            rows.take(found).table(None if names is None else [*names, *needed])
            if len(found)
            else None
        )

    def rows(self, block: Block) -> LazyTable:
        """The rows of a block in form COLUMNS; a column is read when it is needed.

        Raises FormatError; its offset counts from the block.
        """
        begin = block.offset + FRAME.size

        def fetch(offset: int, length: int) -> Buffer:
            return self.file.read(begin + offset, length)

        return LazyTable(self.read_index(block), fetch)

    def read_index(self, block: Block) -> Index:
        """The index of a block in form COLUMNS, checked against the hash of the frame.

        Raises FormatError; its offset counts from the block.
        """
        frame = self.frame(block)
        data = self.file.read(block.offset, min(_INDEX_READ, FRAME.size + frame.length))
        end = FRAME.size + index_head(data[FRAME.size :], frame.length)[1]
        if end > len(data):
            data = self.file.read(block.offset, end)
        self.file.check_hash(data, data[FRAME.size : end])
        return Index(data[FRAME.size : end], block.family, block.rows, frame.length)

    def frame(self, block: Block) -> Frame:
        """The frame of a block.

        Raises FormatError if the segment's index contradicts it; its offset counts from the block.
        """
        frame = self.file.frame(block.offset)
        if (
            frame.time_min,
            frame.time_max,
            frame.rows,
            frame.kind,
            frame.family,
            frame.form,
            frame.watermark,
        ) != block[1:]:
            raise FormatError("the block is not the one that the footer lists", offset=0)
        return frame
