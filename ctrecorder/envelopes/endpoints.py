"""Addresses, ports and protocols in a text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from ctrecorder.envelopes.bounds import MAX_ADDRESSES
from ctrecorder.envelopes.text import Field, Text

_V4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_V6 = r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?<=:)" + _V4 + ")?"
# Not a part of a longer number, of a name, of a version or of a range.
_FREE = re.compile(
    rf"(?<![\w.:%-])(?:(?P<v4>{_V4})(?![\w-]|\.\w|/\d)|(?P<v6>{_V6})(?![\w:%-]|\.\w|/\d))", re.ASCII
)
_PORT = re.compile(r"[:#](\d{1,5})(?!\w|[:.]\w)", re.ASCII)
_HASH_PORT = re.compile(r"#(\d{1,5})(?!\w|\.\w)", re.ASCII)
_PORT_WORD = re.compile(
    r"[\])]?[ \t,;]{0,8}(?:\(?(?:source |src[-_ ]?|client )?port)[ \t:=]{1,8}(\d{1,5})(?!\w)",
    re.ASCII | re.IGNORECASE,
)
_BRACKET_PORT = re.compile(r"\]:(\d{1,5})(?!\w|[:.]\w)", re.ASCII)
_NUMBER = re.compile(r"\d{1,5}", re.ASCII)
# The protocols of layer 4 that conntrack tracks, and the names that letters have for them.
_PROTOCOLS = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmpv6", "sctp": "sctp"}
_PROTOCOLS |= {"dccp": "dccp", "gre": "gre", "udplite": "udplite", "ipv6-icmp": "icmpv6"}
_PROTOCOLS |= {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "132": "sctp"}


@dataclass(frozen=True)
class Endpoint:
    """An address at text[start:end], in its shortest form, and the port beside it.

    `port_start`, `port_end`: where the port stands.  `stop`: the end of both.
    """

    address: str
    start: int
    end: int
    port: int = 0
    port_start: int = 0
    port_end: int = 0

    @property
    def stop(self) -> int:
        return max(self.end, self.port_end)

    def address_field(self, text: Text, offset: int = 0) -> Field[str]:
        return text.field(self.address, offset + self.start, offset + self.end)

    def port_field(self, text: Text, offset: int = 0) -> Field[int] | None:
        if not self.port:
            return None
        return text.field(self.port, offset + self.port_start, offset + self.port_end)


@lru_cache(4096)
def address(word: str) -> str:
    """The address in its shortest form; "": not an address that a host can have outside.

    An IPv4-mapped IPv6 address is the IPv4 address.
    """
    try:
        found = ipaddress.ip_address(word)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id:
            return ""
        found = found.ipv4_mapped or found
    if found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local:
        return ""
    # 0.0.0.0/8, and from the former class E to 255.255.255.255.
    if found.version == 4 and not 1 <= int(found) >> 24 < 224:
        return ""
    return str(found)


def port(word: str) -> int:
    """The number of a port; 0: not one."""
    number = int(word) if _NUMBER.fullmatch(word) else 0
    return number if number < 2**16 else 0


def protocol(word: str) -> str:
    """The protocol of layer 4 in lower case; "": not one, such as smtp."""
    return _PROTOCOLS.get(word.strip().lower(), "")


def whole(word: str) -> str:
    """The address that this text is, also in brackets; "": it is none."""
    if word.startswith("[") and word.endswith("]"):
        word = word[1:-1]
    return address(word)


def find(line: str) -> Iterator[Endpoint]:
    """The addresses in a line, with the port that stands beside one: ":567", "#567", "port 567"."""
    for match in islice(_FREE.finditer(line), MAX_ADDRESSES):
        bracket = line[match.start() - 1 : match.start()] == "["
        found = address(match[0])
        alone = bracket or match[0] == line
        if not found or (match["v6"] and not alone and _few_groups(match[0])):
            continue
        beside = _port_beside(line, match.end(), bracket=bracket, six=bool(match["v6"]))
        number = port(beside[1]) if beside else 0
        if beside and number:
            yield Endpoint(found, *match.span(), number, *beside.span(1))
        else:
            yield Endpoint(found, *match.span())


def ambiguous(word: str) -> bool:
    """Whether the last group of an IPv6 address without brackets can be a port: 2001:db8::1:443."""
    left, double, right = word.partition("::")
    groups = right.split(":")
    return bool(left and double and len(groups) > 1 and port(groups[-1]))


def _port_beside(line: str, end: int, *, bracket: bool, six: bool) -> re.Match[str] | None:
    found = _BRACKET_PORT.match(line, end) if bracket else None
    return found or (_HASH_PORT if six else _PORT).match(line, end) or _PORT_WORD.match(line, end)


def _few_groups(word: str) -> bool:
    """As in a::b or 12::30: names and clocks rather than addresses."""
    return word.count(":") < 3 and not word.endswith("::")
