"""The programs, run by the kernel: a socket pair delivers messages as a netlink socket would."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection

import pytest

from ctrecorder import uapi
from ctrecorder.kernel import bpf
from ctrecorder.kernel import message as conntrack
from tests.support.conntrack_messages import (
    LEAST,
    attribute,
    built,
    ip4,
    message,
    nested,
    number,
    orig,
    ports,
    recorded,
    reply,
    tree,
)


def passed(program: bytes, messages: list[bytes]) -> list[bool]:
    """The messages that pass a socket with this filter."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    instructions = ctypes.create_string_buffer(program, len(program))
    with sender, receiver:
        receiver.setblocking(False)
        fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
        receiver.setsockopt(socket.SOL_SOCKET, uapi.SO_ATTACH_FILTER, fprog)
        through = []
        for data in messages:
            sender.send(data)
            try:
                through.append(receiver.recv(65536) == data)
            except BlockingIOError:
                through.append(False)
        return through


def wanted(data: bytes, protocols: Collection[int], nat_only: bool) -> bool:
    """Whether an event is wanted, by the values that `message` reads."""
    told = conntrack.walk(data)
    return (not protocols or told["l4proto"] in protocols) and (
        not nat_only or bool(int(told["status"]) & uapi.IPS_NAT_MASK)
    )


@pytest.mark.parametrize("nat_only", [False, True])
@pytest.mark.parametrize(
    "protocols", [(), (6,), (17, 6), (1, 58), (17, 17), (132,), range(256)], ids=str
)
def test_recorded_events(protocols: Collection[int], nat_only: bool) -> None:
    program = bpf.event_filter(protocols, nat_only)
    messages = [data for data, _ in recorded()]
    # The order of attributes does not matter to the kernel's own search.
    messages += [data[:20] + built(tree(data)[::-1]) for data in messages[::7]]
    expected = [wanted(data, protocols, nat_only) for data in messages]
    if program is None:
        assert all(expected)
    else:
        assert passed(program, messages) == expected


def test_no_filter_if_everything_is_wanted() -> None:
    assert bpf.event_filter() is None


@pytest.mark.parametrize("nat_only", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            struct.pack("=IHHIIi", 36, uapi.NLMSG_ERROR, 0, 0, 0, -1) + bytes(16), id="error"
        ),
        pytest.param(struct.pack("=IHHIIi", 20, uapi.NLMSG_DONE, 0, 0, 0, 0), id="done"),
        pytest.param(message(LEAST, kind=0x0200), id="expectation"),
        pytest.param(
            message(orig(ip4(1, 2), ports(6, 1, 2)), number(uapi.CTA_STATUS, 8, 4), kind=0x0001),
            id="type with its bytes swapped",
        ),
        pytest.param(message(), id="no attributes"),
        pytest.param(
            message(orig(ip4(1, 2)), reply(ip4(1, 2), ports(6, 1, 2))),
            id="no protocol in the original tuple",
        ),
        pytest.param(
            message(
                orig(nested(uapi.CTA_TUPLE_PROTO, attribute(uapi.CTA_PROTO_SRC_PORT, b"\0\1")))
            ),
            id="no number",
        ),
        pytest.param(
            message(nested(uapi.CTA_TUPLE_MASTER, ip4(1, 2), ports(6, 1, 2))),
            id="the master's tuple",
        ),
    ],
)
def test_what_is_no_event_or_cannot_be_told_passes(data: bytes, nat_only: bool) -> None:
    assert passed(bpf.event_filter({17}, nat_only) or b"", [data]) == [True]


@pytest.mark.parametrize(
    ("status", "through"),
    [(0, False), (0x10, True), (0x20, True), (0x30, True), (0x180 | 0x8, False), (0x3FF, True)],
)
def test_nat_is_told_by_the_bits_of_its_setup(status: int, through: bool) -> None:
    data = message(orig(ip4(1, 2), ports(6, 1, 2)), number(uapi.CTA_STATUS, status, 4))
    assert passed(bpf.event_filter(nat_only=True) or b"", [data]) == [through]
    assert passed(bpf.event_filter({6}, nat_only=True) or b"", [data]) == [through]
    assert passed(bpf.event_filter({17}, nat_only=True) or b"", [data]) == [False]
