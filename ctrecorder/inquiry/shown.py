"""Times on a screen: each carries its offset from UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from ctrecorder import times

_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)(?!.*[+-]\d\d:?\d\d)")


def zone_of(name: str) -> tzinfo | None:
    """The zone "UTC", "+01:00", "PDT (-07:00)" or "Europe/Berlin"; None: that of this machine."""
    if name in ("UTC", "Z"):
        return UTC
    if match := _OFFSET.search(name):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, KeyError):
        return None


def stamper(zone: tzinfo | None) -> Callable[[int], str]:
    """A function that writes times as `stamp` does."""
    return lambda ns: stamp(ns, zone)


def stamp(ns: int, zone: tzinfo | None) -> str:
    """ "2026-11-24 06:00:05.000000 +01:00", in `zone`; None: in that of this machine."""
    second, rest = divmod(ns, times.SECOND)
    moment = datetime.fromtimestamp(second, UTC).astimezone(zone)
    offset = moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest // 1000:06d} {offset[:3]}:{offset[3:5]}"


def seconds(number: float) -> str:
    """ "1 s", "0.017 s": at most six decimals."""
    return f"{number:.6f}".rstrip("0").rstrip(".") + " s"
