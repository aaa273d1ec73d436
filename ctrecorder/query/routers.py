"""The segments of many routers, each router by itself: a search widens for one of them alone."""

from __future__ import annotations

from ctrecorder.archive.find import Span
from ctrecorder.archive.routers import router_of
from ctrecorder.archive.selection import Selector
from ctrecorder.query.open import Archive


def selectors(spans: list[Span]) -> list[Selector]:
    """What selects the segments of each router; one at least."""
    names: dict[str, str] = {}  # by the folder
    grouped: dict[str, list[Span]] = {}
    for span in spans:
        folder = span.path.rpartition("/")[0]
        if folder not in names:
            names[folder] = router_of(span.path)
        grouped.setdefault(names[folder], []).append(span)
    return [*map(Selector, grouped.values())] or [Selector([])]


def joined(archives: list[Archive]) -> Archive:
    """The opened segments of all routers as one archive: the first one, which grows."""
    first, *others = archives
    for one in others:
        first.segments += one.segments
        first.failed += one.failed
        first.copies += one.copies
        first.query.stats.add(one.query.stats)
    return first
