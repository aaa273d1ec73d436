"""Proofs of silent loss by a real kernel: none on a quiet day, and exactly what was lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

from ctrecorder.connections.unheard import QUEUED_NS
from tests.support.listeners import Recorder, listed
from tests.support.proofs import proofs_of
from tests.support.router import (
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


MUTE = """
table inet mute {
    chain prerouting {
        type filter hook prerouting priority -150
        udp dport 6000-6099 ct event set assured
    }
}
"""


def dns_pairs(lab: Lab, pairs: int) -> None:
    """As a resolver asks for A and AAAA: two datagrams of one socket at once, on two CPUs.

    The two race for the entry in the table, and one of them loses (NAT_CLASH).
    """
    for _ in range(pairs):
        with lab.inside.socket(socket.SOCK_DGRAM, INSIDE) as sock:
            barrier = threading.Barrier(2)

            def ask(sock: socket.socket = sock, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                with contextlib.suppress(ConnectionError):
                    sock.sendto(b"question", (SERVER, 53))

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def traffic(lab: Lab) -> None:
    """Flows of all kinds; some of them are still open at the end."""
    dns_pairs(lab, 40)
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


def test_a_quiet_day_proves_no_loss(lab: Lab, tmp_path: Path) -> None:
    """DNS pairs in parallel, zones, short timeouts, rotation, and a recorder that is restarted."""
    log = tmp_path / "log"
    lab.router.run("nft", "-f", "-", stdin=ZONES)
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
        recorder.stop()
        traffic(lab)
    proofs, connections = proofs_of(log)
    assert connections > 400
    assert proofs == []


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
    until = proofs[0].until
    assert proofs_of(log, until + QUEUED_NS)[0] == proofs
    assert proofs_of(log, until + QUEUED_NS - 1)[0] == []
