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
from ctrecorder.moments.abbreviations import ABBREVIATIONS, Meaning
from ctrecorder.terminal import printable

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

# No zone is further from UTC.  More is the end of a range, such as 18:17-18:20.
MAX_OFFSET_MINUTES = 14 * 60
_OFFSET = re.compile(
    r"(?:(?P<utc>UTC|GMT) ?)?(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d\d))?", re.A | re.I
)
_COMMENT = re.compile(r"(?P<zone>[^(\[]*?) ?[(\[](?P<comment>[^()\[\]]*)[)\]]")
_IANA = re.compile(r"[A-Za-z][\w+-]*(?:/[\w+-]+){0,2}", re.A)
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
class Choice:
    """One meaning of a text of a zone.

    `instead`: zones that apply if, by this one, the clocks of `instead` had another offset then.
    """

    zone: Zone
    instead: tuple[Zone, ...] = ()

    def zones(self, begin: int, end: int) -> Iterator[Zone]:
        """The zones that the wall time [begin, end) may be of."""
        yield self.zone
        mine = self.zone.spans(begin, end)
        others = [other.spans(begin, end) for other in self.instead]
        if any(set(mine) & set(spans) for spans in others):
            return
        yield from (other for other, spans in zip(self.instead, others, strict=True) if spans)


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


def choices(text: str) -> tuple[Choice, ...]:
    """The meanings of a text of a zone; () for "" and for "-0000", which is no zone.

    Raises UsageError: unknown.
    """
    word = " ".join(text.split())
    match = _COMMENT.fullmatch(word)
    if match is None:
        return _simple(word)
    if not match["zone"]:
        return _simple(match["comment"].strip())
    found = _simple(match["zone"])
    try:
        noted = _simple(match["comment"].strip())
    except UsageError:
        return found  # a comment of RFC 5322 can be any text
    return tuple(_compared(one, noted) for one in found)


def _compared(one: Choice, noted: tuple[Choice, ...]) -> Choice:
    """The zone `one` with a comment: if they contradict each other, both are read.

    An offset is exact, so the other seasons of its comment do not count.
    """
    zones = tuple(each for choice in noted for each in (choice.zone, *choice.instead))
    return Choice(one.zone, zones) if zones else one


def _simple(word: str) -> tuple[Choice, ...]:
    if word.upper() in ("Z", "UTC", "GMT", "UT", "ZULU"):
        return (Choice(UTC),)
    match = _OFFSET.fullmatch(word)
    if match:
        return _offset(word, match)
    if word.upper() in ABBREVIATIONS:
        return tuple(_meaning(word.upper(), one) for one in ABBREVIATIONS[word.upper()])
    return (Choice(iana(word)),) if word else ()


def _offset(word: str, match: re.Match[str]) -> tuple[Choice, ...]:
    minutes = int(match["hours"]) * 60 + int(match["minutes"] or 0)
    if len(match["hours"]) == 1 and not match["utc"]:
        raise UsageError(f"'{word}' is no zone: write {match['sign']}0{match['hours']}:00")
    if minutes > MAX_OFFSET_MINUTES or int(match["minutes"] or 0) > 59:
        raise UsageError(f"'{word}' is no zone (-14:00 to +14:00), and a range is two times")
    if not minutes:
        return (Choice(UTC),) if match["utc"] or match["sign"] == "+" else ()
    return (Choice(fixed(-minutes if match["sign"] == "-" else minutes)),)


def _meaning(name: str, meaning: Meaning) -> Choice:
    if meaning.minutes is None:
        region = iana(meaning.region)
        return Choice(Zone(f"{name} ({region.label})", region.offset))
    zone = fixed(meaning.minutes)
    instead = (iana(meaning.region),) if meaning.region else ()
    return Choice(Zone(f"{name} ({zone.label})", zone.offset), instead)


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
