"""Coverage: for which times, families and protocols the log proves that it holds every event.

Coverage is positive evidence.  A time is covered only if a watermark of a recording is later, the
recording records the traffic of the query, and no hole affects the query at that time.  Everything
that is not covered is a hole with a reason.

A recording is the content of one chain of segments.  If two recorders record one connection table,
each of their recordings covers the holes of the other.  Recordings of different tables do not.
`verdict` judges a query by them.

Times are ns UTC.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ctrecorder.render.timeline import CoverageHole
from ctrecorder.spans import Span, cut, joined, without
from ctrecorder.times import BEGIN, END, MINUTE

# Shorter times that a clock skipped and came back to stay in doubt.  Less than the limit of
# `connections.parts`: a flow that was dated while the clock was ahead counts as not begun.
MIN_ONCE_NS = MINUTE

# A time for which the log may lack connections.  `reason`: of a GAP in ctlog(5), or one of these.
Hole = CoverageHole
NOT_RECORDED, MISSING, DAMAGED = "not-recorded", "missing-segment", "damaged"
NOT_YET, UNPROVED, NOT_RECORDING = "not-yet", "unproved", "not-recording"
UNKNOWN, NOT_RECORDABLE = "tracking-unknown", "not-recordable"


@dataclass(frozen=True)
class Scope:
    """The part of a query on which coverage depends.

    `since`, `until`: its span.
    `families`, `protocols`, `ports`: empty means any.
    `only_translated`: only NAT uses the address, so connections without NAT are no answer.
    `open_flows`: the query is about connections that were open in the span and may have begun long
    before it; otherwise it is about events in the span.
    `address`: it is about who held this one, "": about no such.  `remote`: it names remote ends.
    """

    since: int = BEGIN
    until: int = END
    families: frozenset[int] = frozenset()
    protocols: frozenset[int] = frozenset()
    ports: frozenset[int] = frozenset()
    only_translated: bool = False
    open_flows: bool = False
    address: str = ""
    remote: bool = False

    def is_touched_by(self, hole: Hole) -> bool:
        """If `hole` can hide connections that the query is about."""
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
    """The kind of evidence for the coverage of a segment."""

    WATERMARKS = "watermarks"
    VERSION_1_0 = "version 1.0"  # no watermarks: the absence of GAPs is all that it can say
    NOTHING = "nothing"  # the C ctrecorder did not count its losses


@dataclass(frozen=True)
class SegmentSpan:
    """The coverage of one segment.

    `start`: time of its HEADER.  `until`: its last watermark; of version 1.0 its latest time;
    None if nothing in it is proved.  `follows`: it follows on the segment before it in the list; if
    not, ctexpire deleted those between (`expired`), or they are there and were not read
    (`skipped`), or they are missing.  `restarted`: it is the first one of a recorder that was
    started, so that nothing before its HEADER is covered.  `protocols`: recorded ones, empty for
    all.  `omits`: remote ends are left out; these networks were inside; None: they are not.
    `steps`: holes of steps of the clock whose ns are known, positive if it was set forward.
    `dumps`: begin and end of each complete dump of the table.  `on`: what else was on, as
    phrases.  `host`, `boot_id`, `netns`: of
    which connection table.
    """

    chain: str
    sequence: int
    start: int
    until: int | None
    follows: bool = True
    expired: bool = False
    skipped: bool = False
    restarted: bool = False
    basis: Basis = Basis.WATERMARKS
    protocols: frozenset[int] = frozenset()
    nat_only: bool = False
    omits: tuple[str, ...] | None = None
    holes: tuple[Hole, ...] = ()
    steps: tuple[tuple[Hole, int], ...] = ()
    dumps: tuple[Span, ...] = ()
    on: tuple[str, ...] = ()
    host: str = ""
    boot_id: str = ""
    netns: str = ""


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
        noted = joined(
            (hole.start, hole.end)
            for one in self.segments
            for hole in one.holes
            if not hole.is_partial
        )
        doubts = iter(_not_lived_once([step for one in self.segments for step in one.steps]))
        before: SegmentSpan | None = None
        reached = BEGIN
        for number, segment in enumerate(self.segments):
            after = self.segments[number + 1] if number + 1 < len(self.segments) else None
            until = segment.until
            if after is None and self.live is not None:
                until = max(until or BEGIN, self.live.watermark)
            if until is not None and after is not None and after.follows:
                # A clock that was wrong for a while proves nothing.
                until = min(until, after.start) if after.start > segment.start else until
            start = segment.start
            if before is not None and segment.follows and not segment.restarted:
                start = min(start, reached)  # the recorder continued
            elif before is not None and reached < start and not segment.skipped:
                self.holes += _between(reached, start, segment, noted)
            if until is not None and until > start:
                self.spans.append(((start, until), segment))
            stepped = [hole for _ in segment.steps for hole in next(doubts)]
            self.holes += [_after_clock(hole, reached) for hole in (*segment.holes, *stepped)]
            reached = max(reached, until or segment.start)
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

    @property
    def last_start(self) -> int:
        """When its last segment was begun."""
        return max((one.start for one in self.segments), default=BEGIN)

    def table(self) -> set[tuple[str, str]]:
        """The connection tables it was recorded from: (boot_id, netns) of each segment."""
        return {(one.boot_id, one.netns) for one in self.segments if one.boot_id and one.netns}


def _not_lived_once(steps: Sequence[tuple[Hole, int]]) -> list[list[Hole]]:
    """What remains of each of `steps`, in the order in which they happened.

    A step forward skips times.  Where a later step back meets them, they came once after all: a
    clock that was ahead and is set right leaves only the times around both steps.  A clock that was
    behind dated flows into times before: these stay in doubt.
    """
    left: list[list[Span]] = []
    for number, (hole, step) in enumerate(steps):
        mine = [(hole.start, hole.end)]
        for other in reversed(range(number)):
            if step < 0 < steps[other][1]:
                both = without(mine, without(mine, left[other]))
                once = [span for span in both if span[1] - span[0] >= MIN_ONCE_NS]
                left[other], mine = without(left[other], once), without(mine, once)
        left.append(mine)
    return [
        [replace(hole, start=start, end=end) for start, end in spans]
        for (hole, _), spans in zip(steps, left, strict=True)
    ]


def _after_clock(hole: Hole, reached: int) -> Hole:
    """A clock that is set right: what was recorded before it went wrong stays proved."""
    if hole.reason == "clock" and hole.start < reached:
        return replace(hole, start=min(reached, hole.end))
    return hole


def _between(reached: int, start: int, segment: SegmentSpan, noted: Sequence[Span]) -> list[Hole]:
    """The holes before `segment` that no GAP has: reached..start less `noted`."""
    reason, detail = NOT_RECORDING, ""
    if segment.expired:
        detail = "expired: ctexpire deleted the segments"
    elif not segment.follows:
        reason, detail = MISSING, "a segment is missing"
    return [Hole(*span, reason, detail=detail) for span in cut([(reached, start)], noted)]
