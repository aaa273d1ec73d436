"""Written times: a table of cases by hand, and random times against datetime and zoneinfo."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctrecorder.errors import UsageError
from ctrecorder.moments.moment import Basis, Moment, Zones
from ctrecorder.moments.reader import read
from tests.support.local_zone import local_zone

S = 10**9
NOW = 1795455437 * S  # Mon 23 Nov 2026 17:37:17 UTC
NEW_YEAR = 1798761600 * S  # 1 Jan 2027 00:00 UTC
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPED = Zones(local=True)


@pytest.fixture(autouse=True)
def warsaw() -> Iterator[None]:
    with local_zone("Europe/Warsaw"):
        yield


def ns(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def spans_of(moment: Moment) -> list[list[tuple[str, float]]]:
    """Each reading: the begins in UTC, and the lengths in seconds."""
    return [
        [(f"{EPOCH + timedelta(seconds=a // S):%Y-%m-%dT%H:%M:%S}", (b - a) / S) for a, b in spans]
        for spans in (reading.spans for reading in moment.readings)
    ]


# Every form: what it says in UTC, and how long it is in seconds.
FORMS = [
    # RFC 3339 and what is near it
    ("2026-11-23T18:17:30Z", "2026-11-23T18:17:30", 1),
    ("2026-11-23t18:17:30z", "2026-11-23T18:17:30", 1),
    ("2026-11-23T18:17:30+01:00", "2026-11-23T17:17:30", 1),
    ("2026-11-23 18:17:30 +0100", "2026-11-23T17:17:30", 1),
    ("2026-11-23 18:17:30+01", "2026-11-23T17:17:30", 1),
    ("2026-11-23T18:17:30+01:00[Europe/Berlin]", "2026-11-23T17:17:30", 1),
    ("2026-11-23 18:17:30,250 UTC", "2026-11-23T18:17:30", 0.001),
    ("2026/11/23 18:17 UTC", "2026-11-23T18:17:00", 60),
    ("2026-11-23T04:17-05:00", "2026-11-23T09:17:00", 60),
    ("2026-11-23 04:17 -05:00", "2026-11-23T09:17:00", 60),
    ("2026-11-23Z", "2026-11-23T00:00:00", 86400),
    ("20261123T181730Z", "2026-11-23T18:17:30", 1),
    # RFC 5322
    ("Mon, 23 Nov 2026 18:17:30 +0100", "2026-11-23T17:17:30", 1),
    ("Mon, 23 Nov 2026 18:17:30 +0100 (CET)", "2026-11-23T17:17:30", 1),
    ("Mon,  3 Nov 2025\r\n 18:17:30 -0500 (Eastern Standard Time)", "2025-11-03T23:17:30", 1),
    ("3 Nov 2025 18:17 EST", "2025-11-03T23:17:00", 60),
    ("04 Sep 2024 13:19:53 GMT", "2024-09-04T13:19:53", 1),
    ("Mon, 28 Sep 2026 21:31:04 UT", "2026-09-28T21:31:04", 1),
    ("23 Nov 2026 10:00:00 -0600 (CST)", "2026-11-23T16:00:00", 1),
    ("23 Nov 2026 10:00:00 CST (UTC-6)", "2026-11-23T16:00:00", 1),
    # logs
    ("23/Nov/2026:18:17:30 +0100", "2026-11-23T17:17:30", 1),
    ("23-Nov-2026 18:17:30.123 UTC", "2026-11-23T18:17:30", 0.001),
    ("Mon Nov 23 18:17:30 CET 2026", "2026-11-23T17:17:30", 1),
    ("Tue Nov  3 18:17:30 UTC 2026", "2026-11-03T18:17:30", 1),
    ("Mon Nov 23 06:17:30 PM CET 2026", "2026-11-23T17:17:30", 1),
    ("Mon 23 Nov 18:17:30 +03 2026", "2026-11-23T15:17:30", 1),
    ("Mon Nov 23 18:17:30 2026 +0100", "2026-11-23T17:17:30", 1),
    ("Mon 2026-11-23 18:17:30 CET", "2026-11-23T17:17:30", 1),
    ("Mon 2026-11-23 18:17:30.123456 CET", "2026-11-23T17:17:30", 0.000001),
    ("Nov 23 17:17:30 UTC", "2026-11-23T17:17:30", 1),
    # people
    ("Mon, 21 Sep 2026 11:00AM PDT", "2026-09-21T18:00:00", 60),
    ("Mon, 21 Sep 2026 12:00AM PDT", "2026-09-21T07:00:00", 60),
    ("Mon, 21 Sep 2026 12:30 p.m. PDT", "2026-09-21T19:30:00", 60),
    ("September 21st, 2026 at 11 pm EDT", "2026-09-22T03:00:00", 3600),
    ("23.11.2026 18:17:30 CET", "2026-11-23T17:17:30", 1),
    ("23. November 2026, 18:17 CET", "2026-11-23T17:17:00", 60),
    ("23/11/2026, 18:17:30 GMT", "2026-11-23T18:17:30", 1),
    ("11/23/2026 06:17:30 PM GMT+1", "2026-11-23T17:17:30", 1),
    ("10/10/2026 06:17 UTC", "2026-10-10T06:17:00", 60),
    ("Sat 10/03/2026 06:17 UTC", "2026-10-03T06:17:00", 60),
    ("18:17:30 UTC on 23 November 2026", "2026-11-23T18:17:30", 1),
    ("06:00:05 24/11/2026 UTC", "2026-11-24T06:00:05", 1),
    (
        "Mon Nov 23 2026 18:17:30 GMT+0100 (Central European Standard Time)",
        "2026-11-23T17:17:30",
        1,
    ),
    # zones
    ("2026-11-23 18:17 Asia/Kathmandu", "2026-11-23T12:32:00", 60),
    ("2026-11-23 18:17 Etc/GMT+5", "2026-11-23T23:17:00", 60),
    ("2026-11-23 18:17 UTC+5", "2026-11-23T13:17:00", 60),
    ("2013-06-01 12:00 MSK", "2013-06-01T08:00:00", 60),
    ("2026-06-01 12:00 MSK", "2026-06-01T09:00:00", 60),
    ("2026-11-23 18:17 (CET)", "2026-11-23T17:17:00", 60),
    # epochs
    ("1790000000", "2026-09-21T14:13:20", 1),
    ("1790000000.5", "2026-09-21T14:13:20", 0.1),
    ("1790000000123", "2026-09-21T14:13:20", 0.001),
    ("@5", "1970-01-01T00:00:05", 1),
]


@pytest.mark.parametrize(("text", "begin", "seconds"), FORMS)
def test_forms(text: str, begin: str, seconds: float) -> None:
    found = read(text, NOW)
    assert spans_of(found) == [[(begin, seconds)]]
    assert found.text == text
    epoch = text.replace(".", "").lstrip("@").isdigit()
    assert found.readings[0].basis == (Basis.FORMAT if epoch else Basis.GIVEN)


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        # The day or the month comes first.
        ("09/10/2025 10:00 UTC", [("2025-10-09T10:00:00", "UTC"), ("2025-09-10T10:00:00", "UTC")]),
        ("09-10-2025 10:00 UTC", [("2025-10-09T10:00:00", "UTC"), ("2025-09-10T10:00:00", "UTC")]),
        ("09/02 10:00:00 UTC", [("2026-02-09T10:00:00", "UTC"), ("2026-09-02T10:00:00", "UTC")]),
        # Abbreviations of several countries; of a year that no later tzdata changes.
        (
            "2024-11-23 10:00 CST",
            [
                ("2024-11-23T16:00:00", "CST (-06:00)"),
                ("2024-11-23T02:00:00", "CST (+08:00)"),
                ("2024-11-23T15:00:00", "CST (-05:00)"),
            ],
        ),
        (
            "2026-06-01 10:00 IST",
            [
                ("2026-06-01T04:30:00", "IST (+05:30)"),
                ("2026-06-01T08:00:00", "IST (+02:00)"),
                ("2026-06-01T07:00:00", "Asia/Jerusalem"),
                ("2026-06-01T09:00:00", "IST (+01:00)"),
            ],
        ),
        (
            "2026-06-01 10:00 BST",
            [
                ("2026-06-01T09:00:00", "BST (+01:00)"),
                ("2026-06-01T04:00:00", "BST (+06:00)"),
                ("2026-05-31T23:00:00", "BST (+11:00)"),
            ],
        ),
        # The abbreviation of the other season.
        (
            "2026-07-01 10:00 CET",
            [("2026-07-01T09:00:00", "CET (+01:00)"), ("2026-07-01T08:00:00", "Europe/Berlin")],
        ),
        (
            "2026-01-01 10:00 CEST",
            [("2026-01-01T08:00:00", "CEST (+02:00)"), ("2026-01-01T09:00:00", "Europe/Berlin")],
        ),
        # The hour that comes twice is of both seasons.
        ("2026-10-25 02:30 CET", [("2026-10-25T01:30:00", "CET (+01:00)")]),
        ("2026-10-25 02:30 CEST", [("2026-10-25T00:30:00", "CEST (+02:00)")]),
        # Offset and comment contradict each other.
        (
            "2026-11-23 10:00 +0100 (EST)",
            [("2026-11-23T09:00:00", "+01:00"), ("2026-11-23T15:00:00", "EST (-05:00)")],
        ),
        (
            "2026-11-23 10:00 +0100 (CEST)",
            [("2026-11-23T08:00:00", "CEST (+02:00)"), ("2026-11-23T09:00:00", "+01:00")],
        ),
        (
            "2026-07-01 10:00 +0200 (CET)",
            [("2026-07-01T09:00:00", "CET (+01:00)"), ("2026-07-01T08:00:00", "+02:00")],
        ),
    ],
)
def test_each_reading_of_an_ambiguous_time(text: str, readings: list[tuple[str, str]]) -> None:
    found = read(text, NOW)
    begins = [spans[0][0] for spans in spans_of(found)]
    assert list(zip(begins, [one.zone for one in found.readings], strict=True)) == readings
    assert {one.basis for one in found.readings} == {Basis.GIVEN}


def test_a_note_of_a_zone_can_be_of_the_other_season() -> None:
    """fail2ban notes the offset of the day of its mail, beside lines of the week before."""
    zones = Zones("+0100 (CET)")
    (winter,) = read("2026-11-23 10:00", NOW, zones).readings
    assert winter.zone == "+01:00"
    summer = read("2026-10-20 10:00", NOW, zones)
    assert sorted(spans_of(summer)) == [
        [("2026-10-20T08:00:00", 60)],
        [("2026-10-20T09:00:00", 60)],
    ]


@pytest.mark.parametrize(
    ("text", "day_first", "begin"),
    [
        ("09/10/2025 10:00 UTC", True, "2025-10-09T10:00:00"),
        ("09/10/2025 10:00 UTC", False, "2025-09-10T10:00:00"),
        ("09/13/2025 10:00 UTC", True, "2025-09-13T10:00:00"),
        ("13/09/2025 10:00 UTC", False, "2025-09-13T10:00:00"),
        ("09.10.2025 10:00 UTC", False, "2025-10-09T10:00:00"),
        ("Thu 09/10/2025 10:00 UTC", None, "2025-10-09T10:00:00"),
        ("Wed 09/10/2025 10:00 UTC", None, "2025-09-10T10:00:00"),
    ],
)
def test_what_settles_the_order_of_day_and_month(
    text: str, day_first: bool | None, begin: str
) -> None:
    assert spans_of(read(text, NOW, day_first=day_first)) == [[(begin, 60)]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-02-29 10:00Z", "no such day"),
        ("31/04/2026 10:00Z", "no such day"),
        ("13/13/2026 10:00Z", "no such day"),
        ("31 Feb 10:00:00 UTC", "no such day"),
        ("2026-11-23 24:00Z", "no such time of day"),
        ("2026-11-23 10:60Z", "no such time of day"),
        ("2026-11-23 13:00 PM UTC", "hour 13 does not go with AM or PM"),
        ("2026-11-23 0:30 AM UTC", "hour 0 does not go with AM or PM"),
        ("2016-12-31 23:59:60Z", "leap second"),
        ("2017-01-01 05:29:60 +0530", "leap second"),
        ("Tue, 23 Nov 2026 18:17:30 +0100", "2026-11-23 was a Monday, not a Tuesday"),
        ("Tue 2026-11-23 18:17:30 CET", "was a Monday, not a Tuesday"),
        ("Mon 09/10/2025 10:00 UTC", "not a Monday"),
        ("Tue Nov 23 18:17:30", "not a Tuesday"),
        ("2026-11-23 18:17 Europe/Berlni", "did you mean Europe/Berlin"),
        ("2026-11-23 18:17 europe/berlin", "did you mean Europe/Berlin"),
        ("2026-11-23 18:17 Europe", "unknown time zone 'Europe'"),
        ("2026-11-23 18:17 right/UTC", "unknown time zone 'right/UTC'"),
        ("2026-11-23 18:17 localtime", "unknown time zone 'localtime'"),
        ("2026-11-23 18:17 XQZT", "unknown time zone 'XQZT'"),
        ("2026-11-23 18:17 +15:00", "'+15:00' is no zone"),
        ("2026-11-23 18:17 +01:60", "'+01:60' is no zone"),
        ("2026-11-23 18:17 +1", "write +01:00"),
        ("2026-11-23 18:17-18:20", "a range is two times"),
        ("2026-11-23 08:17-09:20", "a range is two times"),
        ("2026-03-29 02:30 Europe/Berlin", "no clock showed it"),
        ("Mon Nov 23 18:17:30 CET 2026 +0100", "two zones"),
        ("1960-01-01 10:00Z", "1970 to 2262"),
        ("2262-12-31 10:00Z", "1970 to 2262"),
        ("1970-01-01 00:30 +01:00", "1970 to 2262"),
        ("23/11/26 10:00", "no known form"),
        ("2026-11-23 18:17:30.1234567890Z", "no known form"),
        ("12345", "no known form"),
        ("179000000000", "no known form"),
        ("\u0662\u0660\u0662\u0666-11-23", "no known form"),
        ("", "no known form"),
        # An operator can type these, a letter cannot.
        ("18:17", "no known form"),
        ("today", "no known form"),
        ("2h ago", "no known form"),
        ("now", "no known form"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text, NOW)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"cannot read the time '{text}': ")


def test_the_text_of_a_letter_is_safe_in_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        read("\x1b[31m" + "9" * 100_000, NOW)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("zones", "basis", "zone", "begin"),
    [
        (Zones(), Basis.UNKNOWN, "", None),
        (Zones(local=True), Basis.LOCAL, "+02:00", "2026-07-01T08:00:00"),
        (Zones(option="+05:30", local=True), Basis.OPTION, "+05:30", "2026-07-01T04:30:00"),
        (Zones(format="UTC", option="+05:30"), Basis.FORMAT, "UTC", "2026-07-01T10:00:00"),
        (
            Zones(noted="-0700 (PDT)", format="UTC", option="+05:30"),
            Basis.NOTED,
            "-07:00",
            "2026-07-01T17:00:00",
        ),
        (Zones(option="Asia/Tokyo"), Basis.OPTION, "Asia/Tokyo", "2026-07-01T01:00:00"),
    ],
)
@pytest.mark.parametrize("written", ["2026-07-01 10:00:00", "1 Jul 2026 10:00:00 -0000"])
def test_what_the_zone_rests_on(
    written: str, zones: Zones, basis: Basis, zone: str, begin: str | None
) -> None:
    found = read(written, NOW, zones)
    assert [(one.basis, one.zone) for one in found.readings] == [(basis, zone)]
    assert spans_of(found) == [[(begin, 1)] if begin else []]


def test_a_noted_zone_can_be_ambiguous_and_a_given_one_wins() -> None:
    assert len(read("2024-11-23 10:00", NOW, Zones(noted="CST")).readings) == 3
    found = read("2024-11-23 10:00 +0100", NOW, Zones(noted="CST"))
    assert [one.basis for one in found.readings] == [Basis.GIVEN]


@pytest.mark.parametrize(
    ("zone", "text", "spans"),
    [
        # An hour comes twice: two windows.
        (
            "Europe/Berlin",
            "2026-10-25 02:30",
            [("2026-10-25T00:30:00", 60), ("2026-10-25T01:30:00", 60)],
        ),
        (
            "Australia/Lord_Howe",  # by half an hour
            "2026-04-05 01:45",
            [("2026-04-04T14:45:00", 60), ("2026-04-04T15:15:00", 60)],
        ),
        ("Australia/Lord_Howe", "2026-04-05 01:15", [("2026-04-04T14:15:00", 60)]),
        # 25 and 23 hours.
        ("Europe/Berlin", "2026-10-25", [("2026-10-24T22:00:00", 90000)]),
        ("Europe/Berlin", "2026-03-29", [("2026-03-28T23:00:00", 82800)]),
        # The clock skips midnight: the day begins at one.
        ("America/Sao_Paulo", "2018-11-04", [("2018-11-04T03:00:00", 82800)]),
        ("America/Sao_Paulo", "2018-11-04 01:00", [("2018-11-04T03:00:00", 60)]),
        # The hour before midnight comes twice.
        (
            "America/Sao_Paulo",
            "2018-02-17 23:30",
            [("2018-02-18T01:30:00", 60), ("2018-02-18T02:30:00", 60)],
        ),
    ],
)  # fmt: skip
def test_daylight_saving(zone: str, text: str, spans: list[tuple[str, float]]) -> None:
    assert spans_of(read(text, NOW, Zones(option=zone))) == [spans]
    with local_zone(zone):
        assert spans_of(read(text, NOW, TYPED)) == [spans]


def test_local_time_of_two_offsets_names_both() -> None:
    (reading,) = read("2026-10-25 02:30", NOW, TYPED).readings
    assert reading.zone == "+02:00 and +01:00"


def test_a_day_that_a_zone_skipped() -> None:
    with pytest.raises(UsageError, match="set forward"):
        read("2011-12-30", NOW, Zones(option="Pacific/Apia"))


@pytest.mark.parametrize("text", ["2018-11-04 00:30", "2018-11-04 00:00"])
def test_a_midnight_that_a_zone_skips(text: str) -> None:
    with pytest.raises(UsageError, match="set forward"):
        read(text, NOW, Zones(option="America/Sao_Paulo"))


@pytest.mark.parametrize(
    ("text", "now", "begin"),
    [
        ("Nov 23 17:37:17", NOW, "2026-11-23T17:37:17"),
        ("Nov 23 18:37:17", NOW, "2026-11-23T18:37:17"),  # a clock that is an hour ahead
        ("Nov 23 18:37:18", NOW, "2025-11-23T18:37:18"),
        ("Dec 31 23:59:59", NOW, "2025-12-31T23:59:59"),
        ("Dec 31 23:59:59", NEW_YEAR, "2026-12-31T23:59:59"),
        ("Jan  1 00:00:05", NEW_YEAR, "2027-01-01T00:00:05"),
        ("Feb 29 10:00:00", NOW, "2024-02-29T10:00:00"),
        ("Feb 29 10:00:00", 4133980800 * S, "2096-02-29T10:00:00"),  # 2101; 2100 has none
    ],
)
def test_a_time_without_a_year_is_the_last_one(text: str, now: int, begin: str) -> None:
    assert spans_of(read(text, now, Zones(noted="UTC"))) == [[(begin, 1)]]


def test_a_guessed_year_goes_with_the_day_of_the_week() -> None:
    """14 November was a Tuesday in 2023 and 2017; without that day each year can be meant."""
    for word, years in (("Tue Nov 14 06:00:05", [2017, 2023]), ("Nov 14 06:00:05", [2025, 2026])):
        found = spans_of(read(f"{word} UTC", NOW, years=2))
        assert sorted(int(spans[0][0][:4]) for spans in found) == years
    assert len(read("2026-11-14 06:00:05 UTC", NOW, years=2).readings) == 1


def test_the_last_year_by_the_clock_of_the_zone() -> None:
    # It is 11:00 on New Year's Day in Auckland already.
    found = read("Jan 1 10:30:00", NEW_YEAR - 2 * 3600 * S, Zones(noted="Pacific/Auckland"))
    assert spans_of(found) == [[("2026-12-31T21:30:00", 1)]]


zones = st.sampled_from(
    ["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Casablanca",
     "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu", "America/Caracas"]
)  # fmt: skip
naive = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1))
near_changes = st.builds(
    lambda day, minutes: day + timedelta(minutes=minutes),
    st.sampled_from(
        [datetime(2026, 10, 25), datetime(2026, 3, 29), datetime(2018, 11, 4),
         datetime(2018, 2, 17), datetime(2026, 4, 5), datetime(2026, 10, 4),
         datetime(2011, 12, 30), datetime(2026, 3, 8)]
    ),
    st.integers(-1500, 1500),
)  # fmt: skip


@given(naive | near_changes, zones)
@example(datetime(2026, 10, 25, 2, 0), "Europe/Berlin")
@example(datetime(2026, 10, 25, 3, 0), "Europe/Berlin")
@example(datetime(2026, 10, 25, 2, 59, 59), "Europe/Berlin")
def test_a_wall_time_against_zoneinfo(wall: datetime, name: str) -> None:
    """zoneinfo's two folds, as far as they are there and back again, are the spans."""
    zone = ZoneInfo(name)
    wall = wall.replace(microsecond=0)
    moments = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    wanted = sorted(
        ns(each) for each in moments if each.astimezone(zone).replace(tzinfo=None) == wall
    )
    text = f"{wall:%Y-%m-%d %H:%M:%S}"
    if not wanted:
        with pytest.raises(UsageError, match="set forward"):
            read(text, NOW, Zones(noted=name))
        return
    (reading,) = read(text, NOW, Zones(noted=name)).readings
    assert reading.spans == tuple((begin, begin + S) for begin in wanted)


