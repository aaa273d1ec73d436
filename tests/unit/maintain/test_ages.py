"""The age of segments whose clock was wrong: made chains, of which the true times are known."""

from __future__ import annotations

import os
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.check import doctor_log
from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.ages import Age, SegmentTimes, ages, ascending_run
from ctrecorder.maintain.expire import Expiry, Limits, undated
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service.log import Log
from ctrecorder.times import BEGIN, DAY, END, HOUR, SECOND, YEAR
from tests.support.slow_pairing import DESTROY, NEW, T, row, table

NOW = T + 100 * DAY
MAX_AGE = 90 * 86_400
Y1970, Y2099 = 100 * SECOND, 129 * YEAR


def day(number: int, clock: int | None = None, **changes: Any) -> SegmentTimes:
    """The segment of a day of chain c; `clock`: what the clock said, if it was wrong."""
    begun = T + number * DAY if clock is None else clock
    fields = {"begun": begun, "since": begun, "until": begun + DAY - SECOND, **changes}
    return SegmentTimes(f"{number:03}", "c", number + 1, **fields)


def ends(segments: list[SegmentTimes], now: int = NOW) -> dict[int, int | None]:
    """By day: in which day it is taken to have ended; None: not known."""
    return {
        int(path): (age.ends - T) // DAY if age.known else None
        for path, age in ages(segments, now).items()
    }


def test_a_chain_with_a_right_clock_is_as_old_as_it_says() -> None:
    assert ends([day(number) for number in range(90)]) == {n: n for n in range(90)}


# A first segment that is three years too old looks like an old one.
WRONG = [
    (clock, wrong)
    for clock in (Y1970, Y2099, T - 3 * YEAR, T + 50 * DAY)
    for wrong in ((5,), (3, 4, 7), (0,), (4, 5))
    if (clock, wrong) != (T - 3 * YEAR, (0,))
]


@pytest.mark.parametrize(("clock", "wrong"), WRONG)
def test_wrong_ones_lie_between_their_neighbours(clock: int, wrong: tuple[int, ...]) -> None:
    chain = [day(n, clock + n * DAY if n in wrong else None) for n in range(10)]
    random.Random(1).shuffle(chain)
    found = ends(chain)
    for number in range(10):
        if number not in wrong:
            assert found[number] == number
        else:
            later = next(n for n in range(number, 11) if n not in wrong)
            assert found[number] == later


def test_the_last_one_is_not_known_until_another_follows() -> None:
    chain = [day(0), day(1), day(2, Y2099)]
    assert ends(chain) == {0: 0, 1: 1, 2: None}
    assert ends([*chain, day(3)]) == {0: 0, 1: 1, 2: 3, 3: 3}


def test_a_clock_80_years_ahead_for_5_seconds() -> None:
    ahead = T + 5 * DAY + HOUR + 80 * YEAR
    chain = [day(n, until=ahead) if n == 5 else day(n) for n in range(10)]
    assert ends(chain) == {n: 6 if n == 5 else n for n in range(10)}
    # The segment that was begun in these seconds as well.
    chain[6] = day(6, ahead)
    assert ends(chain) == {n: 7 if n in (5, 6) else n for n in range(10)}


def test_holds_keep_what_may_be_of_their_time() -> None:
    chain = [day(0), day(1, Y1970), day(2), day(3, Y2099)]
    found = ages(chain, NOW)
    assert found["000"] == Age(T, T + DAY - SECOND, T + DAY - SECOND, True)
    assert (found["001"].since, found["001"].until) == (Y1970, T + 2 * DAY)
    assert (found["003"].since, found["003"].until) == (T + 3 * DAY - SECOND, END)
    set_late = day(1, since=T + DAY, until=T + 2 * DAY - SECOND, begun=Y2099)
    found = ages([day(0), set_late, day(2)], NOW)
    assert found["001"].since == T + DAY - SECOND, "what was recorded before the clock was set"
    assert found["001"].ends == T + 2 * DAY - SECOND
    assert ages([day(0, Y1970)], NOW)["000"] == Age(BEGIN, END, Y1970 + DAY - SECOND, False)


def test_chains_and_files_without_one_do_not_mix() -> None:
    alone = SegmentTimes("900", "", 0, T, T, T + DAY)
    other = SegmentTimes("901", "d", 2, Y2099, Y2099, Y2099 + DAY)
    assert ends([day(0), alone, other, day(1)]) == {0: 0, 1: 1, 900: 1, 901: None}


