"""flock(2) on an open file, with a bounded wait.

A lock belongs to the open file description: closing the descriptor releases it, and so does the
end of the process.
"""

from __future__ import annotations

import fcntl
import time

# Pause between two tries.  Readers hold a lock for microseconds, recorders that start for
# milliseconds.
_PAUSE_SECONDS = 0.01


def lock(descriptor: int, wait_seconds: float = 0.0) -> bool:
    """Take the exclusive lock; False if others still hold it after `wait_seconds`.

    Raises OSError if the file cannot be locked at all.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_SECONDS)


def is_locked(descriptor: int) -> bool:
    """True if another open file holds the exclusive lock; False if this cannot be found out."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
