"""A recording of several segments by the recorder's own series, what it logged meanwhile, and what
a forger may do to it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np

from ctrecorder import uapi
from ctrecorder.columns import Array, Event, Table
from ctrecorder.ctlog.frame import FRAME
from ctrecorder.ctlog.header import Header
from ctrecorder.service.key import read_key
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.target import Target
from ctrecorder.times import DAY, MINUTE, SECOND
from ctrecorder.witness import logged
from tests.support.router import CHECKOUT
from tests.support.told import Told

NOON = 20_000 * DAY + DAY // 2


class Printed(Told):
    """The lines as `ctrecord -F` would write them."""

    def send(self, kind: object, text: str, **fields: object) -> None:
        self.lines.append(f"{self.command}: {text}")


def rows(first: int, count: int) -> Table:
    """NEW events with ids from `first` on."""
    ids = np.arange(first, first + count, dtype=np.uint32)
    random = np.random.default_rng(first)
    columns: dict[str, Array] = {
        "time": NOON + ids.astype(np.int64) * SECOND,
        "event": np.full(count, Event.NEW, np.uint8),
        "l4proto": np.full(count, 17, np.uint8),
        "id": ids,
        "orig_src": random.integers(0, 2**32, count, np.uint32),
        "orig_dst": random.integers(0, 2**32, count, np.uint32),
    }
    return Table(uapi.AF_INET, count, columns)


class History:
    """Five closed segments of four blocks of events, or three and then one that a crash left;
    `anchors`: the log.
    """

    def __init__(
        self, folder: Path, *, key: Path | None = None, seed: int = 0, crash: bool = False
    ) -> None:
        self.folder, self.anchors = folder, folder.with_name(f"{folder.name}.log")
        folder.mkdir()
        self.log = Printed("ctrecord")
        place = Target(str(folder / "%H%M.ctlog"), 60, 0o640)
        series = SegmentSeries(
            place, lambda: Header(host="router"), self.log, read_key(str(key) if key else None)
        )
        queue = WriteQueue(series, 65536, 64 << 20, Counters(), self.log)
        queue.open(NOON)
        self.paths = []
        for hour in range(5):
            now = NOON + hour * 60 * MINUTE
            if hour:
                queue.rotate(now)
            self.paths.append(Path(queue.path))
            for block in range(4):
                queue.add(rows(seed + hour * 3600 + block * 10, 3 + block))
                queue.flush(now + block * SECOND)
        if crash:
            assert series.writer is not None
            series.writer.abandon()
        else:
            queue.close(NOON + 300 * MINUTE)
        self.save()

    def save(self) -> None:
        self.anchors.write_text(
            "".join(f"Nov 24 06:00:00 router {line}\n" for line in self.log.lines)
        )

    def run(self, command: str, *arguments: object) -> str:
        """Runs a command of ours, whose stderr goes to the log."""
        done = subprocess.run(
            [CHECKOUT / "bin" / command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        self.log.lines += done.stderr.splitlines()
        self.save()
        return done.stderr


def entry_of(line: str, uid: int = 0, unit: str = "") -> str:
    """A line of a command's log as `journalctl -o json` gives the entry, if `uid` sent it in
    `unit`.
    """
    for kind, pattern in logged.TEXTS.items():
        found = pattern.search(line)
        if found:
            parts = found.groupdict(default="")
            named = "PREVIOUS_HASH" if kind == "opened" else "REPLACED_HASH"
            entry = {
                "MESSAGE_ID": logged.KINDS[kind].id,
                "_UID": str(uid),
                "_SYSTEMD_UNIT": unit,
                "CTRECORDER_PATH": parts["path"],
                "CTRECORDER_LAST_HASH": parts.get("hash", ""),
                f"CTRECORDER_{named}": parts.get("before", ""),
            }
            return json.dumps(entry) + "\n"
    return json.dumps({"MESSAGE": line}) + "\n"


def blocks_of(data: bytes) -> list[bytes]:
    """The blocks of a sound segment."""
    blocks, at = [], 0
    while at < len(data):
        end = at + FRAME.size + FRAME.unpack_from(data, at)[6]
        blocks.append(data[at:end])
        at = end
    return blocks


def replay(
    history: History, folder: Path, *, keep: int, seed: int, key: Path | None = None
) -> None:
    """What a forger does who can write to the folder: another history from segment `keep` on, every
    hash and name right.
    """
    other = folder.with_name("forged")
    shutil.copytree(folder, other)
    for path in history.paths[keep:]:
        (other / path.name).unlink()
    forger = Printed("ctrecord")
    place = Target(str(other / "%H%M.ctlog"), 60, 0o640)
    series = SegmentSeries(
        place, lambda: Header(host="router"), forger, read_key(str(key) if key else None)
    )
    queue = WriteQueue(series, 65536, 64 << 20, Counters(), forger)
    queue.open(NOON + keep * 60 * MINUTE)
    for hour in range(keep, 5):
        now = NOON + hour * 60 * MINUTE
        if hour > keep:
            queue.rotate(now)
        for block in range(4):
            queue.add(rows(seed + hour * 3600 + block * 10, 3 + block))
            queue.flush(now + block * SECOND)
    queue.close(NOON + 300 * MINUTE)
    shutil.rmtree(folder)
    other.rename(folder)
