"""Times on a screen."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from ctrecorder.inquiry.shown import seconds, stamp, zone_of

NS = 1_790_000_000_123_456_789


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("UTC", UTC),
        ("+01:00", timezone(timedelta(hours=1))),
        ("-03:30", timezone(-timedelta(hours=3, minutes=30))),
        ("PDT (-07:00)", timezone(-timedelta(hours=7))),
        ("Europe/Berlin", ZoneInfo("Europe/Berlin")),
        ("", None),
        ("../../etc/passwd", None),
        ("nowhere", None),
    ],
)
def test_the_zone_of_a_question(name: str, zone: object) -> None:
    assert zone_of(name) == zone


def test_each_time_has_its_offset() -> None:
    assert stamp(NS, UTC) == "2026-09-21 14:13:20.123456 +00:00"
    assert stamp(NS, zone_of("Europe/Berlin")) == "2026-09-21 16:13:20.123456 +02:00"
    assert stamp(NS, zone_of("-03:30")) == "2026-09-21 10:43:20.123456 -03:30"


def test_seconds() -> None:
    assert [seconds(number) for number in (1.0, 0.0021, 0, 60.5)] == [
        "1 s",
        "0.0021 s",
        "0 s",
        "60.5 s",
    ]
