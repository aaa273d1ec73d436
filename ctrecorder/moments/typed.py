"""The times of --since, --until and --at."""

from __future__ import annotations

from datetime import UTC, datetime

from ctrecorder.errors import UsageError
from ctrecorder.moments.moment import Reading, Zones
from ctrecorder.moments.reader import read
from ctrecorder.times import SECOND


def parse_span(text: str, now: int, *, utc: bool = False) -> tuple[int, int]:
    """The span [begin, end) in ns that a typed time names.

    "2026-11-23" names a day, "18:17" a minute of today, "18:17:30" a second.  So --since X
    --until X selects all of X, and a printed time of six decimals selects the row that it was
    printed for.  "now", "-2h" and "2h ago" name a moment: begin equals end.  A local time that
    occurs twice (clocks set back) spans both occurrences, and what is between them.

    `now`: ns.  `utc`: a text without a zone is UTC; otherwise it is local time.  Raises UsageError,
    also for a time with more than one reading: a limit is one time.
    """
    moment = read(text, now, Zones(option="UTC" if utc else "", local=True))
    first = moment.readings[0]
    if len(moment.readings) > 1:
        shown = " or ".join(_shown(each) for each in moment.readings)
        raise UsageError(
            f"the time '{text}' can be {shown}: write the one that is meant, as in "
            "2026-11-23T18:17:30+01:00"
        )
    return first.spans[0][0], first.spans[-1][1]


def _shown(reading: Reading) -> str:
    begin = datetime.fromtimestamp(reading.spans[0][0] // SECOND, UTC)
    return f"{begin:%Y-%m-%dT%H:%M:%SZ} ({reading.zone})"
