"""Whether connection tracking is on in this network namespace, for each address family.

The kernel registers the hooks of connection tracking for a family only while a rule uses it.
While it is off there are no connections, no NAT and no events of that family.
"""

from __future__ import annotations

import contextlib
import enum
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ctrecorder import labels, uapi
from ctrecorder.errors import KernelError, MessageError
from ctrecorder.kernel import message, sockets

# linux/netfilter/nfnetlink_hook.h, since Linux 5.14 with CONFIG_NETFILTER_NETLINK_HOOK (Debian:
# yes)
_HOOK_GET = 12 << 8
_NFNLA_HOOK_HOOKNUM, _NFNLA_HOOK_PRIORITY, _NFNLA_HOOK_FUNCTION_NAME = 1, 2, 4
_NF_INET_PRE_ROUTING = 0
_NF_IP_PRI_CONNTRACK = -200
_TRACKERS = {uapi.AF_INET: b"ipv4_conntrack_in", uapi.AF_INET6: b"ipv6_conntrack_in"}
# What the tables of the legacy iptables register; with a priority before connection tracking it is
# the table raw, the only one that can stop tracking.
_LEGACY_HOOKS = frozenset(
    {b"ipt_do_table", b"ip6t_do_table", b"iptable_raw_hook", b"ip6table_raw_hook"}
)

# linux/netfilter.h: the families of nftables, and for which addresses their rules turn tracking on
# (nf_ct_netns_get in net/netfilter/nf_conntrack_proto.c).  arp and netdev refuse such rules.
NFPROTO_INET, NFPROTO_NETDEV, NFPROTO_BRIDGE = 1, 5, 7
BOTH = frozenset(uapi.FAMILIES)
_WAKES = {
    NFPROTO_INET: BOTH,
    uapi.AF_INET: frozenset({uapi.AF_INET}),
    uapi.AF_INET6: frozenset({uapi.AF_INET6}),
    NFPROTO_BRIDGE: BOTH,
}
# The families whose rules can turn tracking on or stop it.
RULE_FAMILIES = (*_WAKES, NFPROTO_NETDEV)
_NFTA_NAT_FAMILY = 2

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
LEGACY_NAMES = {
    uapi.AF_INET: Path("/proc/thread-self/net/ip_tables_names"),
    uapi.AF_INET6: Path("/proc/thread-self/net/ip6_tables_names"),
}
_TABLES = {uapi.AF_INET: "ip", uapi.AF_INET6: "ip6"}


