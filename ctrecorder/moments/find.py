"""Times in a free text."""

from __future__ import annotations

from collections.abc import Iterator

from ctrecorder.moments import grammar


def find(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each part of `text` that looks like a time that `reader.read` can read.

    In order, without overlaps; of two that overlap, the one that begins first, or else the longer
    one.  Only times of day with a date: a date alone, a time alone and a number are too often
    something else.  The part ends with its zone; the next word of the text is not taken for one.
    """
    reached = 0
    for start, end in sorted(grammar.places(text), key=lambda place: (place[0], -place[1])):
        if start >= reached:
            yield start, end
            reached = end
