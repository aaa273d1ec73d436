"""The local time zone of a test; a moment in that of Warsaw."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

S = 10**9
# UTC+1, in summer UTC+2; changes on 2026-03-29 and 2026-10-25.
WARSAW = "Europe/Warsaw"
NOW = 1795455437 * S  # Mon 23 Nov 2026 17:37:17 UTC, 18:37:17 in Warsaw


@contextmanager
def local_zone(name: str) -> Iterator[None]:
    """Local time is that of the zone `name`, for the C library too."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """ns since 1970."""
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int(moment.timestamp()) * S
