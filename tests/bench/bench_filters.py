"""Expressions of ctfilter(7): a bare host against -i, and a file of addresses against one."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np

from tests.bench import archive_flows, made_archive
from tests.bench.archive_flows import INSIDE
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT

CONNECTIONS = 1_000_000
ADDRESSES = 5_000
ROUNDS = 3


def run(report: Report) -> None:
    """CPU of `ctlist -s -c`, medians."""
    folder = made_archive.archive(CONNECTIONS)
    report.heading(
        f"Expressions, over {CONNECTIONS:,} connections in {made_archive.SEGMENTS:,} segments"
    )
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        listed = Path(name) / "out"
        random = np.random.default_rng(1)
        flows = archive_flows.made(CONNECTIONS // made_archive.DAYS)
        one = dotted(int(flows["orig_dst"][-1]))
        numbers = [INSIDE * 65536 + int(each) for each in random.integers(0, 65536, ADDRESSES)]
        several = Path(name) / "list"
        several.write_text("\n".join(map(dotted, numbers)))

        def cost(*asked: str) -> float:
            command = [CHECKOUT / "bin/ctlist", "-s", "-c", *asked, folder]
            costs = [timed(command, listed, allowed=(0, 1)) for _ in range(ROUNDS)]
            return statistics.median(each.cpu for each in costs)

        plain = cost("-i", one)
        report.figure("-i ADDRESS", plain, "s CPU")
        report.figure("'host ADDRESS'", cost("-e", f"host {one}"), "s CPU", most=plain * 1.1)
        single = cost("-e", "src net 147.32.0.0/16")
        report.figure("'src net NETWORK', many matches", single, "s CPU")
        report.figure(
            f"'src in FILE', {ADDRESSES:,} addresses",
            cost("-e", f"src in {several}"),
            "s CPU",
            most=single * 1.5,
        )
        report.figure("'tcp and duration > 1h'", cost("-e", "tcp and duration > 1h"), "s CPU")


def dotted(number: int) -> str:
    """An IPv4 address as text."""
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
