"""When the recorder did not know whether the packets of a family were tracked, or knew that
something translated packets without connection tracking.

Neither is a GAP.  It is no proof either: an answer is not complete then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ctrecorder import labels
from ctrecorder.query.coverage import NOT_RECORDABLE, UNKNOWN, Hole
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
    for begin, end, facts, _ in _looks(segments):
        tracking = facts.get("tracking")
        if not isinstance(tracking, dict):
            continue
        for name, family in _NAMES.items():
            state = tracking.get(name)
            if state == _STATE:
                since.setdefault(family, begin)
            elif isinstance(state, str) and family in since:
                found.append(_hole(since.pop(family), end, family))
    return found + [_hole(start, END, family) for family, start in since.items()]


def unrecordable(segments: Iterable[Recording]) -> list[Hole]:
    """The holes of one recording in which something translated without connection tracking: from
    the last look that did not find it.

    What it translated has no entry in the table, with or without NAT: it is in no log.
    """
    found: list[Hole] = []
    now: Hole | None = None
    for begin, end, facts, is_whole in _looks(segments):
        if not (is_whole or "stateless" in facts):
            continue
        if now is not None:
            found.append(replace(now, end=max(now.start, end)))
        texts = facts.get("stateless")
        texts = [one for one in texts if isinstance(one, str)] if isinstance(texts, list) else []
        accepted = facts.get("accept_notrack") is True
        detail = f"NAT by {', '.join(texts)}"
        now = Hole(begin, END, NOT_RECORDABLE, detail=detail, accepted=accepted) if texts else None
    return found if now is None else [*found, now]


def _hole(start: int, end: int, family: int) -> Hole:
    return Hole(start, max(start, end), UNKNOWN, family=family, untranslated=True)


def _looks(
    segments: Iterable[Recording],
) -> Iterator[tuple[int, int, Mapping[str, Any], bool]]:
    """The looks that noted something: the look before, the look, ns UTC, the members of `state`,
    and whether they are all: a MARK has those that changed.
    """
    for segment in segments:
        if not segment.header.needs_features or not len(segment.index):
            continue  # version 1.0 noted none
        begun = int(segment.index["time_min"][0])
        yield begun, begun, segment.header.state or {}, True
        for mark in segment.marks:
            yield mark.begin, mark.end, mark.facts, False
