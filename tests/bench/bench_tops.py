"""ctlist --top against nfdump -s on the same flows, and over 100,000,000 connections.

CTRECORDER_ARCHIVE names a folder with an archive of squeezed segments (see made_archive); without
it, only the peer is measured.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions
from ctrecorder.segment.writer import SegmentWriter
from tests.bench import archive_flows
from tests.bench.bench_archive import CTLIST, dotted, feed_nfcapd
from tests.bench.load import LISTENER_CPU
from tests.bench.measure import Cost, timed
from tests.bench.report import Report

BY_NAME = True  # it takes minutes, and most of them to feed nfcapd
FLOWS = int(os.environ.get("CTRECORDER_TOP_FLOWS", "10000000"))
ROUNDS = 3
# What ctlist counts, and the same in the words of nfdump.
SAME = (("port", "dstport/flows"), ("src", "srcip/flows"), ("dst", "dstip/flows"))
OVER_ALL = ("port", "proto", "src", "remote", "inside", "hour")


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        peer(report, Path(name))
        if os.environ.get("CTRECORDER_ARCHIVE"):
            whole(report, Path(os.environ["CTRECORDER_ARCHIVE"]), Path(name))


def peer(report: Report, folder: Path) -> None:
    """Flows a second of both, on one core and on all."""
    report.heading(f"Tops of {FLOWS:,} flows, against nfdump -s")
    flows = archive_flows.made(FLOWS, seconds=FLOWS // 129)
    ours, theirs = folder / "ours.ctlog", folder / "nfcapd"
    writer = SegmentWriter.create(
        str(ours), Header(host="bench", chain="peer"), time_ns=archive_flows.BEGIN
    )
    archive_flows.put(writer, archive_flows.connections(flows), 1_000_000, SqueezeOptions().level)
    writer.close()
    theirs.mkdir()
    kept = feed_nfcapd(flows, theirs)
    hosts, counts = np.unique(flows["orig_src"], return_counts=True)
    first = hosts[np.lexsort((hosts, -counts))][0]
    for mine, other in SAME:
        for cpu, least in ((LISTENER_CPU, 3.0), (None, 2.0)):
            where = "one core" if cpu is not None else "all cores"
            out = folder / "out"
            ctlist = [timed([CTLIST, "--top", mine, ours], out, cpu) for _ in range(ROUNDS)]
            if mine == "src":
                assert dotted(first) in out.read_text().splitlines()[2]
            command = ["nfdump", "-q", "-R", theirs, "-s", other, "-n", "10"]
            nfdump = [timed(command, out, cpu) for _ in range(ROUNDS)]
            ratio = best(nfdump) / kept / (best(ctlist) / FLOWS)
            report.note(f"{mine}, {where}: {best(ctlist):.2f} s, nfdump {best(nfdump):.2f} s")
            cpus = [min(cost.cpu for cost in costs) for costs in (ctlist, nfdump)]
            report.note(f"    CPU {cpus[0]:.2f} s, nfdump {cpus[1]:.2f} s")
            report.figure(f"--top {mine}, {where}, times nfdump's speed", ratio, "", least=least)


def best(costs: list[Cost]) -> float:
    return min(cost.wall for cost in costs)


def whole(report: Report, archive: Path, folder: Path) -> None:
    """Seconds and memory over an archive."""
    said = subprocess.run(
        [CTLIST, "--top", "proto", archive], capture_output=True, text=True, check=True
    ).stdout
    report.heading(f"Tops over an archive: {said.splitlines()[0]}")
    for top in OVER_ALL:
        costs = [
            timed([CTLIST, "--top", top, archive], folder / "out", None) for _ in range(ROUNDS)
        ]
        report.figure(f"--top {top}", statistics.median(cost.wall for cost in costs), "s", most=10)
        report.figure("CPU of it", statistics.median(cost.cpu for cost in costs), "s")
        report.figure(
            "peak memory of it", max(cost.peak_kbytes for cost in costs) / 1024, "MiB", most=200
        )
