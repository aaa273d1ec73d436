"""How the cost grows: with small blocks, as a quiet router writes them, with segments, with open
connections, and with the archive.  Each size is twice the one before; what takes more than 2.4
times as long, after the start of the command, grows faster than the log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctrecorder.columns import TUPLE, Array, Event, Table, bits
from ctrecorder.ctlog.frame import COVERAGE, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import HOUR, SECOND
from ctrecorder.uapi import AF_INET
from tests.bench import archive_flows
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT

BEGIN = archive_flows.BEGIN
BLOCKS, SEGMENTS, OPEN, HOURS = 10_000, 1_250, 250_000, 8
STEPS, MOST, ROUNDS = 3, 2.4, 3
Command = Callable[[Path], list[object]]
LIST = CHECKOUT / "bin/ctlist"
COMMANDS: dict[str, Command] = {
    "ctlist -s": lambda path: [LIST, "-s", path],
    "ctlist -s -i": lambda path: [LIST, "-s", "-i", "192.0.2.1", path],
    "ctlist --since": lambda path: [LIST, "--since", f"@{BEGIN // SECOND + 900}", path],
    "ctwho": lambda path: [
        CHECKOUT / "bin/ctwho", "192.0.2.1:2077", f"@{BEGIN // SECOND + 900}", "-d", path,
    ],
    "ctsqueeze": lambda path: [CHECKOUT / "bin/ctsqueeze", "-f", path, "-o", f"{path}.new"],
    "cttest": lambda path: [CHECKOUT / "bin/cttest", path],
    "ctexpire": lambda path: [CHECKOUT / "bin/ctexpire", "-n", "--max-age", "36500d", path],
    "ctship": lambda path: [
        CHECKOUT / "bin/ctship", "-n", "--ship-raw", "--to", "rsync://localhost/log", path,
    ],
}  # fmt: skip
OF_SEGMENTS = (
    *("ctlist -s", "ctlist -s -i", "ctlist --since", "ctwho"),
    *("cttest", "ctexpire", "ctship"),
)


def run(report: Report) -> None:
    """Blocks of one event, segments of 24 events, connections that stay open."""
    report.heading("Growth: each size is twice the one before")
    for what, first, make, names in (
        ("blocks", BLOCKS, blocks, ("ctlist -s", "ctwho", "ctsqueeze", "cttest")),
        ("segments", SEGMENTS, segments, OF_SEGMENTS),
        ("open connections", OPEN, opened, ("ctlist -s", "ctsqueeze", "cttest")),
        ("hours of an archive", HOURS, archive, ("ctlist -s", "ctlist -s -i", "ctwho", "cttest")),
    ):
        with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder:
            paths = [make(Path(folder), first << step) for step in range(STEPS)]
            empty = make(Path(folder), 1)
            for name in names:
                growth(report, f"{name}, {what}", COMMANDS[name], empty, paths, first)


def growth(
    report: Report, name: str, command: Command, empty: Path, paths: list[Path], first: int
) -> None:
    """The CPU of a command for each size, and how it grows."""
    start, *costs = (cpu(command(path), path) for path in (empty, *paths))
    sizes = ", ".join(f"{first << step:,}: {cost:.2f} s" for step, cost in enumerate(costs))
    report.note(f"{name}: {sizes}; start {start:.2f} s")
    grown = (costs[-1] - start) / max(costs[-2] - start, 0.02)
    report.figure(f"{name}, growth at the last doubling", grown, "times", most=MOST)


def cpu(command: list[object], path: Path) -> float:
    """The least of some runs, s."""
    found = []
    for _ in range(ROUNDS):
        Path(f"{path}.new").unlink(missing_ok=True)
        found.append(timed(command, path.parent / "out", None, (0, 1, 2, 3)).cpu)
    return min(found)


def _events(event: Event, first: int, count: int, time: int) -> Table:
    ids = np.arange(first, first + count, dtype="<u4")
    columns: dict[str, Array] = {
        "time": time + np.arange(count, dtype=np.int64),
        "event": np.full(count, event, "u1"),
        "l4proto": np.full(count, 17, "u1"),
        "id": ids,
        "orig_src": np.full(count, 0x0A000001, "<u4"),
        "orig_dst": np.full(count, 0xCB007101, "<u4"),
        "reply_src": np.full(count, 0xCB007101, "<u4"),
        "reply_dst": np.full(count, 0xC6336401, "<u4"),
        "present": np.full(count, bits((*TUPLE, "id")), "<u4"),
    }
    for name in ("orig_sport", "reply_dport"):
        columns[name] = (ids % 60_000).astype("<u2")
    return Table(AF_INET, count, columns)


def blocks(folder: Path, count: int) -> Path:
    """A segment of so many blocks of one event."""
    path = folder / f"{count}.ctlog"
    writer = SegmentWriter.create(str(path), _header(1), time_ns=BEGIN)
    for number in range(count):
        event = (Event.NEW, Event.DESTROY)[number % 2]
        writer.append(_events(event, number // 2, 1, BEGIN + number * SECOND // 10))
    writer.close()
    return path


def archive(folder: Path, count: int) -> Path:
    """A folder of so many hourly segments of 20,000 connections."""
    return segments(folder, count, 20_000)


def segments(folder: Path, count: int, an_hour: int = 12) -> Path:
    """A folder of so many hourly segments of a few connections."""
    path = folder / str(count)
    path.mkdir()
    previous, name = bytes(16), None
    for number in range(count):
        begin, file = BEGIN + number * HOUR, path / f"{number:05}.ctlog"
        writer = SegmentWriter.create(str(file), _header(number + 1, name), previous, time_ns=begin)
        writer.mark(Mark(begin, begin + SECOND, "dump", {"rows": 0, "complete": True}))
        writer.append(_events(Event.NEW, number * an_hour, an_hour, begin + 10 * SECOND))
        writer.append(_events(Event.DESTROY, number * an_hour, an_hour, begin + 60 * SECOND))
        writer.mark(Mark.at(begin + HOUR - 1, "heartbeat"))
        previous, name = writer.close(), file.name
    return path


def opened(folder: Path, count: int) -> Path:
    """A segment of connections that do not end."""
    path = folder / f"open-{count}.ctlog"
    writer = SegmentWriter.create(str(path), _header(1), time_ns=BEGIN)
    for first in range(0, count, 1 << 16):
        some = min(1 << 16, count - first)
        writer.append(_events(Event.NEW, first, some, BEGIN + first))
    writer.close()
    return path


def _header(sequence: int, previous: str | None = None) -> Header:
    return Header(
        requires=(COVERAGE,), host="bench", boot_id="bench", chain="0123456789abcdef",
        sequence=sequence, previous=previous, netns="4:1",
    )  # fmt: skip
