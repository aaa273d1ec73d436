"""What an event costs: ctrecord, a sink, `conntrack -E` and ulogd2, each with the same flood, in
turns.
"""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.bench.load import BUFFER_KBYTES, FloodLab, Listener, large_table, set_event_buffer
from tests.bench.report import Report
from tests.support import folders
from tests.support.router import CHECKOUT, wait_until

ROUNDS = 5
# A cycle's events, NEW and DESTROY, fit the buffer: the slow listeners drop nothing, so that each
# is charged for the same work.
FLOWS, CYCLES = 50_000, 4


class Sink(Listener):
    """Receives and throws away (sink.c): the floor."""

    name = "sink (recvmmsg, thrown away)"
    wait_ms = 50  # as long as ctrecord waits for a batch

    def command(self) -> list[object]:
        return [self.lab.sink, BUFFER_KBYTES, self.wait_ms]

    def _totals(self) -> list[str]:
        return self.output.read_text().splitlines()[1].split()

    def events(self) -> int:
        return int(self._totals()[0])

    def drops(self) -> int:
        return int(self._totals()[2])


class Ctrecord(Listener):
    """Ours, as an operator runs it, all columns."""

    name = "ctrecord"
    buffer_kbytes = BUFFER_KBYTES

    @property
    def archive(self) -> Path:
        """The folder of its segments."""
        return self.folder / "archive"

    def segments(self) -> list[Path]:
        """Its segments, oldest first."""
        return folders.paths(self.archive)

    def command(self) -> list[object]:
        self.archive.mkdir()
        template = self.archive / "%Y%m%d-%H%M%S.ctlog"
        return [
            CHECKOUT / "bin/ctrecord",
            "-F",
            "-U",
            "root",
            "-b",
            self.buffer_kbytes,
            "-f",
            template,
        ]

    def ready(self) -> None:
        wait_until(lambda: "table recorded" in self.log.read_text(), "ctrecord recording")

    def _counter(self, pattern: str) -> int:
        return int(re.findall(pattern, self.log.read_text())[-1])

    def events(self) -> int:
        return self._counter(r"counters: (\d+) events")

    def drops(self) -> int:
        return self._counter(r"(\d+) lost")


class Conntrack(Listener):
    """conntrack-tools, to a file."""

    name = "conntrack -E -o timestamp"

    def command(self) -> list[object]:
        return ["conntrack", "-E", "-e", "NEW,DESTROY", "-o", "timestamp"]

    def ready(self) -> None:
        # Its own -b sets, in 1.4.7, the buffer of another socket than the one that it reads events
        # from.
        set_event_buffer(self.process.pid, BUFFER_KBYTES)

    def events(self) -> int:
        return lines(self.output)


class Ulogd(Listener):
    """ulogd2, NFCT to GPRINT: an event a line, as it comes (no pairing in memory); GPRINT as
    Debian's ulogd.conf has it.
    """

    name = "ulogd2 NFCT -> GPRINT"
    sync = 1  # each line is given to the kernel at once

    def command(self) -> list[object]:
        plugins = Path(next(Path("/usr/lib").glob("*/ulogd")))
        size = BUFFER_KBYTES << 10
        self.printed = self.folder / "gprint"
        config = self.folder / "ulogd.conf"
        config.write_text(
            f"""[global]
logfile="{self.folder / "ulogd.log"}"
loglevel=5
plugin="{plugins / "ulogd_inpflow_NFCT.so"}"
plugin="{plugins / "ulogd_output_GPRINT.so"}"
stack=ct1:NFCT,gp1:GPRINT
[ct1]
hash_enable=0
event_mask=5
netlink_socket_buffer_size={size}
netlink_socket_buffer_maxsize={size}
[gp1]
file="{self.printed}"
timestamp=1
sync={self.sync}
"""
        )
        return ["ulogd", "-c", config]

    def events(self) -> int:
        return lines(self.printed)


