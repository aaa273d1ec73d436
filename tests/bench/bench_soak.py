"""Ten minutes of a busy evening: memory, descriptors and CPU at the end as at the beginning, and
every event in the log.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from tests.bench.bench_record import Ctrecord, lines
from tests.bench.load import FloodLab
from tests.bench.measure import cpu_seconds, resident_kbytes, timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT

SECONDS = 600
STEP_SECONDS = 30  # between two looks; each with a new segment
RATE = 2_000  # new flows a second; each ends too
# The first looks are of a process that still grows to its size.
WARM = 3


def run(report: Report) -> None:
    """Looks at the recorder each STEP_SECONDS; the last ones must be as the first were."""
    report.heading("A soak")
    report.note(
        f"{RATE:,} new flows each second, ended each second, a new segment each {STEP_SECONDS} s, "
        f"for {SECONDS} s"
    )
    with (
        tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder,
        FloodLab(Path(folder)) as lab,
    ):
        recorder = Ctrecord(lab)
        pid, flows, looks = recorder.process.pid, 0, []
        begin = time.monotonic()
        while time.monotonic() - begin < SECONDS:
            used, until = cpu_seconds(pid), time.monotonic() + STEP_SECONDS
            step = flows
            while time.monotonic() < until:
                lab.flood(flows, RATE, RATE)
                lab.flush()
                flows += RATE
            recorder.drain()
            cpu = (cpu_seconds(pid) - used) / (flows - step) / 2 * 1e6
            looks.append((resident_kbytes(pid) / 1024, len(os.listdir(f"/proc/{pid}/fd")), cpu))
            recorder.process.send_signal(signal.SIGHUP)
        recorder.stop()
        resident, descriptors, costs = zip(*looks[WARM:], strict=True)
        report.note(f"resident after each: {', '.join(f'{look[0]:.1f}' for look in looks)} MiB")
        report.note(f"CPU an event: {', '.join(f'{look[2]:.1f}' for look in looks)} us")
        report.figure("growth of the resident size", resident[-1] - resident[0], "MiB", most=1)
        report.figure(
            "file descriptors more than at first", descriptors[-1] - descriptors[0], most=0
        )
        half = len(costs) // 2
        report.figure(
            "CPU an event, second half to first",
            _mean(costs[half:]) / _mean(costs[:half]),
            most=1.2,
        )
        report.figure("dropped by the kernel", recorder.drops(), most=0)
        output = lab.folder / "listed"
        timed([CHECKOUT / "bin/ctlist", recorder.archive], output)
        report.figure("events that are not in the log", 2 * flows - lines(output), most=0)


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
