"""The times of one letter: what it says about their zones, and how its dates are written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from ctrecorder.envelopes.bounds import MAX_TIME_LINE, MAX_TIMES, Refused
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.errors import UsageError
from ctrecorder.moments.find import find
from ctrecorder.moments.moment import Basis, Moment, Zones
from ctrecorder.moments.reader import read
from ctrecorder.terminal import printable
from ctrecorder.times import HOUR, MINUTE

_ZONE = (
    r"(?P<zone>(?-i:[+-]\d\d:?\d\d(?: \([A-Z]{3,4}\))?"
    r"|(?:UTC|GMT)(?: ?[+-]\d{1,2}(?::?\d\d)?)?|[A-Z]{3,4}"
    r"|[A-Z][a-z]+/[A-Z][A-Za-z_]+))(?![\w/])"
)
# "Local timezone is +0100 (CET)", "Time zone: Europe/Berlin", "all times are in UTC", and with no
# verb "All times UTC", "Timestamps (UTC)": of several times only.
_NOTES = (
    re.compile(
        rf"\b(?:time ?zone|zeitzone)(?: of (?:the )?\w{{1,20}})?(?: is| ist)?[ :=]{{1,8}}{_ZONE}",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?:times?|time ?stamps?|dates)(?: \w{{1,12}}){{0,3}} (?:in|are|is)(?: in)? {_ZONE}",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:times?|time ?stamps?) (?:are|is) (?:given|shown|listed|reported|expressed)"
        rf" (?:in|as)(?: local time)? \(?{_ZONE}",
        re.IGNORECASE,
    ),
    # The same in German, French, Dutch and Spanish.
    re.compile(
        r"(?<!\d )\b(?:zeiten|zeitangaben|uhrzeiten|heures|tijden|horas)(?: \w{1,12}){0,3}"
        rf" (?:in|en|sind|zijn|son)(?: in)? {_ZONE}",
        re.IGNORECASE,
    ),
    re.compile(rf"\b(?:times|time ?stamps|dates)[ :]{{1,3}}\(?{_ZONE}", re.IGNORECASE),
)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)\)?$")
_CLOCK = re.compile(r"\d:\d\d|\d ?[AaPp]\.?[Mm]")
_SLASHES = re.compile(r"(?<![\d/.])(\d{1,2})[/-](\d{1,2})[/-]\d{4}(?!\d)")
# Lines that are searched for times with a zone, to find one that a table tells again without it.
_MAX_TOLD = 300
_WITH_ZONE = re.compile(r"\d:\d\d.{0,20}(?:[+-]\d\d|Z\b|UTC|GMT|[A-Z]{2,4}T\b)")


class Clock:
    """Reads the times of one letter.

    `now`: the date of the mail, or the present time, ns: a letter tells of the past.  `option`: the
    zone that the operator gives.  `texts`: what may note a zone.  `dated`: the letter has a date;
    else a time without a year has two readings.
    """

    def __init__(self, texts: Iterable[Text], now: int, option: str, *, dated: bool = True) -> None:
        self._now, self._option = now, option
        self._years = 1 if dated else 2
        self._texts = list(texts)
        self._day_first: bool | None = None
        self._noted = ""
        self._searched = 0
        self._found: dict[str, list[tuple[int, int]]] = {}
        self._look()

    def read(self, text: Text, start: int, end: int, **zones: str) -> Field[Moment] | None:
        """The time at text[start:end]; None: it is not one.

        `zones`: `convention`, the zone of the format; `noted`, a note of its own.
        """
        moment = self.moment(text.text[start:end], **zones)
        return text.field(moment, start, end) if moment else None

    def moment(self, word: str, *, noted: str = "", convention: str = "") -> Moment | None:
        """The time of a text; None: it is not one."""
        if not noted and not convention:
            noted = self._noted or self._told_before(word)
        moment = self._try(word, Zones(noted, convention, self._option))
        return Moment(printable(" ".join(word.split())), moment.readings) if moment else None

    def find(self, line: str) -> list[tuple[int, int]]:
        """Where times stand in a line.  Raises Refused."""
        line = line[:MAX_TIME_LINE]
        if not _CLOCK.search(line):
            return []
        found = self._found.get(line)
        if found is None:
            self._searched += len(line)
            if self._searched > MAX_TIMES:
                raise Refused(f"refused: its lines with times are longer than {MAX_TIMES:,}")
            found = self._found[line] = list(find(line))
        return found

    def _try(self, word: str, zones: Zones) -> Moment | None:
        try:
            moment = read(word, self._now, zones, self._day_first, years=self._years)
        except UsageError:
            return None
        if len(moment.readings) > 1:
            # A letter does not tell of what came after it.
            past = [
                reading
                for reading in moment.readings
                if not reading.spans or reading.spans[0][0] <= self._now + 26 * HOUR
            ]
            moment = Moment(moment.text, tuple(past)) if past else moment
        return moment

    def _told_before(self, word: str) -> str:
        """The zone of the same time on the wall, where the letter tells it with its zone."""
        moment = self._try(word, Zones(format="UTC"))
        wall = _wall(moment) if moment else None
        zones = self._told.get(wall[0], set()) if wall else set()
        return next(iter(zones)) if len(zones) == 1 else ""

    def _look(self) -> None:
        """Find the notes of zones, and the order of day and month."""
        notes: set[str] = set()
        orders: set[bool] = set()
        for text in self._texts:
            for _, line in text.lines():
                notes |= {match["zone"] for note in _NOTES for match in note.finditer(line)}
                for match in _SLASHES.finditer(line):
                    first, second = int(match[1]), int(match[2])
                    if (first > 12) != (second > 12):
                        orders.add(first > 12)
        good = {note for note in notes if self._try("2001-02-03 04:05:06", Zones(note))}
        # "+0100" and "+0100 (CET)" note the same.
        offsets = {note.split(" (")[0] for note in good}
        self._noted = max(good, key=len) if len(offsets) == 1 else ""
        self._day_first = orders.pop() if len(orders) == 1 else None

    @cached_property
    def _told(self) -> dict[int, set[str]]:
        """The times that the letter tells with their offsets: time on the wall -> offsets."""
        told: dict[int, set[str]] = {}
        left = _MAX_TOLD
        for text in self._texts:
            for _, line in text.lines():
                if left <= 0:
                    return told
                if not _WITH_ZONE.search(line):
                    continue
                left -= 1
                for start, end in self.find(line):
                    moment = self._try(line[start:end], Zones())
                    wall = _wall(moment) if moment else None
                    if wall and wall[1] is Basis.GIVEN:
                        told.setdefault(wall[0], set()).add(wall[2])
        return told


def _wall(moment: Moment) -> tuple[int, Basis, str] | None:
    """Time on the wall in ns, basis, and offset of a time that is read in one way."""
    if len(moment.readings) != 1 or len(moment.readings[0].spans) != 1:
        return None
    reading = moment.readings[0]
    match = _OFFSET.search(reading.zone)
    if match is None and reading.zone != "UTC":
        return None
    offset = (int(match[2]) * HOUR + int(match[3]) * MINUTE) if match else 0
    sign = -1 if match and match[1] == "-" else 1
    zone = f"{match[1]}{match[2]}:{match[3]}" if match else "UTC"
    return reading.spans[0][0] + sign * offset, reading.basis, zone


def begin(field: Field[Moment] | None) -> int | None:
    """The first instant that a time can be; None: unknown."""
    if field is None:
        return None
    starts = [span[0] for reading in field.value.readings for span in reading.spans]
    return min(starts, default=None)


def known(field: Field[Moment] | None) -> bool:
    """Whether a question can be asked about this time."""
    return field is not None and any(
        reading.spans and reading.basis is not Basis.UNKNOWN for reading in field.value.readings
    )
