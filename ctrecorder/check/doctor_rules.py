"""The doctor's look at what keeps connections out of tracking, or translates without it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctrecorder import uapi
from ctrecorder.check.doctor_tools import Finding, Note, Result, run_tool
from ctrecorder.ends import is_inside
from ctrecorder.errors import KernelError
from ctrecorder.kernel import rules as kernel_rules
from ctrecorder.kernel import sockets, tracking
from ctrecorder.service import privileges

_UNTRACKED = "connections that it matches are not tracked, so they are not recorded"
_UNRECORDABLE = "connections that it translates cannot be recorded"
_DECIDE = "nothing: it shows the rule. Decide yourself whether the rule stays"
_INGRESS_QDISCS = frozenset({"clsact", "ingress"})


def look_at_rules(inside: str = "") -> Iterator[Result]:
    """Rules that disable tracking or translate without it, and flowtables that do not count.

    `inside`: the prefix of a command that is to run in the network namespace that is examined.
    """
    if not privileges.has_net_admin():
        return
    # Imported only here: pyroute2 takes longer to import than all else that cttest does.
    from ctrecorder.check import firewall

    try:
        rules = firewall.rules((*tracking.UNTRACKING, *kernel_rules.STATELESS_NAT))
        flowtables = firewall.flowtables()
    except KernelError as error:
        yield Finding(str(error), f"{inside}nft list ruleset")
        return
    for rule in rules:
        show = f"{inside}nft -a list chain {rule.place}"
        where = f"rule in {rule.place} (handle {rule.handle})"
        if "notrack" in rule.expressions:
            yield Finding(f"a NOTRACK {where}: {_UNTRACKED}", show, _DECIDE)
        if "stateless nat" in rule.expressions:
            what = f"a {where} translates without connection tracking: {_UNRECORDABLE}"
            yield Finding(what, show, f"{_DECIDE}. snat and dnat rules are recorded")
    if sockets.sysctl("nf_conntrack_acct") == 1:
        for flowtable in flowtables:
            if not flowtable.counts:
                what = f"the flowtable {flowtable.place} does not count: the recorded packets "
                what += "and bytes of the connections that it forwards are too low"
                changes = "nothing: it shows the flowtable. Add `counter` where it is defined"
                yield Finding(what, f"{inside}nft list flowtables", changes)
    for program in ("iptables", "ip6tables"):
        yield from _look_at_legacy_rules(program, inside)
    yield from look_at_traffic_control(inside)
    yield from look_at_jool(inside)


def look_at_addresses() -> Iterator[Note]:
    """Which public addresses a router has; a letter names one, or one of another NAT."""
    if not (tracking.forwards(uapi.AF_INET) or tracking.forwards(uapi.AF_INET6)):
        return
    from ctrecorder.check import firewall  # as in look_at_rules

    try:
        found = firewall.addresses()
    except KernelError as error:
        yield Note(str(error), "so it is not known which addresses letters can name")
        return
    public = [f"{address} ({link})" for address, link in found if not is_inside(str(address))]
    if public:
        yield Note(
            f"public addresses of this router: {', '.join(public)}",
            "a letter names one of them, or one that only a NAT rule uses",
        )
    else:
        yield Note(
            "this router has no public address",
            "a letter names that of another NAT: its operator must tell the port and time here",
        )


def _look_at_legacy_rules(program: str, inside: str) -> Iterator[Finding]:
    """NOTRACK rules in the table raw of the legacy iptables, which nftables does not list."""
    if "raw" not in _legacy_tables(program):
        return
    saved = run_tool(f"{program}-legacy-save", "-t", "raw")
    show = f"{inside}{program}-legacy-save -t raw"
    if saved is None:
        what = f"{program}-legacy has rules in its table raw, which could not be read: "
        what += "they may keep connections from being tracked"
        changes = "the packages: iptables is installed, none is removed"
        yield Finding(what, f"apt-get --no-remove install iptables, then: {show}", changes)
    elif re.search(r"--notrack|-j NOTRACK", saved):
        yield Finding(f"a NOTRACK rule of {program}-legacy: {_UNTRACKED}", show, _DECIDE)


def _legacy_tables(program: str) -> list[str]:
    """The tables of iptables-legacy or ip6tables-legacy that this network namespace uses."""
    name = {"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"}[program]
    try:
        return Path("/proc/net", name).read_text("ascii").split()
    except OSError:
        return []


def look_at_traffic_control(inside: str = "") -> Iterator[Result]:
    """Actions of tc(8) that translate, and eBPF programs, which may.

    Programs on tcx hooks are not seen: tc does not list them.
    """
    qdiscs = run_tool("tc", "-json", "qdisc", "show")
    if qdiscs is None:
        what = "traffic control was not checked: tc does not run"
        yield Note(
            what, "its actions can translate addresses; apt-get --no-remove install iproute2"
        )
        return
    if _actions("nat"):
        what = f"a nat action of tc: {_UNRECORDABLE}"
        changes = "nothing: it shows the action. Rules of nftables that translate are recorded"
        yield Finding(what, f"{inside}tc actions list action nat", changes)
    if _actions("pedit"):
        what = "a pedit action of tc changes packets"
        yield Note(
            what, "if it changes addresses, that cannot be recorded: tc actions list action pedit"
        )
    for device, direction, name in _programs(qdiscs):
        what = f"an eBPF program handles packets of {device} ({direction}): {name}"
        yield Note(what, "if it translates addresses, that cannot be recorded")


def _actions(kind: str) -> list[Any]:
    """The actions of tc of this kind."""
    listed = _parsed(run_tool("tc", "-json", "actions", "list", "action", kind))
    return [
        action
        for part in listed
        for action in part.get("actions", ())
        if action.get("kind") == kind
    ]


def _programs(qdiscs: str) -> Iterator[tuple[str, str, str]]:
    """Device, direction and name of each eBPF program of traffic control and XDP."""
    for qdisc in _parsed(qdiscs):
        if qdisc.get("kind") not in _INGRESS_QDISCS:
            continue
        device = str(qdisc.get("dev", ""))
        for direction in ("ingress", "egress") if qdisc["kind"] == "clsact" else ("ingress",):
            shown = run_tool("tc", "-json", "filter", "show", "dev", device, direction)
            for one in _parsed(shown):
                if one.get("kind") == "bpf" and "options" in one:
                    yield device, direction, str(one["options"].get("bpf_name", "without a name"))
    for link in _parsed(run_tool("ip", "-json", "-details", "link", "show")):
        program = (link.get("xdp") or {}).get("prog")
        if program:
            yield str(link.get("ifname", "")), "XDP", str(program.get("name", program.get("id")))


def _parsed(text: str | None) -> list[dict[str, Any]]:
    """The objects of a list in JSON; [] of anything else."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def look_at_jool(inside: str = "") -> Iterator[Finding]:
    """Translators of Jool, which keep tables of their own beside connection tracking."""
    for module, what_it_is in kernel_rules.JOOL_MODULES.items():
        if not os.path.isdir(os.path.join(kernel_rules.MODULES_FOLDER, module)):
            continue
        listed = run_tool(module, "instance", "display", "--csv", "--no-headers")
        if listed is not None and not listed.strip():
            continue  # loaded, and without an instance
        what = f"Jool's {what_it_is} is loaded: {_UNRECORDABLE}"
        changes = "nothing: it lists the instances"
        if module == "jool":
            changes += ". Jool logs its bindings itself: jool global update logging-bib true"
        yield Finding(what, f"{inside}{module} instance display", changes)
