"""Columns by name: their texts for people and exact ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from ctrecorder.columns import Source, Table
from ctrecorder.errors import UsageError
from ctrecorder.screen import fields
from ctrecorder.screen.fields import Look, length, si
from tests.support.rows import event, table

S = 10**9
BEGIN = 1795474800 * S  # 2026-11-23 23:00:00 UTC


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


def texts(name: str, one: Table, look: Look) -> list[str]:
    return fields.field_of(name, connections=look.connections).texts(one, look)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (1999, "2.0k"), (9949, "9.9k"), (9950, "10k")]
    + [(999_499, "999k"), (999_500, "1.0M"), (10_000_000, "10M"), (2**64 - 1, "18E")],
)
def test_si(number: int, text: str) -> None:
    assert si(number) == text


def test_si_has_four_characters_at_most() -> None:
    assert max(len(si(10**power * digit)) for power in range(19) for digit in (1, 9)) == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00s"), (0.994, "0.99s"), (0.996, "1.0s"), (9.96, "10s"), (59.4, "59s")]
    + [(59.6, "1m00s"), (3599.6, "1h00m"), (7500, "2h05m"), (86_399, "23h59m")]
    + [(86_400, "1d00h"), (99 * 86_400, "99d00h"), (400 * 86_400, "400d")],
)
def test_length(seconds: float, text: str) -> None:
    assert length(round(seconds * S)) == text


def connection(start: int, start_source: Source, end: int, end_source: Source) -> Table:
    span = {"start": start, "start_source": start_source, "end": end, "end_source": end_source}
    row = event(**span)
    del row["event"], row["time"]
    return table([row])


@pytest.mark.parametrize(
    ("start", "end", "shown", "moment"),
    [
        (Source.KERNEL, Source.KERNEL, "1m05s", "00:00:00"),
        (Source.RECEIPT, Source.RECEIPT, "1m05s", "00:00:00r"),
        (Source.BOUND, Source.KERNEL, ">1m05s", "00:00:00<"),
        (Source.KERNEL, Source.BOUND, "<1m05s", "00:00:00"),
        (Source.BOUND, Source.BOUND, "~1m05s", "00:00:00<"),
        (Source.KERNEL, Source.UNKNOWN, "open?", "00:00:00"),
        (Source.UNKNOWN, Source.KERNEL, "-", "-"),
    ],
)
def test_a_duration_says_what_it_rests_on(
    start: Source, end: Source, shown: str, moment: str
) -> None:
    one = connection(BEGIN if start else 0, start, BEGIN + 65 * S if end else 0, end)
    look = Look(connections=True, utc=False)
    assert texts("duration", one, look) == [shown]
    assert texts("time", one, look) == [moment]


def test_the_time_of_an_end_is_the_kernels_stop_or_when_it_was_heard() -> None:
    rows = [
        event(time=BEGIN + S, event=3, start=BEGIN - S, stop=BEGIN),
        event(time=BEGIN + S, event=3),
        event(time=BEGIN + S, event=1),
    ]
    one = table(rows)
    assert texts("time", one, Look(False, utc=False)) == ["00:00:00", "00:00:01r", "00:00:01r"]
    heard = Look(False, utc=False, heard=True)
    assert texts("time", one, heard) == ["00:00:01r"] * 3
    assert texts("duration", one, Look(False, utc=False)) == ["1.0s", "", ""]


def test_a_time_with_its_date_and_offset() -> None:
    one = table([event(time=BEGIN, event=1)])
    assert texts("time", one, Look(False, utc=False, dated=True)) == ["2026-11-24 00:00:00+01:00r"]
    assert texts("time", one, Look(False, utc=True, dated=True)) == ["2026-11-23 23:00:00+00:00r"]
    exact = Look(False, utc=False, exact=True)
    assert texts("time", one, exact) == ["2026-11-23T23:00:00.000000000Z"]


def test_unknown_counters_are_not_0() -> None:
    counted = {"orig_bytes": 0, "reply_bytes": 0}
    one = table([event(event=3, **counted), event(event=3)])
    assert texts("bytes", one, Look(False, utc=True)) == ["0", ""]


def test_who_answered_behind_dnat() -> None:
    inner = event(reply_src="192.0.2.80", reply_sport=8080)
    plain = event()
    one = table([inner, {**plain, "reply_src": plain["orig_dst"], "reply_sport": 25}])
    assert texts("server", one, Look(False, utc=True)) == ["192.0.2.80:8080", ""]


@pytest.mark.parametrize(
    ("name", "said"),
    [("remte", "did you mean 'remote'?"), ("orig_scr", "did you mean 'orig_src'?"), ("%", "use ")],
)
def test_a_wrong_name_says_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError, match="no column") as error:
        fields.field_of(name, connections=False)
    assert said in str(error.value)


def test_columns_of_the_other_kind_are_refused() -> None:
    with pytest.raises(UsageError):
        fields.fields_of("ev", connections=True)
    with pytest.raises(UsageError):
        fields.fields_of("end", connections=False)
    with pytest.raises(UsageError, match="names no column"):
        fields.fields_of(" , ", connections=False)
