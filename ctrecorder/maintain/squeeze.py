"""ctsqueeze: a closed segment of events becomes a small one of connections, and takes its place.

The new one is written aside, synced, read back and compared with the old one, and renamed over it;
until then the old one is untouched, and an interruption leaves at most a hidden file that the next
run removes.  Memory: the open flows, and what waits for full blocks (some 60 MB), whatever the
segment's size.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ctrecorder.archive import chain, lock
from ctrecorder.archive.lock import BusyError, Held
from ctrecorder.archive.open import open_segment
from ctrecorder.columns import Table
from ctrecorder.connections.pairing import Pairer
from ctrecorder.ctlog.frame import Gap, Kind, Mark
from ctrecorder.ctlog.plans import SQUEEZED
from ctrecorder.errors import ArchiveError, ExitCode, FormatError, NewerError
from ctrecorder.folder import Folder
from ctrecorder.maintain.fingerprint import Fingerprint
from ctrecorder.maintain.ordering import RESOLUTIONS, BlockOrdering
from ctrecorder.segment.pending import addresses_block
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording
from ctrecorder.segment.writer import SegmentWriter

# Where --keep puts the segment as it was recorded: out of the folder that is read as the archive.
KEPT = "replaced"

Progress = Callable[[int], None]
Notes = tuple[list[Gap], list[Mark]]


class DamagedError(FormatError):
    """The segment is damaged, and is not squeezed."""

    code = ExitCode.NO


@dataclass(frozen=True)
class SqueezeOptions:
    """`resolution`: of times, a key of RESOLUTIONS.  `level`: of zstd.  `keep_ids`: the kernel's.
     `keep`: the old one, in KEPT.

    `key`: with which the old one is sealed, if it is, and the new one will be; b"": not.
    """

    resolution: str = "us"
    level: int = 6
    keep_ids: bool = False
    keep: bool = False
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Result:
    """What became of a segment.

    `torn`: bytes at the end of a crashed one that were no whole block.
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


def is_squeezed(segment: Recording) -> bool:
    """If there is nothing to squeeze: the segment is a squeezed one."""
    return segment.header.is_squeezed


def squeeze(
    path: str, settings: SqueezeOptions, output: str | None = None, progress: Progress | None = None
) -> Result | None:
    """Squeeze the segment `path` in its place, or to `output`, which must not exist: then the old
    one stays.

    Returns None if it is squeezed already.  `progress`: called with the bytes read since the last
    call.

    Raises BusyError for a segment that is live or being squeezed, DamagedError for a damaged one,
    FormatError for what is no segment, ArchiveError for what the disk refuses.  Then nothing has
    changed.
    """
    # Opened before its lock is taken: that lock would make a crashed segment look live.
    with open_segment(path, settings.key) as old:
        if is_squeezed(old):
            return None
        if old.sealed and not settings.key:
            raise ArchiveError(
                f"{path}: is sealed, and cannot be made anew without its key: give it with --key"
            )
        if old.state == "live":
            raise BusyError(f"{path}: is being recorded")
        gaps, marks = old.gaps, old.marks
        _refuse_damage(old)
        _refuse_unknown(old)
        with lock.locked(path, old.file.descriptor) as held, _output_folder(held, output) as folder:
            aside = _Aside(folder, lock.successor_path(output or path, held.status))
            aside.clear()  # an interrupted run's; the lock says that no one writes it
            try:
                fingerprint = _write(old, aside, settings, held.status, (gaps, marks), progress)
                result = _compare(old, aside, fingerprint, (gaps, marks), settings.key)
                if output is None:
                    _replace(path, held, aside, settings.keep)
                else:
                    _publish(aside, output)
            finally:
                aside.close()
    return replace(result, path=output or path)


