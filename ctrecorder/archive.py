"""Names and places of segments: templates, folders, safe opening, who is live.

A folder is opened once and files in it by its descriptor, so that a folder or link that is swapped meanwhile cannot lead
elsewhere.  A segment is told by its content, never by its name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from ctrecorder import legacy_format
from ctrecorder.errors import ArchiveError, FormatError, GoneError, UsageError
from ctrecorder.folder import Folder
from ctrecorder.format import FRAME, MAGIC, TRAILER, Frame, Kind, parse_frame, parse_trailer
from ctrecorder.legacy_format import HEADER_BYTES
from ctrecorder.packed import Stream
from ctrecorder.times import BEGIN, END

# Owner writes, group reads: reading the log is a group's right.
MODE = 0o640
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
# A block is looked for in so many first bytes of a file that does not begin with a header; a header is a few hundred.
_SEARCH = 1 << 16
# A footer of up to a hundred blocks is in so many last bytes of a file.
_TAIL = 1 << 12
# What ctexpire keeps in an archive (`retention`): neither segments nor strangers.
SIDE_FILES = frozenset(("ctexpire.holds", "ctexpire.receipts"))
# A reader that asks whether a new segment is live holds its lock for microseconds.
_LOCK_TRIES, _LOCK_PAUSE = 100, 0.01


class ExistsError(ArchiveError):
    """The name of the new segment is taken."""


def split_template(template: str) -> tuple[str, str]:
    """The folder and the strftime pattern of the names in it.  Raises UsageError for a template that could leave its folder."""
    folder, pattern = os.path.split(template)
    if "%" in folder:
        raise UsageError(f"{template}: only the file's name may have %-codes, not its folder")
    if not pattern:
        raise UsageError(f"{template}: names a folder; give a file name too, for example {os.path.join(folder, 'ct-%Y%m%d-%H%M')}")
    if "\0" in template:
        raise UsageError("a template cannot hold a NUL")
    return folder or ".", pattern


def expand_template(template: str, time_ns: int) -> str:
    """The path that `template` gives at `time_ns`, UTC.  Raises UsageError."""
    folder, pattern = split_template(template)
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    # glibc takes %s for a local time, and the moment is in UTC.
    pattern = re.sub(r"%(.)", lambda code: str(time_ns // 1_000_000_000) if code[1] == "s" else code[0], pattern)
    name = moment.strftime(pattern)
    if "/" in name or name in ("", ".", "..") or not name.isprintable() or len(os.fsencode(name)) > 255:
        raise UsageError(f"{template}: gives {name!r}, which is no file name")
    return os.path.join(folder, name)


def first_free(path: str) -> str:
    """`path`, or, while that name is taken, with -1, -2, ... before its suffix."""
    stem, suffix = os.path.splitext(path)
    candidate, number = path, 0
    while os.path.lexists(candidate):
        number += 1
        candidate = f"{stem}-{number}{suffix}"
    return candidate


def create(path: str, mode: int = MODE, *, folder: Folder | None = None, owner: os.stat_result | None = None) -> tuple[int, Folder]:
    """Make the file `path`, which must not exist, and lock it: its descriptor, and its folder, to be closed.

    `folder`: the folder of `path`, where that is open already; it stays open.  `owner`: whose owner and
    group the file gets; None: the caller's, and the umask limits `mode`.  Raises ArchiveError.
    """
    name = os.path.basename(path)
    try:
        folder = Folder.of(path) if folder is None else Folder(".", within=folder)
    except ArchiveError as error:
        raise ArchiveError(f"{error}: make the folder, or choose another with -f") from error
    try:
        descriptor = folder.open(name, _CREATE, mode) if owner is None else folder.create(name, mode, owner)
    except OSError as error:
        folder.close()
        if error.errno in (errno.EEXIST, errno.ELOOP):
            raise ExistsError(f"{path}: exists already, and is never overwritten") from error
        whose = "" if owner is None else " for the owner of the old segment"
        raise ArchiveError(f"{path}: cannot be made{whose}: {_why(error)}") from error
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor, folder
        except OSError:
            time.sleep(_LOCK_PAUSE)
    folder.remove(name)
    os.close(descriptor)
    folder.close()
    raise ArchiveError(f"{path}: another process keeps a lock on it")


def is_live(descriptor: int) -> bool:
    """If a recorder holds the lock of this open segment."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def open_file(path: str, folder: int | None = None) -> int:
    """A descriptor for reading the regular file `path`; never waits (a FIFO is refused).  Raises ArchiveError; GoneError: there is none."""
    try:
        descriptor = os.open(path, _READ, dir_fd=folder)
    except FileNotFoundError as error:
        raise GoneError(f"{path}: {_why(error)}") from error
    except OSError as error:
        raise ArchiveError(f"{path}: {_why(error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError(f"{path}: is not a file")
    return descriptor


def sniff(descriptor: int) -> Frame | None:
    """The frame of the HEADER that the file begins with; None: it is no segment."""
    try:
        frame = parse_frame(os.pread(descriptor, FRAME.size, 0))
    except FormatError:
        return None
    return frame if frame.kind == Kind.HEADER else None


def _has_blocks(descriptor: int) -> bool:
    """If there is a block's magic near the beginning of the file, or a footer at its end: it is a segment, whatever else is wrong."""
    end = os.fstat(descriptor).st_size - TRAILER.size
    return MAGIC in os.pread(descriptor, _SEARCH, 0) or parse_trailer(os.pread(descriptor, TRAILER.size, max(end, 0))) is not None


def legacy_start(descriptor: int) -> int | None:
    """When the C ctrecorder's file that is open here began, ns; None: it is no such file.  Raises OSError.

    0: its format is not known, or it is a compressed file that is damaged before its first bytes can
    be unpacked, so that it may be one.
    """
    stream = Stream(descriptor)
    head = stream.read(HEADER_BYTES)
    if not head.startswith(legacy_format.MAGIC):
        return 0 if not head and stream.error and not stream.cut else None
    try:
        return legacy_format.parse_header(head, "").start_ns
    except FormatError:
        return 0  # whoever opens it says why


class Span(NamedTuple):
    """When a segment begins and ends, ns UTC, by its first and last frame; what these do not tell is BEGIN and END."""

    path: str
    begin: int
    end: int


@dataclass
class Found:
    """What is in a folder, or was named.

    `segments` (by the time of their header), `spans` of these (if asked for), `foreign` (other files), `unreadable` (path and why).
    """

    segments: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find(paths: list[str], *, spans: bool = False) -> Found:
    """The segments among `paths`: each a file, or a folder whose files are meant (not those in folders below).

    A file that goes from its folder before it could be looked at is none of them, as if it had gone before the folder was read.
    `spans`: also when each begins and ends; no hash is looked at for that, so it can only say what is worth reading.
    """
    found = Found()
    timed: list[tuple[int, str]] = []
    for path in paths:
        for name in _files(path, found):
            try:
                descriptor = open_file(name)
            except ArchiveError as error:
                if name == path or not isinstance(error, GoneError):
                    found.unreadable.append((name, str(error)))
                continue
            try:
                frame = sniff(descriptor)
                begun = legacy_start(descriptor) if frame is None else frame.time_min
                if begun is None and _has_blocks(descriptor):
                    begun = 0  # a segment whose first block is damaged: whoever opens it says so
                if spans and begun is not None:
                    found.spans.append(_span(name, descriptor, frame))
            except OSError as error:
                found.unreadable.append((name, f"{name}: {_why(error)}"))
                continue
            finally:
                os.close(descriptor)
            if begun is None:
                found.foreign.append(name)
            else:
                timed.append((begun, name))
    found.segments = [name for _, name in sorted(timed)]
    return found


def _span(path: str, descriptor: int, header: Frame | None) -> Span:
    unknown = Span(path, BEGIN, END)
    if header is None:
        return unknown
    size = os.fstat(descriptor).st_size
    first = max(size - _TAIL, 0)
    tail = os.pread(descriptor, _TAIL, first)
    trailer = parse_trailer(tail[-TRAILER.size :])
    if trailer is None or trailer[0] >= size:
        return unknown._replace(begin=header.time_min)
    at = trailer[0] - first
    try:
        footer = parse_frame(tail[at:] if at >= 0 else os.pread(descriptor, FRAME.size, trailer[0]))
    except FormatError:
        return unknown
    return Span(path, min(header.time_min, footer.time_min), max(header.time_min, footer.time_max))


def _files(path: str, found: Found) -> list[str]:
    """`path` itself, or the regular files in the folder `path`, by name; hidden ones are not meant (ctsqueeze writes such)."""
    if not os.path.isdir(path):
        return [path]
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
        return [os.path.join(path, name) for name in sorted(names) if name not in SIDE_FILES]
    except OSError as error:
        found.unreadable.append((path, f"{path}: {_why(error)}"))
        return []


def _why(error: OSError) -> str:
    return error.strerror or str(error)
