"""A written time as the instants that it can mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from ctrecorder.errors import UsageError
from ctrecorder.moments import grammar, relative, wall
from ctrecorder.moments import zones as zone_texts
from ctrecorder.moments.grammar import WEEKDAYS, Written
from ctrecorder.moments.moment import Basis, Moment, Reading, Zones
from ctrecorder.moments.zones import LOCAL, UTC, Meaning, Zone, ZoneText
from ctrecorder.terminal import printable
from ctrecorder.times import BEGIN, DAY, END, HOUR, SECOND

# Seconds of 10 digits and ms of 13: any other number can be one of a hundred things.
_EPOCH = re.compile(
    r"@(?P<typed>\d{1,10})(?:\.(?P<decimals>\d{1,9}))?"
    r"|(?P<seconds>[1-9]\d{9})(?:\.(?P<fraction>\d{1,9}))?|(?P<ms>[1-9]\d{12})",
    re.ASCII,
)
_FIRST_DAY = date(1970, 1, 1).toordinal()
# A time without a year is the last one before now.  The clock that wrote it can be ahead of ours.
_AHEAD = HOUR
# A field of a letter is shown in an error up to this length.
_SHOWN = 80
_HINT = (
    "use 2026-11-23, '2026-11-23 18:17', 18:17:30, 2026-11-23T18:17:30Z, -2h, today, "
    "'yesterday 12:00', monday, now or @SECONDS"
)

_NO_ZONES = Zones()


def read(
    text: str,
    now: int,
    zones: Zones = _NO_ZONES,
    day_first: bool | None = None,
    *,
    years: int = 1,
) -> Moment:
    """The readings of a time as it is written; at least one.

    A date is the whole day, a time without seconds the whole minute, and the last decimal place
    its own length: a reading spans all instants that would be written so.  `now`: ns; a time
    without a year is the last one that begins before an hour from `now`.  `day_first`: whether
    2/3/2026 is of March; None: both.  `years`: how many of the last years, of those that go with
    its day of the week, one without a year can be of.  A reading of a wall time that its zone skips
    is left out.

    Raises UsageError, one line: of no known form, no such day or time of day, another day of the
    week, an unknown zone, a wall time that no clock showed.
    """
    try:
        return Moment(text, tuple(_readings(" ".join(text.split()), now, zones, day_first, years)))
    except UsageError as error:
        shown = text if zones.local or len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise UsageError(f"cannot read the time '{printable(shown)}': {error}") from None


def _readings(
    word: str, now: int, zones: Zones, day_first: bool | None, years: int
) -> list[Reading]:
    found = list(_relative(word, now, zones) if zones.local else ()) or list(_epoch(word))
    if not found:
        written = grammar.parse(word.replace("\u2212", "-"), typed=zones.local, day_first=day_first)
        if written is None:
            raise UsageError(_HINT if zones.local else "it is of no known form")
        found = list(_absolute(written, now, zones, years))
    if any(not BEGIN <= begin <= end <= END for each in found for begin, end in each.spans):
        raise UsageError("it is outside the years 1970 to 2262")
    return list({each.spans: each for each in reversed(found)}.values())[::-1]


def _relative(word: str, now: int, zones: Zones) -> Iterator[Reading]:
    known, basis = _without_zone(zones)
    zone = known.meanings[0].zone if known else UTC
    moment = relative.instant(word, now, zone.offset)
    if moment is not None:
        spans = ((moment, moment),)
        yield Reading(spans, basis, _label(zone, spans))


def _epoch(word: str) -> Iterator[Reading]:
    match = _EPOCH.fullmatch(word)
    if match is None:
        return
    if match["ms"]:
        begin, length = int(match["ms"]) * (SECOND // 1000), SECOND // 1000
    else:
        digits = match["decimals"] or match["fraction"] or ""
        length = int(10 ** (9 - len(digits)))
        begin = int(match["typed"] or match["seconds"]) * SECOND + int(digits or 0) * length
    yield Reading(((begin, begin + length),), Basis.FORMAT, UTC.label)


def _absolute(written: Written, now: int, zones: Zones, years: int) -> Iterator[Reading]:
    known, basis = zone_texts.parse(written.zone), Basis.GIVEN
    if known is None:
        known, basis = _without_zone(zones)
    if known is None:
        _of_weekday(written, _last_years(written, now + DAY, years))
        yield Reading((), Basis.UNKNOWN, "")
        return
    first = known.meanings[0].zone
    found = False
    for begin in _begins(written, now, first, years):
        at = known.all_at if basis is Basis.NOTED else known.at
        for zone, spans in at(begin, begin + written.length):
            if spans:
                found = True
                yield Reading(spans, basis, _label(zone, spans))
    if not found:
        where = first.label or "local time"
        raise UsageError(f"no clock showed it: the clocks of {where} were set forward over it")


def _without_zone(zones: Zones) -> tuple[ZoneText | None, Basis]:
    """The zone of a time that names none; None and UNKNOWN: nothing is known."""
    texts = ((zones.noted, Basis.NOTED), (zones.format, Basis.FORMAT), (zones.option, Basis.OPTION))
    for text, basis in texts:
        known = zone_texts.parse(text)
        if known is not None:
            return known, basis
    return (ZoneText((Meaning(LOCAL),)), Basis.LOCAL) if zones.local else (None, Basis.UNKNOWN)


def _begins(written: Written, now: int, zone: Zone, years: int) -> Iterator[int]:
    """The wall times at which it can begin."""
    clock = wall.show(now, zone.offset)
    if written.days:
        days = _last_years(written, clock + _AHEAD, years)
        for day in _of_weekday(written, days):
            yield (day.toordinal() - _FIRST_DAY) * DAY + written.begin
        return
    today = clock // DAY
    if written.word == "yesterday":
        today -= 1
    elif written.word in WEEKDAYS:
        # 1970 began on a Thursday.
        today -= (today + 3 - WEEKDAYS.index(written.word)) % 7
    yield today * DAY + written.begin


def _last_years(written: Written, limit: int, years: int) -> list[date]:
    """Each day, in the last `years` in which it begins before the wall time `limit` if it has none.

    Of several years only those that go with the day of the week.
    """
    found = []
    for year, month, day in written.days:
        if year is not None:
            found.append(date(year, month, day))
            continue
        latest = date.fromordinal(_FIRST_DAY + limit // DAY).year
        left = years
        # 8 years can pass between leap years, and 40 until one has the same days of the week.
        for candidate in range(latest, latest - (9 if years == 1 else 81), -1):
            try:
                one = date(candidate, month, day)
            except ValueError:
                continue
            if (one.toordinal() - _FIRST_DAY) * DAY + written.begin > limit:
                continue
            if years > 1 and written.weekday not in (None, one.weekday()):
                continue
            found.append(one)
            left -= 1
            if not left:
                break
    return found


def _of_weekday(written: Written, days: list[date]) -> list[date]:
    """Those of `days` that the day of the week allows.  Raises UsageError: none."""
    found = [day for day in days if written.weekday in (None, day.weekday())]
    if not found:
        raise UsageError(
            f"{days[0]} was a {days[0]:%A}, not a {date(2024, 1, 1 + (written.weekday or 0)):%A}"
        )
    return found


def _label(zone: Zone, spans: tuple[tuple[int, int], ...]) -> str:
    """The name of a zone; local time: its offsets then."""
    offsets = dict.fromkeys(wall.local(begin // SECOND) for begin, _ in spans)
    return zone.label or " and ".join(zone_texts.offset_text(each) for each in offsets)
