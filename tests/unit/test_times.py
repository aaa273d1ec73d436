"""Times: what operators type, against datetime; columns of ns, against the C library; on both sides
of daylight saving.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder import times
from ctrecorder.errors import UsageError
from tests.support.tables import ints

S = 10**9
ZONE = "Europe/Warsaw"
NOW = 1795455437 * S  # Mon 23 Nov 2026 17:37:17 UTC, 18:37:17 in Warsaw


@pytest.fixture(autouse=True)
def warsaw() -> Iterator[None]:
    """Local time is Warsaw's: UTC+1, in summer +2; it changes on 29 March and 25 October 2026."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONE
    time.tzset()
    times._hour_offsets.cache_clear()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()
    times._hour_offsets.cache_clear()


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int(moment.timestamp()) * S


@pytest.mark.parametrize(
    ("text", "begin", "length"),
    [
        ("2026-11-23", utc(2026, 11, 22, 23), 86400 * S),
        ("2026-11-23 18:17", utc(2026, 11, 23, 17, 17), 60 * S),
        ("2026-11-23 18:17:30", utc(2026, 11, 23, 17, 17, 30), S),
        ("2026-11-23T18:17:30", utc(2026, 11, 23, 17, 17, 30), S),
        ("2026.11.23 18:17:18.618611", utc(2026, 11, 23, 17, 17, 18) + 618_611_000, 1000),
        ("2026-11-23T18:17:30Z", utc(2026, 11, 23, 18, 17, 30), S),
        ("2026-11-23T18:17:30.123456789+05:30", utc(2026, 11, 23, 12, 47, 30) + 123_456_789, 1),
        ("2026-11-23 18:17 UTC", utc(2026, 11, 23, 18, 17), 60 * S),
        ("18:17", utc(2026, 11, 23, 17, 17), 60 * S),
        ("today", utc(2026, 11, 22, 23), 86400 * S),
        ("yesterday", utc(2026, 11, 21, 23), 86400 * S),
        ("now", NOW, 0),
        ("-2h", NOW - 7200 * S, 0),
        ("2h ago", NOW - 7200 * S, 0),
        ("1 hour 30 minutes ago", NOW - 5400 * S, 0),
        ("-1d12h", NOW - 36 * 3600 * S, 0),
        ("@1790000000", 1790000000 * S, S),
        ("@1790000000.25", 1790000000 * S + 250_000_000, 10_000_000),
        # Clocks are set back: the hour comes twice, and both are meant.  Forward: a night of 23
        # hours.
        ("2026-10-25", utc(2026, 10, 24, 22), 25 * 3600 * S),
        ("2026-10-25 02:30", utc(2026, 10, 25, 0, 30), 3660 * S),
        ("2026-03-29", utc(2026, 3, 28, 23), 23 * 3600 * S),
    ],
)
def test_what_a_text_spans(text: str, begin: int, length: int) -> None:
    assert times.parse_span(text, NOW) == (begin, begin + length)


def test_utc_instead_of_local_time() -> None:
    assert times.parse_span("2026-11-23 18:17", NOW, utc=True)[0] == utc(2026, 11, 23, 18, 17)
    # 23:37 UTC is the next day in Warsaw.
    late = utc(2026, 11, 23, 23, 37)
    assert times.parse_span("today", late, utc=True)[0] == utc(2026, 11, 23)
    assert times.parse_span("today", late)[0] == utc(2026, 11, 23, 23)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noon",
        "2026-13-01",
        "2026-02-30",
        "25:00",
        "18:61",
        "2026-11-23 18",
        "2026-11.23",
        "-2x",
        "2h",
        "@",
        "@-5",
        "18:17:30.1234567890",
        "2026-11-2318:00",
        "1969-12-30",
        "9999-12-31",
        "-99999999w",
        "-" + "9" * 5000 + "h",
    ],
)
def test_what_is_no_time_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        times.parse_span(text, NOW)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_rfc_3339_against_datetime(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert times.parse_span(moment.isoformat(timespec="microseconds"), NOW) == (exact, exact + 1000)


@given(st.integers(0, 2**33 * S))
def test_what_is_printed_is_found_again(ns: int) -> None:
    """--since T --until T with a T that ctlist printed holds the row."""
    for in_utc in (True, False):
        begin, end = times.parse_span(times.text(ns, utc=in_utc), NOW, utc=in_utc)
        assert begin <= ns < end


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
    texts = [bytes(row).decode() for row in times.seconds_text(seconds, utc=False)]
    assert texts == [
        time.strftime("%Y.%m.%d %H:%M:%S", time.localtime(second)) for second in ints(seconds)
    ]
    texts = [bytes(row).decode() for row in times.rfc3339_seconds(seconds)]
    assert texts == [
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) for second in ints(seconds)
    ]


def test_a_change_of_zone_inside_an_hour() -> None:
    """Newfoundland changed at one minute past midnight until 2011."""
    os.environ["TZ"] = "America/St_Johns"
    time.tzset()
    times._hour_offsets.cache_clear()
    change = utc(2010, 3, 14, 3, 31) // S
    seconds = np.arange(change - 120, change + 120)
    offsets = times.utc_offset(seconds)
    assert offsets.tolist() == [time.localtime(second).tm_gmtoff for second in ints(seconds)]
    assert len(set(ints(offsets))) == 2


def test_times_that_no_clock_showed() -> None:
    """Of a stranger's file: any i64 is text, of one width."""
    extremes = np.array([-(2**63), -1, 0, 2**63 - 1]) // S
    assert {
        len(bytes(row).decode().strip("\0")) for row in times.seconds_text(extremes, utc=True)
    } == {19}
