"""The times of a letter: zones that it notes, days before months, what is in the future."""

from __future__ import annotations

from datetime import datetime

import pytest

from ctrecorder.envelopes.bounds import Refused
from ctrecorder.envelopes.clock import Clock, begin
from ctrecorder.envelopes.text import Text
from ctrecorder.moments.moment import Basis
from ctrecorder.times import SECOND

NOW = 1_795_867_200 * SECOND  # 2026-11-28 12:00 UTC


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def reads(
    word: str, letter: str = "", option: str = "", **zones: str
) -> list[tuple[str, int | None]]:
    """Basis and first instant of each reading of a word in a letter."""
    moment = Clock([Text("", "", letter.encode())], NOW, option).moment(word, **zones)
    if moment is None:
        return []
    return [
        (reading.basis.name, reading.spans[0][0] if reading.spans else None)
        for reading in moment.readings
    ]


@pytest.mark.parametrize(
    "note",
    [
        "Note: Local timezone is +0100 (CET)",
        "Time zone: +01:00",
        "All times are in CET.",
        "timestamps in the log are CET",
        "Timezone of the server: Europe/Berlin",
        "All times CET",
        "Timestamps (CET):",
    ],
)
def test_notes_of_zones(note: str) -> None:
    assert reads("2026-11-24 06:00:05", note) == [("NOTED", at("2026-11-24T05:00:05Z"))]


def test_a_note_of_the_other_season() -> None:
    """What fail2ban notes on the day of its mail, beside a line of the week before."""
    readings = reads("2026-10-20 06:00:05", "Local timezone is +0100 (CET)\nTimezone: +0100")
    assert sorted(readings) == [
        ("NOTED", at("2026-10-20T04:00:05Z")),
        ("NOTED", at("2026-10-20T05:00:05Z")),
    ]


@pytest.mark.parametrize(
    "note",
    [
        "Local timezone is +0100 (CET)\nTimezone: UTC",
        "Timezone: Europe/Berlni",
        "the times are in the log",
        "Sometimes we are ABCD",
    ],
)
def test_notes_that_contradict_or_name_no_zone(note: str) -> None:
    assert reads("2026-11-24 06:00:05", note) == [("UNKNOWN", None)]


def test_which_zone_wins() -> None:
    """Its own, its table's, the format's, the note of the letter, and then the operator's."""
    note = "Local timezone is +0100"
    word, utc, cet = "2026-11-24 06:00:05", at("2026-11-24T06:00:05Z"), at("2026-11-24T05:00:05Z")
    assert reads(f"{word}Z", note, noted="+02:00") == [("GIVEN", utc)]
    assert reads(word, note, noted="UTC") == [("NOTED", utc)]
    assert reads(word, note, convention="UTC") == [("FORMAT", utc)]
    assert reads(word, note, option="UTC") == [("NOTED", cet)]
    assert reads(word, option="UTC") == [("OPTION", utc)]


def test_the_same_time_told_with_its_zone() -> None:
    letter = "seen at 2026-11-24 06:00:05 +01:00 by us"
    assert reads("2026-11-24,06:00:05".replace(",", " "), letter)[0][0] == "NOTED"
    assert reads("2026-11-24 06:00:06", letter) == [("UNKNOWN", None)]
    both = f"{letter}\nand 2026-11-24 06:00:05 +02:00"
    assert reads("2026-11-24 06:00:05", both) == [("UNKNOWN", None)]


def test_day_and_month() -> None:
    """Another date of the letter shows the order; the future is no reading."""
    assert len(reads("02/03/2026 06:00:05 UTC")) == 2
    march = [("GIVEN", at("2026-03-02T06:00:05Z"))]
    assert reads("02/03/2026 06:00:05 UTC", "13/02/2026") == march
    assert reads("02/03/2026 06:00:05 UTC", "02/13/2026") != march
    assert len(reads("02/03/2026 06:00:05 UTC", "02/13/2026 13/02/2026")) == 2
    assert reads("11/12/2026 06:00:05 UTC") == [("GIVEN", at("2026-11-12T06:00:05Z"))]


def test_places_and_printable_text() -> None:
    clock = Clock([], NOW, "")
    text = Text("f", "1", b"x\n at 2026-11-24\t06:00:05Z.")
    ((start, end),) = clock.find(text.text[2:])
    field = clock.read(text, start + 2, end + 2)
    assert field is not None
    assert field.value.text == "2026-11-24 06:00:05Z"
    assert (field.place.raw, field.place.line) == (b"2026-11-24\t06:00:05Z", 2)
    assert begin(field) == at("2026-11-24T06:00:05Z")
    assert field.value.readings[0].basis is Basis.GIVEN
    assert clock.moment("yesterday") is None
    assert begin(None) is None


def test_the_search_for_times_is_bounded() -> None:
    clock = Clock([], NOW, "")

    def search() -> None:
        for number in range(2_500):
            clock.find(f"{number:900d} 6:00")

    with pytest.raises(Refused, match="lines with times"):
        search()
