"""Dumps of the connection table, taken step by step beside the live events: what is open goes into
the log as EXISTING rows.

A dump's rows are followed by a MARK `dump` with its beginning, its end and whether it is complete.
Only a complete one proves that a flow which it does not show had ended.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ctrecorder import uapi
from ctrecorder.columns import Table
from ctrecorder.errors import KernelError
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.sockets import DumpSocket
from ctrecorder.record.clock import SECOND, Clock
from ctrecorder.record.counters import Counters
from ctrecorder.record.queue import WriteQueue
from ctrecorder.service import messages
from ctrecorder.service.log import Log

# Datagrams (about 150 entries each, some 0.1 ms) between two looks at the live events: more would
# let their buffer fill.
DATAGRAMS_A_STEP = 16
# A dump after a loss waits until the flood that caused it has passed, and does not come more often
# than this: each costs a pass over the whole table.
RESYNC_DELAY_NS = 5 * SECOND
# The kernel answers a dump at once; no datagram for so long means that it never will.
STALL_NS = 30 * SECOND
# A dump that was not complete is tried again, so often: a table that is resized each time will not
# be the next time either.
TRIES = 3


class TableDump:
    """At most one dump at a time; rows that the recorder does not record are left out as the event
    socket's filter does.
    """

    def __init__(
        self,
        protocols: Collection[int],
        nat_only: bool,
        counters: Counters,
        queue: WriteQueue,
        clock: Clock,
        log: Log,
    ) -> None:
        self._socket, self._counters, self._queue, self._clock, self._log = (
            DumpSocket(),
            counters,
            queue,
            clock,
            log,
        )
        self._protocols, self._nat_only = np.array(sorted(protocols), np.uint8), nat_only
        self._decoder = Decoder()
        self._begin = 0  # ns UTC; 0: no dump is under way
        self._last_step = self._due = 0  # monotonic ns
        self._reason = ""
        self._tries = self._rows = self._unsound = self._rejected_before = self._cut_before = 0
        self._interrupted = False
        self._foreign_before = 0

    @property
    def active(self) -> bool:
        """Whether a dump is under way."""
        return self._begin != 0

    @property
    def due(self) -> int:
        """When the next dump is to begin, monotonic ns; 0 if none is wanted."""
        return 0 if self.active else self._due

    @property
    def foreign(self) -> int:
        """Messages refused because a process sent them."""
        return self._foreign_before + self._socket.foreign

    def fileno(self) -> int:
        """Readable while a dump has more to say."""
        return self._socket.fileno()

    def want(self, reason: str, when: int) -> None:
        """Ask for a dump at `when`, monotonic ns, or as soon after it as the one under way is over."""
        self._due, self._reason, self._tries = when, reason, TRIES

    def step(self) -> None:
        """Begin a dump that is due, or read some more of the one under way."""
        try:
            if not self.active:
                if 0 < self._due <= self._clock.monotonic():
                    self._request()
                return
            for _ in range(DATAGRAMS_A_STEP):
                if not self._read():
                    break
        except KernelError as error:
            self._renew()
            self._finish(complete=False, detail=str(error))

    def _request(self) -> None:
        self._begin, self._last_step, self._due = self._clock.wall(), self._clock.monotonic(), 0
        self._tries -= 1
        self._rows = self._unsound = 0
        self._rejected_before, self._cut_before = self._decoder.rejected, self._queue.cut_dumps
        self._interrupted = False
        self._socket.request()

    def _renew(self) -> None:
        """Another socket: what the old one has still to say of the dump that failed must not be
        taken for the next one.
        """
        old, self._socket = self._socket, DumpSocket()
        self._foreign_before += old.foreign
        old.close()

    def _read(self) -> bool:
        """One datagram; False if there is none now or the dump is over."""
        now, found = self._clock.monotonic(), self._socket.read()
        if found is None:
            if now - self._last_step > STALL_NS:
                raise KernelError("the dump of the conntrack table has stalled")
            return False
        self._last_step = now
        self._interrupted |= found.interrupted
        self._unsound += found.unsound
        for table in self._decoder.decode(
            found.slots, found.lengths, self._clock.wall(), existing=True
        ):
            kept = self._wanted(table)
            self._rows += len(kept)
            self._counters.add(kept)
            self._queue.add(kept, existing=True)
        if found.done:
            self._queue.pack()
            lacks = self._lacks()
            self._finish(not lacks, lacks or self._reason)
            return False
        return True

    def _lacks(self) -> str:
        """Why the dump that was read is not complete; "" if it is."""
        if self._interrupted:
            return "the table was rebuilt meanwhile"
        if self._unsound or self._decoder.rejected > self._rejected_before:
            return "some entries could not be read"
        if self._queue.cut_dumps > self._cut_before:
            return "no room in memory while the disk refused"
        return ""

    def _wanted(self, table: Table) -> Table:
        if len(self._protocols):
            table = table.take(np.isin(table["l4proto"], self._protocols))
        if self._nat_only:
            table = table.take(table["status"] & uapi.IPS_NAT_MASK != 0)
        return table

    def _finish(self, complete: bool, detail: str) -> None:
        begin, self._begin, now = self._begin, 0, self._clock.wall()
        facts = {"rows": self._rows, "complete": complete, "detail": detail}
        self._queue.mark("dump", facts, begin, now)
        seconds = max(now - begin, 0) / SECOND
        whole = "" if complete else f", not complete: {detail}"
        text = f"table recorded: {self._rows} connections in {seconds:.3f} s{whole}"
        self._log.send(
            messages.DUMP, text, rows=self._rows, complete=complete, seconds=f"{seconds:.3f}"
        )
        if not complete and self._tries and not self._due:
            self._due = self._clock.monotonic() + RESYNC_DELAY_NS
