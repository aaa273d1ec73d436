"""The lines of a view: what the golden files of test_terminal.py do not show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctrecorder.columns import Source, Table
from ctrecorder.screen import view as view_module
from ctrecorder.screen.fields import Look
from ctrecorder.screen.layout import UNICODE
from ctrecorder.screen.view import View
from ctrecorder.uapi import AF_INET6
from tests.support.rows import event, table

S = 10**9
BEGIN = 1795474800 * S  # 2026-11-23 23:00:00 UTC
PLAIN = {"orig_src": "192.168.1.5", "orig_dst": "198.51.100.9", "reply_src": "198.51.100.9"}
SIX = {"orig_src": "fd00::1", "orig_dst": "2001:db8::2", "reply_src": "2001:db8::2"}


def row(second: float, **more: Any) -> dict[str, Any]:
    ports = {"reply_sport": 25, "reply_dport": 1527}
    return event(**{"time": BEGIN + round(second * S), **PLAIN, **ports, **more})


def untranslated(second: float, **more: Any) -> dict[str, Any]:
    return row(second, reply_dst="192.168.1.5", orig_sport=1527, orig_dport=25, **more)


def lines(view: View, *tables: Table) -> list[str]:
    return b"".join(view.lines(tables)).decode().splitlines()


def events(width: int | None = 80) -> View:
    return View(Look(connections=False, utc=True), width=width)


def test_a_listing_without_nat_has_no_public_column_until_one_is_needed() -> None:
    one = events()
    first = lines(one, table([untranslated(1)]))
    assert "PUBLIC" not in first[0]
    assert "-> 198.51.100.9:25" in first[2]
    second = lines(one, table([row(2, reply_dst="203.0.113.1", orig_sport=7)]))
    assert "PUBLIC" in second[0]
    assert "203.0.113.1:1527" in second[1]
    assert not any("PUBLIC" in line for line in lines(one, table([untranslated(3)])))


def test_zone_and_mark_are_there_if_a_row_has_them() -> None:
    one = events()
    assert "ZONE" not in lines(one, table([untranslated(1, zone=0, mark=0)]))[0]
    marked = lines(one, table([untranslated(2, zone=7, mark=42), untranslated(3, orig_zone=3)]))
    assert marked[0].split()[-2:] == ["ZONE", "MARK"]
    assert marked[1].split()[-2:] == ["7", "0x2a"]
    assert marked[2].split()[-1] == "3/-"
    assert max(map(len, marked)) <= 80


def test_chunks_and_families_are_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The titles come again for IPv6, and never after that."""
    monkeypatch.setattr(view_module, "CHUNK_ROWS", 100)
    four = table([untranslated(2 * number) for number in range(500)])
    six = table(
        [
            event(time=BEGIN + round((2 * number + 301) * S), **SIX, reply_dst="fd00::1")
            for number in range(150)
        ],
        AF_INET6,
    )
    shown = lines(events(None), four, six)
    times = [line.split()[0] for line in shown if line[0].isdigit()]
    assert len(times) == 650
    assert times == sorted(times)
    assert sum(line.startswith("TIME") for line in shown) == 2


def test_a_day_and_a_change_of_the_offset_begin_a_line(berlin: None) -> None:
    """On 2026-10-25 at 01:00 UTC, clocks in Berlin are set back."""
    change = 1792890000
    one = View(Look(connections=False, utc=False), width=80)
    rows = [untranslated(0, time=(change + add) * S) for add in (-10_800, -1, 0, 86_400)]
    rules = [line for line in lines(one, table(rows)) if line.startswith("--")]
    assert [line.split()[1:4] for line in rules] == [
        ["Sun", "2026-10-25", "UTC+02:00"],
        ["Sun", "2026-10-25", "UTC+01:00"],
        ["Mon", "2026-10-26", "UTC+01:00"],
    ]


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Any:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_holes_stand_at_their_time_and_are_never_cut() -> None:
    one = events()
    one.holes = [
        (BEGIN - S, "before all"),
        (BEGIN + 2 * S, "a reason that is so long that it does not fit " * 3),
        (BEGIN + 99 * S, "after all"),
    ]
    shown = lines(one, table([untranslated(1), untranslated(3)]))
    kinds = [line.split()[1] if line.startswith("--") else line[:8] for line in shown]
    assert kinds[:5] == ["TIME    ", "Mon", "before", "23:00:01", "a"]
    assert shown[-1].startswith("23:00:03")
    assert max(map(len, shown)) <= 80
    assert sum(line.count("fit") for line in shown) == 3
    assert one.rest().decode() == "-- after all\n"
    assert one.rest() == b""


def test_no_rows_no_titles() -> None:
    assert lines(events()) == []
    assert lines(events(), table([untranslated(1)]).slice(0, 0)) == []


@pytest.mark.parametrize("width", [1, 20, 40, 60, 79, 99, 109, 200])
def test_any_width_is_kept_where_it_can_be(width: int) -> None:
    """Fixed columns are never cut; the addresses can be cut to nothing."""
    look = Look(connections=True, utc=True)
    spans = {"start": BEGIN, "start_source": Source.KERNEL, "end": 0, "end_source": 0}
    rows = [
        {**untranslated(1, reply_dport=5 + number), **spans, "orig_bytes": 2**60, "reply_bytes": 1}
        for number in range(3)
    ]
    for one in rows:
        del one["time"], one["event"]
    shown = lines(View(look, width=width, signs=UNICODE), table(rows))
    assert max(map(len, shown)) <= max(width, 45)
    assert np.all([("1.2E" in line) for line in shown[2:]])
