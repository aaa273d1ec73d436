"""The router's wall clock: it steps the clock of its processes and records every step."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from tests.model.truth import SECOND

# A test must not set the machine's own clock.
(LIBRARY,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")


class Clock:
    """`environment`: for the processes of the router; empty if this router's clock is never set.

    `dated`: the router's kernel dates its events.

    `epochs`: [begin, offset] in ns: from `begin` of the real clock on, the router's is ahead by
    `offset`.
    """

    def __init__(self, folder: Path, *, stepped: bool, dated: bool = True) -> None:
        self._file = folder / "offset"
        self.epochs: list[tuple[int, int]] = [(0, 0)]
        self.environment: dict[str, object] = {}
        self.stepped, self.dated = stepped, dated
        if stepped:
            self._write(0)
            self.environment = {
                "LD_PRELOAD": LIBRARY,
                "FAKETIME_TIMESTAMP_FILE": self._file,
                "FAKETIME_NO_CACHE": 1,
                "FAKETIME_DONT_FAKE_MONOTONIC": 1,
                "NO_FAKE_STAT": 1,
            }

    @property
    def offset(self) -> int:
        """ns, now."""
        return self.epochs[-1][1]

    def now(self) -> int:
        """What the router's clock shows, ns."""
        return time.time_ns() + self.offset

    def step(self, seconds: int) -> None:
        """Set the clock forward by `seconds`, or back if they are negative."""
        offset = self.offset // SECOND + seconds
        self._write(offset)
        self.epochs.append((time.time_ns(), offset * SECOND))

    def _write(self, offset: int) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{offset:+d}\n")
        aside.rename(self._file)

    def shown(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Intervals of the router's clock that correspond to `begin` to `end` of the real clock."""
        if len(self.epochs) == 1:
            return [(begin, end)]
        found = []
        epochs = [*self.epochs, (1 << 63, 0)]
        for (since, offset), (until, _) in itertools.pairwise(epochs):
            first, last = max(begin, since), min(end, until)
            if first <= last and (first < until):
                found.append((first + offset, last + offset))
        return found
