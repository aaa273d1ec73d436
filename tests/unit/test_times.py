"""Single times as text, and units of time, against datetime."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ctrecorder import times
from tests.support.local_zone import NOW, WARSAW, S, local_zone, utc


@pytest.fixture(autouse=True)
def warsaw() -> Iterator[None]:
    """Local time is Warsaw's."""
    with local_zone(WARSAW):
        yield


def test_units_of_time_against_datetime() -> None:
    for unit in ("s", "m", "h", "d", "w"):
        (name,) = (
            each for each in ("seconds", "minutes", "hours", "days", "weeks") if each[0] == unit
        )
        length = timedelta(**{name: 1}) // timedelta(microseconds=1) * 1000
        assert {times.UNITS[unit], times.unit_ns(name), times.unit_ns(name[:-1])} == {length}
    assert times.UNITS["y"] == times.unit_ns("years") == 31_557_600 * S
    assert [times.unit_ns(name) for name in ("ms", "hs", "x", "", "months")] == [None] * 5


@pytest.mark.parametrize("zone", [True, False])
def test_one_time_as_text(zone: bool) -> None:
    for ns in (0, 1, NOW, NOW + 123_456_789, utc(2026, 7, 1), 2**63 - 1, -1, -(2**63)):
        moment = datetime.fromtimestamp(ns // S, UTC)
        wanted = f"{moment if zone else moment.astimezone(ZoneInfo(WARSAW)):%Y.%m.%d %H:%M:%S}"
        assert times.text(ns, utc=zone) == f"{wanted}.{ns % S // 1000:06}"
        offset = f"{moment if zone else moment.astimezone(ZoneInfo(WARSAW)):%z}"
        shown = f"{offset[:3]}:{offset[3:]}"
        assert times.dated(ns, utc=zone) == f"{times.text(ns, utc=zone)} {shown}"
