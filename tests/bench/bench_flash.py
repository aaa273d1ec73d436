"""What recording wears: bytes to the device and syncs an hour, by the rate of events, with wakeups,
CPU and memory.

On ext4 with blocks of 4 KiB on a loop device, whose own counters are read.  Runs are short, and the
figures of an hour are computed from them.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import FloodLab, large_table
from tests.bench.measure import cpu_seconds, resident_kbytes
from tests.bench.report import Report
from tests.support.disks import Ext4
from tests.support.traffic import Tough

SECONDS = 40
# The dump of the start is over, and a first commit of the file system.
SETTLE_SECONDS = 8
RATES = (0, 10, 100, 1_000, 10_000)
MEGABYTE = 1_000_000
# A year of this takes 140 GB of a flash that stands 10 TB or more.
MOST_MEGABYTES = 16


@dataclass
class Counts:
    """Totals at a moment; of `syncs`, when the recorder wrote its metrics."""

    time: float
    device_bytes: int
    log_bytes: int
    wakeups: int
    cpu: float
    syncs: int
    syncs_time: float

    def an_hour(self, before: Counts, name: str) -> float:
        """How much a total rises in an hour."""
        risen = float(getattr(self, name) - getattr(before, name))
        when = "syncs_time" if name == "syncs" else "time"
        return 3600 * risen / float(getattr(self, when) - getattr(before, when))


def run(report: Report) -> None:
    """Each rate with the default, and 10 events a second with a sync each second."""
    report.heading("Wear of flash")
    report.note(f"NEW events, {SECONDS} s each, as an hour; ext4 on a loop device")
    rows: list[list[object]] = []
    at_ten = 0.0
    with large_table():
        for rate, sync in (*((rate, 10) for rate in RATES), (10, 1)):
            with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder:
                before, after, kbytes = measured(Path(folder), rate, sync)
            megabytes = after.an_hour(before, "device_bytes") / MEGABYTE
            if (rate, sync) == (10, 10):
                at_ten = megabytes
            rows.append(
                [
                    f"{rate:,} events/s, sync = {sync}",
                    megabytes,
                    after.an_hour(before, "log_bytes") / MEGABYTE,
                    after.an_hour(before, "syncs"),
                    after.an_hour(before, "wakeups") / 3600,
                    after.an_hour(before, "cpu") / 36,
                    kbytes / 1024,
                ]
            )
    columns = ["", "MB/h to the device", "MB/h of log", "syncs/h", "wakeups/s", "% CPU", "MiB"]
    report.table(columns, rows)
    report.figure("to the device at 10 events a second", at_ten, "MB/h", most=MOST_MEGABYTES)


def measured(folder: Path, rate: int, sync: int) -> tuple[Counts, Counts, int]:
    """The counts before and after SECONDS of events, and the resident KiB."""
    options = "errors=remount-ro,noinit_itable"  # a disk that is new writes for a while by itself
    with (
        FloodLab(folder) as lab,
        Ext4(folder / "log", 1 << 20, options) as disk,
    ):
        recorder = Tough(lab, disk.folder, sync=sync)
        number = send(lab, 0, rate, SETTLE_SECONDS)
        before = counts(recorder, disk)
        send(lab, number, rate, SECONDS)
        after = counts(recorder, disk)
        kbytes = resident_kbytes(recorder.process.pid, "VmHWM")
        recorder.stop()
    return before, after, kbytes


def send(lab: FloodLab, first: int, rate: int, seconds: int) -> int:
    """`rate` new flows a second; the number of the next one."""
    if not rate:
        time.sleep(seconds)
    else:
        lab.flood(first, rate * seconds, rate, alone=False)
    return first + rate * seconds


def counts(recorder: Tough, disk: Ext4) -> Counts:
    pid = recorder.process.pid
    written = Path("/sys/block", Path(disk.device).name, "stat").read_text().split()[6]
    status = Path(f"/proc/{pid}/status").read_text()
    wakeups = sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))
    log = sum(path.stat().st_size for path in recorder.segments)
    (path,) = recorder.metrics.glob("*.prom")
    found = re.search(r"^ctrecorder_syncs_total\{.*\} (\d+)$", path.read_text(), re.MULTILINE)
    assert found is not None
    return Counts(
        time.monotonic(),
        512 * int(written),
        log,
        wakeups,
        cpu_seconds(pid),
        int(found[1]),
        path.stat().st_mtime,
    )
