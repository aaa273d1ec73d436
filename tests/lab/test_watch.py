"""The watch over a real kernel: what nft and iptables-nft load, and what is reported then."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctrecorder import uapi
from ctrecorder.kernel import rules, sockets, tracking
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.sockets import EventSocket
from ctrecorder.segment.reader import Segment
from ctrecorder.watch.watcher import Look, Watcher
from tests.support.listeners import Recorder, ctwho
from tests.support.router import RULES, Lab, wait_until

MIB = 1 << 20
IPV4, IPV6 = uapi.AF_INET, uapi.AF_INET6
LOOPBACK = {IPV4: "127.0.0.1", IPV6: "::1"}


def chain(rule: str, family: str = "inet", head: str = "", more: str = "") -> str:
    """A table with one chain with one rule; `head` is put into the chain, `more` into the table."""
    return f"table {family} t {{\n{more}\nchain c {{\n{head}\n{rule}\n}}\n}}\n"


FILTER = "type filter hook input priority 0;"
RAW = "type filter hook output priority raw;"
POSTROUTING = "type nat hook postrouting priority srcnat;"


def load(lab: Lab, text: str) -> None:
    """Loads nft's text; lines that begin with ip are commands of iptables-nft."""
    if text.startswith("ip"):
        lab.router.run(*text.split())
    elif text:
        lab.router.run("nft", "-f", "-", stdin=text)


def reported(lab: Lab, ports: dict[int, int]) -> set[int]:
    """The families of which the kernel reports a datagram to itself, to the port of the family."""
    events = lab.router.call(lambda: EventSocket(MIB))
    for family, port in ports.items():
        with lab.router.socket(2, LOOPBACK[family]) as sender:
            sender.sendto(b"x", (LOOPBACK[family], port))
    slots = sockets.SlotBuffer(sockets.BATCH)
    while events.receive(slots):
        pass
    found = {table.family for table in Decoder().decode(*events.accept(slots))}
    events.close()
    return found


