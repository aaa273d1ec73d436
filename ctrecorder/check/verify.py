"""Checking: every block of a segment, its order in it, and the order of segments.

`check` is what cttest does.  `examine` looks at one segment: each block against its hash, each
column of it decoded, what frames, index, footer and the filter of addresses say against what is
there, the chain of hashes from the first block to the last.  `check_chains` looks at how segments
follow each other.

A live segment is checked as far as it is written.  One that a crash left is whole if it ends with a
whole block, or with the beginning of one: that is said, but is no damage.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ctrecorder.archive import find, lock, retention
from ctrecorder.archive.open import open_segment
from ctrecorder.archive.retention import Receipt
from ctrecorder.columns import Table
from ctrecorder.ctlog.bloom import Bloom
from ctrecorder.ctlog.frame import FRAME, NO_HASH, TABLES, Gap, Json, Kind, Mark, block_times
from ctrecorder.ctlog.index import FORM_COLUMNS
from ctrecorder.errors import ArchiveError, CtrecorderError, ExitCode, FormatError
from ctrecorder.folder import Folder
from ctrecorder.segment.blockfile import Scan
from ctrecorder.segment.reader import Block, Segment
from ctrecorder.terminal import count
from ctrecorder.times import text

Say = Callable[[str], None]

WHOLE, DAMAGED, UNCHECKED = ExitCode.OK, ExitCode.NO, ExitCode.FAILED
# Offset of the hash of the block before in a frame: what a broken chain is told of.
_PREVIOUS_AT = 32
# Files of a folder that are no segments: so many are named.
_NAMED = 5


@dataclass
class SegmentReport:
    """What is known of a segment after `examine`.

    `findings`: damage.  `notes`: what is to be said, but is none.
    """

    path: str
    state: str
    header: Json
    previous_hash: str
    hashes: list[str]
    blocks: int = 0
    rows: int = 0
    gaps: int = 0
    sealed: bool = False
    times: tuple[int, int] = (0, 0)
    findings: list[FormatError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def chain(self) -> str:
        return str(self.header.get("chain", ""))

    @property
    def sequence(self) -> int:
        sequence = self.header.get("sequence")
        return sequence if isinstance(sequence, int) else 0

    def summary(self) -> str:
        """One line: what it is, and what it holds."""
        verdict = f"damaged, {count(len(self.findings), 'finding')}" if self.findings else "whole"
        since, until = (text(time, utc=True) for time in self.times)
        holds = f"{count(self.blocks, 'block')}, {count(self.rows, 'row')}" + (
            f", {count(self.gaps, 'gap')}" if self.gaps else ""
        )
        return f"{self.path}: {verdict}, {self.state}: {holds}, {since} to {until} UTC"


@dataclass
class ChainReport:
    """What was found of all segments together.

    `unproved`: what was asked for and could not be done, a line each.
    """

    findings: list[FormatError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)


Compare = Callable[[list[SegmentReport]], ChainReport]


def check(
    paths: Sequence[str],
    say: Say,
    *,
    quiet: bool = False,
    key: bytes = b"",
    keyless: str = "",
    compare: Compare | None = None,
) -> int:
    """Check the segments among `paths` (files, or folders of them) and say what was found, a line
    each; returns the exit code.

    WHOLE; DAMAGED if anything is; otherwise UNCHECKED if a file could not be checked.  `quiet`:
    only damage and what could not be checked. `key`: of sealed segments, which cannot be checked
    without it.  `keyless`: why it is not at hand; then it is not known either whether what is not
    sealed should be.  `compare`: what else to hold them against.
    """
    found = find.find(list(paths))
    unchecked = [why for _, why in found.unreadable]
    unchecked += [f"{path}: not a segment of ctrecorder" for path in found.foreign if path in paths]
    notes = _passed_over([path for path in found.foreign if path not in paths])
    reports = []
    for path in found.segments:
        try:
            one = check_segment(path, key)
        except CtrecorderError as error:
            unchecked.append(str(error))
            continue
        reports.append(one)
        if one.sealed and not key:
            unchecked.append(
                f"{path}: is sealed: without its key (--key) only its structure could be checked"
            )
        for finding in one.findings:
            say(str(finding))
        if not quiet:
            for line in (*one.notes, one.summary()):
                say(line)
    whole = _check_all(reports, _receipts(paths, unchecked), key, compare)
    unproved = [keyless, *whole.unproved] if keyless else whole.unproved
    for line in (*map(str, whole.findings), *unchecked, *unproved):
        say(line)
    damaged = {one.path for one in reports if one.findings} | {
        finding.path for finding in whole.findings
    }
    if not quiet:
        for line in (*whole.notes, *notes, _total(len(reports), len(damaged), len(unchecked))):
            say(line)
    return DAMAGED if damaged else UNCHECKED if unchecked or unproved or not reports else WHOLE


def _check_all(
    reports: list[SegmentReport], receipts: list[Receipt], key: bytes, compare: Compare | None
) -> ChainReport:
    """What is only seen when all segments are there."""
    whole = ChainReport(*check_chains(reports, receipts))
    if key:
        whole.findings += _unsealed(reports)
    if compare is not None:
        compared = compare(reports)
        whole = ChainReport(
            whole.findings + compared.findings, whole.notes + compared.notes, compared.unproved
        )
    return whole


def _receipts(paths: Iterable[str], unchecked: list[str]) -> list[Receipt]:
    """What ctexpire deleted from the folders among `paths`."""
    found = []
    for folder in filter(os.path.isdir, paths):
        try:
            with Folder(folder) as opened:
                found += retention.receipts(opened)
        except ArchiveError as error:
            unchecked.append(str(error))
    return found


def _unsealed(segments: Iterable[SegmentReport]) -> list[FormatError]:
    """Segments that the key says nothing of: neither they nor one that follows on them is sealed."""
    sealed: dict[str, int] = {}
    for one in segments:
        if one.sealed:
            sealed[one.chain] = max(sealed.get(one.chain, one.sequence), one.sequence)
    return [
        FormatError("is not sealed, nor is one that follows on it", path=one.path, offset=0)
        for one in segments
        if not one.sealed
        and "legacy" not in one.header
        and one.sequence >= sealed.get(one.chain, 0)
    ]


def _passed_over(paths: list[str]) -> list[str]:
    if not paths:
        return []
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return [f"passed over, no segments: {', '.join(paths[:_NAMED])}{more}"]


def _total(reports: int, damaged: int, unchecked: int) -> str:
    words = [
        f"{count(reports, 'segment')} checked: {reports - damaged:,} whole, {damaged:,} damaged"
    ]
    if unchecked:
        words.append(f"{count(unchecked, 'file')} could not be checked")
    return "; ".join(words)


def check_segment(path: str, key: bytes = b"") -> SegmentReport:
    """Check one segment.  Raises ArchiveError if it cannot be read, FormatError if it is none."""
    with open_segment(path, key) as segment:
        one = SegmentReport(
            path, segment.state, segment.header, segment.previous_hash.hex(), lock.hashes(segment)
        )
        one.sealed = segment.sealed
        if not segment.hashed:
            one.notes.append(
                f"{path}: of the C ctrecorder, which wrote no checksums: only its structure was checked"
            )
        else:
            _check_order(segment, one)
        addresses = _addresses(segment)
        for block in segment.blocks:
            _check_block(segment, block, one, addresses)
        if segment.unknown_parts:
            what = "of a newer version of ctrecorder: what they say was not checked"
            one.notes.append(f"{path}: has {segment.unknown_parts}, {what}")
        one.findings[:0] = [finding for finding in segment.findings if finding is not segment.torn]
        if segment.torn is not None and segment.state == "crashed":
            one.notes.append(f"{segment.torn}: torn off by a crash")
        _count(segment, one)
    return one


def _count(segment: Segment, one: SegmentReport) -> None:
    one.blocks = len(segment.index)
    one.rows = int(segment.index["rows"].sum())
    one.gaps = int(np.count_nonzero(segment.index["kind"] == Kind.GAP))
    if len(segment.index):
        one.times = segment.times
    told = segment.totals.get("rows", one.rows)
    if told != one.rows:
        one.findings.append(
            FormatError(
                f"the footer tells of {told} rows, there are {one.rows}",
                path=one.path,
                offset=segment.size,
            )
        )


def _check_order(segment: Segment, one: SegmentReport) -> None:
    """The frames from first to last: that they are those that the footer tells of, and each follows
    on the one before.
    """
    file = segment.file
    scan = Scan(file)
    ends = {
        footer for footer in scan.footers if segment.state != "closed" or footer != scan.footers[-1]
    }
    if segment.state == "closed":
        one.findings += scan.findings
        if not np.array_equal(scan.index, segment.index):
            segment.index = scan.index
            one.findings.append(
                file.wrong(
                    "the footer does not tell of the blocks that are there", scan.footers[-1]
                )
            )
    one.findings += [file.wrong("a footer that is not the end", footer) for footer in sorted(ends)]
    before, end = b"", 0
    for offset in sorted([*scan.index["offset"].tolist(), *scan.footers]):
        frame = file.frame(offset)
        if (frame.kind == Kind.HEADER) != (offset == 0):
            one.findings.append(
                file.wrong("a header" if offset else "the first block is no header", offset)
            )
        if before and end == offset and frame.previous != before:
            one.findings.append(
                file.wrong("does not follow on the block before it", offset + _PREVIOUS_AT)
            )
        before, end = frame.hash, offset + FRAME.size + frame.length


def _addresses(segment: Segment) -> Bloom | None:
    """The filter of addresses that a search believes; None if there is none, or it cannot be read,
    which `_check_block` tells.
    """
    for block in segment.blocks_of(Kind.ADDRESSES):
        with contextlib.suppress(FormatError):
            return Bloom(segment.file.payload(block.offset, segment.frame(block)))
    return None


def _check_block(
    segment: Segment, block: Block, one: SegmentReport, addresses: Bloom | None
) -> None:
    try:
        if not segment.hashed:
            if block.kind in TABLES:
                segment.read(block)
        elif block.kind in TABLES:
            table = segment.read(block)
            _check_table(segment, block, table)
            if addresses is not None and addresses.lacks(table):
                raise FormatError(
                    "has an address that the segment's ADDRESSES lack: a search for it finds nothing here",
                    offset=0,
                )
        else:
            frame = segment.frame(block)
            payload = segment.file.payload(block.offset, frame)
            if block.kind == Kind.GAP:
                Gap.parse(frame, payload)
            elif block.kind == Kind.MARK:
                Mark.parse(frame, payload)
            elif block.kind == Kind.ADDRESSES:
                Bloom(payload)
    except FormatError as error:
        one.findings.append(segment.file.placed(error, block.offset))


def _check_table(segment: Segment, block: Block, table: Table) -> None:
    """The rows of a block against what its frame and its index say of them.  Raises FormatError."""
    least, greatest = block_times(block.kind, table)
    if (least, greatest) != (block.time_min, block.time_max):
        raise FormatError(
            f"its rows are of {least} to {greatest}, its frame says {block.time_min} to {block.time_max}",
            offset=16,
        )
    if block.form != FORM_COLUMNS:
        return
    index = segment.read_index(block)
    for name, entry in index.columns.items():
        bound, values = index.bound(name), table[name]
        # A dictionary's values are its own; addresses of 16 bytes have no other bound.
        if (
            bound is None
            or bound.parts
            or isinstance(bound.low, bytes)
            or isinstance(bound.high, bytes)
        ):
            continue
        if not bound.low <= int(values.min()) <= int(values.max()) <= bound.high:
            raise FormatError(
                f"column {name} has values outside the bounds in its entry",
                offset=FRAME.size + entry.offset,
            )


def check_chains(
    segments: Iterable[SegmentReport], receipts: Iterable[Receipt] = ()
) -> tuple[list[FormatError], list[str]]:
    """Whether segments follow each other as they were recorded: findings, and notes.

    Each names the one before it by its last hash.  That one is there, or ctexpire's receipt of it
    is; else the chain is broken. Where there is no receipt at all (a folder that was copied), what
    is before the earliest segment of a chain may have expired.
    """
    expired = {one_hash: receipt for receipt in receipts for one_hash in receipt.hashes}
    chains: dict[str, list[SegmentReport]] = {}
    for one in segments:
        if one.chain and "legacy" not in one.header:
            chains.setdefault(one.chain, []).append(one)
    findings: list[FormatError] = []
    notes: list[str] = []
    for members in chains.values():
        members.sort(key=lambda one: (one.sequence, one.times))
        chain = _Chain(members, expired)
        findings += chain.findings
        notes += chain.notes
    return findings + _strangers(chains.values()), notes


def _strangers(chains: Iterable[list[SegmentReport]]) -> list[FormatError]:
    """Segments of another recording than most with their template in their folder: a recorder goes
    on in the chain that is there.
    """
    places: dict[tuple[str, str], list[list[SegmentReport]]] = {}
    for members in chains:
        template = members[0].header.get("template")
        if isinstance(template, str) and template:
            places.setdefault((os.path.dirname(members[0].path), template), []).append(members)
    findings = []
    for (_, template), found in places.items():
        found.sort(key=len)
        what = f"is of another recording than {count(len(found[-1]), 'segment')} here, which have the same template {template}"
        findings += [_broken(one, what) for members in found[:-1] for one in members]
    return findings


class _Chain:
    """The segments of one recording, in their order: `findings`, `notes`."""

    def __init__(self, members: list[SegmentReport], expired: Mapping[str, Receipt]) -> None:
        self.findings: list[FormatError] = []
        self.notes: list[str] = []
        self._members, self._expired = members, expired
        self._by_hash: dict[str, SegmentReport] = {}
        for one in members:
            for twin in sorted(
                {self._by_hash[known].path for known in one.hashes if known in self._by_hash}
            ):
                self._find(one, f"holds the same as {twin}")
            self._by_hash.update(dict.fromkeys(one.hashes, one))
        followers: dict[str, SegmentReport] = {}
        for place, one in enumerate(members):
            before = self._before(one, place)
            if before is None:
                continue
            if before.path in followers:
                self._find(
                    one, f"follows on {before.name}, and so does {followers[before.path].name}"
                )
            followers[before.path] = one

    def _before(self, one: SegmentReport, place: int) -> SegmentReport | None:
        """The segment that `one` follows on, past those that have expired; None if there is none,
        which is told of.
        """
        name, wanted = str(one.header.get("previous") or "the segment before it"), one.previous_hash
        deleted: Receipt | None = None
        seen = set()
        while wanted not in self._by_hash and wanted in self._expired and wanted not in seen:
            seen.add(wanted)
            deleted = self._expired[wanted]
            name, wanted = deleted.previous or "the segment before it", deleted.previous_hash
        if wanted in self._by_hash:
            return self._by_hash[wanted]
        if wanted == NO_HASH.hex():
            if place:
                self._find(
                    one, f"begins its recording anew, although {self._members[0].name} is earlier"
                )
        elif deleted is None and any(member.name == name for member in self._members):
            self._find(
                one, f"{name} does not end as it did: {name} was cut short, changed or replaced"
            )
        elif place or (self._expired and deleted is None):
            self._find(one, f"{name}, before it, is missing")
        elif deleted is None:
            self.notes.append(
                f"{one.path}: the recording begins earlier; {name}, before it, is not here (expired?)"
            )
        if deleted is not None and place == 0:
            self.notes.append(
                f"{one.path}: the recording begins earlier; what is before it has expired, as ctexpire's receipts say"
            )
        return None

    def _find(self, one: SegmentReport, what: str) -> None:
        self.findings.append(_broken(one, what))


def _broken(one: SegmentReport, what: str) -> FormatError:
    return FormatError(what, path=one.path, offset=_PREVIOUS_AT)