def test_times_before_the_first_synchronisation_date_nothing() -> None:
    never = [day(n, clocks=(False,)) for n in range(5)]
    assert set(ends(never).values()) == {None}
    trusted = ages(never, NOW, trust_clock=True)
    assert trusted == {one.path: Age(one.since, one.until, one.until, True) for one in never}
    # Trust is for what was never synchronised; 1970 stays 1970.
    assert not ages([day(0, Y1970, clocks=(False,))], NOW, trust_clock=True)["000"].known
    chain = [day(n, clocks=(False, n == 2)) for n in range(5)]
    # Before it was set it may have been at any date; afterwards it is a little off.
    assert ends(chain) == {0: 2, 1: 2, 2: 2, 3: 3, 4: 4}
    assert ends([day(0), day(1), day(2, clocks=(False,))]) == {0: 0, 1: 1, 2: None}
    # Segments of version 1.0 did not record it.
    chain = [day(0), day(1, clocks=(False,)), day(2, clocks=(True,)), day(3)]
    assert ends(chain) == {0: 0, 1: 2, 2: 2, 3: 3}


def test_while_the_clock_says_1970_nothing_is_old() -> None:
    assert set(ends([day(n) for n in range(5)], now=Y1970).values()) == {None}


def test_the_run_is_a_longest_one() -> None:
    chance = random.Random(3)
    for _ in range(300):
        points = [chance.choice([None, *range(6)]) for _ in range(chance.randrange(9))]
        run = sorted(ascending_run(points))
        values = [points[index] for index in run]
        assert all(one is not None for one in values)
        assert values == sorted(values, key=lambda one: one or 0)
        known = [one for one in points if one is not None]
        longest = max(
            size
            for size in range(len(known) + 1)
            if any(list(some) == sorted(some) for some in combinations(known, size))
        )
        assert len(run) == longest


def test_a_long_chain_takes_no_time() -> None:
    chain = [day(n % 9000, (T + n % 9000 * DAY) if n % 3 else Y2099) for n in range(9000)]
    assert len(ages(chain, T + 10_000 * DAY)) == 9000


def record(folder: Path, number: int, clock: int, *states: bool) -> str:
    """A segment of chain c with coverage, recorded while the clock said `clock`."""
    header = Header(requires=("coverage",) if states else None, chain="c", sequence=number + 1)
    path = folder / f"{number:03}.ctlog"
    writer = SegmentWriter.create(str(path), header, time_ns=clock)
    writer.append(table([row(NEW, clock), row(DESTROY, clock + SECOND)]))
    for state in states:
        facts = {"clock": {"synchronised": state, "error_us": 1, "offset_us": 0}}
        writer.mark(Mark.at(clock + SECOND, "heartbeat", facts))
    writer.close()
    return str(path)


def left(folder: Path) -> list[int]:
    return sorted(int(name[:3]) for name in os.listdir(folder) if name.endswith(".ctlog"))


def expire(folder: Path, **limits: Any) -> int:
    return Expiry(str(folder), Limits(**limits), NOW, Log("ctexpire")).run()


def test_ctexpire_deletes_neither_early_nor_never(tmp_path: Path) -> None:
    for number in range(0, 100, 5):
        clock = {5: Y1970, 50: Y1970, 20: Y2099, 95: Y2099}.get(number, T + number * DAY)
        record(tmp_path, number, clock)
    assert expire(tmp_path, max_age=MAX_AGE) == 0
    assert left(tmp_path) == list(range(5, 100, 5)), "day 5 may have ended when day 10 began"
    expire(tmp_path, max_age=40 * 86_400)
    assert left(tmp_path) == list(range(60, 100, 5)), "2099 and 1970 went with their neighbours"
    assert undated(str(tmp_path), NOW) == [str(tmp_path / "095.ctlog")]


@pytest.mark.parametrize("squeezed", [False, True])
def test_without_a_synchronised_clock_only_limits_of_size_delete(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], squeezed: bool
) -> None:
    paths = [record(tmp_path, n, Y1970 + n * DAY, False, False) for n in range(5)]
    if squeezed:
        for path in paths:
            squeeze(path, SqueezeOptions())
    size = sum(map(os.path.getsize, paths[2:]))
    assert expire(tmp_path, max_age=MAX_AGE) == 0
    assert left(tmp_path) == list(range(5))
    err = capfd.readouterr().err
    assert "not deleted by age, because the clock was not right or never synchronised: " in err
    assert ": 5 segments, the first is 0" in err
    assert err.count("\n") == 1
    look = list(doctor_log.look_at_segments(str(tmp_path), {"max_age": MAX_AGE}))
    assert any("5 segments of" in one.what and "not be deleted by age" in one.what for one in look)
    expire(tmp_path, max_size=size)
    assert left(tmp_path) == [2, 3, 4], "in their order"
    record(tmp_path, 5, T + 5 * DAY, False, True)
    capfd.readouterr()
    expire(tmp_path, max_age=MAX_AGE)
    assert (left(tmp_path), capfd.readouterr().err.count("not deleted by age")) == ([], 0)
