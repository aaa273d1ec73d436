"""Names of values: protocols, events, status bits, TCP states, sources of a time.

All formats, completion and the command line use the same spelling: the kernel's, as `conntrack`.
No numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from ctrecorder import uapi
from ctrecorder.errors import UsageError

FAMILIES: Mapping[int, str] = {uapi.AF_INET: "IPv4", uapi.AF_INET6: "IPv6"}


class Event(IntEnum):
    """Values of the column `event`."""

    NEW = 1
    UPDATE = 2
    DESTROY = 3
    EXISTING = 4  # seen in a dump of the table: a state, not an event


class Source(IntEnum):
    """Values of the columns `start_source` and `end_source`: the source of a time."""

    UNKNOWN = 0  # the time is 0
    KERNEL = 1  # CTA_TIMESTAMP: the kernel's own clock at insertion or expiry
    RECEIPT = 2  # the time of the event, by CTA_TIMESTAMP_EVENT or by the recorder's clock
    BOUND = 3  # a dump of the table gives a bound only: started, or ended, at or before this time


EVENTS = {event.value: event.name for event in Event}
# The bits of the column `seen`.
SEEN = {1 << (event - 1): event.name for event in Event}
SOURCES = {source.value: source.name.lower() for source in Source}
# The kernel's header calls it ICMPV6; getprotobyname(3) and the C ctrecorder say ipv6-icmp.
_ALIASES = {"ipv6-icmp": 58, "icmp6": 58}
_STATUS = {
    value: name.removeprefix("IPS_")
    for name, value in vars(uapi).items()
    if name.startswith("IPS_") and value & (value - 1) == 0
}


def protocol(number: int) -> str:
    """The name of an L4 protocol; its number if connection tracking has no tracker for it."""
    return uapi.PROTOCOLS.get(number, str(number))


def event(number: int) -> str:
    """The name of an event; its number if it is unknown (in a damaged file)."""
    return EVENTS.get(number, str(number))


def tcp_state(number: int) -> str:
    """The name of a TCP state of the kernel's tracker; its number if it is unknown."""
    return uapi.TCP_STATES[number] if number < len(uapi.TCP_STATES) else str(number)


def status(bits: int) -> list[str]:
    """The names of the status bits that are set, lowest first.

    All bits without a name are one hexadecimal number at the end.
    """
    return _bits(bits, _STATUS)


def seen(bits: int) -> list[str]:
    """The names of the events that a connection was made of."""
    return _bits(bits, SEEN)


def helper(name: bytes) -> str:
    """The name of a helper; "?" for what is no letter, digit, point, dash or _ of ASCII."""
    text = name.rstrip(b"\0").decode("latin-1")
    return "".join(
        one if one.isascii() and (one.isalnum() or one in "-_.") else "?" for one in text
    )


def label_numbers(bits: bytes) -> list[str]:
    """The numbers of the conntrack labels that are set."""
    number = int.from_bytes(bits, "little")
    return [str(bit) for bit in range(number.bit_length()) if number >> bit & 1]


def _bits(bits: int, called: Mapping[int, str]) -> list[str]:
    names = [name for bit, name in sorted(called.items()) if bits & bit]
    rest = bits & ~sum(called)
    return [*names, f"0x{rest:x}"] if rest else names


def parse_protocol(text: str) -> int:
    """The number of the L4 protocol `text`, a name or a number.  Raises UsageError."""
    numbers = {**{name: number for number, name in uapi.PROTOCOLS.items()}, **_ALIASES}
    found = numbers.get(text.lower())
    if found is None and text.isascii() and text.isdigit() and len(text) <= 3 and int(text) < 256:
        found = int(text)
    if found is None:
        raise UsageError(
            f"no such protocol '{text}': use {', '.join(uapi.PROTOCOLS.values())} "
            "or a number from 0 to 255"
        )
    return found


def parse_event(text: str) -> int:
    """The number of the event `text`.  Raises UsageError."""
    for number, name in EVENTS.items():
        if text.upper() == name:
            return number
    raise UsageError(f"no such event '{text}': use {', '.join(EVENTS.values()).lower()}")
