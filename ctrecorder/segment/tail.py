"""A segment that is read while it grows: each block once, in the order of the file.

The file stays open, so it can be renamed, squeezed or deleted meanwhile: what was written to it is
still read.
"""

from __future__ import annotations

import os

from ctrecorder.ctlog.frame import FRAME, Frame, Kind
from ctrecorder.errors import FormatError
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Block


class Tail:
    """An open segment, and how far it was read.

    `closed`: its footer was reached, so nothing follows.  `last_time`: the greatest time of the
    blocks that were read, ns; 0 before the first.
    """

    def __init__(self, path: str, key: bytes = b"") -> None:
        """Raises as `Segment`."""
        self.segment = Segment(path, key)
        self._at = 0
        self.closed = False
        self.last_time = 0

    def close(self) -> None:
        """Close the file."""
        self.segment.close()

    @property
    def status(self) -> os.stat_result:
        """Of the open file."""
        return os.fstat(self.segment.file.descriptor)

    def more(self) -> list[Block]:
        """The blocks that are whole and were not returned before, without the footer.

        A block that does not match its hash is one that is still being written, or damage: the
        blocks after it are not read.
        """
        file = self.segment.file
        file.look_again()
        found: list[Block] = []
        while not self.closed and self._at < file.size:
            try:
                frame = file.frame(self._at)
                file.check(self._at, frame)
            except FormatError:
                break
            if frame.kind == Kind.FOOTER:
                self.closed = True
            else:
                found.append(_block(self._at, frame))
                self.last_time = max(self.last_time, frame.time_max)
            self._at += FRAME.size + frame.length
        return found


def _block(offset: int, frame: Frame) -> Block:
    times = frame.time_min, frame.time_max
    kind = frame.rows, frame.kind, frame.family, frame.form
    return Block(offset, *times, *kind, frame.watermark)
