"""Proofs of silent loss by a real kernel: none on a quiet day, and exactly what was lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from ctrecorder.connections.unheard import QUEUED_NS
from ctrecorder.segment.reader import Segment
from ctrecorder.times import SECOND
from tests.support.listeners import Recorder, ctwho, listed
from tests.support.proofs import proofs_of, sampled_proofs_of
from tests.support.router import (
    CHECKOUT,
    INSIDE,
    INSIDE6,
    INSIDE6_2,
    INSIDE_2,
    PUBLIC,
    SERVER,
    SERVER6,
    Lab,
)

ZONES = """
table inet zones {
    chain prerouting {
        type filter hook prerouting priority raw;
        iifname lan udp dport 5000-5099 ct zone set 7
        iifname wan udp sport 5000-5099 ct zone set 7
    }
}
"""


# Two datagrams of one socket get two ports, so that one of them is a flow of its own.
RANDOM = (
    "insert rule inet nat postrouting oifname wan ip saddr 192.168.1.0/24 udp dport 53 "
    f"snat ip to {PUBLIC} random"
)
UNHEARD = "the kernel did not report connections"
MUTE = """
table inet mute {
    chain prerouting {
        type filter hook prerouting priority -150
        udp dport 6000-6099 ct event set assured
    }
}
"""


def dns_pairs(lab: Lab, pairs: int) -> None:
    """As a resolver asks for A and AAAA: two datagrams of one socket at once, from two CPUs.

    The two race for the entry in the table, and some lose (NAT_CLASH).
    """
    with contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(lab.inside.socket(socket.SOCK_DGRAM, INSIDE)) for _ in range(pairs)
        ]
        for sock in socks:
            sock.connect((SERVER, 53))
        begin = time.monotonic_ns() + 50_000_000

        def ask(cpu: int) -> None:
            os.sched_setaffinity(0, {cpu})
            for number, sock in enumerate(socks):
                while time.monotonic_ns() < begin + number * 100_000:
                    pass
                with contextlib.suppress(ConnectionError):
                    sock.send(b"question")

        context = multiprocessing.get_context("fork")
        cpus = sorted(os.sched_getaffinity(0))
        askers = [context.Process(target=ask, args=(cpu,)) for cpu in (cpus[0], cpus[-1])]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()


PORTS = itertools.count(20_000)


def fresh_port() -> int:
    """A port that no other flow of the test has."""
    return next(PORTS)


def traffic(lab: Lab) -> None:
    """Flows of all kinds; some of them are still open at the end."""
    dns_pairs(lab, 300)
    for port in range(5000, 5010):
        lab.udp(INSIDE, (SERVER, port))
        lab.udp(INSIDE6, (SERVER6, port))
        lab.tcp(INSIDE_2, (SERVER, port))
        lab.udp(SERVER, (PUBLIC, 5353))
    lab.tcp(INSIDE6_2, (SERVER6, 25))
    lab.ping(INSIDE, SERVER)
    # One tuple again and again: ids are used again too.
    for _ in range(10):
        lab.udp(INSIDE, (SERVER, 123), sport=123)
        lab.router.run("conntrack", "-D", "-p", "udp", "--dport", "123")
    # As conntrackd feeds a standby: entries that no packet made.
    for number in range(10):
        entry = f"-s {INSIDE} -d {SERVER} --sport {fresh_port()} --dport {7000 + number}"
        lab.router.run("conntrack", "-I", "-p", "udp", "-t", "60", *entry.split())


def test_a_quiet_day_proves_no_loss(lab: Lab, tmp_path: Path) -> None:
    """DNS pairs in parallel, zones, short timeouts, rotation, and a recorder that is restarted."""
    log = tmp_path / "log"
    lab.router.run("nft", "-f", "-", stdin=ZONES)
    lab.router.run("nft", RANDOM)
    lab.router.sysctl(nf_conntrack_udp_timeout=2)
    traffic(lab)
    for run in range(2):
        recorder = Recorder(lab, log)
        recorder.wait("table recorded")
        for count in range(2, 4):
            time.sleep(1.1)  # a start this near to a dump proves nothing
            traffic(lab)
            recorder.rotate()
            recorder.wait("table recorded", count)
        if run:
            lab.flush()
        time.sleep(QUEUED_NS / SECOND + 2)  # the recorder decides
        assert UNHEARD not in recorder.log
        recorder.stop()
        traffic(lab)
    proofs, connections = proofs_of(log)
    events = listed(log)
    known = {(row.get("orig_sport"), row["id"]) for row in events if row["event"] == "NEW"}
    ends = [row for row in events if row["event"] == "DESTROY"]
    clashes = sum((row.get("orig_sport"), row["id"]) not in known for row in ends)
    assert clashes > 20 or len(os.sched_getaffinity(0)) == 1, "no flow lost a clash"
    assert connections > 400
    assert proofs == []
    assert sampled_proofs_of(log) == []


def test_what_the_kernel_did_not_report_is_proved(lab: Lab, tmp_path: Path) -> None:
    """A rule keeps the events of some flows away: no setting shows it."""
    log = tmp_path / "log"
    recorder = Recorder(lab, log)
    recorder.wait("table recorded")
    time.sleep(1.1)
    lab.router.run("nft", "-f", "-", stdin=MUTE)
    for port in range(6000, 6007):
        lab.udp(INSIDE, (SERVER, port))
    for port in range(6090, 6093):
        lab.udp(INSIDE6, (SERVER6, port))
    lab.tcp(INSIDE, (SERVER, 25))
    recorder.rotate()
    recorder.wait("table recorded", 2)
    recorder.stop()
    proofs, _ = proofs_of(log)
    assert [(proof.family, proof.protocols, proof.at_least) for proof in proofs] == [
        (socket.AF_INET, (17,), 7),
        (socket.AF_INET6, (17,), 3),
    ]
    begins = [row for row in listed(log) if row["event"] == "NEW"]
    assert {row["protocol"] for row in begins} == {"tcp"}
    assert sampled_proofs_of(log) == proofs
    until = proofs[0].until
    assert proofs_of(log, until + QUEUED_NS)[0] == proofs
    assert proofs_of(log, until + QUEUED_NS - 1)[0] == []


def ask(*arguments: object) -> tuple[int, str]:
    """Exit code and output of ctlist."""
    command = [str(each) for each in (CHECKOUT / "bin/ctlist", *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def who(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of ctwho."""
    done = ctwho(*arguments, code=None)
    return done.returncode, json.loads(done.stdout)


