"""The probe, the kernel's statistics and its clock, against the kernel itself."""

from __future__ import annotations

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.columns import Array, Event, Table
from ctrecorder.errors import KernelError
from ctrecorder.kernel import bpf
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.probe import Probe, without_probes
from ctrecorder.kernel.request import RequestSocket
from ctrecorder.kernel.sockets import EventSocket, SlotBuffer
from ctrecorder.kernel.statistics import Statistics, read_statistics
from ctrecorder.kernel.timex import clock_state
from tests.support.router import INSIDE, SERVER, Lab

MIB = 1 << 20


def received(events: EventSocket) -> list[Table]:
    buffer = SlotBuffer(4096)
    while events.receive(buffer):
        pass
    return list(Decoder().decode(*events.accept(buffer)))


@pytest.mark.parametrize(
    ("protocols", "nat_only"), [((), False), ((6,), False), ((), True), ((6, 132), True)]
)
def test_both_events_of_a_probe_pass_every_filter(
    lab: Lab, protocols: tuple[int, ...], nat_only: bool
) -> None:
    program = bpf.event_filter(protocols, nat_only)
    events = lab.router.call(lambda: EventSocket(8 * MIB, program=program))
    probe, other = lab.router.call(lambda: (Probe(), Probe()))
    for _ in range(3):
        probe.send()
        other.send()
        lab.udp(INSIDE, (SERVER, 53))
        lab.flush()
        left = [probe.take(table) for table in received(events)]
        assert (probe.pending, other.pending) == (False, True)
        assert not np.any(np.concatenate([table["zone"] for table in left]) == bpf.PROBE_ZONE)
        if not protocols:
            kinds = np.concatenate([table["event"] for table in left]).tolist()
            assert kinds == [Event.NEW, Event.DESTROY], "traffic is not taken for a probe"
    for each in (probe, other, events):
        each.close()


def is_pending(probe: Probe, events: EventSocket) -> bool:
    """If a probe that is sent now misses an event; nothing else is received."""
    probe.send()
    assert all(len(probe.take(table)) == 0 for table in received(events))
    return probe.pending


def test_without_events_a_probe_stays_pending(lab: Lab) -> None:
    events = lab.router.call(lambda: EventSocket(8 * MIB))
    probe = lab.router.call(Probe)
    lab.router.sysctl(nf_conntrack_events=0)
    try:
        assert is_pending(probe, events)
    finally:
        lab.router.sysctl(nf_conntrack_events=1)
    assert not is_pending(probe, events)
    probe.close()
    events.close()


def test_a_probe_left_by_a_dead_process_is_replaced(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = lab.router.call(Probe)
    with monkeypatch.context() as patch:
        patch.setattr(Probe, "_delete", lambda self, attributes: None)
        probe.send()
    probe.send()
    assert "zone=65535" not in lab.router.run("conntrack", "-L").stdout
    probe.close()


def test_rows_in_the_zone_that_are_no_probe_stay() -> None:
    loopback = int.from_bytes(b"\x7f\0\0\x01", "big")
    names = ("orig_src", "orig_dst", "reply_src", "reply_dst")
    columns: dict[str, Array] = {name: np.full(3, loopback, "<u4") for name in names}
    columns["orig_src"] = np.array([loopback, loopback + 1, loopback], "<u4")
    columns["zone"] = np.array([bpf.PROBE_ZONE, bpf.PROBE_ZONE, 0], "<u2")
    columns["l4proto"] = np.full(3, uapi.IPPROTO_UDP, np.uint8)
    left = without_probes(Table(uapi.AF_INET, 3, columns))
    assert left["orig_src"].tolist() == [loopback + 1, loopback]


def test_a_refusal_has_the_reason_of_the_kernel(lab: Lab) -> None:
    requests = lab.router.call(RequestSocket)
    with pytest.raises(KernelError, match="the kernel refused: No such file or directory"):
        requests.ask(uapi.CT_DELETE, uapi.AF_INET, b"".join(probe_tuples()), uapi.NLM_F_ACK)
    before = requests.ask(uapi.NFT_GETGEN, uapi.AF_UNSPEC)
    lab.router.run("nft", "add", "table", "ip", "generation")
    after = requests.ask(uapi.NFT_GETGEN, uapi.AF_UNSPEC)
    lab.router.run("nft", "delete", "table", "ip", "generation")
    assert before != after
    requests.close()


def probe_tuples() -> list[bytes]:
    return [Probe._tuple(uapi.CTA_TUPLE_ORIG, 1, 2)]


def test_statistics_are_those_that_conntrack_shows(lab: Lab) -> None:
    before = lab.router.call(read_statistics)
    entry = "-I -s 10.0.0.1 -d 10.0.0.2 -p udp --sport 1 --dport 53 --timeout 600"
    lab.router.run("conntrack", *entry.split())
    assert lab.router.call(read_statistics).since(before) == Statistics(0, 0, 0)
    told = lab.router.run("conntrack", "-S").stdout
    for name in ("drop", "early_drop", "insert_failed"):
        words = [word for word in told.split() if word.startswith(f"{name}=")]
        assert getattr(lab.router.call(read_statistics), name) == sum(
            int(word.partition("=")[2]) for word in words
        )
    lab.flush()


def test_counters_that_wrapped() -> None:
    assert Statistics(1, 5, 0).since(Statistics(2**32 - 1, 3, 0)) == Statistics(2, 2, 0)


def test_the_clock_has_a_state() -> None:
    state = clock_state()
    assert state is not None
    assert state.error_us >= 0
