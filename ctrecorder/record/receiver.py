"""Events from the kernel's socket to tables.

Messages are taken with few system calls into a slot buffer and decoded when that is full or a flush
is due: decoding thousands at once is what makes it cheap.
"""

from __future__ import annotations

from collections.abc import Callable

from ctrecorder.columns import Table, bit
from ctrecorder.kernel import sockets
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.sockets import EventSocket
from ctrecorder.times import SECOND

# Slots of 1,088 bytes: 3.2 MiB.  Fewer decode smaller batches in a flood; more take too much of the
# 50 MiB that the recorder may use.
SLOTS = 3072
# Batches (32,768 events, some 50 ms) before signals, flushes and the watchdog get their turn: a
# flood that never ends must not keep them waiting.
BATCHES_PER_TURN = 32
# The wait, after the first event, that lets a batch form in the kernel.  It bounds the error of a
# time of receipt, so it is short where the kernel does not date its events (before Linux 6.14, or
# nf_conntrack_timestamp=0).
DATED_WAIT_NS = SECOND // 20
UNDATED_WAIT_NS = SECOND // 50
# A queued event takes 1,280 bytes of a buffer that the kernel made twice as large as requested
# (measured), and no router makes 1,000,000 events a second.  The wait is limited so that the buffer
# is at most half full after it.
EVENT_BUFFER_BYTES = 1280
MAX_EVENTS_PER_SECOND = 1_000_000


class Receiver:
    """Receives events and passes them as tables to `take`, in the order of their arrival.

    Attributes:
    `more`: True if the last `receive` left messages in the kernel's buffer, as far as is known.
    `emptied`: the time before the receive that found the buffer empty, ns UTC: all events that the
    kernel gave until then were received; None if the last `receive` did not find it empty.
    """

    def __init__(
        self, socket: EventSocket, take: Callable[[Table], None], wall: Callable[[], int]
    ) -> None:
        self.socket, self._take, self._wall = socket, take, wall
        self.more = False
        self.emptied: int | None = None
        self._slots = sockets.SlotBuffer(SLOTS)
        self._decoder = Decoder()
        self._dated = False  # the kernel dates its events

    def fileno(self) -> int:
        """Readable when events are queued."""
        return self.socket.fileno()

    @property
    def capacity(self) -> int:
        """The number of events that the kernel's buffer holds."""
        return 2 * self.socket.buffer_bytes // EVENT_BUFFER_BYTES

    @property
    def dated(self) -> bool:
        """True if the kernel dated the last event (Linux 6.14, nf_conntrack_timestamp=1)."""
        return self._dated

    @property
    def batch_wait_ns(self) -> int:
        """How long to let a batch form."""
        wait = DATED_WAIT_NS if self._dated else UNDATED_WAIT_NS
        return min(wait, self.capacity * SECOND // (2 * MAX_EVENTS_PER_SECOND))

    @property
    def turns(self) -> int:
        """Calls of `receive` that take everything that a full buffer holds."""
        return self.capacity // (BATCHES_PER_TURN * sockets.BATCH) + 1

    @property
    def unreadable(self) -> int:
        """Messages of the kernel that could not be decoded."""
        return self.socket.truncated + self._decoder.rejected

    @property
    def problem(self) -> str:
        """What was wrong with the first unreadable message."""
        return self._decoder.first_rejection or "longer than a slot"

    def receive(self) -> None:
        """Take the queued messages, at most BATCHES_PER_TURN batches; decode when the slots are
        full.
        """
        self.emptied = None
        for _ in range(BATCHES_PER_TURN):
            if self._slots.rows - self._slots.used < sockets.BATCH:
                self.decode()
            before = self._wall()
            if not self.socket.receive(self._slots):
                self.emptied = before
                break
        self.more = self.emptied is None

    def decode(self) -> None:
        """Decode all messages in the slots."""
        for table in self._decoder.decode(*self.socket.accept(self._slots)):
            self._dated = bool(int(table["present"][-1]) & bit("time"))
            self._take(table)
