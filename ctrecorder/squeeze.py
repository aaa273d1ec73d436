"""ctsqueeze: a closed segment of events becomes a small one of connections, and takes its place.

The new one is written aside, synced, read back and compared with the old one, and renamed over it; until then the old one is
untouched, and an interruption leaves at most a hidden file that the next run removes.  Memory: the open flows, and what waits
for full blocks (some 60 MB), whatever the segment's size.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ctrecorder import custody
from ctrecorder.arrange import RESOLUTIONS, SQUEEZED, Shelves
from ctrecorder.codec import FORM_SMALL
from ctrecorder.columns import Table
from ctrecorder.drafts import addresses_draft, note_draft
from ctrecorder.errors import ArchiveError, FormatError, NewerError
from ctrecorder.format import Gap, Json, Kind, Mark
from ctrecorder.pairing import Pairer
from ctrecorder.reader import Block, Segment
from ctrecorder.segments import open_segment
from ctrecorder.tally import Tally
from ctrecorder.writer import SegmentWriter

# Rows of small blocks that are read and paired as one.
_JOINED_ROWS = 1 << 16
# Where --keep puts the segment as it was recorded: out of the folder that is read as the archive.
KEPT = "replaced"

Progress = Callable[[int], None]
Notes = tuple[list[Gap], list[Mark]]


@dataclass(frozen=True)
class Settings:
    """`resolution`: of times, a key of RESOLUTIONS.  `level`: of zstd.  `keep_ids`: the kernel's.  `keep`: the old one, in KEPT.

    `key`: with which the old one is sealed, if it is, and the new one will be; b"": not.
    """

    resolution: str = "us"
    level: int = 6
    keep_ids: bool = False
    keep: bool = False
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Result:
    """What became of a segment.  `torn`: bytes at the end of a crashed one that were no whole block."""

    path: str
    state: str
    events: int
    connections: int
    bytes_before: int
    bytes_after: int
    last_hash: str
    replaced_hash: str
    torn: int


def is_squeezed(segment: Segment) -> bool:
    """If there is nothing to squeeze: the segment is a squeezed one."""
    return "squeezed" in segment.header


def squeeze(path: str, settings: Settings, output: str | None = None, progress: Progress | None = None) -> Result | None:
    """Squeeze the segment `path` in its place, or to `output`, which must not exist: then the old one stays.  None: it is squeezed already.

    `progress`: called with the bytes that were read since the last call.  Raises BusyError for a segment that is live or being
    squeezed, FormatError for a damaged one, ArchiveError for what the disk refuses; then nothing has changed.
    """
    # Opened before its lock is taken: that lock would make a crashed segment look live.
    with open_segment(path, settings.key) as old:
        if is_squeezed(old):
            return None
        if old.sealed and not settings.key:
            raise ArchiveError(f"{path}: is sealed, and cannot be made anew without its key: give it with --key")
        if old.state == "live":
            raise custody.BusyError(f"{path}: is being recorded")
        gaps, marks = old.gaps, old.marks
        _refuse_damage(old)
        _refuse_unknown(old)
        with custody.custody(path, old.file.descriptor) as status:
            aside = custody.aside(output or path, status)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)  # an interrupted run's; the lock says that no one writes it
            try:
                tally = _write(old, aside, settings, status, (gaps, marks), progress)
                result = _compare(old, aside, tally, (gaps, marks), settings.key)
                if output is None:
                    _replace(path, aside, settings.keep)
                else:
                    _publish(aside, output)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside)
    return replace(result, path=output or path)


def torn_bytes(old: Segment) -> int:
    """The bytes at the end of a crashed segment that are no whole block."""
    return old.size - old.torn.offset if old.torn is not None else 0


def _refuse_damage(old: Segment) -> None:
    """Raise FormatError for any damage but what a crash leaves."""
    for finding in old.findings:
        if finding is not old.torn:
            reason = f"{finding.reason}; a damaged segment is not squeezed (cttest --repair saves what is whole)"
            raise FormatError(reason, path=old.path, offset=finding.offset)


def _refuse_unknown(old: Segment) -> None:
    """Raise NewerError for kinds of blocks, or columns that were read, that would be left out."""
    if old.unknown_parts:
        lost = f"has {old.unknown_parts}, which this version of ctrecorder does not know"
        reason = f"{lost} and would leave out: a newer one squeezes it"
        raise NewerError(reason, path=old.path)


def _write(old: Segment, aside: str, settings: Settings, status: os.stat_result, notes: Notes, progress: Progress | None) -> Tally:
    """Write the successor of `old` to `aside`; returns what was heard, and what the connections must say."""
    rows = int(old.index["rows"].sum())
    header: Json = {**old.header, "replaces": custody.successor(old)}
    header["squeezed"] = {"resolution": settings.resolution, "ids": settings.keep_ids, "torn": torn_bytes(old)}
    begun = int(old.index["time_min"][0])
    writer = SegmentWriter.create(aside, header, old.previous_hash, status.st_mode & 0o777, time_ns=begun, key=settings.key)
    try:
        _own(aside, status)
        tally = _copy(old, writer, settings, notes[1], progress)
        _refuse_damage(old)
        _refuse_unknown(old)
        # Gaps and marks come last: a dump speaks of flows whose parts were before it, here and in the segment before.
        for gap in notes[0]:
            writer.write(note_draft(gap))
        for mark in notes[1]:
            writer.write(note_draft(mark))
        if addresses := tally.addresses.payload():
            writer.write(addresses_draft(addresses, writer.times))
        writer.close({"events": rows, "connections": tally.connections})
    except BaseException:
        writer.abandon()
        raise
    return tally


def _own(aside: str, status: os.stat_result) -> None:
    """Give the new file the old one's owner and mode, so that whoever could read the log still can."""
    try:
        if (os.geteuid(), os.getegid()) != (status.st_uid, status.st_gid):
            os.chown(aside, status.st_uid, status.st_gid, follow_symlinks=False)
        os.chmod(aside, status.st_mode & 0o777)
    except OSError as error:
        raise ArchiveError(f"{aside}: cannot be given to the owner of the segment that it replaces: {error.strerror}") from error


