"""Two readers of firewall rules, compared with each other and with the kernel.

`hooks`, the recorder's own, and `firewall`, which is pyroute2, find the same rules that use
tracking; and what `hooks` concludes is what the kernel does: events come for real packets, or none.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ctrecorder import uapi
from ctrecorder.check import firewall
from ctrecorder.kernel import sockets
from ctrecorder.kernel import tracking as hooks
from ctrecorder.kernel.sockets import EventSocket
from ctrecorder.kernel.tracking import EXPRESSIONS, XTABLES
from tests.support.asleep import asleep
from tests.support.router import Lab

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A ruleset.

    nft: for nft -f.
    iptables: command lines, without the "-nft" of the program.
    untracked: how many rules have notrack.
    """

    nft: str = ""
    iptables: tuple[str, ...] = ()
    awake: bool = False
    untracked: int = 0


def chain(
    rule: str,
    family: str = "inet",
    hook: str = "input",
    kind: str = "filter",
    priority: str = "0",
    more: str = "",
) -> str:
    """A table with one chain with one rule; `more` is put into the table before it."""
    head = f"type {kind} hook {hook} priority {priority};" if hook else ""
    return f"table {family} t {{\n{more}\nchain c {{\n{head}\n{rule}\n}}\n}}\n"


HELPER = 'ct helper h { type "ftp" protocol tcp; }'
CASES = {
    "nothing": Case(),
    "a filter without ct": Case(chain("ip daddr 10.0.0.1 counter")),
    "a set without ct": Case(
        chain("ip saddr @s drop", more="set s { type ipv4_addr; elements = { 10.0.0.1 }; }")
    ),
    "a verdict map without ct": Case(chain("tcp dport vmap { 22 : accept, 23 : drop }")),
    "a comment with ct": Case(chain('counter comment "ct state new notrack"')),
    "a log prefix with notrack": Case(chain('log prefix "ct notrack " counter')),
    "names with ct": Case(
        "table inet ct-state { chain notrack1 { type filter hook input priority 0; counter; }; }"
    ),
    "ct state": Case(chain("ct state new counter"), awake=True),
    "ct state, ip": Case(chain("ct state new counter", "ip"), awake=True),
    "ct state, ip6": Case(chain("ct state new counter", "ip6"), awake=True),
    "ct mark set": Case(chain("ct mark set 1", hook="output"), awake=True),
    "ct state in a verdict map": Case(
        chain("ct state vmap { new : accept, invalid : drop }"), awake=True
    ),
    "ct in a named verdict map": Case(
        chain(
            "ct state vmap @m",
            more="map m { type ct_state : verdict; elements = { new : accept }; }",
        ),
        awake=True,
    ),
    "a verdict map named after ct, unused": Case(
        chain("counter", more="map m { type ct_state : verdict; elements = { new : accept }; }")
    ),
    "ct in a concatenation": Case(chain("ct mark . meta mark { 1 . 1 } counter"), awake=True),
    "ct in an anonymous chain": Case(
        chain("tcp dport 22 jump {\nct state new accept\n}"), awake=True
    ),
    "ct in a chain that nothing reaches": Case(chain("ct state new counter", hook=""), awake=True),
    "ct in a dormant table": Case(chain("ct state new counter", more="flags dormant;"), awake=True),
    "ct count": Case(chain("ct count over 100 drop"), awake=True),
    "ct count in a dynamic set": Case(
        chain(
            "add @s { ip saddr ct count over 100 }",
            more="set s { type ipv4_addr; size 9; flags dynamic; }",
        ),
        awake=True,
    ),
    "two expressions in a dynamic set": Case(
        chain(
            "add @s { ip saddr ct count over 100 counter }",
            more="set s { type ipv4_addr; size 9; flags dynamic; ct count over 100 counter; }",
        ),
        awake=True,
    ),
    "a set whose elements count connections": Case(
        "table inet t { set s { type ipv4_addr; flags dynamic; size 9; ct count over 100; }; }",
        awake=True,
    ),
    "a helper object alone": Case(f"table ip t {{\n{HELPER}\n}}", awake=True),
    "a helper object in a rule": Case(chain('ct helper set "h"', "ip", more=HELPER), awake=True),
    "a timeout object alone": Case(
        "table ip t { ct timeout o { protocol tcp; policy = { established : 60 }; }; }", awake=True
    ),
    "an expectation object alone": Case(
        "table ip t { ct expectation e { protocol tcp; dport 9; timeout 9s; size 9; }; }",
        awake=True,
    ),
    "a synproxy object alone": Case(
        "table ip t { synproxy p { mss 1460; wscale 7; }; }", awake=True
    ),
    "a counter object": Case(chain('counter name "n"', more="counter n { packets 0 bytes 0; }")),
    "synproxy": Case(chain("tcp dport 80 synproxy mss 1460 wscale 7", "ip"), awake=True),
    "an empty nat chain": Case(
        "table ip t { chain c { type nat hook postrouting priority 100; }; }"
    ),
    "masquerade": Case(chain("masquerade", "ip", "postrouting", "nat", "100"), awake=True),
    "masquerade, ip6": Case(chain("masquerade", "ip6", "postrouting", "nat", "100"), awake=True),
    "snat, inet": Case(
        chain("ip daddr 10.9.9.9 snat ip to 10.0.0.1", "inet", "postrouting", "nat", "100"),
        awake=True,
    ),
    "dnat by a map": Case(
        chain("dnat to tcp dport map { 80 : 10.0.0.1 }", "ip", "prerouting", "nat", "-100"),
        awake=True,
    ),
    "redirect": Case(
        chain("tcp dport 80 redirect to :8080", "ip", "prerouting", "nat", "-100"), awake=True
    ),
    "notrack": Case(chain("udp dport 53 notrack", hook="prerouting", priority="raw"), untracked=1),
    "notrack and ct": Case(
        chain(
            "udp dport 53 notrack\nudp sport 53 notrack\nct state new counter",
            hook="prerouting",
            priority="raw",
        ),
        awake=True,
        untracked=2,
    ),
    "notrack in a map's chain": Case(
        chain(
            "udp dport vmap { 53 : goto n }",
            hook="prerouting",
            priority="raw",
            more="chain n { notrack; }",
        ),
        untracked=1,
    ),
    "notrack, a table for each family": Case(
        "".join(
            chain("udp dport 53 notrack", family, "prerouting", priority="raw")
            for family in ("inet", "ip", "ip6")
        ),
        untracked=3,
    ),
    "bridge": Case(chain("counter", "bridge", "prerouting")),
    "netdev": Case(
        "table netdev t { chain c { type filter hook ingress device lo priority 0; counter; }; }"
    ),
    "tproxy and socket": Case(
        chain("socket transparent 1 meta mark set 1", hook="prerouting", priority="mangle")
    ),
    "iptables: nothing of ct": Case(iptables=("iptables -A INPUT -p tcp --dport 22 -j ACCEPT",)),
    "iptables: a comment": Case(
        iptables=("iptables -A INPUT -p tcp -m comment --comment CT --dport 22 -j ACCEPT",)
    ),
    "iptables: conntrack": Case(
        iptables=("iptables -A INPUT -m conntrack --ctstate NEW -j ACCEPT",), awake=True
    ),
    "iptables: state, IPv6": Case(
        iptables=("ip6tables -A INPUT -m state --state NEW -j ACCEPT",), awake=True
    ),
    "iptables: MASQUERADE": Case(
        iptables=("iptables -t nat -A POSTROUTING -o none -j MASQUERADE",), awake=True
    ),
    "iptables: SNAT": Case(
        iptables=("iptables -t nat -A POSTROUTING -o none -j SNAT --to-source 10.0.0.1",),
        awake=True,
    ),
    "iptables: connlimit": Case(
        iptables=("iptables -A INPUT -p tcp -m connlimit --connlimit-above 100 -j DROP",),
        awake=True,
    ),
    "iptables: connmark": Case(
        iptables=("iptables -A INPUT -m connmark --mark 1 -j ACCEPT",), awake=True
    ),
    "iptables: CONNMARK": Case(
        iptables=("iptables -t mangle -A INPUT -j CONNMARK --save-mark",), awake=True
    ),
    "iptables: CT --zone": Case(
        iptables=("iptables -t raw -A PREROUTING -i none -j CT --zone 5",), awake=True
    ),
    "iptables: CT --notrack": Case(
        iptables=("iptables -t raw -A PREROUTING -p udp --dport 53 -j CT --notrack",), untracked=1
    ),
    "iptables: NOTRACK, IPv6": Case(
        iptables=("ip6tables -t raw -A PREROUTING -p udp --dport 53 -j NOTRACK",), untracked=1
    ),
    "iptables: CT --notrack and conntrack": Case(
        iptables=(
            "iptables -t raw -A PREROUTING -p udp --dport 53 -j CT --notrack",
            "iptables -A INPUT -m conntrack --ctstate NEW -j ACCEPT",
        ),
        awake=True,
        untracked=1,
    ),
}


