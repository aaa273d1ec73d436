"""The bar over time, against a model that looks at each moment by itself."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.render.timebar import ASCII, SEVERAL, Stretch, axis, bar
from ctrecorder.times import SECOND

DAY = 86_400 * SECOND
NOON = 20_420 * DAY + DAY // 2  # 2025-11-28

spans = st.tuples(st.integers(0, 60), st.integers(1, 20))
CELLS, LENGTH = 7, 60


@given(
    recorded=st.lists(spans, max_size=3), holes=st.lists(st.tuples(spans, st.sampled_from("OF")))
)
def test_each_character_shows_the_worst_of_its_time(
    recorded: list[tuple[int, int]], holes: list[tuple[tuple[int, int], str]]
) -> None:
    stretches, free = [], 0
    for start, length in sorted(recorded):
        if max(start, free) < start + length:
            stretches.append(Stretch(max(start, free), start + length, basis="watermarks"))
            free = start + length
    stretches += [Stretch(start, start + length, letter) for (start, length), letter in holes]
    drawn = bar(stretches, 0, LENGTH, CELLS, ASCII)
    for cell in range(CELLS):
        moments = range(LENGTH * cell // CELLS, LENGTH * (cell + 1) // CELLS)
        letters = {
            one.letter for one in stretches for at in moments if one.start <= at < one.end
        } - {""}
        covered = [
            any(one.basis and one.start <= at < one.end for one in stretches) for at in moments
        ]
        wanted = "#" if all(covered) else "+" if any(covered) else "."
        wanted = SEVERAL if len(letters) > 1 else next(iter(letters), wanted)
        assert drawn[cell] == wanted, (cell, drawn)


def test_a_hole_of_a_nanosecond_is_seen() -> None:
    recorded = Stretch(NOON, NOON + 90 * DAY, basis="watermarks")
    for number in range(80):
        start = NOON + 90 * DAY * number // 80
        for moment in (start, start + 90 * DAY // 80 - 1):
            hole = Stretch(moment, moment + 1, "O")
            drawn = bar([recorded, hole], NOON, NOON + 90 * DAY, 80, ASCII)
            assert drawn == "#" * number + "O" + "#" * (79 - number)


def test_the_bases_of_coverage_and_what_has_not_come_yet() -> None:
    bases = ("watermarks", "version 1.0", "nothing", "", "watermarks")
    stretches = [
        Stretch(10 * number, 10 * number + 10, basis=basis) for number, basis in enumerate(bases)
    ]
    stretches += [Stretch(50, 55, basis="watermarks"), Stretch(55, 80, not_yet=True)]
    assert bar(stretches, 0, 80, 8, ASCII) == "#=-.#>  "


def labels(line: str) -> dict[int, str]:
    """The labels of an axis by the column of their mark."""
    found, column = {}, 0
    for part in line.split("'")[1:]:
        column = line.index("'", column)
        found[column] = part.strip()
        column += 1
    return found


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("seconds", [1, 90, 3600, 86_400, 7 * 86_400, 90 * 86_400, 20 * 31_557_600])
def test_labels_are_at_their_times_and_within_the_width(width: int, seconds: int) -> None:
    since = NOON + 123 * SECOND
    until = since + seconds * SECOND
    line = axis(since, until, width, utc=True)
    assert len(line) <= width
    found = labels(line)
    assert found or seconds == 1
    cell = seconds / width
    step = 1 if cell < 600 else 60 if cell < 86_400 else 86_400
    for column, label in found.items():
        at = int(since / SECOND + column * cell)
        moments = [
            time.gmtime(second) for second in range(at - at % step, at + int(cell) + 2, step)
        ]
        texts = {time.strftime("%Y.%m.%d %H:%M:%S", moment) for moment in moments}
        assert any(label in each for each in texts), (label, texts)


def test_labels_are_local_times_on_both_sides_of_a_change_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        zone = ZoneInfo("Europe/Berlin")
        first = datetime(2025, 10, 20, tzinfo=zone).timestamp()
        last = datetime(2025, 11, 3, tzinfo=zone).timestamp()
        line = axis(int(first) * SECOND, int(last) * SECOND, 120, utc=False)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [label for _, label in sorted(labels(line).items())] == [
        *(f"10.{day}" for day in range(20, 32, 2 if "10.21" not in line else 1)),
        *(f"11.0{day}" for day in range(1, 3, 2 if "11.02" not in line else 1)),
    ]
