"""The verdict: whether an answer is complete, not complete, or not yet known, and why.  Pure."""

from __future__ import annotations

import bisect
import contextlib
import enum
import functools
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from ctrecorder.query.coverage import (
    NOT_RECORDED,
    NOT_RECORDING,
    NOT_YET,
    Basis,
    Hole,
    Recording,
    Scope,
    SegmentSpan,
)
from ctrecorder.spans import Span, clip, without
from ctrecorder.times import BEGIN


class Completeness(enum.Enum):
    """How complete an answer is."""

    COMPLETE = "complete"
    VERSION_1_0 = "complete as far as version 1.0 could know"
    NOT_YET = "not yet"
    NOT_COMPLETE = "not complete"


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is complete; else `holes`, in order of time.

    `until`: for NOT_YET, up to when is recorded now.  `accepted`: holes that the
    operator has acknowledged: they are named, and do not make an answer incomplete.
    """

    completeness: Completeness
    holes: tuple[Hole, ...] = ()
    until: int | None = None
    accepted: tuple[Hole, ...] = ()

    @property
    def proved(self) -> bool:
        """If an answer, also an empty one, can be relied on."""
        return self.completeness in (Completeness.COMPLETE, Completeness.VERSION_1_0)


def judge(
    scope: Scope, recordings: Iterable[Recording], now: int, unread: Iterable[Hole] = ()
) -> Verdict:
    """The verdict for a question with `scope`, asked at `now`.

    Each connection table must be covered, by one of its recordings at each moment.  `unread`: holes
    that no recording can cover, as files that cannot be read are.
    """
    recordings = list(recordings)
    tables = _by_table(recordings)
    parts = [_judge_table(scope, members, now) for members in tables]
    if not parts:
        detail = "there is no recording"
        parts = [_verdict({Hole(scope.since, scope.until, NOT_RECORDING, detail=detail)}, set())]
    holes = {hole for part in parts for hole in part.holes}
    holes |= {hole for hole in unread if scope.is_touched_by(hole)}
    accepted = {hole for part in parts for hole in part.accepted}
    bases = {Basis.VERSION_1_0} if any(_is_1_0(part) for part in parts) else set()
    found = _verdict(holes | accepted, bases)
    if found.completeness is Completeness.NOT_YET:
        first = min(hole.start for hole in found.holes)
        reached = [one.reached for one in recordings if one.reached < now]
        return replace(found, until=min([first, max(reached, default=first)]))
    return found


def _is_1_0(part: Verdict) -> bool:
    return part.completeness is Completeness.VERSION_1_0


def _verdict(holes: set[Hole], bases: set[Basis]) -> Verdict:
    """The verdict where `holes` touch the question, and the rest is covered on `bases`."""
    accepted = {hole for hole in holes if hole.accepted}
    ordered = tuple(sorted(holes - accepted, key=lambda hole: (hole.start, hole.end, hole.reason)))
    kept = tuple(sorted(accepted, key=lambda hole: (hole.start, hole.end)))
    completeness = Completeness.COMPLETE
    if ordered and all(hole.reason == NOT_YET for hole in ordered):
        completeness = Completeness.NOT_YET
    elif ordered:
        completeness = Completeness.NOT_COMPLETE
    elif Basis.VERSION_1_0 in bases:
        completeness = Completeness.VERSION_1_0
    return Verdict(completeness, ordered, accepted=kept)


def _judge_table(scope: Scope, members: list[Recording], now: int) -> Verdict:
    """The verdict over the recordings of one table.

    A connection that was open may have begun at any time.  It is known if nothing is missing since
    a dump of the table before, or up to a dump after: what was open is in the dump, or its end is
    recorded.
    """
    bare = _verdict(*_uncovered(scope, members, now))
    if not scope.open_flows or not bare.proved:
        return bare
    found: list[Verdict] = []
    for begin, end in _dumps(scope, members):
        reach = replace(scope, since=min(scope.since, begin), until=max(scope.until, end))
        found.append(_verdict(*_uncovered(reach, members, now)))
        if found[-1].proved:
            return found[-1]
    if not found:
        found.append(_verdict(*_uncovered(replace(scope, since=BEGIN), members, now)))
    return min(found, key=lambda one: one.completeness is Completeness.NOT_COMPLETE)


def is_recorded(scope: Scope, recordings: Iterable[Recording]) -> bool:
    """If a recording recorded anything in the span of a question, of one of its protocols."""
    return any(
        start < scope.until
        and scope.since < end
        and (not segment.protocols or not scope.protocols or scope.protocols & segment.protocols)
        for one in recordings
        for (start, end), segment in one.spans
    )


def needs_earlier(scope: Scope, recordings: Iterable[Recording], now: int) -> bool:
    """If an earlier dump than those of `recordings` could prove an answer."""
    tables = _by_table(list(recordings))
    return any(
        not any(end <= scope.since for _, end in _dumps(scope, members))
        and _verdict(*_uncovered(scope, members, now)).proved
        and not _judge_table(scope, members, now).proved
        for members in tables
    )


def _dumps(scope: Scope, members: list[Recording]) -> list[Span]:
    """The last complete dump before the span of a question, and the first one after that."""
    dumps = sorted(
        {
            dump
            for one in members
            for segment in one.segments
            if _answers(scope, segment)
            for dump in segment.dumps
        },
        key=lambda dump: dump[1],
    )
    before = [dump for dump in dumps if dump[1] <= scope.since]
    return before[-1:] + dumps[len(before) : len(before) + 1]


def _by_table(recordings: list[Recording]) -> list[list[Recording]]:
    """The recordings of each connection table.

    Recordings of one host that never ran at the same time in one boot count as one table: a
    recorder that was installed again continues the recording of the old one.
    """
    groups: list[list[_Origin]] = []
    for one in sorted(recordings, key=lambda each: each.start):
        origin = _Origin(one, {segment.host for segment in one.segments}, one.table())
        for group in groups:
            if any(origin.may_share(other) for other in group):
                group.append(origin)
                break
        else:
            groups.append([origin])
    return [[origin.recording for origin in group] for group in groups]


class _Origin(NamedTuple):
    """A recording, the hosts it is from, and their tables."""

    recording: Recording
    hosts: set[str]
    table: set[tuple[str, str]]

    def may_share(self, other: _Origin) -> bool:
        """If two recordings can be of one table, according to their headers."""
        if len(self.hosts | other.hosts) > 1:
            return False
        boots = {boot for boot, _ in self.table} & {boot for boot, _ in other.table}
        return not boots or bool(self.table & other.table)


def _uncovered(scope: Scope, members: list[Recording], now: int) -> tuple[set[Hole], set[Basis]]:
    """The holes of one table that the question touches, and the bases of what is covered."""
    window = (scope.since, scope.until)
    left = [window] if scope.since < scope.until else []
    bases: set[Basis] = set()
    for one in members:
        touching = [_span(hole) for hole in one.holes if scope.is_touched_by(hole)]
        by_basis: dict[Basis, list[Span]] = {}
        for span, segment in one.spans:
            if _answers(scope, segment):
                by_basis.setdefault(segment.basis, []).extend(
                    clip((span[0], min(span[1], now)), window)
                )
        for basis, spans in by_basis.items():
            rest = without(left, without(spans, touching))
            if rest != left:
                bases.add(basis)
            left = rest
    return _reasons(scope, members, left, now), bases


def _span(hole: Hole) -> Span:
    return hole.start, max(hole.end, hole.start + 1)


def _answers(scope: Scope, segment: SegmentSpan) -> bool:
    """If a segment records what the question is about."""
    recorded = not segment.protocols or (
        bool(scope.protocols) and scope.protocols <= segment.protocols
    )
    translated = not segment.nat_only or scope.only_translated
    proves = segment.basis is not Basis.NOTHING
    return recorded and translated and proves and not _omitted(scope, segment)


def _omitted(scope: Scope, segment: SegmentSpan) -> str:
    """Why a segment without remote ends does not answer a question; "": it does.

    An address that it took for outside was called from outside: the address was left out.
    """
    if segment.omits is None:
        return ""
    if scope.remote:
        return "remote ends are not recorded (omit): ask without --to"
    if not scope.address or scope.only_translated or _is_inside(scope.address, segment.omits):
        return ""
    return f"remote ends are not recorded (omit), and {scope.address} did not count as inside"


@functools.cache
def _is_inside(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address is in one of the networks of a HEADER."""
    one = ipaddress.ip_address(address)
    found = False
    for network in networks:
        with contextlib.suppress(ValueError):
            found |= one in ipaddress.ip_network(network, strict=False)
    return found


