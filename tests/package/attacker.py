"""Runs inside a booted router, as root: attacks the log that its recorder made, as the user whom
the row of cttest(1) names, and prints what cttest finds: a line of JSON for each attack.

    python3 -B -m tests.package.attacker LOGS STATE KEY-FILE OWNER WRITER SEGMENT..

Log, key and journal are put back after each attack.  WRITER has no key, and may write to the
folder; they are in the recorder's group.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from ctrecorder.check import anchors as _anchors
from ctrecorder.check import verify as _verify
from ctrecorder.cli import cttest
from ctrecorder.kept.retention import HOLDS, RECEIPTS
from ctrecorder.sealing import examine as _examine
from tests.package.machine import (
    EXPIRE,
    RECORDER,
    SQUEEZE,
    Journal,
    Machine,
    in_child,
    run,
    site,
    sync,
)
from tests.package.machine_attacks import MACHINE_ATTACKS
from tests.support.attacks import ATTACKS
from tests.support.claims import BY_NAME, LEVELS, Who

KEPT = Path("/tmp/kept")
# A child for each check begins with these.
LOADED = (_anchors, _verify, _examine)
# Attacks while the units go on: those that can be put back file by file.
GOING_ON = (
    *("byte", "removed", "cut", "replaced", "slipped-in", "inserted", "receipt", "hold"),
    *("foreign", "logged"),
)
GOES_ON = Path("/tmp/goes-on")
UNITS = f"""
while [ -e {GOES_ON} ]; do
  # They refuse what was attacked.
  systemctl start {SQUEEZE} {EXPIRE} 2>/dev/null
  systemctl reload {RECORDER}
  sleep 1
done"""


def check(level: str, machine: Machine, key: str) -> int:
    """The exit code of cttest with the options of a level."""
    sys.stdin = io.TextIOWrapper(io.BytesIO(key.encode()))
    options = ["--seals"] if level in ("seals", "both") else []
    options += ["--anchors", machine.anchors] if level in ("anchors", "both") else []
    now = time.time_ns() + machine.later
    vars(cttest)["time"] = SimpleNamespace(time_ns=lambda: now)
    with Path("/dev/null").open("w") as null, contextlib.redirect_stdout(null):
        return cttest.main([*options, str(machine.site.folder)])


def restore(folder: Path, state: Path) -> None:
    for kept, path in (("log", folder), ("state", state)):
        subprocess.run(["rm", "-rf", path], check=True)
        subprocess.run(["cp", "-a", KEPT / kept, path], check=True)


def put_back(folder: Path) -> None:
    """What was attacked, while other segments come."""
    run("cp", "-a", *(KEPT / "squeezed").iterdir(), folder)
    for name in (RECEIPTS, "slipped.ctlog", "inserted.ctlog"):
        (folder / name).unlink(missing_ok=True)


def attack(name: str, machine: Machine) -> None:
    """Attack as the user whom the row names."""
    claim, folder = BY_NAME[name], machine.site.folder
    if claim.who in (Who.WRITER, Who.STRANGER):
        for path in (folder, *folder.iterdir()):
            path.chmod(path.stat().st_mode | 0o060)
    users = {Who.WRITER: machine.writer, Who.RECORDER: machine.owner}
    if name in ATTACKS:
        machine.by(users.get(claim.who, "root"), ATTACKS[name])
    else:
        MACHINE_ATTACKS[name](machine)
        sync()


@contextlib.contextmanager
def units_go_on(targets: list[Path]) -> Iterator[None]:
    """The recorder records, its segments are squeezed, and the old ones would expire; nothing stops
    it.  `targets` of attacks are squeezed first, and kept.
    """
    GOES_ON.touch()
    for unit in (RECORDER, SQUEEZE, EXPIRE):  # systemd sets the mode of the folder at each start
        drop_in = Path(f"/run/systemd/system/{unit}.d/writer.conf")
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text("[Service]\nLogsDirectoryMode=0770\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", SQUEEZE)  # a start of the recorder begins an epoch
    run("systemctl", "start", RECORDER)
    (KEPT / "squeezed").mkdir()
    run("cp", "-a", *targets, KEPT / "squeezed")
    pid = subprocess.check_output(["systemctl", "show", "-p", "MainPID", RECORDER])
    with subprocess.Popen(["sh", "-c", UNITS]):
        try:
            yield
        finally:
            GOES_ON.unlink()
    assert subprocess.check_output(["systemctl", "show", "-p", "MainPID", RECORDER]) == pid
    run("systemctl", "stop", RECORDER)


def main() -> None:
    folder, state = Path(sys.argv[1]), Path(sys.argv[2])
    key, owner, writer = Path(sys.argv[3]).read_text(), sys.argv[4], sys.argv[5]
    paths = [folder / name for name in sys.argv[6:]]
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(0o700)
    for kept, path in (("log", folder), ("state", state)):
        subprocess.run(["cp", "-a", path, KEPT / kept], check=True)

    def attacked(name: str, machine: Machine, **more: object) -> None:
        if name:
            attack(name, machine)
        codes = {level: in_child("root", partial(check, level, machine, key)) for level in LEVELS}
        print(json.dumps({"attack": name, **more, **codes}), flush=True)

    old = Journal.files()
    journal = Journal()
    for name in ("", *ATTACKS, *MACHINE_ATTACKS):
        restore(folder, state)
        machine = Machine(site(folder, state, paths), owner, writer, old)
        attacked(name, machine)
        if name in MACHINE_ATTACKS:
            journal.put_back()
    restore(folder, state)
    with units_go_on([*paths, folder / HOLDS]):
        for name in ("", *GOING_ON):
            attacked(name, Machine(site(folder, state, paths), owner, writer, old), goes_on=True)
            put_back(folder)
    restore(folder, state)


if __name__ == "__main__":
    main()
