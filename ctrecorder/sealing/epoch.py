"""Exclusive use of a recording's key: at the present epoch, with each use in the ledger.

Epochs are counted by a clock that nobody sets.  Who needs the key moves it to the present epoch
first, so that old keys are destroyed while only the timers run.  The order of a move: the line in
the ledger, synced, with the old key; then the new key.  An interruption between the two is made
good by the next user.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ctrecorder.sealing.ledgerfile import LedgerFile
from ctrecorder.sealing.state import (
    LOCK_SECONDS,
    NoKeyError,
    PresentKey,
    SealError,
    SealState,
)
from ctrecorder.seals import keys
from ctrecorder.seals.keys import EPOCH_SECONDS
from ctrecorder.seals.ledger import Json, Line, file_name
from ctrecorder.times import SECOND

EPOCH_NS = EPOCH_SECONDS * SECOND
# The recorder ends an epoch at its next flush, within a minute.  Others leave it that time.
GRACE_NS = 120 * SECOND
# Epochs that a key from a backup is moved forward: 30 years.
_MAX_FORWARD = 1 << 20


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Clocks:
    """What counts epochs, and what the ledger notes.

    `boottime`: ns since the machine was started, also while it sleeps.  `wall`: ns UTC.
    """

    boottime: Callable[[], int] = _boottime
    wall: Callable[[], int] = time.time_ns


class EpochKey:
    """The key while its lock is held.

    `restored`: the epoch of the key that was found, if it is one of before: it came from a backup.
    """

    def __init__(
        self, state: SealState, present: PresentKey, ledger: LedgerFile, clocks: Clocks
    ) -> None:
        self._state, self._present = state, present
        self._ledger, self._clocks = ledger, clocks
        self.restored: int | None = None

    @property
    def epoch(self) -> int:
        return self._present.epoch

    @property
    def key(self) -> bytes:
        return self._present.bytes

    @property
    def id(self) -> str:
        return self._present.id

    @property
    def ends(self) -> int:
        """When the epoch is over, ns of `Clocks.boottime`."""
        return self._present.begun + EPOCH_NS

    def note(self, what: str, facts: Json) -> Line:
        """Append a line to the ledger.  Raises SealError."""
        return self._ledger.append(self.key, self.epoch, self._clocks.wall(), what, facts)

    def end_epoch(self, facts: Json) -> None:
        """Move to the next epoch, or as many epochs as have passed.

        `facts`: the SEAL with which the recorder ends it.  Raises SealError.
        """
        passed = max(self._passed(), 1)
        self._move(passed, self._clocks.boottime(), facts)

    def catch_up(self) -> None:
        """Move to the present epoch, if the recorder has not.  Raises SealError."""
        now, begun = self._clocks.boottime(), self._present.begun
        if not 0 < begun <= now:
            self._move(1, now, {})
        elif now >= self.ends + GRACE_NS:
            passed = self._passed()
            self._move(passed, begun + passed * EPOCH_NS, {})

    def reconcile(self) -> None:
        """Bring the key to where the ledger is.  Raises SealError."""
        last = self._ledger.last
        if last is None:
            self.note("begin", {"key": self.id, "seconds": EPOCH_SECONDS})
        elif last.onward > self.epoch:
            self._follow(last)
        elif last.epoch == self.epoch and not last.is_right(self.key):
            raise self._wrong()
        elif last.onward < self.epoch:  # the ledger came from a backup, or was cut
            self.note("begin", {"key": self.id, "seconds": EPOCH_SECONDS})

    def reach(self, epoch: int, is_right: Callable[[bytes], bool]) -> None:
        """Move beyond `epoch`, whose key somebody has used already, as `is_right` proves.

        So no epoch is sealed twice by a key from a backup.  Raises SealError.
        """
        if epoch <= self.epoch:
            return
        found = self.epoch
        if epoch - found > _MAX_FORWARD or not is_right(
            ahead := keys.advance(self.key, epoch - found)
        ):
            raise SealError(
                f"{self._state.path}: the key is of epoch {found}, the newest seal of epoch "
                f"{epoch}, and not of this key: make another with ctrecord --setup-seal "
                "--replace-key"
            )
        self._write(epoch, ahead, self._clocks.boottime())
        self._restore(found)

    def _follow(self, last: Line) -> None:
        """The ledger is ahead: a move was interrupted, or the key came from a backup."""
        found = self.epoch
        if not 0 <= last.epoch - found <= last.onward - found <= _MAX_FORWARD:
            raise self._wrong()
        ahead = keys.advance(self.key, last.epoch - found)
        if not last.is_right(ahead):
            raise self._wrong()
        ahead = keys.advance(ahead, last.onward - last.epoch)
        self._write(last.onward, ahead, self._clocks.boottime())
        if last.epoch > found:
            self._restore(found)

    def _restore(self, found: int) -> None:
        """Note that a key of before was found, and leave the epoch that it could have used."""
        self.restored = found
        self.note("restored", {"from": found})
        self._move(1, self._clocks.boottime(), {})

    def _wrong(self) -> SealError:
        return SealError(
            f"{self._ledger.path}: the last line was not sealed with the key in "
            f"{self._state.path}: move the file aside to go on with a new one"
        )

    def _passed(self) -> int:
        """Whole epochs since the present one began.

        After a reboot they are those of this boot at most: the time before it is not known.  No id
        of a boot is compared, because the sandbox of the timers hides it.
        """
        return max(self._clocks.boottime() - self._present.begun, 0) // EPOCH_NS

    def _move(self, epochs: int, begun: int, facts: Json) -> None:
        onward = self.epoch + epochs
        self.note("next", {**facts, "next": onward})
        self._write(onward, keys.advance(self.key, epochs), begun)

    def _write(self, epoch: int, key: bytes, begun: int) -> None:
        present = replace(
            self._present,
            epoch=epoch,
            key=key.hex(),
            begun=begun,
        )
        self._state.write(present)
        self._present = present


@contextlib.contextmanager
def exclusive(
    state: str,
    folder: str,
    clocks: Clocks,
    *,
    recorder: bool = False,
    wait_seconds: float = LOCK_SECONDS,
) -> Iterator[EpochKey]:
    """The key in the folder `state`, locked; its ledger is in `folder`.

    `recorder`: it ends epochs itself.  Otherwise the key is moved to the present epoch first.

    Raises SealError; NoKeyError if there is no key for the segments in `folder`.
    """
    folder = os.path.realpath(folder)
    with contextlib.closing(SealState(state)) as opened, opened.locked(wait_seconds):
        present = opened.read()
        if present.folder not in ("", folder):
            raise NoKeyError(state, f"its key seals the segments in {present.folder}, not others")
        with contextlib.closing(LedgerFile(folder, file_name(present.id))) as ledger:
            key = EpochKey(opened, replace(present, folder=folder), ledger, clocks)
            key.reconcile()
            if not recorder:
                key.catch_up()
            yield key


def new_key(state: SealState) -> bytes:
    """Put a new key of epoch 0 in the place of what is there; returns it.  Raises SealError."""
    key = secrets.token_bytes(keys.KEY_BYTES)
    state.write(PresentKey(keys.key_id(key), 0, key.hex()))
    return key
