"""When what is written is synced."""

from __future__ import annotations

from ctrecorder.spool.sync_timer import SyncTimer
from ctrecorder.times import SECOND


def test_the_oldest_block_is_synced_in_time() -> None:
    now = 5 * SECOND
    timer = SyncTimer(10, lambda: now)
    due = [timer.due]
    timer.wrote()
    now += 8 * SECOND
    timer.wrote()  # a later block does not put it off
    due.append(timer.due)
    now += SECOND  # its rows may have waited for a second before
    due.append(timer.due)
    timer.synced()
    now += 100 * SECOND
    due.append(timer.due)
    timer.wrote()
    due.append(timer.due)
    timer.seconds = 1
    due.append(timer.due)
    assert due == [False, False, True, False, False, True]
