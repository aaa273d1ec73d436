"""When writing is tried again after a failure, and when in a new segment."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from enum import Enum

# The first replacement comes at once, each further one after twice the pause: a disk that accepts
# the beginning of a file and no more would otherwise fill with beginnings.
FIRST_REPLACE_SECONDS, MAX_REPLACE_SECONDS = 1.0, 600.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: Exception) -> bool:
    """Whether the disk has no room for what was to be written."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NO_SPACE


class State(Enum):
    """Whether the disk accepted the last write."""

    WRITING = "writing"
    FAILING = "failing"


class Retry:
    """The state of writing, and the time of the next replacement of the segment.

    The caller tries to write at each flush.  A full disk needs no new segment; after any other
    failure a new one may work (the old file's disk may be gone).

    Attributes:
    `state`: the result of the last write.
    `reason`: the GAP reason of the last failure, "disk-full" or "write-error"; "" before the first.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.state = State.WRITING
        self.reason = ""
        self._monotonic = monotonic  # seconds
        self._failed_at = self._replace_at = 0.0
        self._pause = FIRST_REPLACE_SECONDS

    @property
    def failing(self) -> bool:
        """True while the disk refuses."""
        return self.state is State.FAILING

    def fail(self, error: Exception) -> bool:
        """Record a failed write; True if the write before it had worked."""
        self.reason = "disk-full" if is_full(error) else "write-error"
        if self.failing:
            return False
        self.state = State.FAILING
        self._failed_at = self._monotonic()
        self._replace_at = self._failed_at + self._pause
        return True

    def succeed(self) -> float | None:
        """Record a write that worked.

        Returns the seconds since the first failure, None if there was none.
        """
        if not self.failing:
            return None
        self.state = State.WRITING
        now = self._monotonic()
        if now > self._replace_at:
            self._pause = FIRST_REPLACE_SECONDS
        return now - self._failed_at

    def replacement_due(self) -> bool:
        """True if the segment is to be replaced now.  The next replacement is due after a pause."""
        now = self._monotonic()
        if not self.failing or self.reason == "disk-full" or now < self._replace_at:
            return False
        self._pause = min(2 * self._pause, MAX_REPLACE_SECONDS)
        self._replace_at = now + self._pause
        return True
