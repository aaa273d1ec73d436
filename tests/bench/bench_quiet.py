"""A quiet router, 50 connections an hour for 90 days: in hourly segments, and in daily ones, which
is what joining the segments of a day would give.  Bytes, and the CPU of questions.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctrecorder.columns import Event, concat
from ctrecorder.ctlog.frame import Mark
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import mark_block
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import DAY, HOUR, SECOND
from tests.bench import archive_flows, made_archive
from tests.bench.bench_growth import cpu
from tests.bench.report import Report
from tests.support.recorded import CLOCK, HEADER
from tests.support.router import CHECKOUT

DAYS, AN_HOUR = 90, 50
BEGIN = archive_flows.BEGIN


def run(report: Report) -> None:
    """Hours beside days: of the files, of each question, and how many times less with days."""
    report.heading("A quiet router: hourly and daily segments")
    report.note(f"{AN_HOUR} connections an hour, {DAYS} days; CPU, with the start of the command")
    at = (BEGIN + 45 * DAY + 12 * HOUR) // SECOND
    hour = ["--since", f"@{at}", "--until", f"@{at + 3600}"]
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder:
        hours, days = Path(folder, "hours"), Path(folder, "days")
        made = archive_flows.made(AN_HOUR * DAYS * 24, begin=BEGIN, seconds=DAYS * 86_400)
        flows = made_archive.numbered(made, 0)
        record(hours, 1, flows)
        record(days, 24, flows)
        sizes = [sum(path.stat().st_size for path in each.iterdir()) for each in (hours, days)]
        rows.append(["bytes", *sizes, sizes[0] / sizes[1]])
        for name, command in (
            ("ctwho", ["ctwho", "192.0.2.1:2077", f"@{at}", "-d"]),
            ("ctlist -i, absent", ["ctlist", "-i", "192.0.2.77"]),
            ("ctlist -s, all", ["ctlist", "-s"]),
            (
                "ctlist --since, an hour",
                ["ctlist", *hour],
            ),
            ("cttest", ["cttest"]),
        ):
            program = CHECKOUT / "bin" / command[0]
            costs = [cpu([program, *command[1:], each], each) for each in (hours, days)]
            rows.append([f"{name}, s", *costs, costs[0] / costs[1]])
    report.table(["", "hours", "days", "times"], rows)


def record(folder: Path, hours: int, flows: made_archive.Flows) -> None:
    """Squeezed segments of so many hours each."""
    folder.mkdir()
    tables = [made_archive.events(flows, Event.NEW, flows["start"])]
    tables.append(made_archive.events(flows, Event.DESTROY, flows["end"]))
    table = concat(tables)
    table = table.take(np.argsort(table["time"], kind="stable"))
    previous, name, end = bytes(16), None, BEGIN + DAYS * DAY
    for number, begin in enumerate(range(BEGIN, end, hours * HOUR)):
        path, until = folder / f"{number:05}.ctlog", begin + hours * HOUR
        header = replace(HEADER, sequence=number + 1, previous=name)
        writer = SegmentWriter.create(str(path), header, previous, time_ns=begin)
        writer.mark(Mark(begin, begin + SECOND, "dump", {"rows": 0, "complete": True}))
        first, last = np.searchsorted(table["time"], (begin, until))
        writer.append(table.slice(int(first), int(last)))
        beat = mark_block(Mark.at(until - 1, "heartbeat", {"clock": CLOCK}))
        writer.write(beat.with_watermark(until - 1))
        previous, name = writer.close(), path.name
        squeeze(str(path), SqueezeOptions())
