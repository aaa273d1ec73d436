"""A recording that is attacked as the users that cttest(1) names, and then checked as it says."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from ctrecorder.cli import cttest
from ctrecorder.maintain.expire import Expiry, Limits
from ctrecorder.maintain.squeeze import SqueezeOptions
from ctrecorder.maintain.squeeze_all import ArchiveSqueeze
from ctrecorder.seals.keys import key_text
from ctrecorder.service.messages import Message, field_name
from ctrecorder.times import SECOND
from tests.support.claims import Claim, Who
from tests.support.router import wait_until
from tests.support.sealed import Recording
from tests.support.told import Told

OWNER, READER, WRITER, GROUP = 4000, 4001, 4003, 4002
UIDS = {Who.READER: READER, Who.WRITER: WRITER, Who.RECORDER: OWNER}
RECORDER_UNIT = "ctrecord.service"
# More than the clock of a recorder that goes on is ahead, and less than an epoch.
_AHEAD_NS = 60 * SECOND


class Journal(Told):
    """A journal: each entry as `journalctl -o json` prints it, in the file `path`.

    `uid`, `unit`: of the sender, whom journald names.
    """

    def __init__(self, path: Path, uid: int, unit: str) -> None:
        super().__init__("test")
        self.path, self.uid, self.unit = path, uid, unit

    def send(self, kind: object, text: str, **fields: object) -> None:
        assert isinstance(kind, Message)
        entry = {"MESSAGE": text, "MESSAGE_ID": kind.id, "_UID": str(self.uid)}
        if self.unit:
            entry["_SYSTEMD_UNIT"] = self.unit
        entry |= {field_name(name): str(value) for name, value in fields.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


@dataclass
class Attacked:
    """`ours`: the recording, of which `sealed` says whether it is; `journal`: what was logged.

    `paths`: five segments, all closed: three that were squeezed in time, one of several epochs, and
    one of the last epoch.  There is a hold on all.  `now`: of the check; 0: long after.
    """

    ours: Recording
    sealed: bool
    journal: Path
    paths: list[Path]
    now: int = 0

    @property
    def folder(self) -> Path:
        return self.ours.folder

    def log_as(self, uid: int, unit: str = "") -> Journal:
        """A sender of entries."""
        return Journal(self.journal, uid, unit)

    def squeeze(self, log: Told) -> None:
        """Squeeze what is closed."""
        seals = self.ours.keys()
        assert ArchiveSqueeze(SqueezeOptions(seals=seals), 1, log).folder(str(self.folder)) == 0

    def attack(self, claim: Claim, what: Callable[[Attacked], None]) -> None:
        """Do `what` as the user whom the claim names."""
        if claim.who is Who.WRITER:  # the folder is a copy on their server
            for path in (self.folder, *self.folder.iterdir()):
                with contextlib.suppress(FileNotFoundError):  # a recorder's that goes on
                    os.chown(path, -1, GROUP)
                    path.chmod(0o660 if path.is_file() else 0o770)
        as_user(UIDS.get(claim.who, 0), lambda: what(self))

    def check(
        self, level: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> tuple[int, str]:
        """cttest with the options of `level`: its exit code, and all that it prints."""
        arguments = ["-c", str(self.folder.parent / "none.conf"), str(self.folder)]
        if level in ("seals", "both"):
            text = key_text(self.ours.key).encode()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
            arguments.insert(0, "--seals")
        if level in ("anchors", "both"):
            arguments[:0] = ["--anchors", str(self.journal)]
        capfd.readouterr()
        with monkeypatch.context() as patch:
            if self.now:
                patch.setattr(cttest, "time", SimpleNamespace(time_ns=lambda: self.now))
            code = cttest.main(arguments)
        out, err = capfd.readouterr()
        return code, out + err


def make(root: Path, *, sealed: bool) -> Attacked:
    """A recording in `root`, of the user OWNER."""
    root.mkdir()
    root.chmod(0o755)
    (root / "none.conf").touch()
    (root / "journal").touch()
    (root / "journal").chmod(0o666)  # a journal takes entries of anybody, and names the sender
    ours = Recording(root)
    made = Attacked(ours, sealed, root / "journal", [])
    ours.folder.chmod(0o750)
    ours.log = made.log_as(OWNER, RECORDER_UNIT)
    squeezer = made.log_as(OWNER, "ctsqueeze.service")
    for epochs in (1, 1, 2, 2, 0):
        made.paths.append(ours.record(epochs, sealed=sealed))
        if len(made.paths) <= 3:
            made.squeeze(squeezer)
    ours.hold("case 17")
    for path in (root, ours.folder, ours.state):
        give(path, OWNER)
    return made


@contextlib.contextmanager
def recording_goes_on(site: Attacked) -> Iterator[None]:
    """The owner records, squeezes and expires in the folder meanwhile, and is not stopped by it."""
    ready, ours = site.folder.parent / "ready", site.ours
    ready.unlink(missing_ok=True)
    os.chown(site.folder.parent, OWNER, -1)
    child = os.fork()
    if not child:
        try:
            as_user(OWNER, lambda: _go_on(site, ready))
        finally:
            os._exit(1)
    try:
        wait_until(ready.exists, "a recorder")
        ours.clock.passes(_AHEAD_NS)  # of the recorder, whose clock stands still but for its names
        site.now = ours.clock.wall
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the recorder was stopped"
    finally:
        site.now = 0
        below = Path(f"/proc/{child}/task/{child}/children").read_text().split()
        for pid in (*map(int, below), child):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(child, 0)


def _go_on(site: Attacked, ready: Path) -> None:
    ours, folder = site.ours, str(site.folder)
    ours.log = site.log_as(OWNER, RECORDER_UNIT)
    squeezer, expirer = (
        site.log_as(OWNER, f"{name}.service") for name in ("ctsqueeze", "ctexpire")
    )
    queue = ours.start(sealed=site.sealed)
    for number in itertools.count():
        ours.add(queue, 20)
        if number % 20 == 0:
            path = queue.path
            ours.clock.passes(SECOND)
            queue.rotate(ours.clock.wall)
            options = SqueezeOptions(seals=ours.keys())
            assert ArchiveSqueeze(options, 1, squeezer).one(path, None) == 0
            limits = Limits(max_age=9_000 * 86_400)
            run = Expiry(folder, limits, ours.clock.wall, expirer, seals=ours.keys())
            run.run()
        ready.touch()
        time.sleep(0.01)


def give(folder: Path, uid: int) -> None:
    """Give a folder and what is in it to a user."""
    for path in (folder, *folder.iterdir()):
        if path.is_file() or path == folder:
            os.chown(path, uid, GROUP, follow_symlinks=False)


def as_user(uid: int, what: Callable[[], None]) -> None:
    """Do `what` in a process of the user `uid`, in the group GROUP; AssertionError if it fails."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setgid(GROUP if uid else 0)
            os.setuid(uid)
            what()
            code = 0
        except BaseException:  # noqa: BLE001 - the parent fails
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"the attack of {uid} failed"


class Kept:
    """A recording that is made once, and as it was made for each test."""

    def __init__(self, root: Path, *, sealed: bool) -> None:
        self._root, self._kept = root, root.with_name(f"{root.name}.kept")
        self._made = make(root, sealed=sealed)
        self._clock = vars(self._made.ours.clock).copy()
        subprocess.run(["cp", "-a", root, self._kept], check=True)

    def fresh(self) -> Attacked:
        """The recording, as it was made."""
        shutil.rmtree(self._root)
        subprocess.run(["cp", "-a", self._kept, self._root], check=True)
        vars(self._made.ours.clock).update(self._clock)
        return self._made
