"""Whether a recorder writes a segment: by its lock, which readers cannot take, and by what the
recorder publishes.

A recorder of version 1.0 holds an exclusive flock(2) on its segment instead.  Everyone who may read
the file can hold that one.  So it counts only for a segment of version 1.0 that was written within
the last minutes: such a recorder writes at least once a minute.
"""

from __future__ import annotations

import os
import time

from ctrecorder import filelock
from ctrecorder.ctlog.frame import COVERAGE
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.filelock import Holder
from ctrecorder.folder import Folder
from ctrecorder.segment import live

# Less: a recorder of version 1.0 that was stopped for a moment loses its segment to ctsqueeze.
# More: a reader's flock(2) delays what is done to a crashed segment of version 1.0.
_RECENT_SECONDS = 300


def is_live(path: str, descriptor: int, header: Header) -> bool | None:
    """Whether a recorder writes the open file `descriptor`; None: this user cannot find out.

    `path`: of the file.  `header`: of the segment.
    """
    status, known = os.fstat(descriptor), True
    try:
        with Folder.of(path) as folder:
            if filelock.holder_of(folder, status) is Holder.RECORDER:
                return True
    except (OSError, ArchiveError):
        known = False
    if live.is_published(header.chain or "", status):
        return True
    is_old = COVERAGE not in (header.requires or ())
    if is_old and time.time() - status.st_mtime < _RECENT_SECONDS:
        return filelock.has_exclusive_flock(descriptor) or (False if known else None)
    return False if known else None
