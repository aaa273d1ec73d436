"""Opening what holds a recording, told by its content: a segment, or a file of the C ctrecorder.

Whoever reads, lists, tests or squeezes opens here, and need not know which it was.
"""

from __future__ import annotations

import os

from ctrecorder.archive import find
from ctrecorder.ctlog.frame import unknown_features
from ctrecorder.errors import NewerError
from ctrecorder.legacy.segment import LegacySegment
from ctrecorder.segment import files
from ctrecorder.segment.reader import Segment

# Of a stranger's header so much is in an error.
_NAMES = 200


def open_segment(path: str, key: bytes = b"") -> Segment:
    """The recording in the file `path`; `key`: of a sealed one.

    Raises ArchiveError if it cannot be read, FormatError if it is none, NewerError if it requires a
    feature that this version does not know.  A recorder that follows on a segment needs none of its
    features, and opens a `Segment`.
    """
    descriptor = files.open_file(path)
    try:
        legacy = find.legacy_start(descriptor) is not None
    finally:
        os.close(descriptor)
    if legacy:
        return LegacySegment(path)
    segment = Segment(path, key)
    if unknown := unknown_features(segment.header):
        segment.close()
        names = ", ".join(unknown)[:_NAMES]
        raise NewerError(f"requires {names}: made by a newer version of ctrecorder", path=path)
    return segment
