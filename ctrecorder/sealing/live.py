"""The seals of a segment while it is recorded: one at the end of each epoch, one before the FOOTER.

Recording never waits for a seal.  What keeps the key from being used is logged, and tried again
each minute; what was recorded meanwhile is proved only from the next seal on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from ctrecorder.ctlog.frame import HASHED, Kind
from ctrecorder.errors import FormatError
from ctrecorder.filelock import Lock
from ctrecorder.sealing.epoch import Clocks, EpochKey, exclusive
from ctrecorder.sealing.state import BusyKeyError, SealError, SealState
from ctrecorder.seals.block import Seal, is_right, parse_seal
from ctrecorder.seals.keys import EPOCH_SECONDS
from ctrecorder.seals.ledger import Json
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter, WriteError
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.times import SECOND

_RETRY_NS = 60 * SECOND
# The recorder takes no events while it waits for another user of the key.  A seal at an epoch's end
# can wait for the next flush; one before a FOOTER cannot.
_SHORT_SECONDS, _LONG_SECONDS = 0.1, 2.0


class LiveSeals:
    """Seals the segments that a recorder writes to `folder`, with the key in `state`."""

    def __init__(self, state: str, folder: str, log: Log, clocks: Clocks | None = None) -> None:
        self.state, self.folder, self._log = state, folder, log
        self._clocks = clocks or Clocks()
        self._id, self._epoch = "", 0
        self._due = 0  # ns of `Clocks.boottime`
        self._failing = False
        self._claim: Lock | None = None

    def start(self, newest: str | None) -> None:
        """Begin a new epoch.  `newest`: the segment that the first one is chained to.

        Raises ArchiveError: a recording that is to be sealed does not begin unsealed.
        """
        with contextlib.closing(SealState(self.state)) as state:
            self._claim = state.claim()
        with exclusive(self.state, self.folder, self._clocks, recorder=True) as key:
            if newest is not None:
                _pass_seals(newest, key)
            key.end_epoch({})
            key.note("start", {})
            self._took(key)
            restored = key.restored
        if restored is not None:
            text = (
                f"the key in {self.state} is of epoch {restored}, and later ones were used: it "
                "came from a backup, and who has that can forge all since"
            )
            self._log.send(messages.SEAL_RESTORED, text, path=self.state, epoch=restored)

    def header(self) -> Json:
        """The member `seals` of the header of a segment that begins now."""
        return {"epoch": self._epoch, "seconds": EPOCH_SECONDS, "key": self._id}

    def opened(self, path: str, restored: str = "") -> None:
        """Note a segment in the ledger.  `restored`: the path at which it was deleted."""
        facts = {"segment": os.path.basename(path)}
        if restored:
            facts["was"] = os.path.basename(restored)
        self._use(lambda key: key.note("open", facts))

    @property
    def due(self) -> bool:
        """Whether the epoch is over."""
        return self._clocks.boottime() >= self._due

    def end_epoch(self, writer: SegmentWriter) -> None:
        """Seal all that is written, and destroy the key.  Raises WriteError."""

        def end(key: EpochKey) -> None:
            seal = self._seal(writer, key)
            try:
                writer.sync()
            except WriteError:
                writer.rollback()
                raise
            if self._clocks.boottime() >= key.ends:
                key.end_epoch(seal)

        self._use(end, can_wait=True)

    def before_footer(self, writer: SegmentWriter) -> None:
        """Seal a segment that is closed now.  Raises WriteError."""
        self._use(lambda key: self._seal(writer, key))

    def closed(self, path: str, last_hash: bytes) -> None:
        """Note the end of a segment in the ledger."""
        facts = {"segment": os.path.basename(path), "last_hash": last_hash.hex()}
        self._use(lambda key: key.note("close", facts))

    def stopped(self) -> None:
        """Note that the recorder ends: no seal is due after this one."""
        self._use(lambda key: key.note("stop", {}))
        self.release()

    def release(self) -> None:
        """Let another recorder seal with the key."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _seal(self, writer: SegmentWriter, key: EpochKey) -> Json:
        writer.seal(key.key, key.epoch, key.epoch, self._clocks.wall())
        return {"segment": os.path.basename(writer.path), "seal": writer.last_hash.hex()}

    def _use(self, act: Callable[[EpochKey], object], *, can_wait: bool = False) -> None:
        """Call `act` with the key.  That the key cannot be used is logged once.

        `can_wait`: while another process uses the key, the next flush tries again.
        """
        now, wait_seconds = self._clocks.boottime(), _SHORT_SECONDS if can_wait else _LONG_SECONDS
        try:
            with exclusive(
                self.state, self.folder, self._clocks, recorder=True, wait_seconds=wait_seconds
            ) as key:
                if self._id != key.id:
                    raise SealError(f"{self.state}: has another key now: restart the recorder")
                act(key)
                self._took(key)
            self._failing = False
        except SealError as error:
            if can_wait and isinstance(error, BusyKeyError) and now < self._due + _RETRY_NS:
                return
            self._due = now + _RETRY_NS
            if not self._failing:
                self._failing = True
                self._log.send(
                    messages.SEAL_FAILED,
                    f"cannot seal: {error}; recording goes on, trying again each minute",
                    path=self.state,
                    error=str(error),
                )

    def _took(self, key: EpochKey) -> None:
        self._id, self._epoch = key.id, key.epoch
        self._due = max(key.ends, self._clocks.boottime() + SECOND)


def _pass_seals(path: str, key: EpochKey) -> None:
    """Move the key beyond the last seal of the segment `path`, if that was made with this key."""
    with Segment(path) as segment:
        if (segment.header.seals or {}).get("key") != key.id:
            return
        last = last_seal(segment)
        if last is not None:
            seal, head = last
            key.reach(seal.epoch, lambda ahead: is_right(seal, head, ahead))


def last_seal(segment: Segment) -> tuple[Seal, bytes] | None:
    """The last SEAL of a segment, and the head of its frame; None if it has none."""
    for block in reversed(segment.blocks_of(Kind.SEAL)):
        try:
            frame = segment.frame(block)
            payload = segment.file.payload(block.offset, frame)
            return parse_seal(payload), bytes(segment.file.read(block.offset, HASHED))
        except FormatError:
            continue
    return None
