"""Faults, the metrics that a recorder really writes meanwhile, and the alerts that Prometheus makes
of them: raised within two scrapes, and none on a quiet day.
"""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ctrecorder.metrics.text import Sample
from ctrecorder.metrics.write import write
from tests.support.disks import fill, tmpfs
from tests.support.faulttable import Table
from tests.support.prometheus import promtool, unpacked
from tests.support.router import INSIDE_2, Lab, wait_until
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

    def happen(self, fault: Fault) -> None:
        """Make the fault; from `known` on, the recorder can know it."""
        fault.make(self)
        self.known = time.time() + KNOWN_SECONDS

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
    flood(router, 120_000)


def events_off(router: Router) -> None:
    router.lab.router.sysctl(nf_conntrack_events=0)


def tracking_off(router: Router) -> None:
    router.lab.router.run("nft", "flush", "ruleset")


def notrack(router: Router) -> None:
    rules = "add table ip t; add chain ip t c { type filter hook prerouting priority -300; }; "
    router.lab.router.run("nft", rules + "add rule ip t c tcp dport 80 notrack")


FAULTS = (
    Fault("a quiet day", nothing, set()),
    Fault("overrun", overrun, {"CtrecorderEventsLost", "CtrecorderGap"}, {"buffer": 64}),
    Fault("killed", killed, set()),
    Fault("killed and started again", restarted, {"CtrecorderGap"}),
    Fault("disk full", disk_full, {"CtrecorderWriteFailing"}),
    Fault(
        "disk full in a flood",
        disk_full_in_a_flood,
        {
            "CtrecorderWriteFailing",
            "CtrecorderMemoryHalf",
            "CtrecorderEventsLost",
            "CtrecorderGap",
        },
        {"memory": 1},
    ),
    Fault("events off", events_off, {"CtrecorderHidden"}),
    Fault("tracking off", tracking_off, {"CtrecorderHidden"}),
    Fault("a rule notrack", notrack, {"CtrecorderHidden"}),
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
    for maker in makers:
        maker.join()


def sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.time(), 0))


def quiet_day(series: Series) -> Series:
    """A day of what was scraped in a minute: times and counters go on as they did.

    The clock of the machine of the tests may not be synchronised: a router's is.
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
    clock = next(name for name in last if name.startswith("ctrecorder_clock_synchronised"))
    return Series(series.begin, [{**one, clock: 1} for one in scrapes])


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
        # A recorder that is dead knows nothing: the watermark is 90 s old, and two scrapes.
        RuleTest("dead", dead.lasting(300), {FAULT_SECONDS + 120: {"CtrecorderWatermarkOld"}}),
        RuleTest("booted, not started", quiet.off(60), {SCRAPES * EVERY: {"CtrecorderAbsent"}}),
    ]
    check(tests, tmp_path)
    for fault in FAULTS:
        table.lines.append(f"{fault.name}: {', '.join(sorted(fault.alerts)) or 'no alert'}")


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
        done = lab.router.run("curl", "-s", "http://127.0.0.1:9100/metrics", check=False)
        return str(done.stdout)

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
    shutil.rmtree(unpacked())
    unpacked.cache_clear()
    assert (unpacked() / "usr/bin/promtool").exists()
    assert enabled_units() == before
    assert not any("prometheus" in name for name in before)
