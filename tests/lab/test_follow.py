"""ctlist --follow beside a real recorder: every event once, soon, over rotations, squeezing and
deletion; holes as they happen; an end in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.listeners import Recorder, ctlist
from tests.support.router import CHECKOUT, INSIDE, INSIDE6, SERVER, SERVER6, Lab, wait_until

# An event is shown this long after it happened, in seconds, at most.
LATE = 2.0


def has_segment(pid: int) -> bool:
    """Whether a process has a segment open: then it follows."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if ".ctlog" in os.readlink(link):
                return True
    return False


class Follower:
    """ctlist --follow, and what it has printed."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._out = folder.parent / "followed.txt"
        self._err = folder.parent / "followed.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [CHECKOUT / "bin/ctlist", "-F", *options, folder],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
            )

        wait_until(self._has_segment, "ctlist opening the segment")

    def _has_segment(self) -> bool:
        return has_segment(self.process.pid)

    @property
    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def said(self) -> str:
        return self._err.read_text()

    def wait(self, count: int, seconds: float = 20) -> float:
        """Wait until so many lines are there; how long that took, in seconds."""
        begun = time.monotonic()
        while len(self.lines) < count:
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"{len(self.lines)} lines of {count}: {self.said}")
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        return time.monotonic() - begun

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=10)


@pytest.fixture
def recorder(lab: Lab, tmp_path: Path) -> Iterator[Recorder]:
    one = Recorder(lab, tmp_path / "log")
    yield one
    if one.process.poll() is None:
        one.stop()


@pytest.fixture
def follower(recorder: Recorder) -> Iterator[Follower]:
    one = Follower(recorder.folder, "--utc")
    yield one
    one.process.kill()
    one.process.wait()


def rotate(recorder: Recorder) -> None:
    """A new segment, in a new second: it is named after it."""
    time.sleep(1.1)
    recorder.rotate()


def listed_without(folder: Path) -> list[str]:
    return ctlist("--utc", folder, code=None).stdout.splitlines()


def test_all_events_once_and_soon_over_rotations(
    lab: Lab, recorder: Recorder, follower: Follower
) -> None:
    for number in range(3):
        for _ in range(20):
            lab.tcp(INSIDE, (SERVER, 25))
            lab.udp(INSIDE6, (SERVER6, 53))
        assert follower.wait((number * 2 + 1) * 40) < LATE
        lab.flush()
        assert follower.wait((number * 2 + 2) * 40) < LATE
        rotate(recorder)
    recorder.flush()
    time.sleep(0.5)
    assert Counter(follower.lines) == Counter(listed_without(recorder.folder))
    assert follower.said == ""
    assert follower.stop() == 0


def test_only_what_matches(lab: Lab, recorder: Recorder) -> None:
    one = Follower(recorder.folder, "-p", "53", "--event", "new", "--format", "json")
    for _ in range(5):
        lab.tcp(INSIDE, (SERVER, 25))
        lab.udp(INSIDE, (SERVER, 53))
    lab.flush()
    one.wait(5)
    time.sleep(1.5)
    assert len(one.lines) == 5
    assert all('"orig_dport":53' in line and '"NEW"' in line for line in one.lines)
    assert one.stop() == 0


def test_since_a_time_and_on(lab: Lab, recorder: Recorder) -> None:
    """What was recorded before comes first, once."""
    lab.tcp(INSIDE, (SERVER, 25))
    rotate(recorder)
    lab.tcp(INSIDE, (SERVER, 25))
    lab.flush()
    recorder.flush()
    one = Follower(recorder.folder, "--utc", "--since", "-1h")
    one.wait(4)
    lab.tcp(INSIDE, (SERVER, 25))
    one.wait(5)
    recorder.flush()
    assert Counter(one.lines) == Counter(listed_without(recorder.folder))
    assert one.stop() == 0


def test_the_last_rows_and_on(lab: Lab, recorder: Recorder) -> None:
    """As tail -n 2 -f; with an expression."""
    for _ in range(3):
        lab.tcp(INSIDE, (SERVER, 25))
        lab.udp(INSIDE, (SERVER, 53))
    recorder.flush()
    one = Follower(recorder.folder, "--utc", "-n", "2", "tcp")
    one.wait(2)
    lab.udp(INSIDE, (SERVER, 53))
    lab.tcp(INSIDE, (SERVER, 25))
    one.wait(3)
    recorder.flush()
    time.sleep(0.5)
    assert one.lines == [line for line in listed_without(recorder.folder) if " tcp " in line][-3:]
    assert one.stop() == 0


def test_squeezed_and_deleted_files(lab: Lab, recorder: Recorder, follower: Follower) -> None:
    """The file that is followed is deleted, earlier ones are squeezed: nothing is lost, nor
    printed twice.
    """
    lab.tcp(INSIDE, (SERVER, 25))
    follower.wait(1)
    rotate(recorder)
    follower.process.send_signal(signal.SIGSTOP)
    lab.tcp(INSIDE, (SERVER, 25))
    lab.flush()
    rotate(recorder)
    # Two segments are closed: the followed one is deleted, the other squeezed while nobody looks.
    first, second, _ = recorder.segments
    subprocess.run(
        [CHECKOUT / "bin/ctsqueeze", "-f", second], check=True, capture_output=True, timeout=30
    )
    first.unlink()
    follower.process.send_signal(signal.SIGCONT)
    lab.tcp(INSIDE, (SERVER, 25))
    follower.wait(5)
    time.sleep(1)
    kinds = Counter(line[27] for line in follower.lines)
    assert kinds == Counter(S=3, E=2)
    assert len(set(follower.lines)) == 5


def test_a_segment_that_is_gone_is_a_hole(lab: Lab, recorder: Recorder, follower: Follower) -> None:
    follower.process.send_signal(signal.SIGSTOP)
    rotate(recorder)
    lab.tcp(INSIDE, (SERVER, 25))
    rotate(recorder)
    recorder.segments[1].unlink()
    follower.process.send_signal(signal.SIGCONT)
    lab.udp(INSIDE, (SERVER, 53))
    follower.wait(1)
    wait_until(lambda: "a segment is missing" in follower.said, "the hole")


def test_a_stopped_recorder_is_a_hole_as_it_happens(
    lab: Lab, recorder: Recorder, follower: Follower
) -> None:
    lab.tcp(INSIDE, (SERVER, 25))
    follower.wait(1)
    recorder.process.kill()
    recorder.process.wait()
    wait_until(lambda: re.search(r"not recording from .* on", follower.said), "the hole")
    again = Recorder(lab, recorder.folder)
    lab.udp(INSIDE, (SERVER, 53))
    follower.wait(2)
    wait_until(lambda: re.search(r"not recording from .* to ", follower.said), "its end")
    again.stop()


def test_a_closed_pipe_ends_it(lab: Lab, recorder: Recorder) -> None:
    """Also while nothing happens."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [CHECKOUT / "bin/ctlist", "-F", recorder.folder],
        stdout=writing,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    os.close(writing)
    wait_until(lambda: has_segment(process.pid), "ctlist opening the segment")
    os.close(reading)
    assert process.communicate(timeout=10)[1] == b""
    assert process.returncode == 0


