"""The attacks of cttest(1) that take a machine: its units, its journal, its users.

Each runs inside a booted router, as root, who becomes the user whom the row names.  The recorder is
stopped before and after each.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ctrecorder.ctlog.frame import FRAME
from ctrecorder.filelock import LOCK_FILE
from ctrecorder.sealing.epoch import EPOCH_NS
from ctrecorder.segment.pending import table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.messages import field_name
from tests.package.machine import EXPIRE, RECORDER, SQUEEZE, Journal, Machine, run, site, sync
from tests.support import attacks
from tests.support.attacks import ROWS
from tests.support.forge import pack, reseal
from tests.support.history import blocks_of
from tests.support.router import wait_until
from tests.support.sealed import Recording

# A unit that only root can make, and whose entries count as those of the recorder.
WITHIN = "ctrecord-within.service"


def log(kind: messages.Message, **fields: str) -> None:
    """Log as this process, with the fields of a command."""
    from systemd import journal

    named = {field_name(name): value for name, value in fields.items()}
    journal.send("x", MESSAGE_ID=kind.id, **named)
    time.sleep(0.2)  # journald asks for the unit of a process that lives


def foreign(machine: Machine) -> None:
    """A segment of another recorder, in the place of one."""
    root = Path("/tmp/foreign")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    made = Recording(root).record(1).read_bytes()
    machine.by(machine.writer, lambda site: site.paths[1].write_bytes(made))


def cut_crashed(machine: Machine) -> None:
    """The recorder is killed; what it wrote since its start is recorded anew.  An hour later it is
    checked.
    """
    record_crash_anew(machine)
    machine.later = 4 * EPOCH_NS


def crashed_anew(machine: Machine) -> None:
    """The recorder is killed, what it wrote is recorded anew, and it starts again."""
    path = record_crash_anew(machine)
    shutil.chown(path, machine.owner, machine.owner)
    time.sleep(1.1)  # another name of a segment
    machine.record()


def record_crash_anew(machine: Machine) -> Path:
    """Kill the recorder, and record anew what it wrote since its start; the segment."""
    run("systemctl", "start", RECORDER)
    run("systemctl", "kill", "--signal=KILL", RECORDER)
    run("systemctl", "stop", RECORDER)
    path: Path = max(machine.site.folder.glob("*.ctlog"))
    assert path not in machine.site.paths
    path.chmod(0o660)

    def attack(site: Any) -> None:
        blocks = blocks_of(path.read_bytes())[:1]
        blocks += [pack(one, bytes(16)) for one in table_blocks(site.ours.rows(ROWS))]
        path.write_bytes(reseal(b"".join(blocks)))

    machine.by(machine.writer, attack)
    return path


def before_squeeze(machine: Machine) -> None:
    """The last segment is recorded anew, and then the timer's unit squeezes."""
    machine.by(machine.writer, attacks.change_last)
    path = machine.site.paths[-1]
    shutil.chown(path, machine.owner, machine.owner)
    run("systemctl", "start", SQUEEZE, code=1)
    with Segment(str(path)) as segment:
        assert not segment.header.is_squeezed


def repaired(machine: Machine) -> None:
    """A block is added and another damaged; root repairs what cttest reports."""
    path = machine.site.paths[1]

    def attack(site: Any) -> None:
        with Segment(str(path)) as segment:
            offset = segment.blocks[1].offset
            other = SegmentWriter.create(f"{path}.x", segment.header, bytes(16))
        other.append(site.ours.rows(ROWS))
        other.close()
        added = blocks_of(Path(other.path).read_bytes())[1]
        os.unlink(other.path)
        data = bytearray(path.read_bytes())
        data[offset + FRAME.size + 1] ^= 1
        path.write_bytes(data[:offset] + added + data[offset:])

    machine.by(machine.writer, attack)
    new = path.with_name("saved")
    run("cttest", "--repair", path, "-o", new, code=1)
    new.rename(path)


def made_anew(machine: Machine) -> None:
    """All segments go, and others come."""

    def attack(site: Any) -> None:
        for path in site.folder.iterdir():
            path.unlink()
        root = Path("/tmp/anew")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        ours = Recording(root)
        for _ in range(2):
            shutil.copy(ours.record(1, sealed=False), site.folder)

    machine.by(machine.writer, attack)


def text_log(machine: Machine) -> None:
    """A segment goes, its receipt comes, and logger(1) says so."""

    def attack(site: Any) -> None:
        path = site.paths[1]
        last = attacks.remove_with_receipt(site, path)
        run("logger", "-t", "ctexpire", f"deleted {path}: old; last hash {last}")

    machine.by(machine.writer, attack)
    sync()
    machine.anchors = "/tmp/text"
    with Path(machine.anchors).open("w") as file:
        subprocess.run(["journalctl", "-q", "-o", "short"], stdout=file, check=True)


def older(machine: Machine) -> None:
    """The journal of the first segments is gone, and one of them is replaced."""
    machine.put_aside(machine.old)
    machine.by(machine.writer, lambda site: attacks.put(site, site.paths[0]))


def cut_end(machine: Machine) -> None:
    """Back to the last start.  An hour later it is checked."""
    machine.by(machine.writer, lambda site: attacks.cut_back(site, "start", 0))
    machine.later = 4 * EPOCH_NS


def swapped_late(machine: Machine) -> None:
    """A raw segment is replaced three epochs later."""
    since = attacks.present(machine.site)[1] - 1
    machine.site.ours.clock.ahead = 3 * EPOCH_NS
    machine.by(machine.owner, lambda site: attacks.put_with_key(site, site.paths[3], since))


