"""When what is written is synced: a power cut takes what is not, a crash of the recorder does not.

Each sync makes the file system write its journal too, which takes 10 to 20 times the bytes of a
quiet second of the log.  So rows are written each second and synced each `seconds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ctrecorder.times import SECOND


class SyncTimer:
    """Blocks that are written and not synced, by time.

    `seconds`: no row is older than this when it is synced.  A row is written within a second, so
    one second less passes from a write to its sync.
    """

    def __init__(self, seconds: int = 1, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.seconds = seconds
        self._monotonic = monotonic  # ns
        self._since: int | None = None

    @property
    def due(self) -> bool:
        """True if the oldest block that is not synced waits for long enough."""
        if self._since is None:
            return False
        return self._monotonic() - self._since >= (self.seconds - 1) * SECOND

    def wrote(self) -> None:
        """A block was written."""
        if self._since is None:
            self._since = self._monotonic()

    def synced(self) -> None:
        """All that was written is synced, or is to be written again."""
        self._since = None
