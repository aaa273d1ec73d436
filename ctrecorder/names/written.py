"""The times of a source, of which one is read a million times."""

from __future__ import annotations

import re
from functools import lru_cache

from ctrecorder.errors import UsageError
from ctrecorder.moments.moment import Zones
from ctrecorder.moments.reader import read
from ctrecorder.times import MINUTE, SECOND

_UTC = Zones(format="UTC")
# A time with seconds, of 24 hours: two of them in one quarter of an hour have one offset, because
# clocks are changed at a quarter of an hour.
_WITH_SECONDS = re.compile(
    r"(?P<head>.{8,40}\d\d:)(?P<minute>[0-5]\d):(?P<second>[0-5]\d)"
    r"(?P<zone> ?Z| ?[+-]\d\d:?\d\d| (?![AaPp][Mm]\b)[A-Za-z_/+-]+)?",
    re.ASCII,
)
_QUARTER = 15
Spans = tuple[tuple[int, int], ...]


class Times:
    """Reads times; `now`, `zones` as in `moments.reader.read`."""

    def __init__(self, now: int, zones: Zones) -> None:
        # Some weeks of quarters of an hour.
        @lru_cache(maxsize=4096)
        def cached(text: str) -> tuple[Spans, ...] | str:
            try:
                return tuple(each.spans for each in read(text, now, zones).readings)
            except UsageError as error:
                return str(error)

        self._cached = cached

    def readings(self, text: str) -> tuple[Spans, ...]:
        """The spans of each reading.  Raises ValueError: the text cannot be read."""
        match = _WITH_SECONDS.fullmatch(text)
        if match is None:
            return self._read(text)
        minute, second = int(match["minute"]), int(match["second"])
        quarter = minute // _QUARTER * _QUARTER
        try:
            found = self._read(f"{match['head']}{quarter:02d}:00{match['zone'] or ''}")
        except ValueError:
            return self._read(text)  # the error names what is written
        later = (minute - quarter) * MINUTE + second * SECOND
        return tuple(tuple((begin + later, end + later) for begin, end in spans) for spans in found)

    def spans(self, text: str) -> Spans:
        """The spans of the one reading.  Raises ValueError."""
        found = self.readings(text)
        if len(found) > 1:
            raise ValueError(f"the time '{text}' can be read in several ways")
        if not found[0]:
            raise ValueError(f"the time '{text}' names no zone")
        return found[0]

    def _read(self, text: str) -> tuple[Spans, ...]:
        found = self._cached(text)
        if isinstance(found, str):
            raise ValueError(found)
        return found


def in_utc() -> Times:
    """A reader of times that are UTC if they name no zone."""
    return Times(0, _UTC)