def _copy(old: Segment, writer: SegmentWriter, settings: Settings, marks: list[Mark], progress: Progress | None) -> Tally:
    """Pair the events of `old` and write the connections."""
    tally, pairer, shelves = Tally(), Pairer(), Shelves(RESOLUTIONS[settings.resolution], settings.keep_ids)

    def put(blocks: list[Table]) -> None:
        for block in blocks:
            tally.whole(block)
            writer.append(block, kind=Kind.CONNECTIONS, level=settings.level, plan=SQUEEZED)

    following = iter(marks)
    for tables, is_mark in _in_order(old, progress):
        for table in tables:
            if "event" in table:
                tally.heard(table)
            else:
                tally.told(table)
            for done in pairer.feed(table):
                put(shelves.add(done))
        mark = next(following) if is_mark else None
        if mark is not None and mark.what == "dump" and mark.facts.get("complete") is True:
            for done in pairer.snapshot(mark.begin, mark.end):
                put(shelves.add(done))
    for done in pairer.finish():
        put(shelves.add(done))
    put(shelves.finish())
    return tally


def _in_order(old: Segment, progress: Progress | None) -> Iterator[tuple[list[Table], bool]]:
    """Tables of events (of the C ctrecorder's squeezed files: connections) in the order of the file, and whether a MARK follows them.

    Small blocks are read together, of each family by themselves: pairing looks at no other order.
    """
    small: dict[int, list[Block]] = {}
    read = 0

    def take() -> list[Table]:
        tables = [table for blocks in small.values() for table in old.read_small(blocks)]
        small.clear()
        return tables

    for block in old.blocks_of(Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK):
        if progress is not None:
            progress(block.offset - read)
            read = block.offset
        if block.kind == Kind.MARK:
            yield take(), True
        elif block.form == FORM_SMALL:
            held = small.setdefault(block.family, [])
            held.append(block)
            if sum(one.rows for one in held) >= _JOINED_ROWS:
                yield take(), False
        else:
            yield [*take(), old.read(block)], False
    yield take(), False
    if progress is not None:
        progress(old.size - read)


def _compare(old: Segment, aside: str, tally: Tally, notes: Notes, key: bytes) -> Result:
    """Read the new segment back and hold it against the old one.  Raises ArchiveError if anything is not there."""
    found = Tally()
    with Segment(aside, key) as new:
        for block in new.blocks_of(Kind.CONNECTIONS):
            table = new.read(block)
            found.told(table)
            found.whole(table)
        stored = [bytes(new.file.payload(block.offset, new.frame(block))) for block in new.blocks_of(Kind.ADDRESSES)]
        same = found == tally and stored == list(filter(None, [found.addresses.payload()]))
        same = same and (new.gaps, new.marks) == notes and new.previous_hash == old.previous_hash
        if not same or new.findings or new.state != "closed":
            raise ArchiveError(f"{old.path}: the squeezed segment does not say what this one does; this one stays (please report it)")
        events, torn = int(old.index["rows"].sum()), torn_bytes(old)
        hashes = new.last_hash.hex(), old.last_hash.hex()
        return Result(aside, old.state, events, found.connections, old.size, new.size, *hashes, torn)


def _replace(path: str, aside: str, keep: bool) -> None:
    """Put the new segment in the old one's place, on the disk."""
    folder, name = os.path.split(path)
    try:
        if keep:
            kept = os.path.join(folder, KEPT)
            with contextlib.suppress(FileExistsError):
                os.mkdir(kept, 0o750)
            _keep(path, os.path.join(kept, name))
            custody.sync_folder(kept)
        os.rename(aside, path)
        custody.sync_folder(folder)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be replaced: {error.strerror}") from error


def _keep(path: str, kept: str) -> None:
    """Give the old segment a second name, unless an interrupted run has done so.  Raises OSError."""
    try:
        os.link(path, kept, follow_symlinks=False)
    except FileExistsError:
        if not custody.is_still(kept, os.stat(path)):
            raise


def _publish(aside: str, output: str) -> None:
    """Give the new segment the name `output`, unless that is taken."""
    try:
        os.link(aside, output, follow_symlinks=False)
        os.unlink(aside)
        custody.sync_folder(os.path.dirname(output))
    except FileExistsError as error:
        raise ArchiveError(f"{output}: exists already, and is never overwritten") from error
    except OSError as error:
        raise ArchiveError(f"{output}: cannot be made: {error.strerror}") from error
