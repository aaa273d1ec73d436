"""A question as it was understood: which address and port, when, with whom.

An address is read in one way or refused.  Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ctrecorder import labels, times, uapi
from ctrecorder.errors import UsageError
from ctrecorder.holders import who
from ctrecorder.moments.moment import Moment

DEFAULT_TOLERANCE_SECONDS = 1.0
MAX_TOLERANCE_SECONDS = 7 * 86_400.0  # no clock is wrong by more than a week
SOURCE, SERVICE, LISTENING, NO_PORT = "source", "service", "listening", "none"
_ICMP = frozenset((uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6))
_WITH_PORTS = frozenset(map(labels.parse_protocol, ("tcp", "udp", "dccp", "sctp", "udplite")))
_MAX_PORT = 65_535


class Target(NamedTuple):
    """An address, without a zone and never IPv4-mapped; `port`: of ICMP the id; None: any."""

    address: str
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self[0]}:{self[1]}"


class Window(NamedTuple):
    """The time of a question: begin <= time < end, ns UTC.

    `text`: as it was written.  `zone`: in which it was read, "" if it is that of this machine.
    `basis`: how the zone is known.  `readings`: how many ways there are to read the text.
    """

    begin: int
    end: int
    text: str
    zone: str
    basis: str
    readings: int = 1


class LetterFacts(NamedTuple):
    """A letter: `file`: its name; `reference`: the sender's number; `form`: "ACNS 2.1 XML"."""

    file: str
    sha256: str
    message_id: str
    sender: str
    reference: str
    form: str


class ReadFrom(NamedTuple):
    """The place of a field in a letter: `text`: the very bytes, shown as text."""

    field: str
    file: str
    part: str
    line: int
    text: str


@dataclass(frozen=True)
class Question:
    """Who held `target` in `window`?

    `role`: of the port: "source", "service", "listening" or "none".
    `protocols`: numbers; empty: any.  `remote`: the other end; None: any.
    `tolerance`: what the clock of who wrote the time may be off by, seconds.
    `why_not`: why it cannot be asked; "": it can.
    `letter`, `sighting`, `read_from`: the letter that asks, the number of the sighting in it, from
    1, and the places of the fields.  `may_listen`: the letter is of a copyright agent, whose port
    can be that on which a program listens inside.  `unasked`: fields of the letter that are not
    asked, each with the reason; without any address.
    """

    target: Target
    window: Window
    role: str
    protocols: frozenset[int] = frozenset()
    remote: Target | None = None
    tolerance: float = DEFAULT_TOLERANCE_SECONDS
    why_not: str = ""
    letter: LetterFacts | None = None
    sighting: int = 0
    read_from: tuple[ReadFrom, ...] = ()
    may_listen: bool = False
    unasked: tuple[str, ...] = ()

    @property
    def asks_icmp(self) -> bool:
        """If the port is an id of ICMP."""
        return bool(self.protocols) and self.protocols <= _ICMP

    @property
    def has_ports(self) -> bool:
        """If a connection of the protocols that are asked for can have ports."""
        return not self.protocols or bool(self.protocols & _WITH_PORTS)

    def query(self) -> who.WhoQuery:
        """What is asked of the archive.

        An id of ICMP and a listening port are not asked: see `persons.flows_of`.
        """
        is_asked = not self.asks_icmp and self.role != LISTENING
        target = self.target if is_asked else self.target._replace(port=None)
        query = who.WhoQuery(
            who.parse_end(str(target)),
            self.window.begin,
            max(self.window.end, self.window.begin + 1),
            who.parse_end(str(self.remote)) if self.remote else None,
            self.protocols,
        )
        spread = query.widened(int(self.tolerance * times.SECOND))
        return replace(spread, add_clock_error=True)


def windows(moment: Moment) -> list[Window]:
    """The windows of a written time: one for each reading, and for each time that a clock showed it
    in that reading.  None: nothing is known of its zone.
    """
    found = [(span, one) for one in moment.readings for span in one.spans]
    return [
        Window(*span, moment.text, one.zone, one.basis.value, len(found)) for span, one in found
    ]


def checked(question: Question) -> Question:
    """The question, if its parts fit together.  Raises UsageError."""
    if not 0 <= question.tolerance <= MAX_TOLERANCE_SECONDS:
        raise UsageError("--tolerance: must be 0 to 604800 seconds")
    if question.protocols & _ICMP and not question.asks_icmp and question.target.port is not None:
        raise UsageError("--protocol: the number is a port, or an id of ICMP: ask for each alone")
    remote = question.remote
    if remote is not None and question.asks_icmp and remote.port is not None:
        raise UsageError("--to: ICMP has no ports: write only the address")
    if remote is not None and (":" in remote.address) != (":" in question.target.address):
        raise UsageError("--to: one address is IPv4, the other one IPv6")
    return question


def parse_target(text: str) -> Target:
    """The target of "192.0.2.7:80", "[2001:db8::1]:80", or an address alone.

    An IPv4-mapped address is the IPv4 address.  What can be read in two ways is refused.  Raises
    UsageError.
    """
    word = text.strip()
    whole = _address(word)
    head, colon, tail = word.rpartition(":")
    before = _address(head) if colon else None
    is_port = tail.isascii() and tail.isdigit() and 0 < len(tail) <= 5
    if whole is not None and before is not None and is_port and not head.endswith("]"):
        raise UsageError(
            f"'{text}' is the address [{whole}], or port {tail} of the address {before}: write "
            f"[{whole}], or [{before}]:{tail}"
        )
    if whole is not None:
        return Target(whole, None)
    if before is None:
        raise UsageError(
            f"no address '{text}': write one as 192.0.2.7:80 or [2001:db8::1]:80, with or without "
            "its port"
        )
    if not is_port or not 0 < int(tail) <= _MAX_PORT:
        raise UsageError(f"no port '{tail}' in '{text}': write a number from 1 to 65535")
    return Target(before, int(tail))


def target_of(address: str, port: int | None) -> Target | None:
    """The target with an address that stands alone; None: it is no address."""
    known = _address(address)
    return None if known is None else Target(known, port)


def _address(text: str) -> str | None:
    """The address `text`, also in brackets, in its usual form; None: it is none."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if bare != text and ":" not in bare:
        return None
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return str(address.ipv4_mapped or address)
    return str(address)


def parse_protocols(words: Sequence[str]) -> frozenset[int]:
    """The numbers of "tcp,udp", "icmp", ..  Raises UsageError."""
    return frozenset(
        labels.parse_protocol(word.strip()) for option in words for word in option.split(",")
    )


def protocols_text(protocols: frozenset[int]) -> str:
    """ "tcp, udp"; "" for any."""
    return ", ".join(labels.protocol(number) for number in sorted(protocols))
