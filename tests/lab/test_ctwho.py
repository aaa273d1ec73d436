"""ctwho on connections that a real kernel translated, in each kind of NAT."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.listeners import Recorder, ctwho
from tests.support.router import (
    INSIDE,
    INSIDE6,
    INSIDE_2,
    INSIDE_SERVER,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    Lab,
)

CALLED = "203.0.113.53"  # what the inside host calls; DNAT takes it to SERVER, port 5353
# Hairpin NAT; DNAT and SNAT at once; a mark for the second host.
RULES = f"""
table ip more {{
    chain prerouting {{
        type nat hook prerouting priority dstnat - 1;
        iifname lan ip daddr {PUBLIC} tcp dport 8080 dnat to {INSIDE_SERVER}:80
        iifname lan ip daddr {CALLED} udp dport 53 dnat to {SERVER}:5353
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat - 1;
        oifname lan ip saddr {INSIDE} ip daddr {INSIDE_SERVER} snat to {PUBLIC}
    }}
    chain marks {{
        type filter hook prerouting priority mangle;
        ip saddr {INSIDE_2} ct mark set 0x20
    }}
}}
"""
# Seconds of recording before and after the question, more than its tolerance.
CLEAR = 0.5

Json = dict[str, Any]


class Asked:
    """A log of connections that were all open at one moment, and questions about it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        lab.router.run("nft", "-f", "-", stdin=RULES)
        recorder = Recorder(lab, folder)
        recorder.wait("table recorded")
        time.sleep(CLEAR)
        self.folder = folder
        self.hairpin = lab.tcp(INSIDE, (PUBLIC, 8080), sport=31_001)
        self.both = _called(lab, 31_002)
        lab.ping(INSIDE, SERVER, identifier=4711)
        lab.ping(INSIDE_2, SERVER, identifier=4711)
        listed = lab.router.run("conntrack", "-L", "-p", "icmp").stdout
        self.ids = {
            source: int(number)
            for source, number in re.findall(r"src=(192\S+) .* src=\S+ .*id=(\d+)", listed)
        }
        self.marked = lab.udp(INSIDE_2, (SERVER, 53))
        self.nat66 = lab.udp(INSIDE6, (SERVER6, 53))
        lab.udp(SERVER6, (PUBLIC6, 5353))
        lab.inside.call(_esp)
        with (
            lab.outside.socket(socket.SOCK_DGRAM, SERVER, 123) as server,
            lab.router.socket(socket.SOCK_DGRAM, PUBLIC, 31_003) as own,
        ):
            own.sendto(b"x", (SERVER, 123))
            server.recvfrom(100)
        recorder.flush()
        self.at = time.time() + CLEAR
        time.sleep(2 * CLEAR)
        recorder.stop()

    def __call__(self, address: str, *options: str, code: int = 0) -> Json:
        words = (address, f"@{self.at:.3f}", "--tolerance", "0.2", "--format", "json")
        done = ctwho(*words, "--connections", *options, "-d", self.folder, code=code)
        found: Json = json.loads(done.stdout)
        assert found["complete"] is True, found
        return found


def _called(lab: Lab, port: int) -> int:
    """A datagram to CALLED, and the answer; the public port."""
    with (
        lab.outside.socket(socket.SOCK_DGRAM, SERVER, 5353) as server,
        lab.inside.socket(socket.SOCK_DGRAM, INSIDE, port) as caller,
    ):
        caller.sendto(b"x", (CALLED, 53))
        data, peer = server.recvfrom(100)
        server.sendto(data, peer)
        caller.recvfrom(100)
        assert peer[0] == PUBLIC
        return int(peer[1])


def _esp() -> None:
    """The kernel has no tracker for IPsec's packets: a flow without ports."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP) as sock:
        sock.bind((INSIDE, 0))
        sock.sendto(b"\0\0\0\1\0\0\0\1", (SERVER, 0))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with Lab() as lab:
        yield Asked(lab, tmp_path_factory.mktemp("ctwho") / "log")


def hosts(found: Json) -> list[str]:
    return [person["address"] for person in found["persons"]]


def flow(found: Json) -> Json:
    ((one,),) = [person["flows"] for person in found["persons"]]
    result: Json = one
    return result


def test_hairpin(asked: Asked) -> None:
    """One connection, and two inside hosts that have the public address."""
    assert hosts(asked(f"{PUBLIC}:{asked.hairpin}", "--protocol", "tcp")) == [INSIDE]
    called = asked(f"{PUBLIC}:8080")
    assert (hosts(called), flow(called)["direction"]) == ([INSIDE_SERVER], "in")
    assert hosts(asked(PUBLIC, "--protocol", "tcp")) == [INSIDE, INSIDE_SERVER]


def test_both_at_once(asked: Asked) -> None:
    """The server knows its own address, the inside host another one: each finds it."""
    for remote in (f"{CALLED}:53", f"{SERVER}:5353", SERVER):
        found = asked(f"{PUBLIC}:{asked.both}", "--to", remote)
        assert hosts(found) == [INSIDE]
        assert flow(found)["remote"] == {"address": CALLED, "port": 53}
        assert flow(found)["remote_behind"] == {"address": SERVER, "port": 5353}


def test_an_id_of_icmp(asked: Asked) -> None:
    """Two hosts used one id for one server: the kernel gave the second another one."""
    assert asked.ids[INSIDE] == 4711
    assert asked.ids[INSIDE_2] != 4711
    for host, number in asked.ids.items():
        found = asked(f"{PUBLIC}:{number}", "--protocol", "icmp", "--to", SERVER)
        assert hosts(found) == [host]
        assert flow(found)["inside"] == {"address": host, "id": 4711}
        assert flow(found)["translated"] is True
    assert hosts(asked(f"{PUBLIC}:4711", code=1)) == []


def test_a_mark_is_another_person(asked: Asked) -> None:
    (person,) = asked(f"{PUBLIC}:{asked.marked}", "--protocol", "udp")["persons"]
    assert (person["address"], person["mark"]) == (INSIDE_2, 0x20)


def test_nat66(asked: Asked) -> None:
    assert hosts(asked(f"[{PUBLIC6}]:{asked.nat66}", "--to", f"[{SERVER6}]:53")) == [INSIDE6]
    called = asked(f"[{PUBLIC6}]:5353")
    assert flow(called)["direction"] == "in"
    assert flow(called)["translated"] is True


def test_a_protocol_without_ports(asked: Asked) -> None:
    found = asked(PUBLIC, "--protocol", "50")
    assert hosts(found) == [INSIDE]
    assert flow(found)["inside"] == {"address": INSIDE}
    assert flow(found)["translated"] is True


def test_the_router_itself_is_not_translated(asked: Asked) -> None:
    found = asked(f"{PUBLIC}:31003")
    assert hosts(found) == [PUBLIC]
    assert found["persons"][0]["translated"] is False
