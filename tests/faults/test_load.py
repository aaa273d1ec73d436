"""More than it can take: what the kernel dropped is counted to the event, what was missed is found
again, nothing runs in circles.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from ctrecorder.columns import Event
from ctrecorder.ctlog.frame import Kind
from ctrecorder.segment.reader import Segment
from tests.support.faulttable import Table
from tests.support.folders import paths
from tests.support.forge import segment
from tests.support.router import Lab, event_sockets, wait_until
from tests.support.traffic import Account, Tough, Traffic, cttest

LIMITS = Path("/proc/sys/net/netfilter")
FLOWS = 262_144  # nf_conntrack_max of a router with 4 GiB
# A table of so many flows is dumped while this many new ones come each second.
LIVE_RATE = 2_000


def cpu_seconds(pid: int) -> float:
    """User and system time of the process."""
    return time.clock_gettime(~pid << 3 | 2)


def memory_kbytes(pid: int, what: str) -> int:
    """VmRSS or VmHWM of the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def test_overrun(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table) -> None:
    """Stopped while events come, with a small buffer: GAPs with the kernel's own count, then a dump
    that shows what was missed.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    recorder = Tough(lab, folder, "-b", 256)
    recorder.wait("table recorded")
    floods = (3_000, 20_000, 7_000)
    for number, count in enumerate(floods):
        traffic.burst(50)
        recorder.synced()
        recorder.process.send_signal(signal.SIGSTOP)
        traffic.burst(count)
        recorder.process.send_signal(signal.SIGCONT)
        recorder.wait("gap (overrun)", number + 1)
        recorder.wait("table recorded", number + 2)
    (socket,) = event_sockets(recorder.process.pid)
    before = cpu_seconds(recorder.process.pid)
    time.sleep(2)
    assert (
        cpu_seconds(recorder.process.pid) - before < 0.5
    )  # it waits, and does not try again and again
    recorder.synced()
    said = recorder.stop()

    account = Account(traffic, folder)
    account.check()
    overruns = [gap for gap in account.gaps if gap.reason == "overrun"]
    assert len(overruns) == len(floods)
    assert len(account.missing) == socket.drops == sum(gap.lost or 0 for gap in overruns) > 10_000
    assert f"{socket.drops} lost" in said
    again = Account(traffic, folder, event="existing")
    assert set(account.missing) <= again.found
    cttest(folder)
    table.add("overrun of a stopped recorder", account, tried=len(floods))


@contextlib.contextmanager
def room_for(flows: int) -> Iterator[None]:
    """nf_conntrack_max, which all namespaces share, is at least `flows`; put back afterwards."""
    path = LIMITS / "nf_conntrack_max"
    before = path.read_text()
    if int(before) < flows:
        path.write_text(str(flows))
    try:
        yield
    finally:
        path.write_text(before)


def test_a_full_table(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table) -> None:
    """262,144 flows at the start and at a rotation: each is in the dump of each segment, and no
    live event is dropped meanwhile.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    with room_for(3 * FLOWS):
        traffic.burst(FLOWS)
        with traffic.steady(LIVE_RATE):
            recorder = Tough(lab, folder)
            started = len(traffic.sent)
            wait_until(lambda: "table recorded" in recorder.log, "the first dump", 40)
            recorder.rotate()
            wait_until(lambda: recorder.log.count("table recorded") == 2, "the second dump", 40)
        recorder.synced()
        peak = memory_kbytes(recorder.process.pid, "VmHWM")
        (socket,) = event_sockets(recorder.process.pid)
        said = recorder.stop()
    assert socket.drops == 0
    assert "gap (" not in said
    first, second = (existing(path) for path in recorder.segments)
    assert first >= set(range(FLOWS))
    assert second >= set(range(FLOWS))
    account = Account(traffic, folder)
    assert account.twice == []
    assert account.found >= set(range(started, account.sent))
    seconds = re.findall(r"table recorded: [\d,]+ connections in ([\d.]+) s", said)
    live = set(range(started, account.sent))
    took = " and ".join(f"{each} s" for each in seconds)
    table.note(
        f"dumps of {FLOWS:,} flows beside {LIVE_RATE:,} new ones a second: {took}, at most "
        f"{peak >> 10} MiB resident"
    )
    table.add_row(
        "a table of 262,144 flows, at start and rotation",
        sent=len(live),
        found=len(account.found & live),
    )
    assert peak < 200 * 1024


def existing(path: Path) -> set[int]:
    """The flows of the dump in a segment, by number."""
    with Segment(str(path)) as segment:
        (mark,) = [mark for mark in segment.marks if mark.what == "dump"]
        assert mark.facts["complete"] is True
        found: set[int] = set()
        for block in segment.blocks_of(Kind.EVENTS):
            rows = segment.read(block, ["event", "orig_dst", "orig_dport"])
            rows = rows.take(rows["event"] == Event.EXISTING)
            numbers = (
                (rows["orig_dst"].astype(int) - 0xC6120000) * 32768
                + rows["orig_dport"].astype(int)
                - 1024
            )
            found.update(numbers.tolist())
        return found


def test_two_recorders_in_one_folder(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table
) -> None:
    """Of one template: the second is refused, also if both start at once.

    Of two: each records all, in a chain of its own.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    first = Tough(lab, folder)
    arguments = first.process.args
    assert isinstance(arguments, list)
    command = arguments[arguments.index("env") :]
    done = lab.router.run(*command, check=False)
    assert done.returncode == 2
    assert "another recorder writes it" in done.stderr
    other = Tough(lab, folder, "-p", "udp", "-f", folder / "udp-%H%M%S.ctlog", name="other")
    with traffic.steady(1000):
        time.sleep(1)
    for recorder in (first, other):
        recorder.synced()
        recorder.stop()
    ours = [path for path in paths(folder) if not path.name.startswith("udp-")]
    theirs = [path for path in paths(folder) if path.name.startswith("udp-")]
    accounts = []
    mine = tmp_path / "mine"
    for chosen in (ours, theirs):
        mine.mkdir()
        for path in chosen:
            path.rename(mine / path.name)
        accounts.append(Account(traffic, mine))
        accounts[-1].whole()
        cttest(mine)
        for path in paths(mine):
            path.unlink()
        mine.rmdir()
    table.add("two recorders in one folder", accounts[-1], tried=2)


def test_many_start_at_once(lab: Lab, tmp_path: Path, table: Table) -> None:
    """Of eight that start at the same moment, in a folder in which it takes a while to see what is
    there, one records.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    other = segment(facts={"template": "other-%H.ctlog"})
    for number in range(2000):
        (folder / f"other-{number}.ctlog").write_bytes(other)
    template, errors = (
        folder / "%H%M%S.ctlog",
        [tmp_path / f"{number}.stderr" for number in range(8)],
    )
    started = [
        lab.router.spawn("ctrecord", "-F", "-U", "root", "-f", template, stderr=path)
        for path in errors
    ]
    wait_until(
        lambda: sum(process.poll() is not None for process in started) == 7,
        "seven of eight have ended",
        30,
    )
    (alive,) = [process for process in started if process.poll() is None]
    alive.terminate()
    assert alive.wait(timeout=20) == 0
    assert [process.returncode for process in started].count(2) == 7
    assert len([path for path in paths(folder) if not path.name.startswith("other-")]) == 1
    table.add_row("eight recorders at once in one folder", tried=8)
