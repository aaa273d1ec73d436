"""Moments that are typed relative to now: "now", "-1h30m", "2 hours ago", "1 month ago"."""

from __future__ import annotations

import re
from calendar import monthrange

from ctrecorder.moments import wall
from ctrecorder.times import DAY, unit_ns

_AGO = re.compile(
    r"-(?P<minus>(?:\d{1,9}[a-z]+)+)|(?P<ago>(?:\d{1,9} ?[a-z]+ ?)+) ago", re.ASCII | re.IGNORECASE
)


def instant(word: str, now: int, offset: wall.Offset) -> int | None:
    """The moment in ns that `word` names; None: another kind of text.

    A month before 31 March is the last of February, at the same time of day in the zone of
    `offset`.
    """
    if word.lower() == "now":
        return now
    match = _AGO.fullmatch(word)
    if match is None:
        return None
    ns = months = 0
    for number, name in re.findall(
        r"(\d+) ?([a-z]+)", match["minus"] or match["ago"], re.IGNORECASE
    ):
        unit = unit_ns(name)
        if name.lower() in ("month", "months"):
            months += int(number)
        elif unit is None:
            return None
        else:
            ns += int(number) * unit
    return (_months_before(now, months, offset) if months else now) - ns


def _months_before(now: int, months: int, offset: wall.Offset) -> int:
    from datetime import date

    days, time_of_day = divmod(wall.show(now, offset), DAY)
    epoch = date(1970, 1, 1).toordinal()
    today = date.fromordinal(epoch + days)
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    if year < 1970:
        return -1
    day = min(today.day, monthrange(year, month + 1)[1])
    return wall.forward(
        (date(year, month + 1, day).toordinal() - epoch) * DAY + time_of_day, offset
    )
