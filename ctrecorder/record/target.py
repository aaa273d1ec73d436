"""Where a recorder's segments go, and which one a new segment is chained to."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from ctrecorder.archive import find
from ctrecorder.ctlog.frame import (
    FRAME,
    MAX_JSON,
    TRAILER,
    Json,
    check_hash,
    parse_header,
    parse_trailer,
)
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.record.template import expand_template, split_template
from ctrecorder.segment import files
from ctrecorder.segment.reader import Segment

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
# A recorder that starts holds its folder for milliseconds, some 100 us for each segment there.
#  ctexpire may hold it for minutes, and whoever may read it for as long as he likes: to record is
# worth more than to be sure that no other starts in the same moment.
_CLAIM_SECONDS = 5
_CLAIM_PAUSE = 0.02


@dataclass(frozen=True)
class Target:
    """Where segments go: `template` (strftime, UTC), a new one at each multiple of `rotate_minutes`
    of the day, each of `mode`.
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
    """The end of a segment that the next one is chained to; `closed`: in order, with a footer.

    `sequence`: its number in the chain.  `time`: of its last block, ns UTC.
    """

    path: str
    last_hash: bytes
    chain: str
    sequence: int
    time: int
    closed: bool


@contextmanager
def folder_locked(folder: str) -> Iterator[None]:
    """Hold `folder` against other recorders that start there: of two with one template, one sees
    the other's segment.

    Waits for its lock, but not for ever.  Raises ArchiveError if there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ArchiveError(
            f"{folder}: {error.strerror}: make the folder, or choose another with -f"
        ) from error
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    end = time.monotonic() + _CLAIM_SECONDS
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            time.sleep(_CLAIM_PAUSE)


def newest_segment(template: str, key: bytes = b"") -> Tail | None:
    """The last segment of the chain that was recorded under `template`; ArchiveError if a recorder
    still writes one.

    `key`: with which segments are sealed now.  One that was sealed with another is followed all the
    same, unchecked.

    By its number in the chain, not by its time: a clock that was wrong has dated segments of years
    to come.
    """
    folder, pattern = split_template(template)
    found = []
    for age, path in enumerate(find.find([folder]).segments):
        header, live = _glance(path)
        if header.get("template") != pattern:
            continue
        if live:
            raise ArchiveError(
                f"{path}: another recorder writes it; stop that one, or record under another template"
            )
        found.append((_sequence(header), age, path))
    return _tail(max(found)[2], key) if found else None


def _tail(path: str, key: bytes) -> Tail:
    with _open(path, key) as segment:
        header = segment.header
        # Of events the last block tells when the recording ended, whatever the clock did before;
        # squeezed blocks are in another order.
        last = segment.times[1] if "squeezed" in header else int(segment.index["time_max"][-1])
        return Tail(
            path,
            segment.last_hash,
            str(header.get("chain", "")),
            _sequence(header),
            last,
            segment.state == "closed",
        )


def _open(path: str, key: bytes) -> Segment:
    try:
        return Segment(path, key)
    except FormatError:
        return Segment(path)


def _sequence(header: Json) -> int:
    sequence = header.get("sequence", 0)
    return sequence if isinstance(sequence, int) else 0


def _glance(path: str) -> tuple[Json, bool]:
    """The header of a segment ({} if it is damaged or gone), and whether a recorder writes it: no
    more of the file is read.
    """
    try:
        descriptor = files.open_file(path)
    except ArchiveError:
        return {}, False
    try:
        frame = find.sniff(descriptor)
        if frame is None or frame.length > MAX_JSON:
            return {}, False
        data = os.pread(descriptor, FRAME.size + frame.length, 0)
        header = parse_header(data[FRAME.size :])
        if header.get("sealed") is not True:
            check_hash(data, data[FRAME.size :])
        size = os.fstat(descriptor).st_size
        closed = (
            parse_trailer(os.pread(descriptor, TRAILER.size, max(size - TRAILER.size, 0)))
            is not None
        )
        return header, not closed and files.is_live(descriptor)
    except (FormatError, OSError):
        return {}, False
    finally:
        os.close(descriptor)