@given(near_changes, zones)
def test_the_local_zone_is_read_as_the_same_zone_by_name(wall: datetime, name: str) -> None:
    texts = (f"{wall:%Y-%m-%d %H:%M}", f"{wall:%Y-%m-%d}")
    with local_zone(name):
        for text in texts:
            try:
                wanted = read(text, NOW, Zones(option=name)).readings[0].spans
            except UsageError:
                with pytest.raises(UsageError):
                    read(text, NOW, TYPED)
            else:
                assert read(text, NOW, TYPED).readings[0].spans == wanted


@given(naive, st.integers(-14 * 60, 14 * 60))
def test_writers_of_the_standard_library_against_datetime(wall: datetime, minutes: int) -> None:
    moment = wall.replace(tzinfo=timezone(timedelta(minutes=minutes)), microsecond=0)
    begin = ns(moment)
    for text in (
        format_datetime(moment),
        moment.isoformat(),
        f"{moment:%d/%b/%Y:%H:%M:%S %z}",
        f"{moment:%a %b %d %H:%M:%S %Y %z}",
        f"{moment:%A, %d %B %Y %I:%M:%S %p %z}",
        f"{moment:%d.%m.%Y %H:%M:%S %z}",
    ):
        found = read(text, NOW)
        if minutes == 0 and text.endswith("-0000"):
            continue
        assert [one.spans for one in found.readings] == [((begin, begin + S),)], text


