"""Whether a segment is what the recorder wrote, as far as the ledger says, before it is sealed
anew.

A key that is here would make a right seal for any file.  So what the ledger has of the segment must
be in it: that it was begun, each seal of an epoch, how it ended.  The lines are not proved here: a
wrong one is found with the verification key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ctrecorder.ctlog.frame import FRAME, Kind
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.sealing.ledgerfile import read_ledger
from ctrecorder.sealing.state import SealError
from ctrecorder.seals.ledger import Line
from ctrecorder.segment.blockfile import Scan
from ctrecorder.segment.reader import Segment


@dataclass
class _Noted:
    """What the lines say of the segment `name`: of the last one with this name."""

    name: str
    known: bool = False
    seals: set[str] = field(default_factory=set)
    ended: str = ""
    made: set[str] = field(default_factory=set)  # last hashes of squeezed and repaired ones
    _before: dict[str, set[str]] = field(default_factory=dict)  # seals of other names

    def take(self, line: Line) -> None:
        segment = line.named("segment")
        if line.what in ("squeeze", "repair"):
            self.made.add(line.named("last_hash"))
        elif line.what == "open":
            moved = self._before.pop(line.named("was"), set())
            if segment == self.name:
                self.known, self.seals, self.ended = True, moved, ""
            else:
                self._before = {segment: moved}
        elif line.what == "next" and line.named("seal"):
            if segment == self.name:
                self.known = True
                self.seals.add(line.named("seal"))
            else:
                self._before.setdefault(segment, set()).add(line.named("seal"))
        elif line.what == "close" and segment == self.name:
            self.known, self.ended = True, line.named("last_hash")
        elif line.what == "receipt" and segment == self.name:
            self.known = False


def doubt(old: Segment, ledger: str) -> str:
    """Why `old` is not what the ledger at that path says; "" if it is.  Raises SealError."""
    noted = _Noted(os.path.basename(old.path))
    try:
        for _, line in read_ledger(ledger):
            if isinstance(line, Line):
                noted.take(line)
    except (ArchiveError, FormatError) as error:
        raise SealError(str(error)) from error
    last = old.last_hash.hex()
    if (old.header.is_squeezed or old.header.is_repaired) and last in noted.made:
        return ""
    if not noted.known:
        return "the ledger does not know it"
    if noted.ended and noted.ended != last:
        return f"the ledger says that it was closed with the last hash {noted.ended}"
    here = {old.frame(block).hash.hex() for block in old.blocks_of(Kind.SEAL)}
    if not noted.seals <= here:
        return "seals that the ledger has of it are not in it"
    return ""


def broken_link(old: Segment) -> str:
    """Why the blocks of `old` are not one chain; "" if they are.

    The last hash, and each seal, says nothing of what is before a block that names another one.
    """
    scan = Scan(old.file)
    if old.state == "closed" and scan.index.tobytes() != old.index.tobytes():
        return "its footer does not list the blocks of the file"
    before, end = b"", 0
    for offset in sorted([*scan.index["offset"].tolist(), *scan.footers]):
        frame = old.file.frame(offset)
        if offset != end or (before and frame.previous != before):
            return f"the block at byte {offset} does not follow on the one before it"
        before, end = frame.hash, offset + FRAME.size + frame.length
    return ""
