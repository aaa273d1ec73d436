"""The words of the language, with what they mean: the parser, errors and completion use this table.

No numpy: completion reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ctrecorder import labels, uapi


@dataclass(frozen=True)
class Word:
    """A word.

    `role`: what the parser does with it.
    `value`: what it stands for: a family, a protocol, an end, a direction, a kind, a name.
    """

    name: str
    role: str
    value: str | int
    meaning: str


def _words(role: str, *words: tuple[str, str | int, str]) -> Iterable[Word]:
    return (Word(name, role, value, meaning) for name, value, meaning in words)


# Roles of words that choose ends, and stand before a kind and its values.
QUALIFIERS = frozenset({"family", "protocol", "end", "direction"})

_TABLE = (
    *_words(
        "join",
        ("and", "and", "both"),
        ("&&", "and", "both"),
        ("or", "or", "one of them"),
        ("||", "or", "one of them"),
    ),
    *_words("not", ("not", "not", "what it does not match"), ("!", "not", "what does not match")),
    *_words(
        "family",
        ("ip", uapi.AF_INET, "IPv4, or a host"),
        ("ip4", uapi.AF_INET, "IPv4"),
        ("inet", uapi.AF_INET, "IPv4"),
        ("ip6", uapi.AF_INET6, "IPv6"),
        ("inet6", uapi.AF_INET6, "IPv6"),
    ),
    *(Word(name, "protocol", number, "the protocol") for number, name in uapi.PROTOCOLS.items()),
    Word("icmp6", "protocol", uapi.IPPROTO_ICMPV6, "the protocol"),
    *_words(
        "end",
        ("orig", "orig", "ends of the original tuple"),
        ("reply", "reply", "ends of the reply tuple"),
        ("inside", "inside", "the end that is inside"),
        ("public", "public", "the end that the outside sees"),
        ("remote", "remote", "the end that is outside"),
    ),
    *_words(
        "direction",
        ("src", "src", "the source"),
        ("source", "src", "the source"),
        ("dst", "dst", "the destination"),
        ("destination", "dst", "the destination"),
    ),
    *_words(
        "kind",
        ("host", "host", "an address"),
        ("net", "host", "a network"),
        ("port", "port", "a port"),
        ("portrange", "port", "ports"),
        ("sport", "port", "the source port"),
        ("dport", "port", "the destination port"),
    ),
    *_words(
        "nat",
        ("nat", "nat", "something was translated"),
        ("snat", "snat", "the source was translated"),
        ("dnat", "dnat", "the destination was translated"),
    ),
    *_words(
        "number",
        ("bytes", "bytes", "of both directions"),
        ("packets", "packets", "of both directions"),
        ("duration", "duration", "from start to end"),
        ("zone", "zone", "the conntrack zone"),
        ("mark", "mark", "the conntrack mark"),
    ),
    *_words(
        "named",
        ("proto", "proto", "the protocol"),
        ("event", "event", "the kind of the event"),
        ("state", "state", "the TCP state"),
        ("status", "status", "a bit of the status"),
    ),
    *_words(
        "flag",
        ("any", "any", "every row"),
        ("assured", "assured", "the status ASSURED"),
        ("replied", "replied", "packets in both directions"),
        ("open", "open", "no end is recorded"),
    ),
    *_words(
        "time",
        ("before", "before", "it ended before a time"),
        ("after", "after", "it began after a time"),
        ("at", "at", "it was open at a time"),
        ("between", "between", "it was open between two times"),
    ),
    *_words("value", ("in", "in", "one of a list or of a file"), ("mask", "mask", "of a network")),
)
WORDS: Mapping[str, Word] = {word.name: word for word in _TABLE}

ICMP_PARTS: Mapping[str, str] = {"type": "the ICMP type", "code": "the ICMP code"}
ICMP_TYPES: Mapping[int, Mapping[str, int]] = {
    uapi.IPPROTO_ICMP: {"echo": 8, "echo-reply": 0, "unreachable": 3, "time-exceeded": 11},
    uapi.IPPROTO_ICMPV6: {"echo": 128, "echo-reply": 129, "unreachable": 1, "time-exceeded": 3},
}
# The values that have names.
NAMED: Mapping[str, Mapping[str, int]] = {
    "event": {name.lower(): number for number, name in labels.EVENTS.items()},
    "state": {name.lower(): number for number, name in enumerate(uapi.TCP_STATES)},
    "status": {
        name.removeprefix("IPS_").lower(): value
        for name, value in vars(uapi).items()
        if name.startswith("IPS_") and value & (value - 1) == 0
    },
    "proto": {
        **{name: number for number, name in uapi.PROTOCOLS.items()},
        "icmp6": uapi.IPPROTO_ICMPV6,
    },
}
# Words of tcpdump and nfdump for what conntrack does not tell.
NOT_RECORDED = frozenset(
    (
        *("less", "greater", "len", "ether", "vlan", "flags", "if", "as", "bps"),
        *("pps", "bpp", "tos", "ttl", "gateway", "broadcast", "multicast"),
    )
)


def begins_expression(text: str) -> bool:
    """Whether an argument can be a part of an expression, by how it begins."""
    first = text.lower().split()[0] if text.split() else ""
    word = first.strip("()[]{}!,")
    return (
        not word
        or first[0] in "(!<>="
        or word in WORDS
        or word in ICMP_PARTS
        or (word[0] in "0123456789" and not word.strip("0123456789.:/abcdefx-, "))
        or (":" in word and not word.strip("0123456789abcdef:/., []"))
    )
