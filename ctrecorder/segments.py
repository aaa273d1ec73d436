"""Opening what holds a recording, told by its content: a segment, or a file of the C ctrecorder.

Whoever reads, lists, tests or squeezes opens here, and need not know which it was.
"""

from __future__ import annotations

import os

from ctrecorder import archive
from ctrecorder.legacy import LegacySegment
from ctrecorder.reader import Segment


def open_segment(path: str, key: bytes = b"") -> Segment:
    """The recording in the file `path`; `key`: of a sealed one.  Raises ArchiveError if it cannot be read, FormatError if it is none."""
    descriptor = archive.open_file(path)
    try:
        legacy = archive.legacy_start(descriptor) is not None
    finally:
        os.close(descriptor)
    return LegacySegment(path) if legacy else Segment(path, key)
