"""omit = remote in the recorder: what is inside, when that changes, and what the header says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ctrecorder.columns import Table, bits
from ctrecorder.ctlog.frame import COVERAGE, OMIT, Gap, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.ends import NETWORKS, Inside, Kind, ends_of
from ctrecorder.privacy.header import mark_without_networks, without_networks
from ctrecorder.privacy.protection import without_remote
from ctrecorder.record import omission
from ctrecorder.record.omission import Omission
from ctrecorder.record.options import RecorderOptions
from ctrecorder.service import privileges
from ctrecorder.times import SECOND
from ctrecorder.watch import here
from tests.support.router import CHECKOUT

OPTIONS = RecorderOptions(
    template="/x/%s.ctlog",
    rotate_minutes=60,
    protocols=(),
    nat_only=False,
    updates=False,
    resync=True,
    buffer_bytes=1 << 20,
    block_rows=16384,
    memory_bytes=1 << 20,
    sync_seconds=1,
    mode=0o640,
    omit="remote",
)
ROUTER, REMOTE, HOST = 0xC0000201, 0xCB007109, 0x0A000001
NAMES = ("orig_src", "orig_sport", "orig_dst", "orig_dport")
REPLY = ("reply_src", "reply_sport", "reply_dst", "reply_dport")
KERNEL = bits((*NAMES, *REPLY, "l4proto", "id"))


class Machine:
    """The addresses and networks of this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own = ["192.0.2.1"]
        self.networks = ["198.51.100.0/25"]
        monkeypatch.setattr(here, "own", lambda: list(self.own))
        monkeypatch.setattr(omission, "own_networks", lambda certain: list(self.networks))
        monkeypatch.setattr(omission, "forbid_core_dumps", lambda: None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def rows(*tuples: tuple[int, ...]) -> Table:
    """Rows of TCP with original and reply tuple."""
    columns = {
        name: np.array(values, np.uint16 if "port" in name else np.uint32)
        for name, values in zip((*NAMES, *REPLY), zip(*tuples, strict=True), strict=True)
    }
    count = len(tuples)
    columns["l4proto"] = np.full(count, 6, np.uint8)
    columns["id"] = np.arange(count, dtype=np.uint32)
    columns["present"] = np.full(count, KERNEL, np.uint32)
    return Table(2, count, columns)


OUT = (HOST, 1234, REMOTE, 443, REMOTE, 443, ROUTER, 1234)
TO_ROUTER = (REMOTE, 5555, ROUTER, 22, ROUTER, 22, REMOTE, 5555)
FROM_ROUTER = (ROUTER, 5555, REMOTE, 53, REMOTE, 53, ROUTER, 5555)


def test_the_router_itself_is_inside(machine: Machine) -> None:
    """Who calls it is left out, and what it calls."""
    found = Omission(OPTIONS).apply(rows(OUT, TO_ROUTER, FROM_ROUTER))
    assert REMOTE not in {int(value) for name in (*NAMES, *REPLY) for value in found[name]}
    assert found["orig_src"].tolist() == [HOST, 0, ROUTER]
    assert found["reply_dst"].tolist() == [ROUTER, 0, ROUTER]
    assert found["orig_dst"].tolist() == [0, ROUTER, 0]
    assert found["id"].tolist() == [0, 1, 2]


def test_nothing_is_left_out_unless_it_is_set(machine: Machine) -> None:
    table, header = rows(OUT), Header(requires=(COVERAGE,))
    off = Omission(replace(OPTIONS, omit=None))
    assert (off.active, off.apply(table), off.header(header)) == (False, table, header)
    assert not off.look(0)
    off.change(OPTIONS)
    assert off.active


def test_the_header_says_what_is_left_out_and_what_was_inside(machine: Machine) -> None:
    rule = {"family": 2, "networks": ["203.0.113.0/24"]}
    found = Omission(OPTIONS).header(
        Header(requires=(COVERAGE,), state={"events": 1, "notrack": [rule]})
    )
    assert (found.omit, found.requires) == ("remote", (COVERAGE, OMIT))
    assert found.inside == (*NETWORKS, "198.51.100.0/25", "192.0.2.1/32")
    assert found.state == {"events": 1, "notrack": [{"family": 2}]}
    set_one = Omission(replace(OPTIONS, inside=("10.0.0.0/8",)))
    assert set_one.header(Header()).inside == ("10.0.0.0/8", "192.0.2.1/32")


def test_another_address_of_the_router_is_seen(machine: Machine) -> None:
    found = Omission(OPTIONS)
    assert not found.look(SECOND)
    machine.own.append("198.51.100.200")
    machine.networks.append("198.51.100.128/25")
    assert not found.look(2 * SECOND), "it looks each 10 s"
    assert found.look(12 * SECOND)
    inside = found.header(Header()).inside or ()
    assert {"198.51.100.128/25", "198.51.100.200/32"} <= set(inside)
    machine.own.reverse()
    assert not found.look(30 * SECOND), "the order of addresses means nothing"
    machine.own.clear()
    assert not found.look(50 * SECOND), "the kernel did not say them"
    assert found.apply(rows(TO_ROUTER))["orig_src"].tolist() == [0]


def test_a_call_to_a_former_address_ends_without_its_caller(machine: Machine) -> None:
    """Its end has the ends of its beginning, too: else the two would not pair."""
    found = Omission(OPTIONS)
    begun = found.apply(rows(TO_ROUTER))
    for number in range(40):
        machine.own = [f"192.0.2.{100 + number}"]
        assert found.look((number + 1) * 12 * SECOND)
        if number == 9:
            ended = found.apply(rows(TO_ROUTER))
            for name in (*NAMES, *REPLY, "present"):
                assert ended[name].tolist() == begun[name].tolist()
    inside = found.header(Header()).inside or ()
    former = [one for one in inside if one.startswith("192.0.2.")]
    assert former == ["192.0.2.139/32", *(f"192.0.2.{number}/32" for number in range(138, 122, -1))]


def test_what_was_left_out_stays_so_whatever_is_inside_now() -> None:
    """A reader, or ctsqueeze, that has other networks inside takes the recorder's word."""
    there = Inside(["192.0.2.1/32", "10.0.0.0/8"])
    once = without_remote(rows(OUT, TO_ROUTER), there)
    for inside in (Inside(), Inside(["203.0.113.0/24"]), Inside(["0.0.0.0/0"])):
        again = without_remote(once, inside)
        for name in (*NAMES, *REPLY, "present"):
            assert again[name].tolist() == once[name].tolist()
        found = ends_of(once, inside)
        assert int(found.kind[1]) == Kind.IN
        assert not found.has_remote.any()
        assert found.omitted.tolist() == [True, True]
        assert int(found.inside[1]) == ROUTER


def test_who_is_reached_by_nat_is_kept_though_not_inside(machine: Machine) -> None:
    """Else "who had the router's port 8080?" is answered "nobody", for the router knows its own."""
    other, pool = 0xC63364C9, 0xC00002C8  # a server and a public address that are not inside
    forwarded = (REMOTE, 999, ROUTER, 8080, other, 80, REMOTE, 999)
    of_pool = (REMOTE, 999, pool, 8080, other, 80, REMOTE, 999)
    relayed = (REMOTE, 999, ROUTER, 8080, other, 80, ROUTER, 40000)
    through = (REMOTE, 999, other, 80, other, 80, pool, 40000)
    found = Omission(OPTIONS).apply(rows(forwarded, of_pool, relayed, through))
    assert found["orig_src"].tolist() == [0, 0, REMOTE, REMOTE]
    assert found["reply_dst"].tolist() == [0, 0, ROUTER, pool]
    assert found["orig_dst"].tolist() == [ROUTER, pool, ROUTER, 0]
    assert found["orig_dport"].tolist() == [8080, 8080, 8080, 0]
    assert found["reply_src"].tolist() == [other, other, other, 0]


def test_notes_have_no_networks() -> None:
    gap = Gap(1, 2, "notrack", 3, "to 203.0.113.0/24", {"networks": ["203.0.113.0/24"]})
    assert without_networks(gap) == Gap(1, 2, "notrack", 3, "", {})
    mark = Mark.at(1, "state", {"notrack": [{"networks": ["203.0.113.0/24"], "family": 2}]})
    assert mark_without_networks(mark) == Mark.at(1, "state", {"notrack": [{"family": 2}]})
    assert mark_without_networks(Mark.at(1, "heartbeat")) == Mark.at(1, "heartbeat")


def test_no_core_is_dumped() -> None:
    code = (
        "import ctypes, resource; from ctrecorder.service.privileges import forbid_core_dumps; "
        "forbid_core_dumps(); "
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    said = subprocess.check_output([sys.executable, "-c", code], cwd=CHECKOUT, text=True)
    assert said == "(0, 0) 0\n"


def test_the_system_calls_of_the_units_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """They forbid to set limits (@resources), which Python takes for a limit that is too high."""

    def refused(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr("resource.setrlimit", refused)
    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(prctl=lambda *_: 0))
    privileges.forbid_core_dumps()
