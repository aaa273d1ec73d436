"""The texts of zones, against tzdata."""

from __future__ import annotations

import zoneinfo
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.moments import zones
from ctrecorder.moments.abbreviations import ABBREVIATIONS

DAY_NS = 86400 * 10**9
JANUARY, JULY = (
    (datetime(2026, month, 1) - datetime(1970, 1, 1)).days * DAY_NS for month in (1, 7)
)


def offsets(text: str, wall: int = JANUARY) -> list[float]:
    """The hours from UTC that a text of a zone can mean at a wall time."""
    known = zones.parse(text)
    assert known is not None
    return [(wall - spans[0][0]) / 3600e9 for _, spans in known.at(wall, wall + 1)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Z", [0]),
        ("gmt", [0]),
        ("+0000", [0]),
        ("GMT-0", [0]),
        ("+14:00", [14]),
        ("-1400", [-14]),
        ("+05", [5]),
        ("UTC+5", [5]),
        ("GMT -03:30", [-3.5]),
        ("pst", [-8, 8]),
        ("America/New_York", [-5]),
        ("America/Argentina/Buenos_Aires", [-3]),
        ("ET", [-5]),
        ("+0100 (CET)", [1]),
        ("CST (China Standard Time)", [-6, 8, -5]),
        ("CST (UTC+8)", [8]),
        ("+0800 (CST)", [8]),
        ("+0900 (CST)", [9, -6, 8, -5]),
        ("[Asia/Tokyo]", [9]),
    ],
)
def test_what_a_text_means(text: str, wanted: list[float]) -> None:
    assert offsets(text) == wanted


@pytest.mark.parametrize("text", ["", " ", "-0000", "-00:00", "-00:00 (CET)"])
def test_no_zone(text: str) -> None:
    assert zones.parse(text) is None


@pytest.mark.parametrize(
    "text", ["+14:01", "-18:20", "+00:60", "X", "Europe/", "../etc/passwd", "posix/UTC", "Z Z"]
)
def test_what_is_no_zone(text: str) -> None:
    with pytest.raises(UsageError):
        zones.parse(text)


def test_abbreviations_have_every_meaning_that_tzdata_has() -> None:
    """What Linux machines of the years 2019 to 2025 printed, in each season."""
    printed = defaultdict(set)
    for name in zoneinfo.available_timezones():
        if name.startswith(("posix", "right", "localtime", "Factory")):
            continue
        zone = zoneinfo.ZoneInfo(name)
        for month in range(12 * 7):
            moment = datetime(2019 + month // 12, month % 12 + 1, 5, tzinfo=UTC).astimezone(zone)
            word = moment.tzname() or ""
            if word.isalpha():
                wall = (moment.replace(tzinfo=None) - datetime(1970, 1, 1)) // timedelta(seconds=1)
                printed[word].add((wall, (moment.utcoffset() or timedelta(0)).total_seconds()))
    assert len(printed) > 45
    for word, meanings in printed.items():
        for wall, offset in meanings:
            assert offset / 3600 in offsets(word, wall * 10**9), (word, wall)


@pytest.mark.parametrize("name", ABBREVIATIONS)
def test_an_abbreviation_of_a_region_is_that_of_one_of_its_seasons(name: str) -> None:
    """So in one of them it has no second reading, and in the other it has."""
    for minutes, region in ABBREVIATIONS[name]:
        if region and minutes is not None:
            place = zones.iana(region)
            seasons = {place.offset(wall // 10**9) for wall in (JANUARY, JULY)}
            seasons |= {place.offset(1400000000), place.offset(1420000000)}
            assert minutes * 60 in seasons


@pytest.mark.parametrize(
    "value",
    ["", "UTC", "Europe/Berlin", ":Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3",
     "<+03>-3", "EST5EDT", "/usr/share/zoneinfo/UTC", "UTC0"],
)  # fmt: skip
def test_a_tz_that_the_c_library_knows(value: str) -> None:
    zones.check_tz(value)


@pytest.mark.parametrize("value", ["Europe/Berlni", ":Europe/Berlni", "Berlin", "europe/berlin"])
def test_a_tz_that_it_takes_for_utc(value: str) -> None:
    with pytest.raises(UsageError, match="the variable TZ: unknown time zone") as caught:
        zones.check_tz(value)
    assert "Europe/Berlin" in str(caught.value) or value == "Berlin"
