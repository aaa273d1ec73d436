"""The state that a running recorder publishes: a small file in /run, written again each second.

It states until when the open segment is complete, and which holes last at this moment, without a
write to flash.  Readers trust it for 3 s, and only if its process still runs and its segment is
still in its place.  A copy of an archive has no such file.

The file is `/run/ctrecorder/CHAIN.json`.  Every user may read it: it contains no recorded
connections.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ctrecorder.errors import ArchiveError, why
from ctrecorder.folder import Folder, open_file
from ctrecorder.times import BEGIN, END

FOLDER = "/run/ctrecorder"
# A recorder renews its file each second.  One that has missed two is stopped or hangs.
VALID_NS = 3_000_000_000
_MODE = 0o644
# A state with a hundred holes has 20 KiB; a longer file is not ours.
_MAX_BYTES = 1 << 18
_CHAIN = re.compile(r"[0-9a-f]{1,64}")

Json = dict[str, Any]


@dataclass(frozen=True)
class LiveState:
    """The state of one recorder.

    `segment`: path of the open segment, with its `device` and `inode`.  `watermark`: ns UTC; all
    events that the kernel gave until then can be read there, if it has `size` bytes: after a failed
    sync, blocks are cut off and written again.  `synced`: ns UTC; the watermark that is on the
    disk, so that a power cut cannot take it; 0: none is.  `holes`: GAPs that are not in the segment
    yet, or are still open, each as the members of a GAP with `start` and `end` (ns UTC, `end` None
    while it lasts).  `state`: what is on, as in ctlog(5).  `counters`: since the recorder started;
    of them `unwritten`: lost events that no GAP in the segment has yet, as long as it has `size`
    bytes.
    """

    chain: str
    segment: str
    device: int
    inode: int
    watermark: int
    holes: tuple[Json, ...] = ()
    state: Json = field(default_factory=dict)
    counters: Json = field(default_factory=dict)
    size: int = 0
    synced: int = 0


def boottime_ns() -> int:
    """CLOCK_BOOTTIME: it is never set, and continues during a suspend."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def start_ticks(pid: int) -> int | None:
    """When the process `pid` started, in clock ticks since boot; None if there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        # The name of the program is in parentheses, and can hold anything.
        return int(status.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def make_folder(uid: int, gid: int, folder: str = FOLDER) -> None:
    """Make the folder for a recorder that will run as this user, if there is none.

    systemd makes it for the units.  A failure shows when the recorder publishes.
    """
    try:
        os.mkdir(folder, 0o755)
        made = Folder(folder)
    except (OSError, ArchiveError):
        return
    with made:
        os.fchmod(made.descriptor, 0o755)
        os.fchown(made.descriptor, uid, gid)


class Publisher:
    """Writes the state of this process.

    `folder` must exist.  Raises ArchiveError if it does not.
    """

    def __init__(self, folder: str = FOLDER) -> None:
        self._folder = Folder(folder)
        self._name = ""
        self._process: Json = {}

    def publish(self, state: LiveState) -> None:
        """Replace the file.  Raises ArchiveError."""
        pid = os.getpid()  # another one after the fork of a daemon
        if self._process.get("pid") != pid:
            self._process = {"pid": pid, "start_ticks": start_ticks(pid)}
        facts = {**self._process, "boottime_ns": boottime_ns(), **asdict(state)}
        facts["time_ns"] = time.time_ns()
        name, aside = f"{state.chain}.json", f".{state.chain}.{pid}"
        try:
            self._folder.remove(aside)
            descriptor = self._folder.create(aside, _MODE)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(facts, file)
            self._folder.rename(aside, name)
        except OSError as error:
            raise ArchiveError(f"{self._folder.path}/{name}: {why(error)}") from error
        self._name = name

    def close(self) -> None:
        """Remove the file."""
        if self._name:
            self._folder.remove(self._name)
        self._folder.close()


def read_live_state(chain: str, folder: str = FOLDER) -> LiveState | None:
    """The valid state of the recorder of `chain`; None if there is none.

    Read it before the segments: what a segment holds can only grow meanwhile.
    """
    state = _read(chain, folder)
    try:
        there = os.stat(state.segment, follow_symlinks=False) if state is not None else None
    except (OSError, ValueError):
        return None
    if state is None or there is None:
        return None
    return state if (there.st_dev, there.st_ino) == (state.device, state.inode) else None


def is_published(chain: str, status: os.stat_result, folder: str | None = None) -> bool:
    """If the recorder of `chain` runs and publishes that it writes the file of `status`.

    Wherever the file is now: it may have been moved.
    """
    state = _read(chain, folder or FOLDER)
    return state is not None and (status.st_dev, status.st_ino) == (state.device, state.inode)


def unwritten_losses(chain: str, segment: str, folder: str | None = None) -> int:
    """How many events the recorder of `chain` had lost, and did not write, when it crashed; 0: none
    or not known.  `segment`: its last one, which must be as it was when the state was published.
    """
    facts = _facts(chain, folder or FOLDER) or {}
    counters = facts.get("counters")
    known = counters if isinstance(counters, dict) else {}
    unwritten, size = known.get("unwritten"), known.get("size")
    try:
        status = os.stat(segment, follow_symlinks=False)
    except OSError:
        return 0
    here = status.st_dev, status.st_ino, status.st_size
    same = here == (facts.get("device"), facts.get("inode"), size)
    return unwritten if same and type(unwritten) is int and unwritten > 0 else 0


def last_published(chain: str, folder: str | None = None) -> tuple[int, int] | None:
    """When the recorder of `chain` published last: ns of CLOCK_BOOTTIME, and ns UTC.  None: it
    ended in order, or not in this boot, or nothing is known.
    """
    facts = _facts(chain, folder or FOLDER) or {}
    boottime, moment = facts.get("boottime_ns"), facts.get("time_ns")
    return (boottime, moment) if type(boottime) is int and type(moment) is int else None


def _read(chain: str, folder: str) -> LiveState | None:
    """The state of `chain`, if its process runs and it is fresh."""
    facts = _facts(chain, folder)
    return None if facts is None else _valid(facts, chain)


def _facts(chain: str, folder: str) -> Json | None:
    """What was published last for `chain`."""
    if not _CHAIN.fullmatch(chain):
        return None
    try:
        with os.fdopen(open_file(os.path.join(folder, f"{chain}.json")), "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError:
        return None
    try:
        facts = json.loads(content) if len(content) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _valid(facts: Json, chain: str) -> LiveState | None:
    """The state in `facts`, if its process runs and it is fresh."""
    try:
        age = boottime_ns() - int(facts["boottime_ns"])
        state = LiveState(
            chain=str(facts["chain"]),
            segment=str(facts["segment"]),
            device=int(facts["device"]),
            inode=int(facts["inode"]),
            watermark=int(facts["watermark"]),
            holes=tuple(hole for hole in facts["holes"] if isinstance(hole, dict)),
            state=dict(facts["state"]),
            counters=dict(facts["counters"]),
            size=int(facts["size"]),
            synced=int(facts["synced"]),
        )
        ticks = start_ticks(int(facts["pid"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    # Not by the boot id: in a container, a unit with a /proc of its own sees another one.
    fresh = 0 <= age <= VALID_NS
    runs = ticks is not None and ticks == facts.get("start_ticks")
    is_time = BEGIN <= state.watermark <= END
    return state if fresh and runs and is_time and state.chain == chain else None
