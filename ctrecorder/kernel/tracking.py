"""Whether connection tracking is awake in this network namespace: its hooks are registered only
while a rule uses it.

Asleep, there are no connections and no events, and a recorder would record nothing in silence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ctrecorder import uapi
from ctrecorder.errors import KernelError, MessageError
from ctrecorder.kernel import message, sockets

# linux/netfilter/nfnetlink_hook.h, since Linux 5.14 with CONFIG_NETFILTER_NETLINK_HOOK (Debian:
# yes)
_HOOK_GET = 12 << 8
_NFNLA_HOOK_HOOKNUM, _NFNLA_HOOK_FUNCTION_NAME = 1, 4
_NF_INET_PRE_ROUTING = 0
_TRACKERS = {uapi.AF_INET: b"ipv4_conntrack_in", uapi.AF_INET6: b"ipv6_conntrack_in"}

# linux/netfilter/nf_tables.h
_NFT_MSG_GETRULE = 10 << 8 | 7
_NFTA_RULE_EXPRESSIONS, _NFTA_LIST_ELEM, _NFTA_EXPR_NAME, _NFTA_EXPR_DATA, _NFTA_TARGET_NAME = (
    4,
    1,
    1,
    2,
    1,
)
# iptables-nft: an expression that holds a match or a target of iptables, whose name is the first
# attribute of either
_COMPATIBLE = frozenset({b"match", b"target"})
# The expressions whose module calls nf_ct_netns_get(), and the matches and targets of iptables that
# do, by their names in the kernel.
_EXPRESSIONS = frozenset(
    {b"ct", b"nat", b"masq", b"redir", b"connlimit", b"flow_offload", b"synproxy"}
)
_XTABLES = frozenset(
    {
        *(
            b"conntrack",
            b"state",
            b"helper",
            b"connmark",
            b"connlimit",
            b"connbytes",
            b"connlabel",
            b"cluster",
        ),
        *(
            b"SNAT",
            b"DNAT",
            b"MASQUERADE",
            b"REDIRECT",
            b"NETMAP",
            b"CONNMARK",
            b"CONNSECMARK",
            b"CT",
            b"SYNPROXY",
        ),
    }
)
_LEGACY_TABLES = (
    Path("/proc/thread-self/net/ip_tables_names"),
    Path("/proc/thread-self/net/ip6_tables_names"),
)


def asleep() -> bool | None:
    """Whether connection tracking sleeps in this network namespace; None if it cannot be told.

    The kernel lists its hooks if it was built to.  If not: awake if a rule of nftables (or of
    iptables on it) uses connection tracking; asleep if none does, there are no tables of the legacy
    iptables, and the connection table is empty.
    """
    try:
        return not any(_is_hooked(family) for family in _TRACKERS)
    except (KernelError, MessageError):
        pass
    try:
        if any(_uses_tracking(rule) for rule in sockets.ask(_NFT_MSG_GETRULE, uapi.AF_UNSPEC)):
            return False
    except (KernelError, MessageError):
        return None
    if sockets.table_count() != 0 or any(_text(path) for path in _LEGACY_TABLES):
        return None
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _is_hooked(family: int) -> bool:
    """Whether packets of `family` go through connection tracking; KernelError if the kernel does
    not list its hooks.
    """
    wanted = struct.pack("=HH", 8, _NFNLA_HOOK_HOOKNUM) + struct.pack(">I", _NF_INET_PRE_ROUTING)
    return any(
        _TRACKERS[family] in _names(hook, _NFNLA_HOOK_FUNCTION_NAME)
        for hook in sockets.ask(_HOOK_GET, family, wanted)
    )


def _values(attributes: bytes, *path: int) -> Iterator[bytes]:
    """The payloads of all attributes at `path`, which names their types from the outermost on."""
    for kind, first, last in message.attributes(attributes, 0, len(attributes)):
        if kind == path[0] and len(path) > 1:
            yield from _values(attributes[first:last], *path[1:])
        elif kind == path[0]:
            yield attributes[first:last]


def _names(attributes: bytes, *path: int) -> set[bytes]:
    """The same, of attributes that are strings."""
    return {value.rstrip(b"\0") for value in _values(attributes, *path)}


def _uses_tracking(rule: bytes) -> bool:
    """Whether a rule, the attributes of NFT_MSG_NEWRULE, has an expression that needs connection
    tracking.
    """
    for expression in _values(rule, _NFTA_RULE_EXPRESSIONS, _NFTA_LIST_ELEM):
        names = _names(expression, _NFTA_EXPR_NAME)
        if names & _EXPRESSIONS:
            return True
        if (
            names & _COMPATIBLE
            and _names(expression, _NFTA_EXPR_DATA, _NFTA_TARGET_NAME) & _XTABLES
        ):
            return True
    return False
