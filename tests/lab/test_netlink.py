"""netlink, hooks and bpf against the kernel itself: sockets inside the router of a lab."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.columns import Event, Table, concat
from ctrecorder.kernel import bpf, sockets
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.sockets import DumpSocket, EventSocket, Messages, SlotBuffer
from tests.support.asleep import asleep
from tests.support.router import CHECKOUT, INSIDE, INSIDE6, PUBLIC, SERVER, SERVER6, Lab, wait_until

MIB = 1 << 20


def decoded(messages: Messages) -> dict[int, Table]:
    """What was received, by family."""
    decoder = Decoder()
    tables = decoder.decode(*messages)
    assert (decoder.rejected, decoder.ignored) == (0, 0)
    return {table.family: table for table in tables}


def received(events: EventSocket, rows: int = 4096) -> dict[int, Table]:
    """All that is queued on the socket."""
    buffer = SlotBuffer(rows)
    while events.receive(buffer):
        pass
    return decoded(events.accept(buffer))


def inject(lab: Lab, count: int, first: int = 1, *options: str) -> None:
    """Puts UDP entries with source ports from `first` on into the router's table."""
    lines = "\n".join(
        f"-I -s 10.0.0.1 -d 10.0.0.2 -p udp --sport {port} --dport 53 --timeout 600"
        for port in range(first, first + count)
    )
    lab.router.run("conntrack", "--load-file", "-", stdin=lines + "\n")


def netlink_address(fd: int) -> int:
    """nl_pid of a netlink socket."""
    with socket.socket(fileno=socket.dup(fd)) as same:
        return int(same.getsockname()[0])


@pytest.fixture
def events(lab: Lab) -> Iterator[EventSocket]:
    """NEW and DESTROY of the router."""
    opened = lab.router.call(lambda: EventSocket(8 * MIB))
    yield opened
    opened.close()


def test_a_connection_is_received_from_start_to_end(lab: Lab, events: EventSocket) -> None:
    sport = lab.tcp(INSIDE, (SERVER, 25))
    sport6 = lab.udp(INSIDE6, (SERVER6, 53))
    lab.flush()
    tables = received(events)
    table = tables[uapi.AF_INET]
    assert table["event"].tolist() == [Event.NEW, Event.DESTROY]
    assert table["orig_src"].tolist() == [int(ipaddress.ip_address(INSIDE))] * 2
    assert table["reply_dst"].tolist() == [int(ipaddress.ip_address(PUBLIC))] * 2
    assert table["orig_sport"].tolist() == [sport] * 2
    assert len(set(table["id"].tolist())) == 1
    table = tables[uapi.AF_INET6]
    assert table["orig_src"].tobytes() == ipaddress.ip_address(INSIDE6).packed * 2
    assert table["orig_sport"].tolist() == [sport6] * 2


def test_updates_come_if_asked_for(lab: Lab, events: EventSocket) -> None:
    updates = lab.router.call(lambda: EventSocket(8 * MIB, updates=True))
    lab.tcp(INSIDE, (SERVER, 25))
    assert set(received(updates)[uapi.AF_INET]["event"].tolist()) == {Event.NEW, Event.UPDATE}
    assert set(received(events)[uapi.AF_INET]["event"].tolist()) == {Event.NEW}
    updates.close()


FILTERS = [
    ((17,), False, {17}),
    ((1, 6), False, {1, 6}),
    ((), True, {1, 17}),
    ((6, 17), True, {17}),
]


@pytest.mark.parametrize(("protocols", "nat_only", "left"), FILTERS)
def test_the_kernel_drops_what_is_not_wanted(
    lab: Lab, protocols: tuple[int, ...], nat_only: bool, left: set[int]
) -> None:
    program = bpf.event_filter(protocols, nat_only)
    events = lab.router.call(lambda: EventSocket(8 * MIB, program=program))
    lab.udp(INSIDE, (SERVER, 53))
    lab.ping(INSIDE, SERVER)
    tcp = "-I -s 10.0.0.1 -d 10.0.0.2 -p tcp --sport 1 --dport 2 --state ESTABLISHED --timeout 600"
    lab.router.run("conntrack", *tcp.split(" "))
    lab.flush()
    table = received(events)[uapi.AF_INET]
    assert set(table["l4proto"].tolist()) == left
    for kind in (Event.NEW, Event.DESTROY):
        assert np.count_nonzero(table["event"] == kind) == len(left)
    assert events.drops() == 0
    events.close()


