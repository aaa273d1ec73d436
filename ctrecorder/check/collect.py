"""Checking one segment: the order of its blocks, each block against its hash, each column decoded,
and frames, indexes, footer and filter of addresses against the rows.

A live segment is checked as far as it is written.  A crashed one is whole if it ends with a whole
block, or with the beginning of one: that is a note, not damage.
"""

from __future__ import annotations

import contextlib

import numpy as np

from ctrecorder.archive import chain
from ctrecorder.archive.open import open_placed
from ctrecorder.check.chains import PREVIOUS_AT
from ctrecorder.check.report import SegmentReport
from ctrecorder.columns import Table
from ctrecorder.ctlog.bloom import Bloom
from ctrecorder.ctlog.frame import FRAME, TABLES, Gap, Kind, Mark, block_times
from ctrecorder.ctlog.index import FORM_COLUMNS
from ctrecorder.errors import FormatError
from ctrecorder.sealing.examine import sealed_segment
from ctrecorder.seals.block import parse_seal
from ctrecorder.segment.blockfile import Scan
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Block, Recording


def check_segment(path: str, key: bytes = b"") -> SegmentReport:
    """Check one segment.  `key`: of a sealed one.

    Raises ArchiveError if it cannot be read, FormatError if it is not a segment.
    """
    with open_placed(path, key) as recording:
        header = recording.header
        one = SegmentReport(
            path,
            recording.state,
            chain.link(recording),
            template=header.template or "",
            is_chained=recording.is_chained,
            is_successor=bool(header.replaces),
            sealed=recording.sealed,
        )
        if isinstance(recording, Segment):
            _check_order(recording, one)
            _check_blocks(recording, one)
            one.seals = sealed_segment(recording, one.name)
        else:
            _check_records(recording, one)
        if recording.unknown_parts:
            what = "of a newer version of ctrecorder: their contents were not checked"
            one.notes.append(f"{path}: has {recording.unknown_parts}, {what}")
        torn = recording.torn
        one.findings[:0] = [finding for finding in recording.findings if finding is not torn]
        if torn is not None and recording.state == "crashed":
            one.notes.append(f"{torn}: torn off by a crash")
        if recording.state == "unclosed":
            what = "its owner can find out whether a recorder writes it or a crash left it"
            one.notes.append(f"{path}: is not closed: {what}")
        _count(recording, one)
    return one


def _count(recording: Recording, one: SegmentReport) -> None:
    """Fill in the numbers of the report, and compare them with the footer's."""
    index = recording.index
    one.blocks = len(index)
    one.rows = int(index["rows"].sum())
    one.gaps = int(np.count_nonzero(index["kind"] == Kind.GAP))
    if len(index):
        one.times = recording.times
    stored = recording.totals.get("rows", one.rows)
    if stored != one.rows:
        what = f"the footer counts {stored} rows, the blocks have {one.rows}"
        one.findings.append(recording.file.damage(what, recording.size))


def _check_order(segment: Segment, one: SegmentReport) -> None:
    """Check that the blocks are those in the footer, and that each names the one before it."""
    file = segment.file
    scan = Scan(file)
    closed = segment.state == "closed"
    early = {footer for footer in scan.footers if not closed or footer != scan.footers[-1]}
    if closed:
        one.findings += scan.findings
        if not np.array_equal(scan.index, segment.index):
            segment.index = scan.index
            what = "the footer does not list the blocks of the file"
            one.findings.append(file.damage(what, scan.footers[-1]))
    one.findings += [
        file.damage("a footer before the end of the file", footer) for footer in sorted(early)
    ]
    before, end = b"", 0
    for offset in sorted([*scan.index["offset"].tolist(), *scan.footers]):
        frame = file.frame(offset)
        if (frame.kind == Kind.HEADER) != (offset == 0):
            what = "a second header" if offset else "the first block is no header"
            one.findings.append(file.damage(what, offset))
        if before and end == offset and frame.previous != before:
            what = "does not follow on the block before it"
            one.findings.append(file.damage(what, offset + PREVIOUS_AT))
        before, end = frame.hash, offset + FRAME.size + frame.length


def _addresses(segment: Segment) -> Bloom | None:
    """The filter of addresses that a search uses; None if there is none that can be read.

    `_check_blocks` reports one that cannot be read.
    """
    for block in segment.blocks_of(Kind.ADDRESSES):
        with contextlib.suppress(FormatError):
            return Bloom(segment.file.payload(block.offset, segment.frame(block)))
    return None


def _check_records(recording: Recording, one: SegmentReport) -> None:
    """Check a file without hashes: that its records can be read."""
    what = "of the C ctrecorder, which wrote no checksums: only its structure was checked"
    one.notes.append(f"{recording.path}: {what}")
    for block in recording.blocks_of(*TABLES):
        try:
            recording.read(block)
        except FormatError as error:
            one.findings.append(recording.file.finding(error, block.offset))


def _check_blocks(segment: Segment, one: SegmentReport) -> None:
    """Check each block against its hash, and its contents against its frame and index."""
    addresses = _addresses(segment)
    for block in segment.blocks:
        try:
            if block.kind in TABLES:
                table = segment.read(block)
                _check_table(segment, block, table)
                if addresses is not None and addresses.lacks(table):
                    what = "has an address that the segment's ADDRESSES lack"
                    raise FormatError(f"{what}: a search for it finds nothing here", offset=0)
            else:
                _check_other(segment, block)
        except FormatError as error:
            one.findings.append(segment.file.finding(error, block.offset))


def _check_other(segment: Segment, block: Block) -> None:
    """Check a block that has no rows.  Raises FormatError."""
    frame = segment.frame(block)
    payload = segment.file.payload(block.offset, frame)
    if block.kind == Kind.GAP:
        Gap.parse(frame, payload)
    elif block.kind == Kind.MARK:
        Mark.parse(frame, payload)
    elif block.kind == Kind.ADDRESSES:
        Bloom(payload)
    elif block.kind == Kind.SEAL:
        parse_seal(payload)


def _check_table(segment: Segment, block: Block, table: Table) -> None:
    """Compare the rows of a block with the times in its frame and the bounds in its index.

    Raises FormatError.
    """
    least, greatest = block_times(block.kind, table)
    # A watermark is not before the last row, and can be after it.
    last = max(greatest, block.time_max) if block.watermark else greatest
    if (least, last) != (block.time_min, block.time_max):
        stored = f"its frame {block.time_min} to {block.time_max}"
        raise FormatError(f"its rows have times from {least} to {greatest}, {stored}", offset=16)
    if block.form != FORM_COLUMNS:
        return
    index = segment.read_index(block)
    for name, entry in index.columns.items():
        bound, values = index.bound(name), table[name]
        # A dictionary is its own bound; 16-byte addresses have no other.
        if bound is None or bound.parts:
            continue
        if isinstance(bound.low, bytes) or isinstance(bound.high, bytes):
            continue
        if not bound.low <= int(values.min()) <= int(values.max()) <= bound.high:
            raise FormatError(
                f"column {name} has values outside the bounds in its entry",
                offset=FRAME.size + entry.offset,
            )
