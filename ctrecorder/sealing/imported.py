"""Which files prove nothing: those of the C ctrecorder, and those without a seal among sealed ones.

Whoever can write to a folder can put such a file there.  That a header names the key is no seal:
the ledger must name the file too, and a closed one must have a SEAL.  Whether they are right only
the verification key tells.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.sealing import locate
from ctrecorder.sealing.header import begun_in, sealed_by
from ctrecorder.sealing.ledgerfile import Names, read_names
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count

# Files that a line names.
_NAMED = 3
HEADING = "imported: proves nothing"


@dataclass(frozen=True)
class Claimed:
    """What a file says of itself.

    `key`: the id of the key in its header; "" if it is not sealed forward.  `begun`: the epoch of
    its header.  `has_seal`: it has a SEAL.  `closed`: it is closed.  `last_hash`: hex.
    """

    key: str = ""
    begun: int = 0
    has_seal: bool = False
    closed: bool = False
    last_hash: str = ""


def claimed(segment: Recording) -> Claimed:
    """What an open segment says of itself."""
    key = sealed_by(segment)
    if not key:
        return Claimed()
    return Claimed(
        key,
        begun_in(segment),
        bool(segment.blocks_of(Kind.SEAL)),
        segment.state == "closed",
        segment.last_hash.hex(),
    )


class Imports:
    """Tells imported files; reads the ledgers of each folder once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, Names | None]] = {}

    def has(self, path: str, *, is_chained: bool, claimed: Claimed) -> bool:
        """Whether the segment at `path` is imported.  `is_chained`: ctrecord recorded it."""
        if not is_chained:
            return True
        folder, name = os.path.split(path)
        ledgers = self._of(folder)
        if not ledgers:
            return False
        names = ledgers.get(claimed.key)
        if names is None or (claimed.closed and not claimed.has_seal):
            return True
        is_older = claimed.has_seal and claimed.begun < names.begins
        return not (is_older or name in names.segments or claimed.last_hash in names.hashes)

    def _of(self, folder: str) -> dict[str, Names | None]:
        """The ledgers in a folder by the ids of their keys; None for one that cannot be read."""
        if folder not in self._folders:
            found: dict[str, Names | None] = {}
            with contextlib.suppress(OSError):
                for key, path in locate.ledgers(folder).items():
                    found[key] = None
                    with contextlib.suppress(ArchiveError, FormatError):
                        found[key] = read_names(path)
            self._folders[folder] = found
        return self._folders[folder]


def imported(
    segments: Iterable[Recording], since: int, until: int, imports: Imports | None = None
) -> list[str]:
    """The paths of the imported files that have something in since <= time < until.

    `imports`: of many questions to the same folders.
    """
    imports = imports or Imports()
    found = []
    for segment in segments:
        if not len(segment.index):
            continue
        first, last = segment.times
        overlaps = first < until and last >= since
        if overlaps and imports.has(
            segment.path, is_chained=segment.is_chained, claimed=claimed(segment)
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
