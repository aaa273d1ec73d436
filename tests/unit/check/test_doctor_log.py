"""The doctor's look at the log: a real folder, with segments of chosen times and sizes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from ctrecorder.check import doctor_log
from ctrecorder.check.doctor_log import DAY, DiskSpace, StoredSegment
from ctrecorder.check.doctor_tools import Finding, Note
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.live import LiveState, Publisher
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import SECOND
from tests.support import forge

HOUR, MIB, GIB = 3600 * SECOND, 1 << 20, 1 << 30
NOW = 20_000 * DAY
DAYS_90 = 90 * 86_400


def test_a_log_that_is_silent_open_empty_or_gone_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    (empty,) = doctor_log.look_at_log(str(tmp_path))
    assert empty.what == f"there is no segment in {tmp_path}"
    segment = tmp_path / "x.ctlog"
    SegmentWriter.create(str(segment), Header(), bytes(16), time_ns=time.time_ns()).close()
    assert list(doctor_log.look_at_log(str(tmp_path))) == []
    os.utime(segment, (0, time.time() - doctor_log.SILENT_SECONDS - 5))
    (silent,) = doctor_log.look_at_log(str(tmp_path))
    assert silent.what.startswith(f"nothing was written to {tmp_path} for 18")
    segment.touch()
    tmp_path.chmod(0o755)
    (public,) = doctor_log.look_at_log(str(tmp_path))
    assert public.changes == "the permissions of the folder: only its owner and group have access"
    subprocess.run(public.fix, shell=True, check=True)
    assert list(doctor_log.look_at_log(str(tmp_path))) == []
    (gone,) = doctor_log.look_at_log(str(tmp_path / "none"))
    assert gone.what == f"{tmp_path}/none does not exist"
    assert gone.fix == f"mkdir -m 750 {tmp_path}/none", "tmpfiles.d makes the default folder only"


@pytest.mark.parametrize("name", ["syslog", ".hidden", "x.ctlog"])
def test_a_folder_that_others_use_stays_open(tmp_path: Path, name: str) -> None:
    """To take /tmp or /var/log from all other programs would break the machine."""
    tmp_path.chmod(0o1777)
    (tmp_path / name).write_text("a line of another program")
    (public,) = doctor_log.look_at_log(str(tmp_path))
    assert f"it has other files, such as {name}" in public.what
    assert public.changes.startswith("nothing: it shows the folder")
    subprocess.run(public.fix, shell=True, check=True)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize(("unheard", "elsewhere"), [(3, False), (0, False), (3, True)])
def test_connections_that_were_not_reported_are_found(
    tmp_path: Path, unheard: int, elsewhere: bool
) -> None:
    log, state = tmp_path / "log", tmp_path / "run"
    log.mkdir()
    state.mkdir()
    segment = tmp_path / "x.ctlog" if elsewhere else log / "x.ctlog"
    segment.touch()
    status = segment.stat()
    publisher = Publisher(str(state))
    publisher.publish(
        LiveState("c0", str(segment), status.st_dev, status.st_ino, 1, (), {}, {"unheard": unheard})
    )
    found = list(doctor_log.look_at_unheard(str(log), str(state)))
    publisher.close()
    assert [each.what for each in found] == (
        [
            "since the recorder started, the kernel did not report at least 3 connections of a "
            "sample: the log is not complete"
        ]
        if unheard and not elsewhere
        else []
    )
    assert all(each.fix == f"ctlist --coverage {log}" for each in found)


@pytest.mark.parametrize(
    ("free_mib", "whole_mib", "found"),
    [(40, 1000, True), (300, 1000, False), (60, 100, False), (20, 100, True)],
)
def test_a_disk_that_is_nearly_full_is_found(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, whole_mib: int, found: bool
) -> None:
    disk = os.statvfs_result((1 << 20, 1 << 20, whole_mib, free_mib, free_mib, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert bool(list(doctor_log.look_at_disk("/x"))) is found


def test_the_fix_of_a_full_disk_shows_what_takes_the_space() -> None:
    """On a file system that is small enough to be searched at once."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / "large").write_bytes(bytes(51 << 20))
        fix = doctor_log._show_space(folder)
        done = subprocess.run(fix, shell=True, check=True, capture_output=True, text=True)
        assert [line for line in done.stdout.splitlines() if line.endswith(f"\t{folder}")]
        assert done.stdout.splitlines()[-1].endswith("\t/dev/shm"), "the largest comes last"


def hours(first: int, last: int, size: int, start: int = NOW) -> list[StoredSegment]:
    """A segment of `size` bytes for each hour."""
    return [
        StoredSegment(start + hour * HOUR, start + (hour + 1) * HOUR, size)
        for hour in range(first, last)
    ]


def test_the_rate_is_that_of_a_week_without_what_is_not_squeezed_yet() -> None:
    assert doctor_log.daily_rate([]) is None
    assert doctor_log.daily_rate(hours(0, 23, MIB)) is None, "less than a day tells no rate"
    assert doctor_log.daily_rate(hours(0, 24, MIB)) == pytest.approx(24 * MIB)
    # 20 days: the last one is not squeezed yet, the first 12 are longer ago than a week.
    old, week, new = hours(0, 288, 9 * MIB), hours(288, 456, MIB), hours(456, 480, 5 * MIB)
    assert doctor_log.daily_rate(old + week + new) == pytest.approx(24 * MIB)


