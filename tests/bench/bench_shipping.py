"""ctship at 1,000 random points: killed, the line cut, the disk full, sshd killed, started twice.

After each, all that is in its place is whole; at the end each segment is there once.  CTSHIP_POINTS
sets another number.  A part of this is in tests/faults/test_shipping.py.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.bench.report import Report
from tests.faults.test_shipping import archive, arrived, noted
from tests.support.collector import ACCOUNTS, COLLECTOR, Collector

BY_NAME = True
POINTS = int(os.environ.get("CTSHIP_POINTS", "1000"))
SEGMENTS = 30
LARGE = "size=64m"


def run(report: Report) -> None:
    """1,000 points."""
    report.heading(f"Shipping {SEGMENTS} segments by ssh and to a rsync daemon, {POINTS:,} faults")
    here = Path(tempfile.mkdtemp(prefix="ctship-bench-", dir="/var/tmp"))
    here.chmod(0o755)
    (here / "central").mkdir()
    disk = ["mount", "-t", "tmpfs", "-o", f"{LARGE},mode=755", "tmpfs", str(here / "central")]
    subprocess.run(disk, check=True)
    try:
        with Collector(here) as site:
            counts = Faults(site).run(POINTS)
    finally:
        subprocess.run(["umount", "-l", here / "central"], check=True)
        shutil.rmtree(here, ignore_errors=True)
    for what, number in sorted(counts.items()):
        report.figure(what, number)


class Faults:
    """`seconds`: how long a run takes that nothing disturbs."""

    def __init__(self, site: Collector) -> None:
        self.site, self.chance = site, random.Random(15)
        self.folder = site.here / "log"
        self.paths = archive(self.folder, SEGMENTS, 1500)
        self.contents = {path.read_bytes() for path in self.paths}
        (site.here / "conf").write_text(f"[ship]\nssh_key = {site.key}\nrouter = edge1\n")
        self.words = ("-c", site.here / "conf", "--to", site.ssh, "--to", site.daemon, self.folder)
        begun = time.monotonic()
        assert site.ctship(*self.words)[0] == 0
        self.seconds = time.monotonic() - begun

    def run(self, points: int) -> Counter[str]:
        """So many faults, one after another; how many of each, and how often all had arrived."""
        counts: Counter[str] = Counter()
        faults = (self.kill, self.kill, self.cut, self.kill_sshd, self.fill, self.twice)
        for _ in range(points):
            fault = self.chance.choice(faults)
            counts[f"{fault.__name__}, times"] += 1
            fault()
            self._check()
            if len(noted(self.folder)) == 2 * SEGMENTS:
                self._finish()
                counts["all had arrived, times"] += 1
                self._begin_again()
        self._finish()
        return counts

    def _start(self) -> subprocess.Popen[str]:
        running = self.site.start_ctship(*self.words)
        time.sleep(self.chance.uniform(0.2, self.seconds))
        return running

    def kill(self) -> None:
        """ctship, rsync and ssh are killed."""
        running = self._start()
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()

    def cut(self) -> None:
        """The line is cut, and the router loses its power before anything times out."""
        running = self._start()
        self.site.cut()
        time.sleep(self.chance.uniform(0, 0.3))
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        self.site.mend()

    def kill_sshd(self) -> None:
        """What the target runs for the router is killed."""
        running = self._start()
        command = ["ip", "netns", "pids", COLLECTOR]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
        for pid in map(int, listed.stdout.split()):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if os.stat(f"/proc/{pid}").st_uid == ACCOUNTS["ship"]:
                    os.kill(pid, signal.SIGKILL)
        running.communicate(timeout=200)

    def fill(self) -> None:
        """The target's disk is full, and is not any more."""
        used = shutil.disk_usage(self.site.folder).used
        room = used + self.chance.randrange(1 << 12, 1 << 17)
        self._resize(f"size={room}")
        running = self.site.start_ctship(*self.words)
        running.communicate(timeout=200)
        self._resize(LARGE)

    def twice(self) -> None:
        """Two are started, the second one somewhere in the first one."""
        running = [self._start(), self.site.start_ctship(*self.words)]
        for each in running:
            each.communicate(timeout=200)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{size}", self.site.folder], check=True)

    def _roots(self) -> tuple[Path, Path]:
        return self.site.folder, self.site.module / "all"

    def _check(self) -> None:
        """What is in its place is whole, and is there once."""
        for root in self._roots():
            found = [data for name, data in arrived(root) if "/." not in name]
            assert len(found) == len({*found})
            assert {*found} <= self.contents, f"{root}: a segment is not whole"

    def _finish(self) -> None:
        for _ in range(2):
            code, said = self.site.ctship(*self.words)
            assert code == 0, said
        for root in self._roots():
            found = sorted(data for name, data in arrived(root) if "/." not in name)
            assert found == sorted(self.contents)

    def _begin_again(self) -> None:
        """What was noted is lost; now and then also what had arrived."""
        (self.folder / "ctship.shipped").unlink()
        if self.chance.random() < 0.7:
            for root in self._roots():
                shutil.rmtree(root / "edge1", ignore_errors=True)
