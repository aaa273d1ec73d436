"""Whether an answer about an address is proved: the verdict, also for translated flows alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from ctrecorder import times
from ctrecorder.columns import ADDRESSES, Table
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
from ctrecorder.query.coverage import UNPROVED, Hole, Scope
from ctrecorder.query.evidence import Evidence
from ctrecorder.query.open import Archive
from ctrecorder.query.verdict import Verdict, judge
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count


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
                Query(terms=(replace(alone, endpoints=(endpoint,)),), connections=True).evaluate(
                    table
                )
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
