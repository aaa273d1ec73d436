"""What a written time says: one or more readings, each with what it rests on.

All times are ns since 1970-01-01 00:00 UTC; a span is [begin, end).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Basis(Enum):
    """What the zone of a reading rests on."""

    GIVEN = "given"  # the zone stands in the time
    NOTED = "noted"  # the zone is noted elsewhere in the letter
    FORMAT = "format"  # the convention of the format: Shadowserver writes UTC, an epoch counts UTC
    OPTION = "option"  # --zone, --utc
    LOCAL = "local"  # the zone of this machine: typed times only
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """One way to read a written time.

    `spans`: two if the wall clock showed the time twice; none if the zone is unknown, so that the
    question cannot be asked.  `zone`: "+01:00", "UTC", "Europe/Berlin", "PDT (-07:00)"; "" if it is
    unknown.
    """

    spans: tuple[tuple[int, int], ...]
    basis: Basis
    zone: str


@dataclass(frozen=True)
class Moment:
    """A written time.  More than one of `readings`: it is ambiguous, and each is asked."""

    text: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Zones:
    """What is known about the zone of a time that names none; the first that is known applies.

    `noted`, `format`, `option`: texts of zones.  `local`: an operator types the time on this
    machine: it can also be a time of today, "yesterday 12:00" or "2h ago".
    """

    noted: str = ""
    format: str = ""
    option: str = ""
    local: bool = False
