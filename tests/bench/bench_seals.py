"""What sealing costs: the end of an epoch, a segment's begin and end, the timer that squeezes; and
a flood with seals and without, in turns.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from ctrecorder.sealing.epoch import EPOCH_NS
from ctrecorder.seals.keys import EPOCH_SECONDS
from tests.bench.bench_record import CYCLES, FLOWS, Ctrecord
from tests.bench.load import FloodLab, Listener, large_table
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT
from tests.support.sealed import Recording

ROUNDS = 3
EPOCHS, SEGMENTS = 200, 20
# As the units and the default settings have it.
TIMER_SECONDS, SEGMENT_SECONDS = 300, 3600


class Sealed(Ctrecord):
    """Ours, with a key."""

    name = "ctrecord, sealed"

    def command(self) -> list[object]:
        state = self.folder / "state"
        setup: list[str | Path] = [
            CHECKOUT / "bin/ctrecord",
            "--setup-seal",
            "-U",
            "root",
            "--seal-state",
            state,
        ]
        subprocess.run(setup, check=True, capture_output=True)
        return [*super().command(), "--seal-state", state]


def run(report: Report) -> None:
    """What the recorder does for seals, as a share of its work in a flood; and the timer's runs."""
    report.heading("Sealing")
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder:
        ending, opening, idle = epoch(Path(folder)), segment(Path(folder)), timer(Path(folder))
    report.figure(f"CPU of the end of an epoch, of {EPOCHS}", 1000 * ending, "ms")
    report.figure(f"CPU of begin and end of a segment, of {SEGMENTS}", 1000 * opening, "ms")
    with (
        large_table(),
        tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder,
        FloodLab(Path(folder)) as lab,
    ):
        costs, share = flood(lab)
    report.note(
        f"{CYCLES} times {FLOWS:,} new flows as fast as one core sends, and their ends, in turns; "
        f"median of {ROUNDS}"
    )
    for kind, cost in costs.items():
        report.figure(f"CPU of an event: {kind.name}", 1e6 * cost, "us")
    report.figure("CPU of ctrecord while the flood is sent, of one core", 100 * share, "%")
    sealing = ending / EPOCH_SECONDS + opening / SEGMENT_SECONDS
    report.figure("sealing, of the CPU of that flood", 100 * sealing / share, "%", most=1)
    squeezing = idle / TIMER_SECONDS
    report.figure("ctsqueeze-sealed.timer with no work, of one core", 100 * squeezing, "%", most=1)


def epoch(folder: Path) -> float:
    """CPU seconds of the end of an epoch: a SEAL, a line of the ledger, the next key."""
    (folder / "epoch").mkdir()
    ours = Recording(folder / "epoch")
    queue = ours.start()
    used = 0.0
    for _ in range(EPOCHS):
        ours.clock.passes(EPOCH_NS)
        assert queue.series.writer is not None
        begin = time.process_time()
        ours.seals.end_epoch(queue.series.writer)
        used += time.process_time() - begin
    queue.close(ours.clock.wall)
    return used / EPOCHS


def segment(folder: Path) -> float:
    """CPU seconds that a segment takes more if it is sealed."""
    costs = []
    for sealed in (False, True):
        (folder / f"segments-{sealed}").mkdir()
        ours = Recording(folder / f"segments-{sealed}")
        queue = ours.start(sealed=sealed)
        begin = time.process_time()
        for _ in range(SEGMENTS):
            ours.clock.passes(2 * 10**9)
            queue.rotate(ours.clock.wall)
        costs.append((time.process_time() - begin) / SEGMENTS)
        queue.close(ours.clock.wall)
    return max(costs[1] - costs[0], 0.0)


def timer(folder: Path) -> float:
    """CPU seconds of a run that finds nothing to squeeze."""
    (folder / "timer").mkdir()
    ours = Recording(folder / "timer")
    ours.squeeze(ours.record(1))
    command = [CHECKOUT / "bin/ctsqueeze", "--only-sealed", "--seal-state", ours.state, ours.folder]
    runs = [timed(list(command), folder / "out").cpu for _ in range(ROUNDS)]
    return statistics.median(runs)


def flood(lab: FloodLab) -> tuple[dict[type[Listener], float], float]:
    """CPU seconds of an event by each recorder; and the share of a core that keeps up."""
    samples: dict[type[Listener], list[float]] = {Ctrecord: [], Sealed: []}
    shares = []
    for _ in range(ROUNDS):
        for kind, found in samples.items():
            listener = kind(lab)
            sending = 0.0
            for cycle in range(CYCLES):
                sending += lab.flood(cycle * FLOWS, FLOWS)
                lab.flush()
                listener.drain()
            cpu = listener.settle()
            listener.stop()
            found.append(cpu / listener.events())
            # Half of the events come while the flood is sent.
            shares.append(cpu / 2 / sending)
    costs = {kind: statistics.median(found) for kind, found in samples.items()}
    return costs, min(1.0, statistics.median(shares))
