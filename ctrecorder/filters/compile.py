"""An expression compiled once: to conditions on rows, and to what a query can skip for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ctrecorder import uapi
from ctrecorder.columns import Event
from ctrecorder.ctlog.predicate import (
    ALL_ENDPOINTS,
    EVERY_EVENT,
    HAPPENED,
    ORIG_DST,
    ORIG_SRC,
    REPLY_DST,
    REPLY_SRC,
    Condition,
    Query,
    Term,
)
from ctrecorder.filters import conditions
from ctrecorder.filters.conditions import Every, Not, Some
from ctrecorder.filters.ends import AtEnd, Endpoint
from ctrecorder.filters.lexer import refuse
from ctrecorder.filters.parser import parse
from ctrecorder.filters.tree import Context, Ends, Host, Joined, Primitive, Range, Time, Tree
from ctrecorder.times import BEGIN, END

_TUPLES = {
    "": {"src": (ORIG_SRC,), "dst": (ORIG_DST,), "or": (ORIG_SRC, ORIG_DST)},
    "orig": {"": (ORIG_SRC, ORIG_DST), "src": (ORIG_SRC,), "dst": (ORIG_DST,)},
    "reply": {"": (REPLY_SRC, REPLY_DST), "src": (REPLY_SRC,), "dst": (REPLY_DST,)},
}


@dataclass(frozen=True)
class Filter:
    """A compiled expression.

    `conditions`: a row matches if all of them match, and it is of `protocols` (empty: of any).
    `events`: the events that can match.
    `since`, `until`: no row that touches nothing of this time matches, ns.
    """

    conditions: tuple[Condition, ...]
    protocols: frozenset[int] = frozenset()
    events: frozenset[int] = HAPPENED
    since: int = BEGIN
    until: int = END


def merged(
    filters: Iterable[Filter],
    since: int = BEGIN,
    until: int = END,
    protocols: frozenset[int] = frozenset(),
    events: frozenset[int] = frozenset(),
) -> Query:
    """The query for what all `filters` match, in a window, of `protocols` and `events`.

    Without a window, it is that of the first filter which has one.
    """
    terms: list[Condition] = []
    for each in filters:
        terms += each.conditions
        if each.protocols and protocols:
            terms.append(conditions.Protocols(_ranges(each.protocols)))
        protocols = protocols or each.protocols
        if (since, until) == (BEGIN, END):
            since, until = each.since, each.until
        if not events and each.events != HAPPENED:
            events = each.events
    return Query(since, until, protocols, events or HAPPENED, tuple(terms))


def compile_filter(text: str, context: Context) -> Filter:
    """The expression compiled.

    Raises UsageError, with the text and a caret below the mistake in its context.
    """
    tree = parse(text, context)
    compiler = _Compiler(text, context)
    condition = compiler.compiled(tree)
    parts = condition.parts if isinstance(condition, Every) else (condition,)
    protocols = [part for part in parts if isinstance(part, conditions.Protocols)]
    rest = parts
    only: frozenset[int] = frozenset()
    if len(protocols) == 1:
        only = frozenset(
            n for each in protocols[0].ranges for n in range(each.low, min(each.high, 255) + 1)
        )
        rest = tuple(part for part in parts if part is not protocols[0]) if only else parts
    since, until = _window(part for part in parts if isinstance(part, conditions.Life))
    events = EVERY_EVENT if compiler.names_existing else HAPPENED
    return Filter(rest, only, events, since, until)


def _window(lives: Iterable[conditions.Life]) -> tuple[int, int]:
    """The time that every match touches, by conditions that all hold."""
    since, until, touched = BEGIN, END, []
    for life in lives:
        if life.word == "before":
            until = min(until, life.begin)
        elif life.word == "after":
            since = max(since, life.end)
        else:
            touched.append((life.begin, life.end))
    if (since, until) == (BEGIN, END) and len(touched) == 1:
        return touched[0]
    return (since, until) if since < until else (BEGIN, END)


class _Compiler:
    def __init__(self, text: str, context: Context) -> None:
        self._text, self._context = text, context
        self.names_existing = False

    def compiled(self, tree: Tree, negated: bool = False) -> Condition:
        """The condition of a tree, or of its opposite.  A `Not` is only around one condition."""
        if isinstance(tree, Joined):
            if tree.join == "not":
                return self.compiled(tree.parts[0], not negated)
            parts = [self.compiled(part, negated) for part in tree.parts]
            return _every(parts) if (tree.join == "and") is not negated else _some(parts)
        return _negated(self._primitive(tree), negated)

    def _primitive(self, tree: Ends | Primitive | Time) -> Condition:
        if isinstance(tree, Ends):
            return self._ends(tree)
        if isinstance(tree, Time):
            return conditions.Life(tree.word, tree.begin, tree.end, self._context.connections)
        word, ranges = tree.word, tree.ranges
        if word in ("nat", "snat", "dnat"):
            return self._nat(word, tree.hosts)
        if word in ("assured", "replied"):
            return conditions.Status(uapi.IPS_ASSURED if word == "assured" else uapi.IPS_SEEN_REPLY)
        if word == "status":
            return conditions.Status(sum({each.low for each in ranges}))
        if word == "zone":
            sides = (tree.side,) if tree.side else ("orig", "reply")
            return _some([conditions.Zone(side, ranges) for side in sides])
        if word in ("bytes", "packets"):
            return conditions.Counted(word, tree.side, ranges, self._context.connections)
        if word == "duration":
            return conditions.Duration(ranges, self._context.now, self._context.connections)
        return self._simple(tree)

    def _simple(self, tree: Primitive) -> Condition:
        word, ranges, connections = tree.word, tree.ranges, self._context.connections
        if word == "proto":
            return conditions.Protocols(ranges)
        if word == "icmp":
            return conditions.Icmp(tree.side, ranges)
        if word == "mark":
            return conditions.Mark(ranges)
        if word == "state":
            return conditions.Named("tcp_state", ranges, known=True)
        if word == "event":
            if connections:
                refuse(self._text, tree.at, "'event' is of events, and -s lists connections")
            self.names_existing |= any(each.low == Event.EXISTING for each in ranges)
            return conditions.Named("event", ranges)
        if word == "open":
            if not connections:
                refuse(
                    self._text, tree.at, "'open' is of connections: write -s before the expression"
                )
            return conditions.Named("end", (Range(0, 0),))
        return Every()

    def _nat(self, word: str, hosts: tuple[Host, ...]) -> Condition:
        """`snat` and the like; with `hosts`, to one of these addresses."""
        found = []
        for name, end in (("snat", REPLY_DST), ("dnat", REPLY_SRC)):
            if word in (name, "nat"):
                condition: Condition = conditions.Nat(snat=name == "snat")
                found.append(
                    _every([_some(self._hosts(hosts, (end,))), condition]) if hosts else condition
                )
        return _some(found)

    def _ends(self, tree: Ends) -> Condition:
        """A primitive about ends."""
        parts: list[Condition] = []
        if tree.family:
            parts.append(conditions.Family(tree.family))
        if tree.protocol:
            parts.append(conditions.Protocols((Range(tree.protocol, tree.protocol),)))
        if tree.kind and tree.direction == "and":
            parts += [self._at(replace(tree, direction=side)) for side in ("src", "dst")]
        elif tree.kind:
            parts.append(self._at(tree))
        return _every(parts)

    def _at(self, tree: Ends) -> Condition:
        """The values at the ends of a direction."""
        if tree.end in ("inside", "public", "remote"):
            direction = "" if tree.direction == "or" else tree.direction
            return _some(
                AtEnd(tree.end, direction, value, self._context.inside) if value else Not(Every())
                for value in self._values(tree, ())
            )
        direction = "" if tree.direction == "or" and tree.end else tree.direction
        endpoints = _TUPLES[tree.end].get(direction, ALL_ENDPOINTS)
        return _some(value or Not(Every()) for value in self._values(tree, endpoints))

    def _values(self, tree: Ends, endpoints: tuple[Endpoint, ...]) -> list[Term | None]:
        """Terms of which one must match, at `endpoints`; None: nothing matches."""
        if tree.kind == "port":
            ports = [(each.low, min(each.high, 65535)) for each in tree.ports]
            ports = [(low, high) for low, high in ports if low <= high]
            return [Term(ports=tuple(ports), endpoints=endpoints) if ports else None]
        return [*self._hosts(tree.hosts, endpoints)]

    @staticmethod
    def _hosts(hosts: tuple[Host, ...], endpoints: tuple[Endpoint, ...]) -> list[Term]:
        """One of `hosts` is at one of the endpoints: all that have no port are one term."""
        networks = tuple(one for host in hosts if host.ports is None for one in host.networks)
        found = [Term(networks, endpoints=endpoints)] if networks else []
        found += [Term(host.networks, (host.ports,), endpoints) for host in hosts if host.ports]
        return found


def _every(parts: Iterable[Condition]) -> Condition:
    """All of `parts`, those of an `Every` taken by themselves."""
    flat: list[Condition] = []
    for part in parts:
        flat += part.parts if isinstance(part, Every) else (part,)
    return flat[0] if len(flat) == 1 else Every(tuple(flat))


def _some(parts: Iterable[Condition]) -> Condition:
    """One of `parts`, at least one."""
    flat: list[Condition] = []
    for part in parts:
        flat += part.parts if isinstance(part, Some) else (part,)
    return flat[0] if len(flat) == 1 else Some(tuple(flat))


def _negated(condition: Condition, negated: bool) -> Condition:
    """The condition, or its opposite with each `Not` at a single condition."""
    if not negated:
        return condition
    if isinstance(condition, Not):
        return condition.part
    if isinstance(condition, Every | Some) and condition.parts:
        parts = [_negated(part, True) for part in condition.parts]
        return _some(parts) if isinstance(condition, Every) else _every(parts)
    return Not(condition)


def _ranges(numbers: Iterable[int]) -> tuple[Range, ...]:
    return tuple(Range(number, number) for number in sorted(numbers))