def test_what_a_process_sends_is_refused(lab: Lab, events: EventSocket) -> None:
    inject(lab, 3)
    buffer = SlotBuffer(64)
    assert events.receive(buffer) == 3
    forged = buffer.slots[0, : buffer.sizes[0]].tobytes()
    sender = lab.router.call(
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uapi.NETLINK_NETFILTER)
    )
    port = netlink_address(events.fileno())
    for number in range(4):
        sender.sendto(forged, (port, 0))
        inject(lab, 1, first=100 + number)
    assert events.receive(buffer) == 8
    taken = events.accept(buffer)
    assert (len(taken.lengths), len(taken.received), buffer.used) == (7, 7, 0)
    assert (events.foreign, events.truncated) == (4, 0)
    assert decoded(taken)[uapi.AF_INET]["orig_sport"].tolist() == [1, 2, 3, 100, 101, 102, 103]
    sender.close()


def test_what_does_not_fit_a_slot_is_refused_and_counted(
    lab: Lab, events: EventSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "STRIDE", 128)
    buffer = SlotBuffer(64)
    inject(lab, 5)
    assert events.receive(buffer) == 5
    assert (len(events.accept(buffer).slots), events.truncated, events.foreign) == (0, 5, 0)


def test_a_buffer_is_filled_by_several_calls_and_never_beyond(
    lab: Lab, events: EventSocket
) -> None:
    inject(lab, 30)
    buffer = SlotBuffer(20)
    assert [events.receive(buffer), buffer.used, events.receive(buffer)] == [20, 20, 0]
    ports = decoded(events.accept(buffer))[uapi.AF_INET]["orig_sport"].tolist()
    inject(lab, 5, first=31)
    assert [events.receive(buffer), buffer.used] == [15, 15]
    assert ports + decoded(events.accept(buffer))[uapi.AF_INET]["orig_sport"].tolist() == list(
        range(1, 36)
    )


def test_drops_are_counted_exactly(lab: Lab) -> None:
    small = lab.router.call(lambda: EventSocket(20_000))
    assert small.drops() == 0
    inject(lab, 500)
    first = len(received(small)[uapi.AF_INET])
    assert 0 < first < 500
    assert first + small.drops() == 500
    # With room again, nothing more is lost: there is no time of blindness after an overrun.
    inject(lab, 5, first=1000)
    assert received(small)[uapi.AF_INET]["orig_sport"].tolist() == list(range(1000, 1005))
    assert first + small.drops() == 500
    small.close()


def test_the_buffer_is_as_large_as_asked_whatever_rmem_max(lab: Lab) -> None:
    events = lab.router.call(lambda: EventSocket(64 * MIB))
    assert (events.buffer_bytes, events.capped) == (64 * MIB, "")
    events.close()


def run_python(lab: Lab, *prefix: str, code: str) -> str:
    """The output of `code` in another process inside the router."""
    path = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from ctrecorder.kernel import sockets\nfrom ctrecorder.errors import KernelError\n"
    )
    return lab.router.run(*prefix, sys.executable, "-c", path + code).stdout.strip()


def test_a_capped_buffer_is_told(lab: Lab) -> None:
    code = "events = sockets.EventSocket(1 << 29); print(events.buffer_bytes); print(events.capped)"
    got, why = run_python(
        lab, "unshare", "--user", "--map-root-user", "--net", code=code
    ).splitlines()
    assert int(got) == int(lab.router.run("sysctl", "-n", "net.core.rmem_max").stdout)
    assert "rmem_max" in why


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (
            "sockets.EventSocket(1 << 20)",
            "cannot join conntrack events: needs CAP_NET_ADMIN; run as root or start "
            "ctrecord.service",
        ),
        (
            "dump = sockets.DumpSocket(); dump.request(); dump.read()",
            "cannot dump the conntrack table: needs CAP_NET_ADMIN; run as root or start "
            "ctrecord.service",
        ),
    ],
)
def test_without_the_capability_a_line_says_what_to_do(lab: Lab, code: str, line: str) -> None:
    tried = f"try:\n    {code}\nexcept KernelError as error:\n    print(error)"
    assert (
        run_python(
            lab, "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", code=tried
        )
        == line
    )


