"""Who held this public address and port at that time: all candidates, and whether the log covers
that time whole.

An address and port after NAT do not name one inside host: several hold them at once, to different
remote ends.  So the answer is a list, and the remote end decides.  Works for SNAT (the public end
is where replies go), for DNAT (it is what was called from outside), and for who holds a public
address itself.

Reads only what it must: of an archive the first and last frame of each segment; then the segments
that touch the time and, of each recording, the one before and the one after; then as many more as
the candidates' starts and ends lie outside of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.archive import chain, find
from ctrecorder.archive.find import Span
from ctrecorder.columns import TUPLE, Source, Table
from ctrecorder.connections import parts
from ctrecorder.ctlog.frame import Gap
from ctrecorder.ctlog.predicate import ORIG_DST, ORIG_SRC, REPLY_DST, Query, Term
from ctrecorder.errors import ArchiveError, CtrecorderError, UsageError
from ctrecorder.findings import Finding
from ctrecorder.query import answer
from ctrecorder.query.answer import Archive
from ctrecorder.query.parse import parse_network, parse_ports

# Where a candidate began or ended outside of the segments that were read, so many times more of
# them are.
_FURTHER = 4
COLUMNS = (*TUPLE, *parts.SPAN, "present", "zone", "mark", "status")


@dataclass(frozen=True)
class WhoQuery:
    """The question.

    `since` and `until`: ns UTC, the first included and the last not; `to`: the remote end, None:
    any.
    """

    public: Term
    since: int
    until: int
    to: Term | None = None
    protocols: frozenset[int] = frozenset()


@dataclass
class Answer:
    """`tables`: candidates, each table in order of start, with the columns of `COLUMNS`, and
    `roles` for each.

    `gaps`: what is missing from the log at that time; none: it is complete, as far as is known if
    not all losses were `counted`. `findings`: what is damaged, or cannot be read.
    """

    tables: list[Table]
    gaps: list[Gap]
    findings: list[Finding | CtrecorderError]
    stats: answer.ScanStats
    counted: bool

    def __len__(self) -> int:
        return sum(map(len, self.tables))


class Roles(NamedTuple):
    """Which columns of a row are the inside and the remote end, (rows,) bool: `inbound` if the
    public end was called (DNAT).

    Outbound: inside is orig_src, remote orig_dst.  Inbound: inside is reply_src, remote orig_src.
    """

    inbound: NDArray[np.bool_]
    translated: NDArray[np.bool_]


def parse_end(text: str) -> Term:
    """ "192.0.2.7:80", "[2001:db8::1]:80", or an address alone (any port), as a term without ends.

    Raises UsageError.
    """
    address, colon, port = text.rpartition(":")
    if not colon or (text.count(":") > 1 and not address.endswith("]")):
        address, port = text, ""
    network = parse_network(address)
    if network.low != network.high:
        raise UsageError(f"'{text}' is a network: name one address, with or without :PORT")
    return Term((network,), (parse_ports(port),) if port else ())


def ask(paths: list[str], asked: WhoQuery, now: int) -> Answer:
    """The answer from the segments and folders `paths`.  Raises ArchiveError if there are none."""
    found = find.find(paths, spans=True)
    if not found.segments:
        raise ArchiveError(f"{', '.join(paths)}: no segments here; is ctrecord running?")
    before, after = 1, 1
    while True:
        chosen, more_before, more_after = _choose(found.spans, asked, before, after)
        opened = _open(chosen, asked)
        try:
            dumps = _Dumps(opened)
            tables = list(_candidates(opened, asked, dumps))
            begins, ends = _outside(tables, dumps)
            if not (begins and more_before) and not (ends and more_after):
                missing, counted = _missing(opened, asked, dumps, now), _is_counted(opened, asked)
                return Answer(
                    tables,
                    missing,
                    [*_unread(found), *opened.findings],
                    opened.query.stats,
                    counted,
                )
        finally:
            for segment in opened.segments:
                segment.close()
        before, after = before * (_FURTHER if begins else 1), after * (_FURTHER if ends else 1)


def _unread(found: find.FolderListing) -> list[CtrecorderError]:
    """Files that may hold an answer, for all that is known of them."""
    strangers = [ArchiveError(f"{path}: not a segment of ctrecorder") for path in found.foreign]
    return [*strangers, *(ArchiveError(why) for _, why in found.unreadable)]


def _choose(
    spans: list[Span], asked: WhoQuery, before: int, after: int
) -> tuple[list[str], bool, bool]:
    """The paths of those that touch the time, `before` more that are earlier and `after` later;
    whether there are still more.

    Recordings side by side have as many segments in an hour, so what is near in time is counted,
    not what is next in the list.
    """
    touching = [span for span in spans if span.begin < asked.until and span.end >= asked.since]
    earlier = [span for span in spans if span.end < asked.since]
    later = [span for span in spans if span.begin >= asked.until]
    earlier.sort(key=lambda span: span.end)
    side_by_side = max(len(touching), 1)
    first, last = max(len(earlier) - before * side_by_side, 0), after * side_by_side
    chosen = [*earlier[first:], *touching, *later[:last]]
    return [span.path for span in chosen], first > 0, last < len(later)


def _open(paths: list[str], asked: WhoQuery) -> Archive:
    """The segments, with a question that wants all that was recorded of flows with the public end."""
    ends = (REPLY_DST, ORIG_DST)
    terms = [Term(asked.public.networks, asked.public.ports, ends)]
    if asked.to is not None:
        terms.append(Term(asked.to.networks, asked.to.ports, (ORIG_SRC, ORIG_DST)))
    return answer.open_archive(paths, Query(protocols=asked.protocols, terms=tuple(terms)))


class _Dumps:
    """The complete dumps in the opened segments: a flow that the last one before a moment lacks
    began after it.
    """

    def __init__(self, opened: Archive) -> None:
        chains: dict[str, list[tuple[int, int]]] = {}
        for segment in opened.segments:
            found = chains.setdefault(segment.header.chain or "", [])
            found += [(mark.end, mark.begin) for mark in segment.marks if mark.is_complete_dump]
            found.sort()
        self._chains = [
            (np.array([end for end, _ in found], np.int64), [begin for _, begin in found])
            for found in chains.values()
        ]
        self._first = opened.first

    def last_before(
        self, moments: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(n,): when the last dump of each recording that ended before each of `moments` had begun,
        and whether there is one in all.
        """
        begin, known = np.full(len(moments), times.END), np.ones(len(moments), np.bool_)
        for ends, begins in self._chains:
            place = np.searchsorted(ends, moments)
            known &= place > 0
            begin = np.minimum(begin, np.array([self._first, *begins], np.int64)[place])
        return begin, known