def test_the_rate_ignores_times_without_a_recording_and_adds_two_recorders() -> None:
    paused = hours(0, 36, MIB) + hours(60, 96, MIB)
    assert doctor_log.daily_rate(paused) == pytest.approx(24 * MIB)
    assert doctor_log.daily_rate(hours(0, 72, MIB) * 2) == pytest.approx(48 * MIB)


@pytest.mark.parametrize(
    ("expire", "kind", "part"),
    [
        ({"max_age": DAYS_90}, Note, "the disk has room for 145 days of log"),
        ({"max_age": 365 * 86_400}, Finding, "max_age is 365 days: it will be full"),
        ({"max_age": DAYS_90, "max_size": GIB}, Finding, "max_size has room for 42 days of log"),
        (
            {"max_age": DAYS_90, "min_free": 0.5},
            Finding,
            "room for 38 days of log at the present rate of 24.0 MiB a day, and max_age is "
            "90 days: ctexpire deletes segments before that age",
        ),
        ({"max_age": DAYS_90, "min_free": 10 * MIB}, Note, "144 days"),
        ({"max_age": None}, Note, "max_age is not set"),
    ],
)
def test_the_room_is_compared_with_max_age(
    expire: dict[str, int | float | None], kind: type, part: str
) -> None:
    files = hours(0, 240, MIB)
    space = DiskSpace(free=3240 * MIB, whole=5120 * MIB)
    (found,) = doctor_log.describe_room("/x", files, space, expire)  # type: ignore[arg-type]
    assert isinstance(found, kind), found
    assert part in found.what


def test_a_disk_that_is_full_soon_is_found_without_max_age() -> None:
    space = DiskSpace(free=240 * MIB, whole=5120 * MIB)
    (found,) = doctor_log.describe_room("/x", hours(0, 240, MIB), space, {"max_age": None})
    assert isinstance(found, Finding)
    assert found.what.startswith("the disk of /x is full in 10 days at the present rate")
    assert list(doctor_log.describe_room("/x", [], space, {})) == []


def segment(path: Path, begun: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole segment that begins and ends at `begun`."""
    monkeypatch.setattr(forge, "NOON", begun)
    path.write_bytes(forge.segment())


def test_segments_of_a_wrong_clock_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = time.time_ns()

    def look() -> list[str]:
        return [one.what for one in doctor_log.look_at_segments(str(tmp_path), {"max_age": None})]

    segment(tmp_path / "a.ctlog", now - HOUR, monkeypatch)
    segment(tmp_path / "b.ctlog", now + 30 * SECOND, monkeypatch)
    assert look() == []
    segment(tmp_path / "c.ctlog", 12 * SECOND, monkeypatch)
    segment(tmp_path / "d.ctlog", 13 * SECOND, monkeypatch)
    early = f"the clock was wrong: c.ctlog and 1 more in {tmp_path} are dated before the year 2000"
    assert look() == [f"{early}; {doctor_log._NEIGHBOURS}"]
    segment(tmp_path / "e.ctlog", now + 70 * 365 * DAY, monkeypatch)
    _, late = look()
    assert late == (
        f"the clock was wrong: e.ctlog in {tmp_path} is dated in the future; "
        "ctexpire takes the times of the segments before and after it"
    )
    fixes = [
        one.fix
        for one in doctor_log.look_at_segments(str(tmp_path), {"max_age": None})
        if isinstance(one, Finding)
    ]
    assert [fix.split()[:2] for fix in fixes] == [["ctlist", "--headers"]] * 2
    (tmp_path / "f.ctlog").write_bytes(b"no segment")
    (tmp_path / "g.ctlog").write_bytes((tmp_path / "a.ctlog").read_bytes()[64:])
    assert len(look()) == 2, "what has no date has no wrong one"
    assert [one.what for one in doctor_log.look_at_segments(f"{tmp_path}/none", {})] == []


def test_the_rate_is_read_from_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A segment without a footer ends where it was written last."""
    now = time.time_ns()
    monkeypatch.setattr(forge, "NOON", now - 3 * DAY)
    (tmp_path / "a.ctlog").write_bytes(forge.segment(closed=False).ljust(3 * MIB, b"\1"))
    (note,) = doctor_log.look_at_segments(str(tmp_path), {"max_age": 86_400})
    assert "at the present rate of 1.0 MiB a day, and max_age is 1 day" in note.what


def test_what_stands_beside_the_segments_is_neither_foreign_nor_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock or a ledger that was just written does not show that the recorder writes."""
    path = tmp_path / "a.ctlog"
    SegmentWriter.create(str(path), Header(), time_ns=SECOND).close()
    os.utime(path, (1, 1))
    for name in (".ctrecorder.lock", "ctexpire.receipts"):
        (tmp_path / name).touch()
    found = [one.what for one in doctor_log.look_at_log(str(tmp_path))]
    assert any("nothing was written" in what for what in found)
    tmp_path.chmod(0o755)
    found = [one.what for one in doctor_log.look_at_log(str(tmp_path))]
    assert any("every user can read" in what for what in found)
    assert not any("it has other files" in what for what in found)
