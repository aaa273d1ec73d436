"""The persons of an answer: the inside hosts that held the address, each with its connections.

A person is an inside address in a zone of connection tracking, with a mark: two customers can have
one inside address.  Of many routers that have nothing in common, it is one of a router.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ctrecorder.columns import Source
from ctrecorder.connections.parts import RECEIPT_LATE_NS
from ctrecorder.holders import candidates, who
from ctrecorder.inquiry.question import LISTENING, SERVICE, Question
from ctrecorder.render import who as render_who
from ctrecorder.render.who import Holder
from ctrecorder.times import BEGIN, END, MICROSECOND, SECOND

if TYPE_CHECKING:
    from ctrecorder.names.directory import Directory
    from ctrecorder.names.directory import Holder as Holding


class Person(NamedTuple):
    """An inside host.

    `flows`: its connections, by start.
    `only_by_tolerance`: each of them had ended before the time, or began after it.
    `start`, `end`: of all, ns UTC, and the source of each; 0 and UNKNOWN if one of them is not
    known.
    `customers`: who held the inside address then; None: nobody was asked.
    `routers`: which recorded it, if the answer is of many that have nothing in common.
    """

    address: str
    zone: int
    mark: int
    flows: tuple[Holder, ...]
    only_by_tolerance: bool
    start: int
    start_source: int
    end: int
    end_source: int
    customers: tuple[Holding, ...] | None = None
    routers: tuple[str, ...] = ()

    @property
    def translated(self) -> bool:
        """If a connection was translated."""
        return any(flow.translated for flow in self.flows)

    @property
    def ports(self) -> list[int]:
        """The inside ports, of ICMP the ids."""
        return sorted({flow.inside.port for flow in self.flows if flow.inside.port is not None})


def persons_of(question: Question, answer: who.Answer, asked: who.WhoQuery) -> tuple[Person, ...]:
    """The persons of an answer to `asked`, who of them held the address at the very time first."""
    by_host: dict[_Key, list[Holder]] = {}
    for flow in flows_of(question, answer, asked):
        by_host.setdefault(_Key(flow.inside.address, flow.zone, flow.mark), []).append(flow)
    found = [
        _person(key, flows, question)._replace(routers=routers)
        for key, all_flows in by_host.items()
        for routers, flows in (_apart(all_flows) if answer.apart else [((), all_flows)])
    ]
    return tuple(
        sorted(
            found,
            key=lambda one: (one.only_by_tolerance, one.flows[0].start, one.address, one.routers),
        )
    )


class _Key(NamedTuple):
    """What tells hosts of a router apart."""

    address: str
    zone: int
    mark: int


def _apart(flows: Iterable[Holder]) -> list[tuple[tuple[str, ...], list[Holder]]]:
    """The flows of one inside address, divided by the routers that recorded them.

    Routers that recorded one flow both stand for one host.
    """
    parts: list[tuple[set[str], list[Holder]]] = []
    for flow in flows:
        same = [part for part in parts if not part[0].isdisjoint(flow.routers)]
        parts = [part for part in parts if part not in same]
        routers = set(flow.routers).union(*(part[0] for part in same))
        parts.append((routers, [*(one for part in same for one in part[1]), flow]))
    return [(tuple(sorted(routers)), members) for routers, members in parts]


def flows_of(question: Question, answer: who.Answer, asked: who.WhoQuery) -> list[Holder]:
    """The connections of an answer, by start.

    Of ICMP those with the id that the question names.  Of a service those that called it.  A
    listening port that nobody called outside is that of an inside host: then those of all.
    """
    found: Iterable[Holder] = [
        one
        for router, table in zip(answer.routers, answer.tables, strict=True)
        for one in render_who.holders(table, *candidates.roles(table, asked.held), router)
    ]
    if len(answer.hosts) > 1:
        found = render_who.joined(found)
    wanted = question.target.port
    if question.asks_icmp and wanted is not None:
        found = [flow for flow in found if flow.public.port == wanted]
    if question.role == SERVICE:
        found = [flow for flow in found if flow.inbound]
    found = list(found)
    if question.role == LISTENING:
        found = [flow for flow in found if _is_listening(flow, question)] or found
    return sorted(found, key=lambda flow: flow.start or flow.end)


def shares_address(question: Question, flows: Iterable[Holder]) -> bool:
    """If `flows` are those of all hosts that used the address, because no port and no remote end
    tells them apart.
    """
    if question.remote is not None:
        return False
    if question.role == LISTENING:
        return not any(_is_listening(flow, question) for flow in flows)
    return question.target.port is None


def _is_listening(flow: Holder, question: Question) -> bool:
    """If a remote host called the listening port: then it is mapped to the inside host."""
    return flow.inbound and flow.public.port == question.target.port


def span_of_names(person: Person, asked: who.WhoQuery) -> tuple[int, int]:
    """The time in which whoever held the inside address can be meant, ns: from the begin of its
    first connection to the end of the asked span, and never less than that span.  A change at its
    edge is in it.
    """
    late = {Source.RECEIPT: RECEIPT_LATE_NS}
    starts = [
        flow.start - late.get(Source(flow.start_source), 0)
        for flow in person.flows
        if flow.start_source != Source.UNKNOWN
    ]
    return min([asked.since, *starts]) - 1, asked.until + 1


def named(persons: Iterable[Person], names: Directory, asked: who.WhoQuery) -> tuple[Person, ...]:
    """The persons with the customers that can have held their inside address: all of the time of
    `span_of_names`.  Raises CtrecorderError: that cannot be told.
    """
    return tuple(
        person._replace(
            customers=names.holders(
                person.address, *span_of_names(person, asked), person.zone, person.mark
            )
        )
        for person in persons
    )


def doubts_of_names(
    persons: Iterable[Person], asked: who.WhoQuery, unread: Sequence[str]
) -> Iterator[str]:
    """Why the customers of the persons are not proved.  `unread`: what was not read of --names."""
    known = [person for person in persons if person.customers]
    if known and unread:
        yield "not all of --names could be read: what is missing can name another customer"
    for person in known:
        if not _is_covered(person.customers or (), *span_of_names(person, asked)):
            yield f"--names does not tell who had {person.address} in all of that time"


def _is_covered(customers: Iterable[Holding], since: int, until: int) -> bool:
    """If at each moment of [since, until) one of them held it."""
    spans = [
        (BEGIN if one.since is None else one.since, END if one.until is None else one.until)
        for one in customers
    ]
    for begin, end in sorted(spans):
        if begin > since:
            return False
        since = max(since, end)
    return since >= until


def count_of(persons: Iterable[Person]) -> int:
    """How many people the persons can be: an inside host that two customers had is two."""
    return sum(max(1, len({one.name for one in person.customers or ()})) for person in persons)


def is_only_by_tolerance(flow: Holder, begin: int, end: int) -> bool:
    """If a connection ended before `begin`, or is known to have begun at `end` or later.

    ctsqueeze cuts an end to microseconds, and a start that is a time of receipt may be late.
    """
    cut = begin // MICROSECOND * MICROSECOND
    ended = flow.end_source != Source.UNKNOWN and flow.end < cut
    is_exact = flow.start_source in (Source.KERNEL, Source.RECEIPT)
    late = RECEIPT_LATE_NS if flow.start_source == Source.RECEIPT else 0
    return ended or (is_exact and flow.start - late >= end)


def doubts_of_receipts(persons: Iterable[Person], asked: who.WhoQuery) -> Iterator[str]:
    """Why it is not certain that anybody held the address in the span of `asked`: an event that the
    kernel does not date is dated when it is received, which can be late.
    """
    flows = [flow for person in persons for flow in person.flows]
    if flows and all(_may_be_outside(flow, asked) for flow in flows):
        late = RECEIPT_LATE_NS / SECOND
        yield (
            f"a time of receipt can be {late:g} s late, so no connection is certain to have been "
            "open at that time"
        )


def _may_be_outside(flow: Holder, asked: who.WhoQuery) -> bool:
    """If a connection was open in the span of `asked` only if an event was, or was not, late."""
    began = flow.start_source == Source.RECEIPT and flow.start >= asked.until
    ended = flow.end_source == Source.RECEIPT and flow.end - RECEIPT_LATE_NS < asked.since
    return began or ended


def _person(key: tuple[str, int, int], flows: list[Holder], question: Question) -> Person:
    begin, end = question.window.begin, max(question.window.end, question.window.begin + 1)
    only = all(is_only_by_tolerance(flow, begin, end) for flow in flows)
    first = min(flows, key=lambda flow: (flow.start_source != Source.UNKNOWN, flow.start))
    last = max(flows, key=lambda flow: (flow.end_source == Source.UNKNOWN, flow.end))
    ends = (first.start, first.start_source, last.end, last.end_source)
    return Person(*key, tuple(flows), only, *ends)