def _candidates(opened: Archive, asked: WhoQuery, dumps: _Dumps) -> Iterator[Table]:
    """The connections that held the public end at that time, and whose remote end is the one asked
    for.
    """
    for batch in answer.connections(opened, COLUMNS):
        for table in batch.tables:
            wanted = _lived(table, asked, dumps) & _held(table, asked)
            if wanted.any():
                yield table.take(wanted)


def _unseen_start(table: Table) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(rows,): of which the start was not heard, and when they were first heard of."""
    unknown = table["start_source"] == Source.UNKNOWN
    return unknown | (table["start_source"] == Source.BOUND), np.where(
        unknown, table["end"], table["start"]
    )


def _lived(table: Table, asked: WhoQuery, dumps: _Dumps) -> NDArray[np.bool_]:
    """(rows,): which may have been open at that time.

    A flow whose start was not heard may have begun right after the last dump.
    """
    unseen, first_heard = _unseen_start(table)
    earliest = np.where(unseen, dumps.last_before(first_heard)[0], table["start"])
    lived: NDArray[np.bool_] = (earliest < asked.until) & (
        (table["end"] == 0) | (table["end"] >= asked.since)
    )
    return lived


def _held(table: Table, asked: WhoQuery) -> NDArray[np.bool_]:
    """(rows,): which had the public end where a holder has it, and the remote end on the other side."""
    outbound, inbound = _mask(table, asked.public, REPLY_DST), _mask(table, asked.public, ORIG_DST)
    if asked.to is not None:
        outbound &= _mask(table, asked.to, ORIG_DST)
        inbound &= _mask(table, asked.to, ORIG_SRC)
    return outbound | inbound


def _mask(table: Table, term: Term, end: tuple[str, str]) -> NDArray[np.bool_]:
    return Query(terms=(Term(term.networks, term.ports, (end,)),), connections=True).evaluate(table)


def roles(table: Table, asked: WhoQuery) -> Roles:
    """Who is who in each candidate."""
    inbound = ~_mask(table, asked.public, REPLY_DST)
    if asked.to is not None:
        inbound |= ~_mask(table, asked.to, ORIG_DST)
    source = (table["orig_src"] != table["reply_dst"]) | (
        table["orig_sport"] != table["reply_dport"]
    )
    target = (table["orig_dst"] != table["reply_src"]) | (
        table["orig_dport"] != table["reply_sport"]
    )
    return Roles(inbound, np.where(inbound, target, source))


def _outside(tables: Iterable[Table], dumps: _Dumps) -> tuple[bool, bool]:
    """If what was not read may tell of a candidate's start, and of one's end: no dump in what was
    read rules it out.
    """
    begins = ends = False
    for table in tables:
        unseen, first_heard = _unseen_start(table)
        begins = begins or bool((unseen & ~dumps.last_before(first_heard)[1]).any())
        ends = ends or bool((table["end_source"] == Source.UNKNOWN).any())
    return begins, ends


def _missing(opened: Archive, asked: WhoQuery, dumps: _Dumps, now: int) -> list[Gap]:
    """What the log lacks of that time: gaps since the last dump before it, what is before and after
    all segments, missing segments.
    """
    if not opened.segments:  # all were refused, which `findings` tells
        return []
    window = Archive(replace(opened.query, since=asked.since, until=asked.until))
    window.segments, window.first, window.last, window.live = (
        opened.segments,
        opened.first,
        opened.last,
        opened.live,
    )
    lacking = {*window.silences(now), *_holes(opened, asked)}
    begin, known = dumps.last_before(np.array([asked.since], np.int64))
    window.query = replace(window.query, since=int(begin[0]) if known[0] else asked.since)
    return sorted({*window.gaps(), *lacking}, key=lambda gap: (gap.begin, gap.end))


def _is_counted(opened: Archive, asked: WhoQuery) -> bool:
    """If all that was recorded then was recorded by one who counts what it loses."""
    touching = [
        one for one in opened.segments if one.times[0] < asked.until and one.times[1] >= asked.since
    ]
    return all(one.counts_losses for one in touching)


def _holes(opened: Archive, asked: WhoQuery) -> Iterator[Gap]:
    """Times between two segments of a recording that do not follow on each other: what was there is
    gone.
    """
    last: dict[str, tuple[int, chain.Link]] = {}
    for segment in opened.segments:
        link = chain.link(segment)
        begin, end = segment.times
        if link.chain in last:
            before, earlier = last[link.chain]
            if (
                earlier.hashes
                and not link.follows(earlier)
                and before < asked.until
                and begin >= asked.since
                and before < begin
            ):
                yield Gap(before, begin, "not-recording", None, "a segment is missing")
        last[link.chain] = end, link
