"""Which segments of each chain are near a window of time, without opening them.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from ctrecorder.archive.find import Span
from ctrecorder.times import BEGIN, END


class Near(NamedTuple):
    """Paths of segments; `more_before`: whether their chains have earlier ones."""

    paths: list[str]
    more_before: bool


class Chains:
    """The chains of an archive: which segment is before which."""

    def __init__(self, spans: Iterable[Span]) -> None:
        """`spans`: of all segments of the archive.  One without a chain is a chain by itself."""
        grouped: dict[str, list[Span]] = {}
        for span in spans:
            grouped.setdefault(span.chain or f"/{span.path}", []).append(span)
        self._chains = [_Chain(members) for members in grouped.values()]
        self._of = {path: chain for chain in self._chains for path in chain.number}

    def place(self, path: str) -> tuple[int, int]:
        """The number of the segment in its chain, from 0, and the number of the last one.

        Copies of a segment have one number.
        """
        chain = self._of.get(path)
        return (0, 0) if chain is None else (chain.number[path], len(chain.places) - 1)

    def after(self, path: str) -> list[list[Span]]:
        """The segments that come after `path` in its chain; the copies of one together."""
        chain = self._of.get(path)
        return [] if chain is None else chain.places[chain.number[path] + 1 :]

    def near(self, since: int, until: int, before: int = 1, after: int = 1) -> Near:
        """The segments of each chain that can hold since..until, and the nearest ones: `before`
        earlier, `after` later.
        """
        paths: list[str] = []
        more_before = False
        for chain in self._chains:
            chosen = chain.overlapping(since, until)
            first = max(chosen[0] - before, 0)
            wanted = set(range(first, chosen[0]))
            for number in chosen:
                wanted.update(range(max(number - 1, 0), min(number + 1 + after, len(chain.places))))
            paths += [span.path for number in sorted(wanted) for span in chain.places[number]]
            more_before |= first > 0
        return Near(paths, more_before)


class _Chain:
    """The segments of a chain.

    `places`: in order; the copies of one segment together.  `number`: of the place of each path.
    """

    def __init__(self, members: list[Span]) -> None:
        self.places = _places(members)
        self.number = {
            span.path: number for number, place in enumerate(self.places) for span in place
        }
        begins = [place[0].recorded for place in self.places]
        ends = [max(span.end for span in place) for place in self.places]
        for number, following in enumerate(begins[1:]):
            if ends[number] == END:
                ends[number] = max(begins[number], following)  # it has no footer
        unknown = [any(span.begin == BEGIN for span in place) for place in self.places]
        self._reaches = np.where(unknown, BEGIN, np.array(begins, np.int64))
        self._begins, self._ends = np.array(begins, np.int64), np.array(ends, np.int64)
        self._order = np.argsort(self._begins, kind="stable")
        self._ordered = self._begins[self._order]

    def overlapping(self, since: int, until: int) -> list[int]:
        """The numbers of the places that can hold a time in since..until, at least one.

        The clock of a recorder can be wrong for a while, so each place is judged by itself; the
        one that was begun last before `since` is among them, and reaches to the next.
        """
        found = np.flatnonzero((self._reaches < until) & (self._ends >= since)).astype(np.int64)
        at = int(np.searchsorted(self._ordered, since, "right"))
        last = int(self._order[max(at - 1, 0)])
        return sorted({*map(int, found), last})


def _places(members: list[Span]) -> list[list[Span]]:
    """The segments of a chain in order; the copies of one segment together."""
    numbered = all(span.sequence for span in members)
    order = attrgetter("sequence", "recorded") if numbered else attrgetter("recorded")
    places: list[list[Span]] = []
    last: object = None
    for span in sorted(members, key=order):
        if order(span) == last:
            places[-1].append(span)
        else:
            places.append([span])
            last = order(span)
    return places
