"""Messages that are not in the log: dropped by the kernel, unreadable, or sent by a process."""

from __future__ import annotations

from ctrecorder.connections.parts import RECEIPT_LATE_NS
from ctrecorder.ctlog.frame import Gap
from ctrecorder.record.clock import ClockChange
from ctrecorder.spool.counters import Counters


def gaps_of_step(change: ClockChange, received: int, *, dated: bool) -> list[Gap]:
    """The GAPs of a step of the clock: of the times that were skipped or come twice; and of the
    times since the last receive, `received` (ns UTC, before the step): without a time of the
    kernel, their events are dated by the new clock.  `dated`: with one.

    If the clock was set back, also of the time before that in which an event that was received
    late can have happened: what has such a time can have happened before the step or after it.
    """
    before, now, step, _ = change
    which = "forward: these times were skipped" if step > 0 else "back: these times come twice"
    start, end = min(before, now), max(before, now)
    gaps = [Gap(start, end, "clock", 0, f"the clock was set {which}")]
    since = received if step > 0 else received + step - RECEIPT_LATE_NS
    if not dated and since < start:
        detail = "events of this time are dated by the clock that was set since"
        gaps.append(Gap(since, start, "late", None, detail))
    return gaps


class LossCounter:
    """Compares the sockets' totals with those of the last check; new losses become gaps.

    A loss is dated from the last check without a loss to now.  `counters` is kept up to date.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._dropped = 0  # total at the last check, as those of `counters`
        self._checked_ns = 0  # ns UTC of the last check of the kernel's drops
        # When a receive found the buffer empty last, monotonic ns; 0: never.
        self._emptied_ns = 0

    def reset(self, now_ns: int) -> None:
        """Begin at `now_ns`, ns UTC: no loss is dated earlier."""
        self._checked_ns = now_ns

    def dropped(self, total: int, buffer_bytes: int, now_ns: int) -> Gap | None:
        """A gap for the events that the kernel dropped since the last check, None if it dropped
        none.

        `total`: since the socket was opened.
        """
        count, self._dropped = total - self._dropped, total
        detail = f"the receive buffer of {buffer_bytes >> 10} KiB was full"
        gap = self._gap("overrun", count, detail, now_ns) if count else None
        self._checked_ns = now_ns
        return gap

    def late(self, emptied: int, monotonic: int, *, dated: bool) -> Gap | None:
        """A gap for the times in which events waited: without a time of the kernel they are dated
        when they are received.  None if they did not wait long, or the kernel dates them.

        `emptied`: the time before the receive that found the buffer empty, ns UTC.  `monotonic`:
        now, ns of the monotonic clock: no step of the other one is a wait.
        """
        before, self._emptied_ns = self._emptied_ns, monotonic
        waited = monotonic - before
        if dated or not before or waited < RECEIPT_LATE_NS:
            return None
        detail = "the recorder did not run; events of this time are dated when they were received"
        return Gap(emptied - waited, emptied, "late", None, detail)

    def unreadable(self, total: int, problem: str, now_ns: int) -> Gap | None:
        """A gap for the kernel's messages that could not be decoded since the last check, None if
        all could.

        `problem`: of the first one.
        """
        count = total - self._counters.unreadable
        if not count:
            return None
        self._counters.unreadable = total
        detail = f"messages of the kernel could not be read: {problem}"
        return self._gap("unreadable", count, detail, now_ns)

    def foreign(self, total: int) -> int:
        """The number of messages that a process sent since the last check.  They are no loss."""
        count, self._counters.foreign = total - self._counters.foreign, total
        return count

    def _gap(self, reason: str, count: int, detail: str, now_ns: int) -> Gap:
        self._counters.lost += count
        return Gap(min(self._checked_ns, now_ns), now_ns, reason, count, detail)
