"""One file of a recording, as its readers see it: its header, its blocks, the columns of a block.

`reader.Segment` is a file of ctrecord, `legacy.segment.LegacySegment` one of the C ctrecorder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ctrecorder import labels, times, uapi
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import COVERAGE, NO_HASH, WATERMARK, Gap, Json, Kind, Mark
from ctrecorder.ctlog.header import NOT_COUNTED, Header
from ctrecorder.ctlog.index import FORM_SMALL
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import UsageError
from ctrecorder.findings import Finding
from ctrecorder.segment.blockfile import BlockFile

# A GAP of a step and its MARK are measured by two clocks, which are read one after the other.
_CLOCKS_NS = times.SECOND // 10
# Rows of small blocks that are read as one table: what pairing waits for.
_JOINED_ROWS = 1 << 16
# A name of a protocol that this version does not know.
_NO_PROTOCOL = -1


class Block(NamedTuple):
    """A block: `offset` of its frame, and the facts in the frame.

    `watermark`: all events until time_max are in this block, in an earlier one, or in a GAP.
    """

    offset: int
    time_min: int
    time_max: int
    rows: int
    kind: int
    family: int
    form: int
    watermark: bool = False

    @property
    def joins(self) -> bool:
        """Whether `Recording.in_recording_order` reads it together with others."""
        return self.form == FORM_SMALL and self.kind == Kind.EVENTS


class Recording(ABC):
    """An open file of a recording.

    `header`: without members if it is damaged.
    `state`: "live" while a recorder writes it; "closed" if it ends as its writer ends it; "cut" if
    its end is missing and no crash can explain that; "unclosed" if it is live or crashed, and
    this user cannot find out which; else "crashed".
    `previous_hash`: the last hash of the segment before; zeros if there is none.
    `last_hash`: its own last hash; zeros if it has no hashes.
    `totals`: of the footer.
    `findings`: the damage found so far.
    `torn`: the finding that a crash leaves; also in `findings`, unless the file is or may be live.
    `unknown_columns`: ids of columns that this version does not know, in the blocks that were read
    whole.

    Methods raise FormatError for damage, and ArchiveError if the file cannot be read.
    """

    state: Literal["live", "closed", "cut", "crashed", "unclosed"]

    def __init__(self, path: str, file: BlockFile) -> None:
        """`file`: is closed with the recording."""
        self.path, self.file = path, file
        self.header = Header()
        self.totals: Json = {}
        self.previous_hash = self.last_hash = NO_HASH
        self.findings: list[Finding] = []
        self.torn: Finding | None = None
        self.unknown_columns: set[int] = set()
        self._times: tuple[int, int] | None = None

    def __enter__(self) -> Self:
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
    @abstractmethod
    def index(self) -> NDArray[np.void]:
        """INDEX records of all blocks but the footer, in the file's order."""

    @property
    @abstractmethod
    def gaps(self) -> list[Gap]:
        """All GAPs that can be read."""

    @property
    @abstractmethod
    def marks(self) -> list[Mark]:
        """All MARKs that can be read."""

    def step_of(self, gap: Gap) -> int:
        """The step of the clock, in ns, that a GAP is of, by its MARK; 0: none, or unknown."""
        if gap.reason != "clock":
            return 0
        for mark in self.marks:
            step = mark.facts.get("step_ns", 0) if mark.what == "clock" else 0
            if type(step) is not int or abs(abs(step) - (gap.end - gap.begin)) > _CLOCKS_NS:
                continue
            if mark.begin == (gap.end if step > 0 else gap.begin):
                return step
        return 0

    @abstractmethod
    def read(self, block: Block, names: Iterable[str] | None = None) -> Table:
        """The columns `names` (default: all) of a block of EVENTS or CONNECTIONS."""

    @abstractmethod
    def read_small(
        self, blocks: Iterable[Block], names: Iterable[str] | None = None
    ) -> list[Table]:
        """The columns `names` (default: all) of blocks that join, as few tables.

        Findings are appended for damaged blocks, which are left out.
        """

    @abstractmethod
    def may_contain(self, query: Query) -> bool:
        """Whether a wanted row can be in the file, by its filter of addresses."""

    @abstractmethod
    def ask(self, block: Block, names: Iterable[str] | None, query: Query) -> Table | None:
        """The wanted rows of a block, with the columns `names` (None: all) and those that the query
        needs; None if there are none.
        """

    def is_received(self, block: Block) -> bool:
        """Whether the file shows that all rows of a block are connections whose start and end were
        received, so that no other row belongs to them.
        """
        return False

    def is_outside(self, block: Block, since: int, until: int) -> bool:
        """Whether the file shows that no row of a block, nor another row of its flows, existed at a
        time from `since` to `until`, ns.
        """
        if block.time_max >= since and block.time_min < until:
            return False
        return self.is_received(block)

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self.file.size

    @property
    def torn_bytes(self) -> int:
        """Bytes after the last whole block of a crashed recording."""
        return 0 if self.torn is None or self.torn.offset is None else self.size - self.torn.offset

    @property
    def sealed(self) -> bool:
        """Whether the hashes are keyed."""
        return self.header.sealed is True

    @property
    def is_chained(self) -> bool:
        """Whether ctrecord recorded it, so that it is part of a chain and its hashes were logged.

        False for a file of the C ctrecorder, and for a segment that was made of one.
        """
        return not self.header.has_legacy

    @property
    def counts_losses(self) -> bool:
        """Whether its recorder counted the events that it lost."""
        return self.header.losses != NOT_COUNTED

    @property
    def has_coverage(self) -> bool:
        """Whether its recorder writes watermarks: a reader must know what they are."""
        return COVERAGE in (self.header.requires or ())

    @property
    def protocols(self) -> frozenset[int]:
        """The protocols that are recorded; empty for all."""
        return frozenset(map(_number_of_protocol, self.header.protocols or ()))

    @property
    def is_damaged(self) -> bool:
        """Whether there is damage so far, other than what a crash leaves."""
        return any(finding is not self.torn for finding in self.findings)

    @property
    def spans_of_gaps(self) -> list[tuple[int, int, int | None]]:
        """When events may be missing: begin, end, ns, and the family or None for all.

        What else narrows a GAP is ignored.  If there is damage, events may be missing anywhere.
        """
        if not self.counts_losses:
            return [(times.BEGIN, times.END, None)]
        found: list[tuple[int, int, int | None]] = [
            (gap.begin, gap.end, family_of(gap.facts)) for gap in self.gaps
        ]
        if self.is_damaged:
            found.append((*self.times, None))
        return found

    @property
    def pairing_key(self) -> str:
        """Files with the same key are one recording: their events pair with each other."""
        return self.header.chain or self.header.recording or self.path

    @property
    def blocks(self) -> list[Block]:
        """All blocks but the footer, in the file's order."""
        return _as_blocks(self.index)

    def blocks_of(self, *kinds: int) -> list[Block]:
        """The blocks of these kinds, in the file's order."""
        index = self.index
        of_block = index["kind"]
        is_kind = of_block == kinds[0]
        for kind in kinds[1:]:
            is_kind |= of_block == kind
        found = np.flatnonzero(is_kind)
        return _as_blocks(index[found]) if len(found) else []

    @property
    def watermark(self) -> int | None:
        """The last watermark that counts, ns UTC; None if there is none.

        One behind damage does not count: what was damaged may be missing.  An earlier one can be
        greater, if the clock was set back.
        """
        index = self.index
        whole = min(
            (
                one.offset
                for one in self.findings
                if one is not self.torn and one.offset is not None
            ),
            default=self.size,
        )
        found = index["time_max"][(index["form"] >= WATERMARK) & (index["offset"] < whole)]
        return int(found[-1]) if len(found) else None

    @property
    def times(self) -> tuple[int, int]:
        """The least time_min and the greatest time_max of all blocks but SEALs, ns UTC."""
        if self._times is not None:
            return self._times
        index = self.index[self.index["kind"] != Kind.SEAL]
        times = int(index["time_min"].min()), int(index["time_max"].max())
        if self.state == "closed":
            self._times = times
        return times

    @property
    def unknown_parts(self) -> str:
        """What this version passes over, in words: kinds of blocks, and columns of the blocks that
        were read whole; "" if nothing.
        """
        kinds = sorted(set(np.unique(self.index["kind"]).tolist()) - set(Kind))
        found = [f"blocks of kind {kind}" for kind in kinds]
        return ", ".join([*found, *(f"column {number}" for number in sorted(self.unknown_columns))])

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


def _number_of_protocol(name: str) -> int:
    try:
        return labels.parse_protocol(name)
    except UsageError:
        return _NO_PROTOCOL


def family_of(facts: Mapping[str, Any]) -> int | None:
    """The family to which a GAP is limited; None: it is not, or in a way that is not known."""
    family = facts.get("family")
    return family if type(family) is int and family in uapi.FAMILIES else None


def _as_blocks(index: NDArray[np.void]) -> list[Block]:
    """INDEX records as Blocks."""
    names = ("offset", "time_min", "time_max", "rows", "kind", "family")
    columns: list[Any] = [index[name].tolist() for name in names]
    forms: Any = index["form"].tolist()
    columns.append([form & ~WATERMARK for form in forms])
    columns.append([form >= WATERMARK for form in forms])
    return list(map(Block._make, zip(*columns, strict=True)))