def _reasons(scope: Scope, members: list[Recording], left: list[Span], now: int) -> set[Hole]:
    """Why the spans in `left` are not covered: the holes that touch them."""
    found = {
        hole
        for one in members
        for hole in one.holes
        if scope.is_touched_by(hole) and _meets(_span(hole), left)
    }
    for rest in without(left, map(_span, found)):
        found |= _unexplained(scope, members, rest, now)
    return found


def _meets(span: Span, ordered: list[Span]) -> bool:
    """If `span` has a moment in one of the spans `ordered`, which are in order and do not touch."""
    at = bisect.bisect(ordered, (span[1],))
    return at > 0 and ordered[at - 1][1] > span[0]


def _unexplained(scope: Scope, members: list[Recording], rest: Span, now: int) -> set[Hole]:
    """The holes that no recording has noted: before, behind, or beside what it records."""
    found: set[Hole] = set()
    beside: list[Span] = []
    for one in members:
        for span, segment in one.spans:
            for first, last in clip((span[0], min(span[1], now)), rest):
                if not _answers(scope, segment):
                    why = _not_recorded(scope, segment)
                    found.add(Hole(first, last, NOT_RECORDED, detail=why))
                    beside.append((first, last))
    for start, end in without([rest], beside):
        found |= _behind(scope, members, (start, end), now)
    return found


def _not_recorded(scope: Scope, segment: SegmentSpan) -> str:
    """Why a segment does not answer a question."""
    if omitted := _omitted(scope, segment):
        return omitted
    if segment.basis is Basis.NOTHING:
        return "the C ctrecorder did not count the events that it lost"
    if segment.nat_only:
        return "connections without NAT are not recorded (nat_only)"
    return "not all protocols are recorded"


def _behind(scope: Scope, members: list[Recording], rest: Span, now: int) -> set[Hole]:
    """Holes in `rest`, a span in which no recording has anything."""
    start, end = rest
    live = any(
        one.live is not None and _answers(scope, one.segments[-1])
        for one in members
        if one.segments
    )
    reached = min(max((one.reached for one in members), default=start), now)
    found: set[Hole] = set()
    if start < reached:
        found.add(Hole(start, min(end, reached), NOT_RECORDING))
    first = max(start, reached)
    if live and first < end:
        return {*found, Hole(first, end, NOT_YET)}
    if first < min(end, now):
        detail = "the recorder does not run, or cannot prove that it does"
        found.add(Hole(first, min(end, now), NOT_RECORDING, detail=detail))
    if max(first, now) < end:
        found.add(Hole(max(first, now), end, NOT_YET, detail="the future"))
    return found
