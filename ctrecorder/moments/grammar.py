"""The forms of written times: from a text to the days, the time of day and the zone it names.

Each form is strict: a text is of it from its first character to its last.  Nothing is filled in
here: a year that is not written stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import NamedTuple

from ctrecorder.errors import UsageError
from ctrecorder.moments.abbreviations import ABBREVIATIONS
from ctrecorder.times import DAY, HOUR, MINUTE, SECOND

# The names of months, also in German, French, Dutch and Spanish, and how they are shortened.
MONTHS = (
    ("january", "januari", "januar", "janvier", "jänner", "enero", "janv", "jan", "ene"),
    ("february", "februari", "februar", "février", "fevrier", "febrero", "févr", "fév", "feb"),
    ("march", "maart", "märz", "maerz", "marzo", "mars", "mar", "mär", "mrz", "mrt"),
    ("april", "avril", "abril", "apr", "avr", "abr"),
    ("mayo", "may", "mai", "mei"),
    ("junio", "june", "juni", "juin", "jun"),
    ("juillet", "julio", "july", "juli", "juil", "jul"),
    ("augustus", "august", "agosto", "août", "aout", "aug", "ago"),
    ("september", "septembre", "septiembre", "sept", "sep"),
    ("october", "oktober", "octobre", "octubre", "oct", "okt"),
    ("november", "novembre", "noviembre", "nov"),
    ("december", "dezember", "décembre", "decembre", "diciembre", "dec", "dez", "déc", "dic"),
)
_MONTH_OF = {name: number for number, names in enumerate(MONTHS, 1) for name in names}
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# The same in German, French, Dutch and Spanish; of letters alone.
_DAYS = (
    ("montag", "lundi", "maandag", "lunes", "mo"),
    ("dienstag", "mardi", "dinsdag", "martes", "di"),
    ("mittwoch", "mercredi", "woensdag", "miércoles", "mi"),
    ("donnerstag", "jeudi", "donderdag", "jueves", "do"),
    ("freitag", "vendredi", "vrijdag", "viernes", "fr"),
    ("samstag", "sonnabend", "samedi", "zaterdag", "sábado", "sa"),
    ("sonntag", "dimanche", "zondag", "domingo", "so"),
)
_DAY_OF = {name: WEEKDAYS[number] for number, names in enumerate(_DAYS) for name in names}
# times.END is in 2262.
YEARS = range(1970, 2263)


class Day(NamedTuple):
    """A day of the calendar; `year` None: not written."""

    year: int | None
    month: int
    day: int


@dataclass(frozen=True)
class Written:
    """A text, taken apart.

    `days`: as the date can be read; () if there is none.  `word`: "today", "yesterday" or a day of
    the week in place of a date.  `weekday`: 0 is Monday; it stands beside the date.  `begin`,
    `length`: the time of day and what it covers, ns.  `zone`: its text, "" if there is none.
    """

    days: tuple[Day, ...]
    word: str
    weekday: int | None
    begin: int
    length: int
    zone: str


# The parts.  A space stands for white space; (?P=dash) is the same separator again.
_WEEKDAY = (
    "(?P<weekday>mon(?:day)?|tue(?:s|sday)?|wed(?:nesday)?|thu(?:rs|rsday)?|fri(?:day)?"
    "|sat(?:urday)?|sun(?:day)?)"
)
_MONTH = f"(?P<name>{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})\\b\\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?"
_YEAR = r"(?P<year>\d{4})"
_PREFIX = f"(?:{_WEEKDAY[:-1]}|{'|'.join(_DAY_OF)})[,.]? )?"
_HALF = r" ?(?P<half>[ap]\.?m\.?)(?![a-z])"
_CLOCK = (
    r"(?=\d{1,2}(?::\d\d| ?[ap]\.?m))(?P<hour>\d{1,2})"
    r"(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    f"(?:{_HALF})?(?: uhr)?"
)
_BETWEEN = ",? (?:(?:at|um|om|à|a las) )?"
# Dates with what can stand between them and the time of day.
_DATES = (
    (
        rf"{_YEAR}(?P<dash>[-./])(?P<month>\d{{1,2}})(?P=dash)(?P<day>\d{{1,2}})",
        f"(?:t|{_BETWEEN})",
    ),
    (f"{_DAY}(?P<dash>[-/]| )(?:de )?{_MONTH},?(?P=dash)(?:de )?{_YEAR}", f"(?::|{_BETWEEN})"),
    (f"{_MONTH} {_DAY},? {_YEAR}", _BETWEEN),
    (rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.{_YEAR}", _BETWEEN),
    (rf"(?P<first>\d{{1,2}})(?P<dash>[-/])(?P<other>\d{{1,2}})(?P=dash){_YEAR}", _BETWEEN),
)
_NO_YEAR = (f"{_MONTH} {_DAY}", f"{_DAY} {_MONTH}", r"(?P<first>\d{1,2})/(?P<other>\d{1,2})")
# The forms of times in letters and logs, of days alone, and of what operators type.  <zone> is a
# zone at the end, <inner> one before the year (date(1)), or between a time and its date.
_FORMS = (
    *(f"{_PREFIX}{day}{between}{_CLOCK}<zone>" for day, between in _DATES),
    *(f"{_PREFIX}{day} {_CLOCK}(?: <inner>)? {_YEAR}<zone>" for day in _NO_YEAR[:2]),
    *(f"{_PREFIX}{day}{_BETWEEN}{_CLOCK}<zone>" for day in _NO_YEAR),
    *(f"{_CLOCK}(?: ?<inner>)?,? (?:on )?{_PREFIX}{day}<zone>" for day, _ in _DATES),
    # Suricata: always the month first, and always microseconds.
    rf"(?P<month>\d\d)/(?P<day>\d\d)/{_YEAR}-(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"\.(?P<fraction>\d{6})<zone>",
    rf"{_YEAR}(?P<month>\d\d)(?P<day>\d\d)t(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)"
    r"(?:[.,](?P<fraction>\d{1,9}))?<zone>",
)
_DAY_FORMS = tuple(f"{_PREFIX}{day}<zone>" for day, _ in _DATES)
_TYPED_FORMS = (
    f"(?P<word>today|yesterday|{_WEEKDAY})(?:{_BETWEEN}{_CLOCK})?<zone>",
    f"{_CLOCK}<zone>",
)

# When a whole text is read, a zone is all that can be meant as one, so that an error names it.
_ANY_ZONE = (
    r"(?P<zone>(?: ?z| ?(?:utc|gmt|ut)?(?: ?[+-]\d[\d:]*)?| [a-z][\w/+-]*)"
    r"(?: ?[(\[][^()\[\]]{1,60}[)\]])?)"
)
_ANY_INNER = r"(?P<inner>[a-z]{1,5}|[+-]\d\d(?::?\d\d)?)"
# In a free text it is only what is surely one: the next word belongs to the text.
_NAMES = f"(?-i:{'|'.join(['UTC', 'GMT', 'UT', 'Z', *ABBREVIATIONS])})(?!\\w)"
_AREAS = "africa|america|antarctica|asia|atlantic|australia|europe|indian|pacific|etc"
_SURE_ZONE = (
    r"(?P<zone>(?: ?(?:utc|gmt) ?[+-]\d{1,2}(?::?\d\d)?(?![\w:])| ?(?:utc|gmt|z)(?!\w)"
    r"| ?[+-](?:0\d|1[0-4]):?[0-5]\d(?![\w:])|[+-](?:0\d|1[0-4])(?![\w:]|\.\d)"
    rf"| {_NAMES}| (?:{_AREAS})/[a-z_+-]+\d{{0,2}}(?:/[a-z_]+)?(?![\w/+-]))?"
    rf"(?: ?\((?:{_NAMES}|(?:(?:utc|gmt) ?)?[+-]\d{{1,2}}(?::?\d\d)?)\)|\[[a-z_]+/[a-z_/+-]+\])?)"
)
_SURE_INNER = rf"(?P<inner>{_NAMES}|[+-]\d\d(?::?\d\d)?)"
_START, _STOP = r"(?<![\w/.+-])(?<!\d:)", r"(?![\w:])"
_SPACE = r"\s{1,6}"
# Every form has one of these, and is not longer on either side of it.
_ANCHOR = re.compile(r"\d:\d\d|\d\s{0,6}[ap]\.?m|\dt\d{6}", re.ASCII | re.IGNORECASE)
_AROUND = 120


@cache
def _whole(form: str) -> re.Pattern[str]:
    pattern = form.replace("<zone>", _ANY_ZONE).replace("<inner>", _ANY_INNER)
    return re.compile(pattern, re.ASCII | re.IGNORECASE)


@cache
def _inside(form: str) -> re.Pattern[str]:
    pattern = form.replace("<zone>", _SURE_ZONE).replace("<inner>", _SURE_INNER)
    pattern = pattern.replace(" ?", r"\s{0,6}").replace(" ", _SPACE)
    return re.compile(f"{_START}{pattern}{_STOP}", re.ASCII | re.IGNORECASE)


def parse(text: str, *, typed: bool, day_first: bool | None) -> Written | None:
    """A text with single spaces, taken apart; None: of no form.

    `typed`: the forms of operators too.  `day_first`: whether 2/3/2026 is of March; None: it is of
    March or of February.  Raises UsageError: of a form, but there is no such day or time of day.
    """
    # What operators type comes first: each pattern that is tried is compiled, in about a ms.
    typed_forms = (_FORMS[0], _DAY_FORMS[0], *_TYPED_FORMS) if typed else ()
    for form in dict.fromkeys((*typed_forms, *_FORMS, *_DAY_FORMS)):
        match = _whole(form).fullmatch(text)
        if match is not None:
            found = _written(match, day_first)
            if match["zone"].startswith("-") and found.length == MINUTE:
                _refuse_a_range(match, found)
            return found
    return None


def places(text: str) -> Iterator[tuple[int, int]]:
    """Where a form with a day and a time of day stands in a free text; places can overlap."""
    for begin, end in _windows(text):
        for form in _FORMS:
            for match in _inside(form).finditer(text, begin, end):
                with suppress(UsageError):
                    _written(match, None)
                    yield match.span()


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """The parts of a text that are near a time of day: most of a letter is not."""
    begin = end = 0
    for match in _ANCHOR.finditer(text):
        if match.start() - _AROUND > end:
            if end:
                yield begin, end
            begin = match.start() - _AROUND
        end = match.end() + _AROUND
    if end:
        yield begin, min(end, len(text))


def _written(match: re.Match[str], day_first: bool | None) -> Written:
    parts = match.groupdict(default="")
    zone = parts.get("zone", "")
    if parts.get("inner"):
        if zone:
            raise UsageError("it names two zones")
        zone = f" {parts['inner']}"
    word = parts.get("word", "").lower()
    weekday = parts.get("weekday", "").lower()
    weekday = _DAY_OF.get(weekday, weekday[:3])
    begin, length = _time_of_day(parts) if parts.get("hour") else (0, DAY)
    return Written(
        days=_days(parts, day_first) if parts.get("day") or parts.get("first") else (),
        word=weekday if word and weekday else word,
        weekday=WEEKDAYS.index(weekday) if weekday and not word else None,
        begin=begin,
        length=length,
        zone=zone.strip(),
    )


def _days(parts: dict[str, str], day_first: bool | None) -> tuple[Day, ...]:
    """The days that a date can be.  Raises UsageError: none."""
    year = int(parts["year"]) if parts.get("year") else None
    if year is not None and year not in YEARS:
        raise UsageError("it is outside the years 1970 to 2262")
    if parts.get("first"):
        first, other = int(parts["first"]), int(parts["other"])
        pairs = [(other, first), (first, other)]
    else:
        name = parts.get("name", "").lower()
        month = _MONTH_OF[name] if name else int(parts["month"])
        pairs = [(month, int(parts["day"]))]
    # 2000 had a 29 February.
    days = [Day(year, *pair) for pair in pairs if _exists(2000 if year is None else year, *pair)]
    if not days:
        raise UsageError("there is no such day")
    if len(days) > 1 and day_first is not None:
        days = days[:1] if day_first else days[1:]
    return tuple(dict.fromkeys(days))


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _time_of_day(parts: dict[str, str]) -> tuple[int, int]:
    """The time since midnight and what it covers, ns.  Raises UsageError."""
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    half = parts.get("half", "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise UsageError(f"hour {hour} does not go with AM or PM")
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    if second == 60:
        raise UsageError("no clock of Linux shows a leap second (60): use second 59")
    if hour > 23 or minute > 59 or second > 59:
        raise UsageError("there is no such time of day")
    begin = hour * HOUR + minute * MINUTE + second * SECOND
    digits = parts.get("fraction", "")
    if digits:
        length = int(10 ** (9 - len(digits)))
        return begin + int(digits) * length, length
    if parts.get("second"):
        return begin, SECOND
    return begin, MINUTE if parts.get("minute") else HOUR


def _refuse_a_range(match: re.Match[str], found: Written) -> None:
    """Raise UsageError for 18:17-18:20: a zone of -18:20, or until 18:20?"""
    end = re.fullmatch(r"-(\d\d):(\d\d)", found.zone)
    iso = match.string[match.start("hour") - 1 : match.start("hour")].lower() == "t"
    if end and not iso and int(end[1]) * HOUR + int(end[2]) * MINUTE > found.begin:
        raise UsageError(
            f"'{found.zone}' looks like the end of a range: a range is two times, each with its "
            "date; before a zone put a space"
        )
