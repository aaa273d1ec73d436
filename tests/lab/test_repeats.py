"""Events that the kernel sends again, because another listener in reliable mode fell behind."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from ctrecorder.segment.reader import Segment
from tests.support import folders
from tests.support.listeners import Recorder, listed
from tests.support.proofs import proofs_of, sampled_proofs_of
from tests.support.reliable import reliable_listener, udp_flows
from tests.support.router import CHECKOUT, SYSCTLS, Lab

FLOWS = 300


@pytest.mark.parametrize("timestamp", [1, 0])
def test_connections_are_those_that_were_made(tmp_path: Path, timestamp: int) -> None:
    """Raw and squeezed, with the kernel's times and without."""
    log = tmp_path / "log"
    with (
        Lab(sysctls={**SYSCTLS, "nf_conntrack_timestamp": timestamp}) as lab,
        reliable_listener(lab) as listener,
    ):
        recorder = Recorder(lab, log)
        recorder.wait("table recorded")
        ports = udp_flows(lab, FLOWS, 3)
        lab.flush()
        time.sleep(1)
        listener.release()
        time.sleep(1)
        recorder.flush()
        recorder.stop()
    events = [row["event"] for row in listed(log)]
    assert events.count("NEW") > 2 * FLOWS, "the kernel sent nothing again"
    assert events.count("DESTROY") > FLOWS + FLOWS // 2, "the kernel sent nothing again"
    raw = listed("-s", log)
    assert sorted(row["orig_sport"] for row in raw) == ports
    assert {row["start_source"] for row in raw} == {"kernel" if timestamp else "receipt"}
    assert {row["end_source"] for row in raw} == {"kernel" if timestamp else "receipt"}
    assert proofs_of(log)[0] == sampled_proofs_of(log) == []
    squeezed = subprocess.run(
        [CHECKOUT / "bin/ctsqueeze", log], capture_output=True, text=True, timeout=60
    )
    assert squeezed.returncode == 0, squeezed.stderr
    counted = len(events) - 2 * FLOWS
    assert f"{counted:,} events came again and are counted once" in squeezed.stderr
    assert proofs_of(log)[0] == []
    (path,) = folders.paths(log)
    with Segment(str(path)) as segment:
        (mark,) = (mark for mark in segment.marks if mark.what == "repeats")
        assert mark.facts == {"events": counted}
        assert segment.gaps == []
    assert sorted(row["orig_sport"] for row in listed("-s", log)) == ports


@pytest.mark.parametrize("timestamp", [1, 0])
def test_events_that_come_again_in_the_next_segment_are_counted_once(
    tmp_path: Path, timestamp: int
) -> None:
    """Raw, and each segment squeezed by itself."""
    log = tmp_path / "log"
    with (
        Lab(sysctls={**SYSCTLS, "nf_conntrack_timestamp": timestamp}) as lab,
        reliable_listener(lab),
    ):
        recorder = Recorder(lab, log)
        recorder.wait("table recorded")
        time.sleep(1)  # the next segment has another name

        def rotate() -> None:
            recorder.rotate()
            recorder.wait("table recorded", 2)

        ports = udp_flows(lab, FLOWS, 3, rotate)
        lab.flush()
        recorder.flush()
        recorder.stop()
    first, second = recorder.segments
    again = [row for row in listed(second) if row["event"] == "NEW"]
    assert len({row["orig_sport"] for row in again}) > FLOWS // 2, "the kernel sent nothing again"
    assert sorted(row["orig_sport"] for row in listed("-s", log)) == ports
    for segment in (second, first):
        squeezed = subprocess.run([CHECKOUT / "bin/ctsqueeze", "-f", segment], timeout=60)
        assert squeezed.returncode == 0
        assert sorted(row["orig_sport"] for row in listed("-s", log)) == ports
