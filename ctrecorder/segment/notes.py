"""How much memory GAPs and MARKs may take: JSON of a stranger's file grows 20 times when parsed."""

from __future__ import annotations

from ctrecorder.ctlog.compression import Buffer

# Estimated bytes of all GAPs, or all MARKs, of one segment that are read.  A GAP each second for a
# day takes 60 MiB.
MAX_SEGMENT_BYTES = 96 << 20
# Of all segments of a process that are kept; others are read again for each use.  A year of hourly
# segments that were not squeezed takes this much.
_MAX_KEPT_BYTES = 256 << 20
# A GAP or MARK, and a value in its JSON.
_NOTE_BYTES, _VALUE_BYTES = 400, 64


def cost(payload: Buffer) -> int:
    """Estimated bytes of a parsed GAP or MARK, at least about half of what it takes."""
    data = bytes(payload)
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    return _NOTE_BYTES + len(data) + _VALUE_BYTES * values


class Allowance:
    """What the segments of this process keep."""

    def __init__(self, limit: int = _MAX_KEPT_BYTES) -> None:
        self._left = limit

    def take(self, wanted: int) -> bool:
        """Take `wanted` bytes, if there are so many."""
        if wanted > self._left:
            return False
        self._left -= wanted
        return True

    def give_back(self, taken: int) -> None:
        self._left += taken


KEPT = Allowance()
