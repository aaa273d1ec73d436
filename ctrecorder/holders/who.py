"""Who held a public address and port at a time: all candidates, and whether the log is complete.

A public address and port do not name one inside host: several hosts use them at once, to different
remote ends.  So the answer is a list, and the remote end decides.  It covers SNAT (the public end
is the destination of replies), DNAT (the public end was called from outside) and hosts that have a
public address themselves.

Of each segment of an archive only the first and the last frame are read.  Then the segments that
overlap the window are read, and of each recording the one before and the one after.  If the start
or the end of a candidate is outside of these, or the last dump of the table before the window,
more are read, of the router of that candidate or table alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.archive import find
from ctrecorder.archive.follow import Followed
from ctrecorder.archive.near import Chains
from ctrecorder.archive.routers import router_of
from ctrecorder.archive.segments_read import SegmentRead, segments_read
from ctrecorder.archive.selection import Selection, Selector, selectors
from ctrecorder.columns import Table
from ctrecorder.ctlog.predicate import (
    ORIG_DST,
    ORIG_SRC,
    REPLY_DST,
    REPLY_SRC,
    Query,
    Term,
)
from ctrecorder.errors import ArchiveError, CtrecorderError, NoSegmentsError, UsageError
from ctrecorder.filters.values import parse_network, parse_ports
from ctrecorder.findings import Finding
from ctrecorder.holders.candidates import Candidates, Held, Uses, judge_answer
from ctrecorder.holders.source import Source
from ctrecorder.query import evidence
from ctrecorder.query.clock import ClockState, clock_error_ns, clocks
from ctrecorder.query.coverage import Scope
from ctrecorder.query.evidence import Evidence
from ctrecorder.query.open import Archive, ScanStats, joined, open_archive
from ctrecorder.query.verdict import Verdict, is_recorded, needs_earlier
from ctrecorder.sealing.imported import Imports, imported

# If the start or the end of a candidate is outside of the segments that were read, this many times
# as many are read next.  Less: a connection of a week takes more rounds.  More: reads for nothing.
_WIDENING_FACTOR = 4


@dataclass(frozen=True)
class WhoQuery:
    """Who held `public` at since <= time < until?

    `public`: the address and port, a term without endpoints.
    `since`, `until`: ns UTC.
    `to`: the remote address and port, as the inside host called it (orig_dst) or as it is behind
    DNAT (reply_src); None: any.
    `protocols`: numbers; empty: any.
    `add_clock_error`: the span is widened by what the clocks that recorded it were off at most.
    `only_whether`: it is enough to know if anybody did: the search ends with the first candidate.
    """

    public: Term
    since: int
    until: int
    to: Term | None = None
    protocols: frozenset[int] = frozenset()
    add_clock_error: bool = False
    only_whether: bool = False

    @property
    def held(self) -> Held:
        """What is asked for, without what only chooses rows."""
        return Held(self.public, self.to, self.since, self.until)

    def widened(self, ns: int) -> WhoQuery:
        """The query with a span that is `ns` longer on both sides."""
        since, until = max(self.since - ns, times.BEGIN), min(self.until + ns, times.END)
        return replace(self, since=since, until=until, add_clock_error=False)


@dataclass
class Answer:
    """The candidates, and whether the log proves that there are no others.

    `tables`: the candidates with `candidates.COLUMNS`, each table in order of start; see
    `candidates.roles`.
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
    `apart`: the routers have nothing in common: one inside address of two of them is two hosts.
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
    apart: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.tables))


