"""What sealing costs: the end of an epoch, a segment's begin and end, the timer that squeezes; and
a flood with seals and without.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from ctrecorder.sealing.epoch import EPOCH_NS
from ctrecorder.seals.keys import EPOCH_SECONDS
from tests.bench.bench_record import FLOWS, Ctrecord
from tests.bench.load import FloodLab, large_table
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT, wait_until
from tests.support.sealed import Recording

ROUNDS = 3
PAIRS, CYCLES = 12, 2
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
        pairs = [pair(lab, number) for number in range(PAIRS)]
    report.note(
        f"{PAIRS} pairs of recorders, one with seals, beside each other on one CPU: both get the "
        f"same {CYCLES} times {FLOWS:,} new"
    )
    report.note(
        "flows as fast as one core sends, and their ends, and begin a segment after each time "
        "(the default: each hour)"
    )
    for kind, of in ((Ctrecord, 0), (Sealed, 1)):
        report.figure(f"CPU of an event: {kind.name}", 1e6 * median(one[of] for one in pairs), "us")
    more = sorted(100 * (sealed / plain - 1) for plain, sealed, _ in pairs)
    quarter = len(more) // 4
    report.note(f"half of the pairs: {more[quarter]:.2f} to {more[-1 - quarter]:.2f} %")
    report.figure("sealing, of the CPU of a flood: median of the pairs", median(more), "%", most=1)
    share = min(1.0, median(one[2] for one in pairs))
    report.figure("CPU of ctrecord while the flood is sent, of one core", 100 * share, "%")
    sealing = ending / EPOCH_SECONDS + opening / SEGMENT_SECONDS
    report.figure("sealing, by its parts, of that flood", 100 * sealing / share, "%", most=1)
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
    return median(runs)


def rotate(recorder: Ctrecord) -> None:
    """Let it begin a segment."""
    before = len(recorder.segments())
    recorder.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(recorder.segments()) > before, "a new segment")


def pair(lab: FloodLab, number: int) -> tuple[float, float, float]:
    """CPU seconds of an event: without seals, and with them; and the share of a core that the
    first takes while the flood is sent.
    """
    both = [kind(lab) for kind in ((Ctrecord, Sealed) if number % 2 else (Sealed, Ctrecord))]
    sending = 0.0
    for cycle in range(CYCLES):
        sending += lab.flood(cycle * FLOWS, FLOWS)
        lab.flush()
        for one in both:
            one.drain()
            rotate(one)
    cpu = {type(one): one.settle() for one in both}
    for one in both:
        one.stop()
        assert one.events() == 2 * FLOWS * CYCLES
    events = 2 * FLOWS * CYCLES
    # Half of the events come while the flood is sent.
    return cpu[Ctrecord] / events, cpu[Sealed] / events, cpu[Ctrecord] / 2 / sending
