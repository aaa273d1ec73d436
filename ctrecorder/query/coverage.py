"""Coverage: for which times, families and protocols the log proves that it holds every event.

Coverage is positive evidence.  A time is covered only if a watermark of a recording reaches past
it, the recording records what the question is about, and no hole touches the question then.
Whatever is not covered is a hole with a reason.

A recording is what one chain of segments holds.  Recordings of one connection table (two recorders
side by side) cover for each other; recordings of different tables do not.

Times are ns UTC.  A span is a pair (start, end): start is in it, end is not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ctrecorder.times import BEGIN, END, SECOND

Span = tuple[int, int]

# A recorder makes what it received readable within so long: younger times are not missing, but
# not there yet.
NOT_YET_NS = 5 * SECOND


@dataclass(frozen=True)
class Hole:
    """A time for which the log may lack connections.

    `reason`: of a GAP in ctlog(5), or one of NOT_RECORDED, MISSING, DAMAGED, NOT_YET, UNPROVED.
    `lost`: how many events or connections, None if unknown; `at_least`: it may be more.
    The rest narrows it; None or empty: all.  `family`: AF_INET or AF_INET6.  `protocols`, `ports`:
    numbers.  `networks`: prefixes as text.  `untranslated`: only connections without NAT.
    `accepted`: the operator has acknowledged it.
    """

    start: int
    end: int
    reason: str
    lost: int | None = None
    detail: str = ""
    at_least: bool = False
    family: int | None = None
    protocols: frozenset[int] = frozenset()
    ports: frozenset[int] = frozenset()
    networks: tuple[str, ...] = ()
    untranslated: bool = False
    accepted: bool = False


NOT_RECORDED, MISSING, DAMAGED = "not-recorded", "missing-segment", "damaged"
NOT_YET, UNPROVED, NOT_RECORDING = "not-yet", "unproved", "not-recording"


@dataclass(frozen=True)
class Scope:
    """What a question is about, as far as coverage depends on it.

    `since`, `until`: its span.  `families`, `protocols`, `ports`: empty means any.
    `only_translated`: the address is one that only NAT gives out, so that connections without NAT
    are no answer.
    """

    since: int = BEGIN
    until: int = END
    families: frozenset[int] = frozenset()
    protocols: frozenset[int] = frozenset()
    ports: frozenset[int] = frozenset()
    only_translated: bool = False

    def is_touched_by(self, hole: Hole) -> bool:
        """If `hole` can hide what the question is about."""
        if hole.start >= self.until or max(hole.end, hole.start + 1) <= self.since:
            return False
        if hole.untranslated and self.only_translated:
            return False
        if hole.family is not None and self.families and hole.family not in self.families:
            return False
        return _overlap(hole.protocols, self.protocols) and _overlap(hole.ports, self.ports)


def _overlap(first: frozenset[int], second: frozenset[int]) -> bool:
    """If two sets share a member; an empty set has all."""
    return not first or not second or bool(first & second)


class Basis(enum.Enum):
    """What the coverage of a segment rests on."""

    WATERMARKS = "watermarks"
    VERSION_1_0 = "version 1.0"  # no watermarks: the absence of GAPs is all that it can say
    NOTHING = "nothing"  # the C ctrecorder did not count its losses


@dataclass(frozen=True)
class SegmentSpan:
    """What one segment says of coverage.

    `start`: time of its HEADER.  `until`: its last watermark; of version 1.0 its latest time;
    None if nothing in it is proved.  `follows`: it follows on the segment before it in the list.
    `restarted`: it is the first one of a recorder that was started, so that nothing before its
    HEADER is covered.  `protocols`: recorded ones, empty for all.  `host`, `boot_id`, `netns`: of
    which connection table.
    """

    chain: str
    sequence: int
    start: int
    until: int | None
    follows: bool = True
    restarted: bool = False
    basis: Basis = Basis.WATERMARKS
    protocols: frozenset[int] = frozenset()
    nat_only: bool = False
    holes: tuple[Hole, ...] = ()
    host: str = ""
    boot_id: str = ""
    netns: str = ""


class Completeness(enum.Enum):
    """What can be said of an answer."""

    COMPLETE = "complete"
    VERSION_1_0 = "complete as far as version 1.0 could know"
    NOT_YET = "not yet"
    NOT_COMPLETE = "not complete"


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is complete; else `holes`, in order of time.

    `until`: for NOT_YET, up to when the question is covered now.  `accepted`: holes that the
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


class LiveWatermark(NamedTuple):
    """What a running recorder publishes: up to when its open segment is complete, and its holes."""

    watermark: int
    holes: tuple[Hole, ...] = ()


@dataclass
class Recording:
    """The segments of one chain, in the order of their sequence; `live`: its recorder runs.

    `spans`: covered spans with their basis.  `holes`: all that is known to be missing.
    """

    segments: Sequence[SegmentSpan]
    live: LiveWatermark | None = None
    spans: list[tuple[Span, SegmentSpan]] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)

    def __post_init__(self) -> None:
        before: SegmentSpan | None = None
        reached = BEGIN
        for number, segment in enumerate(self.segments):
            last = number == len(self.segments) - 1
            until = segment.until
            if last and self.live is not None:
                until = max(until or BEGIN, self.live.watermark)
            start = segment.start
            if before is not None and segment.follows and not segment.restarted:
                start = reached  # the recorder went on
            elif before is not None and reached < start:
                self.holes += _between(reached, start, segment)
            if until is not None and until > start:
                self.spans.append(((start, until), segment))
            reached = max(reached, until or segment.start)
            self.holes += segment.holes
            before = segment
        if self.live is not None:
            self.holes += self.live.holes

    @property
    def start(self) -> int:
        """When it begins."""
        return self.segments[0].start if self.segments else END

    @property
    def reached(self) -> int:
        """Up to when it is covered, holes aside."""
        return max((span[1] for span, _ in self.spans), default=self.start)

    def table(self) -> set[tuple[str, str]]:
        """The connection tables it was recorded from: (boot_id, netns) of each segment."""
        return {(one.boot_id, one.netns) for one in self.segments if one.boot_id and one.netns}


def _between(reached: int, start: int, segment: SegmentSpan) -> list[Hole]:
    """The holes before `segment` that it does not note itself: reached..start less its GAPs."""
    noted = [(hole.start, hole.end) for hole in segment.holes]
    reason, detail = NOT_RECORDING, ""
    if not segment.follows:
        reason, detail = MISSING, "a segment is missing"
    return [Hole(*span, reason, detail=detail) for span in _without([(reached, start)], noted)]


def judge(scope: Scope, recordings: Iterable[Recording], now: int) -> Verdict:
    """The verdict for a question with `scope`, asked at `now`.

    Each connection table must be covered, by one of its recordings at each moment.
    """
    holes: set[Hole] = set()
    bases: set[Basis] = set()
    tables = _by_table(list(recordings))
    for members in tables:
        found, used = _uncovered(scope, members, now)
        holes |= found
        bases |= used
    if not tables:
        holes.add(Hole(scope.since, scope.until, NOT_RECORDING, detail="there is no recording"))
    accepted = {hole for hole in holes if hole.accepted}
    ordered = tuple(sorted(holes - accepted, key=lambda hole: (hole.start, hole.end, hole.reason)))
    kept = tuple(sorted(accepted, key=lambda hole: (hole.start, hole.end)))
    if ordered and all(hole.reason == NOT_YET for hole in ordered):
        until = min(hole.start for hole in ordered)
        return Verdict(Completeness.NOT_YET, ordered, until, kept)
    if ordered:
        return Verdict(Completeness.NOT_COMPLETE, ordered, accepted=kept)
    if Basis.VERSION_1_0 in bases:
        return Verdict(Completeness.VERSION_1_0, accepted=kept)
    return Verdict(Completeness.COMPLETE, accepted=kept)


def _by_table(recordings: list[Recording]) -> list[list[Recording]]:
    """The recordings of each connection table.

    Recordings that never ran at one time in one boot of one host are taken for the same table:
    a recorder that was set up anew goes on with what the old one recorded.
    """
    groups: list[list[Recording]] = []
    for one in sorted(recordings, key=lambda each: each.start):
        for group in groups:
            if any(_may_share(one, other) for other in group):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _may_share(one: Recording, other: Recording) -> bool:
    """If two recordings are of one table, as far as their headers tell."""
    hosts = {segment.host for each in (one, other) for segment in each.segments}
    if len(hosts) > 1:
        return False
    boots = {boot for boot, _ in one.table()} & {boot for boot, _ in other.table()}
    if not boots:
        return True
    return bool(one.table() & other.table())


def _uncovered(scope: Scope, members: list[Recording], now: int) -> tuple[set[Hole], set[Basis]]:
    """The holes of one table that the question touches, and the bases of what is covered."""
    window = (scope.since, scope.until)
    left = [window]
    bases: set[Basis] = set()
    for one in members:
        for span, segment in _answering(scope, one):
            covered = _without(
                _clip(span, window),
                [
                    (hole.start, max(hole.end, hole.start + 1))
                    for hole in one.holes
                    if scope.is_touched_by(hole)
                ],
            )
            if any(_clip(piece, part) for piece in covered for part in left):
                bases.add(segment.basis)
            left = [rest for piece in left for rest in _without([piece], covered)]
    holes: set[Hole] = set()
    for piece in left:
        holes |= _reasons(scope, members, piece, now)
    return holes, bases


def _answering(scope: Scope, one: Recording) -> Iterable[tuple[Span, SegmentSpan]]:
    """The spans of a recording that record what the question is about."""
    for span, segment in one.spans:
        recorded = not segment.protocols or (
            bool(scope.protocols) and scope.protocols <= segment.protocols
        )
        translated = not segment.nat_only or scope.only_translated
        if recorded and translated and segment.basis is not Basis.NOTHING:
            yield span, segment


def _reasons(scope: Scope, members: list[Recording], piece: Span, now: int) -> set[Hole]:
    """Why `piece` is not covered: the holes that touch it, clipped to what is new to say."""
    part = replace(scope, since=piece[0], until=piece[1])
    found = {hole for one in members for hole in one.holes if part.is_touched_by(hole)}
    explained = [(hole.start, max(hole.end, hole.start + 1)) for hole in found]
    for rest in _without([piece], explained):
        found |= _unexplained(scope, members, rest, now)
    return found


def _unexplained(scope: Scope, members: list[Recording], rest: Span, now: int) -> set[Hole]:
    """The holes that no recording has noted: before, behind, or beside what it records."""
    found: set[Hole] = set()
    answering = list(
        dict.fromkeys(segment for one in members for _, segment in _answering(scope, one))
    )
    beside = [
        (span, segment)
        for one in members
        for span, segment in one.spans
        if segment not in answering and _clip(span, rest)
    ]
    for span, segment in beside:
        first, last = _clip(span, rest)[0]
        found.add(Hole(first, last, NOT_RECORDED, detail=_not_recorded(segment)))
    for start, end in _without([rest], [span for span, _ in beside]):
        found |= _behind(members, start, end, now)
    return found


def _not_recorded(segment: SegmentSpan) -> str:
    """Why a segment does not answer a question."""
    if segment.basis is Basis.NOTHING:
        return "the C ctrecorder did not count the events that it lost"
    if segment.nat_only:
        return "connections without NAT are not recorded (nat_only)"
    return "not all protocols are recorded"


def _behind(members: list[Recording], start: int, end: int, now: int) -> set[Hole]:
    """Holes in start..end, a span in which no recording has anything."""
    live = any(one.live is not None for one in members)
    reached = max((one.reached for one in members), default=start)
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


def _clip(span: Span, window: Span) -> list[Span]:
    """The part of `span` in `window`: one span, or none."""
    start, end = max(span[0], window[0]), min(span[1], window[1])
    return [(start, end)] if start < end else []


def _without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """`spans` less `holes`, in order."""
    left = sorted(spans)
    for first, last in holes:
        left = [
            part
            for start, end in left
            for part in ((start, min(end, first)), (max(start, last), end))
            if part[0] < part[1]
        ]
    return left
