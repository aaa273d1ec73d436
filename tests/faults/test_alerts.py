"""Faults, the metrics that a recorder really writes meanwhile, and the alerts that Prometheus makes
of them: raised within two scrapes, and none on a quiet day.
"""

from __future__ import annotations

import contextlib
import math
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ctrecorder import uapi
from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.metrics.text import Sample
from ctrecorder.metrics.write import write
from ctrecorder.segment.writer import SegmentWriter
from tests.support.disks import fill, tmpfs
from tests.support.faulttable import Table
from tests.support.prometheus import promtool, unpacked
from tests.support.router import CHECKOUT, INSIDE_2, Lab, event_sockets, wait_until
from tests.support.scrapes import EVERY, RuleTest, Series, check, is_time, scrape
from tests.support.traffic import Tough, Traffic, endpoint

# The faults come after the second scrape.
QUIET_SCRAPES, SCRAPES = 2, 7
JITTER_SECONDS = 3.0
FAULT_SECONDS = (QUIET_SCRAPES - 1) * EVERY + 4
# A recorder knows of a fault after a second or two, if it runs then.
KNOWN_SECONDS = 2.0


@dataclass
class Router:
    """A lab with a recorder, and what was scraped of it."""

    lab: Lab
    recorder: Tough
    traffic: Traffic
    series: Series = field(default_factory=lambda: Series(0))
    known: float = 0
    over: threading.Event = field(default_factory=threading.Event)

    def happen(self, fault: Fault) -> None:
        """Make the fault; from `known` on, the recorder can know it."""
        fault.make(self)
        self.known = time.time() + KNOWN_SECONDS
        self.over.wait()  # what a thread starts is killed when it ends

    @property
    def raised_seconds(self) -> int:
        """The second scrape after that."""
        passed = self.known - self.series.begin + JITTER_SECONDS
        return (math.ceil(passed / EVERY) + 1) * EVERY


@dataclass(frozen=True)
class Fault:
    """A fault, and the alerts that it raises; `settings`: of the recorder."""

    name: str
    make: Callable[[Router], None]
    alerts: set[str]
    settings: dict[str, object] = field(default_factory=dict)


def nothing(_: Router) -> None:
    """A quiet day."""


def flood(router: Router, count: int) -> None:
    """Flows beside those of the traffic that goes on."""
    with router.lab.inside.socket(socket.SOCK_DGRAM, INSIDE_2) as sender:
        for number in range(count):
            sender.sendto(b"", endpoint(number))


def overrun(router: Router) -> None:
    router.recorder.process.send_signal(signal.SIGSTOP)
    flood(router, 3_000)
    router.recorder.process.send_signal(signal.SIGCONT)


def killed(router: Router) -> None:
    router.recorder.kill()


def restarted(router: Router) -> None:
    router.recorder.kill()
    time.sleep(0.5)
    router.recorder.again()


def disk_full(router: Router) -> None:
    fill(router.recorder.folder)


def disk_full_in_a_flood(router: Router) -> None:
    fill(router.recorder.folder)
    flood(router, 90_000)


def events_off(router: Router) -> None:
    router.lab.router.sysctl(nf_conntrack_events=0)


def tracking_off(router: Router) -> None:
    router.lab.router.run("nft", "flush", "ruleset")


def notrack(router: Router) -> None:
    rules = "add table ip t; add chain ip t c { type filter hook prerouting priority -300; }; "
    router.lab.router.run("nft", rules + "add rule ip t c tcp dport 80 notrack")


def forger(router: Router) -> None:
    (target,) = event_sockets(router.recorder.process.pid)
    with router.lab.router.call(
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uapi.NETLINK_NETFILTER)
    ) as liar:
        liar.bind((0, 0))
        liar.sendto(bytes(64), (target.port, 0))


FAULTS = (
    Fault("a quiet day", nothing, set()),
    Fault("overrun", overrun, {"CtrecorderEventsLost", "CtrecorderGap"}, {"buffer": 64}),
    Fault("killed", killed, set()),
    Fault("killed and started again", restarted, {"CtrecorderGap"}),
    Fault("disk full", disk_full, {"CtrecorderWriteFailing"}),
    Fault(
        "disk full in a flood",
        disk_full_in_a_flood,
        {"CtrecorderWriteFailing", "CtrecorderMemoryHalf"},
        {"memory": 1},
    ),
    Fault("events off", events_off, {"CtrecorderHidden"}),
    Fault("tracking off", tracking_off, {"CtrecorderHidden"}),
    Fault("a rule notrack", notrack, {"CtrecorderHidden"}),
    Fault("a forger", forger, {"CtrecorderRefused"}),
)


@contextlib.contextmanager
def running(fault: Fault, place: Path) -> Iterator[Router]:
    """A lab for one fault, with traffic."""
    place.mkdir()
    with Lab() as lab, tmpfs(place / "log", 4096) as folder:
        name = fault.name.replace(" ", "-")
        recorder = Tough(lab, folder, name=name, environment=None, **fault.settings)
        traffic = Traffic(lab)
        with traffic.steady(20):
            yield Router(lab, recorder, traffic)
        traffic.close()


