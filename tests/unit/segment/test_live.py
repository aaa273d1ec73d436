"""The published state of a recorder: valid only with its process, boot and segment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.errors import ArchiveError
from ctrecorder.segment import live
from ctrecorder.segment.live import LiveState, Publisher, read_live_state

CHAIN = "0123456789abcdef"


@pytest.fixture
def state(tmp_path: Path) -> LiveState:
    segment = tmp_path / "open.ctlog"
    segment.write_bytes(b"")
    status = segment.stat()
    hole = {"start": 5, "end": None, "reason": "no-events"}
    return LiveState(
        CHAIN, str(segment), status.st_dev, status.st_ino, 12345, (hole,), {"events": 1}
    )


def test_what_is_published_is_read(tmp_path: Path, state: LiveState) -> None:
    publisher = Publisher(str(tmp_path))
    assert read_live_state(CHAIN, str(tmp_path)) is None
    publisher.publish(state)
    assert read_live_state(CHAIN, str(tmp_path)) == state
    publisher.publish(replace(state, watermark=99))
    found = read_live_state(CHAIN, str(tmp_path))
    assert found is not None
    assert found.watermark == 99
    assert os.stat(tmp_path / f"{CHAIN}.json").st_mode & 0o777 == 0o644
    publisher.close()
    assert read_live_state(CHAIN, str(tmp_path)) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["open.ctlog"]


def test_losses_that_were_not_written_are_known_after_a_crash(
    tmp_path: Path, state: LiveState
) -> None:
    """Until something is written behind them: it can be their GAP."""
    folder = str(tmp_path)
    assert live.unwritten_losses(CHAIN, state.segment, folder) == 0
    Publisher(folder).publish(replace(state, counters={"unwritten": 7, "size": 0}))
    change(tmp_path, pid=2**22 + 1)
    assert live.unwritten_losses(CHAIN, state.segment, folder) == 7
    assert live.unwritten_losses("0123", state.segment, folder) == 0
    change(tmp_path, counters={"unwritten": "7", "size": 0})
    assert live.unwritten_losses(CHAIN, state.segment, folder) == 0
    change(tmp_path, counters={"unwritten": 7, "size": 0})
    Path(state.segment).write_bytes(b"GAP")
    assert live.unwritten_losses(CHAIN, state.segment, folder) == 0
    Path(state.segment).unlink()
    assert live.unwritten_losses(CHAIN, state.segment, folder) == 0


def change(tmp_path: Path, **members: Any) -> None:
    path = tmp_path / f"{CHAIN}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


@pytest.mark.parametrize(
    "members",
    [
        {"boottime_ns": live.boottime_ns() - live.VALID_NS - 1},
        {"boottime_ns": live.boottime_ns() + 3600 * 10**9},
        {"pid": 2**22 + 1},
        {"start_ticks": 1},
        {"inode": 1},
        {"device": 1},
        {"segment": "/nowhere"},
        {"chain": "0123"},
        {"watermark": None},
        {"holes": 3},
        {"state": 3},
        {"boottime_ns": 1e400},
    ],
)
def test_what_is_not_believed(tmp_path: Path, state: LiveState, members: dict[str, Any]) -> None:
    Publisher(str(tmp_path)).publish(state)
    change(tmp_path, **members)
    assert read_live_state(CHAIN, str(tmp_path)) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b" " * (1 << 19)])
def test_other_content_is_no_state(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{CHAIN}.json").write_bytes(content)
    assert read_live_state(CHAIN, str(tmp_path)) is None


def test_the_state_of_a_process_that_died_is_not_believed(tmp_path: Path, state: LiveState) -> None:
    code = (
        "import sys; from ctrecorder.segment.live import LiveState, Publisher\n"
        "Publisher(sys.argv[1]).publish(LiveState(*eval(sys.argv[2])))\n"
        "print('there', flush=True); input()"
    )
    fields = (CHAIN, state.segment, state.device, state.inode, 7)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), repr(fields)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"there\n"
    assert read_live_state(CHAIN, str(tmp_path)) is not None
    child.kill()
    child.communicate()
    assert read_live_state(CHAIN, str(tmp_path)) is None


def test_names_of_chains_lead_nowhere(tmp_path: Path, state: LiveState) -> None:
    Publisher(str(tmp_path)).publish(state)
    for chain in ("../x", "", "a/b", "..", CHAIN.upper() + "/"):
        assert read_live_state(chain, str(tmp_path)) is None


def test_a_folder_that_is_not_there(tmp_path: Path, state: LiveState) -> None:
    with pytest.raises(ArchiveError, match="No such file"):
        Publisher(str(tmp_path / "missing"))
