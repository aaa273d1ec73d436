"""The questions of a command line: an address and a time in one or more words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctrecorder import times
from ctrecorder.errors import UsageError
from ctrecorder.inquiry.question import (
    NO_PORT,
    SOURCE,
    Question,
    Window,
    checked,
    parse_protocols,
    parse_target,
)

_GIVEN = re.compile(r"@[\d.]+|.*(?P<zone>Z|UTC|[+-]\d\d:?\d\d)$", re.IGNORECASE)


def questions(
    words: Sequence[str],
    now: int,
    *,
    utc: bool,
    remote: str | None,
    protocols: Sequence[str],
    tolerance: float,
) -> list[Question]:
    """The questions of ADDRESS:PORT TIME, one for each way to read the time.

    `now`: ns UTC.  Raises UsageError.
    """
    if len(words) < 2:
        raise UsageError("name ADDRESS:PORT and TIME (see ctwho --help)")
    target, time = parse_target(words[0]), " ".join(words[1:]).strip()
    return [
        checked(
            Question(
                target,
                window,
                NO_PORT if target.port is None else SOURCE,
                parse_protocols(protocols),
                parse_target(remote) if remote else None,
                tolerance,
            )
        )
        for window in _windows(time, now, utc=utc)
    ]


def _windows(time: str, now: int, *, utc: bool) -> list[Window]:
    begin, end = times.parse_span(time, now, utc=utc)
    given = _GIVEN.fullmatch(time.strip())
    if given:
        zone = (given["zone"] or "UTC").upper()
        return [Window(begin, end, time, "UTC" if zone == "Z" else zone, "given")]
    return [Window(begin, end, time, "UTC" if utc else "", "option" if utc else "local")]
