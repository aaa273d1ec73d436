"""A recorder's life: a new segment, a flush, an orderly end, a sudden one, a daemon; and what can
be listed meanwhile and after.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.segment.reader import Segment
from tests.support import folders
from tests.support.listeners import Recorder, ctlist, listed
from tests.support.router import CHECKOUT, INSIDE, SERVER, Lab, event_sockets, wait_until


class Clockwork:
    """A recorder with -t 1, for the last test here: started first, so that a minute ends while the
    others run.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        # What is open must stay open till then.
        lab.router.sysctl(nf_conntrack_udp_timeout=600, nf_conntrack_udp_timeout_stream=600)
        self.started = time.time()
        self.recorder = Recorder(lab, folder, "-t", 1, template="%H%M.ctlog")
        lab.udp(INSIDE, (SERVER, 1))


@pytest.fixture(scope="module", autouse=True)
def clockwork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clockwork]:
    with Lab() as lab:
        yield Clockwork(lab, tmp_path_factory.mktemp("clockwork") / "log")


def cttest(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHECKOUT / "bin/cttest", *paths], capture_output=True, text=True, timeout=60
    )


def next_second() -> None:
    """A template to the second gives another name from here on."""
    time.sleep(1.05 - time.time() % 1)


def ports(*arguments: object) -> list[int]:
    """The original source ports of what is listed, in its order."""
    return [row["orig_sport"] for row in listed(*arguments)]


def test_sighup_begins_a_new_segment(lab: Lab, tmp_path: Path) -> None:
    """Each event is in one segment, the old one is whole and closed, and the two are a chain."""
    recorder = Recorder(lab, tmp_path / "log")
    first = lab.udp(INSIDE, (SERVER, 53))
    next_second()
    recorder.rotate()
    second = lab.udp(INSIDE, (SERVER, 53))
    recorder.flush()
    log = recorder.stop()
    old, new = recorder.segments
    assert (ports(old), ports(new)) == ([first], [second])
    assert ports(tmp_path / "log") == [first, second]
    assert str(new) in log
    checked = cttest(tmp_path / "log")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_sighup_reads_the_settings_again(lab: Lab, tmp_path: Path) -> None:
    """What is recorded changes without a restart, in the kernel's filter and in the header."""
    conf = tmp_path / "x.conf"
    conf.write_text("[record]\nprotocols = tcp\n")
    recorder = Recorder(lab, tmp_path / "log", "-c", conf)
    lab.udp(INSIDE, (SERVER, 53))
    for text, protocol in (("protocols = all", "all"), ("protocols = udp\nnat_only = yes", "udp")):
        next_second()
        conf.write_text(f"[record]\n{text}\n")
        recorder.rotate()
        tcp, udp = lab.tcp(INSIDE, (SERVER, 80)), lab.udp(INSIDE, (SERVER, 53))
        recorder.flush()
        segment = recorder.segments[-1]
        assert (tcp in ports("--event", "new", segment)) == (protocol == "all")
        assert udp in ports("--event", "new", segment)
    next_second()
    conf.write_text("[record]\nprotocols = http\nnat_only = yes\n")
    recorder.rotate()
    udp = lab.udp(INSIDE, (SERVER, 53))
    tcp = lab.tcp(INSIDE, (SERVER, 80))
    recorder.flush()
    said = recorder.stop()
    assert "settings were read again; changed: protocols, nat_only" in said
    assert "protocols = http: allowed is" in said
    assert "; using protocols = udp" in said
    assert ports("--event", "new", recorder.segments[-1]) == [udp]
    headers = [
        json.loads(line)
        for line in ctlist("-H", "--format", "json", tmp_path / "log").stdout.splitlines()
    ]
    assert [one.get("protocols") for one in headers] == [["tcp"], [], ["udp"], ["udp"]]
    gaps = listed_gaps(tmp_path / "log")
    assert len(gaps) == 2
    assert all(0 <= seconds < 0.5 for seconds in gaps), gaps
    assert cttest(tmp_path / "log").returncode == 0


def listed_gaps(folder: Path) -> list[float]:
    """The lengths of the gaps of changed settings, in seconds."""
    found = []
    for path in folders.paths(folder):
        with Segment(str(path)) as segment:
            found += [
                (gap.end - gap.begin) / 1e9
                for gap in segment.gaps
                if "settings of what is recorded" in gap.detail
            ]
    return found


def test_a_name_that_exists_is_not_overwritten(lab: Lab, tmp_path: Path) -> None:
    """The next name is a stranger's file: it stays as it is, ctrecord says so and goes on in the
    old segment.
    """
    recorder = Recorder(lab, tmp_path / "log", template="%Y.ctlog")
    (segment,) = recorder.segments
    lab.udp(INSIDE, (SERVER, 53))
    recorder.flush()
    before = segment.read_bytes()
    recorder.process.send_signal(signal.SIGHUP)
    recorder.wait("exists")
    port = lab.udp(INSIDE, (SERVER, 54))
    recorder.flush()
    recorder.stop()
    assert recorder.segments == [segment]
    assert segment.read_bytes().startswith(before)
    assert ports(segment)[-1] == port


