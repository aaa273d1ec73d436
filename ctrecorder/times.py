"""Times: texts that an operator types, and single times as text.

Every time inside ctrecorder is an int: nanoseconds since 1970-01-01 00:00 UTC.  Local time is the
time of the C library (the variable TZ, or /etc/localtime).  Pure: the caller passes the current
time.  No numpy: the parsers of the commands import this module.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone

from ctrecorder.errors import UsageError

# Lengths of time in ns.  A year has 365.25 days.
MICROSECOND = 1_000
MILLISECOND = 1_000 * MICROSECOND
SECOND = 1_000 * MILLISECOND
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR = 365 * DAY + 6 * HOUR
# The limits of a time in ns: it is stored as an i64, which ends in the year 2262.
BEGIN, END = 0, 2**63 - 1

# Every unit of a length of time that an operator can type, in ns.  --since, --until and the
# settings accept the same names; a plural "s" is accepted as well.
UNITS: Mapping[str, int] = {
    "s": SECOND,
    "sec": SECOND,
    "second": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "minute": MINUTE,
    "h": HOUR,
    "hour": HOUR,
    "d": DAY,
    "day": DAY,
    "w": WEEK,
    "week": WEEK,
    "y": YEAR,
    "year": YEAR,
}
_CLOCK = re.compile(
    r"(?:(?P<year>\d{4})(?P<dash>[-./])(?P<month>\d{1,2})(?P=dash)(?P<day>\d{1,2}))?"
    r"(?:(?:^|[ T])(?P<hour>\d{1,2}):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?(?P<zone> ?Z| ?[+-]\d\d:?\d\d| UTC)?",
    re.IGNORECASE,
)
_AGO = re.compile(
    r"-(?P<minus>(?:\d{1,9}[a-z]+)+)|(?P<ago>(?:\d{1,9} ?[a-z]+ ?)+) ago", re.IGNORECASE
)
_EPOCH = re.compile(r"@(?P<seconds>\d{1,10})(?:\.(?P<fraction>\d{1,9}))?")


def parse_span(text: str, now: int, *, utc: bool = False) -> tuple[int, int]:
    """The span [begin, end) in ns that `text` names.

    "2026-11-23" names a day, "18:17" a minute of today, "18:17:30" a second.  So --since X
    --until X selects all of X, and a printed time of six decimals selects the row that it was
    printed for.  "now", "-2h" and "2h ago" name a moment: begin equals end.  A local time that
    occurs twice (clocks set back) spans both occurrences.

    `now`: ns.  `utc`: a text without a zone is UTC; otherwise it is local time.  Raises UsageError.
    """
    word = text.strip()
    span = _moment(word, now) or _day_word(word, now, utc) or _epoch(word) or _clock(word, now, utc)
    if span is None:
        raise UsageError(
            f"cannot read the time '{text}': use 2026-11-23, '2026-11-23 18:17', 18:17:30, "
            "2026-11-23T18:17:30Z, -2h, today, yesterday, now or @SECONDS"
        )
    if not BEGIN <= span[0] <= span[1] <= END:
        raise UsageError(f"the time '{text}' is outside the years 1970 to 2262")
    return span


def _moment(word: str, now: int) -> tuple[int, int] | None:
    """ "now", "-1h30m", "2 hours ago"."""
    if word.lower() == "now":
        return now, now
    match = _AGO.fullmatch(word)
    if match is None:
        return None
    ns = 0
    for number, name in re.findall(
        r"(\d+) ?([a-z]+)", match["minus"] or match["ago"], re.IGNORECASE
    ):
        unit = unit_ns(name)
        if unit is None:
            return None
        ns += int(number) * unit
    return now - ns, now - ns


def _day_word(word: str, now: int, utc: bool) -> tuple[int, int] | None:
    """ "today", "yesterday"."""
    back = {"today": 0, "yesterday": 1}.get(word.lower())
    if back is None:
        return None
    zone = UTC if utc else None
    begin = datetime.combine(_today(now, zone) - timedelta(days=back), datetime.min.time())
    return _span(begin, timedelta(days=1), zone)


def _epoch(word: str) -> tuple[int, int] | None:
    """ "@1790000000", "@1790000000.25"."""
    match = _EPOCH.fullmatch(word)
    if match is None:
        return None
    part, length = _fraction(match["fraction"]) if match["fraction"] else (0, SECOND)
    begin = int(match["seconds"]) * SECOND + part
    return begin, begin + length


def _clock(word: str, now: int, utc: bool) -> tuple[int, int] | None:
    """A date, a time of day or both, as in RFC 3339 or as ctlist prints them."""
    match = _CLOCK.fullmatch(word)
    if match is None or (match["year"] is None and match["hour"] is None):
        return None
    try:
        zone = _zone(match["zone"]) if match["zone"] else UTC if utc else None
        day = (
            date(int(match["year"]), int(match["month"]), int(match["day"]))
            if match["year"]
            else _today(now, zone)
        )
        begin = datetime.combine(day, datetime.min.time())
        if match["hour"] is None:
            return _span(begin, timedelta(days=1), zone)
        begin = begin.replace(
            hour=int(match["hour"]), minute=int(match["minute"]), second=int(match["second"] or 0)
        )
        if match["fraction"] is None:
            return _span(
                begin, timedelta(seconds=1) if match["second"] else timedelta(minutes=1), zone
            )
        first, last = _span(begin, timedelta(0), zone)
    except (ValueError, OverflowError):
        return None
    begin_ns, length = _fraction(match["fraction"])
    return first + begin_ns, last + begin_ns + length


def _fraction(digits: str) -> tuple[int, int]:
    """The decimals of a second in ns, and the value of the last decimal place in ns."""
    length = int(10 ** (9 - len(digits)))
    return int(digits) * length, length


def _zone(text: str) -> timezone:
    """ "Z", "UTC", "+02:00", "-0500"."""
    word = text.strip().upper()
    if word in ("Z", "UTC"):
        return UTC
    digits = word[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if word[0] == "-" else offset)


def _today(now: int, zone: timezone | None) -> date:
    """The date at `now`; `zone` None: local."""
    return datetime.fromtimestamp(now // SECOND, zone).date()


def _span(begin: datetime, length: timedelta, zone: timezone | None) -> tuple[int, int]:
    """[begin, begin + length) in ns; both ends are naive times in `zone` (None: local time).

    A local time that occurs twice, or that is skipped, spans both of its readings.
    """
    first, last = (
        [_epoch_ns(each.replace(tzinfo=zone, fold=fold)) for fold in (0, 1)]
        for each in (begin, begin + length)
    )
    return min(first), max(last)


def _epoch_ns(moment: datetime) -> int:
    """ns since 1970 of a moment without a fraction."""
    return int(moment.timestamp()) * SECOND


def unit_ns(name: str) -> int | None:
    """The length in ns of the unit `name`, in any case, singular or plural; None: not a unit."""
    word = name.lower()
    return UNITS.get(word) or (UNITS.get(word.removesuffix("s")) if len(word) > 2 else None)


def text(ns: int, *, utc: bool) -> str:
    """One time in the format of ctlist, "YYYY.MM.DD HH:MM:SS.uuuuuu", in local time or UTC."""
    second, rest = divmod(ns, SECOND)
    fields = time.gmtime(second) if utc else time.localtime(second)
    return f"{time.strftime('%Y.%m.%d %H:%M:%S', fields)}.{rest // MICROSECOND:06d}"
