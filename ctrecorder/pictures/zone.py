"""The zone of the times in a picture.  Pure."""

from __future__ import annotations

import numpy as np

from ctrecorder.pictures.rates import Ints, Offsets, ints
from ctrecorder.times import SECOND


def zone_text(edges: Ints, offsets: Offsets, *, utc: bool) -> str:
    """ "UTC", or "local time, UTC+01:00"; both offsets if the clocks were changed meanwhile."""
    if utc:
        return "UTC"
    found = ints(np.unique(offsets(edges // SECOND)))
    return "local time, " + " and ".join(f"UTC{offset_text(one)}" for one in found)


def offset_text(seconds: int) -> str:
    """+01:00."""
    minutes = abs(seconds) // 60
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
