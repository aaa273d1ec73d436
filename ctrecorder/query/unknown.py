"""When the recorder did not know whether the packets of a family were tracked.

Not to know is no GAP.  It is no proof either: an answer about that family is not complete then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ctrecorder import labels
from ctrecorder.query.coverage import UNKNOWN, Hole
from ctrecorder.segment.recording import Recording
from ctrecorder.times import END

# As in the member `tracking` of ctlog(5).
_NAMES = {name.lower(): family for family, name in labels.FAMILIES.items()}
_STATE = "unknown"


def unknown_tracking(segments: Iterable[Recording]) -> list[Hole]:
    """The holes of one recording, whose `segments` are in order: from the last look that knew to
    the next one that does.

    They hide connections without NAT: packets that are not tracked are not translated either.
    """
    found: list[Hole] = []
    since: dict[int, int] = {}
    for begin, end, tracking in _looks(segments):
        for name, family in _NAMES.items():
            state = tracking.get(name)
            if state == _STATE:
                since.setdefault(family, begin)
            elif isinstance(state, str) and family in since:
                found.append(_hole(since.pop(family), end, family))
    return found + [_hole(start, END, family) for family, start in since.items()]


def _hole(start: int, end: int, family: int) -> Hole:
    return Hole(start, max(start, end), UNKNOWN, family=family, untranslated=True)


def _looks(segments: Iterable[Recording]) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """The looks that noted tracking: the look before, the look, ns UTC, and the member."""
    for segment in segments:
        if not segment.header.needs_features or not len(segment.index):
            continue  # version 1.0 noted none
        begun = int(segment.index["time_min"][0])
        noted: list[tuple[int, int, Mapping[str, Any]]]
        noted = [(begun, begun, segment.header.state or {})]
        noted += [(mark.begin, mark.end, mark.facts) for mark in segment.marks]
        for begin, end, facts in noted:
            tracking = facts.get("tracking")
            if isinstance(tracking, dict):
                yield begin, end, tracking