def test_one_connection_one_end(lab: Lab, recorder: Recorder) -> None:
    """The time of an E is the end that -s shows; --times heard is when it was heard of, later."""
    for _ in range(5):
        lab.tcp(INSIDE, (SERVER, 25))
        lab.udp(INSIDE6, (SERVER6, 53))
    lab.flush()
    recorder.flush()
    lines = ctlist("--utc", recorder.folder).stdout.splitlines()
    assert [line[:26] for line in lines] == sorted(line[:26] for line in lines)
    ends = sorted(line[:26] for line in lines if line[27] == "E")
    spans = ctlist("--utc", "-s", recorder.folder).stdout.splitlines()
    assert ends == sorted(line[27:53] for line in spans)
    heard = ctlist("--utc", "--times", "heard", recorder.folder).stdout.splitlines()
    later = sorted(line[:26] for line in heard if line[27] == "E")
    assert all(one <= other for one, other in zip(ends, later, strict=True))
    # On a machine that is idle, the kernel's stop and its event can be in one microsecond.
    rows = map(json.loads, ctlist("-o", "json", "--utc", recorder.folder).stdout.splitlines())
    destroyed = [row for row in rows if row["event"] == "DESTROY"]
    for name, shown in (("stop", ends), ("time", later)):
        assert shown == sorted(_as_text(row[name]) for row in destroyed)
    assert sorted(line[26:] for line in heard) == sorted(line[26:] for line in lines)


def _as_text(time: str) -> str:
    """A time of JSON, as a line has it."""
    return time[:26].replace("-", ".").replace("T", " ")
