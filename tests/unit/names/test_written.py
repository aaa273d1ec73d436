"""Times of sources: cached by quarters of an hour, they are what the reader of times reads."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctrecorder.errors import UsageError
from ctrecorder.moments.moment import Zones
from ctrecorder.moments.reader import read
from ctrecorder.names.written import Spans, Times

NOW = 1795455437 * 10**9
KNOWN = Zones(option="Europe/Berlin")
TIMES = Times(NOW, KNOWN)
near = st.builds(
    lambda day, seconds: day + timedelta(seconds=seconds),
    st.sampled_from([datetime(2026, 10, 25), datetime(2026, 3, 29), datetime(2026, 4, 5)]),
    st.integers(-4 * 3600, 8 * 3600),
)


def expected(text: str) -> tuple[Spans, ...] | None:
    try:
        return tuple(one.spans for one in read(text, NOW, KNOWN).readings)
    except UsageError:
        return None


def found(text: str) -> tuple[Spans, ...] | None:
    try:
        return TIMES.readings(text)
    except ValueError:
        return None


@given(
    near,
    st.sampled_from(
        ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%b %d %Y %H:%M:%S", "%Y-%m-%d %I:%M:%S",
         "%d.%m.%Y %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"]
    ),
    st.sampled_from(
        ["", "Z", " UTC", "+01:00", " CET", " CEST", " CST", " Europe/Berlni", " AM", " PM", " pm",
         " Australia/Lord_Howe", ".25Z", "-05:00", " -0000"]
    ),
)  # fmt: skip
@example(datetime(2026, 10, 25, 2, 59, 59), "%Y-%m-%d %H:%M:%S", "")
@example(datetime(2026, 3, 29, 2, 0, 0), "%Y-%m-%d %H:%M:%S", "")
@example(datetime(2026, 4, 5, 1, 30, 0), "%Y-%m-%d %H:%M:%S", " Australia/Lord_Howe")
def test_it_reads_what_the_reader_reads(moment: datetime, form: str, zone: str) -> None:
    text = moment.strftime(form) + zone
    assert found(text) == expected(text)


@pytest.mark.parametrize("text", ["2026-11-23 10:07:60Z", "2026-11-23 24:07:00Z", "x10:07:00Z"])
def test_what_it_refuses_it_names_as_it_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"'{text}'")):
        TIMES.readings(text)
