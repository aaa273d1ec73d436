"""How far off the clock was: by what the recorder noted near the time in question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query.clock import ClockState, clocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import MINUTE, SECOND
from tests.support.slow_pairing import DESTROY, NEW, row, table

T = 1_700_000_000 * SECOND


def state(synchronised: object, error_us: object) -> dict[str, object]:
    return {"clock": {"synchronised": synchronised, "error_us": error_us, "offset_us": 0}}


def record(
    path: Path, *notes: tuple[int, object, object], host: str = "router", version_1: bool = False
) -> Path:
    """A segment of ten minutes from T; `notes`: the minute, and the state of the clock then."""
    header = Header(
        requires=None if version_1 else ("coverage",),
        chain=host,
        sequence=1,
        host=host,
        boot_id=host,
        netns="1",
        state=state(True, 2_000),
    )
    writer = SegmentWriter.create(str(path), header, time_ns=T)
    writer.append(table([row(NEW, T + SECOND), row(DESTROY, T + 2 * SECOND)]))
    for minute, *facts in notes:
        mark = Mark.at(T + minute * MINUTE, "heartbeat", state(*facts))
        writer.mark(mark)
    writer.close()
    return path


def found(since: int, until: int, *paths: Path) -> list[ClockState | tuple[str, bool, int]]:
    """The clocks from minute `since` to minute `until`."""
    segments = [Segment(str(path)) for path in paths]
    try:
        return list(clocks(segments, T + since * MINUTE, T + until * MINUTE))
    finally:
        for segment in segments:
            segment.close()


def test_the_worst_state_around_the_time_counts(tmp_path: Path) -> None:
    notes = [(1, True, 5_000), (3, True, 9_000), (5, False, 16_000_000), (7, True, 1_000)]
    path = record(tmp_path / "a.ctlog", *notes)
    assert found(0, 1, path) == [("router", True, 5_000)]
    assert found(2, 3, path) == [("router", True, 9_000)], "the last before, the first after"
    assert found(4, 5, path) == [("router", False, 16_000_000)]
    assert found(6, 7, path) == [("router", False, 16_000_000)]
    assert found(8, 9, path) == [("router", True, 1_000)]
    assert found(0, 9, path) == [("router", False, 16_000_000)]


def test_what_no_kernel_says_is_no_proof(tmp_path: Path) -> None:
    strange = [(1, "yes", 1), (2, True, -5), (3, True, "1"), (4, True, True), (5, None, None)]
    path = record(tmp_path / "a.ctlog", *strange)
    assert found(0, 9, path) == [("router", True, 2_000)], "of the header"
    path = record(tmp_path / "b.ctlog", (1, True, 16_000_000))
    assert found(2, 3, path) == [("router", False, 16_000_000)]
    assert found(0, 9, record(tmp_path / "c.ctlog", (1, True, 1), version_1=True)) == []


@pytest.mark.parametrize("squeezed", [False, True])
def test_the_answer_says_how_far_each_clock_was_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], squeezed: bool
) -> None:
    first = record(tmp_path / "a.ctlog", (9, True, 16_500))
    if squeezed:
        squeeze(str(first), SqueezeOptions())
    asked = ["192.0.2.1:40000", f"@{T // SECOND + 60}", "-d", str(tmp_path)]
    ctwho.main(asked)
    assert "\nclock       synchronised, at most 0.017 s off\n" in capfd.readouterr().out
    record(tmp_path / "b.ctlog", (2, False, 16_000_000), host="other")
    ctwho.main(asked)
    out = capfd.readouterr().out
    assert "clock       other: not synchronised: each time can be wrong by any amount\n" in out
    assert "clock       router: synchronised, at most 0.017 s off\n" in out
    ctwho.main([*asked, "--format", "json"])
    assert json.loads(capfd.readouterr().out)["clock"] == [
        {"host": "other", "synchronised": False, "error_seconds": None},
        {"host": "router", "synchronised": True, "error_seconds": 0.0165},
    ]