def test_the_recorder_notices_by_itself(lab: Lab, tmp_path: Path) -> None:
    """Its GAP makes an answer about a hidden address not complete, also when it is squeezed.

    Of 1,500 flows, the sample has none once in 10 to the power of 10.
    """
    log = tmp_path / "log"
    recorder = Recorder(lab, log)
    recorder.wait("table recorded")
    time.sleep(3.1)  # the question is about a whole second, and one more on each side
    lab.router.run("nft", "-f", "-", stdin=MUTE)

    def flood() -> int:
        for number in range(1500):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((INSIDE, 30_000 + number))
                sock.sendto(b"question", (SERVER, 6000 + number % 100))
        return time.time_ns()

    hidden = lab.inside.call(flood)
    lab.tcp(INSIDE, (SERVER, 25), sport=20_000)
    recorder.rotate()
    recorder.wait("table recorded", 2)
    recorder.wait(UNHEARD)
    recorder.flush()
    first, second = recorder.segments
    with Segment(str(first)) as one, Segment(str(second)) as two:
        assert one.gaps == []
        (gap,) = two.gaps
    assert (gap.reason, gap.facts["at_least"]) == ("unheard", True)
    assert gap.lost is not None
    assert 0 < gap.lost < 150
    assert gap.begin < hidden < gap.end
    recorder.stop()
    assert recorder.log.count(UNHEARD) == 1
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(hidden // SECOND))
    asked = (f"{PUBLIC}:30007", when, "--utc", "--format", "json", "-d", log)
    code, found = who(*asked)
    assert code == 3, found
    (hole,) = found["holes"]
    assert (hole["reason"], hole["at_least"]) == ("unheard", True)
    subprocess.run([CHECKOUT / "bin/ctsqueeze", log], check=True, capture_output=True, timeout=60)
    assert who(*asked)[1]["holes"] == [hole]
    code, text = ask("-s", "--strict", log)
    assert code == 3, text
    with Segment(str(second)) as two:
        assert two.header.is_squeezed
        assert two.gaps == [gap]
