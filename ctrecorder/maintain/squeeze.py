"""Squeeze a closed segment of events into a smaller one of connections, which takes its place.

The new segment is written under a hidden name, synced, read back, compared with the old one, and
renamed over it.  Until then the old one is not changed.  An interruption leaves at most the hidden
file, which the next run removes.  Memory: some of the open flows, and some rows that wait for full
blocks: less than 300 MiB for a segment of any size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from ctrecorder.archive import chain, lock
from ctrecorder.archive.open import open_segment
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import GROUPED, Kind, Mark
from ctrecorder.ctlog.plans import GROUPS, MIN_RANGES_VALUES, SQUEEZED
from ctrecorder.errors import ArchiveError, ExitCode, FormatError, NewerError
from ctrecorder.filelock import Holder
from ctrecorder.maintain.fingerprint import Fingerprint
from ctrecorder.maintain.notes import Notes, kept_notes
from ctrecorder.maintain.ordering import RESOLUTIONS, BlockOrdering
from ctrecorder.maintain.paired import PairedSegment, Progress
from ctrecorder.maintain.successor import Successor, successor_of
from ctrecorder.privacy.header import mark_without_networks, protected_header, without_networks
from ctrecorder.privacy.protection import REMOTE, Protection
from ctrecorder.sealing.header import sealed_by
from ctrecorder.sealing.successor import KeyUser
from ctrecorder.segment.pending import addresses_block, mark_block
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording
from ctrecorder.segment.writer import SegmentWriter

# What becomes of a segment of fewer bytes, as of a quiet router, or of a recorder that was stopped
# soon, is written as a small one.  The 900 bytes that this saves are more than a percent of it.
_SMALL = 1 << 16


class DamagedError(FormatError):
    """The segment is damaged, and is not squeezed."""

    code = ExitCode.NO


@dataclass(frozen=True)
class SqueezeOptions:
    """How a segment is squeezed.

    `resolution`: of times, a key of RESOLUTIONS.
    `level`: of zstd.
    `keep_ids`: keep the kernel's ids of connections.
    `keep`: keep the old segment, in KEPT_FOLDER.
    `key`: of a segment with a static key, for the old and the new one; b"": there is none.
    `seals`: the keys of segments that are sealed forward.
    `only_sealed`: leave the other ones as they are.
    `protection`: what is left out, or replaced; None: nothing.
    """

    resolution: str = "us"
    level: int = 6
    keep_ids: bool = False
    keep: bool = False
    key: bytes = field(default=b"", repr=False)
    seals: KeyUser = field(default_factory=KeyUser)
    only_sealed: bool = False
    protection: Protection | None = None


@dataclass(frozen=True)
class Result:
    """A segment that was squeezed.

    `state`: of the old segment, "closed" or "crashed".
    `events`, `connections`: rows of the old and of the new segment.
    `last_hash`, `replaced_hash`: last hash of the new and of the old segment, hex.
    `torn`: bytes after the last whole block of a crashed segment.
    `repeats`: events that the kernel sent again.
    `unheard`: at least so many connections were not reported, as dumps of the table show.
    """

    path: str
    state: str
    events: int
    connections: int
    bytes_before: int
    bytes_after: int
    last_hash: str
    replaced_hash: str
    torn: int
    repeats: int
    unheard: int


def is_done(segment: Recording, options: SqueezeOptions) -> bool:
    """Whether a segment is squeezed, and lacks what is to be left out."""
    header, protection = segment.header, options.protection
    if protection is None or not header.is_squeezed:
        return header.is_squeezed
    return protection.pan is None and header.omit == REMOTE


def squeeze(
    path: str, options: SqueezeOptions, output: str | None = None, progress: Progress | None = None
) -> Result | None:
    """Squeeze the segment `path` in its place; None if it is squeezed already.

    `output`: the path of the new segment, which must not exist; then the old one is not changed.

    Raises BusyError for a segment that is live or being squeezed, DamagedError for a damaged one,
    FormatError for a file that is no segment, ArchiveError if a file cannot be read or written.
    Then nothing has changed.
    """
    # Opened before it is locked: with the lock, a crashed segment would look live.
    with open_segment(path, options.key) as old:
        if is_done(old, options) or (options.only_sealed and not sealed_by(old)):
            return None
        if old.sealed and not options.key:
            raise ArchiveError(
                f"{path}: is sealed, and cannot be made anew without its key: give it with --key"
            )
        lock.refuse_live(old)
        marks = old.marks
        _refuse_damage(old)
        _refuse_unknown(old)
        options.seals.refuse_changed(old)  # before the work; all of it is compared at the end
        with (
            lock.locked(path, old.file.descriptor, Holder.SQUEEZE) as held,
            successor_of(held, path, output) as successor,
        ):
            paired = PairedSegment(old, marks, progress or _ignore)
            rewrite = _Rewrite(old, marks, paired, successor, options)
            result = rewrite.compare(rewrite.write())
            if output is None:
                successor.replace(path, keep=options.keep)
            else:
                successor.publish(output)
    return replace(result, path=output or path)


def _ignore(read: int) -> None:
    """A Progress for a caller that shows none."""


def _refuse_damage(old: Recording) -> None:
    """Raise DamagedError for any damage other than the torn end that a crash leaves."""
    for finding in old.findings:
        if finding is not old.torn:
            reason = (
                f"{finding.what}; a damaged segment is not squeezed "
                "(cttest --repair saves its whole blocks)"
            )
            raise DamagedError(reason, path=old.path, offset=finding.offset or 0)


def _refuse_unknown(old: Recording) -> None:
    """Raise NewerError if blocks, or columns of blocks that were read, would be lost."""
    if old.unknown_parts:
        reason = (
            f"has {old.unknown_parts}, which this version of ctrecorder does not know "
            "and would leave out: squeeze it with a newer version"
        )
        raise NewerError(reason, path=old.path)


@dataclass(frozen=True)
class _Rewrite:
    """The segment `old`, which has `marks` and is `paired`, is written anew as `successor`."""

    old: Recording
    marks: list[Mark]
    paired: PairedSegment
    successor: Successor
    options: SqueezeOptions

    @property
    def is_grouped(self) -> bool:
        """Whether starts are stored in groups: if a reader of `old` must know features anyway, and
        if a block can be large enough.
        """
        rows = int(self.old.index["rows"].sum())
        return self.old.header.requires is not None and rows >= MIN_RANGES_VALUES

    @property
    def is_small(self) -> bool:
        """Whether it is written as a small segment: not if version 1.0 reads it otherwise."""
        return self.old.header.requires is not None and self.old.size < _SMALL

    @property
    def requires(self) -> tuple[str, ...] | None:
        """The features that a reader of the successor must know."""
        header, protection = self.old.header, self.options.protection
        if header.requires is not None and self.is_grouped:
            requires = tuple(dict.fromkeys((*header.requires, GROUPED)))
            header = replace(header, requires=requires)
        return (header if protection is None else protected_header(header, protection)).requires

    def write(self) -> Notes:
        """Write and sync the successor.

        Returns the notes that it must contain, beside the connections of `paired`.  Raises
        ArchiveError, and DamagedError and NewerError for what is found while `old` is read.
        """
        old, options, successor = self.old, self.options, self.successor
        status, folder = successor.held.status, successor.folder
        how = {"resolution": self.resolution, "ids": options.keep_ids, "torn": old.torn_bytes}
        header = replace(
            old.header, requires=self.requires, replaces=chain.successor(old), squeezed=how
        )
        if options.protection is not None:
            header = protected_header(header, options.protection)
        # It has the owner and the mode of the old one, so that the same users can read the log.
        writer = SegmentWriter.create(
            successor.path,
            header,
            old.previous_hash,
            status.st_mode & 0o777,
            time_ns=int(old.index["time_min"][0]),
            key=options.key,
            folder=folder,
            owner=status,
            is_small=self.is_small,
        )
        try:
            successor.descriptor = os.dup(writer.descriptor)
            self._write_connections(writer)
            _refuse_damage(old)
            _refuse_unknown(old)
            notes = self._notes()
            _write_notes(writer, notes)
            fingerprint = self.paired.fingerprint
            if addresses := fingerprint.addresses.payload():
                writer.write(addresses_block(addresses, writer.times))
            events = int(old.index["rows"].sum())
            totals = {"events": events, "connections": fingerprint.connections}
            options.seals.close(writer, old, totals)
        except BaseException:
            writer.abandon()
            raise
        return notes

    @property
    def resolution(self) -> str:
        """That of the options; of a segment that was squeezed before the coarser one."""
        before = str((self.old.header.squeezed or {}).get("resolution"))
        known: list[str] = [self.options.resolution, *([before] if before in RESOLUTIONS else [])]
        return max(known, key=RESOLUTIONS.__getitem__)

    def _notes(self) -> Notes:
        """What is kept of the notes of `old`, with those that pairing adds."""
        gaps = [*self.old.gaps, *self.paired.gaps()]
        marks = [*self.marks, *self.paired.marks()]
        if self.options.protection is not None:
            gaps = [without_networks(gap) for gap in gaps]
            marks = [mark_without_networks(mark) for mark in marks]
        return kept_notes(self.old, gaps, marks)

    def _write_connections(self, writer: SegmentWriter) -> None:
        """Write the connections of `paired`."""
        fingerprint = self.paired.fingerprint
        ordering = BlockOrdering(RESOLUTIONS[self.resolution], self.options.keep_ids)

        protection, received = self.options.protection, Fingerprint()
        protected = Fingerprint()

        plan = GROUPS if self.is_grouped else SQUEEZED

        def append(blocks: list[Table]) -> None:
            for block in blocks:
                fingerprint.add_content(block)
                writer.append(block, kind=Kind.CONNECTIONS, level=self.options.level, plan=plan)

        for connections in self.paired.connections():
            if protection is not None:
                received.add_received(connections)
                connections = protection.apply(connections)
                protected.add_received(connections)
            append(ordering.add(connections))
        append(ordering.finish())
        if protection is not None:
            self._take_protected(received, protected)

    def _take_protected(self, received: Fingerprint, protected: Fingerprint) -> None:
        """Expect the flows as they are written, if all that were read are there.

        `received`: of the connections before they were changed.  Raises ArchiveError.
        """
        expected = self.paired.fingerprint
        if received.flows != expected.flows:
            raise ArchiveError(
                f"{self.old.path}: pairing lost connections; the segment was not replaced "
                "(please report this)"
            )
        expected.news_sum, expected.ends_sum = protected.news_sum, protected.ends_sum

    def compare(self, notes: Notes) -> Result:
        """Read the successor back and compare it with `old`, and with the notes that were written.

        Raises ArchiveError if anything differs.
        """
        old, successor, found = self.old, self.successor, Fingerprint()
        with Segment(successor.path, self.options.key, os.dup(successor.descriptor)) as new:
            for block in new.blocks_of(Kind.CONNECTIONS):
                table = new.read(block)
                found.add_received(table)
                found.add_content(table)
            addresses = [
                bytes(new.file.payload(block.offset, new.frame(block)))
                for block in new.blocks_of(Kind.ADDRESSES)
            ]
            is_same = (
                found == self.paired.fingerprint
                and addresses == list(filter(None, [found.addresses.payload()]))
                and Notes(new.gaps, new.marks, new.watermark) == notes
                and new.header.requires == self.requires
                and new.previous_hash == old.previous_hash
            )
            if not is_same or new.findings or new.state != "closed":
                raise ArchiveError(
                    f"{old.path}: the squeezed segment does not contain the same connections; "
                    "the segment was not replaced (please report this)"
                )
            return Result(
                successor.path,
                old.state,
                int(old.index["rows"].sum()),
                found.connections,
                old.size,
                new.size,
                new.last_hash.hex(),
                old.last_hash.hex(),
                old.torn_bytes,
                self.paired.repeats,
                sum(gap.lost or 0 for gap in self.paired.gaps()),
            )


def _write_notes(writer: SegmentWriter, notes: Notes) -> None:
    """Write gaps and marks.

    They come after the connections: a dump applies to flows whose parts are before it, in this
    segment and in the one before.  A watermark is in the last mark, behind all that it covers.
    """
    for gap in notes.gaps:
        writer.gap(gap)
    blocks = [mark_block(mark) for mark in notes.marks]
    if notes.watermark is not None:
        blocks[-1] = blocks[-1].with_watermark(notes.watermark)
    for block in blocks:
        writer.write(block)
