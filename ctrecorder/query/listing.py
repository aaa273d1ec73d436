"""The holes in the window of a listing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from ctrecorder import times
from ctrecorder.archive.near import Chains
from ctrecorder.archive.open import open_placed
from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.query import evidence
from ctrecorder.query.coverage import NOT_RECORDABLE, NOT_RECORDED, NOT_YET, UNKNOWN, Hole, Scope
from ctrecorder.query.open import Archive, one_of_each
from ctrecorder.query.verdict import Verdict, judge
from ctrecorder.segment.live import LiveState
from ctrecorder.segment.recording import Recording as Segment

# A shorter time before the first segment or after the last one is no hole of a listing: two
# readings of the clock differ a little.
_MIN_UNRECORDED_NS = 2 * times.SECOND


def verdict_of_listing(
    archive: Archive,
    states: Mapping[str, LiveState],
    now: int,
    losses: Mapping[str, SilentLoss] | None = None,
) -> Verdict:
    """Whether `archive` contains the whole answer to its query, up to `now`, ns UTC.

    A query without a window is about the recorded time: from the first segment to the last
    watermark.
    `states`: `evidence.live_states`, read before the archive was opened.  `losses`: what the rows
    that were listed prove, as of `list_connections`.
    """
    query = archive.query
    chains = Chains(archive.spans)
    with _near(archive, chains) as segments:
        known = evidence.gather(segments, chains, states, losses=losses)
    first = min((one.start for one in known.recordings), default=times.BEGIN)
    reached = max((max(one.reached, one.last_start) for one in known.recordings), default=now)
    reached = min(reached, now)
    live = any(one.live is not None for one in known.recordings)
    since = query.since
    if since == times.BEGIN or first - _MIN_UNRECORDED_NS <= since < first:
        since = first
    until = query.until
    if until == times.END:
        until = reached if live or query.since == times.BEGIN else now
    if reached < until <= reached + _MIN_UNRECORDED_NS:
        until = reached
    scope = Scope(since, max(until, since + 1), protocols=query.protocols)
    return judge(scope, known.recordings, now, known.unread)


def shown_in_listing(verdict: Verdict, query: Query, *, strict: bool) -> list[Hole]:
    """The holes that a listing reports.

    Unless it is `strict`, what is not recorded by intention is no news, nor what is to come,
    nor that the kernel does not tell what it tracks: ctwho says that.
    """
    hidden = {NOT_YET, UNKNOWN, NOT_RECORDABLE} | (set() if query.protocols else {NOT_RECORDED})
    return [hole for hole in verdict.holes if strict or hole.reason not in hidden]


@contextlib.contextmanager
def _near(archive: Archive, chains: Chains) -> Iterator[list[Segment]]:
    """The segments of each chain that are near the window; all of `archive` without a window."""
    query = archive.query
    opened: list[Segment] = []
    segments = archive.segments
    if (query.since, query.until) != (times.BEGIN, times.END):
        near = chains.near(query.since, query.until).paths
        wanted = set(near)
        segments = [segment for segment in archive.segments if segment.path in wanted]
        known = {segment.path for segment in segments}
        known |= {path for path, _ in archive.copies}
        for path in near:
            if path not in known:
                with contextlib.suppress(FormatError, ArchiveError):  # it was deleted meanwhile
                    opened.append(open_placed(path))
    try:
        yield one_of_each([*opened, *segments])[0]
    finally:
        for segment in opened:
            segment.close()
