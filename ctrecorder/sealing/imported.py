"""Which files prove nothing: those of the C ctrecorder, and those without a seal among sealed ones.

Whoever can write to a folder can put such a file there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

from ctrecorder.sealing import locate
from ctrecorder.sealing.header import sealed_by
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count

# Files that a line names.
_NAMED = 3
HEADING = "imported: proves nothing"


class Imports:
    """Tells imported files; looks once for the ledgers of each folder."""

    def __init__(self) -> None:
        self._ledgers: dict[str, frozenset[str]] = {}

    def has(self, path: str, *, is_chained: bool, key: str) -> bool:
        """Whether the segment at `path` is imported.

        `is_chained`: ctrecord recorded it.  `key`: the id of the key in its header; "" if it is not
        sealed forward.
        """
        if not is_chained:
            return True
        ledgers = self._of(os.path.dirname(path))
        return bool(ledgers) and key not in ledgers

    def _of(self, folder: str) -> frozenset[str]:
        if folder not in self._ledgers:
            found: frozenset[str] = frozenset()
            with contextlib.suppress(OSError):
                found = frozenset(locate.ledgers(folder))
            self._ledgers[folder] = found
        return self._ledgers[folder]


def imported(segments: Iterable[Recording], since: int, until: int) -> list[str]:
    """The paths of the imported files that have something in since <= time < until."""
    imports = Imports()
    found = []
    for segment in segments:
        if not len(segment.index):
            continue
        first, last = segment.times
        overlaps = first < until and last >= since
        if overlaps and imports.has(
            segment.path, is_chained=segment.is_chained, key=sealed_by(segment)
        ):
            found.append(segment.path)
    return found


def line_of(paths: Sequence[str]) -> str:
    """The line of an answer that rests on imported files."""
    named = ", ".join(paths[:_NAMED])
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return f"{HEADING}: {count(len(paths), 'file')} without a seal: {named}{more}"


def lines_of(paths: Sequence[str], why: str) -> list[str]:
    """The heading and the files, a line each; [] if there are none.  `why`: they are imported."""
    if not paths:
        return []
    head = f"{HEADING}: {count(len(paths), 'file')} {why}:"
    return [head, *(f"  {path}" for path in paths)]
