"""Rows as a table on a screen: a header, aligned columns that fit, a line for each day and hole.

    view = View(Look(connections=False, utc=False), width=80)
    for text in view.lines(tables, order):
        write(text)

Pure.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.columns import Table
from ctrecorder.ends import Kind, ends_of
from ctrecorder.render import dates
from ctrecorder.screen import fields
from ctrecorder.screen.colour import Paint
from ctrecorder.screen.fields import Field, Look
from ctrecorder.screen.grid import ENDS, Grid
from ctrecorder.screen.layout import ASCII, Signs

# Rows that are laid out at once: a screen is full of them in a moment.
CHUNK_ROWS = 4096
# On narrower screens, the ends of IPv4 need the room: times have no milliseconds, and these columns
# are not there.
_WIDE, _WIDER = 100, 110
_WEEKDAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1970-01-01 was a Thursday


class View:
    """The lines of a listing on a screen.

    `width`: columns of the screen; None: as many as the rows need.  `columns`: what was asked for;
    None: what fits.  `before`: columns before these.  `holes`: of the log, (time in ns, text), by
    time; each is shown before the first row that is not earlier.
    """

    def __init__(
        self,
        look: Look,
        *,
        width: int | None,
        columns: Sequence[Field] | None = None,
        before: Sequence[Field] = (),
        signs: Signs = ASCII,
        paint: Paint | None = None,
    ) -> None:
        wide = width is None or width >= _WIDE
        self.look = replace(look, decimals=3 if wide else 0)
        self._width, self._signs = width, signs
        self._paint = paint or Paint(on=False)
        self._fields = [*before, *(columns or self._usual())]
        moment = fields.clock_texts(np.zeros(1, np.int64), self.look)[0]
        self._grid = Grid(self._fields, width, signs, self._paint, len(moment) + 1)
        self._day: tuple[int, int] | None = None
        self.holes: list[tuple[int, str]] = []

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of tables that it reads."""
        return fields.needs(self._fields)

    @property
    def head(self) -> bytes:
        """Nothing: the titles come with the first rows, which say how wide they are."""
        return b""

    def lines(
        self, tables: Sequence[Table], order: NDArray[np.intp] | None = None
    ) -> Iterator[bytes]:
        """The lines of rows; `order`: of the rows of all tables, counted through; None: by time."""
        for parts, back in fields.chunks(tables, order, self.look, CHUNK_ROWS):
            yield self._chunk(parts, back)

    def rest(self) -> bytes:
        """The holes after the last row."""
        lines = [self._hole(text) for _, text in self.holes]
        self.holes = []
        return _joined(lines)

    def _usual(self) -> list[Field]:
        """The columns that fit the width."""
        names = ["time", "proto", *ENDS, "duration", "bytes"]
        if not self.look.connections:
            names.insert(1, "ev")
            if self._width is not None and self._width < _WIDE:
                names.remove("duration")
        if self._width is None or self._width >= _WIDER:
            names.append("packets")
        usual = [fields.field_of(name, connections=self.look.connections) for name in names]
        return [*usual, *fields.optional_fields()]

    def _chunk(self, parts: list[Table], order: list[int] | None) -> bytes:
        cells = {
            one.name: fields.merged([one.texts(part, self.look) for part in parts], order)
            for one in self._fields
        }
        moments = np.concatenate([fields.row_times(part, self.look) for part in parts])
        inbound = np.concatenate(
            [ends_of(part, self.look.inside).kind == Kind.IN for part in parts]
        )
        if order is not None:
            moments, inbound = moments[order], inbound[order]
        lines = [self._grid.head()] if self._grid.fit(cells, {one.family for one in parts}) else []
        between = self._between(moments)
        for number, line in enumerate(self._grid.rows(cells, fields.items(inbound))):
            lines += between.get(number, ())
            lines.append(line)
        return _joined(lines)

    def _between(self, moments: NDArray[np.int64]) -> dict[int, list[str]]:
        """The lines before rows, by the number of the row: of days and of holes."""
        found: dict[int, list[str]] = {}
        for row, text in self._days(moments):
            found.setdefault(row, []).append(text)
        latest = int(moments.max())
        while self.holes and self.holes[0][0] <= latest:
            start, text = self.holes.pop(0)
            found.setdefault(int(np.argmax(moments >= start)), []).append(self._hole(text))
        return found

    def _days(self, moments: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Where another day, or another offset from UTC, begins: the row, and the line."""
        if self.look.dated:
            return
        seconds = moments // times.SECOND
        offset = np.zeros_like(seconds) if self.look.utc else dates.utc_offset(seconds)
        day = (seconds + offset) // 86400
        changes = np.flatnonzero((np.diff(day) != 0) | (np.diff(offset) != 0)) + 1
        for row in [0, *fields.items(changes)]:
            one = (int(day[row]), int(offset[row]))
            if one != self._day:
                self._day = one
                yield row, self._paint("head", self._rule(*one))

    def _rule(self, day: int, offset: int) -> str:
        """The line of a day: its date, and what its times are."""
        date = time.strftime("%Y-%m-%d", time.gmtime(day * 86400))
        line = self._signs.line
        text = f"{line * 2} {_WEEKDAYS[day % 7]} {date} UTC{fields.offset_text(offset)} "
        return self._fitted(text + line * max((self._width or 80) - len(text), 0))

    def _hole(self, text: str) -> str:
        """A hole in full: no column of it can be shortened."""
        mark, space = f"{self._signs.line * 2} ", " " * 3
        wrapped = textwrap.wrap(
            text, self._width or 10_000, initial_indent=mark, subsequent_indent=space
        )
        return "\n".join(self._paint("hole", line) for line in wrapped)

    def _fitted(self, text: str) -> str:
        if self._width is None or len(text) <= self._width:
            return text
        return text[: self._width - 1] + self._signs.cut


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