def load(lab: Lab, case: Case) -> None:
    if case.nft:
        lab.router.run("nft", "-f", "-", stdin=case.nft)
    for line in case.iptables:
        program, *words = line.split()
        lab.router.run(f"{program}-nft", *words)


def tracking(rule: firewall.Rule) -> bool:
    """Whether a rule as pyroute2 reads it uses tracking, by the names that `hooks` knows."""
    names = {name.encode() for name in rule.expressions}
    xtables = {name.split()[1] for name in names if name.startswith((b"match ", b"target "))}
    if "notrack" in rule.expressions:
        xtables -= {b"CT"}
    return bool(names & EXPRESSIONS or xtables & XTABLES)


@pytest.mark.parametrize("name", CASES)
def test_both_readers_agree_and_the_kernel_agrees_with_them(name: str) -> None:
    case = CASES[name]
    with Lab(asleep=True) as lab:
        load(lab, case)
        read = lab.router.call(firewall.rules)
        own = [
            hooks.uses_tracking(rule)
            for rule in lab.router.call(
                lambda: list(sockets.ask(hooks.NFT_MSG_GETRULE, uapi.AF_UNSPEC))
            )
        ]
        assert own == [tracking(rule) for rule in read]
        untracked = [rule for rule in read if "notrack" in rule.expressions]
        sought = lab.router.call(lambda: firewall.rules(hooks.UNTRACKING))
        assert [rule for rule in sought if "notrack" in rule.expressions] == untracked
        assert len(untracked) == case.untracked
        assert lab.router.call(asleep) is not case.awake
        events = lab.router.call(lambda: EventSocket(MIB))
        for address in ("127.0.0.1", "::1"):
            lab.router.run("ping", "-q", "-c", "1", "-W", "2", address)
        slots = sockets.SlotBuffer(sockets.BATCH)
        assert bool(events.receive(slots)) is case.awake, "what the kernel does"
        events.close()
        for rule in untracked:
            lab.router.run("nft", "delete", "rule", *rule.place.split(), "handle", rule.handle)
        assert not [
            rule for rule in lab.router.call(firewall.rules) if "notrack" in rule.expressions
        ], "nft deletes it by what was read"
