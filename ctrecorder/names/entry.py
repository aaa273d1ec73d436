"""One statement of a source: a name held a network for a time."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from ctrecorder.errors import UsageError
from ctrecorder.times import END, SECOND

# A longer name is no name, but memory.
MAX_NAME = 256


class TooManyError(UsageError):
    """More than fits into the memory that is allowed."""


class Line(NamedTuple):
    """A line of a source: the number of its file, its own from 1, and its text."""

    file: int
    number: int
    text: str


class Network(NamedTuple):
    """A network: IPv4 is inside ::ffff:0:0/96.

    `key`: 16 bytes; the bits after `length` are 0.
    """

    key: bytes
    length: int


class Entry(NamedTuple):
    """`name` held `network` in [since, until) ns.

    BEGIN, END: not told.  `zone`, `mark`: of its connections; None: of any.
    """

    network: Network
    since: int
    until: int
    name: str
    place: Line
    zone: int | None = None
    mark: int | None = None


def network(text: str) -> Network:
    """The network of "192.0.2.1", "2001:db8::/56"; bits after its length are ignored.

    Raises ValueError with a reason.
    """
    word = text.strip()
    try:
        parsed = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise ValueError(f"'{word}' is no address or prefix") from None
    packed, length = parsed.network_address.packed, parsed.prefixlen
    if len(packed) == 4:
        return Network(b"\0" * 10 + b"\xff\xff" + packed, length + 96)
    return Network(packed, length)


def checked_name(text: str) -> str:
    """A name without white space around it.  Raises ValueError: none, or too long."""
    name = text.strip()
    if not name:
        raise ValueError("it has no name")
    if len(name) > MAX_NAME:
        raise ValueError(f"its name has more than {MAX_NAME} characters")
    return name


def second(text: str) -> int:
    """Seconds since 1970 in ns.  Raises ValueError: no number, or a length of time."""
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise ValueError(f"'{text}' is no time")
    if int(text) < 10**9:
        raise ValueError(f"'{text}' is a length of time, not a time: a machine without a clock?")
    return min(int(text) * SECOND, END)
