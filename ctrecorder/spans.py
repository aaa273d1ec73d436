"""Spans of time.  Pure.

A span is a pair (start, end) of ns UTC: start is in it, end is not.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

Span = tuple[int, int]


def clip(span: Span, window: Span) -> list[Span]:
    """The part of `span` in `window`: one span, or none."""
    start, end = max(span[0], window[0]), min(span[1], window[1])
    return [(start, end)] if start < end else []


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same moments as spans in order that do not touch."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """`spans` less `holes`, in order."""
    return cut(spans, joined(holes))


def cut(spans: Iterable[Span], cuts: Sequence[Span]) -> list[Span]:
    """`spans` less `cuts`, which are in order and do not touch."""
    left: list[Span] = []
    for start, end in sorted(spans):
        behind = max(bisect.bisect(cuts, (start, start)) - 1, 0)
        for index in range(behind, len(cuts)):
            first, last = cuts[index]
            if first >= end:
                break
            if first > start:
                left.append((start, first))
            start = max(start, last)
        if start < end:
            left.append((start, end))
    return left
