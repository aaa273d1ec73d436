"""Connections that are all still open: memory of ctlist -s and of ctsqueeze."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.bench_growth import COMMANDS, opened
from tests.bench.measure import timed
from tests.bench.report import Report

COUNTS = (1_000_000, 5_000_000)
MOST_MIB = 300


def run(report: Report) -> None:
    """What does not fit is in temporary files."""
    measure(report, COUNTS)


def measure(report: Report, counts: tuple[int, ...]) -> None:
    report.heading("Connections that are all open")
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder:
        for count in counts:
            path = opened(Path(folder), count)
            for name in ("ctlist -s", "ctsqueeze"):
                cost = timed(COMMANDS[name](path), Path(folder) / "out", None, (0, 1))
                peak = cost.peak_kbytes / 1024
                report.figure(f"{name}, {count:,} open", peak, "MiB", most=MOST_MIB)
                report.figure("CPU of it", cost.cpu, "s")
