"""What somebody logs himself who has the recorder's uid, or any; what root does by hand.

The uid of each entry is that which the kernel stamps.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctrecorder import filelock
from ctrecorder.ctlog.header import Header
from ctrecorder.filelock import Holder, Purpose
from ctrecorder.folder import Folder
from ctrecorder.segment.reader import Segment
from ctrecorder.service import messages
from ctrecorder.service.messages import Message
from ctrecorder.service.privileges import status_of
from ctrecorder.service.unsent import UNSENT, Entry
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.target import Target
from ctrecorder.times import MINUTE
from tests.faults.test_evidence import (
    removed_with_a_forged_receipt,
    replaced_under_the_name_of_squeezing,
)
from tests.support.faulttable import Table
from tests.support.history import NOON, History, Printed, entry_of, replay, rows
from tests.support.journald import Journald
from tests.support.router import CHECKOUT, wait_until
from tests.support.traffic import cttest

# The recorder's user, and a stranger.
OWNER, GROUP, STRANGER = 4000, 4001, 4002
RECORDER = "ctrecord.service"
AS_OWNER = ("setpriv", "--reuid=4000", "--regid=4001", "--clear-groups", "--")
AS_STRANGER = ("setpriv", "--reuid=4002", "--regid=4002", "--clear-groups", "--")
# Logs a field=value of each argument, as any program may.
LOGGER = """
import socket, sys
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.sendto("\\n".join([*sys.argv[1:], ""]).encode(), "/run/systemd/journal/socket")
"""


@pytest.fixture
def journald() -> Iterator[Journald]:
    with Journald() as opened:
        yield opened


@pytest.fixture
def history(place: Path) -> History:
    """The recorder's user recorded it, and its unit logged it."""
    return recorded(place / "log")


def recorded(folder: Path) -> History:
    history = History(folder)
    give(folder)
    history.anchors.write_text(
        "".join(entry_of(line, OWNER, RECORDER) for line in history.log.lines)
    )
    return history


def give(folder: Path) -> None:
    """Give all to the recorder's user."""
    for path in [folder, *folder.iterdir()]:
        os.chown(path, OWNER, GROUP)
    folder.chmod(0o750)


def crashed(history: History) -> Path:
    """The chain goes on with a segment that a crash left; nothing of it is logged."""
    place = Target(str(history.folder / "%H%M.ctlog"), 60, 0o640)
    forger = Printed("ctrecord")
    series = SegmentSeries(place, lambda: Header(host="router"), forger, b"")
    queue = WriteQueue(series, 65536, 64 << 20, Counters(), forger)
    queue.open(NOON + 300 * MINUTE)
    queue.add(rows(18_000, 3))
    queue.flush(NOON + 300 * MINUTE)
    assert series.writer is not None
    series.writer.abandon()
    give(history.folder)
    return Path(queue.path)


def last_hash(path: Path) -> str:
    with Segment(str(path)) as segment:
        return segment.last_hash.hex()


def log_as(journald: Journald, who: tuple[str, ...], kind: Message, **fields: object) -> None:
    named = [f"CTRECORDER_{name.upper()}={value}" for name, value in fields.items()]
    said = [f"MESSAGE_ID={kind.id}", "MESSAGE=x", "_UID=0", "_SYSTEMD_UNIT=ctexpire.service"]
    done = journald.run(*who, sys.executable, "-c", LOGGER, *said, *named, unit="session-9.scope")
    assert done.returncode == 0, done.stderr


def deleted(history: History, journald: Journald, who: tuple[str, ...]) -> None:
    path = history.paths[2]
    log_as(journald, who, messages.EXPIRED, path=path, last_hash=last_hash(path))
    removed_with_a_forged_receipt(history)


def squeezed(history: History, journald: Journald, who: tuple[str, ...]) -> None:
    path = history.paths[2]
    before = last_hash(path)
    replaced_under_the_name_of_squeezing(history)
    after = last_hash(path)
    log_as(journald, who, messages.SQUEEZED, path=path, last_hash=after, replaced_hash=before)


def first_squeezed(history: History, journald: Journald, who: tuple[str, ...]) -> None:
    """The first one: there is none logged before it."""
    history.paths[0], history.paths[2] = history.paths[2], history.paths[0]
    squeezed(history, journald, who)


def repaired(history: History, journald: Journald, who: tuple[str, ...]) -> None:
    path = history.paths[2]
    before = last_hash(path)
    replaced_under_the_name_of_squeezing(history)
    after = last_hash(path)
    log_as(journald, who, messages.REPAIRED, path=path, last_hash=after, replaced_hash=before)


