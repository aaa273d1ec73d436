"""A bar over time, one character for each part of a window, and an axis of times.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ctrecorder import times
from ctrecorder.render import dates
from ctrecorder.times import SECOND

SEVERAL = "*"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# Steps of the axis in seconds: the first with room for its labels is taken.
_STEPS: tuple[int, ...] = (
    *(1, 5, 15, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY, 91 * _DAY, 364 * _DAY, 3640 * _DAY),
)
_LABEL_ROOM = 3  # columns between two labels


class Glyphs(NamedTuple):
    """The characters of a bar that are no letters of holes."""

    recorded: str
    version_1_0: str
    uncounted: str
    partly: str
    nothing: str
    live: str
    later: str


BLOCKS = Glyphs("█", "▓", "▒", "▌", "·", "►", " ")
ASCII = Glyphs("#", "=", "-", "+", ".", ">", " ")


class Stretch(NamedTuple):
    """A span of the bar.

    `letter`: of a hole; "" for what is recorded.
    `basis`: what the coverage rests on; "" if it is no recorded span.
    `not_yet`: the time has not come yet.
    """

    start: int
    end: int
    letter: str = ""
    basis: str = ""
    not_yet: bool = False


class _Cell:
    """What one character stands for."""

    def __init__(self) -> None:
        self.letters: set[str] = set()
        self.bases: set[str] = set()
        self.recorded = 0
        self.later = False


def bar(stretches: Iterable[Stretch], since: int, until: int, width: int, glyphs: Glyphs) -> str:
    """`width` characters for since..until, ns UTC.

    A hole is shown in each character that it touches, however short it is.  Stretches that are
    recorded do not overlap each other.
    """
    edges = [since + (until - since) * number // width for number in range(width + 1)]
    cells = [_Cell() for _ in range(width)]
    for one in stretches:
        first = min((one.start - since) * width // (until - since), width - 1)
        # Division rounds an edge down, so that a span may begin in the character before.
        for number in range(max(first - 1, 0), width):
            start, end = edges[number], edges[number + 1]
            if start >= one.end:
                break
            shared = min(end, one.end) - max(start, one.start)
            if shared <= 0:
                continue
            cell = cells[number]
            cell.later |= one.not_yet
            if one.letter:
                cell.letters.add(one.letter)
            elif one.basis:
                cell.bases.add(one.basis)
                cell.recorded += shared
    return "".join(
        _glyph(cell, edges[number + 1] - edges[number], glyphs) for number, cell in enumerate(cells)
    )


def _glyph(cell: _Cell, length: int, glyphs: Glyphs) -> str:
    """The character of one cell of `length` ns: the worst that it contains."""
    if len(cell.letters) > 1:
        return SEVERAL
    if cell.letters:
        return next(iter(cell.letters))
    if cell.later:
        return glyphs.live if cell.recorded else glyphs.later
    if not cell.recorded:
        return glyphs.nothing
    if cell.recorded < length:
        return glyphs.partly
    if "nothing" in cell.bases:
        return glyphs.uncounted
    return glyphs.version_1_0 if "version 1.0" in cell.bases else glyphs.recorded


def axis(since: int, until: int, width: int, *, utc: bool) -> str:
    """At most `width` characters: times, each behind a mark below the character of that time.

    Labels are times of day, with the date at midnight, or dates.
    """
    cell_seconds = (until - since) / SECOND / width
    steps = (step for step in _STEPS if step >= (_label_length(step) + _LABEL_ROOM) * cell_seconds)
    step = next(steps, 0)
    line = ""
    for tick in _ticks(since // SECOND, until // SECOND, step, utc) if step else ():
        column = (tick * SECOND - since) * width // (until - since)
        label = f"'{_label(tick, step, utc)}"
        if len(line) <= column <= width - len(label):
            line = line.ljust(column) + label
    return line


def _ticks(first: int, last: int, step: int, utc: bool) -> Iterator[int]:
    """The seconds from `first` to `last` that are multiples of `step` in local time, or in UTC."""
    offset = _offset(first, utc)
    for local in range(first + offset + -(first + offset) % step, last + offset, step):
        tick = local - offset
        # The clock may have been changed for summer since `first`.
        yield local - _offset(tick, utc) if step >= _HOUR else tick


def _offset(second: int, utc: bool) -> int:
    """Seconds by which the time of the labels is ahead of UTC."""
    return 0 if utc else int(dates.utc_offset(np.array([second]))[0])


def _label_length(step: int) -> int:
    return 10 if step >= 28 * _DAY else 5 if step >= _MINUTE else 8


def _label(second: int, step: int, utc: bool) -> str:
    text = times.text(second * SECOND, utc=utc)
    if step >= 28 * _DAY:
        return text[:10]
    if step >= _DAY or (step >= _MINUTE and text[11:19] == "00:00:00"):
        return text[5:10]
    return text[11:16] if step >= _MINUTE else text[11:19]
