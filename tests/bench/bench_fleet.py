"""A question to 60 routers by folder: ctwho from its start to the answer.

Each router has all segments of `made_archive` of 90 days, by hard links: so each has had the public
address, and all have to be read, which is the worst case.  By default of 6,000,000 connections in
all; by name (`fleet100`) of 100,000,000.
"""

from __future__ import annotations

import ipaddress
import os
import statistics
import tempfile
import time
from pathlib import Path

from ctrecorder.archive.renew import renew
from ctrecorder.times import SECOND
from tests.bench import made_archive
from tests.bench.bench_many import questions
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT

CONNECTIONS, ROUTERS, ASKED = 100_000, 60, 3
CHAIN = "0123456789abcdef"


def run(report: Report) -> None:
    """A folder of 60 routers with 6,000,000 connections in all."""
    measure(report, CONNECTIONS)


def measure(report: Report, connections: int) -> None:
    """Some questions to a folder of 60 routers, and to a list of them.  `connections`: of each."""
    made = made_archive.archive(connections)
    report.heading(f"Who, of {ROUTERS} routers with {ROUTERS * connections:,} connections in all")
    with tempfile.TemporaryDirectory(prefix="bench-fleet-", dir=made.parent) as name:
        root, out = Path(name) / "root", Path(name) / "out"
        paths = share_out(made, root)
        report.note(
            f"{ROUTERS * len(paths):,} segments; {ASKED} questions, each a process of its own"
        )
        listed = Path(name) / "routers"
        listed.write_text("".join(f"{one.name} {one}\n" for one in sorted(root.iterdir())))
        begun = time.process_time()
        renew(str(root))
        report.figure("CPU of writing all catalogues", time.process_time() - begun, "s")
        asked = [one for one in questions(paths) if one.public.ports][:ASKED]
        for what, where in (("the folder", ["-d", root]), ("--fleet", ["--fleet", listed])):
            costs = []
            for one in asked:
                (network,), (port, _) = one.public.networks, one.public.ports[0]
                end = f"{ipaddress.ip_address(network.low)}:{port}"
                words = [*where, end, f"@{one.since // SECOND}"]
                costs.append(timed([CHECKOUT / "bin/ctwho", *words], out, None, (0, 1, 3)))
            walls = [cost.wall for cost in costs]
            report.figure(f"ctwho of {what}, median", statistics.median(walls), "s", most=1)
            report.figure("the slowest", max(walls), "s")
            report.figure("CPU, median", statistics.median(cost.cpu for cost in costs), "s")
            most = max(cost.peak_kbytes for cost in costs) / 1024
            report.figure("most memory", most, "MiB", most=200)


def share_out(made: Path, root: Path) -> list[Path]:
    """Link the segments of `made` to the folder of each router; returns those of the first."""
    folders = [root / f"edge{number:02}" / CHAIN for number in range(ROUTERS)]
    for folder in folders:
        folder.mkdir(parents=True)
        for path in made.glob("*.ctlog"):
            os.link(path, folder / path.name)
    return sorted(folders[0].iterdir())
