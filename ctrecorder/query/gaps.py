"""What the log lacks in a window of time: recorded gaps, times without a segment, lost segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ctrecorder import times
from ctrecorder.archive import chain
from ctrecorder.ctlog.frame import REASONS, Gap
from ctrecorder.query.open import Archive
from ctrecorder.segment.recording import Recording
from ctrecorder.terminal import count

# Spans without a segment are reported from this length on.  A reader reads up to the last block,
# which a recorder writes up to a second after its events, and two clock readings differ a little.
_MIN_UNRECORDED_NS = 2 * times.SECOND
# In these the recorder did not run, or its segment is lost.
_NOT_RECORDING = ("stopped", "crashed", "not-recording")


def gaps_of_query(archive: Archive, now: int) -> list[Gap]:
    """What the log lacks in the window of the archive's query, up to `now` (ns)."""
    since, until = archive.query.since, archive.query.until
    return [
        *recorded_gaps(archive.segments, since, until),
        *unrecorded_spans(archive, since, until, now),
    ]


def recorded_gaps(segments: Iterable[Recording], since: int, until: int) -> list[Gap]:
    """The GAPs of the segments that overlap the window, each once, by their begin."""
    found = {
        gap
        for segment in segments
        for gap in segment.gaps
        if gap.begin < until and gap.end >= since
    }
    return sorted(found, key=lambda gap: (gap.begin, gap.end))


def unrecorded_spans(archive: Archive, since: int, until: int, now: int) -> list[Gap]:
    """The parts of the window, up to `now` (ns), before the first and after the last segment.

    [] if the window is unlimited.
    """
    if (since, until) == (times.BEGIN, times.END) or archive.first > archive.last:
        return []
    until = min(until, now)
    found = []
    if times.BEGIN < since < archive.first - _MIN_UNRECORDED_NS:
        found.append(Gap(since, min(archive.first, until), "not-recording"))
    if until > archive.last + _MIN_UNRECORDED_NS and not archive.live:
        found.append(Gap(max(archive.last, since), until, "not-recording"))
    return found


def missing_segments(segments: Iterable[Recording], since: int, until: int) -> Iterator[Gap]:
    """The times in the window between two segments of a recording that do not follow each other.

    `segments`: in the order in which their recording began.
    """
    last: dict[str, tuple[int, chain.Link]] = {}
    for segment in segments:
        link = chain.link(segment)
        begin, end = segment.times
        if link.chain in last:
            before, earlier = last[link.chain]
            follows = not earlier.hashes or link.follows(earlier)
            if not follows and before < until and begin >= since and before < begin:
                yield Gap(before, begin, "not-recording", None, "a segment is missing")
        last[link.chain] = end, link


def describe_gap(gap: Gap, *, utc: bool) -> str:
    """One line for a gap: how many events are missing, from when to when, and why."""
    begin, end = times.text(gap.begin, utc=utc), times.text(gap.end, utc=utc)
    span = f"{begin} to {end}{' UTC' if utc else ''}"
    why = REASONS.get(gap.reason, gap.reason)
    if gap.reason in _NOT_RECORDING:
        return f"not recording from {span}: {why}"
    lost = "events lost" if gap.lost is None else f"{count(gap.lost, 'event')} lost"
    return f"gap: {lost} from {span}: {why}"
