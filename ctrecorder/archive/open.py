"""Opening a file of a recording by its content: a segment, or a file of the C ctrecorder."""

from __future__ import annotations

import os
from collections.abc import Callable

from ctrecorder.archive import find, routers
from ctrecorder.errors import NewerError
from ctrecorder.segment import files
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording

Kind = Callable[[str, bytes], Segment]
# Characters of a stranger's header in an error.
_MAX_NAMES = 200


def open_segment(path: str, key: bytes = b"", kind: Kind = Segment) -> Recording:
    """The recording in the file `path`; `key`: of a sealed one; `kind`: makes an open segment.

    Raises ArchiveError if it cannot be read, FormatError if it is no recording, NewerError if it
    requires a feature that this version does not know.  (A recorder that continues a chain needs no
    feature of the segment before: it opens a `Segment`.)
    """
    descriptor = files.open_file(path)
    try:
        legacy = find.legacy_start(descriptor) is not None
    finally:
        os.close(descriptor)
    if legacy:
        from ctrecorder.legacy.segment import LegacySegment  # most archives have no such file

        return LegacySegment(path)
    return known(kind(path, key))


def known(segment: Segment) -> Segment:
    """An open segment whose features this version knows.  Raises NewerError, and closes it."""
    if unknown := segment.header.unknown_features:
        segment.close()
        names = ", ".join(unknown)[:_MAX_NAMES]
        what = f"requires {names}: made by a newer version of ctrecorder"
        raise NewerError(what, path=segment.path)
    return segment


def open_placed(path: str, key: bytes = b"", kind: Kind = Segment) -> Recording:
    """As `open_segment`; a segment in a folder of many routers says of which one it is."""
    segment = open_segment(path, key, kind)
    routers.place(segment)
    return segment


class Opener:
    """Opens segments, and closes those that are not wanted."""

    def open(self, path: str) -> Recording:
        """The segment `path`.  Raises ArchiveError and FormatError."""
        return open_placed(path)

    def close(self, segment: Recording) -> None:
        """Close a segment."""
        segment.close()
