"""The texts of zones: "+01:00", "UTC", "GMT+2", "PDT", "+0100 (CET)", "Europe/Berlin".

zoneinfo is imported for a name of IANA, or an abbreviation of a region, alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ctrecorder.errors import UsageError
from ctrecorder.moments import wall
from ctrecorder.moments.abbreviations import ABBREVIATIONS
from ctrecorder.terminal import printable

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

# No zone is further from UTC.  More is the end of a range, such as 18:17-18:20.
MAX_OFFSET_MINUTES = 14 * 60
_OFFSET = re.compile(
    r"(?:(?P<utc>UTC|GMT) ?)?(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d\d))?",
    re.ASCII | re.IGNORECASE,
)
_COMMENT = re.compile(r"(?P<zone>[^(\[]*?) ?[(\[](?P<comment>[^()\[\]]*)[)\]]")
_IANA = re.compile(r"[A-Za-z][\w+-]*(?:/[\w+-]+){0,2}", re.ASCII)
# A rule of POSIX in TZ: "CET-1CEST,M3.5.0,M10.5.0/3", "<+03>-3".
_POSIX = re.compile(r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?\d")
# Names of zoneinfo that are no zones, or count leap seconds as no log does.
_NOT_ZONES = ("posix/", "right/", "posixrules", "localtime", "Factory")


@dataclass(frozen=True)
class Zone:
    """A zone: its name for readers, and its offset at each instant."""

    label: str
    offset: wall.Offset

    def spans(self, begin: int, end: int) -> tuple[tuple[int, int], ...]:
        """The instants whose wall time is in [begin, end)."""
        return wall.spans(begin, end, self.offset)


@dataclass(frozen=True)
class Meaning:
    """One meaning of a text of a zone.

    `instead`: the zone that applies if its clocks had another offset then.
    """

    zone: Zone
    instead: Zone | None = None


@dataclass(frozen=True)
class ZoneText:
    """A text of a zone: its meanings, at least one, and those of the comment behind it."""

    meanings: tuple[Meaning, ...]
    comment: tuple[Meaning, ...] = ()

    def at(self, begin: int, end: int) -> Iterator[tuple[Zone, tuple[tuple[int, int], ...]]]:
        """Each zone that the wall time [begin, end) may be of, with its spans, which can be ().

        A comment decides between several meanings.  If it contradicts them, all are possible: CEST
        beside +01:00 does, although the clocks of its region had that offset in winter.
        """
        allowed = {each.zone.spans(begin, end) for each in self.comment}
        strict = [(each.zone, each.zone.spans(begin, end)) for each in self.meanings]
        yield from [one for one in strict if one[1] in allowed] or self.all_at(begin, end)

    def all_at(self, begin: int, end: int) -> Iterator[tuple[Zone, tuple[tuple[int, int], ...]]]:
        """Each zone of the text and of its comment.

        A note about a letter is of the day on which it was written: "+0100 (CET)" is also that of a
        line of the week before, when the clocks had summer time.
        """
        yield from _expand((*self.meanings, *self.comment), begin, end)


def _expand(
    meanings: tuple[Meaning, ...], begin: int, end: int
) -> Iterator[tuple[Zone, tuple[tuple[int, int], ...]]]:
    for meaning in meanings:
        spans = meaning.zone.spans(begin, end)
        yield meaning.zone, spans
        if meaning.instead is not None:
            others = meaning.instead.spans(begin, end)
            if not set(spans) & set(others):
                yield meaning.instead, others


def fixed(minutes: int) -> Zone:
    """The zone of one offset."""
    seconds = minutes * 60
    return Zone(offset_text(seconds), lambda _: seconds)


UTC = Zone("UTC", lambda _: 0)
LOCAL = Zone("", wall.local)


def offset_text(seconds: int) -> str:
    """ "+01:00"; with seconds if it has some."""
    minutes, rest = divmod(abs(seconds), 60)
    end = f":{rest:02d}" if rest else ""
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}{end}"


def parse(text: str) -> ZoneText | None:
    """What a text of a zone means; None: "", or "-0000", which is no zone.

    Raises UsageError: unknown.
    """
    word = " ".join(text.split())
    match = _COMMENT.fullmatch(word)
    main = match["zone"] if match else word
    comment = match["comment"].strip() if match else ""
    if not main:
        main, comment = comment, ""
    meanings = _meanings(main)
    try:
        noted = _meanings(comment)
    except UsageError:
        noted = ()  # a comment of RFC 5322 can be any text
    return ZoneText(meanings, noted) if meanings else None


def _meanings(word: str) -> tuple[Meaning, ...]:
    name = word.upper()
    if name in ("Z", "UTC", "GMT", "UT", "ZULU"):
        return (Meaning(UTC),)
    match = _OFFSET.fullmatch(word)
    if match:
        zone = _offset(word, match)
        return (Meaning(zone),) if zone else ()
    if name in ABBREVIATIONS:
        return tuple(_abbreviated(name, *each) for each in ABBREVIATIONS[name])
    return (Meaning(iana(word)),) if word else ()


def _offset(word: str, match: re.Match[str]) -> Zone | None:
    """The zone of an offset; None: -0000.  Raises UsageError."""
    minutes = int(match["hours"]) * 60 + int(match["minutes"] or 0)
    if len(match["hours"]) == 1 and not match["utc"]:
        raise UsageError(f"'{word}' is no zone: write {match['sign']}0{match['hours']}:00")
    if minutes > MAX_OFFSET_MINUTES or int(match["minutes"] or 0) > 59:
        raise UsageError(f"'{word}' is no zone (-14:00 to +14:00), and a range is two times")
    if not minutes:
        return UTC if match["utc"] or match["sign"] == "+" else None
    return fixed(-minutes if match["sign"] == "-" else minutes)


def _abbreviated(name: str, minutes: int | None, region: str) -> Meaning:
    """One meaning of an abbreviation, as its table has it."""
    place = iana(region) if region else None
    if minutes is None:
        return Meaning(Zone(f"{name} ({region})", place.offset if place else UTC.offset))
    zone = fixed(minutes)
    return Meaning(Zone(f"{name} ({zone.label})", zone.offset), place)


@cache
def iana(name: str) -> Zone:
    """The zone of the IANA database.  Raises UsageError with the nearest names."""
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    zone: ZoneInfo | None = None
    if _IANA.fullmatch(name) and not name.startswith(_NOT_ZONES):
        try:
            zone = ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # unknown, not a file of zones, a folder
            zone = None
    if zone is None:
        raise UsageError(_unknown(name))
    known = zone

    def offset(second: int) -> int:
        moment = datetime.fromtimestamp(second, known)
        return (known.utcoffset(moment) or timedelta(0)) // timedelta(seconds=1)

    return Zone(name, offset)


def _unknown(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    shown = printable(name if len(name) < 60 else name[:57] + "...")
    known = {
        each.lower(): each for each in available_timezones() if not each.startswith(_NOT_ZONES)
    }
    if not known:
        return f"unknown time zone '{shown}': the package tzdata is not installed"
    near = [known[each] for each in get_close_matches(name[:60].lower(), sorted(known), 2, 0.7)]
    hint = f"did you mean {' or '.join(near)}?" if near else "write its offset, such as +01:00"
    return f"unknown time zone '{shown}': {hint}"


def check_tz(value: str) -> None:
    """Raise UsageError if TZ has this value and the C library would take it for UTC in silence."""
    name = value.removeprefix(":")
    if not name or name.startswith("/") or _POSIX.match(name):
        return
    try:
        iana(name)
    except UsageError as error:
        raise UsageError(f"the variable TZ: {error}") from None
