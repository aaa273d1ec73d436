"""Dumps of the connection table, taken step by step beside the live events: open connections go
into the log as EXISTING rows.

The rows of a dump are followed by a MARK `dump` with its beginning, its end and whether it is
complete.  Only a complete dump proves that a flow which it does not contain had ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from ctrecorder import uapi
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Mark
from ctrecorder.errors import KernelError
from ctrecorder.kernel import sockets
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.probe import without_probes
from ctrecorder.kernel.sockets import DumpSocket
from ctrecorder.record.clock import Clock
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.times import SECOND

# Datagrams (about 150 entries each, some 0.1 ms) between two looks at the live events: more would
# let their buffer fill.
DATAGRAMS_PER_STEP = 16
# A dump after a loss waits until the flood that caused it has passed, and comes at most this often:
# each costs a pass over the whole table.
RESYNC_DELAY_NS = 5 * SECOND
# The kernel answers a dump at once.  After this time without a datagram it never will.
STALL_NS = 30 * SECOND
# An incomplete dump is repeated this often in all: a table that was resized each time will be
# resized the next time too.
MAX_TRIES = 3
# If it is set meanwhile, entries move to places that the dump has passed.
_BUCKETS = "nf_conntrack_buckets"


@dataclass
class _Progress:
    """A dump under way.

    `begin`: ns UTC.  `last_step`: monotonic ns of the last datagram.  `rejected_before`,
    `dropped_before`: counters of the decoder and of the queue when it began.  `buckets`: of the
    kernel's table then.
    """

    begin: int
    last_step: int
    rejected_before: int
    dropped_before: int
    buckets: int | None
    rows: int = 0
    unsound: int = 0
    interrupted: bool = False


class TableDump:
    """At most one dump at a time.

    Rows that the recorder does not record are left out, as the event socket's filter does.
    `connect` opens a socket.  `taken` is called with the rows that are recorded, `written` makes of
    them what is written.  `finished` is called with start and end, ns UTC, of a dump, and if it is
    complete.
    """

    def __init__(
        self,
        protocols: Collection[int],
        nat_only: bool,
        counters: Counters,
        queue: WriteQueue,
        clock: Clock,
        log: Log,
        connect: Callable[[], DumpSocket] = DumpSocket,
        taken: Callable[[Table], None] = lambda table: None,
        finished: Callable[[int, int, bool], None] = lambda start, end, complete: None,
        written: Callable[[Table], Table] = lambda table: table,
    ) -> None:
        self._connect, self._socket = connect, connect()
        self._counters, self._queue, self._clock, self._log = counters, queue, clock, log
        self._protocols, self._nat_only = np.array(sorted(protocols), np.uint8), nat_only
        self._decoder = Decoder()
        self._taken, self._finished, self._written = taken, finished, written
        self._progress: _Progress | None = None
        self._due = 0  # monotonic ns, 0 if no dump is planned
        self.seconds: float | None = None
        self._reason = ""
        self._tries = 0
        self._foreign_before = 0  # of the sockets that were replaced

    @property
    def active(self) -> bool:
        """True while a dump is under way."""
        return self._progress is not None

    @property
    def due(self) -> int:
        """When the next dump begins, monotonic ns; 0 if none is planned or one is under way."""
        return 0 if self.active else self._due

    @property
    def foreign(self) -> int:
        """Messages refused because a process sent them."""
        return self._foreign_before + self._socket.foreign

    def change(self, protocols: Collection[int], nat_only: bool) -> None:
        """Record other rows.  A dump that is under way is not complete: it has rows of before."""
        self._protocols, self._nat_only = np.array(sorted(protocols), np.uint8), nat_only
        self.interrupt()

    def interrupt(self) -> None:
        """The dump that is under way does not show what is open at its end."""
        if self._progress is not None:
            self._progress.interrupted = True

    def fileno(self) -> int:
        """Readable while the kernel has more of a dump."""
        return self._socket.fileno()

    def plan(self, reason: str, when: int) -> None:
        """Plan a dump for `when`, monotonic ns; it begins after the one that is under way."""
        self._due, self._reason, self._tries = when, reason, MAX_TRIES

    def step(self) -> None:
        """Begin a dump that is due, or read more of the one under way."""
        try:
            if self._progress is None:
                if 0 < self._due <= self._clock.monotonic():
                    self._request()
                return
            for _ in range(DATAGRAMS_PER_STEP):
                if not self._read(self._progress):
                    break
        except KernelError as error:
            self._renew()
            if self._progress is not None:
                self._finish(self._progress, complete=False, detail=str(error))

    def _request(self) -> None:
        self._due = 0
        self._tries -= 1
        self._progress = _Progress(
            self._clock.wall(),
            self._clock.monotonic(),
            self._decoder.rejected,
            self._queue.dropped_dump_rows,
            sockets.sysctl(_BUCKETS),
        )
        self._socket.request()

    def _renew(self) -> None:
        """Open another socket: answers that still come to the old one must not be taken for the
        next dump's.
        """
        old, self._socket = self._socket, self._connect()
        self._foreign_before += old.foreign
        old.close()

    def _read(self, progress: _Progress) -> bool:
        """Read one datagram; False if there is none now, or the dump is over."""
        now, found = self._clock.monotonic(), self._socket.read()
        if found is None:
            if now - progress.last_step > STALL_NS:
                raise KernelError("the dump of the conntrack table has stalled")
            return False
        progress.last_step = now
        progress.interrupted |= found.interrupted
        progress.unsound += found.unsound
        for table in self._decoder.decode(
            found.slots, found.lengths, self._clock.wall(), existing=True
        ):
            kept = self._filtered(table)
            progress.rows += len(kept)
            self._counters.add(kept)
            self._queue.add(self._written(kept), existing=True)
            self._taken(kept)
        if found.done:
            self._queue.pack()
            problem = self._problem(progress)
            self._finish(progress, not problem, problem or self._reason)
            return False
        return True

    def _problem(self, progress: _Progress) -> str:
        """Why the dump that was read is not complete; "" if it is."""
        if progress.interrupted or sockets.sysctl(_BUCKETS) != progress.buckets:
            return "the table, the clock or the settings were changed meanwhile"
        if progress.unsound or self._decoder.rejected > progress.rejected_before:
            return "some entries could not be read"
        if self._queue.dropped_dump_rows > progress.dropped_before:
            return "no room in memory while the disk refused"
        return ""

    def _filtered(self, table: Table) -> Table:
        """The rows of `table` that are recorded."""
        table = without_probes(table)
        if len(self._protocols):
            table = table.take(np.isin(table["l4proto"], self._protocols))
        if self._nat_only:
            table = table.take(table["status"] & uapi.IPS_NAT_MASK != 0)
        return table

    def _finish(self, progress: _Progress, complete: bool, detail: str) -> None:
        self._progress = None
        begin, rows, now = progress.begin, progress.rows, self._clock.wall()
        facts = {"rows": rows, "complete": complete, "detail": detail}
        self._queue.mark(Mark(begin, now, "dump", facts))
        self._finished(begin, now, complete)
        self.seconds = max(now - begin, 0) / SECOND
        seconds = f"{self.seconds:.3f}"
        text = f"table recorded: {rows} connections in {seconds} s"
        if not complete:
            text += f", not complete: {detail}"
        self._log.send(messages.DUMP, text, rows=rows, complete=complete, seconds=seconds)
        if not complete and self._tries and not self._due:
            self._due = self._clock.monotonic() + RESYNC_DELAY_NS