def dump(source: DumpSocket, family: int = uapi.AF_UNSPEC, datagrams: int = 1) -> list[Table]:
    """The tables of one dump."""
    source.request(family)
    decoder, tables, done = Decoder(), [], False
    while not done:
        found = wait_until(lambda: source.read(datagrams), "an answer")
        assert found is not None
        assert (found.interrupted, found.unsound) == (False, 0)
        tables += decoder.decode(found.slots, found.lengths, 1, existing=True)
        done = found.done
    assert decoder.rejected == 0
    return tables


@pytest.mark.parametrize("datagrams", [1, 16])
def test_the_table_is_dumped_while_events_come(
    lab: Lab, events: EventSocket, datagrams: int
) -> None:
    inject(lab, 2000)
    lab.udp(INSIDE6, (SERVER6, 53))
    source = lab.router.call(DumpSocket)
    tables = dump(source, datagrams=datagrams)
    table = concat([table for table in tables if table.family == uapi.AF_INET])
    assert sorted(table["orig_sport"].tolist()) == list(range(1, 2001))
    assert set(table["event"].tolist()) == {Event.EXISTING}
    assert sum(len(table) for table in tables if table.family == uapi.AF_INET6) >= 1
    assert len(received(events)[uapi.AF_INET]) == 2000
    # The same socket dumps again, and of one family if asked.
    assert {table.family for table in dump(source, uapi.AF_INET6, datagrams)} == {uapi.AF_INET6}
    assert source.read() is None
    source.close()


def test_an_answer_of_a_process_is_no_dump(lab: Lab) -> None:
    source = lab.router.call(DumpSocket)
    port = netlink_address(source.fileno())
    sender = lab.router.call(
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uapi.NETLINK_NETFILTER)
    )
    sender.sendto(struct.pack("=IHHIIi", 20, uapi.NLMSG_DONE, 0, 0, 0, 0), (port, 0))
    assert source.read() is None
    assert source.foreign == 1
    inject(lab, 3)
    assert sum(len(table) for table in dump(source)) == 3
    source.close()
    sender.close()


RULES = {
    "nothing": ("", True),
    "a rule that needs no tracking": (
        "table inet t { chain c { type filter hook input priority 0; ip daddr 10.0.0.1 counter; "
        "}; }",
        True,
    ),
    "state": (
        "table inet t { chain c { type filter hook input priority 0; ct state new counter; }; }",
        False,
    ),
    "masquerade": (
        "table ip t { chain c { type nat hook postrouting priority 100; masquerade; }; }",
        False,
    ),
}


@pytest.mark.parametrize("rules", RULES)
def test_whether_tracking_sleeps(rules: str) -> None:
    text, expected = RULES[rules]
    with Lab(asleep=True) as lab:
        if text:
            lab.router.run("nft", "-f", "-", stdin=text)
        assert lab.router.call(asleep) is expected
        # What was found is so: there are events only if it is awake.
        events = lab.router.call(lambda: EventSocket(MIB))
        lab.router.run("ping", "-q", "-c", "1", "127.0.0.1")
        assert bool(received(events)) is not expected
        events.close()


def test_sysctls_are_those_of_the_namespace(lab: Lab) -> None:
    lab.router.sysctl(nf_conntrack_events=2)
    assert lab.router.call(lambda: sockets.sysctl("nf_conntrack_events")) == 2
    assert lab.router.call(lambda: sockets.sysctl("no_such_setting")) is None
    inject(lab, 4)
    assert lab.router.call(sockets.table_count) == 4
