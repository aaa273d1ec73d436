"""Finds segments in folders: by their content, never by their name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from ctrecorder.archive.routers import chain_of, folders_below, router_of
from ctrecorder.ctlog.frame import (
    FRAME,
    MAGIC,
    MAX_JSON,
    TRAILER,
    Frame,
    Kind,
    parse_frame,
    parse_trailer,
)
from ctrecorder.ctlog.header import plain
from ctrecorder.ctlog.index import FORM_PACKED
from ctrecorder.errors import ArchiveError, FormatError, GoneError, why
from ctrecorder.filelock import LOCK_FILE
from ctrecorder.kept import catalogue
from ctrecorder.kept.catalogue import Catalogue
from ctrecorder.seals.ledger import key_of
from ctrecorder.segment.files import open_file
from ctrecorder.service.unsent import UNSENT
from ctrecorder.times import BEGIN, END

# A file that does not begin with a header is searched for a block in these first bytes.  A header
# has a few hundred.
_SEARCH = 1 << 16
# The last bytes of a file that contain a footer of up to a hundred blocks.
_TAIL = 1 << 12
# First bytes of a segment that have the chain and the sequence of its header: that has 500 to 1,000
# bytes, sorted by name.
_HEAD = 1 << 11
_CHAIN, _SEQUENCE, _SQUEEZED = b'"chain":"', b'"sequence":', b'"squeezed":'
_SET_BACK = b'"set_back":true'
# Files in an archive (`retention`, `acknowledged`, `service.unsent`) that are neither segments nor
# foreign files, and neither are ledgers.
SIDE_FILES = frozenset(("ctexpire.holds", "ctexpire.receipts", "ctship.shipped", UNSENT))


def sniff(descriptor: int) -> Frame | None:
    """The frame of the HEADER that the file begins with; None if it begins otherwise."""
    return _header(os.pread(descriptor, FRAME.size, 0))


def _header(head: bytes) -> Frame | None:
    """The frame of the HEADER at the beginning of `head`; None if it begins otherwise."""
    try:
        frame = parse_frame(head)
    except FormatError:
        return None
    return frame if frame.kind == Kind.HEADER else None


def _has_blocks(descriptor: int) -> bool:
    """Whether there is the magic of a block near the beginning of the file, or a footer at its end:
    then it is a segment, whatever the damage.
    """
    end = os.fstat(descriptor).st_size - TRAILER.size
    return (
        MAGIC in os.pread(descriptor, _SEARCH, 0)
        or parse_trailer(os.pread(descriptor, TRAILER.size, max(end, 0))) is not None
    )


def legacy_start(descriptor: int) -> int | None:
    """When the recording of an open file of the C ctrecorder began, ns; None: it is no such file.

    0 if its format is not known, or if a compressed file is damaged in its first bytes, so that it
    may be one.  Raises OSError.
    """
    if sniff(descriptor) is not None:
        return None
    from ctrecorder.legacy import format as legacy_format  # most archives have no such file
    from ctrecorder.legacy.decompress import Stream

    stream = Stream(descriptor)
    head = stream.read(legacy_format.HEADER_BYTES)
    if not head.startswith(legacy_format.MAGIC):
        return 0 if not head and stream.error and not stream.cut else None
    try:
        return legacy_format.parse_header(head, "").start_ns
    except FormatError:
        return 0  # opening it reports why


class Span(NamedTuple):
    """When a segment begins and ends, ns UTC, by its first and last frame.

    BEGIN and END where these are missing or damaged.  BEGIN also if the clock was set back before
    its recorder started: it has a GAP of times before its HEADER.  A squeezed segment begins with
    its oldest connection; `recorded`: the time of the HEADER.  `chain`: "" if it has none.
    `sequence`: 0 if it has none.  `squeezed`: ctsqueeze wrote it.
    """

    path: str
    begin: int
    end: int
    recorded: int = BEGIN
    chain: str = ""
    sequence: int = 0
    squeezed: bool = False


@dataclass
class FolderListing:
    """The files in folders, or files that were named.

    `segments`: by the time of their header.
    `spans`: of these, if requested.
    `foreign`: other files.
    `unreadable`: path and reason.
    """

    segments: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find(paths: list[str], *, spans: bool = False, routers: bool = True) -> FolderListing:
    """The segments among `paths`: each a file, or a folder whose files are meant, and not those in
    folders below.  `routers`: but for a folder of many routers (`routers.folders_below`).

    A file that is deleted from a folder before it is opened is left out, as if it had been deleted
    before the folder was read.

    `spans`: also find when each begins and ends.  No hash is checked for that, so a span may only
    be used to choose files to read.  What a catalogue has of a folder is not read again.
    """
    found = FolderListing()
    timed: list[tuple[int, str]] = []
    for path in paths:
        for name in _files(path, found, routers, timed if spans else None):
            try:
                descriptor = open_file(name)
            except ArchiveError as error:
                if name == path or not isinstance(error, GoneError):
                    found.unreadable.append((name, str(error)))
                continue
            try:
                head = os.pread(descriptor, _HEAD if spans else FRAME.size, 0)
                frame = _header(head)
                begun = legacy_start(descriptor) if frame is None else frame.time_min
                if begun is None and _has_blocks(descriptor):
                    begun = 0  # a segment whose first block is damaged; opening it reports that
                if spans and begun is not None:
                    found.spans.append(_span(name, descriptor, head, frame))
            except OSError as error:
                found.unreadable.append((name, f"{name}: {why(error)}"))
                continue
            finally:
                os.close(descriptor)
            if begun is None:
                found.foreign.append(name)
            else:
                timed.append((begun, name))
    found.spans.sort(key=attrgetter("path"))
    found.segments = [name for _, name in sorted(timed)]
    return found


def _span(path: str, descriptor: int, head: bytes, header: Frame | None) -> Span:
    if header is None:
        return Span(path, BEGIN, END)
    length = FRAME.size + header.length
    if header.form == FORM_PACKED and len(head) < length <= FRAME.size + MAX_JSON:
        head = os.pread(descriptor, length, 0)  # of a part nothing can be unpacked
    facts = _facts(head[FRAME.size : length], header.form)
    chain, sequence = _place(facts)
    chain = chain_of(router_of(path), chain)
    size, recorded = os.fstat(descriptor).st_size, header.time_min
    first = max(size - _TAIL, 0)
    tail = os.pread(descriptor, _TAIL, first)
    trailer = parse_trailer(tail[-TRAILER.size :])
    earliest = BEGIN if _SET_BACK in facts else recorded
    if trailer is None or trailer[0] >= size:
        return Span(path, earliest, END, recorded, chain, sequence)
    at = trailer[0] - first
    try:
        footer = parse_frame(tail[at:] if at >= 0 else os.pread(descriptor, FRAME.size, trailer[0]))
    except FormatError:
        return Span(path, BEGIN, END, recorded, chain, sequence)
    begin, end = min(earliest, footer.time_min), max(recorded, footer.time_max)
    return Span(path, begin, end, recorded, chain, sequence, _SQUEEZED in facts)


def _facts(payload: bytes, form: int) -> bytes:
    """The JSON of a header, or what was read of it; empty if it is damaged."""
    try:
        return plain(payload, form)
    except FormatError:
        return b""


def _place(facts: bytes) -> tuple[str, int]:
    """Chain and sequence in the JSON of a header, found without parsing it."""
    chain, sequence = "", 0
    if (at := facts.find(_CHAIN)) >= 0:
        at += len(_CHAIN)
        chain = facts[at : facts.find(b'"', at)].decode("utf-8", "replace")
    # That of a segment that was replaced comes before the segment's own.
    if (at := facts.rfind(_SEQUENCE)) >= 0:
        digits = (
            facts[at + len(_SEQUENCE) : at + 20 + len(_SEQUENCE)].partition(b",")[0].rstrip(b"}")
        )
        sequence = int(digits) if digits.isdigit() else 0
    return chain, sequence


def is_beside(name: str) -> bool:
    """If this suite makes a file of this name beside the segments."""
    return name in SIDE_FILES or name == LOCK_FILE or bool(key_of(name))


def files_of(path: str) -> list[str]:
    """The files that `find` looks at for `path`.  Raises ArchiveError if that cannot be read."""
    found = FolderListing()
    names = list(_files(path, found, routers=True))
    if found.unreadable:
        raise ArchiveError(found.unreadable[0][1])
    return names


def _files(
    path: str,
    found: FolderListing,
    routers: bool,
    timed: list[tuple[int, str]] | None = None,
) -> Iterator[str]:
    """`path` itself, or the regular files in the folder `path`, and in those of `routers`.

    `timed`: gets those that are known by a catalogue, as `found.spans` does, and they are left out.
    """
    if not os.path.isdir(path):
        yield path
        return
    try:
        below = list(folders_below(path)) if routers else []
    except OSError as error:
        found.unreadable.append((path, f"{path}: {why(error)}"))
        return
    for folder in (path, *below):
        known = None if timed is None else catalogue.read(folder, path)
        if known is not None and timed is not None:
            spans = _known(folder, known)
            found.spans += spans
            timed += [(span.recorded, span.path) for span in spans]
        yield from _in_folder(folder, found, None if known is None else known.others)


def _known(folder: str, known: Catalogue) -> list[Span]:
    """The spans of the segments that a catalogue knows."""
    router = router_of(os.path.join(folder, "any"))
    chains = {one: chain_of(router, one) for one in {*known.chains}}
    begin = os.path.join(folder, "")
    columns = (
        [begin + name for name in known.names],
        *map(known.column, ("begin", "end", "recorded")),
        [chains[one] for one in known.chains],
        known.column("sequence"),
        map(bool, known.column("squeezed")),
    )
    return [*map(Span._make, zip(*columns, strict=True))]


def _in_folder(path: str, found: FolderListing, among: list[str] | None = None) -> list[str]:
    """The regular files in the folder `path`, by name, without hidden ones: ctsqueeze writes
    such.  `among`: only these names.
    """
    try:
        if among is not None:
            paths = [os.path.join(path, name) for name in among if not is_beside(name)]
            return [name for name in paths if os.path.isfile(name)]
        with os.scandir(path) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.is_file() and not entry.name.startswith(".")
            ]
        return [os.path.join(path, name) for name in sorted(names) if not is_beside(name)]
    except OSError as error:
        found.unreadable.append((path, f"{path}: {why(error)}"))
        return []
