"""cttest --repair: writes the whole blocks of a damaged segment to a new one, with a GAP for each
damaged part.

The damaged file is only read.  Each block of a segment that matches its hashes is copied unchanged;
one that does not follow on the block before it has a GAP there, because blocks may be missing.  Of
a file of the C ctrecorder all valid records (`legacy.resync`).  The new segment names the one
that it replaces, so that the chain continues.  Memory: one block.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ctrecorder.archive import chain, lock
from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import FEATURES, FRAME, KINDS, TABLES, VERSION, Gap, Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.plans import LIVE, SQUEEZED
from ctrecorder.errors import ArchiveError, FormatError, why
from ctrecorder.findings import Finding
from ctrecorder.folder import Folder
from ctrecorder.sealing.successor import KeyUser
from ctrecorder.segment.pending import PendingBlock, gap_block, mark_block, table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.terminal import count


@dataclass(frozen=True)
class RepairResult:
    """The result of a repair.

    `rows`: rows that were saved.
    `holes`: missing parts; each is a GAP in the new segment.
    `unknown`: blocks that were left out because this version does not know their kind.
    `findings`: the damage.
    `last_hash`, `replaced_hash`: last hash of the new and of the damaged segment, hex.
    """

    rows: int
    holes: int
    unknown: int
    findings: list[Finding]
    last_hash: str
    replaced_hash: str


def repair(path: str, output: str, key: bytes = b"", seals: KeyUser | None = None) -> RepairResult:
    """Write the whole blocks of `path` to `output`, which must not exist.

    `key`: of a segment with a static key, which the new one gets too.
    `seals`: the keys of segments that are sealed forward; if that of `path` is not there, or the
    ledger contradicts it, the new one is not sealed.

    Raises BusyError for a segment that is being written, FormatError for a file that is not a
    segment, ArchiveError if a file cannot be read or written.
    """
    with open_segment(path, key) as old:
        if old.sealed and not key:
            raise ArchiveError(
                f"{path}: is sealed, and cannot be made anew without its key: give it with --key"
            )
        lock.refuse_live(old)
        keys = seals if seals is not None and _may_seal(old, seals) else None
        salvage = _Salvage(old) if isinstance(old, Segment) else _Records(old)
        writer = _write(old, salvage, output, key, keys)
        return RepairResult(
            writer.rows,
            salvage.holes,
            salvage.unknown,
            old.findings,
            writer.last_hash.hex(),
            old.last_hash.hex(),
        )


def _may_seal(old: Recording, seals: KeyUser) -> bool:
    """Whether what is saved of `old` can be sealed: the recorder wrote it, as far as is known."""
    return seals.has_key_of(old) and isinstance(old, Segment) and not seals.doubt(old)


def log_result(result: RepairResult, path: str, output: str, log: Log) -> None:
    """Log that `path` was repaired: an anchor of the new segment `output`."""
    rows, holes = count(result.rows, "row"), count(result.holes, "gap")
    hashes = f"last hash {result.last_hash}, before {result.replaced_hash}"
    log.send(
        messages.REPAIRED,
        f"repaired {output}: from {path}, {rows}, {holes}; {hashes}",
        path=output,
        repaired=path,
        rows=result.rows,
        holes=result.holes,
        last_hash=result.last_hash,
        replaced_hash=result.replaced_hash,
    )


def _write(
    old: Recording,
    salvage: _Salvage | _Records,
    output: str,
    key: bytes,
    seals: KeyUser | None,
) -> SegmentWriter:
    """Write the repaired segment under a hidden name, and name it `output` when it is whole.

    `seals`: has the key of `old`; None: it is not sealed forward.
    """
    name, hidden = os.path.basename(output), f".repairing-{secrets.token_hex(8)}"
    begun = int(old.index["time_min"][0]) if len(old.index) else 0
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Folder.of(output))
        if os.path.lexists(output):
            raise ArchiveError(f"{output}: exists already, and is never overwritten")
        writer = SegmentWriter.create(
            os.path.join(folder.path, hidden),
            _header(old, keep_seals=seals is not None),
            old.previous_hash,
            time_ns=begun,
            key=key if old.sealed else b"",
            folder=folder,
            owner=os.fstat(folder.descriptor) if os.geteuid() == 0 else None,
        )
        stack.callback(folder.remove, hidden)
        written = os.dup(writer.descriptor)
        stack.callback(os.close, written)
        try:
            for block in salvage.blocks():
                writer.write(block)
            if seals is not None:
                seals.close(writer, old, what="repair")
            else:
                writer.close()
        except BaseException:
            writer.discard()
            raise
        try:
            folder.link(written, name)
            folder.sync()
        except FileExistsError as error:
            raise ArchiveError(f"{output}: exists already, and is never overwritten") from error
        except OSError as error:
            raise ArchiveError(f"{output}: cannot be made: {why(error)}") from error
    return writer


def _header(old: Recording, *, keep_seals: bool) -> Header:
    header = replace(old.header, repaired=True, replaces=chain.successor(old))
    if isinstance(old, Segment) and old.header == Header() and old.version != VERSION:
        # The features that it required are lost with its header.  They can only be known ones:
        # blocks that need unknown features were read as damage.
        header = replace(header, requires=tuple(sorted(FEATURES)))
    return header if keep_seals else replace(header, seals=None)


class _Records:
    """The records of a file of the C ctrecorder; it has a GAP already where some are missing."""

    def __init__(self, old: Recording) -> None:
        self._old = old
        self.holes, self.unknown = len(old.gaps), 0

    def blocks(self) -> Iterator[PendingBlock]:
        """All records and GAPs as blocks.  Raises FormatError if the file is changed meanwhile."""
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
    """The whole blocks of a segment, and a GAP for the damage between them."""

    def __init__(self, old: Segment) -> None:
        self._old = old
        self.holes = self.unknown = 0
        self._lost: list[int] = []  # times between which rows are missing
        self._detail = ""

    def blocks(self) -> Iterator[PendingBlock]:
        """Each whole block after the header, unchanged, and GAPs."""
        file, last = self._old.file, 0
        # Where the next block should begin; None after a damaged block, whose end is not known.
        end: int | None = 0
        before = b""
        for block in self._old.blocks:
            if end is not None and block.offset > end:
                self._lose(
                    file.damage(f"{block.offset - end} bytes are not a whole block", end),
                    last,
                    block.time_min,
                )
            try:
                frame = self._old.frame(block)
                if block.offset == end and before and frame.previous != before:
                    what = "does not follow on the block before it"
                    self._lose(file.damage(what, block.offset), last, block.time_min)
                before = frame.hash
                payload = file.payload(block.offset, frame)
                if block.kind in TABLES:
                    self._old.read(block)  # the columns have hashes of their own
            except FormatError as error:
                self._lose(file.finding(error, block.offset), block.time_min, block.time_max)
                end = None
                continue
            yield from self._gap("damaged")
            if block.kind not in KINDS:  # it may describe blocks that have changed
                self.unknown += 1
            # A filter of addresses would be wrong: its rows may be missing.  So would a seal.
            elif block.kind not in (Kind.HEADER, Kind.ADDRESSES, Kind.SEAL):
                yield PendingBlock(
                    Kind(block.kind),
                    bytes(payload),
                    (block.time_min, block.time_max),
                    block.family,
                    frame.stored_form,
                    block.rows,
                )
            end, last = block.offset + FRAME.size + frame.length, block.time_max
        if self._old.state != "closed" and end is not None and end < self._old.size:
            self._lose(
                file.damage(f"{self._old.size - end} bytes are not a whole block", end), last, last
            )
        if self._old.state == "cut":  # the missing rows may have any time
            self._lose(self._old.findings[-1], *self._old.times)
        yield from self._gap("damaged" if self._old.torn is None else "crashed")

    def _lose(self, finding: Finding, *times: int) -> None:
        """Note that rows are missing, and between which times."""
        if finding.offset not in {known.offset for known in self._old.findings}:
            self._old.findings.append(finding)
        self._lost += times
        self._detail = self._detail or finding.what

    def _gap(self, reason: str) -> Iterator[PendingBlock]:
        """A GAP for the rows that were lost since the last one."""
        if self._lost:
            self.holes += 1
            yield gap_block(Gap(min(self._lost), max(self._lost), reason, None, self._detail))
            self._lost, self._detail = [], ""
