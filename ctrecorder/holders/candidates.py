"""The candidates of a question: the connections in open segments that held the public end.

A start that was not recorded is bounded by the dumps before it, and by the steps of the clock.
Whether there can be others is judged for all connections; if only NAT gives the address out, for
those that are translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times, uapi
from ctrecorder.columns import ADDRESSES, TUPLE, Source, Table
from ctrecorder.connections import flowkey, lookalikes, parts
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.predicate import (
    EVERY_EVENT,
    ORIG_DST,
    ORIG_SRC,
    REPLY_DST,
    REPLY_SRC,
    Query,
    Term,
)
from ctrecorder.errors import CtrecorderError
from ctrecorder.findings import Finding
from ctrecorder.order.merge import merge
from ctrecorder.pairs.pairers import Losses
from ctrecorder.query.connections import list_connections
from ctrecorder.query.coverage import MIN_ONCE_NS, UNPROVED, Hole, Scope
from ctrecorder.query.evidence import Evidence
from ctrecorder.query.open import Archive
from ctrecorder.query.verdict import Verdict, judge
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count

COLUMNS = (*TUPLE, *parts.SPAN, "present", "zone", "mark", "status")


class Held(NamedTuple):
    """What the candidates held: the end `public`, with `to` opposite to it (None: any), at a time
    from `since` to `until`, ns UTC.
    """

    public: Term
    to: Term | None
    since: int
    until: int

    @property
    def recorded(self) -> tuple[int, int]:
        """The times by which such a connection can have been recorded, ns.

        ctsqueeze cuts an end to microseconds.  A start that is a time of receipt may be late.
        """
        since = self.since // times.MICROSECOND * times.MICROSECOND
        return since, self.until + parts.RECEIPT_LATE_NS


class Candidates:
    """The candidates in the segments that were opened.

    `routers`, `tables`: as in `Answer`.
    `losses`: as of `list_connections`.
    `start_outside`: whether segments that were not opened may contain the start of a candidate.
    `unended`: the hashes of the keys of the candidates that are open at the end of what was read.
    `follows`: whether these keys distinguish them.
    `begin`: the first time of what an answer rests on, ns: a candidate can have begun before the
    window.
    """

    def __init__(self, archive: Archive, held: Held, now: int) -> None:
        dumps = Dumps(archive)
        self.losses: Losses = {}
        routers, tables = _candidates_by_router(archive, held, dumps, self.losses)
        if held.since > now:  # an open connection is no evidence for the future
            tables = [one.take(np.flatnonzero(one["end"] != 0)) for one in tables]
        self.routers, self.tables = routers, tables
        self.start_outside = _start_outside(tables, dumps)
        unended = [table.take(table["end_source"] == Source.UNKNOWN) for table in tables]
        self.unended = _hashes(unended)
        self.follows = all(lookalikes.has_id(table).all() for table in unended)
        begins = [int(_without_start(table)[1].min(initial=held.since)) for table in tables]
        self.begin = min([held.since, *begins])

    def keys(self) -> frozenset[int]:
        """The hashes of the keys of all candidates."""
        return frozenset(map(int, _hashes(self.tables)))


def _hashes(tables: list[Table]) -> NDArray[np.uint64]:
    """Hashes of the keys of all rows."""
    return np.concatenate([np.zeros(0, np.uint64), *map(flowkey.hashes, tables)])


def _candidates_by_router(
    archive: Archive, held: Held, dumps: Dumps, losses: Losses
) -> tuple[list[str], list[Table]]:
    """The candidates of each router by itself: its name for each table, and the tables.

    `losses`: as of `list_connections`.
    """
    by_router: dict[str, list[Recording]] = {}
    for segment in archive.segments:
        by_router.setdefault(segment.header.host or "", []).append(segment)
    routers, tables = [], []
    for router, segments in by_router.items():
        of_router = replace(archive, segments=segments)
        for table in _candidates(of_router, held, dumps, losses):
            routers.append(router)
            tables.append(table)
    return routers, tables


def _candidates(archive: Archive, held: Held, dumps: Dumps, losses: Losses) -> Iterator[Table]:
    """The connections that held the public end in the window, with the wanted remote end."""
    for batch in list_connections(archive, COLUMNS, losses=losses, window=held.recorded):
        for table in batch.tables:
            wanted = _overlaps(table, held, dumps) & _has_ends(table, held)
            if wanted.any():
                yield table.take(wanted)


def _without_start(table: Table) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(rows,): which connections have no recorded start; and when each existed at the latest, ns:
    its earliest recorded time, which can be that of a receipt.
    """
    unknown = table["start_source"] == Source.UNKNOWN
    first_recorded = np.where(unknown, table["end"], table["start"])
    existed = first_recorded - parts.RECEIPT_LATE_NS
    return unknown | (table["start_source"] == Source.BOUND), existed


