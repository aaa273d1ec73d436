"""Tracking by family from the kernel's list of hooks, as Debian's kernels give it.

Made messages: what rules do to tracking is tested in a lab, against a kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from ctrecorder import uapi
from ctrecorder.errors import KernelError
from ctrecorder.kernel import sockets, tracking
from tests.support.conntrack_messages import attribute, nested, number

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


# Linux 5.14 writes the module's name into that of the function.
TRACK_514 = hook(b"ipv4_conntrack_in [nf_conntrack", b"nf_conntrack")
NAMELESS = number(HOOKNUM, 0, 4) + number(PRIORITY, 2**32 - 200, 4)
ON, OFF, UNKNOWN = tracking.Tracking


def legacy(function: bytes, priority: int) -> bytes:
    """The hook of a table of the legacy iptables."""
    name = attribute(FUNCTION_NAME, function + b"\0")
    return name + number(HOOKNUM, 0, 4) + number(PRIORITY, priority % 2**32, 4)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[bytes]]:
    """The hooks of each family, to be filled; the kernel lists no rules."""
    listed: dict[int, list[bytes]] = {uapi.AF_INET: [], uapi.AF_INET6: []}

    def ask(kind: int, family: int, attributes: bytes = b"") -> Iterator[bytes]:
        if kind != 12 << 8:
            raise KernelError("no rules")
        assert attributes == struct.pack("=HH", 8, HOOKNUM) + bytes(4)
        yield from listed[family]

    monkeypatch.setattr(sockets, "ask", ask)
    return listed


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "found"),
    [
        ([], [], (OFF, OFF)),
        ([DEFRAG], [], (OFF, OFF)),
        ([DEFRAG, TRACK], [], (ON, OFF)),
        ([TRACK_514], [], (ON, OFF)),
        ([], [TRACK6], (OFF, ON)),
        ([TRACK], [TRACK6], (ON, ON)),
        # The hook of the other family is none of this one.
        ([TRACK6], [TRACK], (OFF, OFF)),
        # It contradicts itself, or has no names: the rules decide, and they cannot be read.
        ([DEFRAG + b"\1"], [], (UNKNOWN, OFF)),
        ([NAMELESS], [TRACK6], (UNKNOWN, ON)),
    ],
)
def test_hooks_by_family(
    kernel: dict[int, list[bytes]],
    ipv4: list[bytes],
    ipv6: list[bytes],
    found: tuple[tracking.Tracking, tracking.Tracking],
) -> None:
    kernel.update({uapi.AF_INET: ipv4, uapi.AF_INET6: ipv6})
    families = (uapi.AF_INET, uapi.AF_INET6)
    assert tuple(map(tracking.tracking, families)) == found
    expected = [family for family, each in zip(families, found, strict=True) if each is OFF]
    assert tracking.families_off() == expected


@pytest.mark.parametrize(
    ("hooks", "raw"),
    [
        ([TRACK], False),
        ([TRACK, legacy(b"ipt_do_table", -100)], False),  # its table nat
        ([TRACK, legacy(b"ipt_do_table", -300)], True),
        ([TRACK, legacy(b"iptable_raw_hook", -300)], True),
        ([TRACK, legacy(b"nft_do_chain_ipv4", -300)], False),
    ],
)
def test_a_legacy_table_raw_is_a_hook_before_tracking(
    kernel: dict[int, list[bytes]], hooks: list[bytes], raw: bool
) -> None:
    kernel[uapi.AF_INET] = hooks
    assert tracking.hooks(uapi.AF_INET) == tracking.Hooks(True, raw)


def test_a_kernel_without_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, family: int, attributes: bytes = b"") -> Iterator[bytes]:
        raise KernelError("not built in")

    monkeypatch.setattr(sockets, "ask", refuse)
    assert tracking.hooks(uapi.AF_INET) is None
    assert tracking.tracking(uapi.AF_INET) is UNKNOWN


@pytest.mark.parametrize(
    ("table_family", "nat", "families"),
    [
        (uapi.AF_INET, None, {uapi.AF_INET}),
        (uapi.AF_INET6, None, {uapi.AF_INET6}),
        (tracking.NFPROTO_INET, None, {uapi.AF_INET, uapi.AF_INET6}),
        # nf_ct_netns_get() of a bridge turns on all three.
        (tracking.NFPROTO_BRIDGE, None, {uapi.AF_INET, uapi.AF_INET6}),
        (tracking.NFPROTO_INET, uapi.AF_INET6, {uapi.AF_INET6}),
    ],
)
def test_the_families_that_a_rule_turns_on(
    table_family: int, nat: int | None, families: set[int]
) -> None:
    name = b"ct\0" if nat is None else b"nat\0"
    data = nested(2, number(1, 0, 4), number(2, nat or 0, 4))
    rule = nested(4, nested(1, attribute(1, b"counter\0")), nested(1, attribute(1, name), data))
    assert tracking.families_of_rule(rule, table_family) == families
    assert table_family in tracking.RULE_FAMILIES


def test_the_words_name_the_family() -> None:
    text = "IPv6 connection tracking is off: no rule of family ip6 or inet uses it"
    assert tracking.off_text(uapi.AF_INET6) == text


@pytest.mark.parametrize(
    ("entries", "legacy_names", "found"),
    [
        ([], frozenset(), OFF),
        ([b"an entry"], frozenset(), UNKNOWN),
        ([], frozenset({"nat"}), UNKNOWN),
        ([], None, UNKNOWN),
    ],
)
def test_no_rule_uses_it(
    monkeypatch: pytest.MonkeyPatch,
    entries: list[bytes],
    legacy_names: frozenset[str] | None,
    found: tracking.Tracking,
) -> None:
    """What no rule explains is not known to be off."""

    def ask(kind: int, family: int, attributes: bytes = b"") -> Iterator[bytes]:
        if kind == 12 << 8:
            raise KernelError("not built in")
        if kind == uapi.CT_GET:
            assert family == uapi.AF_INET6
            yield from entries

    monkeypatch.setattr(sockets, "ask", ask)
    monkeypatch.setattr(sockets, "table_count", lambda: 5)
    monkeypatch.setattr(tracking, "legacy_tables", lambda _: legacy_names)
    assert tracking.tracking(uapi.AF_INET6) is found
