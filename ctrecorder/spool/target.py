"""Where a recorder's segments are written, and the segment that a new one is chained to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ctrecorder import filelock
from ctrecorder.archive import chain, find
from ctrecorder.ctlog.frame import (
    FRAME,
    MAX_JSON,
    TRAILER,
    Kind,
    check_hash,
    parse_trailer,
)
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.filelock import Holder, Purpose
from ctrecorder.folder import Folder
from ctrecorder.segment import files
from ctrecorder.segment.liveness import is_live
from ctrecorder.segment.reader import Segment
from ctrecorder.spool.template import expand_template, split_template
from ctrecorder.times import DAY, MINUTE

# A recorder that starts holds this lock for some 100 us for each segment of the folder.  Another
# one that hangs meanwhile must not keep it from starting: recording is more important than to
# exclude that two start at the same moment.
_LOCK_SECONDS = 5
# A start looks into so many of the last segments for times that the clock has not reached again.
# Fewer: a clock that was set back by hours is not seen, with a segment an hour.  More: slow starts.
_RECENT = 24


@dataclass(frozen=True)
class Target:
    """Where segments are written.

    `template`: path with strftime(3) fields, UTC.  `rotate_minutes`: a new segment begins at each
    multiple of it within the day.  `mode`: permissions.
    """

    template: str
    rotate_minutes: int
    mode: int

    @property
    def folder(self) -> str:
        return split_template(self.template)[0]

    def path(self, now_ns: int) -> str:
        return expand_template(self.template, now_ns)

    def period(self, now_ns: int) -> tuple[int, int]:
        """The period that `now_ns` is in: its first moment, and the first of the next, ns UTC."""
        period, into_day = self.rotate_minutes * MINUTE, now_ns % DAY
        midnight = now_ns - into_day
        begin = into_day // period * period
        return midnight + begin, midnight + min(begin + period, DAY)


class Tail(NamedTuple):
    """The end of a segment, to which the next one is chained.

    `sequence`: the segment's number in the chain.  `time`: of its last block, ns UTC.  `closed`:
    in order, with a footer.  `watermark`: its last one; None if it has none.  `has_seals`: its
    header says that it is sealed forward.  `has_coverage`: it can have watermarks.  `latest`: the
    latest time in the last segments, ns UTC; the clock was set back if it is in the future.
    `boot_id`: of the boot in which `covered` was.  `boottime`: CLOCK_BOOTTIME of that in ns, if the
    recorder was stopped in order; else 0.
    """

    path: str
    last_hash: bytes
    chain: str
    sequence: int
    time: int
    closed: bool
    watermark: int | None = None
    has_seals: bool = False
    has_coverage: bool = False
    latest: int = 0
    boot_id: str | None = None
    boottime: int = 0

    @property
    def covered(self) -> int:
        """Until when it holds all events: the watermark, or without one the time of its last block,
        ns UTC.
        """
        return self.time if self.watermark is None else self.watermark


@contextlib.contextmanager
def folder_locked(folder: str) -> Iterator[None]:
    """Exclude other recorders that start in `folder`: one of two with the same template sees the
    segment of the other.

    Waits for the lock, but not for ever.  Raises ArchiveError if there is no such folder.
    """
    try:
        opened = Folder(folder)
    except ArchiveError as error:
        raise ArchiveError(f"{error}: create the folder, or choose another with -f") from error
    with opened, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no such locks here, or no space for their file
            lock = filelock.take(opened, Purpose.START, Holder.RECORDER, _LOCK_SECONDS)
            if lock is not None:
                stack.callback(lock.release)
        yield


def newest_segment(template: str, key: bytes = b"") -> Tail | None:
    """The last segment of the chain that was recorded under `template`, None if there is none.

    `key`: seals segments now; a segment that was sealed with another key is continued unchecked.
    The last segment is that with the greatest number, not the latest time: a wrong clock may have
    dated segments in the future.  Raises ArchiveError if a recorder still writes one of them.
    """
    folder, pattern = split_template(template)
    found = []
    for age, path in enumerate(find.find([folder], routers=False).segments):
        header, live = _glance(path)
        if header.template != pattern:
            continue
        if live:
            raise ArchiveError(
                f"{path}: another recorder writes it; stop that one, or use another template"
            )
        found.append((chain.sequence(header), age, path))
    tail, latest = None, 0
    paths = [path for _, _, path in sorted(found, reverse=True)]
    for path in paths[:]:
        files.settle(path)
        one = _tail(path, key)
        paths.remove(path)
        latest = max(latest, one.latest)
        if tail is None:
            tail = one
        else:
            tail = tail._replace(watermark=one.covered, boot_id=one.boot_id, boottime=one.boottime)
        # A crash right after the start leaves a segment that proves nothing, not even the GAP
        # before it: that begins where the segment before ends.
        if one.watermark is not None or not one.has_coverage:
            break
    if tail is None:
        return None
    return tail._replace(latest=max([latest, *map(_latest_time, paths[:_RECENT])]))


def _latest_time(path: str) -> int:
    """The latest time in a segment, ns UTC; 0 if it cannot be read."""
    try:
        with Segment(path) as segment:
            return segment.times[1]
    except (ArchiveError, FormatError):
        return 0


def _tail(path: str, key: bytes) -> Tail:
    with _open(path, key) as segment:
        header = segment.header
        # The last block of events has the end of the recording, whatever the clock did before.
        # Squeezed blocks are in another order.
        last = segment.times[1] if header.is_squeezed else _last_time(segment)
        return Tail(
            path,
            segment.last_hash,
            header.chain or "",
            chain.sequence(header),
            last,
            segment.state == "closed",
            segment.watermark,
            header.seals is not None,
            segment.has_coverage,
            segment.times[1],
            header.boot_id,
            _stopped_at(segment),
        )


def _stopped_at(segment: Segment) -> int:
    """CLOCK_BOOTTIME at which the recorder was stopped in order, ns; 0: it was not, or unknown."""
    last = segment.marks[-1:]
    found = last[0].facts.get("boottime_ns", 0) if last and last[0].what == "stop" else 0
    return found if type(found) is int else 0


def _last_time(segment: Segment) -> int:
    """The end of the last block that was recorded: a SEAL can be made later."""
    times = segment.index["time_max"][segment.index["kind"] != Kind.SEAL]
    return int(times[-1])


def _open(path: str, key: bytes) -> Segment:
    try:
        return Segment(path, key)
    except FormatError:
        return Segment(path)


def _glance(path: str) -> tuple[Header, bool]:
    """The header of a segment (without members if it is damaged or gone), and whether a recorder
    writes it.

    Reads no more of the file than that.
    """
    try:
        descriptor = files.open_file(path)
    except ArchiveError:
        return Header(), False
    try:
        frame = find.sniff(descriptor)
        if frame is None or frame.length > MAX_JSON:
            return Header(), False
        data = os.pread(descriptor, FRAME.size + frame.length, 0)
        header = Header.parse(data[FRAME.size :], frame.form)
        if header.sealed is not True:
            check_hash(data, data[FRAME.size :])
        size = os.fstat(descriptor).st_size
        closed = (
            parse_trailer(os.pread(descriptor, TRAILER.size, max(size - TRAILER.size, 0)))
            is not None
        )
        return header, not closed and is_live(path, descriptor, header) is True
    except (FormatError, OSError):
        return Header(), False
    finally:
        os.close(descriptor)