class Tracking(enum.Enum):
    """Whether packets of a family go through connection tracking."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Hooks(NamedTuple):
    """What the kernel's list of hooks shows of one family.

    `tracks`: connection tracking is registered.  `legacy_raw`: so is a table raw of the legacy
    iptables.
    """

    tracks: bool
    legacy_raw: bool


Families: TypeAlias = dict[int, Tracking]
NameReader: TypeAlias = Callable[[int], "frozenset[str] | None"]
UserReader: TypeAlias = Callable[[frozenset[int]], "frozenset[int] | None"]


def tracking(family: int) -> Tracking:
    """Whether packets of `family` (AF_INET, AF_INET6) go through connection tracking.

    The kernel's list of hooks decides, if the kernel was built with one.  If not, tracking is ON
    if a rule, set or object of nftables (or of iptables on it) turns it on.  It is OFF if none
    does, the family has no tables of the legacy iptables and no entry in the connection table.
    """
    return tracking_of(frozenset({family}))[family]


def tracking_of(
    families: frozenset[int] = BOTH,
    legacy: NameReader | None = None,
    in_use: UserReader | None = None,
    explained: frozenset[int] = frozenset(),
) -> Families:
    """`tracking` of each family; all rules are read once at most.

    legacy: instead of `legacy_tables`.  in_use: instead of `families_in_use`.  explained: families
    whose entries in the connection table are left over from rules that are gone.
    """
    found = {}
    for family in sorted(families):
        listed = hooks(family)
        if listed is not None:
            found[family] = Tracking.ON if listed.tracks else Tracking.OFF
    left = frozenset(families - found.keys())
    users = (in_use or families_in_use)(left) if left else frozenset()
    for family in sorted(left):
        if users is None:
            found[family] = Tracking.UNKNOWN
        elif family in users:
            found[family] = Tracking.ON
        elif (legacy or legacy_tables)(family) != frozenset():
            found[family] = Tracking.UNKNOWN
        elif family in explained or has_entries(family) is False:
            found[family] = Tracking.OFF
        else:
            found[family] = Tracking.UNKNOWN
    return found


def off_text(family: int) -> str:
    """The text that states that tracking of `family` is off, and why."""
    table, name = _TABLES[family], labels.FAMILIES[family]
    return f"{name} connection tracking is off: no rule of family {table} or inet uses it"


def families_off() -> list[int]:
    """The families whose packets are not tracked for certain."""
    return [family for family, found in tracking_of().items() if found is Tracking.OFF]


def forwards(family: int) -> bool:
    """If packets of `family` are forwarded, on any interface; False if the kernel has no IPv6."""
    version = "ipv4" if family == uapi.AF_INET else "ipv6"
    for path in Path("/proc/sys/net", version, "conf").glob("*/forwarding"):
        with contextlib.suppress(OSError):  # an interface that has gone meanwhile
            if path.read_text("ascii").strip() != "0":
                return True
    return False


def hooks(family: int) -> Hooks | None:
    """What the kernel's list of hooks shows of `family`; None without a list that can be used."""
    wanted = struct.pack("=HH", 8, _NFNLA_HOOK_HOOKNUM) + struct.pack(">I", _NF_INET_PRE_ROUTING)
    tracks = legacy_raw = named = False
    empty = True
    try:
        for hook in sockets.ask(_HOOK_GET, family, wanted):
            empty = False
            found = {
                kind: hook[first:last]
                for kind, first, last in message.attributes(hook, 0, len(hook))
            }
            priority = int.from_bytes(found.get(_NFNLA_HOOK_PRIORITY, b""), "big")
            priority -= 1 << 32 if priority >= 1 << 31 else 0
            # Linux 5.14 has the module's name behind the function's: "ipv4_conntrack_in [nf".
            text = found.get(_NFNLA_HOOK_FUNCTION_NAME, b"").rstrip(b"\0")
            function = text.partition(b" ")[0]
            named |= bool(function)
            tracks |= function == _TRACKERS[family]
            legacy_raw |= function in _LEGACY_HOOKS and priority < _NF_IP_PRI_CONNTRACK
    except (KernelError, MessageError):
        return None
    # A kernel without kallsyms lists hooks without names.
    return Hooks(tracks, legacy_raw) if named or empty else None


def families_in_use(wanted: frozenset[int] = BOTH) -> frozenset[int] | None:
    """The families for which a rule, set or object of nftables turns tracking on; None if the
    kernel does not list them.

    wanted: reading ends when these are found.
    """
    found: frozenset[int] = frozenset()
    try:
        for table_family, wakes in _WAKES.items():
            for kind, users in _USERS.items():
                if not wakes & (wanted - found):
                    break
                for attributes in sockets.ask(kind, table_family):
                    found |= users(attributes, table_family)
                    if wanted <= found:
                        return found
    except (KernelError, MessageError):
        return None
    return found


def legacy_tables(family: int) -> frozenset[str] | None:
    """The tables of the legacy iptables of `family`; None if this process may not read them."""
    try:
        return frozenset(LEGACY_NAMES[family].read_text(encoding="ascii").split())
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None


def has_entries(family: int) -> bool | None:
    """If the connection table has an entry of `family`; None if it cannot be read."""
    if sockets.table_count() == 0:
        return False
    try:
        return next(sockets.ask(uapi.CT_GET, family), None) is not None
    except KernelError:
        return None


def values(attributes: bytes, *path: int) -> Iterator[bytes]:
    """The payloads of all attributes at `path`, which names their types from the outermost on."""
    for kind, first, last in message.attributes(attributes, 0, len(attributes)):
        if kind == path[0] and len(path) > 1:
            yield from values(attributes[first:last], *path[1:])
        elif kind == path[0]:
            yield attributes[first:last]


class Expression(NamedTuple):
    """An expression of a rule.

    name: as the kernel calls it.
    xtables: of "match" and "target", the name of the match or target of iptables; else b"".
    info: the data of that one, in its kernel's struct; of all others their attributes.
    """

    name: bytes
    xtables: bytes
    info: bytes