def _overlaps(table: Table, held: Held, dumps: Dumps) -> NDArray[np.bool_]:
    """(rows,): which connections may have been open in the window.

    One without a recorded start may have begun right after the last dump before it.  A start that
    is a time of receipt may be late, but not by a clock that was not set back yet.
    """
    without_start, existed = _without_start(table)
    start = table["start"].astype(np.int64)
    late = np.where(table["start_source"] == Source.RECEIPT, parts.RECEIPT_LATE_NS, 0)
    received = np.where(late, np.maximum(start - late, dumps.last_set_back(start)), start)
    earliest_start = np.where(without_start, dumps.last_begin(existed)[0], received)
    heard = without_start & ((table["seen"] & parts.NEW) != 0)
    if heard.any():
        last_step = dumps.last_step(existed)
        earliest_start = np.where(heard, np.maximum(earliest_start, last_step), earliest_start)
    ends_before = (table["end"] != 0) & (table["end"] < held.recorded[0])
    overlaps: NDArray[np.bool_] = (earliest_start < held.until) & ~ends_before
    return overlaps


def sides(table: Table, held: Held) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(rows,) each: where the public end is that of who opened the connection, and where it was
    called; with the wanted remote end opposite to it.
    """
    outbound = _endpoint_is(table, REPLY_DST, held.public)
    inbound = _endpoint_is(table, ORIG_DST, held.public)
    if (to := held.to) is not None:
        outbound &= _endpoint_is(table, ORIG_DST, to) | _endpoint_is(table, REPLY_SRC, to)
        inbound &= _endpoint_is(table, ORIG_SRC, to)
    return outbound, inbound


def _has_ends(table: Table, held: Held) -> NDArray[np.bool_]:
    """(rows,): which have the public end as a holder has it, and the remote end opposite to it."""
    outbound, inbound = sides(table, held)
    return outbound | inbound


def _endpoint_is(table: Table, endpoint: tuple[str, str], term: Term) -> NDArray[np.bool_]:
    """(rows,): whose address and port columns `endpoint` match the term."""
    terms = (Term(term.networks, term.ports, (endpoint,)),)
    return Query(terms=terms, connections=True).evaluate(table)


def _start_outside(tables: Iterable[Table], dumps: Dumps) -> bool:
    """Whether segments that were not read may contain the start of a candidate.

    It cannot be there if a dump that was read is before it.
    """
    for table in tables:
        without_start, existed = _without_start(table)
        has_dump = dumps.last_begin(existed)[1]
        if (without_start & ~has_dump).any():
            return True
    return False


class Dumps:
    """The complete dumps of the table in the opened segments, and the steps of the clock.

    A flow that the last dump before a time does not contain began after that dump.
    """

    def __init__(self, archive: Archive) -> None:
        chains: dict[str, list[tuple[int, int]]] = {}
        for segment in archive.segments:
            found = chains.setdefault(segment.header.chain or "", [])
            found += [(mark.end, mark.begin) for mark in segment.marks if mark.is_complete_dump]
        self._steps = np.array(
            sorted(
                gap.begin
                for segment in archive.segments
                for gap in segment.gaps
                if segment.step_of(gap) >= MIN_ONCE_NS
            ),
            np.int64,
        )
        back = sorted(at for segment in archive.segments for at in _set_back(segment))
        self._set_back = np.array(back, np.int64)
        self._first = archive.first
        self._ends: list[NDArray[np.int64]] = []
        # One more than ends: at i, the begin of the last dump before ends[i].
        self._begins: list[NDArray[np.int64]] = []
        for found in chains.values():
            found.sort()
            self._ends.append(np.array([end for end, _ in found], np.int64))
            self._begins.append(np.array([self._first, *(begin for _, begin in found)], np.int64))

    def last_begin(self, moments: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """When the last dump before each of `moments` began, (n,) ns.

        With several recordings it is the earliest of their last dumps; without a dump it is the
        begin of the archive.  The second array, (n,), is True where each recording has a dump.
        """
        begin, has_dump = np.full(len(moments), times.END), np.ones(len(moments), np.bool_)
        for ends, begins in zip(self._ends, self._begins, strict=True):
            index = np.searchsorted(ends, moments)
            has_dump &= index > 0
            begin = np.minimum(begin, begins[index])
        return begin, has_dump

    def last_set_back(self, moments: NDArray[np.int64]) -> NDArray[np.int64]:
        """The earliest time that the clock showed after it was last set back, before each of
        `moments`, (n,) ns; else 0.

        Events that have such a time and happened before that are in a GAP.
        """
        return _last_before(self._set_back, moments)

    def last_step(self, moments: NDArray[np.int64]) -> NDArray[np.int64]:
        """When the clock was last set forward for long before each of `moments`, (n,) ns; else 0.

        A flow whose NEW was dated by that clock, and whose start is not known, began later.
        """
        return _last_before(self._steps, moments)


def _set_back(segment: Recording) -> Iterator[int]:
    """The earliest time, ns, that the clock can have shown after each step back, where the kernel
    did not date events: they are in the GAP of a step from longer before it.
    """
    begins = {gap.begin for gap in segment.gaps if segment.step_of(gap) < 0}
    for gap in segment.gaps:
        if gap.reason == "late" and gap.end in begins:
            yield gap.begin + parts.RECEIPT_LATE_NS


def _last_before(ordered: NDArray[np.int64], moments: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last of `ordered` before each of `moments`, (n,); else times.BEGIN."""
    return np.append(times.BEGIN, ordered)[np.searchsorted(ordered, moments)]


