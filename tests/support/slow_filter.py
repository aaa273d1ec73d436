"""The language of ctfilter(7), a row at a time in plain Python: slow, and obviously right.

It was written from that page alone, before the parser.  A row is an object of `ctlist --format
json`, with its times as ns.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Match = Callable[[Row], bool]
Ends = list[tuple[str, Any]]  # address and port, None: it has none
S = 10**9

WORD = re.compile(
    r"""\s+|\[[\da-f]*:[\da-f:.]*\](?::\w+)?|"[^"]*"|&&|\|\||[<>=!]=|[()\[\]{},<>=!]|[^\s()\[\]{},<>=!&|"]+"""
)
FAMILIES = {"ip": 4, "ip4": 4, "inet": 4, "ip6": 6, "inet6": 6}
PROTOCOLS = {
    "icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "icmp6": 58, "icmpv6": 58,
    "sctp": 132, "udplite": 136,
}  # fmt: skip
DIRECTIONS = {"src": "src", "source": "src", "dst": "dst", "destination": "dst"}
KINDS = {"host": "host", "net": "host", "port": "port", "portrange": "port"}
ENDS = {"orig", "reply", "inside", "public", "remote"}
TYPES = {
    "icmp": {"echo": 8, "echo-reply": 0, "unreachable": 3, "time-exceeded": 11},
    "icmp6": {"echo": 128, "echo-reply": 129, "unreachable": 1, "time-exceeded": 3},
}
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
}
FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
FACTORS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass
class Qualifiers:
    """What stands before values of `kind`: host or port."""

    family: int = 0
    protocol: int = 0
    end: str = ""
    direction: str = ""
    kind: str = ""


@dataclass
class Slow:
    """Expressions about rows of connections, or of events; `inside`: networks."""

    now: int
    inside: tuple[str, ...]
    connections: bool = True
    words: list[str] = field(default_factory=list)
    last: Qualifiers | None = None
    negative: bool = False  # the values of the primitive followed !=

    def parse(self, text: str) -> Match:
        """The expression as a function of a row."""
        assert "".join(WORD.findall(text)) == text, text
        self.words = [word for word in WORD.findall(text) if word.strip()]
        self.last = None
        found = self.any_of()
        assert not self.words, self.words
        if not self.connections and "existing" not in text.lower():
            return lambda row: row["event"] != "EXISTING" and found(row)
        return found

    # The words

    def peek(self, number: int = 0) -> str:
        return self.words[number].lower() if number < len(self.words) else ""

    def take(self) -> str:
        return self.words.pop(0)

    def took(self, *wanted: str) -> bool:
        if self.peek() in wanted:
            self.take()
            return True
        return False

    # and, or, not

    def any_of(self) -> Match:
        found = [self.all_of()]
        while self.took("or", "||"):
            found.append(self.all_of())
        return lambda row: any(each(row) for each in found)

    def all_of(self) -> Match:
        found = [self.one()]
        while self.peek() not in ("", ")", "or", "||"):
            self.took("and", "&&")
            found.append(self.one())
        return lambda row: all(each(row) for each in found)

    def one(self) -> Match:
        if self.took("not", "!"):
            inner = self.one()
            return lambda row: not inner(row)
        if self.took("("):
            inner = self.any_of()
            assert self.take() == ")"
            return inner
        self.negative = False
        found = self.primitive()
        return (lambda row: not found(row)) if self.negative else found

    # Primitives

    def primitive(self) -> Match:
        word = self.peek()
        if word == "any":
            self.take()
            return lambda row: True
        if word in ("snat", "dnat", "nat"):
            return self.nat(self.take().lower())
        if word in ("orig", "reply") and self.peek(1) in ("bytes", "packets", "zone"):
            self.take()
            return self.other(self.take().lower(), word)
        if word in ("icmp", "icmp6", "icmpv6") and self.peek(1) in ("type", "code"):
            return self.icmp("icmp" if self.take().lower() == "icmp" else "icmp6")
        if word in SIMPLE or word in TIMES or word in NUMBERS or word in LISTED:
            return self.other(self.take().lower(), "")
        return self.qualified()

    def icmp(self, name: str) -> Match:
        found: list[Match] = [lambda row: number_of(row["protocol"]) == PROTOCOLS[name]]
        while self.peek() in ("type", "code"):
            key = f"orig_icmp_{self.take().lower()}"
            fits = self.values(
                lambda text: TYPES[name][text] if text in TYPES[name] else int(text, 0)
            )
            found.append(partial(_fits, key, fits))
        return lambda row: all(each(row) for each in found)

    def nat(self, word: str) -> Match:
        fits = self.values(address) if is_address(self.peek()) or self.peek() == "in" else None

        def of(row: Row) -> bool:
            source = translated(row, "source") and (not fits or fits(parsed(row["reply_dst"])))
            target = translated(row, "target") and (not fits or fits(parsed(row["reply_src"])))
            return {"snat": source, "dnat": target, "nat": source or target}[word]

        return of

    def other(self, word: str, side: str) -> Match:
        if word in SIMPLE:
            return SIMPLE[word]
        if word in TIMES:
            return self.time(word)
        if word == "proto":
            fits = self.values(lambda text: PROTOCOLS.get(text.lower(), 0) or int(text))
            return lambda row: fits(number_of(row["protocol"]))
        if word == "event":
            fits = self.values(str.upper)
            return lambda row: fits(row["event"])
        if word == "state":
            fits = self.values(str.upper)
            return lambda row: "tcp_state" in row and fits(row["tcp_state"])
        if word == "status":
            fits = self.values(str.upper)
            return lambda row: any(fits(each) for each in row.get("status", []))
        if word == "zone":
            fits = self.values(lambda text: int(text, 0))
            sides = [side] if side else ["orig", "reply"]
            return lambda row: any(
                fits(row.get(f"{each}_zone", row.get("zone", 0)) or row.get("zone", 0))
                for each in sides
            )
        if word == "mark":
            return self.mark()
        if word == "duration":
            fits = self.values(seconds)
            return lambda row: (known := self.duration(row)) is not None and fits(known)
        fits = self.values(amount)
        sides = [side] if side else ["orig", "reply"]

        def counted(row: Row) -> bool:
            if not self.connections and row["event"] != "DESTROY":
                return False
            known = [row[f"{each}_{word}"] for each in sides if f"{each}_{word}" in row]
            return bool(known) and fits(sum(known))

        return counted

    def mark(self) -> Match:
        fits = self.values(lambda text: tuple(int(part, 0) for part in text.split("/")))
        return lambda row: fits(Masked((row.get("mark", 0),)))

    def duration(self, row: Row) -> float | None:
        if self.connections:
            begin, end = row.get("start"), row.get("end", self.now)
        else:
            begin = row.get("start") if row["event"] == "DESTROY" else None
            end = row.get("stop", row["time"])
        return None if begin is None else end - begin

    def time(self, word: str) -> Match:
        first = self.span()
        if word == "between":
            assert self.take().lower() == "and"
            first = first[0], self.span()[1]
        begin, end = first

        def of(row: Row) -> bool:
            if not self.connections:
                started = ended = row["time"]
                known = True
            else:
                ended = row.get("end")
                started = row.get("start", ended)
                known = row.get("start_source") in ("kernel", "receipt")
            if word == "before":
                return ended is not None and ended < begin
            if word == "after":
                return known and started >= end
            return started < end and (ended is None or ended >= begin)

        return of

    def span(self) -> tuple[int, int]:
        text = self.take().strip('"')
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", self.peek()):
            text += " " + self.take()
        for form, length in (
            ("%Y-%m-%d", timedelta(days=1)),
            ("%Y-%m-%d %H:%M", timedelta(minutes=1)),
            ("%Y-%m-%d %H:%M:%S", timedelta(seconds=1)),
            ("%Y-%m-%dT%H:%M:%SZ", timedelta(seconds=1)),
        ):
            try:
                begin = datetime.strptime(text, form).replace(tzinfo=UTC)
            except ValueError:
                continue
            return round(begin.timestamp()) * S, round((begin + length).timestamp()) * S
        raise AssertionError(text)

    # Addresses and ports

    def qualified(self) -> Match:
        begun = len(self.words)
        found = Qualifiers()
        while not found.kind and self.qualifier(found):
            self.take()
        if not found.kind and (found.end or found.direction):
            found.kind = "host"
        if not found.kind and begun > len(self.words):
            return lambda row: of_kind(row, found.family, found.protocol)
        if not found.kind:
            found = self.last or Qualifiers(kind="host")
        self.last = found
        fits = self.values(endpoint) if found.kind == "host" else self.values(port)
        place = int(found.kind == "port")

        def of(row: Row) -> bool:
            if not of_kind(row, found.family, found.protocol):
                return False
            fitting = [
                [fits(one[1] if place else Address(one)) for one in ends if one[place] is not None]
                for ends in self.ends(row, found.end, found.direction)
            ]
            return (all if found.direction == "and" else any)(map(any, fitting))

        return of

    def qualifier(self, found: Qualifiers) -> bool:
        """Whether the next word is a qualifier: it is added."""
        word = self.peek()
        if word in FAMILIES and (is_value(self.peek(1)) or self.peek(1) == "in"):
            found.family, found.kind = FAMILIES[word] if word != "ip" else 0, "host"
        elif word in FAMILIES:
            found.family = FAMILIES[word]
        elif word in PROTOCOLS:
            found.protocol = PROTOCOLS[word]
        elif word in ENDS:
            found.end = word
        elif word in DIRECTIONS:
            found.direction = DIRECTIONS[word]
            if self.peek(1) in ("or", "and") and self.peek(2) in DIRECTIONS:
                found.direction = self.peek(1)
                self.take(), self.take()
        elif word in KINDS:
            found.kind = KINDS[word]
        elif word in ("sport", "dport"):
            found.kind, found.direction = "port", {"s": "src", "d": "dst"}[word[0]]
        else:
            return False
        return True

    def is_inside(self, text: str) -> bool:
        return any(parsed(text) in parsed_network(each) for each in self.inside)

    def ends(self, row: Row, end: str, direction: str) -> list[Ends]:
        """The ends that are looked at; for `src and dst`: the sources, the targets."""
        sides: dict[str, Ends]
        a, b, c, d = (
            (row[f"{each}_{way}"], row.get(f"{each}_{way[0]}port"))
            for each in ("orig", "reply")
            for way in ("src", "dst")
        )
        source, target = self.is_inside(a[0]), self.is_inside(c[0])
        out, in_ = source and not target, target and not source
        if end == "inside":
            sides = {"src": [a] if source else [], "dst": [c] if target else []}
        elif end == "public":
            seen = translated(row, "source") or (out and not is_private(d[0]))
            called = translated(row, "target") or not is_private(b[0])
            sides = {"src": [d] if seen and not in_ else [], "dst": [b] if called and in_ else []}
        elif end == "remote":
            far = c if self.is_inside(b[0]) else b
            sides = {"src": [a] if in_ else [], "dst": [far] if out else []}
        elif end == "reply":
            sides = {"src": [c], "dst": [d]}
        elif end == "orig" or direction:
            sides = {"src": [a], "dst": [b]}
        else:
            sides = {"src": [a, c], "dst": [b, d]}
        if direction in ("src", "dst"):
            return [sides[direction]]
        return [sides["src"], sides["dst"]]

    # Values

    def values(self, parse: Callable[[str], Any]) -> Callable[[Any], bool]:
        """Whether something is one of the values that follow."""
        word = self.peek()
        if word in COMPARED or word == "!=":
            self.take()
            wanted = self.item(parse)
            if word in ("=", "==", "!="):
                self.negative = word == "!="
                return wanted
            low = parse(self.before_item)
            return lambda one: COMPARED[word](one, low)
        if self.took("in"):
            if self.took("["):
                items = []
                while not self.took("]"):
                    items.append(self.item(parse))
                    self.took(",")
            else:
                text = self.peek()
                if is_value(text):
                    items = [self.item(parse)]
                else:
                    lines = Path(self.take().strip('"')).read_text().splitlines()
                    found = " ".join(each.partition("#")[0] for each in lines)
                    items = [
                        self.of_text(each, parse) for each in re.split(r"[\s,]+", found) if each
                    ]
        elif self.took("("):
            items = [self.item(parse)]
            while self.took("or", "||", ","):
                items.append(self.item(parse))
            assert self.take() == ")"
        else:
            items = [self.item(parse)]
            while self.took(","):
                items.append(self.item(parse))
        return lambda one: any(each(one) for each in items)

    before_item = ""

    def item(self, parse: Callable[[str], Any]) -> Callable[[Any], bool]:
        text = self.before_item = self.take()
        if self.took("mask"):
            text += "/" + self.take()
        return self.of_text(text, parse)

    def of_text(self, text: str, parse: Callable[[str], Any]) -> Callable[[Any], bool]:
        low, dash, high = text.partition("-")
        if dash and parse is not str.upper and (low[:1].isdigit() or ":" in low):
            first, last = parse(low), parse(high)
            return lambda one: first <= one and one <= last
        value = parse(text)
        return lambda one: one == value


class Masked(tuple[int, ...]):
    """A mark, compared with (value,) or (value, mask)."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, tuple)
        mask = other[1] if len(other) > 1 else 0xFFFFFFFF
        return bool(self[0] & mask == other[0] & mask)


