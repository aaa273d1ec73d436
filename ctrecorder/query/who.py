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
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times, uapi
from ctrecorder.archive import find
from ctrecorder.archive.segments_read import SegmentRead, segments_read
from ctrecorder.columns import TUPLE, Source, Table
from ctrecorder.connections import flowkey, lookalikes, parts
from ctrecorder.ctlog.predicate import (
    ORIG_DST,
    ORIG_SRC,
    REPLY_DST,
    REPLY_SRC,
    Query,
    Term,
)
from ctrecorder.errors import ArchiveError, CtrecorderError, NoSegmentsError, UsageError
from ctrecorder.findings import Finding
from ctrecorder.query import evidence
from ctrecorder.query.clock import ClockState, clock_error_ns, clocks
from ctrecorder.query.connections import Losses, list_connections
from ctrecorder.query.coverage import Scope
from ctrecorder.query.dumps import Dumps
from ctrecorder.query.evidence import Evidence
from ctrecorder.query.follow import Followed, follow
from ctrecorder.query.open import Archive, ScanStats, open_archive
from ctrecorder.query.parse import parse_network, parse_ports
from ctrecorder.query.proved import Uses, judge_answer
from ctrecorder.query.selection import Selection, Selector
from ctrecorder.query.shared import Pool
from ctrecorder.query.verdict import Verdict, is_recorded, needs_earlier
from ctrecorder.sealing.imported import imported
from ctrecorder.segment.recording import Recording

# If the start or the end of a candidate is outside of the segments that were read, this many times
# as many are read next.  Less: a connection of a week takes more rounds.  More: reads for nothing.
_WIDENING_FACTOR = 4
COLUMNS = (*TUPLE, *parts.SPAN, "present", "zone", "mark", "status")


@dataclass(frozen=True)
class WhoQuery:
    """Who held `public` at since <= time < until?

    `public`: the address and port, a term without endpoints.
    `since`, `until`: ns UTC.
    `to`: the remote address and port, as the inside host called it (orig_dst) or as it is behind
    DNAT (reply_src); None: any.
    `protocols`: numbers; empty: any.
    `add_clock_error`: the span is widened by what the clocks that recorded it were off at most.
    """

    public: Term
    since: int
    until: int
    to: Term | None = None
    protocols: frozenset[int] = frozenset()
    add_clock_error: bool = False

    def widened(self, ns: int) -> WhoQuery:
        """The query with a span that is `ns` longer on both sides."""
        since, until = max(self.since - ns, times.BEGIN), min(self.until + ns, times.END)
        return replace(self, since=since, until=until, add_clock_error=False)

    @property
    def recorded(self) -> tuple[int, int]:
        """The times by which a connection of the window can have been recorded, ns.

        ctsqueeze cuts an end to microseconds.  A start that is a time of receipt may be late.
        """
        since = self.since // times.MICROSECOND * times.MICROSECOND
        return since, self.until + parts.RECEIPT_LATE_NS


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
    `stats`: what was read.
    `added_ns`: by how much the span of the query was widened, see `WhoQuery.add_clock_error`.
    `segments`: what was read.
    `recorded`: if anything of the asked protocols was recorded in the span.
    `imported`: files that it rests on, and that nothing proves; see `sealing.imported`.
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
    added_ns: int = 0
    segments: tuple[SegmentRead, ...] = ()
    recorded: bool = True
    imported: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.tables))


