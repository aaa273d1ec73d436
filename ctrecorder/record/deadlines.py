"""When the recorder's periodic work is due: flush, heartbeat, status report, rotation."""

from __future__ import annotations

from ctrecorder.record.clock import Clock
from ctrecorder.spool.target import Target
from ctrecorder.times import MINUTE, SECOND

# Events that were received are in the log, and can be listed, after this time.
FLUSH_NS = SECOND
# `systemctl status` shows what was recorded until this time ago.  It costs 10 us.
STATUS_NS = SECOND
# What hides connections is looked for, and the state is published, each second.
LOOK_NS = SECOND
# A recorder that has nothing to write still records each minute that it runs: after a crash in a
# quiet night the log covers all but the last minute.  A shorter interval wears flash for nothing, a
# longer one leaves long gaps.
HEARTBEAT_NS = MINUTE


class Deadlines:
    """Deadlines by the monotonic clock, whatever happens to the wall clock.

    By the wall clock, segments begin, one for each period of `target`, and times that come twice
    end.
    """

    def __init__(self, clock: Clock, target: Target) -> None:
        self._clock, self._target = clock, target
        # Monotonic ns; `_flush` is 0 while nothing waits to be written.
        self._flush = 0
        self._status = self._heartbeat = self._look = clock.monotonic()
        self._period = (0, 0)  # first ns UTC of this period, and of the next
        self._repeated = 0  # until when times come twice, ns UTC; 0: no longer

    @property
    def flush_due(self) -> bool:
        """True if rows wait for longer than FLUSH_NS, or a heartbeat is due."""
        return 0 < self._flush <= self._clock.monotonic() or self.heartbeat_due

    @property
    def heartbeat_due(self) -> bool:
        """True if nothing was written for HEARTBEAT_NS."""
        return self._heartbeat <= self._clock.monotonic()

    @property
    def look_due(self) -> bool:
        return self._look <= self._clock.monotonic()

    def looked(self) -> None:
        """The guard has looked."""
        self._look = self._clock.monotonic() + LOOK_NS

    @property
    def status_due(self) -> bool:
        return self._status <= self._clock.monotonic()

    @property
    def rotation_due(self) -> bool:
        """True if the wall clock is outside the period of the open segment."""
        return not self._period[0] <= self._clock.wall() < self._period[1]

    def flush_soon(self) -> None:
        """Something waits to be written: flush in FLUSH_NS, or earlier if a flush is planned."""
        self._flush = self._flush or self._clock.monotonic() + FLUSH_NS

    def flushed(self, *, wrote: bool, complete: bool) -> None:
        """A flush is done.

        `wrote`: it had something to write.  `complete`: the disk accepted all; if not, the next
        flush is due in FLUSH_NS.
        """
        now = self._clock.monotonic()
        self._flush = 0 if complete else now + FLUSH_NS
        if wrote or not complete:
            self._heartbeat = now + HEARTBEAT_NS

    def follow(self, target: Target) -> None:
        """Segments are opened in `target` from now on; the next one is due at once."""
        self._target, self._period = target, (0, 0)

    def rotated(self, now_ns: int) -> None:
        """A segment was opened at `now_ns`, ns UTC."""
        self._period = self._target.period(now_ns)

    def stepped(self, before_ns: int, step_ns: int) -> None:
        """The clock was set, from `before_ns`, ns UTC; if back, times until then come twice."""
        if step_ns < 0:
            self._repeated = max(self._repeated, before_ns)

    def repeated(self) -> bool:
        """True once when the times that come twice are over."""
        over = 0 < self._repeated < self._clock.wall()
        if over:
            self._repeated = 0
        return over

    def reported(self, watchdog_seconds: float) -> None:
        """The status was reported; `watchdog_seconds`: the longest interval, 0 for no limit."""
        limit = int(watchdog_seconds * SECOND) or STATUS_NS
        self._status = self._clock.monotonic() + min(STATUS_NS, limit)

    def wait_ns(self, *others: int) -> int:
        """ns until the next deadline, 0 if one has passed.

        `others`: further deadlines, monotonic ns, 0 for what is not planned.
        """
        deadlines = [self._status, self._heartbeat, self._look]
        deadlines += [due for due in (self._flush, *others) if due]
        wait = min(deadlines) - self._clock.monotonic()
        return max(min(wait, self._period[1] - self._clock.wall()), 0)
