"""The doctor's look at the folder of segments: written lately, private, with room, and dated."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ctrecorder.archive import find
from ctrecorder.archive.find import Span
from ctrecorder.check.doctor_service import RESTARTS, UNIT
from ctrecorder.check.doctor_tools import Finding, Note, Result
from ctrecorder.declared.values import Value
from ctrecorder.maintain.expire import undated
from ctrecorder.query.evidence import live_states
from ctrecorder.record.deadlines import HEARTBEAT_NS
from ctrecorder.service.settings import DEFAULT_FOLDER
from ctrecorder.terminal import count
from ctrecorder.times import BEGIN, END, SECOND

# The folder that ctsqueeze --keep makes beside the segments.
_OWN_FOLDER = "replaced"
TMPFILES = "/usr/lib/tmpfiles.d/ctrecorder.conf"
# An idle recorder writes a heartbeat.  If three are missing, the cause is not a slow disk.
SILENT_SECONDS = 3 * HEARTBEAT_NS // SECOND
FREE_SHARE, FREE_BYTES = 0.05, 256 << 20
DAY = 86_400 * SECOND
# The rate is that of a week.  Its last day is left out if the log is older than two days: segments
# of that day may not be squeezed yet, and are larger then than they will be.
RATE_NS, UNSQUEEZED_NS = 7 * DAY, DAY
YEAR_2000 = 946_684_800 * SECOND
# A clock that is kept by a time daemon is set in smaller steps.
FUTURE_NS = 60 * SECOND
# Without a limit by age, a disk that is full later than this is no finding yet.
SOON_DAYS = 30.0


def look_at_log(folder: str) -> Iterator[Finding]:
    """If a segment was written lately, in a folder that other users cannot see."""
    try:
        others = os.stat(folder).st_mode & 0o007
        newest_segment = max(
            (
                entry.stat().st_mtime
                for entry in os.scandir(folder)
                if entry.is_file(follow_symlinks=False) and not find.is_beside(entry.name)
            ),
            default=None,
        )
    except FileNotFoundError:
        fix = f"mkdir -m 750 {shlex.quote(folder)}"
        changes = "the disk: the folder is created. If it belongs on a disk that is not mounted, "
        changes += "mount that instead"
        if os.path.exists(TMPFILES) and folder == DEFAULT_FOLDER:
            fix = f"systemd-tmpfiles --create ctrecorder.conf && systemctl restart {UNIT}"
            changes = "the disk and the recorder: the folder is created, the recorder restarted"
        yield Finding(f"{folder} does not exist", fix, changes)
        return
    except PermissionError:
        fix = "run as root or as a member of the group ctrecorder: cttest --doctor"
        yield Finding(f"this user may not read {folder}", fix)
        return
    if others:
        yield _of_open_folder(folder)
    if newest_segment is None:
        yield Finding(f"there is no segment in {folder}", f"systemctl restart {UNIT}", RESTARTS)
    elif time.time() - newest_segment > SILENT_SECONDS:
        what = f"nothing was written to {folder} for {int(time.time() - newest_segment)} s"
        yield Finding(what, f"systemctl restart {UNIT}", RESTARTS)


def look_at_unheard(folder: str, live_folder: str | None = None) -> Iterator[Finding]:
    """If the recorder of this folder found connections that the kernel did not report.

    `live_folder`: where recorders that run publish their state; None: the usual one.
    """
    for state in live_states(live_folder).values():
        lost = state.counters.get("unheard")
        here = os.path.realpath(os.path.dirname(state.segment)) == os.path.realpath(folder)
        if here and type(lost) is int and lost > 0:
            what = "since the recorder started, the kernel did not report at least "
            what += f"{count(lost, 'connection')} of a sample: the log is not complete"
            yield Finding(what, f"ctlist --coverage {shlex.quote(folder)}", _UNHEARD)


_UNHEARD = (
    "nothing: it shows when. Look for rules with `ct event set`, for programs that set "
    "net.netfilter.nf_conntrack_events, and for offloading by a driver"
)


def _of_open_folder(folder: str) -> Finding:
    """The finding about a folder of segments that every user can read."""
    what = f"every user can read {folder}, which contains personal data"
    listed = find.find([folder], routers=False)
    ours = {os.path.basename(path) for path in listed.segments} | {_OWN_FOLDER}
    others = sorted(name for name in set(os.listdir(folder)) - ours if not find.is_beside(name))
    if others:
        what += f". Other programs may need it: it has other files, such as {others[0]}"
        changes = "nothing: it shows the folder. Record to a folder of its own: template in "
        changes += "ctrecorder.conf(5)"
        return Finding(what, f"ls -la {shlex.quote(folder)}", changes)
    changes = "the permissions of the folder: only its owner and group have access"
    return Finding(what, f"chmod o= {shlex.quote(folder)}", changes)


def look_at_disk(folder: str) -> Iterator[Finding]:
    """If the disk has free space."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return  # look_at_log reports it
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free < max(FREE_SHARE * whole, min(FREE_BYTES, whole // 4)):
        what = f"the disk of {folder} is nearly full: "
        what += f"{free >> 20} MiB of {whole >> 20} MiB are free"
        changes = "nothing: it shows what takes the space. Decide yourself what to delete"
        yield Finding(what, _show_space(folder), changes)


def look_at_segments(folder: str, expire: dict[str, Value]) -> Iterator[Result]:
    """If segments have sound dates, and for how many days of log the disk has room.

    `expire`: the settings of [expire].
    """
    now = time.time_ns()
    spans = (
        find.find([folder], spans=True, routers=False).spans
        if os.access(folder, os.R_OK | os.X_OK)
        else []
    )
    sound = [span for span in spans if _has_sound_dates(span, now)]
    yield from _look_at_dates(spans, now)
    if spans and expire.get("max_age") is not None:
        yield from _look_at_ages(folder, now, trust_clock=bool(expire.get("trust_clock")))
    files = []
    for span in sound:
        try:
            status = os.stat(span.path)
        except FileNotFoundError:
            continue  # squeezed or deleted in this moment
        # A segment without a footer is open, or was left by a crash: it ends where it was written.
        end = status.st_mtime_ns if span.end == END else span.end
        files.append(StoredSegment(span.begin, end, status.st_blocks * 512))
    try:
        disk = os.statvfs(folder)
    except OSError:
        return  # look_at_log reports it
    space = DiskSpace(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
    yield from describe_room(folder, files, space, expire)


def _has_sound_dates(span: Span, now: int) -> bool:
    """If a segment has a date, neither before 2000 nor in the future."""
    return YEAR_2000 <= span.begin <= now + FUTURE_NS and not now + FUTURE_NS < span.end < END


_NEIGHBOURS = "ctexpire takes the times of the segments before and after it"


def _look_at_ages(folder: str, now: int, *, trust_clock: bool) -> Iterator[Finding]:
    """Segments that ctexpire does not delete by age."""
    paths = undated(folder, now, trust_clock=trust_clock)
    if not paths:
        return
    what = f"{count(len(paths), 'segment')} of {folder} will not be deleted by age (max_age): "
    what += "the clock was not right, or was never synchronised, while they were recorded: "
    what += ", ".join(map(os.path.basename, paths[:3])) + (", ..." if len(paths) > 3 else "")
    changes = "nothing: it shows the header. Keep the clock right with a time daemon; max_size in "
    changes += "ctrecorder.conf(5) limits the log meanwhile, and trust_clock = yes there "
    changes += "accepts a clock that is right although the kernel was never told so"
    yield Finding(what, f"ctlist --headers {shlex.quote(paths[0])}", changes)


def _look_at_dates(spans: list[Span], now: int) -> Iterator[Finding]:
    """Segments that were recorded while the clock was wrong."""
    # BEGIN and END stand for times that the file does not contain.
    early = [span.path for span in spans if BEGIN < span.begin < YEAR_2000]
    late = [
        span.path
        for span in spans
        if now + FUTURE_NS < span.begin or now + FUTURE_NS < span.end < END
    ]
    for paths, when, harm in (
        (early, "before the year 2000", _NEIGHBOURS),
        (late, "in the future", _NEIGHBOURS),
    ):
        if paths:
            name = os.path.basename(paths[0])
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            what = f"the clock was wrong: {name}{more} in {os.path.dirname(paths[0])} "
            what += f"{'is' if len(paths) == 1 else 'are'} dated {when}; {harm}"
            changes = "nothing: it shows the header. Keep the clock right from the boot on, with a "
            changes += "battery or a time daemon"
            yield Finding(what, f"ctlist --headers {shlex.quote(paths[0])}", changes)


@dataclass(frozen=True)
class StoredSegment:
    """`start`, `end`: ns UTC; `size`: bytes on the disk."""

    start: int
    end: int
    size: int


@dataclass(frozen=True)
class DiskSpace:
    """Bytes of a file system: free for the recorder, and in all."""

    free: int
    whole: int


def daily_rate(files: list[StoredSegment]) -> float | None:
    """Bytes of log for a day of recording in the last days; None if there is less than a day.

    Times without a recording do not count.
    """
    if not files:
        return None
    first, last = min(one.start for one in files), max(one.end for one in files)
    until = last - UNSQUEEZED_NS if last - first >= 2 * DAY else last
    since = max(first, until - RATE_NS)
    size, recorded, reached = 0.0, 0, since
    for one in sorted(files, key=lambda each: each.start):
        start, end = max(one.start, since), min(one.end, until)
        if start < end:
            size += one.size * (end - start) / (one.end - one.start)
            recorded += max(0, end - max(start, reached))
            reached = max(reached, end)
    return size * DAY / recorded if recorded >= DAY else None


def describe_room(
    folder: str, files: list[StoredSegment], space: DiskSpace, expire: dict[str, Value]
) -> Iterator[Result]:
    """For how many days of log there is room at the present rate, compared with max_age."""
    rate = daily_rate(files)
    if not rate:
        return
    used = sum(one.size for one in files)
    room = used + space.free - _reserve(expire.get("min_free"), space)
    limit = "the disk"
    if expire.get("max_size") is not None and int(str(expire["max_size"])) < room:
        room, limit = int(str(expire["max_size"])), "max_size"
    days, wanted = max(0.0, room / rate), expire.get("max_age")
    at_rate = f"at the present rate of {_mebibytes(rate)} a day"
    if wanted is None:
        left = max(0.0, (room - used) / rate)
        what = f"the disk of {folder} is full in {_days(left)} {at_rate}; max_age is not set"
        if limit == "the disk" and expire.get("min_free") is None and left < SOON_DAYS:
            yield Finding(what, _show_space(folder), _MORE_ROOM)
        else:
            what = f"{limit} has room for {_days(days)} of log {at_rate}; max_age is not set"
            yield Note(what, "segments are deleted only when there is no room")
        return
    kept = int(str(wanted)) / 86_400
    what = f"{limit} has room for {_days(days)} of log {at_rate}, and max_age is {_days(kept)}"
    if days >= kept:
        yield Note(what, "the log has room")
        return
    deletes = limit == "max_size" or expire.get("min_free") is not None
    what += ": ctexpire deletes segments before that age" if deletes else ": it will be full"
    yield Finding(what, _show_space(folder), _MORE_ROOM)


_MORE_ROOM = (
    "nothing: it shows what takes the space. Give the log a larger disk, or decide to keep it for "
    "less time: max_age in ctrecorder.conf(5)"
)


def _show_space(folder: str) -> str:
    """The command that lists what takes the space of a folder's disk, largest last."""
    return f'du -xh --threshold=50M "$(stat -c %m {shlex.quote(folder)})" | sort -h | tail -n 20'


def _reserve(min_free: Value, space: DiskSpace) -> int:
    """Bytes that ctexpire keeps free: a number of bytes, or a share of the disk."""
    if isinstance(min_free, float):
        return int(min_free * space.whole)
    return int(str(min_free)) if min_free is not None else 0


def _days(number: float) -> str:
    return count(int(number), "day") if number >= 1 else "less than a day"


def _mebibytes(size: float) -> str:
    return f"{size / (1 << 20):,.1f} MiB" if size < 100 << 20 else f"{size / (1 << 20):,.0f} MiB"
