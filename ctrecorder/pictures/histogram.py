"""A histogram for a terminal: one line for each part of the time.  Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from ctrecorder.pictures.rates import Offsets, Rates, ints
from ctrecorder.pictures.zone import zone_text
from ctrecorder.spans import Span
from ctrecorder.times import DAY, MINUTE, SECOND

_EIGHTHS = " ▏▎▍▌▋▊▉█"
# A bar that is shorter says nothing; the line is then longer than the terminal.
_LEAST_BAR = 8
_UNITS = ((DAY, "d"), (60 * MINUTE, "h"), (MINUTE, "min"), (SECOND, "s"))


def lines(
    rates: Rates,
    holes: Iterable[Span],
    step: int,
    *,
    width: int,
    ascii_only: bool,
    utc: bool,
    offsets: Offsets,
) -> Iterator[str]:
    """The lines, of at most `width` characters.

    `holes`: times that may lack connections, ns.  `step`: the length of a bin, ns.
    """
    counts = ints(rates.total)
    covered = rates.holes(holes)
    labels = [_label(edge, step, utc=utc) for edge in ints(rates.edges[:-1])]
    numbers = [f"{number:,}" for number in counts]
    digits = max(map(len, numbers))
    room = max(width - len(labels[0]) - digits - 3, _LEAST_BAR)
    zone = zone_text(rates.edges, offsets, utc=utc)
    yield f"Connections begun in each {step_text(step)}; {zone}"
    if any(covered):
        yield "! marks a hole: more can have begun"
    most = max(counts)
    for label, count, number, hole in zip(labels, counts, numbers, covered, strict=True):
        mark = "!" if hole else " "
        bar = "not recorded" if hole == "all" and not count else _bar(count, most, room, ascii_only)
        shown = " " * digits if hole == "all" and not count else number.rjust(digits)
        yield f"{label} {mark}{shown} {bar}".rstrip()


def step_text(step: int) -> str:
    """A length as "15 min"."""
    for unit, name in _UNITS:
        if step % unit == 0:
            return f"{step // unit} {name}"
    return f"{step / SECOND:g} s"


def _bar(count: int, most: int, room: int, ascii_only: bool) -> str:
    """A bar of at most `room` characters.  A count that is not 0 is at least a mark."""
    if not count:
        return ""
    if ascii_only:
        return "#" * max(count * room // most, 1)
    eighths = max(count * room * 8 // most, 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _label(edge: int, step: int, *, utc: bool) -> str:
    second = edge // SECOND
    fields = time.gmtime(second) if utc else time.localtime(second)
    if step % DAY == 0:
        return time.strftime("%Y.%m.%d", fields)
    return time.strftime("%Y.%m.%d %H:%M:%S" if step % MINUTE else "%Y.%m.%d %H:%M", fields)
