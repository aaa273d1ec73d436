"""What the kernel reports of transactions of nft and iptables-nft, and what that is taken for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ctrecorder import uapi
from ctrecorder.kernel.request import RequestSocket
from ctrecorder.kernel.transactions import Effect, Transactions
from tests.support.router import RULES, Lab

BASE = """
table inet t {
    set named { type ipv4_addr; flags timeout; }
    ct timeout o { protocol tcp; l3proto ip; policy = { close : 9 }; }
    counter n { packets 0 bytes 0 }
    chain c {
        ct state new counter
        udp dport 53 notrack
        tcp dport { 22, 23 } counter
    }
}
"""
NONE, READ, HIDES = Effect


class Ruleset:
    """The rules of a lab without others than BASE."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nft(BASE)
        self.requests, self.transactions = lab.router.call(
            lambda: (RequestSocket(), Transactions())
        )

    def nft(self, text: str) -> None:
        if text.startswith("iptables"):
            self.lab.router.run(*text.split())
        else:
            self.lab.router.run("nft", "-f", "-", stdin=text)

    def generation(self) -> int:
        return int.from_bytes(self.requests.ask(uapi.NFT_GETGEN, uapi.AF_UNSPEC)[4:8], "big")

    def effect(self, *texts: str) -> Effect:
        """That of these transactions together."""
        before = self.generation()
        for text in texts:
            self.nft(text)
        assert self.generation() - before == len(texts), "one each"
        return self.transactions.effect(before, self.generation())

    def handle(self, part: str) -> str:
        listed = self.lab.router.run("nft", "-a", "list", "chain", "inet", "t", "c").stdout
        (line,) = (line for line in listed.splitlines() if part in line)
        return line.rpartition(" ")[2]

    def delete(self, part: str) -> str:
        return f"delete rule inet t c handle {self.handle(part)}\n"


@pytest.fixture
def ruleset() -> Iterator[Ruleset]:
    with Lab(asleep=True) as lab:
        made = Ruleset(lab)
        yield made
        made.transactions.close()
        made.requests.close()


EFFECTS = {
    "add element inet t named { 192.0.2.1 timeout 1h }": NONE,
    "add rule inet t c tcp dport 80 counter": NONE,
    "add rule inet t c tcp dport { 80, 81 } counter": NONE,
    "add rule inet t c tcp dport vmap { 80 : accept }": NONE,
    "add chain inet t d": NONE,
    "add set inet t other { type inet_service; }": NONE,
    "add rule inet t c ct state invalid": READ,
    "add rule inet t c notrack": HIDES,
    "add table ip u": READ,
    "delete set inet t named": HIDES,
    "delete counter inet t n": HIDES,
    "delete table inet t": HIDES,
    "flush ruleset": HIDES,
    "iptables-nft -A INPUT -p tcp --dport 80 -j ACCEPT": READ,  # it makes a table
    "iptables-nft -t nat -A POSTROUTING -j MASQUERADE": READ,
    "iptables-nft -t raw -A OUTPUT -p udp -j CT --notrack": HIDES,
}


@pytest.mark.parametrize("text", EFFECTS)
def test_the_effect_of_a_transaction(ruleset: Ruleset, text: str) -> None:
    assert ruleset.effect(text) is EFFECTS[text]


def test_rules_that_are_deleted(ruleset: Ruleset) -> None:
    assert ruleset.effect(ruleset.delete("dport { 22, 23 }")) is NONE
    assert ruleset.effect(ruleset.delete("notrack")) is READ
    assert ruleset.effect(ruleset.delete("ct state")) is HIDES


def test_of_several_the_greatest_counts(ruleset: Ruleset) -> None:
    add = "add element inet t named {{ 192.0.2.{} }}"
    assert ruleset.effect(*(add.format(number) for number in range(9))) is NONE
    assert ruleset.effect(add.format(9), "add rule inet t c ct state new", add.format(10)) is READ
    assert ruleset.effect("flush ruleset", RULES) is HIDES
    assert ruleset.effect() is NONE


def test_reports_that_were_lost(ruleset: Ruleset) -> None:
    """The receive buffer is full: all that was queued is in doubt, and the next transaction."""
    harmless = "add rule inet t c tcp dport 80 counter\n"
    before = ruleset.generation()
    ruleset.nft(harmless * 2000)
    ruleset.nft(harmless)
    assert ruleset.transactions.effect(before, before + 2) is HIDES
    assert ruleset.effect(harmless) is HIDES
    assert ruleset.effect(harmless) is NONE


def test_a_generation_that_was_not_reported(ruleset: Ruleset) -> None:
    now = ruleset.generation()
    for name in "de":
        ruleset.nft(f"add chain inet t {name}")
    assert ruleset.transactions.effect(now, now + 2) is NONE
    assert ruleset.transactions.effect(now + 1, now + 3) is HIDES
