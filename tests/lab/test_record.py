"""What ctrecord has recorded is what happened: against conntrack -E beside it, and against the
traffic that was made.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.support.listeners import (
    ConntrackE,
    Recorder,
    ctlist,
    difference,
    identity,
    identity_of_line,
    listed,
)
from tests.support.router import (
    INSIDE,
    INSIDE6,
    INSIDE6_2,
    INSIDE6_SERVER,
    INSIDE_2,
    INSIDE_SERVER,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    SERVER6_2,
    SERVER_2,
    Lab,
)

BOTH = pytest.mark.parametrize(
    ("inside", "server", "public", "behind"),
    [(INSIDE, SERVER, PUBLIC, INSIDE_SERVER), (INSIDE6, SERVER6, PUBLIC6, INSIDE6_SERVER)],
    ids=["IPv4", "IPv6"],
)


def all_kinds(lab: Lab, rounds: int) -> int:
    """Connections of every kind, also two insiders with one source port to one server and to two.

    How many there were.
    """
    for _ in range(rounds):
        for inside, second, server, other, public in (
            (INSIDE, INSIDE_2, SERVER, SERVER_2, PUBLIC),
            (INSIDE6, INSIDE6_2, SERVER6, SERVER6_2, PUBLIC6),
        ):
            port = lab.tcp(inside, (server, 25))
            lab.tcp(second, (server, 25), sport=port)
            lab.tcp(second, (other, 25), sport=port)
            lab.udp(inside, (server, 53))
            lab.udp(inside, (server, 54), replied=False)
            lab.tcp(server, (public, 8080))
            lab.udp(server, (public, 5353))
            lab.ping(inside, server)
    return rounds * 2 * 8


def test_the_same_events_as_conntrack(lab: Lab, tmp_path: Path) -> None:
    """None more, none less, the same tuples and ids; and in --format conntrack the same lines."""
    recorder, peer = Recorder(lab, tmp_path / "log"), ConntrackE(lab, tmp_path)
    connections = all_kinds(lab, 10)
    lab.flush()
    recorder.flush()
    theirs = peer.lines()
    recorder.stop()

    seen = Counter(map(identity_of_line, theirs))
    rows = listed(tmp_path / "log")
    ours = Counter(map(identity, rows))
    assert ours == seen, difference(ours, seen)
    assert Counter(row["event"] for row in rows) == {"NEW": connections, "DESTROY": connections}

    lines = Counter(
        re.sub(r"^\[[\d.]+\]", "", line)
        for line in ctlist("--format", "conntrack", tmp_path / "log").stdout.splitlines()
    )
    without = Counter(map(as_recorded, theirs))
    assert lines == without, difference(lines, without)


def as_recorded(line: str) -> str:
    """A line of conntrack -E without what is not recorded or not shown: the moment of printing, the
    timeout, the id, the process.
    """
    line = re.sub(r"^\[[\d.]+\]", "", line)
    line = re.sub(r" id=\d+( \[USERSPACE\].*)?$", "", line)
    return re.sub(r"^(\t *\[\w+\] \w+ +\d+) \d+(?= )", r"\1", line)


def test_event_times_are_those_of_conntrack(lab: Lab, tmp_path: Path) -> None:
    """Both date an event by the kernel, or at receipt: within the second that a batch may take, and
    in order.
    """
    recorder, peer = Recorder(lab, tmp_path / "log"), ConntrackE(lab, tmp_path)
    for _ in range(5):
        lab.udp(INSIDE, (SERVER, 53))
    lab.flush()
    recorder.flush()
    theirs = {identity_of_line(line): float(line[1:].split("]")[0]) for line in peer.lines()}
    recorder.stop()
    lines = ctlist("--format", "conntrack", tmp_path / "log").stdout.splitlines()
    ours = [float(line[1:].split("]")[0]) for line in lines]
    assert ours == sorted(ours)
    assert len(ours) == len(theirs) == 10
    assert all(
        abs(mine - other) < 1 for mine, other in zip(ours, sorted(theirs.values()), strict=True)
    )


@BOTH
def test_snat(lab: Lab, tmp_path: Path, inside: str, server: str, public: str, behind: str) -> None:
    """A connection from inside: the reply tuple names the public address, with the counters and
    times of the kernel.
    """
    recorder = Recorder(lab, tmp_path / "log")
    port = lab.tcp(inside, (server, 25), payload=b"x" * 1000)
    lab.flush()
    recorder.flush()
    recorder.stop()
    new, destroy = listed(tmp_path / "log")
    for row in (new, destroy):
        assert (
            row["protocol"],
            row["orig_src"],
            row["orig_sport"],
            row["orig_dst"],
            row["orig_dport"],
        ) == ("tcp", inside, port, server, 25)
        assert (row["reply_src"], row["reply_sport"], row["reply_dst"], row["reply_dport"]) == (
            server,
            25,
            public,
            port,
        )
    assert (new["event"], destroy["event"]) == ("NEW", "DESTROY")
    assert new["id"] == destroy["id"]
    assert "orig_packets" not in new
    assert destroy["orig_bytes"] > 1000
    assert destroy["reply_bytes"] > 1000
    assert destroy["start"] <= destroy["stop"]
    assert "SEEN_REPLY" in destroy["status"]
    assert "SEEN_REPLY" not in new["status"]


@BOTH
def test_dnat(lab: Lab, tmp_path: Path, inside: str, server: str, public: str, behind: str) -> None:
    """A connection from outside to a forwarded port: the reply tuple names the server behind and
    its own port.
    """
    recorder = Recorder(lab, tmp_path / "log")
    port = lab.udp(server, (public, 5353))
    recorder.flush()
    recorder.stop()
    (row,) = listed(tmp_path / "log")
    assert (
        row["protocol"],
        row["orig_src"],
        row["orig_sport"],
        row["orig_dst"],
        row["orig_dport"],
    ) == ("udp", server, port, public, 5353)
    assert (row["reply_src"], row["reply_sport"], row["reply_dst"], row["reply_dport"]) == (
        behind,
        53,
        server,
        port,
    )


@pytest.mark.parametrize(
    ("inside", "server", "public", "proto", "request_type", "reply_type"),
    [(INSIDE, SERVER, PUBLIC, "icmp", 8, 0), (INSIDE6, SERVER6, PUBLIC6, "icmpv6", 128, 129)],
    ids=["ICMP", "ICMPv6"],
)
def test_icmp(
    lab: Lab,
    tmp_path: Path,
    inside: str,
    server: str,
    public: str,
    proto: str,
    request_type: int,
    reply_type: int,
) -> None:
    """An echo: type, code and id, both ways, in the columns and in the text."""
    recorder = Recorder(lab, tmp_path / "log")
    lab.ping(inside, server, identifier=4711)
    recorder.flush()
    recorder.stop()
    (row,) = listed(tmp_path / "log")
    assert (row["protocol"], row["orig_src"], row["reply_dst"]) == (proto, inside, public)
    assert [row[f"orig_icmp_{part}"] for part in ("type", "code", "id")] == [request_type, 0, 4711]
    assert [row[f"reply_icmp_{part}"] for part in ("type", "code", "id")] == [reply_type, 0, 4711]
    line = ctlist(tmp_path / "log").stdout
    assert f"type={request_type}" in line
    assert "id=4711" in line


def test_every_protocol(lab: Lab, tmp_path: Path) -> None:
    """What has no tracker of its own, and no ports, is recorded too: packets of GRE, and of a
    protocol for experiments (RFC 3692).
    """
    recorder, peer = Recorder(lab, tmp_path / "log"), ConntrackE(lab, tmp_path)
    for protocol in (47, 253):
        raw_socket = partial(socket.socket, socket.AF_INET, socket.SOCK_RAW, protocol)
        with lab.inside.call(raw_socket) as raw:
            raw.bind((INSIDE, 0))
            raw.sendto(bytes(8), (SERVER, 0))
    lab.flush()
    recorder.flush()
    theirs = peer.lines()
    recorder.stop()
    found = sorted(re.findall(r"\] \w+ +(\d+) ", "\n".join(theirs)), key=int)
    assert found == ["47", "47", "253", "253"]
    lines = Counter(
        re.sub(r"^\[[\d.]+\]", "", line)
        for line in ctlist("--format", "conntrack", tmp_path / "log").stdout.splitlines()
    )
    without = Counter(map(as_recorded, theirs))
    assert lines == without, difference(lines, without)


@pytest.mark.parametrize(
    ("option", "wanted"), [("tcp", {"tcp"}), ("udp,icmp", {"udp", "icmp"}), ("icmpv6", {"icmpv6"})]
)
def test_protocol_filter(lab: Lab, tmp_path: Path, option: str, wanted: set[str]) -> None:
    """-p takes several, of both families, for events and for the table at the start."""
    all_kinds(lab, 1)
    recorder = Recorder(lab, tmp_path / "log", "-p", option)
    recorder.wait("table recorded")
    all_kinds(lab, 1)
    lab.flush()
    recorder.flush()
    recorder.stop()
    counts = Counter((row["protocol"], row["event"]) for row in listed(tmp_path / "log"))
    assert {proto for proto, _ in counts} == wanted
    assert all(counts[proto, "NEW"] and counts[proto, "DESTROY"] for proto in wanted)
    existing = {row["protocol"] for row in listed("--event", "existing", tmp_path / "log")}
    assert existing == wanted


def test_existing_connections(lab: Lab, tmp_path: Path) -> None:
    """The table at the start, and at each new segment: no events, but asked for they are listed,
    with their start by the kernel.
    """
    port = lab.tcp(INSIDE, (SERVER, 25))
    recorder = Recorder(lab, tmp_path / "log")
    recorder.wait("table recorded")
    wait_for_next_second()
    recorder.rotate()
    recorder.wait("table recorded", 2)
    recorder.flush()
    recorder.stop()
    assert listed(tmp_path / "log") == []
    for segment in recorder.segments:
        (row,) = listed("--event", "existing", segment)
        assert (row["event"], row["orig_src"], row["orig_sport"], row["reply_dst"]) == (
            "EXISTING",
            INSIDE,
            port,
            PUBLIC,
        )
        assert "start" in row


def test_connections(lab: Lab, tmp_path: Path) -> None:
    """-s, one line a connection: one that was there before, one seen whole, one still open."""
    before = lab.tcp(INSIDE, (SERVER, 25))
    recorder = Recorder(lab, tmp_path / "log")
    recorder.wait("table recorded")
    whole = lab.tcp(INSIDE, (SERVER, 26))
    lab.flush()
    still = lab.udp(INSIDE, (SERVER, 53))
    recorder.flush()
    recorder.stop()
    rows = {row["orig_sport"]: row for row in listed("-s", tmp_path / "log")}
    assert rows.keys() == {before, whole, still}
    assert all("start" in row for row in rows.values())
    assert {port for port, row in rows.items() if "end" in row} == {before, whole}
    assert rows[whole]["start"] < rows[whole]["end"]
    assert len(ctlist("-s", tmp_path / "log").stdout.splitlines()) == 3


def wait_for_next_second() -> None:
    """A template to the second gives another name then."""
    import time

    time.sleep(1.05 - time.time() % 1)