class Reach(NamedTuple):
    """What is read for a question, of one router.

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


class _Read(NamedTuple):
    """What was read of one router: its open segments, the candidates, and what the log proves."""

    archive: Archive
    found: Candidates
    known: Evidence


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
    paths: list[str] | Source, who_query: WhoQuery, now: int, live_folder: str | None = None
) -> Answer:
    """Search the segments and folders `paths`, or another source; `now`: ns UTC.

    `live_folder`: where recorders that run publish their state; None: the usual one.  Raises
    NoSegmentsError if there are no segments.
    """
    with Asked(paths, now, live_folder) as asked:
        return asked.answer(who_query)


class Asked:
    """An archive that is asked: its folders are read once, and each segment is opened once.

    An answer does not depend on the questions before it.
    """

    def __init__(
        self,
        paths: list[str] | Source,
        now: int,
        live_folder: str | None = None,
        jobs: int = 1,
    ) -> None:
        """As `answer`.  `jobs`: so many processes share the memory for what was decoded."""
        # The states are read before the folder, and that before the segments.
        self._states, self._now = evidence.live_states(live_folder), now
        self._source = paths if isinstance(paths, Source) else Source(paths)
        listing = self._source.find()
        if not listing.segments:
            where = ", ".join(self._source.paths)
            raise NoSegmentsError(f"{where}: no segments here; is ctrecord running?")
        self._unreadable = _unreadable(listing)
        self._selectors = selectors(listing.spans)
        self._pool, self._receipts = self._source.pool(jobs), self._source.receipts()
        self._uses: Uses = {}
        self._imports = Imports()

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

    def prepare(self, asked: Iterable[tuple[WhoQuery, Reach]]) -> None:
        """Get ready for attempts at these questions."""
        self._source.prepare(
            (self._paths(selector, each, reach)[0], _needed(each))
            for each, reach in asked
            for selector in self._selectors
        )

    def attempt(self, who_query: WhoQuery, reach: Reach) -> Answer | Reach:
        """The answer, or how far to reach for it if `reach` is not enough.

        Of many routers each is read as far as it needs, at once: what has been read of the others
        would be lost.
        """
        if who_query.add_clock_error:
            if reach.added is None:
                reach = reach._replace(added=self._clock_error(who_query))
            who_query = who_query.widened(reach.added or 0)
        reads: list[_Read] = []
        for selector in self._selectors:
            read = self._read(selector, who_query, reach)
            while isinstance(read, Reach):
                if len(self._selectors) == 1:
                    self._pool.trim()
                    return read
                read = self._read(selector, who_query, read)
            reads.append(read)
            if who_query.only_whether and read.found.tables:
                break
        answer = self._answer(who_query, reads, reach.added or 0)
        self._pool.trim()
        return answer

    def _read(self, selector: Selector, who_query: WhoQuery, reach: Reach) -> _Read | Reach:
        """What there is of a router, or how far to reach for it if `reach` is not enough."""
        archive, selection = self._open(selector, who_query, reach)
        found = Candidates(archive, who_query.held, self._now)
        known = evidence.gather(
            archive.segments,
            selector.chains,
            self._states,
            dumps=True,
            losses=found.losses,
            receipts=self._receipts,
        )
        read = _Read(archive, found, known)
        if who_query.only_whether and found.tables:
            return read
        return self._wider(selector.chains, reach, selection, read, _scope(who_query)) or read

    def _answer(self, who_query: WhoQuery, reads: list[_Read], added: int) -> Answer:
        """The answer from what was read of each router."""
        archive, known = joined([one.archive for one in reads]), Evidence()
        for one in reads:
            known.recordings += one.known.recordings
            known.unread += one.known.unread
        failed = [*self._unreadable, *archive.failed]
        scope, verdict = judge_answer(
            archive, who_query.public, _scope(who_query), known, failed, self._now, self._uses
        )
        rests_on = [
            path
            for one in reads
            for path in imported(
                one.archive.segments, one.found.begin, who_query.until, self._imports
            )
        ]
        return Answer(
            [table for one in reads for table in one.found.tables],
            [name for one in reads for name in one.found.routers],
            frozenset(segment.header.host or "" for segment in archive.segments),
            verdict,
            scope,
            failed,
            [one for segment in archive.segments for one in segment.findings],
            [*archive.copies, *self._source.copies(one.path for one in archive.segments)],
            clocks(archive.segments, who_query.since, who_query.until),
            archive.query.stats,
            added,
            segments_read(archive.segments),
            is_recorded(scope, known.recordings),
            tuple(rests_on),
            any(router_of(segment.path) for segment in archive.segments),
        )

    def _open(
        self, selector: Selector, who_query: WhoQuery, reach: Reach
    ) -> tuple[Archive, Selection]:
        """The segments to read, opened."""
        paths, selection = self._paths(selector, who_query, reach)
        query = _needed(who_query)
        self._source.prepare([(paths, query)])
        return open_archive(paths, query, self._pool), selection

    def _paths(
        self, selector: Selector, who_query: WhoQuery, reach: Reach
    ) -> tuple[list[str], Selection]:
        """The segments to read."""
        selection = selector.select(*who_query.held.recorded, reach.before, reach.after)
        followed = () if reach.followed is None else reach.followed.paths
        return [*selection.paths, *followed], selection

    def _wider(
        self, chains: Chains, reach: Reach, selection: Selection, read: _Read, scope: Scope
    ) -> Reach | None:
        """What to read if `reach` is not enough; None: it is."""
        archive, found, known = read
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
            followed = self._follow(chains, archive, found.unended)
            if followed is not None:
                return reach._replace(followed=followed, keys=keys)
        return reach._replace(after=reach.after * _WIDENING_FACTOR, followed=None, follows=False)

    def _follow(
        self, chains: Chains, archive: Archive, hashes: NDArray[np.uint64]
    ) -> Followed | None:
        """Follow flows of the only recording that was read; None if that is not possible."""
        segments = archive.segments
        if archive.copies or len({segment.pairing_key for segment in segments}) != 1:
            return None
        last = max(segments, key=lambda segment: chains.place(segment.path)[0])
        return self._source.follow(last.path, hashes, chains, self._pool, archive.query)

    def _clock_error(self, who_query: WhoQuery) -> int:
        """How far off the clocks were at most that recorded the span of a question, ns."""
        opened = [self._open(selector, who_query, Reach())[0] for selector in self._selectors]
        segments = [segment for one in opened for segment in one.segments]
        return clock_error_ns(clocks(segments, who_query.since, who_query.until))


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
        address=_address(public),
        remote=to is not None,
    )


def _address(public: Term) -> str:
    """The only address of a term, as text; "" if there are several."""
    if len(public.networks) != 1 or public.networks[0].low != public.networks[0].high:
        return ""
    return str(ipaddress.ip_address(public.networks[0].low))


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
