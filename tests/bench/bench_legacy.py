"""Files of the C ctrecorder: listed, asked, converted."""

from __future__ import annotations

import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctrecorder.legacy.format import EVENT
from tests.bench.load import LISTENER_CPU
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.c_ctrecorder import START, header
from tests.support.router import CHECKOUT

FLOWS = 1_000_000
ROUNDS = 3


def run(report: Report) -> None:
    """2,000,000 events of a NAT router in 6 hours, 66 MB."""
    report.heading("A file of the C ctrecorder, 2,000,000 events")
    report.note(
        f"made up: {FLOWS:,} flows of 20,000 hosts behind 4 addresses; medians of {ROUNDS} runs "
        "on one CPU, start-up included"
    )
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        folder = Path(name)
        old, listed, new = folder / "old.ct", folder / "listed", folder / "new.ct"
        with ProcessPoolExecutor(
            1
        ) as other:  # the peak of a command that is started from here begins with ours
            address = other.submit(record, old).result()
        ctlist = [CHECKOUT / "bin/ctlist", "--format", "classic", old]
        for what, command, most, theirs in (
            ("ctlist -i of one address", [*ctlist, "-i", address], 0.35, 0.015),
            ("ctlist of all", ctlist, 1.6, 1.45),
            ("ctsqueeze, converted", [CHECKOUT / "bin/ctsqueeze", "-f", old, "-o", new], 4, 1.8),
        ):
            costs = []
            for _ in range(ROUNDS):
                new.unlink(missing_ok=True)
                costs.append(timed(command, listed, LISTENER_CPU))
            report.figure(what, statistics.median(cost.wall for cost in costs), "s", most=most)
            cpu, peak = (
                statistics.median(cost.cpu for cost in costs),
                max(cost.peak_kbytes for cost in costs) >> 10,
            )
            report.note(
                f"    CPU {cpu:.2f} s, peak {peak} MiB; the C one took {theirs} s on another "
                "machine"
            )
        report.note(
            f"converted: {old.stat().st_size / 1e6:.1f} MB became {new.stat().st_size / 1e6:.1f} MB"
        )


def record(path: Path) -> str:
    """Write the file; returns the address of a host in it."""
    events = recording()
    path.write_bytes(header() + events.tobytes())
    return str(IPv4Address(int(events["orig_src"][FLOWS])))


def recording() -> NDArray[np.void]:
    """Events in order of time, as the recorder's file has them."""
    rng = np.random.default_rng(1)
    flows = np.zeros(FLOWS, EVENT)
    flows["orig_src"] = 0x0A000000 + rng.integers(0, 20_000, FLOWS)
    flows["orig_dst"] = flows["reply_src"] = rng.integers(0x10000000, 0xDF000000, 50_000)[
        rng.zipf(1.3, FLOWS) % 50_000
    ]
    flows["orig_sport"] = flows["reply_dport"] = rng.integers(1024, 65_536, FLOWS)
    flows["orig_dport"] = flows["reply_sport"] = rng.choice([443, 80, 53, 993, 5228], FLOWS)
    flows["reply_dst"] = 0xC0000200 + flows["orig_src"].astype(np.uint32) % 4
    begins = np.sort(rng.integers(0, 6 * 3600 * 1_000_000, FLOWS))
    ends = begins + (rng.pareto(1.2, FLOWS) * 5e6).astype(np.int64).clip(max=12 * 3600 * 1_000_000)
    events = np.concatenate((flows, flows)).astype(
        EVENT
    )  # numpy concatenates in the machine's byte order
    events["type"][:FLOWS], events["type"][FLOWS:] = 1, 7
    times = np.concatenate((begins, ends))
    events["sec"], events["usec"] = START + times // 1_000_000, times % 1_000_000
    return events[np.argsort(times, kind="stable")]
