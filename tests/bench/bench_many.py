"""Many questions to an archive at once, and one alone: seconds, CPU and memory.

The archive is that of `made_archive`.  The questions are about connections in it, drawn at random:
their public end, at a time of their life; half of them also name the remote end; 1 in 20 does not
name the port, 1 in 20 is about a port that nobody may have held.
"""

from __future__ import annotations

import ipaddress
import pickle
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from ctrecorder.columns import Table, concat
from ctrecorder.ctlog.frame import Kind
from ctrecorder.holders import who
from ctrecorder.holders.many import answer_each
from ctrecorder.holders.who import WhoQuery
from ctrecorder.segment.reader import Segment
from ctrecorder.times import SECOND
from tests.bench import made_archive
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT

CONNECTIONS = 10_000_000
QUESTIONS = 1000
ROUNDS = 5
# In a process of its own, whose memory is measured.
_ASK = (
    f"import sys; sys.path.insert(0, {str(CHECKOUT)!r});"
    "from tests.bench.bench_many import ask; ask(*sys.argv[1:])"
)


def run(report: Report) -> None:
    """The archive of 10,000,000 connections."""
    measure(report, CONNECTIONS)


def measure(report: Report, connections: int) -> None:
    """1,000 questions over 90 days, 1,000 about three hours, and one alone."""
    report.heading(
        f"Questions to an archive of {connections:,} connections over {made_archive.DAYS} days, in "
        f"{made_archive.SEGMENTS:,} segments"
    )
    folder = made_archive.archive(connections)
    size = sum(path.stat().st_size for path in folder.iterdir())
    report.note(
        f"{size / 1e6:.0f} MB; made up; 1 connection in {made_archive.LONG_ONE_IN:,} lives for "
        f"days; the last {made_archive.RAW_SEGMENTS} segments are not squeezed"
    )
    paths = sorted(folder.iterdir())
    middle = len(paths) // 3
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        out = Path(name) / "out"
        for what, asked in (
            ("over 90 days", questions(paths)),
            ("about 3 hours", questions(paths[middle : middle + 3])),
        ):
            file = Path(name) / "questions"
            file.write_bytes(pickle.dumps(asked))
            for jobs in ("1", "2"):
                command = ["/usr/bin/python3", "-B", "-c", _ASK, folder, file, jobs]
                cost = timed(command, out)
                found, begun = out.read_text().split()
                most = 20 if jobs == "2" else None
                report.figure(
                    f"{QUESTIONS:,} questions {what}, -j {jobs}", cost.wall, "s", most=most
                )
                report.figure("CPU of it", cost.cpu, "s")
                report.figure("most memory of a process", cost.peak_kbytes / 1024, "MiB", most=200)
                report.note(f"{found} candidates; {begun} s until the first answer")
        one_alone(report, folder, asked, out)


def one_alone(report: Report, folder: Path, asked: list[WhoQuery], out: Path) -> None:
    """A question by itself: in a process that runs, and as a command from start to answer."""
    now = time.time_ns()
    seconds = []
    for one in asked[:20]:
        begin = time.monotonic()
        who.answer([str(folder)], one, now)
        seconds.append(time.monotonic() - begin)
    report.figure("one question, median of 20", statistics.median(seconds), "s", most=0.3)
    (network,), (port, _) = asked[0].public.networks, (*asked[0].public.ports, (0, 0))[0]
    end = f"{ipaddress.ip_address(network.low)}:{port or 443}"
    command = [CHECKOUT / "bin/ctwho", "-d", folder, end, f"@{asked[0].since // SECOND}"]
    costs = [timed(command, out, None, (0, 1, 3)) for _ in range(ROUNDS + 1)][1:]
    wall, cpu = ([getattr(cost, name) for cost in costs] for name in ("wall", "cpu"))
    report.figure("ctwho, from start to answer", statistics.median(wall), "s", most=0.3)
    report.figure("CPU of it", statistics.median(cpu), "s")


def ask(folder: str, file: str, jobs: str) -> None:
    """Asks the questions in a file; prints how many candidates there are, and when the first
    answer came.
    """
    asked = pickle.loads(Path(file).read_bytes())
    begin, first, found = time.monotonic(), 0.0, 0
    for _, answer in answer_each([folder], asked, time.time_ns(), jobs=int(jobs)):
        first = first or time.monotonic() - begin
        found += len(answer)
    print(found, f"{first:.2f}")


def questions(paths: list[Path]) -> list[WhoQuery]:
    """Questions about connections in these segments."""
    random = np.random.default_rng(1)
    asked: list[WhoQuery] = []
    drawn, counts = np.unique(random.integers(0, len(paths), QUESTIONS), return_counts=True)
    for number, count in zip(drawn, counts, strict=True):
        table = rows(paths[number])
        drawn_rows = random.integers(0, len(table), count)
        asked += [question(table, int(row), random) for row in drawn_rows]
    return [asked[number] for number in random.permutation(QUESTIONS)]


def rows(path: Path) -> Table:
    """The connections of a segment that are translated; of one that is not squeezed the events."""
    with Segment(str(path)) as segment:
        kind = Kind.CONNECTIONS if segment.header.is_squeezed else Kind.EVENTS
        table = concat([segment.read(block) for block in segment.blocks_of(kind)])
    return table.take(table["reply_dst"] != table["orig_src"])


def question(table: Table, row: int, random: np.random.Generator) -> WhoQuery:
    """A question about one of the connections."""
    public, target = (dotted(table[name][row]) for name in ("reply_dst", "orig_dst"))
    times = [int(table[name][row]) for name in ("time", "start", "end")]
    at = int(random.choice([each for each in times if each]))
    kind, tolerance = random.random(), int(random.choice([0, 1, 60])) * SECOND
    port = int(random.integers(1024, 65536)) if kind < 0.05 else int(table["reply_dport"][row])
    to = f"{target}:{table['orig_dport'][row]}" if random.random() < 0.5 or kind > 0.95 else ""
    return WhoQuery(
        who.parse_end(public if kind > 0.95 else f"{public}:{port}"),
        at - tolerance,
        at + tolerance + 1,
        who.parse_end(to) if to else None,
    )


def dotted(address: int) -> str:
    """An address as text."""
    return str(ipaddress.ip_address(int(address)))