FAMILIES = {
    "no rule": ("", set()),
    "a rule that needs no tracking": (chain("counter", head=FILTER), set()),
    "IPv4-only NAT": (chain("oifname none masquerade", "ip", POSTROUTING), {IPV4}),
    "NAT for IPv6": (chain("oifname none masquerade", "ip6", POSTROUTING), {IPV6}),
    "NAT for both": (chain("oifname none masquerade", head=POSTROUTING), {IPV4, IPV6}),
    "snat ip, inet": (chain("oifname none snat ip to 192.0.2.1", head=POSTROUTING), {IPV4}),
    "snat ip6, inet": (chain("oifname none snat ip6 to 2001:db8::9", head=POSTROUTING), {IPV6}),
    "a chain that nothing jumps to": (chain("ct state new counter", "ip6"), {IPV6}),
    "a set": (
        chain(
            "counter",
            "ip",
            more="set s { type ipv4_addr; flags dynamic; size 9; ct count over 9; }",
        ),
        {IPV4},
    ),
    "an object": (
        "table ip6 t { ct timeout o { protocol tcp; l3proto ip6; policy = { close : 9 }; }; }",
        {IPV6},
    ),
    "a dormant table": (chain("ct state new", "ip", FILTER, "flags dormant;"), {IPV4}),
    "notrack": (chain("udp dport 53 notrack", head=RAW), set()),
    "a bridge without ct": (
        chain("counter", "bridge", "type filter hook input priority 0;"),
        set(),
    ),
    "a device": (
        chain("counter", "netdev", "type filter hook ingress device lo priority 0;"),
        set(),
    ),
    "iptables": ("iptables-nft -t nat -A POSTROUTING -o none -j MASQUERADE", {IPV4}),
    "ip6tables": ("ip6tables-nft -A INPUT -m conntrack --ctstate NEW -j ACCEPT", {IPV6}),
    "iptables CT": ("iptables-nft -t raw -A OUTPUT -p udp -j CT --notrack", set()),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_families_that_are_tracked(name: str) -> None:
    text, expected = FAMILIES[name]
    with Lab(asleep=True) as lab:
        load(lab, text)
        found = lab.router.call(tracking.tracking_of)
        on, off = tracking.Tracking.ON, tracking.Tracking.OFF
        assert found == {family: on if family in expected else off for family in LOOPBACK}
        assert reported(lab, {IPV4: 9, IPV6: 9}) == expected, "what the kernel does"


@pytest.mark.parametrize("family", ["netdev", "bridge", "arp"])
def test_ct_in_other_families_is_refused_or_wakes_both(family: str) -> None:
    """A kernel with nf_conntrack_bridge takes it in a bridge; the others never do."""
    hook = {
        "bridge": "prerouting",
        "netdev": "ingress device lo",
        "arp": "input",
    }[family]
    with Lab(asleep=True) as lab:
        text = chain("ct state new counter", family, f"type filter hook {hook} priority 0;")
        taken = not lab.router.run("nft", "-f", "-", stdin=text, check=False).returncode
        assert not taken or family == "bridge"
        expected = {IPV4, IPV6} if taken else set()
        assert set(LOOPBACK) - set(lab.router.call(tracking.families_off)) == expected
        assert reported(lab, {IPV4: 9, IPV6: 9}) == expected


UDP: dict[str, Any] = {"protocols": [17]}
NARROWED = {
    "udp dport 53 notrack": UDP | {"ports": [53]},
    "udp sport 53 notrack": UDP | {"ports": [53]},
    "udp dport { 53, 123 } notrack": UDP | {"ports": [53, 123]},
    "udp dport 100-102 notrack": UDP | {"ports": [100, 101, 102]},
    "udp dport { 53, 100-102 } notrack": UDP | {"ports": [53, 100, 101, 102]},
    "udp dport 1024-65535 notrack": UDP,
    "udp dport @named notrack": UDP,
    "udp dport != 53 notrack": UDP,
    "udp dport != { 53, 54 } notrack": UDP,
    "udp dport vmap { 53 : drop } notrack": UDP,
    "udp sport 53 udp dport 54 notrack": UDP | {"ports": [53]},
    "meta l4proto { tcp, udp } th dport 53 notrack": {"protocols": [6, 17], "ports": [53]},
    "th dport 53 notrack": {},
    "ip protocol gre notrack": {"family": IPV4, "protocols": [47]},
    "ip6 nexthdr udp notrack": {"family": IPV6} | UDP,
    "meta nfproto ipv6 notrack": {"family": IPV6},
    "ip saddr 10.0.0.0/8 notrack": {"family": IPV4, "networks": ["10.0.0.0/8"]},
    "ip daddr 10.1.2.128/25 notrack": {"family": IPV4, "networks": ["10.1.2.128/25"]},
    "ip6 daddr 2001:db8::/33 notrack": {"family": IPV6, "networks": ["2001:db8::/33"]},
    "ip saddr { 10.0.0.0/8, 192.0.2.1 } notrack": {
        "family": IPV4,
        "networks": ["10.0.0.0/8", "192.0.2.1/32"],
    },
    "ip saddr != 10.0.0.0/8 notrack": {"family": IPV4},
    "ip saddr . udp dport { 10.0.0.1 . 53 } notrack": {"family": IPV4} | UDP,
    'iifname "lo" notrack': {"interfaces": ["lo"]},
    "iif lo notrack": {"interfaces": ["lo"]},
    'iifname { "lo", "wan" } notrack': {"interfaces": ["lo", "wan"]},
    'oifname "wg*" notrack': {},
    "counter notrack udp dport 5": {},
    "ct state untracked notrack": {},
}
IPTABLES = {
    "iptables-nft -i lan -s 10.0.0.0/8 -p udp --dport 53 -j CT --notrack": {
        "family": IPV4,
        "interfaces": ["lan"],
        "networks": ["10.0.0.0/8"],
        "protocols": [17],
        "ports": [53],
    },
    "ip6tables-nft -p tcp --sport 5:7 -j NOTRACK": {
        "family": IPV6,
        "protocols": [6],
        "ports": [5, 6, 7],
    },
    "iptables-nft -p udp -m multiport --dports 53,54 -j CT --notrack": {"family": IPV4}
    | UDP
    | {"ports": [53, 54]},
    "iptables-nft ! -i lan ! -p udp -j CT --notrack": {"family": IPV4},
    "iptables-nft -s 10.0.0.0/255.0.255.0 -j CT --notrack": {"family": IPV4},
}


def untracked(lab: Lab) -> list[dict[str, Any]]:
    return [each.facts() for each in lab.router.call(rules.read).untracked]


def test_notrack_rules_are_narrowed_by_simple_matches_alone() -> None:
    with Lab(asleep=True) as lab:
        for rule, facts in NARROWED.items():
            more = "set named { type inet_service; elements = { 53 }; }"
            head = "type filter hook prerouting priority raw;"
            load(lab, "flush ruleset\n" + chain(rule, head=head, more=more))
            assert untracked(lab) == [facts], rule
        lab.router.run("nft", "flush", "ruleset")
        for command, facts in IPTABLES.items():
            program, *words = command.split()
            lab.router.run(program, "-t", "raw", "-A", "PREROUTING", *words)
            assert untracked(lab) == [facts], command
            lab.router.run(program, "-t", "raw", "-F")
        load(lab, "iptables-nft -t raw -A PREROUTING -j CT --zone 5")
        assert untracked(lab) == []


def test_rules_of_all_families_and_repeats() -> None:
    with Lab(asleep=True) as lab:
        for family in ("ip", "ip6", "inet", "bridge"):
            head = "type filter hook prerouting priority -300;"
            load(lab, chain("udp dport 53 notrack\nudp dport 53 notrack", family, head))
        dns = UDP | {"ports": [53]}
        found = sorted(untracked(lab), key=str)
        assert found == sorted([dns, {"family": IPV4} | dns, {"family": IPV6} | dns], key=str)
        many = "".join(f"add rule inet t c udp dport {port} notrack\n" for port in range(100, 200))
        load(lab, many)
        assert untracked(lab) == [{}], "too many to list"


@pytest.mark.parametrize("rule", ["udp dport 53 notrack", "udp dport { 53, 99 } notrack"])
def test_a_notrack_rule_hides_what_is_said(lab: Lab, rule: str) -> None:
    load(lab, chain(rule, head=RAW))
    assert reported(lab, {IPV4: 53, IPV6: 53}) == set()
    assert reported(lab, {IPV4: 54, IPV6: 54}) == {IPV4, IPV6}


class Watch:
    """A watcher in the router of a lab; `look` in its namespace."""

    def __init__(self, lab: Lab, **settings: Any) -> None:
        self.lab, self.start = lab, time.time_ns()
        self.watcher = lab.router.call(lambda: Watcher(time.time_ns, self.start, **settings))
        self.before = self.start

    def look(self) -> Look:
        self.now = time.time_ns()
        return self.lab.router.call(lambda: self.watcher.look(self.now))

    def held(self) -> tuple[Look, int]:
        """A look, and the time of the one before it."""
        last = self.now
        return self.look(), last


@pytest.fixture
def watch(lab: Lab) -> Iterator[Watch]:
    made = Watch(lab)
    made.look()
    yield made
    made.watcher.close()


def test_all_is_on(watch: Watch) -> None:
    look = watch.look()
    tracked = {"ipv4": "on", "ipv6": "on"}
    assert look.state == {"events": 1, "timestamps": 1, "tracking": tracked, "notrack": []}
    assert (look.opened, look.closed, look.changed, look.notes) == ((), (), {}, ())
    assert watch.watcher.holes == ()


def test_nat_without_tracking_is_in_the_state(lab: Lab, watch: Watch) -> None:
    """It hides no connection that is tracked, and leaves no entry: `ctlist --coverage` names it."""
    load(lab, chain("ip saddr 192.0.2.1 counter", "ip", RAW))
    assert "stateless" not in watch.look().state
    load(lab, "add rule ip t c ip saddr set 192.0.2.1")
    look = watch.look()
    assert look.changed == {"stateless": ["rules of nftables that write addresses"]}
    assert (look.opened, look.closed) == ((), ())
    assert "stateless" not in watch.look().changed
    load(lab, "flush chain ip t c")
    assert watch.look().changed == {"stateless": []}


def test_flush_and_reload_between_two_looks(lab: Lab, watch: Watch) -> None:
    lab.router.run("nft", "flush", "ruleset")
    time.sleep(0.2)
    assert reported(lab, {IPV4: 9, IPV6: 9}) == set()
    load(lab, RULES)
    look, last = watch.held()
    (hole,) = look.closed
    assert (hole.reason, hole.untranslated, hole.start) == ("not-tracked", True, last)
    assert hole.end is not None
    assert watch.now <= hole.end <= time.time_ns()
    assert hole.scope.facts() == {}
    assert look.opened == ()
    assert watch.look().closed == ()


def test_a_reload_in_one_transaction_hides_nothing(lab: Lab, watch: Watch) -> None:
    load(lab, "flush ruleset\n" + RULES)
    look = watch.look()
    assert (look.opened, look.closed) == ((), ())


def test_busy_firewalls_hide_nothing(lab: Lab, watch: Watch) -> None:
    """Elements that fail2ban adds, forwards that a UPnP daemon adds: several within a second."""
    load(
        lab, "table inet f { set banned { type ipv4_addr; }; chain c { ip saddr @banned drop; }; }"
    )
    watch.look()
    for number in range(3):
        load(lab, f"add element inet f banned {{ 192.0.2.{number} }}")
        load(lab, f"insert rule inet nat prerouting udp dport {number} dnat ip to 192.168.1.80")
    look = watch.look()
    assert (look.opened, look.closed, look.changed) == ((), (), {})


def test_a_notrack_rule_between_two_looks(lab: Lab, watch: Watch) -> None:
    load(lab, chain("udp dport 53 notrack", head=RAW))
    load(lab, "delete table inet t")
    look, last = watch.held()
    assert [(hole.start, hole.untranslated) for hole in look.closed] == [(last, True)]


def test_flushed_rules_and_rules_for_ipv4_alone(lab: Lab, watch: Watch) -> None:
    lab.router.run("nft", "flush", "ruleset")
    look, last = watch.held()
    assert {(hole.reason, hole.scope.family, hole.start) for hole in look.opened} == {
        ("not-tracked", IPV4, last),
        ("not-tracked", IPV6, last),
    }
    load(lab, chain("oifname wan masquerade", "ip", POSTROUTING))
    look = watch.look()
    assert [hole.scope.family for hole in look.closed] == [IPV4]
    assert [note.text for note in look.notes] == ["IPv4 connection tracking is on again"]
    assert [hole.scope.family for hole in watch.watcher.holes] == [IPV6]
    assert look.changed == {"tracking": {"ipv4": "on", "ipv6": "off"}}
    assert reported(lab, {IPV4: 9, IPV6: 9}) == {IPV4}


def test_a_table_that_ends_with_its_owner(lab: Lab) -> None:
    """The generation does not move then, and no transaction is reported."""
    lab.router.run("nft", "flush", "ruleset")
    watch = Watch(lab)

    def rules_there() -> bool:
        return "ct state" in lab.router.run("nft", "list", "ruleset").stdout

    command = lab.router.command("nft", "-i")
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None
        lines = ("table inet o { flags owner; }", "chain inet o c", "rule inet o c ct state new")
        owner.stdin.write("".join(f"add {line}\n" for line in lines))
        owner.stdin.flush()
        wait_until(rules_there, "the rules of the owner")
        assert watch.look().state["tracking"] == {"ipv4": "on", "ipv6": "on"}
        assert watch.look().changed == {}
        before = lab.router.call(watch.watcher.conditions.generation)
    wait_until(lambda: not rules_there(), "their end")
    assert lab.router.call(watch.watcher.conditions.generation) == before
    look, last = watch.held()
    assert [(hole.reason, hole.start) for hole in look.opened] == [("not-tracked", last)] * 2
    watch.watcher.close()


def test_entries_of_rules_that_are_gone_are_left_over(lab: Lab, watch: Watch) -> None:
    reported(lab, {IPV4: 9, IPV6: 9})
    lab.router.run("nft", "flush", "ruleset")
    assert watch.look().state["tracking"] == {"ipv4": "off", "ipv6": "off"}


def test_left_over_entries_make_it_unknown_at_the_start() -> None:
    """Rules that were there may have made them, or a tracker that no rule shows."""
    with Lab() as lab:
        reported(lab, {IPV6: 9})
        lab.router.run("nft", "flush", "ruleset")
        found = lab.router.call(tracking.tracking_of)
        off, unknown = tracking.Tracking.OFF, tracking.Tracking.UNKNOWN
        assert found == {IPV4: off, IPV6: unknown}
        lab.flush()
        assert lab.router.call(tracking.tracking_of) == {IPV4: off, IPV6: off}


NOTRACK = {
    "nft": (chain("udp dport 53 notrack", head=RAW), "delete table inet t"),
    "iptables": (
        "iptables-nft -t raw -A OUTPUT -p udp --dport 53 -j CT --notrack",
        "delete table ip raw",
    ),
}


@pytest.mark.parametrize("kind", NOTRACK)
def test_a_notrack_rule_that_comes_and_goes(lab: Lab, kind: str) -> None:
    watch = Watch(lab, accept_notrack=True)
    watch.look()
    text, undo = NOTRACK[kind]
    load(lab, text)
    look, last = watch.held()
    facts = UDP | {"ports": [53]} | ({"family": IPV4} if kind == "iptables" else {})
    (hole,) = look.opened
    flags = {"number": 1, "open": True, "untranslated": True, "accepted": True}
    assert hole.gap(watch.now).facts == facts | flags
    assert (hole.reason, hole.start) == ("notrack", last)
    assert look.changed == {"notrack": [facts]}
    load(lab, undo)
    look = watch.look()
    assert [each.number for each in look.closed] == [1]
    assert watch.watcher.holes == ()
    watch.watcher.close()


def test_events_0_and_2(lab: Lab, watch: Watch) -> None:
    lab.router.sysctl(nf_conntrack_events=0)
    assert reported(lab, {IPV4: 9, IPV6: 9}) == set()
    look, last = watch.held()
    assert [(hole.reason, hole.start) for hole in look.opened] == [("no-events", last)]
    lab.router.sysctl(nf_conntrack_events=2)
    look = watch.look()
    assert [hole.reason for hole in look.closed] == ["no-events"]
    assert look.needs_dump
    assert reported(lab, {IPV4: 10, IPV6: 10}) == {IPV4, IPV6}, "a listener is enough"


def test_legacy_tables(lab: Lab, watch: Watch) -> None:
    def names() -> dict[str, str]:
        tracked: dict[str, str] = watch.look().state["tracking"]
        return tracked

    load(lab, "iptables-legacy -t nat -A POSTROUTING -o none -j MASQUERADE")
    assert names() == {"ipv4": "on", "ipv6": "on"}
    load(lab, "iptables-legacy -t raw -A PREROUTING -p udp -j CT --notrack")
    assert names() == {"ipv4": "unknown", "ipv6": "on"}
    assert watch.watcher.holes == ()


def test_a_look_without_a_change_is_cheap(lab: Lab, watch: Watch) -> None:
    looks = 500
    before = time.process_time()
    for _ in range(looks):
        watch.watcher.look(time.time_ns())
    cost = (time.process_time() - before) / looks
    print(f"{cost * 1e6:.0f} us of CPU a look")
    assert cost < 200e-6


def test_what_was_hidden_is_a_hole_of_the_recording(tmp_path: Path) -> None:
    """From the last look before to the first one after: no moment of it is called complete."""
    with Lab() as lab:
        recorder = Recorder(lab, tmp_path / "log")
        time.sleep(1.5)
        hidden = time.time()
        lab.router.run("nft", "flush", "ruleset")
        recorder.wait("IPv4 connection tracking is off")
        seen = time.time()
        load(lab, RULES)
        recorder.wait("IPv4 connection tracking is on again")
        time.sleep(2.5)
        recorder.stop()
    with Segment(str(recorder.segments[0])) as segment:
        gaps = [gap for gap in segment.gaps if gap.facts.get("family") == IPV4]
    number = gaps[-1].facts["number"]
    assert [(gap.reason, gap.facts["number"]) for gap in gaps] == [("not-tracked", number)] * 2
    assert [gap.facts.get("open") for gap in gaps] == [True, None]
    assert gaps[-1].begin < hidden * 1e9
    assert gaps[-1].end > seen * 1e9

    def exit_code(moment: float) -> int:
        asked = ("10.9.9.9:1", f"@{moment:.3f}", "--tolerance", 0.2, "-d", tmp_path / "log")
        return ctwho(*asked, code=None).returncode

    assert exit_code((hidden + seen) / 2) == 3
    assert exit_code(gaps[-1].end / 1e9 + 1) == 1
