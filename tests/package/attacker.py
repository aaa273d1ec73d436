"""Runs inside a booted router, as root: attacks the log that its recorder made, as the user whom
the row of cttest(1) names, and prints what cttest finds: a line of JSON for each attack.

    python3 -B -m tests.package.attacker LOGS STATE KEY-FILE OWNER WRITER SEGMENT..

The log is put back after each attack.  WRITER has no key, and may write to the folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ctrecorder.cli import cttest
from ctrecorder.columns import Table
from ctrecorder.sealing.epoch import Clocks
from tests.support import tables
from tests.support.attacks import ATTACKS
from tests.support.claims import BY_NAME, LEVELS, Who

KEPT = Path("/tmp/kept")


def rows(count: int) -> Table:
    return tables.events(2, count, seed=99)


def site(folder: Path, state: Path, paths: list[Path]) -> Any:
    """What an attack takes for `tests.support.attacked.Attacked`."""
    clock = SimpleNamespace(clocks=Clocks(), wall=time.time_ns())
    ours = SimpleNamespace(state=state, folder=folder, clock=clock, rows=rows)
    ours.ledger = next(iter(folder.glob("*.ledger")), folder / "none")
    return SimpleNamespace(ours=ours, folder=folder, paths=paths, sealed=True)


def in_child(user: str, act: Any) -> int:
    """The exit code of `act` in a process of the user."""
    child = os.fork()
    if not child:
        code = 9
        try:
            entry = pwd.getpwnam(user)
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            code = act() or 0
        finally:  # nothing of the parent runs here
            if code == 9:
                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(level: str, folder: Path, key: str) -> int:
    """The exit code of cttest with the options of a level."""
    sys.stdin = io.TextIOWrapper(io.BytesIO(key.encode()))
    options = ["--seals"] if level in ("seals", "both") else []
    options += ["--anchors", "journal"] if level in ("anchors", "both") else []
    with Path("/dev/null").open("w") as null, contextlib.redirect_stdout(null):
        return cttest.main([*options, str(folder)])


def restore(folder: Path, state: Path) -> None:
    for kept, path in (("log", folder), ("state", state)):
        subprocess.run(["rm", "-rf", path], check=True)
        subprocess.run(["cp", "-a", KEPT / kept, path], check=True)


def main() -> None:
    folder, state = Path(sys.argv[1]), Path(sys.argv[2])
    key, owner, writer = Path(sys.argv[3]).read_text(), sys.argv[4], sys.argv[5]
    paths = [folder / name for name in sys.argv[6:]]
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(0o700)
    for kept, path in (("log", folder), ("state", state)):
        subprocess.run(["cp", "-a", path, KEPT / kept], check=True)
    users = {Who.WRITER: writer, Who.RECORDER: owner, Who.ROOT: "root", Who.NOBODY: "root"}
    for name in ("", *ATTACKS):
        restore(folder, state)
        if name:
            user = users[BY_NAME[name].who]
            if user == writer:
                for path in (folder, *folder.iterdir()):
                    path.chmod(path.stat().st_mode | 0o060)
            attack = partial(ATTACKS[name], site(folder, state, paths))
            assert in_child(user, attack) == 0, name
        codes = {level: in_child("root", partial(check, level, folder, key)) for level in LEVELS}
        print(json.dumps({"attack": name, **codes}), flush=True)
    restore(folder, state)


if __name__ == "__main__":
    main()