class Reach(NamedTuple):
    """What is read for a question.

    `before`, `after`: how many segments of each recording before and after its window.
    `added`: by how much the window is wider than was asked, ns; None: it is not known yet.
    `follows`: whether candidates that are still open may be followed.
    `followed`: where they lead; None: they were not followed.
    `keys`: hashes of the keys of the candidates that were found before they were followed.
    """

    before: int = 1
    after: int = 1
    added: int | None = None
    follows: bool = True
    followed: Followed | None = None
    keys: frozenset[int] = frozenset()


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
    NoSegmentsError if there are no segments.
    """
    with Asked(paths, now, live_folder) as asked:
        return asked.answer(who_query)


class Asked:
    """An archive that is asked: its folders are read once, and each segment is opened once.

    An answer does not depend on the questions before it.
    """

    def __init__(self, paths: list[str], now: int, live_folder: str | None = None) -> None:
        """As `answer`."""
        # The states are read before the folder, and that before the segments.
        self._states, self._now = evidence.live_states(live_folder), now
        listing = find.find(paths, spans=True)
        if not listing.segments:
            raise NoSegmentsError(f"{', '.join(paths)}: no segments here; is ctrecord running?")
        self._unreadable = _unreadable(listing)
        self._selector, self._pool = Selector(listing.spans), Pool()
        self._receipts = evidence.Receipts()
        self._uses: Uses = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.trim(0)

    def answer(self, who_query: WhoQuery) -> Answer:
        """The answer to a question."""
        found: Answer | Reach = Reach()
        while isinstance(found, Reach):
            found = self.attempt(who_query, found)
        return found

    def attempt(self, who_query: WhoQuery, reach: Reach) -> Answer | Reach:
        """The answer, or how far to reach for it if `reach` is not enough."""
        if who_query.add_clock_error:
            if reach.added is None:
                reach = reach._replace(added=self._clock_error(who_query))
            who_query = who_query.widened(reach.added or 0)
        archive, selection = self._open(who_query, reach)
        found = _Found(archive, who_query, self._now)
        known = evidence.gather(
            archive.segments,
            self._selector.chains,
            self._states,
            dumps=True,
            losses=found.losses,
            receipts=self._receipts,
        )
        scope = _scope(who_query)
        wider = self._wider(reach, selection, archive, found, scope, known)
        if wider is not None:
            self._pool.trim()
            return wider
        failed = [*self._unreadable, *archive.failed]
        scope, verdict = judge_answer(
            archive, who_query.public, scope, known, failed, self._now, self._uses
        )
        answer = Answer(
            found.tables,
            found.routers,
            frozenset(segment.header.host or "" for segment in archive.segments),
            verdict,
            scope,
            failed,
            [one for segment in archive.segments for one in segment.findings],
            archive.copies,
            clocks(archive.segments, who_query.since, who_query.until),
            archive.query.stats,
            reach.added or 0,
            segments_read(archive.segments),
            is_recorded(scope, known.recordings),
            tuple(
                imported(archive.segments, _rests_from(found.tables, who_query), who_query.until)
            ),
        )
        self._pool.trim()
        return answer

    def _open(self, who_query: WhoQuery, reach: Reach) -> tuple[Archive, Selection]:
        """The segments to read, opened."""
        selection = self._selector.select(*who_query.recorded, reach.before, reach.after)
        followed = () if reach.followed is None else reach.followed.paths
        paths = [*selection.paths, *followed]
        return open_archive(paths, _needed(who_query), self._pool), selection

    def _wider(
        self,
        reach: Reach,
        selection: Selection,
        archive: Archive,
        found: _Found,
        scope: Scope,
        known: Evidence,
    ) -> Reach | None:
        """What to read if `reach` is not enough; None: it is."""
        if selection.more_before and (
            found.start_outside or needs_earlier(scope, known.recordings, self._now)
        ):
            return reach._replace(before=reach.before * _WIDENING_FACTOR, followed=None)
        followed, keys = reach.followed, found.keys()
        still_open = frozenset() if followed is None else followed.still_open
        ended = still_open.issuperset(map(int, found.unended))
        if not selection.more_after or (ended and (followed is None or keys == reach.keys)):
            return None
        if followed is None and reach.follows and found.follows:
            followed = self._follow(archive, found.unended)
            if followed is not None:
                return reach._replace(followed=followed, keys=keys)
        return reach._replace(after=reach.after * _WIDENING_FACTOR, followed=None, follows=False)

    def _follow(self, archive: Archive, hashes: NDArray[np.uint64]) -> Followed | None:
        """Follow flows of the only recording that was read; None if that is not possible."""
        chains, segments = self._selector.chains, archive.segments
        if archive.copies or len({segment.pairing_key for segment in segments}) != 1:
            return None
        last = max(segments, key=lambda segment: chains.place(segment.path)[0])
        return follow(last.path, hashes, chains, self._pool)

    def _clock_error(self, who_query: WhoQuery) -> int:
        """How far off the clocks were at most that recorded the span of a question, ns."""
        archive, _ = self._open(who_query, Reach())
        return clock_error_ns(clocks(archive.segments, who_query.since, who_query.until))


class _Found:
    """The candidates in the segments that were opened.

    `routers`, `tables`: as in `Answer`.
    `losses`: as of `list_connections`.
    `start_outside`: whether segments that were not opened may contain the start of a candidate.
    `unended`: the hashes of the keys of the candidates that are open at the end of what was read.
    `follows`: whether these keys distinguish them.
    """

    def __init__(self, archive: Archive, who_query: WhoQuery, now: int) -> None:
        dumps = Dumps(archive)
        self.losses: Losses = {}
        routers, tables = _candidates_by_router(archive, who_query, dumps, self.losses)
        if who_query.since > now:  # an open connection is no evidence for the future
            tables = [one.take(np.flatnonzero(one["end"] != 0)) for one in tables]
        self.routers, self.tables = routers, tables
        self.start_outside = _start_outside(tables, dumps)
        unended = [table.take(table["end_source"] == Source.UNKNOWN) for table in tables]
        self.unended = _hashes(unended)
        self.follows = all(lookalikes.has_id(table).all() for table in unended)

    def keys(self) -> frozenset[int]:
        """The hashes of the keys of all candidates."""
        return frozenset(map(int, _hashes(self.tables)))


def _hashes(tables: list[Table]) -> NDArray[np.uint64]:
    """Hashes of the keys of all rows."""
    return np.concatenate([np.zeros(0, np.uint64), *map(flowkey.hashes, tables)])


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


def _unreadable(listing: find.FolderListing) -> list[CtrecorderError]:
    """Files that may contain candidates, and cannot be read."""
    foreign = [ArchiveError(f"{path}: not a segment of ctrecorder") for path in listing.foreign]
    return [*foreign, *(ArchiveError(why) for _, why in listing.unreadable)]


def _needed(who_query: WhoQuery) -> Query:
    """A query for all records of flows with the public and the remote end."""
    public, to = who_query.public, who_query.to
    terms = [Term(public.networks, public.ports, (REPLY_DST, ORIG_DST))]
    if to is not None:
        terms.append(Term(to.networks, to.ports, (ORIG_SRC, ORIG_DST, REPLY_SRC)))
    return Query(protocols=who_query.protocols, terms=tuple(terms))


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
    window = who_query.recorded
    for batch in list_connections(archive, COLUMNS, losses=losses, window=window):
        for table in batch.tables:
            wanted = _overlaps(table, who_query, dumps) & _has_ends(table, who_query)
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


def _overlaps(table: Table, who_query: WhoQuery, dumps: Dumps) -> NDArray[np.bool_]:
    """(rows,): which connections may have been open in the window.

    One without a recorded start may have begun right after the last dump before it.  A start that
    is a time of receipt may be late.
    """
    without_start, existed = _without_start(table)
    late = np.where(table["start_source"] == Source.RECEIPT, parts.RECEIPT_LATE_NS, 0)
    earliest_start = np.where(
        without_start, dumps.last_begin(existed)[0], table["start"].astype(np.int64) - late
    )
    heard = without_start & ((table["seen"] & parts.NEW) != 0)
    if heard.any():
        last_step = dumps.last_step(existed)
        earliest_start = np.where(heard, np.maximum(earliest_start, last_step), earliest_start)
    ends_before = (table["end"] != 0) & (table["end"] < who_query.recorded[0])
    overlaps: NDArray[np.bool_] = (earliest_start < who_query.until) & ~ends_before
    return overlaps


def _sides(table: Table, who_query: WhoQuery) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(rows,) each: where the public end is that of who opened the connection, and where it was
    called; with the wanted remote end opposite to it.
    """
    outbound = _endpoint_is(table, REPLY_DST, who_query.public)
    inbound = _endpoint_is(table, ORIG_DST, who_query.public)
    if (to := who_query.to) is not None:
        outbound &= _endpoint_is(table, ORIG_DST, to) | _endpoint_is(table, REPLY_SRC, to)
        inbound &= _endpoint_is(table, ORIG_SRC, to)
    return outbound, inbound


def _has_ends(table: Table, who_query: WhoQuery) -> NDArray[np.bool_]:
    """(rows,): which have the public end as a holder has it, and the remote end opposite to it."""
    outbound, inbound = _sides(table, who_query)
    return outbound | inbound


def roles(table: Table, who_query: WhoQuery) -> Roles:
    """Who holds the public end in the candidates `table`."""
    outbound, inbound = map(np.flatnonzero, _sides(table, who_query))
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


def _endpoint_is(table: Table, endpoint: tuple[str, str], term: Term) -> NDArray[np.bool_]:
    """(rows,): whose address and port columns `endpoint` match the term."""
    terms = (Term(term.networks, term.ports, (endpoint,)),)
    return Query(terms=terms, connections=True).evaluate(table)


def _differ(table: Table, first: str, second: str) -> NDArray[np.bool_]:
    """(rows,): where two columns differ."""
    differ: NDArray[np.bool_] = table[first] != table[second]
    return differ


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