class Address:
    """An end of a row, compared with what `endpoint` gives."""

    def __init__(self, end: tuple[str, Any]) -> None:
        self.address, self.port = parsed(end[0]), end[1]

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, tuple)
        networks, port = other
        return self.address in networks and (port is None or self.port == port)

    def __ge__(self, other: Any) -> bool:
        return bool(self.address.version == other[0].version and self.address >= other[0][0])

    def __le__(self, other: Any) -> bool:
        return bool(self.address.version == other[0].version and self.address <= other[0][0])


@cache
def parsed(text: str) -> Any:
    return ipaddress.ip_address(text)


@cache
def parsed_network(text: str) -> Any:
    return ipaddress.ip_network(text)


def address(text: str) -> Any:
    """Compared with the parsed address of a row."""
    return Network(endpoint(text)[0])


class Network:
    """Equal to the addresses in it."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def __eq__(self, other: object) -> bool:
        return other in self.network


def endpoint(text: str) -> tuple[Any, int | None]:
    """The network and the port of an address, a network, an address and a port."""
    found = re.fullmatch(r"\[(.*)\]:(\S+)|(\d+\.[\d.]+):(\S+)", text)
    if found:
        return ipaddress.ip_network(found[1] or found[3]), port(found[2] or found[4])
    if re.fullmatch(r"\d+(\.\d+){0,2}", text):  # its first numbers
        numbers = text.split(".")
        text = f"{'.'.join([*numbers, *['0'] * (4 - len(numbers))])}/{8 * len(numbers)}"
    return ipaddress.ip_network(text.strip("[]"), strict=False), None


def port(text: str) -> int:
    return int(text) if text.isdigit() else socket.getservbyname(text.lower())


def amount(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)([kmgt]?i?)", text.lower())
    assert found, text
    return round(float(found[1]) * FACTORS[found[2]])


def seconds(text: str) -> float:
    if text.isdigit():
        return int(text) * S
    return round(sum(float(n) * SECONDS[u] for n, u in re.findall(r"([\d.]+)([a-z]+)", text)) * S)


def number_of(protocol: str) -> int:
    return PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol)


def of_kind(row: Row, family: int, protocol: int) -> bool:
    return (not family or parsed(row["orig_src"]).version == family) and (
        not protocol or number_of(row["protocol"]) == protocol
    )


def translated(row: Row, side: str) -> bool:
    """Whether NAT changed the source, or the target."""
    one, other, ports = (
        ("orig_src", "reply_dst", ("orig_sport", "reply_dport"))
        if side == "source"
        else ("orig_dst", "reply_src", ("orig_dport", "reply_sport"))
    )
    if row["protocol"] in ("icmp", "icmpv6"):
        ports = ("orig_icmp_id", "reply_icmp_id") if side == "source" else ("", "")
    return bool(row[one] != row[other] or row.get(ports[0]) != row.get(ports[1]))


def is_private(text: str) -> bool:
    """Whether an address has no meaning outside of its network."""
    return any(parsed(text) in parsed_network(each) for each in PRIVATE)


def is_address(text: str) -> bool:
    return bool(re.fullmatch(r"\[?[\da-f]*[.:][\da-f.:/\]-]*\S*", text)) and text[:1] not in "/"


def is_value(text: str) -> bool:
    return is_address(text) or text[:1].isdigit()


def _fits(key: str, fits: Callable[[Any], bool], row: Row) -> bool:
    return key in row and fits(row[key])


def has(bit: str) -> Match:
    return lambda row: bit in row.get("status", [])


SIMPLE: dict[str, Match] = {
    "assured": has("ASSURED"),
    "replied": has("SEEN_REPLY"),
    "open": lambda row: "end" not in row,
}
TIMES = {"before", "after", "at", "between"}
NUMBERS = {"bytes", "packets", "duration", "mark", "zone"}
LISTED = {"proto", "event", "state", "status"}
