"""ctlist of a whole log: seconds and memory, for one size and for four times as much."""

from __future__ import annotations

import signal
import statistics
import tempfile
from functools import partial
from pathlib import Path

from tests.bench.bench_record import Ctrecord, lines
from tests.bench.load import LISTENER_CPU, FloodLab, large_table
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT, wait_until

FLOWS = 1_000_000
ROUNDS = 3
FORMATS = ("text", "classic", "conntrack", "json", "csv")


class Patient(Ctrecord):
    """With room for a whole flood: here it is not measured, and a busy machine must not spoil the
    log.
    """

    buffer_kbytes = 1 << 20


def run(report: Report) -> None:
    """Records two, then eight million real events of a flood in four segments, and lists them."""
    report.heading("Listing 2,000,000 events")
    report.note(
        f"a recording of {FLOWS:,} flows and their ends; ctlist to a file, on one CPU; medians of "
        f"{ROUNDS}"
    )
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        folder = Path(name)
        with large_table(), FloodLab(folder) as lab:
            segments = record(lab, 4)
        output = folder / "listed"
        peaks = {}
        for form in FORMATS:
            costs = [
                timed(
                    [CHECKOUT / "bin/ctlist", "--format", form, segments[0]], output, LISTENER_CPU
                )
                for _ in range(ROUNDS)
            ]
            if lines(output) != 2 * FLOWS + (form == "csv"):
                raise AssertionError(f"{lines(output)} lines of {form}")
            wall, cpu = (
                statistics.median(cost.wall for cost in costs),
                statistics.median(cost.cpu for cost in costs),
            )
            most = 1.5 if form == "text" else None
            report.figure(f"--format {form}", wall, "s", most=most)
            report.note(
                f"    CPU {cpu:.2f} s, {output.stat().st_size / 1e6:.0f} MB, from "
                f"{segments[0].stat().st_size / 1e6:.1f} MB"
            )
            peaks[form] = max(cost.peak_kbytes for cost in costs) / 1024
        report.figure("peak memory, text, 2,000,000 events", peaks["text"], "MiB")
        many = timed([CHECKOUT / "bin/ctlist", *segments], output, LISTENER_CPU)
        if lines(output) != 2 * FLOWS * len(segments):
            raise AssertionError(f"{lines(output)} lines")
        report.figure(
            f"peak memory, text, {2 * FLOWS * len(segments):,} events",
            many.peak_kbytes / 1024,
            "MiB",
            most=peaks["text"] * 1.2,
        )


def _has_segments(recorder: Patient, count: int) -> bool:
    return len(recorder.segments()) == count


def record(lab: FloodLab, count: int) -> list[Path]:
    """`count` segments, each with a flood and its end."""
    recorder = Patient(lab)
    for number in range(count):
        lab.flood(number * FLOWS, FLOWS)
        lab.flush()
        recorder.settle()
        if number < count - 1:
            recorder.process.send_signal(signal.SIGHUP)
            wait_until(partial(_has_segments, recorder, number + 2), "a new segment")
    recorder.stop()
    if recorder.drops():
        raise AssertionError(f"{recorder.drops()} events dropped")
    return recorder.segments()