class Use(NamedTuple):
    """How an address is used in a segment: as a host's `own`, and by translated connections.

    `findings`: the damage that was met while it was searched.
    """

    own: bool
    given: bool
    findings: list[Finding]


# By the path of the segment, and the address.
Uses = dict[tuple[str, Term], Use]


def judge_answer(
    archive: Archive,
    public: Term,
    scope: Scope,
    known: Evidence,
    failed: list[CtrecorderError],
    now: int,
    uses: Uses,
) -> tuple[Scope, Verdict]:
    """What an answer about the end `public` was judged by, and the verdict.

    `uses`: of the segments that questions before this one have searched.
    """
    unread = [*known.unread]
    if failed:
        detail = f"{count(len(failed), 'file')} could not be read"
        unread.append(Hole(times.BEGIN, times.END, UNPROVED, detail=detail))
    verdict = judge(scope, known.recordings, now, unread)
    if verdict.proved:
        return scope, verdict
    translated = replace(scope, only_translated=True)
    narrower = judge(translated, known.recordings, now, unread)
    if narrower != verdict and _only_nat_gives_out(archive, Term(public.networks), uses):
        return translated, narrower
    return scope, verdict


def _only_nat_gives_out(archive: Archive, alone: Term, uses: Uses) -> bool:
    """If the address is that of translated connections in what was read, and never a host's own."""
    given = False
    for segment in archive.segments:
        use = uses.get((segment.path, alone))
        if use is None:
            use = uses[segment.path, alone] = _use(segment, alone)
        segment.findings += use.findings
        if use.own:
            return False
        given |= use.given
    return given


def _use(segment: Recording, alone: Term) -> Use:
    """How the address `alone` is used in a segment, whose findings stay as they are."""
    before = segment.findings
    segment.findings = []
    try:
        given = False
        for table in _rows(segment, alone):
            source, target, reply, answered = (
                _endpoint_is(table, endpoint, alone)
                for endpoint in (ORIG_SRC, ORIG_DST, REPLY_DST, REPLY_SRC)
            )
            if ((source & reply) | (target & answered)).any():
                return Use(own=True, given=True, findings=segment.findings)
            given = given or bool((reply & ~source).any())
        return Use(own=False, given=given, findings=segment.findings)
    finally:
        segment.findings = before


def _rows(segment: Recording, term: Term) -> Iterator[Table]:
    """The addresses of all rows of a segment that match."""
    query = Query(events=EVERY_EVENT, terms=(term,))
    for kind in (Kind.EVENTS, Kind.CONNECTIONS):
        asked = query.of_connections() if kind == Kind.CONNECTIONS else query
        for batch in merge([segment], ADDRESSES, asked, kind):
            yield from batch.tables


class Roles(NamedTuple):
    """Who holds the public end in the rows of a table, (n,) each.

    `rows`: the row.  A connection from the public address to the public address (hairpin NAT) has
    two holders, so its row is there twice.
    `inbound`: the public end was called (DNAT): inside is reply_src, remote is orig_src.  Otherwise
    inside is orig_src, remote is orig_dst.
    `translated`: the inside end differs from the public end.
    """

    rows: NDArray[np.intp]
    inbound: NDArray[np.bool_]
    translated: NDArray[np.bool_]


def roles(table: Table, held: Held) -> Roles:
    """Who holds the public end in the candidates `table`."""
    outbound, inbound = map(np.flatnonzero, sides(table, held))
    is_icmp = np.isin(table["l4proto"], (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6))
    # Of ICMP the id can be translated: it is the source's port column of both tuples.
    answered = np.where(is_icmp, table["reply_sport"], table["reply_dport"])
    source_translated = _differ(table, "orig_src", "reply_dst") | (table["orig_sport"] != answered)
    target_translated = _differ(table, "orig_dst", "reply_src") | (
        _differ(table, "orig_dport", "reply_sport") & ~is_icmp
    )
    return Roles(
        np.concatenate([outbound, inbound]),
        np.repeat([False, True], [len(outbound), len(inbound)]),
        np.concatenate([source_translated[outbound], target_translated[inbound]]),
    )


def _differ(table: Table, first: str, second: str) -> NDArray[np.bool_]:
    """(rows,): where two columns differ."""
    differ: NDArray[np.bool_] = table[first] != table[second]
    return differ
