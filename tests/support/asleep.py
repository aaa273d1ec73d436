"""Connection tracking of both families in one word, for tests that compare it with traffic."""

from __future__ import annotations

from ctrecorder.kernel import tracking
from ctrecorder.kernel.tracking import Tracking


def asleep() -> bool | None:
    """If connection tracking is off for both families; None if that cannot be determined."""
    found = set(tracking.tracking_of().values())
    if Tracking.ON in found:
        return False
    return None if Tracking.UNKNOWN in found else True