def expressions(rule: bytes) -> Iterator[Expression]:
    """The expressions of a rule (the attributes of NFT_MSG_NEWRULE), and those inside them.

    MessageError if a length is wrong.
    """
    return _expressions(values(rule, _NFTA_RULE_EXPRESSIONS, _NFTA_LIST_ELEM))


def uses_tracking(rule: bytes) -> bool:
    """Whether a rule, the attributes of NFT_MSG_NEWRULE, has an expression that needs connection
    tracking.
    """
    return any(map(_needs_tracking, expressions(rule)))


def families_of_rule(rule: bytes, table_family: int) -> frozenset[int]:
    """The families for which a rule of a table of `table_family` turns tracking on."""
    if not USER_NAMES.search(rule):
        return frozenset()
    return _families(expressions(rule), table_family)


def is_notrack(expression: Expression) -> bool:
    """Whether an expression stops tracking: notrack; of iptables-nft NOTRACK or CT --notrack."""
    if expression.xtables == b"CT":
        return bool(int.from_bytes(expression.info[:2], sys.byteorder) & _XT_CT_NOTRACK)
    return expression.name == b"notrack" or expression.xtables == b"NOTRACK"


def _needs_tracking(expression: Expression) -> bool:
    if expression.xtables in XTABLES:
        return not is_notrack(expression)
    return expression.name in EXPRESSIONS


def _families(found: Iterable[Expression], table_family: int) -> frozenset[int]:
    """The families for which these expressions turn tracking on."""
    families: frozenset[int] = frozenset()
    for expression in found:
        if _needs_tracking(expression):
            families |= _wakes(expression, table_family)
    return families


def _wakes(expression: Expression, table_family: int) -> frozenset[int]:
    if expression.name == b"nat":
        # `snat ip to` in a table of family inet turns tracking on for IPv4 alone.
        own = int.from_bytes(_first(values(expression.info, _NFTA_NAT_FAMILY)), "big")
        return _WAKES.get(own, frozenset())
    return _WAKES.get(table_family, frozenset())


def _families_of_set(attributes: bytes, table_family: int) -> frozenset[int]:
    """The families for which the elements of a set (NFT_MSG_NEWSET) turn tracking on."""
    one = values(attributes, _NFTA_SET_EXPR)
    several = values(attributes, _NFTA_SET_EXPRESSIONS, _NFTA_LIST_ELEM)
    return _families(_expressions(chain(one, several)), table_family)


def _families_of_object(attributes: bytes, table_family: int) -> frozenset[int]:
    """The families for which an object (NFT_MSG_NEWOBJ) turns tracking on."""
    types = values(attributes, _NFTA_OBJ_TYPE)
    if any(int.from_bytes(each, "big") in _OBJECTS for each in types):
        return _WAKES[table_family]
    return frozenset()


def _expressions(encoded: Iterable[bytes]) -> Iterator[Expression]:
    for attributes in encoded:
        name = data = b""
        for kind, first, last in message.attributes(attributes, 0, len(attributes)):
            if kind == _NFTA_EXPR_NAME:
                name = attributes[first:last].rstrip(b"\0")
            elif kind == _NFTA_EXPR_DATA:
                data = attributes[first:last]
        if name in _COMPATIBLE:
            xtables = _first(values(data, _NFTA_TARGET_NAME)).rstrip(b"\0")
            yield Expression(name, xtables, _first(values(data, _NFTA_TARGET_INFO)))
            continue
        yield Expression(name, b"", data)
        if name == b"dynset":
            one = values(data, _NFTA_DYNSET_EXPR)
            several = values(data, _NFTA_DYNSET_EXPRESSIONS, _NFTA_LIST_ELEM)
            yield from _expressions(chain(one, several))


def _first(values: Iterator[bytes]) -> bytes:
    return next(values, b"")


_USERS = {
    NFT_MSG_GETRULE: families_of_rule,
    _NFT_MSG_GETSET: _families_of_set,
    _NFT_MSG_GETOBJ: _families_of_object,
}
# A rule without any of these names needs no closer look: 50,000 rules are searched, not walked.
STATEMENTS = re.compile(b"|".join(map(re.escape, UNTRACKING)))
USER_NAMES = re.compile(
    b"|".join(re.escape(name) + b"\\0" for name in sorted(EXPRESSIONS | XTABLES))
)
