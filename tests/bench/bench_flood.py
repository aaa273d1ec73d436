"""The great flood: nothing dropped, everything in the log, memory that does not grow."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.bench_record import Ctrecord, lines
from tests.bench.load import BUFFER_KBYTES, FloodLab, large_table
from tests.bench.measure import resident_kbytes, timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT

FLOWS = 1_000_000
MEBIBYTE_KB = 1024


def run(report: Report) -> None:
    """A million flows and the flush, counted; then eleven million events more, and the memory after
    each million flows.
    """
    with (
        large_table(),
        tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder,
        FloodLab(Path(folder)) as lab,
    ):
        loss(report, lab)
        memory(report, lab)


def loss(report: Report, lab: FloodLab) -> None:
    """Every event of the flood is in the log."""
    report.heading("Nothing lost in a flood")
    report.note(
        f"{FLOWS:,} new flows as fast as one core sends, then `conntrack -F`, recorded with a "
        f"buffer of {BUFFER_KBYTES >> 10} MiB; the"
    )
    report.note(
        "kernel's nf_conntrack_count says that it made exactly so many entries, and that none is "
        "left"
    )
    recorder = Ctrecord(lab)
    seconds = lab.flood(0, FLOWS)
    lab.flush()
    recorder.settle()
    recorder.stop()
    report.note(f"{FLOWS / seconds:,.0f} new flows a second")
    report.figure("dropped by the kernel", recorder.drops(), most=0)
    for event in ("new", "destroy"):
        output = lab.folder / "listed"
        timed([CHECKOUT / "bin/ctlist", "--event", event, recorder.archive], output)
        count = lines(output)
        report.figure(f"{event.upper()} events in the log", count, least=FLOWS)
        if count > FLOWS:
            raise AssertionError(f"{count} {event} events of {FLOWS} flows")


def memory(report: Report, lab: FloodLab) -> None:
    """Resident size early and late."""
    report.heading("Memory of ctrecord")
    recorder = Ctrecord(lab)
    pid = recorder.process.pid
    lab.flood(0, 50_000)
    lab.flush()
    recorder.settle()
    early = resident_kbytes(pid) / MEBIBYTE_KB
    report.figure("resident after 100,000 events", early, "MiB", most=50)
    sizes = []
    for number in range(5):
        lab.flood(number * FLOWS, FLOWS)
        lab.flush()
        recorder.settle()
        sizes.append(f"{resident_kbytes(pid) / MEBIBYTE_KB:.1f}")
    report.note(f"after each 2,000,000 events more: {', '.join(sizes)} MiB")
    late = resident_kbytes(pid) / MEBIBYTE_KB
    report.figure("resident after 10,100,000 events", late, "MiB", most=50)
    report.figure("the second over the first", late / early, "times", most=1.1)
    report.figure(
        "greatest resident size", resident_kbytes(pid, "VmHWM") / MEBIBYTE_KB, "MiB", most=50
    )
    recorder.stop()
    report.figure("dropped by the kernel", recorder.drops(), most=0)
