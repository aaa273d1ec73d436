"""The persons of an answer: the inside hosts that held the address, each with its connections.

A person is an inside address in a zone of connection tracking, with a mark: two customers can have
one inside address.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ctrecorder.columns import Source
from ctrecorder.inquiry.question import Question
from ctrecorder.query import who
from ctrecorder.render import who as render_who
from ctrecorder.render.who import Holder


class Person(NamedTuple):
    """An inside host.

    `flows`: its connections, by start.
    `only_by_tolerance`: each of them had ended before the time, or began after it.
    `start`, `end`: of all, ns UTC, and the source of each; 0 and UNKNOWN if one of them is not
    known.
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
    by_host: dict[tuple[str, int, int], list[Holder]] = {}
    for flow in flows_of(question, answer, asked):
        by_host.setdefault((flow.inside.address, flow.zone, flow.mark), []).append(flow)
    found = [_person(key, flows, question) for key, flows in by_host.items()]
    return tuple(
        sorted(found, key=lambda one: (one.only_by_tolerance, one.flows[0].start, one.address))
    )


def flows_of(question: Question, answer: who.Answer, asked: who.WhoQuery) -> list[Holder]:
    """The connections of an answer, by start; of ICMP those with the id that the question names."""
    found: Iterable[Holder] = [
        one
        for router, table in zip(answer.routers, answer.tables, strict=True)
        for one in render_who.holders(table, *who.roles(table, asked), router)
    ]
    if len(answer.hosts) > 1:
        found = render_who.joined(found)
    wanted = question.target.port if question.asks_icmp else None
    kept = [flow for flow in found if wanted is None or flow.public.port == wanted]
    return sorted(kept, key=lambda flow: flow.start or flow.end)


def is_only_by_tolerance(flow: Holder, begin: int, end: int) -> bool:
    """If a connection ended before `begin`, or is known to have begun at `end` or later."""
    ended = flow.end_source != Source.UNKNOWN and flow.end < begin
    is_exact = flow.start_source in (Source.KERNEL, Source.RECEIPT)
    return ended or (is_exact and flow.start >= end)


def _person(key: tuple[str, int, int], flows: list[Holder], question: Question) -> Person:
    begin, end = question.window.begin, max(question.window.end, question.window.begin + 1)
    only = all(is_only_by_tolerance(flow, begin, end) for flow in flows)
    first = min(flows, key=lambda flow: (flow.start_source != Source.UNKNOWN, flow.start))
    last = max(flows, key=lambda flow: (flow.end_source == Source.UNKNOWN, flow.end))
    ends = (first.start, first.start_source, last.end, last.end_source)
    return Person(*key, tuple(flows), only, *ends)