@dataclass
class _Aside:
    """The new segment before it has its place: a hidden name in `folder`.

    `descriptor`: of its file; -1: there is none yet.
    """

    folder: Folder
    path: str
    descriptor: int = -1

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    def check(self) -> None:
        """Raise ArchiveError if the name is not that of the file any more."""
        if not self.folder.has(self.name, os.fstat(self.descriptor)):
            raise ArchiveError(
                f"{self.path}: was replaced or removed by another program while it was written; the segment stays"
            )

    def clear(self) -> None:
        """Remove the name.  Raises ArchiveError."""
        try:
            self.folder.unlink(self.name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ArchiveError(f"{self.path}: cannot be removed: {error.strerror}") from error

    def close(self) -> None:
        """Remove the name, if it is there, and close the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.folder.remove(self.name)


@contextlib.contextmanager
def _output_folder(held: Held, output: str | None) -> Iterator[Folder]:
    """The folder that the new segment is written to."""
    if output is None:
        yield held.folder
        return
    with Folder.of(output) as folder:
        yield folder


def _refuse_damage(old: Recording) -> None:
    """Raise DamagedError for any damage but what a crash leaves."""
    for finding in old.findings:
        if finding is not old.torn:
            reason = f"{finding.what}; a damaged segment is not squeezed (cttest --repair saves what is whole)"
            raise DamagedError(reason, path=old.path, offset=finding.offset or 0)


def _refuse_unknown(old: Recording) -> None:
    """Raise NewerError for kinds of blocks, or columns that were read, that would be left out."""
    if old.unknown_parts:
        lost = f"has {old.unknown_parts}, which this version of ctrecorder does not know"
        reason = f"{lost} and would leave out: a newer one squeezes it"
        raise NewerError(reason, path=old.path)


def _write(
    old: Recording,
    aside: _Aside,
    settings: SqueezeOptions,
    status: os.stat_result,
    notes: Notes,
    progress: Progress | None,
) -> Fingerprint:
    """Write the successor of `old` to `aside`; returns what was heard, and what the connections
    must say.
    """
    rows = int(old.index["rows"].sum())
    how = {"resolution": settings.resolution, "ids": settings.keep_ids, "torn": old.torn_bytes}
    header = replace(old.header, replaces=chain.successor(old), squeezed=how)
    begun = int(old.index["time_min"][0])
    # Owner and mode are the old one's, so that whoever could read the log still can.
    writer = SegmentWriter.create(
        aside.path,
        header,
        old.previous_hash,
        status.st_mode & 0o777,
        time_ns=begun,
        key=settings.key,
        folder=aside.folder,
        owner=status,
    )
    try:
        aside.descriptor = os.dup(writer.descriptor)
        fingerprint = _copy(old, writer, settings, notes[1], progress)
        _refuse_damage(old)
        _refuse_unknown(old)
        # Gaps and marks come last: a dump speaks of flows whose parts were before it, here and in
        # the segment before.
        for gap in notes[0]:
            writer.gap(gap)
        for mark in notes[1]:
            writer.mark(mark)
        if addresses := fingerprint.addresses.payload():
            writer.write(addresses_block(addresses, writer.times))
        writer.close({"events": rows, "connections": fingerprint.connections})
    except BaseException:
        writer.abandon()
        raise
    return fingerprint


def _copy(
    old: Recording,
    writer: SegmentWriter,
    settings: SqueezeOptions,
    marks: list[Mark],
    progress: Progress | None,
) -> Fingerprint:
    """Pair the events of `old` and write the connections."""
    fingerprint, pairer, shelves = (
        Fingerprint(),
        Pairer(),
        BlockOrdering(RESOLUTIONS[settings.resolution], settings.keep_ids),
    )

    def put(blocks: list[Table]) -> None:
        for block in blocks:
            fingerprint.add_content(block)
            writer.append(block, kind=Kind.CONNECTIONS, level=settings.level, plan=SQUEEZED)

    following = iter(marks)
    for tables, is_mark in _in_order(old, progress):
        for table in tables:
            if "event" in table:
                fingerprint.add_events(table)
            else:
                fingerprint.add_connections(table)
            for done in pairer.feed(table):
                put(shelves.add(done))
        mark = next(following) if is_mark else None
        if mark is not None and mark.is_complete_dump:
            for done in pairer.snapshot(mark.begin, mark.end):
                put(shelves.add(done))
    for done in pairer.finish():
        put(shelves.add(done))
    put(shelves.finish())
    return fingerprint


def _in_order(old: Recording, progress: Progress | None) -> Iterator[tuple[list[Table], bool]]:
    """Tables of events (of the C ctrecorder's squeezed files: connections) in the order of the
    file, and whether a MARK follows them.
    """
    read = 0
    for group in old.in_recording_order(old.blocks_of(Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK)):
        first = group[0]
        if progress is not None and first.offset > read:
            progress(first.offset - read)
            read = first.offset
        if first.kind == Kind.MARK:
            yield [], True
        elif first.joins:
            yield old.read_small(group), False
        else:
            yield [old.read(first)], False
    if progress is not None:
        progress(old.size - read)


def _compare(
    old: Recording, aside: _Aside, fingerprint: Fingerprint, notes: Notes, key: bytes
) -> Result:
    """Read the new segment back and hold it against the old one.

    Raises ArchiveError if anything is not there.
    """
    found = Fingerprint()
    with Segment(aside.path, key, os.dup(aside.descriptor)) as new:
        for block in new.blocks_of(Kind.CONNECTIONS):
            table = new.read(block)
            found.add_connections(table)
            found.add_content(table)
        stored = [
            bytes(new.file.payload(block.offset, new.frame(block)))
            for block in new.blocks_of(Kind.ADDRESSES)
        ]
        same = found == fingerprint and stored == list(filter(None, [found.addresses.payload()]))
        same = same and (new.gaps, new.marks) == notes and new.previous_hash == old.previous_hash
        if not same or new.findings or new.state != "closed":
            raise ArchiveError(
                f"{old.path}: the squeezed segment does not say what this one does; this one stays (please report it)"
            )
        events, torn = int(old.index["rows"].sum()), old.torn_bytes
        hashes = new.last_hash.hex(), old.last_hash.hex()
        return Result(
            aside.path, old.state, events, found.connections, old.size, new.size, *hashes, torn
        )


def _replace(path: str, held: Held, aside: _Aside, keep: bool) -> None:
    """Put the new segment in the old one's place, on the disk.  Raises ArchiveError."""
    try:
        if keep:
            with held.folder.below(KEPT, 0o750) as kept:
                _keep(held, kept)
                kept.sync()
        aside.check()
        if not held.is_there():
            raise BusyError(f"{path}: has just been replaced or removed")
        held.folder.rename(aside.name, held.name)
        if not held.folder.has(held.name, os.fstat(aside.descriptor)):
            raise ArchiveError(
                f"{path}: another program exchanged the new segment for something else; who may write this folder?"
            )
        held.folder.sync()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be replaced: {error.strerror}") from error


def _keep(held: Held, kept: Folder) -> None:
    """Give the old segment a second name, unless an interrupted run has done so.

    Raises OSError.
    """
    try:
        kept.link(held.descriptor, held.name)
    except FileExistsError:
        if not kept.has(held.name, held.status):
            raise


def _publish(aside: _Aside, output: str) -> None:
    """Give the new segment the name `output`, unless that is taken.  Raises ArchiveError."""
    try:
        aside.folder.link(aside.descriptor, os.path.basename(output))
        aside.folder.unlink(aside.name)
        aside.folder.sync()
    except FileExistsError as error:
        raise ArchiveError(f"{output}: exists already, and is never overwritten") from error
    except OSError as error:
        raise ArchiveError(f"{output}: cannot be made: {error.strerror}") from error
