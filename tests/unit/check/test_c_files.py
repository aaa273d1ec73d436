"""Files of the C ctrecorder in a folder of ctrecord: no chain, no seal and no log entry is expected
of them, nor of segments that were made of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.check import anchors, verify
from ctrecorder.check.collect import check_segment
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.witness import logged
from tests.support import c_ctrecorder as old
from tests.support.tables import NOON

KEY = b"key"


@pytest.fixture(params=["plain", "converted"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of the C ctrecorder, as it is or converted, beside a sealed segment."""
    path = tmp_path / "c"
    path.write_bytes(old.header() + b"".join(event.pack() for event in old.traffic(10)))
    if request.param == "converted":
        squeeze(str(path), SqueezeOptions())
    header = Header(chain="c", sequence=1)
    SegmentWriter.create(str(tmp_path / "a"), header, time_ns=NOON, key=KEY).close()
    return tmp_path


def test_they_are_not_expected_to_be_sealed(folder: Path) -> None:
    lines: list[str] = []
    assert verify.check([str(folder)], lines.append, key=KEY) == verify.WHOLE, lines
    assert lines[-1] == "2 segments checked: 2 whole, 0 damaged"


def test_a_segment_of_ctrecord_is(folder: Path) -> None:
    SegmentWriter.create(str(folder / "b"), Header(), time_ns=NOON).close()
    lines: list[str] = []
    assert verify.check([str(folder)], lines.append, key=KEY) == verify.DAMAGED
    assert f"{folder / 'b'}: is not sealed, and no later segment of its chain is" in lines
    assert lines[-1] == "3 segments checked: 3 whole, 0 damaged; chain: 1 finding"


def test_no_log_entry_is_expected(folder: Path) -> None:
    """That there is none is no finding; but nothing proves them, and that is said."""
    reports = [check_segment(str(folder / name), KEY) for name in ("a", "c")]
    last_hash = reports[0].link.hashes[0]
    known = [logged.Anchor("closed", str(folder / "a"), last_hash, "")]
    found = anchors.compare(reports, known, [str(folder)])
    what = f"1 segment that ctrecord did not record is unproved: {folder / 'c'}"
    assert (found.findings, found.unproved) == ([], [what])
