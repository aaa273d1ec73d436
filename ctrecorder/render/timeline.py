"""What recordings cover, as rows in order of time within a window.  Pure.

`query/coverage` is below this package, so the data arrive in the classes of this module:

| here | from query/coverage |
|---|---|
| Coverage.spans | Recording.spans: a CoveredSpan for each ((start, end), segment) |
| CoveredSpan.protocols, .nat_only | those of the SegmentSpan; .basis is its basis.value |
| CoveredSpan.on | phrases of the segment's MARK state: what else was on |
| Coverage.holes | Recording.holes, which are of this class |
| Coverage.name, .host, .segments | chain and host of the first SegmentSpan; their number |
| Coverage.live_until | Recording.live.watermark; None if the recorder does not run |

Times are ns UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ctrecorder.spans import without

# UNCOUNTED: the C ctrecorder did not count its losses, so that nothing is proved.
WATERMARKS, VERSION_1_0, UNCOUNTED = "watermarks", "version 1.0", "nothing"


@dataclass(frozen=True)
class CoveredSpan:
    """A time that a recording covers, holes aside.

    `basis`: WATERMARKS, VERSION_1_0 or UNCOUNTED.
    `protocols`: numbers; empty for all.
    `nat_only`: only connections with NAT are recorded.
    `on`: what else was on, as phrases.
    """

    start: int
    end: int
    basis: str = WATERMARKS
    protocols: frozenset[int] = frozenset()
    nat_only: bool = False
    on: tuple[str, ...] = ()


@dataclass(frozen=True)
class CoverageHole:
    """A time for which the log may lack connections.

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

    @property
    def is_partial(self) -> bool:
        """If it hides only a part of the connections, or the operator has accepted it."""
        narrow = self.family is not None or self.protocols or self.ports or self.networks
        return bool(narrow) or self.untranslated or self.accepted


@dataclass(frozen=True)
class Coverage:
    """What one recording covers; `live_until`: up to when a recorder that runs has recorded."""

    name: str
    host: str = ""
    segments: int = 0
    spans: Sequence[CoveredSpan] = ()
    holes: Sequence[CoverageHole] = ()
    live_until: int | None = None


class Window(NamedTuple):
    """The time that is rendered; `until` is later than `since`."""

    since: int
    until: int


class Row(NamedTuple):
    """One row of the table; `what` None: nothing is recorded, or not yet."""

    start: int
    end: int
    what: CoveredSpan | CoverageHole | None
    not_yet: bool = False


def rows(one: Coverage, window: Window) -> list[Row]:
    """The rows of a recording in order of time, within the window.

    A covered span is cut where a hole hides everything, and where an earlier span covers the time;
    a partial hole overlaps it.
    """
    holes = [hole for hole in one.holes if _is_in(hole.start, hole.end, window)]
    found = [_clipped(hole.start, max(hole.end, hole.start + 1), window, hole) for hole in holes]
    opaque = [
        (row.start, row.end) for row, hole in zip(found, holes, strict=True) if not hole.is_partial
    ]
    spans = _joined(span for span in one.spans if _is_in(span.start, span.end, window))
    reached = window.since
    for span in spans:
        row = _clipped(max(span.start, reached), span.end, window, span)
        found += [Row(*part, span) for part in without([(row.start, row.end)], opaque)]
        reached = max(reached, row.end)
    known = [(span.start, span.end) for span in spans] + opaque
    for start, end in without([(window.since, window.until)], known):
        live = one.live_until if one.live_until is not None else end
        found += [
            Row(first, last, None, later)
            for first, last, later in (
                (start, min(end, live), False),
                (max(start, live), end, True),
            )
            if first < last
        ]
    return sorted(found, key=lambda row: (row.start, row.end))


def complete_ns(found: Iterable[Row]) -> int:
    """For how many ns the rows prove that nothing is missing, but for holes that are accepted."""
    covered, holes = [], []
    for row in found:
        if isinstance(row.what, CoverageHole):
            holes += [] if row.what.accepted else [(row.start, row.end)]
        elif row.what is not None and row.what.basis != UNCOUNTED:
            covered.append((row.start, row.end))
    return sum(end - start for start, end in without(covered, holes))


def _is_in(start: int, end: int, window: Window) -> bool:
    return start < window.until and max(end, start + 1) > window.since


def _clipped(start: int, end: int, window: Window, what: CoveredSpan | CoverageHole) -> Row:
    return Row(max(start, window.since), min(end, window.until), what)


def _joined(spans: Iterable[CoveredSpan]) -> list[CoveredSpan]:
    """Spans in order of time; those that touch and are alike as one."""
    joined: list[CoveredSpan] = []
    for span in sorted(spans, key=lambda each: (each.start, each.end)):
        last = joined[-1] if joined else None
        if last is not None and span.start <= last.end and _alike(span, last):
            joined[-1] = replace(last, end=max(last.end, span.end))
        else:
            joined.append(span)
    return joined


def _alike(one: CoveredSpan, other: CoveredSpan) -> bool:
    return replace(one, start=other.start, end=other.end) == other
