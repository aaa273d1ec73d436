"""An ordinary day: 1,000 events a second, what that costs, and how old an event is when it can be
listed.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from tests.bench.bench_record import Ctrecord
from tests.bench.load import FloodLab
from tests.bench.measure import cpu_seconds, timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT, INSIDE, SERVER

SECONDS = 30
RATE = 500  # new flows a second; each ends too
ASKS = 8


def run(report: Report) -> None:
    """CPU over SECONDS; then the age of single events, asked for again and again while the load
    goes on.
    """
    report.heading("1,000 events a second")
    report.note(f"{RATE} new flows each second, ended at the end of it, for {SECONDS} s")
    with (
        tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder,
        FloodLab(Path(folder)) as lab,
    ):
        recorder = Ctrecord(lab)
        begin, cpu = time.monotonic(), cpu_seconds(recorder.process.pid)
        load(lab, begin + SECONDS)
        share = (cpu_seconds(recorder.process.pid) - cpu) / (time.monotonic() - begin)
        report.figure("CPU of ctrecord, of one core", 100 * share, "%", most=2)
        ages = asked(lab, recorder.archive)
        report.note(
            f"{ASKS} single events, asked for with ctlist, which takes a while itself, until they "
            "were there:"
        )
        report.figure("greatest age of an event when it was listed", max(ages), "s", most=2)
        recorder.stop()
        report.figure("dropped by the kernel", recorder.drops(), most=0)


def load(lab: FloodLab, until: float) -> None:
    """RATE flows a second, ended each second."""
    number = 0
    while time.monotonic() < until:
        lab.flood(number, RATE, RATE, alone=False)
        lab.flush(alone=False)
        number += RATE


def asked(lab: FloodLab, archive: Path) -> list[float]:
    """The ages of ASKS events when ctlist first showed them, in seconds."""
    background = threading.Thread(target=load, args=(lab, time.monotonic() + 2.5 * ASKS))
    background.start()
    ages = []
    for number in range(ASKS):
        port = 65000 + number  # above all of the flood
        event = time.time()
        lab.udp(INSIDE, (SERVER, 53), sport=port)
        output = lab.folder / "asked"
        while not (output.exists() and output.stat().st_size):
            timed([CHECKOUT / "bin/ctlist", "-p", port, archive], output, allowed=(0, 1))
        ages.append(time.time() - event)
        output.unlink()
        time.sleep(0.37)  # at another moment of the recorder's second
    background.join()
    return ages
