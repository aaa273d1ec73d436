"""An expression as a tree, which `parser` makes and `compile` translates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ctrecorder.ctlog.predicate import Network
from ctrecorder.ends import Inside
from ctrecorder.errors import UsageError


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included.  `mask`: of a mark that is compared with it."""

    low: int
    high: int
    mask: int = 0xFFFFFFFF


class Host(NamedTuple):
    """A value of `host`: networks, and the ports at the same end."""

    networks: tuple[Network, ...]
    ports: tuple[int, int] | None = None


@dataclass(frozen=True)
class Joined:
    """`join`: "and", "or", or "not" of one part."""

    join: str
    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Ends:
    """What ends must be.  `kind`: "host", with `hosts`; "port", with `ports`; or "": neither."""

    family: int = 0
    protocol: int = 0
    end: str = ""
    direction: str = ""
    kind: str = ""
    hosts: tuple[Host, ...] = ()
    ports: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Primitive:
    """Another primitive: its word and its values.

    `side`: "orig", "reply", or the part of ICMP.  `at`: where it stands in the expression.
    """

    word: str
    side: str = ""
    ranges: tuple[Range, ...] = ()
    hosts: tuple[Host, ...] = ()
    at: int = 0


@dataclass(frozen=True)
class Time:
    """A primitive of time; `begin` and `end`: ns."""

    word: str
    begin: int
    end: int


Tree = Joined | Ends | Primitive | Time


@dataclass(frozen=True)
class Context:
    """What an expression is about, beside its text.

    `connections`: of connections, not of events.
    `now`: ns.  `utc`: a time without a zone is UTC.
    `inside`: the addresses that are inside.
    `service`: the port of a name, such as "http".
    `read_file`: the text of a file; raises CtrecorderError.
    """

    connections: bool
    now: int
    utc: bool
    inside: Inside
    service: Callable[[str], int | None]
    read_file: Callable[[str], str]

    def span(self, text: str) -> tuple[int, int]:
        """The span of a time, ns.  Raises UsageError."""
        from ctrecorder.moments.typed import parse_span

        if text[:1] == "@" or any(each.isdigit() for each in text) or text.isalpha():
            return parse_span(text, self.now, utc=self.utc)
        raise UsageError(f"no time '{text}': write for example 2026-11-23 or 18:17")
