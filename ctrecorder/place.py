"""Where a recorder's segments go, and which one a new segment is chained to."""

from __future__ import annotations

from dataclasses import dataclass

from ctrecorder import archive
from ctrecorder.errors import ArchiveError
from ctrecorder.reader import Segment

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE


@dataclass(frozen=True)
class Place:
    """Where segments go: `template` (strftime, UTC), a new one at each multiple of `rotate_minutes` of the day, each of `mode`."""

    template: str
    rotate_minutes: int
    mode: int

    def path(self, now_ns: int) -> str:
        return archive.expand_template(self.template, now_ns)

    def next_boundary(self, now_ns: int) -> int:
        """The first moment after `now_ns`, ns UTC, at which a new segment is due."""
        period, into_day = self.rotate_minutes * MINUTE, now_ns % DAY
        return now_ns - into_day + min((into_day // period + 1) * period, DAY)


@dataclass(frozen=True)
class Tail:
    """The end of a segment that the next one is chained to; `closed`: in order, with a footer."""

    path: str
    last_hash: bytes
    chain: str
    time_max: int
    closed: bool


def newest(template: str) -> Tail | None:
    """The newest segment that was recorded under `template`, live ones too: ArchiveError if a recorder still writes it."""
    folder, pattern = archive.split_template(template)
    for path in reversed(archive.find([folder]).segments):
        with Segment(path) as segment:
            if segment.header.get("template") != pattern:
                continue
            if segment.state == "live":
                raise ArchiveError(f"{path}: another recorder writes it; stop that one, or record under another template")
            return Tail(path, segment.last_hash, str(segment.header.get("chain", "")), segment.times[1], segment.state == "closed")
    return None
