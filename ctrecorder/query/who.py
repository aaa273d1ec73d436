"""Who held a public address and port at a time: all candidates, and whether the log is complete.

A public address and port do not name one inside host: several hosts use them at once, to different
remote ends.  So the answer is a list, and the remote end decides.  It covers SNAT (the public end
is the destination of replies), DNAT (the public end was called from outside) and hosts that have a
public address themselves.

Of each segment of an archive only the first and the last frame are read.  Then the segments that
overlap the window are read, and of each recording the one before and the one after.  If the start
or the end of a candidate is outside of these, or the last dump of the table before the window,
more are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.archive import find
from ctrecorder.archive.near import Chains
from ctrecorder.columns import ADDRESSES, TUPLE, Source, Table
from ctrecorder.connections import parts
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
from ctrecorder.errors import ArchiveError, CtrecorderError, UsageError
from ctrecorder.findings import Finding
from ctrecorder.order.merge import merge
from ctrecorder.query import evidence
from ctrecorder.query.clock import ClockState, clocks
from ctrecorder.query.connections import Losses, list_connections
from ctrecorder.query.coverage import UNPROVED, Hole, Scope
from ctrecorder.query.dumps import Dumps
from ctrecorder.query.evidence import Evidence
from ctrecorder.query.open import Archive, ScanStats, open_archive
from ctrecorder.query.parse import parse_network, parse_ports
from ctrecorder.query.selection import select
from ctrecorder.query.verdict import Verdict, judge, needs_earlier
from ctrecorder.sealing.imported import imported
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count

# If the start or the end of a candidate is outside of the segments that were read, this many times
# as many are read next.  Less: a connection of a week takes more rounds.  More: reads for nothing.
_WIDENING_FACTOR = 4
COLUMNS = (*TUPLE, *parts.SPAN, "present", "zone", "mark", "status")


@dataclass(frozen=True)
class WhoQuery:
    """Who held `public` at since <= time < until?

    `public`: the address and port, a term without endpoints.
    `since`, `until`: ns UTC.
    `to`: the remote address and port; None: any.
    `protocols`: numbers; empty: any.
    """

    public: Term
    since: int
    until: int
    to: Term | None = None
    protocols: frozenset[int] = frozenset()


@dataclass
class Answer:
    """The candidates, and whether the log proves that there are no others.

    `tables`: the candidates with `COLUMNS`, each table in order of start; see `roles`.
    `routers`: the host that recorded each table.  `hosts`: all that were asked.
    `verdict`: whether they are all.  `scope`: what it was judged by.
    `failed`: an error for each file that cannot be read.
    `findings`: what is damaged in the others.
    `copies`: as in `Archive`.
    `clocks`: how right the clocks were that recorded it.
    `imported`: files that it rests on, and that nothing proves; see `sealing.imported`.
    `stats`: what was read.
    """

    tables: list[Table]
    routers: list[str]
    hosts: frozenset[str]
    verdict: Verdict
    scope: Scope
    failed: list[CtrecorderError]
    findings: list[Finding]
    copies: list[tuple[str, str]]
    clocks: list[ClockState]
    stats: ScanStats
    imported: list[str]

    def __len__(self) -> int:
        return sum(map(len, self.tables))


class Roles(NamedTuple):
    """Which columns of a candidate are the inside and the remote end, (rows,) bool each.

    `inbound`: the public end was called (DNAT): inside is reply_src, remote is orig_src.  Otherwise
    inside is orig_src, remote is orig_dst.
    `translated`: the inside end differs from the public end.
    """

    inbound: NDArray[np.bool_]
    translated: NDArray[np.bool_]


def parse_end(text: str) -> Term:
    """The term of "192.0.2.7:80", "[2001:db8::1]:80", or an address alone: any port.

    It has no endpoints of its own.  Raises UsageError.
    """
    address, colon, port = text.rpartition(":")
    if not colon or (text.count(":") > 1 and not address.endswith("]")):
        address, port = text, ""
    network = parse_network(address)
    if network.low != network.high:
        raise UsageError(f"'{text}' is a network: name one address, with or without :PORT")
    return Term((network,), (parse_ports(port),) if port else ())


def answer(
    paths: list[str], who_query: WhoQuery, now: int, live_folder: str | None = None
) -> Answer:
    """Search the segments and folders `paths`; `now`: ns UTC.

    `live_folder`: where recorders that run publish their state; None: the usual one.  Raises
    ArchiveError if there are no segments.
    """
    states = evidence.live_states(live_folder)  # before the folder and the segments
    listing = find.find(paths, spans=True)
    if not listing.segments:
        raise ArchiveError(f"{', '.join(paths)}: no segments here; is ctrecord running?")
    chains = Chains(listing.spans)
    before, after = 1, 1
    while True:
        selection = select(listing.spans, chains, who_query.since, who_query.until, before, after)
        archive = _open(selection.paths, who_query)
        try:
            dumps = Dumps(archive)
            losses: Losses = {}
            routers, tables = _candidates_by_router(archive, who_query, dumps, losses)
            if who_query.since > now:  # an open connection is no evidence for the future
                tables = [one.take(np.flatnonzero(one["end"] != 0)) for one in tables]
            start_outside, end_outside = _reach_outside(tables, dumps)
            known = evidence.gather(archive.segments, chains, states, dumps=True, losses=losses)
            scope = _scope(who_query)
            start_outside |= needs_earlier(scope, known.recordings, now)
            if not (start_outside and selection.more_before) and not (
                end_outside and selection.more_after
            ):
                failed = [*_unreadable(listing), *archive.failed]
                scope, verdict = _judge(archive, who_query, known, failed, now)
                findings = [one for segment in archive.segments for one in segment.findings]
                return Answer(
                    tables,
                    routers,
                    frozenset(segment.header.host or "" for segment in archive.segments),
                    verdict,
                    scope,
                    failed,
                    findings,
                    archive.copies,
                    clocks(archive.segments, who_query.since, who_query.until),
                    archive.query.stats,
                    imported(archive.segments, _rests_from(tables, who_query), who_query.until),
                )
        finally:
            archive.close()
        if start_outside:
            before *= _WIDENING_FACTOR
        if end_outside:
            after *= _WIDENING_FACTOR


def _rests_from(tables: list[Table], who_query: WhoQuery) -> int:
    """The first time of what the answer rests on: a candidate can have begun before the window."""
    since = who_query.since
    return min((int(_without_start(one)[1].min(initial=since)) for one in tables), default=since)


def _scope(who_query: WhoQuery) -> Scope:
    """The coverage that the query needs."""
    public, to = who_query.public, who_query.to
    ports: frozenset[int] = frozenset()
    if public.ports and to is not None and to.ports:  # else one end can have any port
        ports = frozenset((public.ports[0][0], to.ports[0][0]))
    return Scope(
        who_query.since,
        who_query.until,
        families=frozenset(network.family for network in public.networks),
        protocols=who_query.protocols,
        ports=ports,
        open_flows=True,
    )


def _judge(
    archive: Archive,
    who_query: WhoQuery,
    known: Evidence,
    failed: list[CtrecorderError],
    now: int,
) -> tuple[Scope, Verdict]:
    """What the answer was judged by, and the verdict."""
    scope = _scope(who_query)
    unread = [*known.unread]
    if failed:
        detail = f"{count(len(failed), 'file')} could not be read"
        unread.append(Hole(times.BEGIN, times.END, UNPROVED, detail=detail))
    verdict = judge(scope, known.recordings, now, unread)
    if verdict.proved:
        return scope, verdict
    translated = replace(scope, only_translated=True)
    narrower = judge(translated, known.recordings, now, unread)
    if narrower != verdict and _only_nat_gives_out(archive, who_query.public):
        return translated, narrower
    return scope, verdict


def _only_nat_gives_out(archive: Archive, public: Term) -> bool:
    """If the address is that of translated connections in what was read, and never a host's own."""
    alone = Term(public.networks)
    query = Query(events=EVERY_EVENT, terms=(alone,))
    given = False
    for kind in (Kind.EVENTS, Kind.CONNECTIONS):
        asked = query.of_connections() if kind == Kind.CONNECTIONS else query
        for batch in merge(archive.segments, ADDRESSES, asked, kind):
            for table in batch.tables:
                source, target, reply, answered = (
                    _endpoint_is(table, endpoint, alone)
                    for endpoint in (ORIG_SRC, ORIG_DST, REPLY_DST, REPLY_SRC)
                )
                if ((source & reply) | (target & answered)).any():
                    return False
                given = given or bool((reply & ~source).any())
    return given


