"""A sealed recording in two folders: clocks that the test sets, a key, a series of segments."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ctrecorder import filelock
from ctrecorder.check import verify
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Gap
from ctrecorder.ctlog.header import Header
from ctrecorder.filelock import Holder, Lock, Purpose
from ctrecorder.folder import Folder
from ctrecorder.maintain import holds
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.sealing.epoch import EPOCH_NS, Clocks, new_key
from ctrecorder.sealing.examine import SealCheck
from ctrecorder.sealing.live import LiveSeals
from ctrecorder.sealing.state import PresentKey, SealState
from ctrecorder.sealing.successor import KeyUser
from ctrecorder.seals.keys import key_id
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.target import Target
from ctrecorder.times import SECOND
from tests.support import tables
from tests.support.told import Told

NOON = tables.NOON


class Ticking:
    """The clocks of a machine."""

    def __init__(self) -> None:
        self.boottime, self.wall = 100 * SECOND, NOON

    def passes(self, ns: int) -> None:
        self.boottime += ns
        self.wall += ns

    def reboot(self) -> None:
        self.boottime = 5 * SECOND

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.boottime, lambda: self.wall)


class Recording:
    """`folder` has the segments and the ledger, `state` the key; `key`: the verification key."""

    def __init__(self, root: Path, key: bytes | None = None) -> None:
        self.folder, self.state = root / "log", root / "state"
        self.folder.mkdir()
        self.state.mkdir(0o700)
        self.clock, self.log = Ticking(), Told()
        with contextlib.closing(SealState(str(self.state))) as state:
            self.key = new_key(state) if key is None else key
            state.write(PresentKey(key_id(self.key), 0, self.key.hex()))
        self.number = 0

    @property
    def ledger(self) -> Path:
        (path,) = self.folder.glob("*.ledger")
        return path

    def start(self, *, sealed: bool = True) -> WriteQueue:
        """A recorder that has started."""
        seals = LiveSeals(str(self.state), str(self.folder), self.log, self.clock.clocks)
        target = Target(str(self.folder / "%Y%m%d-%H%M%S.ctlog"), 60, 0o640)
        series = SegmentSeries(
            target, lambda: Header(requires=()), self.log, seals=seals if sealed else None
        )
        queue = WriteQueue(series, 65536, 64 << 20, Counters(), self.log)
        queue.open(self.clock.wall)
        self.seals = seals
        return queue

    def crash(self, queue: WriteQueue) -> None:
        """Leave the segment of a recorder as it is, as if the machine had crashed."""
        assert queue.series.writer is not None
        queue.series.writer._release()
        self.seals.release()
        self.clock.reboot()
        self.clock.passes(SECOND)

    def add(self, queue: WriteQueue, rows: int = 300) -> None:
        """Record some rows, and a gap."""
        self.number += 1
        queue.add(self.rows(rows))
        queue.gap(Gap(self.clock.wall, self.clock.wall, "late", self.number))
        assert queue.flush(self.clock.wall)

    def rows(self, rows: int) -> Table:
        return tables.events(2, rows, seed=self.number)

    def record(
        self, epochs: int = 2, *, queue: WriteQueue | None = None, sealed: bool = True
    ) -> Path:
        """Record one segment of some epochs; returns its path."""
        running = queue or self.start(sealed=sealed)
        path = Path(running.path)
        for _ in range(epochs):
            self.add(running)
            self.clock.passes(EPOCH_NS)
            assert running.flush(self.clock.wall)
        self.add(running)
        if queue is None:
            assert running.close(self.clock.wall)
        else:
            queue.rotate(self.clock.wall)
        self.clock.passes(SECOND)
        return path

    def keys(self) -> KeyUser:
        """The key for the commands beside the recorder."""
        return KeyUser(str(self.state), self.clock.clocks)

    def lock_key(self) -> Lock:
        """Use the key for as long as the lock is held."""
        with Folder(str(self.state)) as folder:
            lock = filelock.take(folder, Purpose.KEY, Holder.KEY)
        assert lock is not None
        return lock

    def hold(self, reason: str) -> None:
        """Set a hold on all segments."""
        keys, period = self.keys(), (None, None)
        holds.hold(str(self.folder), period, reason, self.log, keys, utc=True, trust_clock=False)

    def squeeze(self, path: Path) -> None:
        """Squeeze a segment in its place."""
        assert squeeze(str(path), SqueezeOptions(seals=self.keys())) is not None

    def check(self, folder: Path | None = None, key: bytes | None = None) -> tuple[int, list[str]]:
        """What cttest says of a folder, with the verification key."""
        lines: list[str] = []
        where = str(folder or self.folder)
        seals = SealCheck(key or self.key, [where], self.clock.wall)
        code = verify.check([where], lines.append, seals=seals, quiet=True)
        return code, lines
