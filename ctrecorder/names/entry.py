"""One statement of a source: a name held a network for a time."""

from __future__ import annotations

import socket
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from ctrecorder.errors import UsageError
from ctrecorder.times import END, SECOND

# A longer name is no name, but memory.
MAX_NAME = 256
# ::ffff:0:0/96, where IPv4 is.
_IPV4, _MAPPED = 96, b"\0" * 10 + b"\xff\xff"


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


@lru_cache(maxsize=65_536)
def network(text: str) -> Network:
    """The network of "192.0.2.1", "2001:db8::/56"; bits after its length are ignored.

    Raises ValueError with a reason.
    """
    word, slash, length = text.strip().partition("/")
    family, added = (socket.AF_INET6, 0) if ":" in word else (socket.AF_INET, _IPV4)
    try:
        packed = socket.inet_pton(family, word)
        bits = int(length) if length.isascii() and length.isdigit() and len(length) < 4 else -1
        if slash and not 0 <= bits <= len(packed) * 8:
            raise ValueError
    except (OSError, ValueError):
        raise ValueError(f"'{text.strip()}' is no address or prefix") from None
    key = _MAPPED + packed if added else packed
    return masked(Network(key, 128), bits + added) if slash else Network(key, 128)


def masked(address: Network, length: int) -> Network:
    """The network of this length that has the address."""
    if length == 128:
        return address
    bits = int.from_bytes(address.key) >> (128 - length) << (128 - length)
    return Network(bits.to_bytes(16), length)


class Addresses:
    """Addresses that a question is about; None: all."""

    def __init__(self, addresses: Collection[str] | None) -> None:
        self._all = addresses is None
        self._asked = [network(each) for each in addresses or ()]
        self._networks: dict[int, set[bytes]] = {}

    def touch(self, network: Network) -> bool:
        """Whether one of them is in the network."""
        if self._all:
            return True
        keys = self._networks.get(network.length)
        if keys is None:
            keys = {
                masked(each, network.length).key
                for each in self._asked
                if network.length >= shortest(each)
            }
            self._networks[network.length] = keys
        return network.key in keys


def shortest(address: Network) -> int:
    """The length of the greatest network of the address's family."""
    return _IPV4 if address.key.startswith(_MAPPED) else 0


def checked_name(text: str) -> str:
    """A name without white space around it.  Raises ValueError: none, or too long."""
    name = text.strip()
    if not name:
        raise ValueError("it has no name")
    if len(name) > MAX_NAME:
        raise ValueError(f"its name has more than {MAX_NAME} characters")
    return name


def seconds(text: str) -> int:
    """A number of seconds.  Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise ValueError(f"'{text}' is no number of seconds")
    return int(text)


def second(text: str) -> int:
    """Seconds since 1970 in ns.  Raises ValueError: no number, or a length of time."""
    number = seconds(text)
    if number < 10**9:
        raise ValueError(f"'{text}' is a length of time, not a time: a machine without a clock?")
    return min(number * SECOND, END)