class UlogdBuffered(Ulogd):
    """The same, but what a crash finds unwritten is lost: faster, and not Debian's setting."""

    name = "ulogd2 with sync=0"
    sync = 0


KINDS: tuple[type[Listener], ...] = (Sink, Ctrecord, Conntrack, Ulogd, UlogdBuffered)


def lines(path: Path) -> int:
    """How many lines the file has."""
    count = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            count += part.count(b"\n")
    return count


class Sample(NamedTuple):
    """One listener's round."""

    cost: float  # CPU seconds an event
    got: int  # events
    dropped: int | None


def one_round(lab: FloodLab, kind: type[Listener], end: Callable[[], None]) -> Sample:
    """CYCLES floods, each ended at once by `end`; the CPU from ready to all done."""
    listener = kind(lab)
    for cycle in range(CYCLES):
        lab.flood(cycle * FLOWS, FLOWS)
        end()
        listener.drain()
    cpu = listener.settle()
    listener.stop()
    events = listener.events()
    return Sample(cpu / events, events, listener.drops())


def compare(report: Report, lab: FloodLab, end: Callable[[], None]) -> dict[type[Listener], float]:
    """ROUNDS rounds of all in turns; prints the table; the median costs."""
    samples: dict[type[Listener], list[Sample]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            samples[kind].append(one_round(lab, kind, end))
    medians = {kind: statistics.median(sample.cost for sample in samples[kind]) for kind in KINDS}
    rows: list[list[object]] = []
    for kind, found in samples.items():
        costs = sorted(sample.cost * 1e6 for sample in found)
        share = sum(sample.got for sample in found) / (2 * FLOWS * CYCLES * ROUNDS)
        dropped = "?" if found[0].dropped is None else sum(sample.dropped or 0 for sample in found)
        rows.append(
            [
                kind.name,
                f"{medians[kind] * 1e6:.2f}",
                f"{costs[0]:.2f} to {costs[-1]:.2f}",
                f"{medians[kind] / medians[Sink]:.2f}",
                f"{share:.1%}",
                dropped,
            ]
        )
    report.table(["", "us an event", "from .. to", "x sink", "got", "dropped"], rows)
    return medians


def run(report: Report) -> None:
    """Prints the tables of costs and the ratios."""
    report.heading("CPU an event")
    report.note(
        f"{CYCLES} times {FLOWS:,} new UDP flows through the NAT router, as fast as one core "
        "sends, then all ended at once;"
    )
    report.note(
        "the sender on one CPU, the listener on the other, in turns; CPU time is user + system of "
        "the whole process, from"
    )
    report.note(
        f"subscribed to all done, over the events that it got; a buffer of {BUFFER_KBYTES >> 10} "
        f"MiB each; median of {ROUNDS}"
    )
    with (
        large_table(),
        tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as folder,
        FloodLab(Path(folder)) as lab,
    ):
        print(
            "\n  ended by `conntrack -F`: of each such end conntrack -E looks up the process that "
            "caused it"
        )
        medians = compare(report, lab, lab.flush)
        ours = medians[Ctrecord]
        report.figure(
            "ctrecord over the sink (wanted: 1.5)", ours / medians[Sink], "times", most=1.8
        )
        for kind in (Conntrack, Ulogd):
            report.figure(f"{kind.name} over ctrecord", medians[kind] / ours, "times", least=5)
        report.figure(f"{UlogdBuffered.name} over ctrecord", medians[UlogdBuffered] / ours, "times")
        print("\n  ended by the kernel, as a link goes down: no process to look up")
        medians = compare(report, lab, lab.link_down)
        ours = medians[Ctrecord]
        report.figure(
            "ctrecord over the sink (wanted: 1.5)", ours / medians[Sink], "times", most=1.8
        )
        for kind in (Conntrack, Ulogd, UlogdBuffered):
            report.figure(f"{kind.name} over ctrecord", medians[kind] / ours, "times")
