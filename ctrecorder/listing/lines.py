"""Which lines of a listing are written, and in which order: all, the last ones, the newest first,
or only their number.
"""

from __future__ import annotations

import argparse
from collections import deque
from typing import IO, TYPE_CHECKING

from ctrecorder import spill
from ctrecorder.cli import common
from ctrecorder.errors import ArchiveError

if TYPE_CHECKING:
    from ctrecorder.order.batches import Batch
    from ctrecorder.render.renderer import Renderer


class Lines:
    """Writes the lines of batches as they come."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def begin(self) -> None:
        """Write what is before all lines."""
        common.write_out(self.renderer.head)

    def add(self, batch: Batch) -> None:
        """Take the next batch."""
        for text in self.renderer.lines(batch.tables, batch.order):
            common.write_out(text)

    def finish(self) -> None:
        """Write what is not written yet."""


class Count(Lines):
    """Writes the number of lines."""

    def __init__(self, renderer: Renderer) -> None:
        super().__init__(renderer)
        self._rows = 0

    def begin(self) -> None:
        """Write nothing."""

    def add(self, batch: Batch) -> None:
        """Count the rows."""
        self._rows += sum(map(len, batch.tables))

    def finish(self) -> None:
        """Write their number."""
        common.write_out(f"{self._rows}\n".encode())


class Last(Lines):
    """Writes the last lines; `reverse`: the newest one first."""

    def __init__(self, renderer: Renderer, count: int, *, reverse: bool) -> None:
        super().__init__(renderer)
        self._count, self._reverse = count, reverse
        self._batches: deque[Batch] = deque()
        self._rows = 0

    def add(self, batch: Batch) -> None:
        """Keep the batch, and no more batches than the last lines need."""
        self._batches.append(batch)
        self._rows += _rows(batch)
        while self._rows - _rows(self._batches[0]) >= self._count and len(self._batches) > 1:
            self._rows -= _rows(self._batches.popleft())

    def finish(self) -> None:
        """Write the lines."""
        lines: list[bytes] = []
        for batch in self._batches:
            for text in self.renderer.lines(batch.tables, batch.order):
                lines += bytes(text).splitlines(keepends=True)
        chosen = lines[-self._count :] if self._count else []
        common.write_out(b"".join(reversed(chosen) if self._reverse else chosen))


class Reverse(Lines):
    """Writes all lines, the newest one first: until the end they are in a temporary file."""

    def __init__(self, renderer: Renderer) -> None:
        super().__init__(renderer)
        self._file: IO[bytes] = spill.temporary_file()
        self._pieces: list[int] = []

    def add(self, batch: Batch) -> None:
        """Keep the lines."""
        for text in self.renderer.lines(batch.tables, batch.order):
            try:
                self._file.write(text)
            except OSError as error:
                raise spill.full(error) from None
            self._pieces.append(len(text))

    def finish(self) -> None:
        """Write the lines."""
        end = sum(self._pieces)
        for length in reversed(self._pieces):
            end -= length
            self._file.seek(end)
            text = self._file.read(length)
            if len(text) < length:
                raise ArchiveError(f"{spill.folder()}: a temporary file was truncated")
            common.write_out(b"".join(reversed(text.splitlines(keepends=True))))
        self._file.close()


def lines_of(args: argparse.Namespace, renderer: Renderer) -> Lines:
    """What the options -n, -r and -c ask for."""
    if args.count:
        return Count(renderer)
    if args.lines is not None:
        return Last(renderer, args.lines, reverse=args.reverse)
    return Reverse(renderer) if args.reverse else Lines(renderer)


def _rows(batch: Batch) -> int:
    return sum(map(len, batch.tables))
