"""How many files are open at once, and how many have bytes read ahead: those used last.

A question to years of log has more segments than a process may have open files.
"""

from __future__ import annotations

import resource
from typing import Protocol

# Descriptors that are left for other files: temporary ones, folders, the journal, a disk's answer.
_RESERVED = 128
_LEAST_OPEN = 16
# Files with bytes read ahead, 256 KiB each at most.  With fewer, segments that are read side by
# side lose theirs; with more, each segment of a long log keeps some.
_MAX_WINDOWS = 32


class Parkable(Protocol):
    """A file that can be read again after it was parked."""

    def park(self) -> None:
        """Close the file until it is read again."""

    def forget(self) -> None:
        """Give up the bytes that were read ahead."""


_open: dict[Parkable, None] = {}  # in the order in which they were opened
_windows: dict[Parkable, None] = {}


def opened(file: Parkable) -> None:
    """Note that `file` is open.  Parks those that have been open for longest, if they are too
    many.
    """
    _open[file] = None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return
    while len(_open) > max(limit - _RESERVED, _LEAST_OPEN):
        oldest = next(iter(_open))
        del _open[oldest]
        oldest.park()


def read_ahead(file: Parkable) -> None:
    """Note that `file` has bytes read ahead.  Others give up theirs, if these are too many."""
    if file in _windows:
        return
    _windows[file] = None
    if len(_windows) > _MAX_WINDOWS:
        oldest = next(iter(_windows))
        del _windows[oldest]
        oldest.forget()


def closed(file: Parkable) -> None:
    """Note that `file` is closed for good."""
    _open.pop(file, None)
    _windows.pop(file, None)
