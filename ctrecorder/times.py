"""Times: what an operator types becomes a span of ns, and columns of ns become text.

Every time inside ctrecorder is an int, ns since 1970 UTC.  Local time is the C library's (the
variable TZ or /etc/localtime) and is asked for each minute anew where it can change, so that both
sides of a daylight saving change are right. Pure: the caller says what time it is now.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ctrecorder.errors import UsageError

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
# Every time of a log fits an i64 of ns: up to the year 2262.
BEGIN, END = 0, 2**63 - 1

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNITS |= {
    "sec": 1,
    "min": 60,
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
}
_CLOCK = re.compile(
    r"(?:(?P<year>\d{4})(?P<dash>[-./])(?P<month>\d{1,2})(?P=dash)(?P<day>\d{1,2}))?(?:(?:^|[ T])(?P<hour>\d{1,2}):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?(?P<zone> ?Z| ?[+-]\d\d:?\d\d| UTC)?",
    re.IGNORECASE,
)
_AGO = re.compile(
    r"-(?P<minus>(?:\d{1,9}[a-z]+)+)|(?P<ago>(?:\d{1,9} ?[a-z]+ ?)+) ago", re.IGNORECASE
)
_EPOCH = re.compile(r"@(?P<seconds>\d{1,10})(?:\.(?P<fraction>\d{1,9}))?")


def parse_span(text: str, now: int, *, utc: bool = False) -> tuple[int, int]:
    """The span [begin, end) in ns that `text` names: "2026-11-23" a day, "18:17" a minute of today,
    "18:17:30" a second.

    So --since X --until X is the whole of X, and what is printed with six digits is found by its
    six digits.  "now", "-2h" and "2h ago" are moments: begin is end.  A local time that comes twice
    (clocks set back) spans both. `now`: ns.  `utc`: texts without a zone are UTC, not local time.
     Raises UsageError.
    """
    word = text.strip()
    span = _moment(word, now) or _day_word(word, now, utc) or _epoch(word) or _clock(word, now, utc)
    if span is None:
        raise UsageError(
            f"cannot read the time '{text}': say 2026-11-23, '2026-11-23 18:17', 18:17:30, 2026-11-23T18:17:30Z, "
            "-2h, today, yesterday, now or @SECONDS"
        )
    if not BEGIN <= span[0] <= span[1] <= END:
        raise UsageError(f"the time '{text}' lies outside the years 1970 to 2262")
    return span


def _moment(word: str, now: int) -> tuple[int, int] | None:
    """ "now", "-1h30m", "2 hours ago"."""
    if word.lower() == "now":
        return now, now
    match = _AGO.fullmatch(word)
    if match is None:
        return None
    seconds = 0
    for number, unit in re.findall(r"(\d+) ?([a-z]+)", (match["minus"] or match["ago"]).lower()):
        length = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
        if length is None:
            return None
        seconds += int(number) * length
    return now - seconds * SECOND, now - seconds * SECOND


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
    """The decimals of a second as ns, and the ns that the last of them stands for."""
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
    """[begin, begin + length) in ns, both naive, in `zone`, None: local.

    What local time says twice, or skips, spans both readings.
    """
    first, last = (
        [_epoch_ns(each.replace(tzinfo=zone, fold=fold)) for fold in (0, 1)]
        for each in (begin, begin + length)
    )
    return min(first), max(last)


def _epoch_ns(moment: datetime) -> int:
    """ns since 1970 of a moment without a fraction."""
    return int(moment.timestamp()) * SECOND


def seconds_text(seconds: NDArray[np.int64], *, utc: bool) -> NDArray[np.uint8]:
    """`seconds`: (n,) int64 since 1970, any order.  Returns (n, 19) uint8, "YYYY.MM.DD HH:MM:SS",
    in local time or UTC.

    Costs about 0.3 us a row: meant for the distinct seconds of a block.
    """
    text = rfc3339_seconds(seconds if utc else seconds + utc_offset(seconds))
    text[:, [4, 7]], text[:, 10] = ord("."), ord(" ")
    return text


def rfc3339_seconds(seconds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """`seconds`: (n,) int64 since 1970.

    Returns (n, 19) uint8, "YYYY-MM-DDTHH:MM:SS", UTC and without the Z.
    """
    wide = np.datetime_as_string(seconds.astype("datetime64[s]"), unit="s").astype("U19")
    return wide.view(np.uint32).reshape(len(seconds), 19).astype(np.uint8)


def utc_offset(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """`seconds`: (n,) int64 since 1970.

    Returns (n,) int64, the seconds by which local time is ahead of UTC at each.
    """
    minutes = seconds // 60
    hours, which = np.unique(minutes // 60, return_inverse=True)
    by_minute = np.array([_hour_offsets(int(hour)) for hour in hours], dtype=np.int64).reshape(
        len(hours), 60
    )
    offsets: NDArray[np.int64] = by_minute[which, minutes % 60]
    return offsets


# An hour of offsets is 0.5 KB; 90 days have 2,160 hours.
@lru_cache(maxsize=4096)
def _hour_offsets(hour: int) -> tuple[int, ...]:
    """The UTC offset, in seconds, in each minute of the UTC hour that begins at 3600 * hour."""
    first = time.localtime(3600 * hour).tm_gmtoff
    if time.localtime(3600 * hour + 3599).tm_gmtoff == first:
        return (first,) * 60
    return tuple(time.localtime(3600 * hour + 60 * minute).tm_gmtoff for minute in range(60))


def text(ns: int, *, utc: bool) -> str:
    """One time as ctlist prints it: "YYYY.MM.DD HH:MM:SS.uuuuuu"."""
    second, rest = divmod(ns, SECOND)
    return f"{bytes(seconds_text(np.array([second]), utc=utc)[0]).decode()}.{rest // 1000:06d}"
