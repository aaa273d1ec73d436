"""Times in UTC and in the zone of a letter."""

from __future__ import annotations

import pytest

from ctrecorder.page import words

MOMENT = "2026-07-01T10:00:05.250000000Z"


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("+01:00", "2026-07-01 11:00:05.25 +01:00"),
        ("-0330", "2026-07-01 06:30:05.25 -03:30"),
        ("PDT (-07:00)", "2026-07-01 03:00:05.25 -07:00"),
        ("CET (Europe/Berlin)", "2026-07-01 12:00:05.25 +02:00"),
        ("Europe/Berlin", "2026-07-01 12:00:05.25 +02:00"),
        ("+02:00 and +01:00", "2026-07-01 12:00:05.25 +02:00"),
        ("+00:53:28", "2026-07-01 10:53:33.25 +00:53"),
    ],
)
def test_both_zones_with_their_offsets(zone: str, shown: str) -> None:
    assert not words.is_lacking(zone)
    both = [shown, "2026-07-01 10:00:05.25 +00:00 (UTC)"]
    assert words.both(MOMENT, words.zone_of(zone)) == both


@pytest.mark.parametrize("zone", ["", "UTC", "utc", "Z", "+00:00"])
def test_utc_is_shown_once(zone: str) -> None:
    assert not words.is_lacking(zone)
    assert words.both(MOMENT, words.zone_of(zone)) == ["2026-07-01 10:00:05.25 +00:00 (UTC)"]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlni", "Europe", "/etc/passwd", "../x", "\0", "\ud800", "+99:99", "(", "a b"]
)
def test_a_zone_that_is_not_known_is_told_and_not_guessed(zone: str) -> None:
    assert words.is_lacking(zone)
    assert words.zone_of(zone) is None


def test_the_hour_that_comes_twice() -> None:
    zone = words.zone_of("Europe/Berlin")
    first, second = (f"2026-10-25T0{hour}:30:00Z" for hour in (0, 1))
    assert words.local(first, zone) == "2026-10-25 02:30:00 +02:00"
    assert words.local(second, zone) == "2026-10-25 02:30:00 +01:00"


def test_each_digit_of_a_time_is_shown() -> None:
    assert words.utc("2026-07-01T10:00:05.000000001Z").startswith("2026-07-01 10:00:05.000000001 ")
    assert words.utc("2026-07-01T10:00:05Z") == "2026-07-01 10:00:05 +00:00 (UTC)"
