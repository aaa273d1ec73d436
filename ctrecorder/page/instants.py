"""Times of a twin as text, in UTC and in the zone of the letter; each has its offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from ctrecorder import times
from ctrecorder.page.shape import nanoseconds

_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)(?::(\d\d))?", re.ASCII)
# "PDT (-07:00)", "CET (Europe/Berlin)", "+01:00 and +02:00" of an hour in which clocks were set.
_NAMED = re.compile(r"[^()]* \(([^()]+)\)|(\S+) and \S+")
_UTC = ("", "utc", "z", "gmt", "+00:00")


def zone_of(name: str) -> tzinfo | None:
    """The zone that a question names; None if it names none but UTC, or one that is unknown."""
    if name.lower() in _UTC:
        return None
    if named := _NAMED.fullmatch(name):
        name = named[1] or named[2]
    if offset := _OFFSET.fullmatch(name):
        hours, minutes, seconds = (int(each or 0) for each in offset.groups()[1:])
        length = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if not timedelta() < length < timedelta(days=1):
            return None
        return timezone(-length if offset[1] == "-" else length)
    return _of_region(name)


@lru_cache(maxsize=64)
def _of_region(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # not installed, no such name, a folder, a path
        return None


def is_lacking(name: str) -> bool:
    """If the zone is one that this machine does not know: its times are shown in UTC alone."""
    return name.lower() not in _UTC and zone_of(name) is None


def utc(moment: str) -> str:
    """ "2026-11-24 05:00:05.25 +00:00 (UTC)"."""
    return _text(nanoseconds(moment), UTC) + " (UTC)"


def local(moment: str, zone: tzinfo | None) -> str:
    """The same in `zone`, "2026-11-24 06:00:05.25 +01:00"; "" if there is none."""
    return _text(nanoseconds(moment), zone) if zone is not None else ""


def both(moment: str, zone: tzinfo | None) -> list[str]:
    """The time in the zone of the letter, if it has one, and in UTC."""
    return [text for text in (local(moment, zone), utc(moment)) if text]


def _text(ns: int, zone: tzinfo) -> str:
    """With as many decimals as the time has."""
    second, rest = divmod(ns, times.SECOND)
    moment = datetime.fromtimestamp(second, UTC).astimezone(zone)
    decimals = f".{rest:09}".rstrip("0") if rest else ""
    offset = moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S}{decimals} {offset[:3]}:{offset[3:5]}"
