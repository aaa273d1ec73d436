"""Whether connection tracking is awake in this network namespace: its hooks are registered only
while a rule uses it.

Asleep, there are no connections and no events, and a recorder would record nothing in silence.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

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
NFT_MSG_GETRULE, _NFT_MSG_GETSET, _NFT_MSG_GETOBJ = 10 << 8 | 7, 10 << 8 | 10, 10 << 8 | 19
_NFTA_LIST_ELEM, _NFTA_EXPR_NAME, _NFTA_EXPR_DATA = 1, 1, 2
_NFTA_RULE_EXPRESSIONS = 4
_NFTA_SET_EXPR, _NFTA_SET_EXPRESSIONS = 17, 18
_NFTA_DYNSET_EXPR, _NFTA_DYNSET_EXPRESSIONS = 7, 10
_NFTA_OBJ_TYPE = 3
# The names in rules that stop tracking (CT with --notrack only), as they are in a message.
UNTRACKING = (b"notrack\0", b"NOTRACK\0", b"CT\0")
# iptables-nft: an expression that holds a match or target of iptables; attributes of both are alike
_COMPATIBLE = frozenset({b"match", b"target"})
_NFTA_TARGET_NAME, _NFTA_TARGET_INFO = 1, 3
_XT_CT_NOTRACK = 1  # linux/netfilter/xt_CT.h: the first bit of xt_ct_target_info
# The expressions whose module calls nf_ct_netns_get(), and the matches and targets of iptables that
# do, by their names in the kernel.  CT does not with --notrack.
EXPRESSIONS = frozenset(
    {b"ct", b"nat", b"masq", b"redir", b"connlimit", b"flow_offload", b"synproxy"}
)
XTABLES = frozenset(
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
        ),
        *(b"SYNPROXY", b"CLUSTERIP"),
    }
)
# NFT_OBJECT_*: ct helper, connlimit, ct timeout, ct expectation and synproxy use tracking even if
# no rule refers to them.
_OBJECTS = frozenset({3, 5, 7, 9, 10})
_LEGACY_TABLES = (
    Path("/proc/thread-self/net/ip_tables_names"),
    Path("/proc/thread-self/net/ip6_tables_names"),
)


def asleep() -> bool | None:
    """Whether connection tracking sleeps in this network namespace; None if it cannot be told.

    The kernel lists its hooks if it was built to.  If not: awake if a rule, set or object of
    nftables (or of iptables on it) uses connection tracking; asleep if none does, there are no
    tables of the legacy iptables, and the connection table is empty.
    """
    try:
        return not any(_is_hooked(family) for family in _TRACKERS)
    except (KernelError, MessageError):
        pass
    try:
        for kind, uses in _USERS.items():
            if any(map(uses, sockets.ask(kind, uapi.AF_UNSPEC))):
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
        value.rstrip(b"\0") == _TRACKERS[family]
        for hook in sockets.ask(_HOOK_GET, family, wanted)
        for value in _values(hook, _NFNLA_HOOK_FUNCTION_NAME)
    )


def _values(attributes: bytes, *path: int) -> Iterator[bytes]:
    """The payloads of all attributes at `path`, which names their types from the outermost on."""
    for kind, first, last in message.attributes(attributes, 0, len(attributes)):
        if kind == path[0] and len(path) > 1:
            yield from _values(attributes[first:last], *path[1:])
        elif kind == path[0]:
            yield attributes[first:last]


class Expression(NamedTuple):
    """An expression of a rule.

    name: as the kernel calls it.
    xtables: of "match" and "target", the name of the match or target of iptables; else b"".
    info: the data of that one, in its kernel's struct.
    """

    name: bytes
    xtables: bytes
    info: bytes


def expressions(rule: bytes) -> Iterator[Expression]:
    """The expressions of a rule (the attributes of NFT_MSG_NEWRULE), and those inside them.

    MessageError if a length is wrong.
    """
    return _expressions(_values(rule, _NFTA_RULE_EXPRESSIONS, _NFTA_LIST_ELEM))


def uses_tracking(rule: bytes) -> bool:
    """Whether a rule, the attributes of NFT_MSG_NEWRULE, has an expression that needs connection
    tracking.
    """
    return any(map(_needs_tracking, expressions(rule)))


def is_notrack(expression: Expression) -> bool:
    """Whether an expression stops tracking: notrack; of iptables-nft NOTRACK or CT --notrack."""
    if expression.xtables == b"CT":
        return bool(int.from_bytes(expression.info[:2], sys.byteorder) & _XT_CT_NOTRACK)
    return expression.name == b"notrack" or expression.xtables == b"NOTRACK"


def _needs_tracking(expression: Expression) -> bool:
    if expression.xtables in XTABLES:
        return not is_notrack(expression)
    return expression.name in EXPRESSIONS


def _set_uses_tracking(attributes: bytes) -> bool:
    """Whether the elements of a set, the attributes of NFT_MSG_NEWSET, count connections."""
    one = _values(attributes, _NFTA_SET_EXPR)
    several = _values(attributes, _NFTA_SET_EXPRESSIONS, _NFTA_LIST_ELEM)
    return any(map(_needs_tracking, _expressions(chain(one, several))))


def _object_uses_tracking(attributes: bytes) -> bool:
    """Whether an object, the attributes of NFT_MSG_NEWOBJ, is of a type that needs tracking."""
    types = _values(attributes, _NFTA_OBJ_TYPE)
    return any(int.from_bytes(each, "big") in _OBJECTS for each in types)


def _expressions(encoded: Iterable[bytes]) -> Iterator[Expression]:
    for attributes in encoded:
        name = data = b""
        for kind, first, last in message.attributes(attributes, 0, len(attributes)):
            if kind == _NFTA_EXPR_NAME:
                name = attributes[first:last].rstrip(b"\0")
            elif kind == _NFTA_EXPR_DATA:
                data = attributes[first:last]
        if name in _COMPATIBLE:
            xtables = _first(_values(data, _NFTA_TARGET_NAME)).rstrip(b"\0")
            yield Expression(name, xtables, _first(_values(data, _NFTA_TARGET_INFO)))
            continue
        yield Expression(name, b"", b"")
        if name == b"dynset":
            one = _values(data, _NFTA_DYNSET_EXPR)
            several = _values(data, _NFTA_DYNSET_EXPRESSIONS, _NFTA_LIST_ELEM)
            yield from _expressions(chain(one, several))


def _first(values: Iterator[bytes]) -> bytes:
    return next(values, b"")


_USERS = {
    NFT_MSG_GETRULE: uses_tracking,
    _NFT_MSG_GETSET: _set_uses_tracking,
    _NFT_MSG_GETOBJ: _object_uses_tracking,
}
