"""The histogram in a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctrecorder.pictures.histogram import lines, step_text
from ctrecorder.pictures.rates import Rates, edges_of
from ctrecorder.times import DAY, HOUR, MINUTE, SECOND
from tests.unit.pictures.test_rates import table

BEGIN = 1_790_000_000 // 3600 * 3600 * SECOND


def ahead(seconds: Any) -> Any:
    return np.full(len(seconds), 7200)


def shown(counts: list[int], holes: Any = (), **options: Any) -> list[str]:
    rates = Rates(edges_of(BEGIN, BEGIN + len(counts) * HOUR, HOUR, lambda one: one * 0))
    starts = [BEGIN + place * HOUR + 1 for place, count in enumerate(counts) for _ in range(count)]
    rates.add(table(starts))
    usual: dict[str, Any] = {"width": 60, "ascii_only": False, "utc": True, "offsets": ahead}
    return list(lines(rates, holes, HOUR, **{**usual, **options}))


def test_bars() -> None:
    assert shown([4, 0, 1200, 1]) == [
        "Connections begun in each 1 h; UTC",
        "2026.09.21 14:00      4 ▏",
        "2026.09.21 15:00      0",
        "2026.09.21 16:00  1,200 " + "█" * 36,
        "2026.09.21 17:00      1 ▏",
    ]


def test_no_line_is_wider_than_the_terminal_and_the_greatest_fills_it() -> None:
    for width in (40, 60, 79, 200):
        found = shown([3, 800, 1000], [(BEGIN, BEGIN + 1)], width=width)
        assert max(map(len, found[2:])) == width
    assert "█" * 8 in shown([9], width=10)[1]


def test_ascii() -> None:
    found = shown([1, 500, 250], [(BEGIN, BEGIN + 1)], ascii_only=True)
    assert all(line.isascii() for line in found)
    lengths = [line.count("#") for line in found[2:]]
    assert lengths[0] == 1
    assert lengths[1] // 2 == lengths[2]


def test_holes_are_marked() -> None:
    second = BEGIN + HOUR
    holes = [(second, second + HOUR), (BEGIN + 2 * HOUR, BEGIN + 2 * HOUR + SECOND)]
    found = shown([5, 0, 6, 7], holes)
    assert found[1] == "! marks a hole: more can have begun"
    assert found[3] == "2026.09.21 15:00 !  not recorded"
    assert [line[17] for line in found[2:]] == [" ", "!", "!", " "]
    assert shown([0, 5, 0, 0], holes)[3].startswith("2026.09.21 15:00 !5 █")


def test_the_zone_is_named() -> None:
    assert shown([1], utc=False)[0].endswith("local time, UTC+02:00")
    both = shown([1, 1], utc=False, offsets=lambda one: (one > BEGIN // SECOND) * 3600 - 3600)[0]
    assert both.endswith("local time, UTC-01:00 and UTC+00:00")


@pytest.mark.parametrize(
    ("step", "text"),
    [(HOUR, "1 h"), (15 * MINUTE, "15 min"), (7 * DAY, "7 d"), (90 * SECOND, "90 s")],
)
def test_lengths(step: int, text: str) -> None:
    assert step_text(step) == text
