"""Columns of seconds as dates and times of day.

Local time is the time of the C library.  Its offset from UTC is read for each minute in which it
can change, so both sides of a daylight saving change are right.
"""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def seconds_text(seconds: NDArray[np.int64], *, utc: bool) -> NDArray[np.uint8]:
    """Dates and times "YYYY.MM.DD HH:MM:SS", (n, 19) uint8, in local time or UTC.

    `seconds`: (n,) int64 since 1970, in any order.  A row takes about 0.3 us, so callers pass the
    distinct seconds of a block.
    """
    text = rfc3339_seconds(seconds if utc else seconds + utc_offset(seconds))
    text[:, [4, 7]], text[:, 10] = ord("."), ord(" ")
    return text


def rfc3339_seconds(seconds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Dates and times "YYYY-MM-DDTHH:MM:SS" in UTC, without the Z, (n, 19) uint8.

    `seconds`: (n,) int64 since 1970.
    """
    wide = np.datetime_as_string(seconds.astype("datetime64[s]"), unit="s").astype("U19")
    return wide.view(np.uint32).reshape(len(seconds), 19).astype(np.uint8)


def utc_offset(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The seconds by which local time is ahead of UTC at each of `seconds`, (n,) int64.

    `seconds`: (n,) int64 since 1970.
    """
    minutes = seconds // 60
    hours, which = np.unique(minutes // 60, return_inverse=True)
    by_minute = np.array([_hour_offsets(int(hour)) for hour in hours], dtype=np.int64).reshape(
        len(hours), 60
    )
    offsets: NDArray[np.int64] = by_minute[which, minutes % 60]
    return offsets


# One entry takes 0.5 KB.  A log of 90 days has 2,160 hours.
@lru_cache(maxsize=4096)
def _hour_offsets(hour: int) -> tuple[int, ...]:
    """The UTC offset, in seconds, in each minute of the UTC hour that begins at 3600 * hour."""
    first = time.localtime(3600 * hour).tm_gmtoff
    if time.localtime(3600 * hour + 3599).tm_gmtoff == first:
        return (first,) * 60
    return tuple(time.localtime(3600 * hour + 60 * minute).tm_gmtoff for minute in range(60))