def _unreadable(listing: find.FolderListing) -> list[CtrecorderError]:
    """Files that may contain candidates, and cannot be read."""
    foreign = [ArchiveError(f"{path}: not a segment of ctrecorder") for path in listing.foreign]
    return [*foreign, *(ArchiveError(why) for _, why in listing.unreadable)]


def _open(paths: list[str], who_query: WhoQuery) -> Archive:
    """Open the segments, with a query for all records of flows with the public and remote end."""
    public, to = who_query.public, who_query.to
    terms = [Term(public.networks, public.ports, (REPLY_DST, ORIG_DST))]
    if to is not None:
        terms.append(Term(to.networks, to.ports, (ORIG_SRC, ORIG_DST)))
    return open_archive(paths, Query(protocols=who_query.protocols, terms=tuple(terms)))


def _candidates_by_router(
    archive: Archive, who_query: WhoQuery, dumps: Dumps, losses: Losses
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
        for table in _candidates(of_router, who_query, dumps, losses):
            routers.append(router)
            tables.append(table)
    return routers, tables


def _candidates(
    archive: Archive, who_query: WhoQuery, dumps: Dumps, losses: Losses
) -> Iterator[Table]:
    """The connections that held the public end in the window, with the wanted remote end."""
    for batch in list_connections(archive, COLUMNS, losses=losses):
        for table in batch.tables:
            wanted = _overlaps(table, who_query, dumps) & _has_ends(table, who_query)
            if wanted.any():
                yield table.take(wanted)


def _without_start(table: Table) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(rows,): which connections have no recorded start, and their earliest recorded time, ns."""
    unknown = table["start_source"] == Source.UNKNOWN
    first_recorded = np.where(unknown, table["end"], table["start"])
    return unknown | (table["start_source"] == Source.BOUND), first_recorded


def _overlaps(table: Table, who_query: WhoQuery, dumps: Dumps) -> NDArray[np.bool_]:
    """(rows,): which connections may have been open in the window.

    One without a recorded start may have begun right after the last dump before it.
    """
    without_start, first_recorded = _without_start(table)
    earliest_start = np.where(without_start, dumps.last_begin(first_recorded)[0], table["start"])
    heard = without_start & ((table["seen"] & parts.NEW) != 0)
    if heard.any():
        last_step = dumps.last_step(first_recorded)
        earliest_start = np.where(heard, np.maximum(earliest_start, last_step), earliest_start)
    ends_before = (table["end"] != 0) & (table["end"] < who_query.since)
    overlaps: NDArray[np.bool_] = (earliest_start < who_query.until) & ~ends_before
    return overlaps


def _has_ends(table: Table, who_query: WhoQuery) -> NDArray[np.bool_]:
    """(rows,): which have the public end as a holder has it, and the remote end opposite to it."""
    outbound = _endpoint_is(table, REPLY_DST, who_query.public)
    inbound = _endpoint_is(table, ORIG_DST, who_query.public)
    if who_query.to is not None:
        outbound &= _endpoint_is(table, ORIG_DST, who_query.to)
        inbound &= _endpoint_is(table, ORIG_SRC, who_query.to)
    return outbound | inbound


def roles(table: Table, who_query: WhoQuery) -> Roles:
    """The roles of the ends of each candidate in `table`."""
    outbound = _endpoint_is(table, REPLY_DST, who_query.public)
    if who_query.to is not None:
        outbound &= _endpoint_is(table, ORIG_DST, who_query.to)
    source_translated = _differ(table, "orig_src", "reply_dst") | _differ(
        table, "orig_sport", "reply_dport"
    )
    target_translated = _differ(table, "orig_dst", "reply_src") | _differ(
        table, "orig_dport", "reply_sport"
    )
    return Roles(~outbound, np.where(outbound, source_translated, target_translated))


def _endpoint_is(table: Table, endpoint: tuple[str, str], term: Term) -> NDArray[np.bool_]:
    """(rows,): whose address and port columns `endpoint` match the term."""
    terms = (Term(term.networks, term.ports, (endpoint,)),)
    return Query(terms=terms, connections=True).evaluate(table)


def _differ(table: Table, first: str, second: str) -> NDArray[np.bool_]:
    """(rows,): where two columns differ."""
    differ: NDArray[np.bool_] = table[first] != table[second]
    return differ


def _reach_outside(tables: Iterable[Table], dumps: Dumps) -> tuple[bool, bool]:
    """Whether segments that were not read may contain the start of a candidate, and the end of one.

    A start cannot be there if a dump that was read is before it.
    """
    start_outside = end_outside = False
    for table in tables:
        without_start, first_recorded = _without_start(table)
        has_dump = dumps.last_begin(first_recorded)[1]
        start_outside = start_outside or bool((without_start & ~has_dump).any())
        end_outside = end_outside or bool((table["end_source"] == Source.UNKNOWN).any())
    return start_outside, end_outside
