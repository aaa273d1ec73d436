"""Times: units, limits, and single times as text.  `moments` reads what people write.

Every time inside ctrecorder is an int: nanoseconds since 1970-01-01 00:00 UTC.  Local time is the
time of the C library (the variable TZ, or /etc/localtime).  Pure: the caller passes the current
time.  It imports little: the parsers of the commands import this module.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

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


def unit_ns(name: str) -> int | None:
    """The length in ns of the unit `name`, in any case, singular or plural; None: not a unit."""
    word = name.lower()
    return UNITS.get(word) or (UNITS.get(word.removesuffix("s")) if len(word) > 2 else None)


def dated(ns: int, *, utc: bool) -> str:
    """One time in a sentence, "YYYY.MM.DD HH:MM:SS.uuuuuu +01:00": the text with its offset."""
    return f"{text(ns, utc=utc)} {offset(ns, utc=utc)}"


def offset(ns: int, *, utc: bool) -> str:
    """The offset from UTC of local time at `ns`, "+01:00"; with seconds if it has some."""
    seconds = 0 if utc else time.localtime(ns // SECOND).tm_gmtoff
    minutes, rest = divmod(abs(seconds), 60)
    end = f":{rest:02d}" if rest else ""
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}{end}"


def text(ns: int, *, utc: bool) -> str:
    """One time in the lines of ctlist, "YYYY.MM.DD HH:MM:SS.uuuuuu", in local time or UTC."""
    second, rest = divmod(ns, SECOND)
    fields = time.gmtime(second) if utc else time.localtime(second)
    return f"{time.strftime('%Y.%m.%d %H:%M:%S', fields)}.{rest // MICROSECOND:06d}"
