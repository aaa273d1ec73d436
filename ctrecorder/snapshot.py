"""Dumps of the connection table, taken step by step beside the live events: what is open goes into the log as EXISTING rows.

A dump's rows are followed by a MARK `dump` with its beginning, its end and whether it is complete.  Only a complete one
proves that a flow which it does not show had ended.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ctrecorder import messages, uapi
from ctrecorder.accounts import Counters
from ctrecorder.columns import Table
from ctrecorder.decode import Decoder
from ctrecorder.errors import KernelError
from ctrecorder.netlink import DumpSocket
from ctrecorder.place import SECOND
from ctrecorder.service import Log
from ctrecorder.spool import Spool

# Datagrams (about 150 entries each, some 0.1 ms) between two looks at the live events: more would let their buffer fill.
DATAGRAMS_A_STEP = 16
# A dump after a loss waits until the flood that caused it has passed, and does not come more often than this: each costs
# a pass over the whole table.
RESYNC_DELAY_NS = 5 * SECOND
# The kernel answers a dump at once; no datagram for so long means that it never will.
STALL_NS = 30 * SECOND


class Snapshot:
    """At most one dump at a time; rows that the recorder does not record are left out as the event socket's filter does."""

    def __init__(self, socket: DumpSocket, protocols: Collection[int], nat_only: bool, counters: Counters, spool: Spool, log: Log) -> None:
        self._socket, self._counters, self._spool, self._log = socket, counters, spool, log
        self._protocols, self._nat_only = np.array(sorted(protocols), np.uint8), nat_only
        self._decoder = Decoder()
        self._begin = self._last_step = self._due = 0
        self._reason = ""
        self._rows = self._unsound = self._rejected_before = 0
        self._interrupted = False

    @property
    def active(self) -> bool:
        """Whether a dump is under way."""
        return self._begin != 0

    @property
    def due_ns(self) -> int:
        """When the next dump is to begin, ns UTC; 0 if none is wanted."""
        return 0 if self.active else self._due

    def fileno(self) -> int:
        """Readable while a dump has more to say."""
        return self._socket.fileno()

    def want(self, reason: str, when_ns: int) -> None:
        """Ask for a dump at `when_ns`, or as soon after it as the one under way is over."""
        self._due, self._reason = when_ns, reason

    def clock_stepped(self, step_ns: int) -> None:
        """Move all moments by `step_ns`, as the clock did."""
        moments = (self._begin, self._last_step, self._due)
        self._begin, self._last_step, self._due = (moment and max(moment + step_ns, 1) for moment in moments)

    def step(self, now_ns: int) -> None:
        """Begin a dump that is due, or read some more of the one under way."""
        try:
            if not self.active:
                if self._due and now_ns >= self._due:
                    self._request(now_ns)
                return
            for _ in range(DATAGRAMS_A_STEP):
                if not self._read(now_ns):
                    break
        except KernelError as error:
            self._finish(now_ns, complete=False, detail=str(error))

    def _request(self, now_ns: int) -> None:
        self._begin, self._last_step, self._due = now_ns, now_ns, 0
        self._rows = self._unsound = 0
        self._rejected_before = self._decoder.rejected
        self._interrupted = False
        self._socket.request()

    def _read(self, now_ns: int) -> bool:
        """One datagram; False if there is none now or the dump is over."""
        found = self._socket.read()
        if found is None:
            if now_ns - self._last_step > STALL_NS:
                raise KernelError("the dump of the conntrack table has stalled")
            return False
        self._last_step = now_ns
        self._interrupted |= found.interrupted
        self._unsound += found.unsound
        for table in self._decoder.decode(found.slots, found.lengths, now_ns, existing=True):
            kept = self._wanted(table)
            self._rows += len(kept)
            self._counters.add(kept)
            self._spool.add(kept, existing=True)
        if found.done:
            rejected = self._decoder.rejected - self._rejected_before
            self._finish(now_ns, complete=not (self._interrupted or self._unsound or rejected), detail=self._reason)
            return False
        return True

    def _wanted(self, table: Table) -> Table:
        if len(self._protocols):
            table = table.take(np.isin(table["l4proto"], self._protocols))
        if self._nat_only:
            table = table.take(table["status"] & uapi.IPS_NAT_MASK != 0)
        return table

    def _finish(self, now_ns: int, complete: bool, detail: str) -> None:
        begin, self._begin = self._begin, 0
        facts = {"rows": self._rows, "complete": complete, "detail": detail}
        self._spool.mark("dump", facts, begin, now_ns)
        seconds = max(now_ns - begin, 0) / SECOND
        whole = "" if complete else f", not complete: {detail}"
        text = f"table recorded: {self._rows} connections in {seconds:.3f} s{whole}"
        self._log.say(messages.DUMP, text, rows=self._rows, complete=complete, seconds=f"{seconds:.3f}")
