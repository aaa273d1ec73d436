"""Columns of seconds as dates, against the C library, on both sides of daylight saving."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from ctrecorder.render import dates
from tests.support.tables import ints

S = 10**9
ZONE = "Europe/Warsaw"


@pytest.fixture(autouse=True)
def warsaw() -> Iterator[None]:
    """Local time is Warsaw's: UTC+1, in summer UTC+2; changes on 2026-03-29 and 2026-10-25."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONE
    time.tzset()
    dates._hour_offsets.cache_clear()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()
    dates._hour_offsets.cache_clear()


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * S


def seconds_around_changes() -> list[int]:
    changes = [utc(2026, 3, 29, 1) // S, utc(2026, 10, 25, 1) // S]
    return [
        change + step
        for change in changes
        for step in (-3600, -61, -60, -1, 0, 1, 59, 60, 3599, 3600)
    ]


def test_columns_of_local_time_against_the_c_library() -> None:
    seconds = np.array(
        [*seconds_around_changes(), 0, 1, 2**31, *range(1_790_000_000, 1_800_000_000, 98_765)]
    )
    texts = [bytes(row).decode() for row in dates.seconds_text(seconds, utc=False)]
    assert texts == [
        time.strftime("%Y.%m.%d %H:%M:%S", time.localtime(second)) for second in ints(seconds)
    ]
    texts = [bytes(row).decode() for row in dates.rfc3339_seconds(seconds)]
    assert texts == [
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) for second in ints(seconds)
    ]


def test_a_change_of_zone_inside_an_hour() -> None:
    """Newfoundland changed at one minute past midnight until 2011."""
    os.environ["TZ"] = "America/St_Johns"
    time.tzset()
    dates._hour_offsets.cache_clear()
    change = utc(2010, 3, 14, 3, 31) // S
    seconds = np.arange(change - 120, change + 120)
    offsets = dates.utc_offset(seconds)
    assert offsets.tolist() == [time.localtime(second).tm_gmtoff for second in ints(seconds)]
    assert len(set(ints(offsets))) == 2


def test_times_that_no_clock_showed() -> None:
    """Any i64 becomes a text of 19 characters: a file that is not ours can hold any."""
    extremes = np.array([-(2**63), -1, 0, 2**63 - 1]) // S
    assert {
        len(bytes(row).decode().strip("\0")) for row in dates.seconds_text(extremes, utc=True)
    } == {19}