@given(naive)
def test_the_order_of_day_and_month_against_datetime(wall: datetime) -> None:
    """Of M/D/Y and D/M/Y, what is meant is always among the readings."""
    begin = ns(wall.replace(tzinfo=UTC, microsecond=0))
    for form in ("%m/%d/%Y %H:%M:%S UTC", "%d/%m/%Y %H:%M:%S UTC"):
        found = read(wall.strftime(form), NOW)
        assert ((begin, begin + S),) in [one.spans for one in found.readings]
        assert len(found.readings) == (2 if wall.day <= 12 and wall.day != wall.month else 1)


@given(st.integers(0, 366 * 86400 - 1), st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)))
def test_a_year_that_is_not_written_against_datetime(back: int, now: datetime) -> None:
    """A line of a log that is less than a year old is read with its own year."""
    then = now.replace(microsecond=0) - timedelta(seconds=back)
    later = then.replace(year=then.year + 1) if (then.month, then.day) != (2, 29) else None
    if later is not None and later <= now + timedelta(hours=1):
        return
    found = read(f"{then:%b %e %H:%M:%S}", ns(now.replace(tzinfo=UTC)), Zones(noted="UTC"))
    assert found.readings[0].spans[0][0] == ns(then.replace(tzinfo=UTC))


@given(st.text(max_size=40) | st.from_regex(r"[0-9:/. +a-zA-Z-]{1,30}", fullmatch=True))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    for known in (Zones(), TYPED, Zones(noted="CET")):
        found = _read_or_refused(text, known)
        if isinstance(found, str):
            assert len(found.splitlines()) == 1
            continue
        assert found.readings
        for reading in found.readings:
            assert all(0 <= begin <= end < 2**63 for begin, end in reading.spans)
            assert bool(reading.spans) == (reading.basis is not Basis.UNKNOWN)


def _read_or_refused(text: str, known: Zones) -> Moment | str:
    try:
        return read(text, NOW, known)
    except UsageError as error:
        return str(error)