def closed(history: History, journald: Journald, who: tuple[str, ...]) -> None:
    """All after the second are made anew, and logged."""
    replay(history, history.folder, keep=2, seed=55)
    for path in history.paths[2:]:
        log_as(journald, who, messages.SEGMENT_CLOSED, path=path, last_hash=last_hash(path))


LIES = [deleted, squeezed, first_squeezed, repaired, closed]


@pytest.mark.claim("logged")
@pytest.mark.parametrize("who", [AS_OWNER, AS_STRANGER], ids=["recorder", "stranger"])
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_who_logs_it_himself(
    history: History,
    journald: Journald,
    lie: Callable[[History, Journald, tuple[str, ...]], None],
    who: tuple[str, ...],
    table: Table,
) -> None:
    """The uid of the recorder is not enough: the entry did not come out of its units."""
    assert "5 whole" in cttest("--anchors", history.anchors, history.folder)
    lie(history, journald, who)
    assert "logged" in cttest("--anchors", history.anchors, history.folder, code=1)
    journald.save(history.anchors)
    said = cttest("--anchors", history.anchors, history.folder, code=1)
    assert "anchors: " in said
    uid = OWNER if who is AS_OWNER else STRANGER
    assert f"uid {uid} in session-9.scope: " in said
    table.add_row(f"logged by a {'stranger' if uid == STRANGER else 'recorder'}: {lie.__name__}")


@pytest.mark.claim("root-logged")
def test_with_root_the_same_lies_are_believed(history: History, journald: Journald) -> None:
    """So what finds them above is the sender, and nothing else."""
    deleted(history, journald, ())
    journald.save(history.anchors)
    assert "4 whole" in cttest("--anchors", history.anchors, history.folder)


def test_a_segment_that_says_to_replace_the_first(history: History, table: Table) -> None:
    """No entry at all is about it: what a header says is no proof."""
    history.paths[0], history.paths[2] = history.paths[2], history.paths[0]
    replaced_under_the_name_of_squeezing(history)
    said = cttest("--anchors", history.anchors, history.folder, code=1)
    assert f"{history.paths[2]}: was never logged with its last hash" in said
    table.add_row("forged: the first one replaced under the name of squeezing")


def in_unit(journald: Journald, *command: object, unit: str) -> None:
    """A command of ours out of its unit: as the owner, with its errors in the journal."""
    script = 'exec 2>/dev/null; JOURNAL_STREAM=$(stat -Lc %d:%i /dev/fd/2) exec "$@"'
    words = ("sh", "-c", script, "sh", *command)
    done = journald.run(*AS_OWNER, *words, unit=unit)
    assert done.returncode == 0, done.stderr


def test_units_launder_no_file_of_the_owner(
    history: History, journald: Journald, table: Table
) -> None:
    """Entries that could not be sent wait in a file of the recorder's user, and its unit sends
    them.  Written by him, they explain nothing.
    """
    path = history.paths[2]
    facts = dict.fromkeys(messages.EXPIRED.fields, "1")
    facts |= {"path": str(path), "last_hash": last_hash(path)}
    lie = Entry(messages.EXPIRED, "ctexpire", f"deleted {path}", facts, time.time_ns())
    (history.folder / UNSENT).write_bytes(lie.to_line())
    removed_with_a_forged_receipt(history)
    give(history.folder)
    in_unit(journald, CHECKOUT / "bin/ctexpire", "-n", history.folder, unit="ctexpire.service")
    (entry,) = [one for one in journald.entries if one["MESSAGE_ID"] == messages.EXPIRED.id]
    assert (entry["CTRECORDER_STORED"], entry["_UID"]) == ("yes", str(OWNER))
    journald.save(history.anchors)
    said = cttest("--anchors", history.anchors, history.folder, code=2)
    assert "is not here, and its deletion was not logged; only entries that were kept" in said
    table.add_row("an entry written to ctrecorder.unsent")


def test_units_launder_no_segment(history: History, journald: Journald, table: Table) -> None:
    """A segment is put behind the last one while the recorder is off, as a crash could have left
    it.  The unit squeezes it and logs that: it is as old as that.
    """
    path = crashed(history)
    said = cttest("-q", "--anchors", history.anchors, history.folder, code=2)
    assert said == f"1 segment whose end was not logged is unproved: {path}\n"
    in_unit(journald, CHECKOUT / "bin/ctsqueeze", history.folder, unit="ctsqueeze.service")
    journald.save(history.anchors)
    said = cttest("-q", "--anchors", history.anchors, history.folder, code=2)
    what = "1 segment is proved only from the time of squeezing or repair on"
    assert said == f"{what}: {path}\n"
    table.add_row("a segment that the unit squeezes, and nobody recorded: named, exit 2")


