"""The metrics of commands that end, and the commands themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.cli import ctexpire, ctsqueeze, cttest
from ctrecorder.ctlog.header import Header
from ctrecorder.metrics.job import job_ended
from ctrecorder.segment.writer import SegmentWriter
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T, row, table


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration with a folder `log` and a directory `metrics`."""
    (tmp_path / "log").mkdir()
    (tmp_path / "metrics").mkdir()
    (tmp_path / "ctrecorder.conf").write_text(
        f"[squeeze]\nfolder = {tmp_path}/log\n[expire]\nfolder = {tmp_path}/log\n"
        f"[metrics]\ndirectory = {tmp_path}/metrics\n"
    )
    return tmp_path


def segment(place: Path, number: int) -> Path:
    path = place / "log" / f"{number}.ctlog"
    writer = SegmentWriter.create(str(path), Header(chain="c", sequence=number), time_ns=T)
    writer.append(
        table([row(NEW, time=T + SECOND, id=number), row(DESTROY, time=T + 2 * SECOND, id=number)])
    )
    writer.close()
    return path


def samples(place: Path, command: str) -> dict[str, float]:
    """What a command wrote, without the folder; {} if it wrote nothing."""
    found = list((place / "metrics").glob(f"{command}-*.prom"))
    text = "".join(path.read_text() for path in found)
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.removeprefix("ctrecorder_").replace(f'folder="{place}/log"', "")
            values[name.replace("{}", "").replace("{,", "{")] = float(value)
    return values


def run(place: Path, main: object, *arguments: str) -> int:
    assert callable(main)
    return int(main(["-c", str(place / "ctrecorder.conf"), *arguments]))


def test_ctsqueeze(place: Path) -> None:
    segment(place, 1)
    assert run(place, ctsqueeze.main) == 0
    found = samples(place, "ctsqueeze")
    assert found.pop("squeeze_last_success_timestamp_seconds") > 1.7e9
    assert found == {"squeeze_backlog_segments": 0}
    data = bytearray(segment(place, 2).read_bytes())
    data[-200] ^= 1
    (place / "log/2.ctlog").write_bytes(data)
    run(place, ctsqueeze.main)
    assert samples(place, "ctsqueeze")["squeeze_backlog_segments"] == 1


def test_ctexpire(place: Path) -> None:
    path = segment(place, 1)
    segment(place, 2)
    assert run(place, ctsqueeze.main, "-f", str(path)) == 0
    assert run(place, ctexpire.main, "--max-age", "9000d") == 0
    found = samples(place, "ctexpire")
    assert found.pop("expire_last_success_timestamp_seconds") > 1.7e9
    oldest = found.pop("archive_oldest_timestamp_seconds")
    assert T <= oldest * SECOND <= T + 2 * SECOND
    size = sum(one.stat().st_size for one in (place / "log").glob("*.ctlog"))
    assert found == {
        "archive_bytes": size,
        'archive_segments{state="live"}': 0,
        'archive_segments{state="closed"}': 1,
        'archive_segments{state="crashed"}': 0,
        'archive_segments{state="squeezed"}': 1,
        "archive_max_age_seconds": 9000 * 86400,
        'expired_segments{reason="max_age"}': 0,
        'expired_segments{reason="max_size"}': 0,
        'expired_segments{reason="min_free"}': 0,
        "holds": 0,
    }
    assert run(place, ctexpire.main, "--max-age", "9000d", "--max-size", "1") == 0
    found = samples(place, "ctexpire")
    assert found["archive_bytes"] == 0
    assert found['expired_segments{reason="max_size"}'] == 2


def test_cttest(place: Path) -> None:
    path = segment(place, 1)
    assert run(place, cttest.main, "-q") == 0
    assert samples(place, "cttest")["verify_findings"] == 0
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert run(place, cttest.main, "-q") == 1
    found = samples(place, "cttest")
    assert found["verify_findings"] > 0
    assert "verify_last_success_timestamp_seconds" in found


def test_a_folder_of_no_setting_has_no_metrics(place: Path) -> None:
    (place / "copy").mkdir()
    (place / "copy/1.ctlog").write_bytes(segment(place, 1).read_bytes())
    assert run(place, cttest.main, "-q", str(place / "copy")) == 0
    assert samples(place, "cttest") == {}


def test_a_failure_leaves_no_time_of_success(place: Path) -> None:
    values = [("holds", (), 1)]
    config, folder = str(place / "ctrecorder.conf"), str(place / "log")
    for succeeded in (True, False):
        assert not job_ended(
            "ctexpire", "expire", folder, values, succeeded=succeeded, config=config
        )
        found = samples(place, "ctexpire")
        assert ("expire_last_success_timestamp_seconds" in found) is succeeded
        assert found["holds"] == 1
