"""The gaps and marks that a squeezed segment keeps.

All of them; but where the old segment has watermarks (ctlog(5), coverage), of its heartbeats one
remains: the last mark, whose time is the last watermark.  Marks that count something remain as one
sum of each kind.  So coverage takes less than 1 KB, however long the segment is.
"""

from __future__ import annotations

from typing import NamedTuple

from ctrecorder.ctlog.frame import Gap, Json, Mark
from ctrecorder.segment.recording import Recording

# Marks that count something between their begin and their end.
_COUNTING = ("statistics", "repeats")
_HEARTBEAT = "heartbeat"


class Notes(NamedTuple):
    """The gaps and marks of a segment.

    `watermark`: that of the last mark, ns UTC; None: no mark has one.
    """

    gaps: list[Gap]
    marks: list[Mark]
    watermark: int | None


def kept_notes(old: Recording, gaps: list[Gap], marks: list[Mark]) -> Notes:
    """What is kept of the `gaps` and `marks` of `old`."""
    watermark = old.watermark if old.has_coverage else None
    if watermark is None:
        return Notes(gaps, marks, None)
    kept = [mark for mark in marks if mark.what not in (_HEARTBEAT, *_COUNTING)]
    for what in _COUNTING:
        counting = [mark for mark in marks if mark.what == what]
        if counting:
            kept.append(_sum(counting))
    kept.append(_last_heartbeat(marks, watermark))
    return Notes(gaps, kept, watermark)


def _last_heartbeat(marks: list[Mark], watermark: int) -> Mark:
    """The heartbeat with the last watermark.

    If that was another block's, the state of the clock is that of the last heartbeat.  Nothing else
    of it is taken: what it proved, it proved for its own time.
    """
    heartbeats = [mark for mark in marks if mark.what == _HEARTBEAT]
    if not heartbeats:
        return Mark.at(watermark, _HEARTBEAT)
    last = heartbeats[-1]
    if last.end == watermark:
        return last
    facts: Json = {name: last.facts[name] for name in ("clock",) if name in last.facts}
    return Mark.at(watermark, _HEARTBEAT, facts)


def _sum(marks: list[Mark]) -> Mark:
    """One mark for several: over all their times, with the sum of each count.

    Members that are no counts are those of the last.
    """
    facts: Json = {}
    for mark in marks:
        for name, value in mark.facts.items():
            counted = type(value) is int and type(facts.get(name, 0)) is int
            facts[name] = facts.get(name, 0) + value if counted else value
    begin = min(mark.begin for mark in marks)
    return Mark(begin, max(mark.end for mark in marks), marks[0].what, facts)
