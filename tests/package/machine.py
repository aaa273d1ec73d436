"""A booted router that is attacked: what an attack takes, the users, the journal.

All of it runs inside the router, as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ctrecorder.columns import Table
from ctrecorder.sealing.epoch import Clocks
from tests.support import tables

RECORDER, SQUEEZE = "ctrecord.service", "ctsqueeze-sealed.service"
EXPIRE = "ctexpire.service"
JOURNALS = ("/run/log/journal", "/var/log/journal")
ASIDE = Path("/tmp/aside")


class Clock:
    """The machine's clocks, `ahead` by some ns for who attacks."""

    def __init__(self) -> None:
        self.ahead, self.wall = 0, time.time_ns()

    @property
    def clocks(self) -> Clocks:
        """As the key's users have them."""
        ours = Clocks()
        return Clocks(lambda: ours.boottime() + self.ahead, lambda: ours.wall() + self.ahead)


def site(folder: Path, state: Path, paths: list[Path]) -> Any:
    """What an attack takes for `tests.support.attacked.Attacked`."""
    ours = SimpleNamespace(state=state, folder=folder, clock=Clock(), rows=rows)
    ours.ledger = next(iter(folder.glob("*.ledger")), folder / "none")
    return SimpleNamespace(ours=ours, folder=folder, paths=paths, sealed=True)


def rows(count: int) -> Table:
    """Rows that nobody recorded."""
    return tables.events(2, count, seed=99)


def in_child(user: str, act: Callable[[], int]) -> int:
    """The exit code of `act` in a process of the user."""
    child = os.fork()
    if not child:
        code = 9
        try:
            entry = pwd.getpwnam(user)
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            code = act()
        finally:  # nothing of the parent runs here
            if code == 9:
                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(*command: object, code: int = 0) -> None:
    """Run a command of the installed package, or another, quietly."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == code, (command, done.returncode, done.stdout + done.stderr)


def sync() -> None:
    """Let journald store what was logged."""
    run("journalctl", "--sync")


@dataclass
class Machine:
    """`site`: see `attacker.site`; `owner`, `writer`: users; `anchors`: for --anchors.

    `old`: files of the journal of the first segments.
    `later`: ns that the clock of who checks is ahead.
    """

    site: Any
    owner: str
    writer: str
    old: list[Path]
    anchors: str = "journal"
    later: int = 0

    def by(self, user: str, attack: Callable[[Any], object]) -> None:
        """Attack as the user."""

        def act() -> int:
            attack(self.site)
            return 0

        assert in_child(user, act) == 0

    def put_aside(self, paths: list[Path]) -> None:
        """Take files of the journal away."""
        assert paths
        for path in paths:
            shutil.move(path, ASIDE)

    def record(self) -> None:
        """The recorder runs for a moment."""
        run("systemctl", "start", RECORDER)
        run("systemctl", "stop", RECORDER)


class Journal:
    """The machine's journal, as it was: what was logged since can be taken out of it."""

    def __init__(self) -> None:
        shutil.rmtree(ASIDE, ignore_errors=True)
        ASIDE.mkdir()
        self.kept = self.rotated()

    def rotated(self) -> set[Path]:
        """The files of the journal until now."""
        sync()
        run("journalctl", "-q", "--rotate")
        return set(self.files())

    @staticmethod
    def files() -> list[Path]:
        """The files that journald does not write to any more."""
        return sorted(path for top in JOURNALS for path in Path(top).glob("*/*@*.journal"))

    def put_back(self) -> None:
        """Remove what was logged since, and bring back what an attack put aside."""
        for path in self.rotated() - self.kept:
            path.unlink()
        for path in ASIDE.glob("*.journal"):
            (was,) = (one for one in self.kept if one.name == path.name)
            shutil.move(path, was)