def test_a_start_never_overwrites(lab: Lab, tmp_path: Path) -> None:
    """The name at the start is taken: the file there stays as it is."""
    folder = tmp_path / "log"
    folder.mkdir()
    taken = folder / "one.ctlog"
    taken.write_bytes(b"somebody's")
    recorder = Recorder(lab, folder, template="one.ctlog")
    port = lab.udp(INSIDE, (SERVER, 53))
    recorder.flush()
    recorder.stop()
    assert taken.read_bytes() == b"somebody's"
    (other,) = set(recorder.segments) - {taken}
    assert ports(other) == [port]


def test_sigusr1_flushes_and_counts(lab: Lab, tmp_path: Path) -> None:
    """What happened until then is listed at once, while the recorder goes on."""
    recorder = Recorder(lab, tmp_path / "log")
    expected = [lab.udp(INSIDE, (SERVER, 53)) for _ in range(3)]
    line = recorder.flush()
    assert ports(tmp_path / "log") == expected
    assert re.search(r"counters: 3 events \(3 new, 0 update, 0 destroy\).* 0 lost", line), line
    assert recorder.process.poll() is None


def test_events_are_listed_without_a_signal(lab: Lab, tmp_path: Path) -> None:
    """The flush that comes by itself; how soon is measured by `make bench`."""
    recorder = Recorder(lab, tmp_path / "log")
    port = lab.udp(INSIDE, (SERVER, 53))
    wait_until(lambda: ports(tmp_path / "log") == [port], "the event listed")
    assert recorder.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end(lab: Lab, tmp_path: Path, number: signal.Signals) -> None:
    """What the kernel had queued is still written, the segment closed, the counters said; exit code
    0.
    """
    recorder = Recorder(lab, tmp_path / "log")
    recorder.process.send_signal(signal.SIGSTOP)
    expected = [lab.udp(INSIDE, (SERVER, 53)) for _ in range(20)]
    assert event_sockets(recorder.process.pid)[0].queued
    recorder.process.send_signal(number)
    recorder.process.send_signal(signal.SIGCONT)
    assert recorder.process.wait(timeout=20) == 0
    assert "counters: 20 events" in recorder.log
    assert ports(tmp_path / "log") == expected
    checked = cttest(tmp_path / "log")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_kill_9(lab: Lab, tmp_path: Path) -> None:
    """What was flushed is there; the next recorder goes on in a new segment, and the hole between
    is told.
    """
    recorder = Recorder(lab, tmp_path / "log")
    expected = [lab.udp(INSIDE, (SERVER, 53)) for _ in range(5)]
    recorder.flush()
    recorder.process.kill()
    recorder.process.wait()
    assert ports(tmp_path / "log") == expected

    lab.udp(INSIDE, (SERVER, 99))
    next_second()
    again = Recorder(lab, tmp_path / "log")
    expected.append(lab.udp(INSIDE, (SERVER, 54)))
    again.flush()
    again.stop()
    assert len(again.segments) == 2
    assert ports(tmp_path / "log") == expected
    told = ctlist(tmp_path / "log").stderr
    assert "crashed" in told or "not recording" in told, told


def test_a_daemon(lab: Lab, tmp_path: Path) -> None:
    """Without -F: the command returns once it records, the pid file names the daemon, SIGTERM ends
    it and removes the file.
    """
    folder, pidfile = tmp_path / "log", tmp_path / "pid"
    folder.mkdir()
    lab.router.run(
        CHECKOUT / "bin/ctrecord", "-U", "root", "-f", folder / "%H%M%S.ctlog", "-P", pidfile
    )
    pid = int(pidfile.read_text())
    try:
        assert event_sockets(pid)
        assert os.getsid(pid) != os.getsid(0)
        assert all(os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null" for fd in range(3))
        port = lab.udp(INSIDE, (SERVER, 53))
        wait_until(lambda: ports(folder) == [port], "the event listed")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pidfile.exists(), "the daemon's end")
    checked = cttest(folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_segment_each_minute(clockwork: Clockwork) -> None:
    """-t 1: at the next whole minute by itself.

    What was open then is in the new segment too, as EXISTING.
    """
    boundary = (clockwork.started // 60 + 1) * 60
    recorder, lab = clockwork.recorder, clockwork.lab
    wait_until(
        lambda: len(recorder.segments) > 1,
        f"a second segment; ctrecord said: {recorder.log}",
        boundary - time.time() + 5,
    )
    recorder.wait("table recorded", 2)
    lab.udp(INSIDE, (SERVER, 2))
    recorder.flush()
    recorder.stop()
    names = [time.strftime("%H%M.ctlog", time.gmtime(at)) for at in (boundary - 60, boundary)]
    assert [segment.name for segment in recorder.segments[:2]] == sorted(names)
    first, second = (recorder.folder / name for name in names)
    assert [row["orig_dport"] for row in listed(first)] == [1]
    assert [row["orig_dport"] for row in listed("--event", "existing", second)] == [1]
    assert 2 in [row["orig_dport"] for row in listed(recorder.folder)]