def replace_and_log(site: Any) -> None:
    """Replace a segment, and log that it was squeezed."""
    path = site.paths[1]
    with Segment(str(path)) as segment:
        before = segment.last_hash.hex()
    last = attacks.put(site, path).last_hash.hex()
    log(messages.SQUEEZED, path=str(path), last_hash=last, replaced_hash=before)


def within_unit(machine: Machine) -> None:
    """Code in a unit of the recorder, as its user, swaps a raw segment and logs it."""
    site = machine.site
    command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={WITHIN}"]
    command += [f"--uid={machine.owner}", f"--gid={machine.owner}"]
    command += [f"--working-directory={os.getcwd()}", sys.executable, "-B", "-m", __name__]
    run(*command, site.folder, site.ours.state, *site.paths)


def swap_and_log(site: Any) -> None:
    """Replace a raw segment with the key, and log that it was squeezed."""
    raw = site.paths[3]
    with Segment(str(raw)) as segment:
        before = segment.last_hash.hex()
    attacks.put_with_key(site, raw, attacks.present(site)[1] - 1)
    with Segment(str(raw)) as segment:
        last = segment.last_hash.hex()
    log(messages.SQUEEZED, path=str(raw), last_hash=last, replaced_hash=before)


def expire_first(site: Any) -> None:
    """ctexpire, by hand: the hold is released, and the first segment goes."""
    size = sum(path.stat().st_size for path in site.folder.glob("*.ctlog")) - 1
    run("ctexpire", "--release", 1, site.folder)
    run("ctexpire", "--max-size", size, site.folder)
    assert not site.paths[0].exists()


def by_hand(user: str) -> Callable[[Machine], None]:
    """An attack with ctexpire, of a user."""
    return lambda machine: machine.by(user or machine.owner, expire_first)


def no_journal(machine: Machine) -> None:
    """The journal is emptied."""
    machine.put_aside(Journal.files())


def restored(machine: Machine, *, all_of_it: bool) -> None:
    """Root puts the key and the ledger back, or all, and goes on."""
    site = machine.site
    paths = [site.folder, site.ours.state] if all_of_it else [site.ours.ledger, site.ours.state]
    for number, path in enumerate(paths):
        run("rm", "-rf", f"/tmp/backup{number}")
        run("cp", "-a", path, f"/tmp/backup{number}")
    machine.record()
    time.sleep(1.1)  # another name of a segment
    for number, path in enumerate(paths):
        run("rm", "-rf", path)
        run("cp", "-a", f"/tmp/backup{number}", path)
    machine.record()


def lies(machine: Machine) -> None:
    """The recorder is shown a connection that never was."""
    run("systemctl", "start", RECORDER)
    flow = "-s 192.0.2.7 -d 203.0.113.9 -p udp --sport 5000 --dport 53"
    run("conntrack", "-I", *flow.split(), "--timeout", 60)
    run("conntrack", "-D", *flow.split())
    time.sleep(0.3)
    run("systemctl", "stop", RECORDER)
    run("ctlist", "-s", "192.0.2.7")


def locks(machine: Machine) -> None:
    """A reader has a lock on each file; the units start and end as ever."""
    readers = os.fork()
    if not readers:
        try:
            machine.by(machine.writer, lock_all)
        finally:
            os._exit(1)
    try:
        wait_until(Path("/tmp/locked").exists, "the locks")
        run("systemctl", "start", SQUEEZE, EXPIRE)
        machine.record()
    finally:
        Path("/tmp/locked").unlink(missing_ok=True)
        os.waitpid(readers, 0)


def lock_all(site: Any) -> None:
    """Lock all that can be opened, until /tmp/locked is gone."""
    files = []
    for path in site.folder.iterdir():
        with contextlib.suppress(PermissionError):
            files.append(path.open("rb"))
            fcntl.flock(files[-1], fcntl.LOCK_SH)
            fcntl.lockf(files[-1], fcntl.LOCK_SH)
    assert len(files) > len(site.paths)
    Path("/tmp/locked").touch()
    while Path("/tmp/locked").exists():
        time.sleep(0.02)


def secrets(machine: Machine) -> None:
    """A reader opens neither key nor lock, and writes nothing."""

    def attack(site: Any) -> None:
        assert site.paths[0].read_bytes()
        folder = site.folder
        refused = [(site.ours.state / "key", "rb"), (folder / LOCK_FILE, "rb")]
        refused += [(path, "ab") for path in (*folder.iterdir(), folder / "new")]
        for path, mode in refused:
            try:
                path.open(mode)
            except PermissionError:
                continue
            raise AssertionError(path)

    machine.by(machine.writer, attack)


# By the names of `claims`.
MACHINE_ATTACKS: dict[str, Callable[[Machine], None]] = {
    "locks": locks,
    "secrets": secrets,
    "foreign": foreign,
    "cut-crashed": cut_crashed,
    "crashed-anew": crashed_anew,
    "before-squeeze": before_squeeze,
    "repaired": repaired,
    "made-anew": made_anew,
    "text-log": text_log,
    "older": older,
    "cut-end": cut_end,
    "swapped-late": swapped_late,
    "logged": lambda machine: machine.by(machine.owner, replace_and_log),
    "within-unit": within_unit,
    "expired": by_hand(""),
    # The worker of root's command is the owner: what it does and asks for is as if it were broken.
    "expired-by-root": by_hand("root"),
    "root-expired": by_hand("root"),
    "root-logged": lambda machine: machine.by("root", replace_and_log),
    "no-journal": no_journal,
    "snapshot": lambda machine: restored(machine, all_of_it=False),
    "machine-restored": lambda machine: restored(machine, all_of_it=True),
    "lies": lies,
}


if __name__ == "__main__":  # within a unit
    log_folder, key_folder, *names = map(Path, sys.argv[1:])
    swap_and_log(site(log_folder, key_folder, names))
