"""hooks: the kernel's list of hooks, as Debian's kernels give it.

(What it says of rules is tested in a lab, against a kernel.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from ctrecorder import uapi
from ctrecorder.errors import KernelError
from ctrecorder.kernel import sockets, tracking
from tests.support.conntrack_messages import attribute, number

# NFNLA_HOOK_HOOKNUM, _PRIORITY, _FUNCTION_NAME, _MODULE_NAME of linux/netfilter/nfnetlink_hook.h
HOOKNUM, PRIORITY, FUNCTION_NAME, MODULE_NAME = 1, 2, 4, 5


def hook(function: bytes, module: bytes) -> bytes:
    """One hook as nfnl_hook_dump_one() (net/netfilter/nfnetlink_hook.c) tells it."""
    names = attribute(MODULE_NAME, module + b"\0") + attribute(FUNCTION_NAME, function + b"\0")
    return names + number(HOOKNUM, 0, 4) + number(PRIORITY, 2**32 - 200, 4)


DEFRAG = hook(b"ipv4_conntrack_defrag", b"nf_defrag_ipv4")
TRACK, TRACK6 = (
    hook(b"ipv4_conntrack_in", b"nf_conntrack"),
    hook(b"ipv6_conntrack_in", b"nf_conntrack"),
)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "asleep"),
    [
        ([], [], True),
        ([DEFRAG], [], True),
        ([DEFRAG, TRACK], [], False),
        ([], [TRACK6], False),
        ([TRACK], [TRACK6], False),
        ([DEFRAG + b"\1"], [], None),  # contradicts itself, and no rules can be asked for either
    ],
)
def test_hooks_tell(
    monkeypatch: pytest.MonkeyPatch, ipv4: list[bytes], ipv6: list[bytes], asleep: bool | None
) -> None:
    def ask(kind: int, family: int, attributes: bytes = b"") -> Iterator[bytes]:
        if kind != 12 << 8:
            raise KernelError("no rules")
        assert attributes == struct.pack("=HH", 8, HOOKNUM) + bytes(4)
        yield from {uapi.AF_INET: ipv4, uapi.AF_INET6: ipv6}[family]

    monkeypatch.setattr(sockets, "ask", ask)
    assert tracking.asleep() is asleep
