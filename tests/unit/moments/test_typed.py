"""Times that operators type, against datetime, on both sides of daylight saving."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder import times
from ctrecorder.declared import values
from ctrecorder.errors import UsageError
from ctrecorder.moments.typed import parse_span
from tests.support.local_zone import NOW, WARSAW, S, local_zone, utc


@pytest.fixture(autouse=True)
def warsaw() -> Iterator[None]:
    """Local time is Warsaw's."""
    with local_zone(WARSAW):
        yield


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
        # Days by name, with a time of day.  The 23rd is a Monday.
        ("today 20:52", utc(2026, 11, 23, 19, 52), 60 * S),
        ("yesterday 12:00", utc(2026, 11, 22, 11), 60 * S),
        ("Yesterday at 12:00:30 PM", utc(2026, 11, 22, 11, 0, 30), S),
        ("today 20:52 UTC", utc(2026, 11, 23, 20, 52), 60 * S),
        ("monday", utc(2026, 11, 22, 23), 86400 * S),
        ("tue 20:52", utc(2026, 11, 17, 19, 52), 60 * S),
        ("Sunday 00:00", utc(2026, 11, 21, 23), 60 * S),
        ("12:00 AM", utc(2026, 11, 22, 23), 60 * S),
        ("12:00PM", utc(2026, 11, 23, 11), 60 * S),
        # A month is of the calendar.
        ("1 month ago", utc(2026, 10, 23, 16, 37, 17), 0),
        ("-9months", utc(2026, 2, 23, 17, 37, 17), 0),
        ("11 months 2 days 1 hour ago", utc(2025, 12, 21, 16, 37, 17), 0),
        # The forms of letters and logs too.
        ("Mon, 23 Nov 2026 18:17:30 -0500", utc(2026, 11, 23, 23, 17, 30), S),
        ("23.11.2026 18:17", utc(2026, 11, 23, 17, 17), 60 * S),
        ("Nov 23 18:17:30", utc(2026, 11, 23, 17, 17, 30), S),
    ],
)
def test_what_a_text_spans(text: str, begin: int, length: int) -> None:
    assert parse_span(text, NOW) == (begin, begin + length)


@pytest.mark.parametrize("unit", times.UNITS)
def test_each_unit_of_time_works_in_times_and_in_settings(unit: str) -> None:
    for text, number in ((f"1{unit}", 1), (f"3{unit}", 3)):
        ns = number * times.UNITS[unit]
        assert parse_span(f"-{text}", NOW) == (NOW - ns, NOW - ns)
        assert parse_span(f"{text} ago", NOW) == (NOW - ns, NOW - ns)
        assert values.duration(text) * S == ns


def test_utc_instead_of_local_time() -> None:
    assert parse_span("2026-11-23 18:17", NOW, utc=True)[0] == utc(2026, 11, 23, 18, 17)
    # 23:37 UTC is the next day in Warsaw.
    late = utc(2026, 11, 23, 23, 37)
    assert parse_span("today", late, utc=True)[0] == utc(2026, 11, 23)
    assert parse_span("today", late)[0] == utc(2026, 11, 23, 23)


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
        "-999999 months",
        "2026-11-23 18:17-18:20",
        "18:17-18:20",
        "2026-03-29 02:30",
        "13:00 PM",
        "2026-11-23 18:17 Europe/Berlni",
        "fri 25:00",
        "Tuesday 2026-11-23",
        "09/10/2026 10:00",
        "2026-11-23 10:00 CST",
    ],
)
def test_what_is_no_time_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_span(text, NOW)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_rfc_3339_against_datetime(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert parse_span(moment.isoformat(timespec="microseconds"), NOW) == (exact, exact + 1000)


@given(st.integers(0, 2**33 * S))
def test_what_is_printed_is_found_again(ns: int) -> None:
    """--since T --until T with a T that ctlist printed holds the row."""
    for in_utc in (True, False):
        begin, end = parse_span(times.text(ns, utc=in_utc), NOW, utc=in_utc)
        assert begin <= ns < end


def test_an_ambiguous_limit_names_its_readings() -> None:
    with pytest.raises(UsageError) as caught:
        parse_span("09/10/2026 10:00 UTC", NOW)
    assert "2026-10-09T10:00:00Z (UTC) or 2026-09-10T10:00:00Z (UTC)" in str(caught.value)


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (utc(2026, 3, 31, 10), utc(2026, 2, 28, 11)),  # 12:00 in summer and in winter
        (utc(2024, 3, 31, 10), utc(2024, 2, 29, 11)),
        (utc(2026, 4, 29, 0, 30), utc(2026, 3, 29, 1, 30)),  # 02:30 was skipped: an hour later
        (utc(2026, 11, 25, 1, 30), utc(2026, 10, 25, 0, 30)),  # came twice: the first
        (utc(2026, 1, 15, 10), utc(2025, 12, 15, 10)),
    ],
)
def test_a_month_ago_is_the_same_time_of_day(now: int, wanted: int) -> None:
    assert parse_span("1 month ago", now) == (wanted, wanted)


@given(st.integers(0, 6), st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))
def test_a_day_of_the_week_is_the_last_one_today_included(number: int, now: datetime) -> None:
    name = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")[number]
    moment = utc(now.year, now.month, now.day, now.hour, now.minute)
    begin, end = parse_span(name, moment, utc=True)
    day = datetime.fromtimestamp(begin // S, UTC)
    assert day.weekday() == number
    assert day.date() <= now.date() < (day + timedelta(days=7)).date()
    assert end - begin == 86400 * S
