"""The blocks of a segment, by their frames: offsets and times.  Written from the description of the
format.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

# magic, kind, family, version, form, rows, payload length, time_min, time_max
FRAME = struct.Struct("<4sBBBBIIqq")
FRAME_BYTES = 64
MAGIC = b"\xc7CTB"
EVENTS, CONNECTIONS = 2, 3


class Block(NamedTuple):
    """`begin`, `end`: bytes of the file.  `first`, `last`: ns of the router's clock."""

    kind: int
    begin: int
    end: int
    first: int
    last: int

    @property
    def has_flows(self) -> bool:
        return self.kind in (EVENTS, CONNECTIONS)


def blocks(path: Path) -> list[Block]:
    """The blocks of a sound segment."""
    data, found, at = path.read_bytes(), [], 0
    while at + FRAME_BYTES <= len(data):
        magic, kind, _, _, _, _, length, first, last = FRAME.unpack_from(data, at)
        if magic != MAGIC:
            break
        found.append(Block(kind, at, at + FRAME_BYTES + length, first, last))
        at = found[-1].end
    return found
