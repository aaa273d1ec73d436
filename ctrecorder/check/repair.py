"""cttest --repair: what is whole of a damaged segment, as a new one, with GAPs where something is
missing.

The damaged file is only read.  Of a segment each block that matches its hashes is taken as it
stands; of a file of the C ctrecorder all records that can be (`legacy_steps`).  The new segment
names the one that it replaces, so that a chain goes on over it.  Memory: one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ctrecorder.archive.lock import BusyError, successor
from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.block import PendingBlock, gap_block, mark_block, table_blocks
from ctrecorder.ctlog.frame import FEATURES, FRAME, KINDS, TABLES, VERSION, Gap, Json, Kind
from ctrecorder.ctlog.plans import LIVE, SQUEEZED
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter


@dataclass(frozen=True)
class RepairResult:
    """What became of a segment.

    `rows`: those that were saved.
    `holes`: the places where something is missing; each is a GAP now.
    `unknown`: blocks that were left out, because this version does not know their kind.
    `findings`: what was wrong.
    """

    rows: int
    holes: int
    unknown: int
    findings: list[FormatError]


def repair(path: str, output: str, key: bytes = b"") -> RepairResult:
    """Write what is whole of `path` to `output`, which must not exist.

    `key`: of a sealed segment; the new one is sealed with it.  Raises BusyError for a segment that
    is being written, FormatError for what is none, ArchiveError for what the disk refuses.
    """
    with open_segment(path, key) as old:
        if old.sealed and not key:
            raise ArchiveError(
                f"{path}: is sealed, and cannot be made anew without its key: give it with --key"
            )
        if old.state == "live":
            raise BusyError(f"{path}: is being recorded")
        salvage = _Salvage(old) if old.hashed else _Records(old)
        begun = int(old.index["time_min"][0]) if len(old.index) else 0
        writer = SegmentWriter.create(
            output, _header(old), old.previous_hash, time_ns=begun, key=key if old.sealed else b""
        )
        try:
            for block in salvage.blocks():
                writer.write(block)
            writer.close()
        except BaseException:
            writer.discard()
            raise
        return RepairResult(writer.rows, salvage.holes, salvage.unknown, old.findings)


def _header(old: Segment) -> Json:
    header = {**old.header, "repaired": True, "replaces": successor(old)}
    if not old.header and old.version != VERSION:
        # What it required is lost with its header: it can be no more than what this version knows,
        # for what it does not know it reads as damage.
        header["requires"] = sorted(FEATURES)
    return header


class _Records:
    """The records of a C ctrecorder's file.

    Where some are missing its segment has a GAP already.
    """

    def __init__(self, old: Segment) -> None:
        self._old = old
        self.holes, self.unknown = len(old.gaps), 0

    def blocks(self) -> Iterator[PendingBlock]:
        """All that is there, as blocks.  Raises FormatError if the file is changed meanwhile."""
        gaps = iter(self._old.gaps)
        for mark in self._old.marks:
            yield mark_block(mark)
        for block in self._old.blocks_of(Kind.EVENTS, Kind.CONNECTIONS, Kind.GAP):
            if block.kind == Kind.GAP:
                yield gap_block(next(gaps))
            else:
                kind = Kind(block.kind)
                yield from table_blocks(
                    self._old.read(block), kind, plan=SQUEEZED if kind == Kind.CONNECTIONS else LIVE
                )


class _Salvage:
    """The whole blocks of a segment, and GAPs between them where there are others, or bytes that
    are none.
    """

    def __init__(self, old: Segment) -> None:
        self._old = old
        self.holes = self.unknown = 0
        self._lost: list[int] = []  # times between which something is missing
        self._detail = ""

    def blocks(self) -> Iterator[PendingBlock]:
        """Each whole block behind the header as it stands, and GAPs."""
        file, last = self._old.file, 0
        end: int | None = (
            0  # where the next block should begin; None: behind a damaged one that is not known
        )
        for block in self._old.blocks:
            if end is not None and block.offset > end:
                self._lose(
                    file.wrong(f"{block.offset - end} bytes are no whole block", end),
                    last,
                    block.time_min,
                )
            try:
                frame = self._old.frame(block)
                payload = file.payload(block.offset, frame)
                if block.kind in TABLES:
                    self._old.read(block)  # the columns have hashes of their own
            except FormatError as error:
                self._lose(file.placed(error, block.offset), block.time_min, block.time_max)
                end = None
                continue
            yield from self._gap("damaged")
            if block.kind not in KINDS:  # it may be about blocks that are not the same any more
                self.unknown += 1
            elif block.kind not in (
                Kind.HEADER,
                Kind.ADDRESSES,
            ):  # a filter of addresses would be of other rows, or wrong
                yield PendingBlock(
                    Kind(block.kind),
                    bytes(payload),
                    (block.time_min, block.time_max),
                    block.family,
                    block.form,
                    block.rows,
                )
            end, last = block.offset + FRAME.size + frame.length, block.time_max
        if self._old.state != "closed" and end is not None and end < self._old.size:
            self._lose(
                file.wrong(f"{self._old.size - end} bytes are no whole block", end), last, last
            )
        yield from self._gap("damaged" if self._old.torn is None else "crashed")

    def _lose(self, error: FormatError, *times: int) -> None:
        """Note that something is missing, and between which times."""
        if error.offset not in {finding.offset for finding in self._old.findings}:
            self._old.findings.append(error)
        self._lost += times
        self._detail = self._detail or str(error.reason)

    def _gap(self, reason: str) -> Iterator[PendingBlock]:
        """A GAP for what was lost since the last one."""
        if self._lost:
            self.holes += 1
            yield gap_block(Gap(min(self._lost), max(self._lost), reason, None, self._detail))
            self._lost, self._detail = [], ""
