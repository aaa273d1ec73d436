"""The questions of a command line: an address and a time in one or more words."""

from __future__ import annotations

from collections.abc import Sequence

from ctrecorder.errors import UsageError
from ctrecorder.inquiry.question import (
    NO_PORT,
    SOURCE,
    Question,
    checked,
    parse_protocols,
    parse_target,
    windows,
)
from ctrecorder.moments import reader
from ctrecorder.moments.moment import Zones


def questions(
    words: Sequence[str],
    now: int,
    *,
    zone: str,
    remote: str | None,
    protocols: Sequence[str],
    tolerance: float,
) -> list[Question]:
    """The questions of ADDRESS:PORT TIME, one for each way to read the time.

    `now`: ns UTC.  `zone`: of a time without one; "": that of this machine.  Raises UsageError.
    """
    if len(words) < 2:
        raise UsageError("name ADDRESS:PORT and TIME (see ctwho --help)")
    target, time = parse_target(words[0]), " ".join(words[1:]).strip()
    moment = reader.read(time, now, Zones(option=zone, local=True))
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
        for window in windows(moment)
    ]