def test_root_by_hand(history: History, journald: Journald, table: Table) -> None:
    """Squeezed, repaired, held and expired by root in the folder of the recorder's user: logged by
    root, done by its owner, and the anchors hold.
    """
    damaged = history.paths[1]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    cttest("--anchors", history.anchors, history.folder, code=1)

    def run(command: str, *arguments: object, code: int = 0) -> None:
        done = journald.run(CHECKOUT / "bin" / command, *arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr

    run("cttest", "--repair", damaged, "-o", history.folder / "new", code=1)
    (history.folder / "new").rename(damaged)
    run("ctexpire", "--hold", "--reason", "case 17", history.folder)
    run("ctexpire", "--release", "1", history.folder)
    run("ctsqueeze", "--keep", "-f", history.paths[2])
    run("ctsqueeze", "-j", "2", history.folder)
    run("ctexpire", "--max-age", "9000d", "--max-size", "4000", history.folder)
    left = sorted(history.folder.glob("*.ctlog"))
    assert 0 < len(left) < 5
    kinds = [entry["MESSAGE_ID"] for entry in journald.entries]
    assert kinds.count(messages.SQUEEZED.id) == 5
    assert kinds.count(messages.HOLD.id) == 2
    assert kinds.count(messages.REPAIRED.id) == 1
    assert kinds.count(messages.EXPIRED.id) == 5 - len(left)
    assert {entry["_UID"] for entry in journald.entries} == {"0"}
    for path in history.folder.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (OWNER, GROUP), path
    assert (history.folder / "replaced" / history.paths[2].name).exists()
    journald.save(history.anchors)
    said = cttest("--anchors", history.anchors, history.folder)
    assert f"{len(left)} segments checked: {len(left)} whole, 0 damaged\n" in said
    assert "unproved" not in said
    assert "not counted" not in said
    table.add_row("no forgery: root squeezes, repairs and expires by hand", tried=5)


@pytest.mark.parametrize("where", ["a copy", "here"])
def test_a_deletion_in_the_folder_of_another(
    history: History, tmp_path: Path, journald: Journald, table: Table, where: str
) -> None:
    """A reader copies a segment, and root expires that copy by hand: it excuses nothing here, nor
    in a copy of this folder; and not when the reader's folder is a link to this one later.
    """
    theirs, path = history.folder.with_name("theirs"), history.paths[2]
    theirs.mkdir()
    shutil.copy(path, theirs)
    for one in (theirs, theirs / path.name):
        os.chown(one, STRANGER, STRANGER)
    done = journald.run(CHECKOUT / "bin/ctexpire", "--max-size", "1", theirs)
    assert (done.returncode, list(theirs.glob("*.ctlog"))) == (0, []), done.stderr
    journald.save(history.anchors)
    entry = json.loads(history.anchors.read_text().splitlines()[-1])
    assert (entry["CTRECORDER_PATH"], entry["_UID"]) == (str(theirs / path.name), "0")
    removed_with_a_forged_receipt(history)
    shutil.rmtree(theirs)
    theirs.symlink_to(history.folder)
    checked = history.folder
    if where == "a copy":
        checked = tmp_path / "copy"
        shutil.copytree(history.folder, checked)
    said = cttest("--anchors", history.anchors, checked, code=1)
    assert "is not here, and its deletion was not logged" in said
    assert (f"using the entries of {history.folder} " in said) == (where == "a copy")
    table.add_row(f"{where}: root expires the copy of a reader by hand")


def test_copies_of_two_recorders(history: History, place: Path, tmp_path: Path) -> None:
    """Of each, the anchors of its own folder count."""
    other = recorded(place / "other")
    log = tmp_path / "both"
    log.write_text(history.anchors.read_text() + other.anchors.read_text())
    shutil.copytree(history.folder, tmp_path / "copy")
    said = cttest("--anchors", log, tmp_path / "copy")
    assert f"using the entries of {history.folder} (is this a copy?)" in said


def test_a_folder_by_the_name_of_a_link(history: History, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(history.folder)
    assert "5 whole" in cttest("--anchors", history.anchors, tmp_path / "link")


def test_a_log_of_text_proves_what_its_keeper_proves(history: History, table: Table) -> None:
    """Any user's logger(1) writes what looks like the line of ctexpire: the report says so."""
    history.save()
    path = history.paths[2]
    line = f"Nov 24 06:00:00 router ctexpire[7]: deleted {path}: old; last hash {last_hash(path)}"
    with history.anchors.open("a") as file:
        file.write(line + "\n")
    removed_with_a_forged_receipt(history)
    said = cttest("--anchors", history.anchors, history.folder)
    assert "11 anchors from lines of text, which name no sender: they prove what the keeper" in said
    table.add_row("a line of logger(1) in a log of text: told, not found")


def test_what_is_older_than_the_log_is_named(history: History, table: Table) -> None:
    """The journal keeps its entries for a while only."""
    lines = history.anchors.read_text().splitlines(keepends=True)
    history.anchors.write_text("".join(lines[-5:]))
    said = cttest("-q", "--anchors", history.anchors, history.folder, code=2)
    first, second, *_ = history.paths
    assert said == f"2 segments older than the first anchor are unproved: {first}, {second}\n"
    table.add_row("older than the first anchor: named, exit 2")


def test_what_was_only_squeezed_is_proved_from_then_on(
    history: History, journald: Journald
) -> None:
    """Its entry of the recorder is gone, that of ctsqueeze is there."""
    journald.run(CHECKOUT / "bin/ctsqueeze", history.folder)
    lines = history.anchors.read_text().splitlines(keepends=True)
    history.anchors.write_text("".join(lines[-5:]))
    journald.save(history.anchors)
    said = cttest("-q", "--anchors", history.anchors, history.folder, code=2)
    names = f"{history.paths[0]}, {history.paths[1]}"
    what = "2 segments are proved only from the time of squeezing or repair on"
    assert said == f"{what}: {names}\n"


def test_entries_of_the_recorder_are_missing_in_the_middle(
    history: History, journald: Journald
) -> None:
    """A squeezed one whose end nobody logged, between others that the recorder logged."""
    journald.run(CHECKOUT / "bin/ctsqueeze", history.folder)
    path, kept = history.paths[2], []
    for line in history.anchors.read_text().splitlines(keepends=True):
        entry = json.loads(line)
        if last_hash_of_old(journald, path) not in entry.values():
            kept.append(line)
    history.anchors.write_text("".join(kept))
    journald.save(history.anchors)
    said = cttest("-q", "--anchors", history.anchors, history.folder, code=1)
    assert f"{path}: was never logged with the last hash " in said


def last_hash_of_old(journald: Journald, path: Path) -> str:
    (before,) = [
        one["CTRECORDER_REPLACED_HASH"]
        for one in journald.entries
        if one["CTRECORDER_PATH"] == str(path)
    ]
    return before


@pytest.fixture
def waiting(history: History) -> Iterator[subprocess.Popen[str]]:
    """ctexpire by hand, as it waits for another one: the process that root started."""
    with Folder(str(history.folder)) as folder:
        lock = filelock.take(folder, Purpose.EXPIRE, Holder.EXPIRE)
        assert lock is not None
        os.chown(history.folder / filelock.LOCK_FILE, OWNER, GROUP)
        command = [str(CHECKOUT / "bin/ctexpire"), "--max-age", "1d", str(history.folder)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert "waiting for it" in process.stderr.readline()
        try:
            yield process
        finally:
            lock.release()
            process.kill()
            process.wait()
            process.stderr.close()


def child_of(process: subprocess.Popen[str]) -> int:
    pid = process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_root_is_gone_in_the_process_that_reads(
    waiting: subprocess.Popen[str], history: History
) -> None:
    worker = child_of(waiting)
    status = status_of(worker)
    assert status["Uid"].split() == [str(OWNER)] * 4
    assert status["Gid"].split() == [str(GROUP)] * 4
    assert (status["Groups"], status["NoNewPrivs"]) == ("", "1")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert os.getsid(worker) == worker != os.getsid(waiting.pid)
    # What stays root has no file of the folder open; the worker has none of root's.
    assert status_of(waiting.pid)["Uid"].split()[0] == "0"
    fds = Path(f"/proc/{waiting.pid}/fd")
    assert not [fd for fd in fds.iterdir() if str(history.folder) in os.readlink(fd)]
    assert os.readlink(f"/proc/{worker}/fd/0") == "/dev/null"
    # Another process of the owner cannot take it over.
    code = f"import os; os.open('/proc/{worker}/mem', os.O_RDWR)"
    done = subprocess.run(
        [*AS_OWNER, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGINT, 130),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_neither_outlives_the_other(waiting: subprocess.Popen[str], number: int, code: int) -> None:
    worker = child_of(waiting)
    waiting.send_signal(number)
    assert waiting.wait(10) == code
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the end of the worker")


def test_both_stop_and_go_on(waiting: subprocess.Popen[str]) -> None:
    """As a shell does it to a job: a worker that went on alone would find nobody who logs."""
    worker = child_of(waiting)
    pids = (waiting.pid, worker)
    waiting.send_signal(signal.SIGTSTP)
    wait_until(lambda: {status_of(pid)["State"][0] for pid in pids} == {"T"}, "both are stopped")
    waiting.send_signal(signal.SIGCONT)
    wait_until(lambda: "T" not in {status_of(pid)["State"][0] for pid in pids}, "both go on")


def test_the_worker_is_killed(waiting: subprocess.Popen[str]) -> None:
    os.kill(child_of(waiting), signal.SIGKILL)
    assert waiting.wait(10) == -signal.SIGKILL


def by_hand(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(CHECKOUT / "bin" / command), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", ["ctsqueeze", "ctexpire", "cttest"])
def test_where_the_owner_cannot_work(history: History, tmp_path: Path, command: str) -> None:
    """A folder that the owner cannot reach, and a new file where the owner may not write: refused,
    with what to do; nothing changed.
    """
    closed = tmp_path / "log"  # below a folder of root's
    shutil.copytree(history.folder, closed)
    give(closed)
    before = {path.name: path.read_bytes() for path in closed.iterdir()}
    arguments: dict[str, list[object]] = {
        "ctsqueeze": [closed],
        "ctexpire": ["--max-age", "1d", closed],
        "cttest": ["--repair", closed / "1200.ctlog", "-o", closed / "new"],
    }
    done = by_hand(command, *arguments[command])
    assert done.returncode == 2
    assert f"{closed}: belongs to uid {OWNER}, as whom {command} continues" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if command != "ctexpire":
        name = history.paths[0]
        option = ("-f" if command == "ctsqueeze" else "--repair"), name
        new = tmp_path / "new"
        done = by_hand(command, *option, "-o", new)
        assert (done.returncode, new.exists()) == (2, False)
        assert f"{tmp_path}: uid {OWNER}, the owner of " in done.stderr
    assert {path.name: path.read_bytes() for path in closed.iterdir()} == before


def test_the_group_root_is_not_given(history: History) -> None:
    os.chown(history.folder, OWNER, 0)
    done = by_hand("ctsqueeze", history.folder)
    assert done.returncode == 2
    assert "the group root, which that user must not get" in done.stderr


def test_what_anybody_put_into_a_folder_of_roots(history: History) -> None:
    os.chown(history.folder, 0, 0)
    history.folder.chmod(0o1777)
    done = by_hand("cttest", "--repair", history.paths[0], "-o", history.folder / "new")
    assert (done.returncode, (history.folder / "new").exists()) == (2, False)
    assert "belongs to root, but every user may write there" in done.stderr


def test_root_repairs_a_copy_of_its_own_for_the_folder(history: History, tmp_path: Path) -> None:
    """The new segment belongs to whom the folder belongs."""
    copy = tmp_path / "copy"
    shutil.copy(history.paths[0], copy)
    new = history.folder / "new"
    assert by_hand("cttest", "--repair", copy, "-o", new).returncode == 0
    assert (new.stat().st_uid, new.stat().st_gid) == (OWNER, GROUP)


def test_a_key_that_only_root_can_read(place: Path, tmp_path: Path) -> None:
    """It is read before root is given up, and the seal stays."""
    key = tmp_path / "key"
    key.write_text("correct horse battery staple\n")
    key.chmod(0o600)
    history = History(place / "log", key=key)
    give(history.folder)
    done = by_hand("ctsqueeze", "--key", key, history.folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("squeezed ") == 5
    assert "5 whole" in cttest("--key", key, history.folder)


def terminal_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4]


def test_a_terminal_of_roots(history: History) -> None:
    """What reads the archive has none: what it prints is copied."""
    master, slave = os.openpty()
    with Folder(str(history.folder)) as folder:
        lock = filelock.take(folder, Purpose.EXPIRE, Holder.EXPIRE)
        assert lock is not None
        os.chown(history.folder / filelock.LOCK_FILE, OWNER, GROUP)
        process = subprocess.Popen(
            ["setsid", "--ctty", CHECKOUT / "bin/ctexpire", history.folder],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            text=True,
        )
        os.close(slave)
        try:
            assert b"waiting for it" in os.read(master, 1000)
            worker = child_of(process)
            assert terminal_of(worker) == "0" != terminal_of(process.pid)
            assert os.readlink(f"/proc/{worker}/fd/0") == "/dev/null"
            for descriptor in (1, 2):
                assert os.readlink(f"/proc/{worker}/fd/{descriptor}").startswith("pipe:")
            assert os.readlink(f"/proc/{worker}/cwd") == "/"
        finally:
            lock.release()
            assert process.wait(20) == 0
            os.close(master)