def scrape_all(routers: list[Router], faults: tuple[Fault, ...]) -> None:
    """Scrape each router each 15 s, some seconds early or late, and make the faults meanwhile."""
    begin, chance = time.time(), random.Random(15)
    for router in routers:
        router.series.begin = begin
    makers: list[threading.Thread] = []
    for number in range(SCRAPES):
        if number == QUIET_SCRAPES:
            sleep_until(begin + FAULT_SECONDS)
            makers = [
                threading.Thread(target=router.happen, args=(fault,))
                for fault, router in zip(faults, routers, strict=True)
            ]
            for maker in makers:
                maker.start()
        due = begin + number * EVERY
        moments = [(due + chance.uniform(-1, 1) * JITTER_SECONDS, one) for one in routers]
        for moment, router in sorted(moments, key=lambda one: one[0]):
            sleep_until(moment)
            router.series.scrapes.append(scrape(router.recorder.metrics))
    for router, maker in zip(routers, makers, strict=True):
        router.over.set()
        maker.join()


def sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.time(), 0))


def quiet_day(series: Series, clock: int = 1) -> Series:
    """A day of what was scraped in a minute: times and counters go on as they did.

    `clock`: if it is synchronised; that of the machine of the tests may not be.
    """
    first, last = series.scrapes[1], series.scrapes[-1]
    steps = SCRAPES - 2
    rises = {name: (last[name] - first[name]) / steps for name in last}
    rises |= {name: EVERY for name in last if is_time(name) and "start" not in name}
    scrapes = [
        *series.scrapes,
        *(
            {name: last[name] + number * rises[name] for name in last}
            for number in range(1, 24 * 3600 // EVERY)
        ),
    ]
    name_of_clock = next(name for name in last if name.startswith("ctrecorder_clock_synchronised"))
    return Series(series.begin, [{**one, name_of_clock: clock} for one in scrapes])


@pytest.mark.beside  # it waits for scrapes, beside others
def test_faults_raise_their_alerts(tmp_path: Path, table: Table) -> None:
    with contextlib.ExitStack() as stack:
        routers = [
            stack.enter_context(running(fault, tmp_path / str(number)))
            for number, fault in enumerate(FAULTS)
        ]
        sleep_until(time.time() + 3)
        scrape_all(routers, FAULTS)
        for router in routers:
            text = next(router.recorder.metrics.glob("*.prom")).read_text()
            promtool("check", "metrics", stdin=text)
    tests = [
        RuleTest(
            fault.name,
            router.series,
            {FAULT_SECONDS - 4: set(), router.raised_seconds: fault.alerts},
        )
        for fault, router in zip(FAULTS, routers, strict=True)
    ]
    quiet, dead = routers[0].series, routers[2].series
    tests += [
        RuleTest("a day", quiet_day(quiet), {1800 * each: set() for each in range(1, 48)}),
        RuleTest("no time daemon", quiet_day(quiet, clock=0), {800: {"CtrecorderClock"}}),
        # A recorder that is dead knows nothing: the watermark is 90 s old, and two scrapes.
        RuleTest("dead", dead.lasting(300), {FAULT_SECONDS + 120: {"CtrecorderWatermarkOld"}}),
        RuleTest("booted, not started", quiet.off(60), {SCRAPES * EVERY: {"CtrecorderAbsent"}}),
    ]
    check(tests, tmp_path)
    for fault in FAULTS:
        table.lines.append(f"{fault.name}: {', '.join(sorted(fault.alerts)) or 'no alert'}")


@dataclass(frozen=True)
class Place:
    """A folder of segments that the configuration names, and the metrics of its commands."""

    path: Path

    def make(self) -> None:
        (self.path / "log").mkdir(parents=True)
        (self.path / "metrics").mkdir()
        (self.path / "ctrecorder.conf").write_text(
            f"[squeeze]\nfolder = {self.path}/log\n[expire]\nfolder = {self.path}/log\n"
            f"[metrics]\ndirectory = {self.path}/metrics\n"
        )

    def segment(self, name: str, header: Header) -> Path:
        """A closed segment of now."""
        writer = SegmentWriter.create(str(self.path / "log" / name), header)
        writer.mark(Mark.at(time.time_ns(), "heartbeat"))
        writer.close()
        return Path(writer.path)

    def run(self, command: str, *arguments: object, code: int = 0) -> None:
        config = self.path / "ctrecorder.conf"
        done = subprocess.run(
            [CHECKOUT / "bin" / command, "-c", config, *map(str, arguments)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr

    def scraped(self) -> Series:
        """What the jobs of a night wrote, scraped for a minute, beside a recorder."""
        recorder = {'ctrecorder_build_info{instance="router",job="node"}': 1.0}
        return Series(time.time(), [recorder | scrape(self.path / "metrics")]).lasting(60)


HOUR = 3600
JOB_FAILED = "CtrecorderJobFailed"


@pytest.mark.beside
def test_jobs_raise_their_alerts(tmp_path: Path) -> None:
    """The files of ctsqueeze, ctexpire and cttest, which stay as they are until the next run."""
    well, damaged, early, failed, behind = (
        Place(tmp_path / name) for name in ("well", "damaged", "early", "failed", "behind")
    )
    for place in (well, damaged, early, failed, behind):
        place.make()
        place.segment("1.ctlog", Header(chain="c" * 16, sequence=1))
    for place in (well, damaged, early):
        place.run("ctsqueeze")
        place.run("ctexpire", "--trust-clock", "--max-age", "1h")
        place.run("cttest", "-q")
    # Nobody runs anything any more.
    old = well.scraped().lasting(28 * HOUR)
    segment = damaged.segment("2.ctlog", Header(chain="d" * 16, sequence=1))
    data = bytearray(segment.read_bytes())
    data[-150] ^= 1
    segment.write_bytes(data)
    damaged.run("cttest", "-q", code=1)
    early.run("ctexpire", "--trust-clock", "--max-size", "1")
    failed.segment("2.ctlog", Header(chain="d" * 16, sequence=1, requires=("of-the-future",)))
    failed.run("ctsqueeze", code=2)
    behind.run("ctsqueeze")
    nowhere = "rsync://127.0.0.1/nowhere"  # no daemon is there
    behind.run("ctship", "--to", nowhere, behind.path / "log", code=2)
    check(
        [
            RuleTest(
                "nobody runs anything",
                old,
                {
                    30: set(),
                    25 * HOUR: set(),
                    26 * HOUR + 60: {JOB_FAILED},
                    # max_age and a day, and two hours in which it stays so.
                    27 * HOUR + 120: {JOB_FAILED, "CtrecorderTooOld"},
                },
            ),
            RuleTest("damaged", damaged.scraped(), {30: {"CtrecorderFinding"}}),
            RuleTest("deleted early", early.scraped(), {30: {"CtrecorderDeletedEarly"}}),
            RuleTest(
                "the target is away",
                behind.scraped().lasting(3 * HOUR),
                {30: {JOB_FAILED}, 2 * HOUR + 60: {JOB_FAILED, "CtrecorderShippingBehind"}},
            ),
            RuleTest("ctsqueeze fails", failed.scraped(), {30: {JOB_FAILED}}),
        ],
        tmp_path,
    )
    for path in (well.path / "metrics").glob("*.prom"):
        promtool("check", "metrics", stdin=path.read_text())


def _metrics() -> str:
    """What node_exporter shows."""
    with urllib.request.urlopen("http://127.0.0.1:9100/metrics", timeout=5) as page:
        return str(page.read(), "utf-8")


def test_node_exporter_reads_the_files(lab: Lab, tmp_path: Path) -> None:
    """By a link to each file, as Debian 12 needs it; two recorders and a job have equal helps."""
    directory, collected = tmp_path / "run", tmp_path / "collected"
    collected.mkdir()
    directory.mkdir()
    for recording in ("ctrecorder", "customer"):
        samples = [Sample("ctrecorder_held_bytes", (recording,), 1)]
        assert write(f"ctrecord-{recording}", samples, str(directory)) == ""
    assert write("ctexpire-/log", [Sample("ctrecorder_holds", ("/log",), 2)], str(directory)) == ""
    for path in directory.iterdir():
        (collected / path.name).symlink_to(path)
    lab.router.run("ip", "link", "set", "lo", "up")
    lab.router.spawn(
        unpacked() / "usr/bin/prometheus-node-exporter",
        "--web.listen-address=127.0.0.1:9100",
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={collected}",
        stderr=tmp_path / "node-exporter",
    )

    def scraped() -> str:
        with contextlib.suppress(OSError):
            return str(lab.router.call(_metrics))
        return ""

    text = wait_until(scraped, "node_exporter")
    assert 'ctrecorder_held_bytes{recording="ctrecorder"} 1' in text
    assert 'ctrecorder_held_bytes{recording="customer"} 1' in text
    assert 'ctrecorder_holds{folder="/log"} 2' in text
    assert "node_textfile_scrape_error 0" in text
    assert "inconsistent" not in (tmp_path / "node-exporter").read_text()


def enabled_units() -> set[str]:
    """The units that are there, and what enables them."""
    places = ("/etc/systemd/system", "/usr/lib/systemd/system", "/run/systemd/system", "/etc/rc2.d")
    return {str(path) for place in places for path in Path(place).rglob("*")}


def test_prometheus_is_not_installed_for_the_tests() -> None:
    """Debian's package of node_exporter enables and starts a unit; unpacked, it does not."""
    before = enabled_units()
    assert (unpacked() / "usr/bin/promtool").exists()
    assert enabled_units() == before
    assert not any("prometheus" in name for name in before)
