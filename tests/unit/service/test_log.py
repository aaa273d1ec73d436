"""The log of a command: where entries go, and that a log which hangs stops nobody and loses
nothing that is evidence.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctrecorder import filelock
from ctrecorder.archive import find
from ctrecorder.filelock import LOCK_FILE, Holder, Purpose
from ctrecorder.folder import Folder
from ctrecorder.service import daemon, messages, unsent
from ctrecorder.service import log as service
from ctrecorder.service.log import Log
from ctrecorder.witness import logged
from tests.support.folders import names
from tests.unit.service.test_daemon import run
from tests.unit.service.test_journal import fields_of

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
HASH = "ab" * 16


class Server:
    """A journald or syslogd that reads when it is asked to."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def fill(self) -> int:
        """Fill the queue, as that of a stopped daemon is; the number of datagrams."""
        count = 0
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_UNIX, kind) as other:
            while True:
                try:
                    other.sendto(b"MESSAGE=full\n", self.socket.getsockname())
                except BlockingIOError:
                    return count
                count += 1

    def read(self) -> list[bytes]:
        """What is in the queue, without what `fill` sent."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(1 << 16))
        except BlockingIOError:
            return [one for one in found if one != b"MESSAGE=full\n"]

    def entries(self) -> list[dict[str, str]]:
        return [fields_of(one) for one in self.read()]


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path / "journal")
    monkeypatch.setattr(service, "JOURNAL_SOCKET", str(tmp_path / "journal"))
    yield server
    server.socket.close()


@pytest.fixture
def syslogd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path / "log")
    monkeypatch.setattr(service, "JOURNAL_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(service, "SYSLOG_SOCKET", str(tmp_path / "log"))
    yield server
    server.socket.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    return path


LOGS: list[Log] = []


@pytest.fixture(autouse=True)
def logs_are_closed() -> Iterator[None]:
    yield
    while LOGS:
        LOGS.pop().close(0)


def made(command: str) -> Log:
    LOGS.append(Log(command))
    return LOGS[-1]


def detached(folder: Path | None = None, command: str = "ctrecord") -> Log:
    log = made(command)
    log.detach()
    if folder is not None:
        log.keep_in(str(folder))
    return log


def drained(log: Log, server: Server) -> list[dict[str, str]]:
    """All that waits, however few entries the queue has room for."""
    found: list[dict[str, str]] = []
    while True:
        log.retry()
        new = server.entries()
        if not new:
            return found
        found += new


def closed(log: Log, name: str = "a") -> None:
    """Log an anchor."""
    log.send(
        messages.SEGMENT_CLOSED,
        f"closed /x/{name}: 3 rows, 400 bytes, last hash {HASH}",
        path=f"/x/{name}",
        rows=3,
        bytes=400,
        last_hash=HASH,
    )


def test_on_a_terminal_the_log_is_one_plain_line_that_no_name_can_abuse() -> None:
    line = (
        "log.Log('ctrecord').send(messages.STARTED, 'recording to /tmp/\\x1b[31mx\\ny', path='p')"
    )
    result = run(f"from ctrecorder.service import log, messages\n{line}")
    assert result.stderr == "ctrecord: recording to /tmp/\\x1b[31mx\\ny\n"


def test_a_closed_stderr_does_not_stop_the_command() -> None:
    code = (
        "import os\nos.close(2)\nfrom ctrecorder.service import log, messages\n"
        "log.Log('x').send(messages.GAP, 'a gap', lost=3)\nprint('on')"
    )
    result = run(code)
    assert result.stdout == "on\n"


def test_stderr_is_the_journal_only_if_it_is_that_very_stream(
    journald: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    made("ctrecord").send(messages.GAP, "a gap", reason="overrun", lost=3)
    assert journald.entries() == [
        {
            "MESSAGE": "a gap",
            "MESSAGE_ID": messages.GAP.id,
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "ctrecord",
            "CTRECORDER_REASON": "overrun",
            "CTRECORDER_LOST": "3",
        }
    ]
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    assert Log("ctrecord").target == "stderr"


def test_fields_have_no_words_of_python(journald: Server) -> None:
    log = detached()
    log.send(messages.DUMP, "a dump", rows=None, complete=True, seconds=0)
    log.send(messages.DUMP, "a dump", complete=False)
    first, second = journald.entries()
    assert first["CTRECORDER_ROWS"] == "unknown"
    assert (first["CTRECORDER_COMPLETE"], second["CTRECORDER_COMPLETE"]) == ("yes", "no")
    assert first["CTRECORDER_SECONDS"] == "0"


def test_a_daemon_that_nobody_will_hear_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "JOURNAL_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(service, "SYSLOG_SOCKET", str(tmp_path / "log"))
    Log("ctrecord").detach()
    assert (
        capsys.readouterr().err
        == f"ctrecord: neither journald nor syslog ({tmp_path / 'log'}) is running: "
        "the log is discarded\n"
    )
    log = Log("ctlist")
    log.detach(warn=False)
    log.keep_in(str(tmp_path))
    closed(log)
    assert log.unsent == 0
    started = time.monotonic()
    log.close()
    assert time.monotonic() - started < 0.5
    assert (capsys.readouterr().err, names(tmp_path)) == ("", []), "as syslog(3) discards"
    (tmp_path / "log").touch()
    Log("ctrecord").detach()
    assert capsys.readouterr().err == ""


def test_a_daemon_without_journald_logs_to_syslog(
    syslogd: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = detached()
    log.send(messages.WRITE_FAILED, "cannot write")
    (line,) = syslogd.read()
    assert re.fullmatch(
        rb"<27>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ctrecord\[%d\]: cannot write" % os.getpid(),
        line,
    )
    monkeypatch.setattr(service, "JOURNAL_SOCKET", str(tmp_path))
    log.detach()
    assert log.target == "journal"


def test_a_syslog_that_hangs_or_is_restarted(syslogd: Server, tmp_path: Path) -> None:
    log = detached()
    syslogd.fill()
    closed(log)
    closed(log, "b")
    assert log.unsent == 2
    syslogd.read()
    log.retry()
    lines = [line.decode() for line in syslogd.read()]
    assert [re.sub(r"\S*Z\)$", "TIME)", line).partition("]: ")[2] for line in lines] == [
        f"closed /x/{name}: 3 rows, 400 bytes, last hash {HASH} (at TIME)" for name in "ab"
    ]
    # The text of a log has them as anchors too.
    (tmp_path / "text").write_text("\n".join(lines))
    assert [one.hash for one in logged.load(str(tmp_path / "text")).anchors] == [HASH, HASH]
    syslogd.socket.close()
    os.unlink(tmp_path / "log")
    closed(log)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:  # as syslog-ng may have it
        other.bind(str(tmp_path / "log"))
        other.listen()
        log.retry()
        connection, _ = other.accept()
        with connection:
            assert connection.recv(1000).endswith(b"Z)\0")
    assert log.unsent == 0


def test_a_journal_that_is_gone_does_not_stop_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "JOURNAL_SOCKET", str(tmp_path / "none"))
    log = Log("ctrecord")
    log.target = "journal"
    log.send(messages.GAP, "a gap")
    log.close(0)
    assert capsys.readouterr().err == "ctrecord: a gap\n"


def test_a_journal_that_hangs_gets_all_later_in_order_with_their_times(journald: Server) -> None:
    log = detached()
    journald.fill()
    before = time.time_ns()
    started = time.monotonic()
    for number in range(200):
        log.send(messages.COUNTERS, f"counters {number}", events=number)
        log.retry()
    assert time.monotonic() - started < 1
    closed(log)
    after = time.time_ns()
    assert log.unsent == 1
    assert journald.read() == []
    entries = drained(log, journald)
    log.send(messages.DUMP, "a dump")
    entries += journald.entries()
    assert [one["MESSAGE"].partition(" (")[0] for one in entries[:3]] == [
        f"counters {number}" for number in range(3)
    ]
    assert (len(entries), log.unsent) == (202, 0)
    for entry in entries[:-1]:
        assert TIME.fullmatch(entry["CTRECORDER_TIME"])
        assert entry["MESSAGE"].endswith(f" (at {entry['CTRECORDER_TIME']})")
    stamps = [entry["CTRECORDER_TIME"] for entry in entries[:-1]]
    assert stamps == sorted(stamps)
    assert _text(before) <= stamps[0] <= stamps[-1] <= _text(after)
    assert (entries[-1]["MESSAGE"], "CTRECORDER_TIME" in entries[-1]) == ("a dump", False)


def _text(ns: int) -> str:
    return unsent.Entry(messages.GAP, "", "", {}, ns).time_text


def test_what_waits_is_bounded_and_evidence_stays(journald: Server) -> None:
    log = detached()
    journald.fill()
    for number in range(600):
        closed(log, f"{number}")
        log.send(messages.COUNTERS, f"counters {number}")
    assert log.unsent == 600
    journald.read()
    entries = drained(log, journald)
    kinds = [entry["MESSAGE_ID"] for entry in entries]
    assert kinds.count(messages.SEGMENT_CLOSED.id) == 600
    assert kinds.count(messages.COUNTERS.id) == unsent.MAX_ENTRIES - 600
    assert entries[-1]["CTRECORDER_ENTRIES"] == "200"
    assert kinds.count(messages.ENTRIES_LOST.id) == 1
    log.send(messages.GAP, "x" * (unsent.MAX_BYTES // 2))
    journald.fill()
    for _ in range(3):
        log.send(messages.GAP, "x" * (unsent.MAX_BYTES // 2))
    assert log.unsent == 1


def test_evidence_that_was_not_sent_is_stored_and_sent_by_the_next(
    journald: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(folder, 1234, 2345)
    log = detached(folder)
    journald.fill()
    closed(log)
    log.send(messages.COUNTERS, "counters")
    log.close(0)
    assert capsys.readouterr().err == "ctrecord: counters\n"
    stored = folder / unsent.UNSENT
    status = stored.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 2345, 0o600)
    listed = find.find([str(folder)])
    assert (listed.segments, listed.foreign) == ([], [])

    # In root's name they would be taken for root's: who owns the folder sends them.
    journald.read()
    before = stored.read_bytes()
    assert detached(folder, "ctexpire").unsent == 0
    assert stored.read_bytes() == before
    assert journald.read() == []
    for path in (folder, stored, folder / LOCK_FILE):
        os.chown(path, 0, 0)
    journald.fill()
    again = detached(folder, "ctexpire")
    assert (again.unsent, stored.exists()) == (1, True)
    again.send(messages.GAP, "of its own")
    again.close(0)
    assert len(stored.read_bytes().splitlines()) == 2
    at_terminal = Log("ctexpire")
    at_terminal.keep_in(str(folder))
    at_terminal.close()
    assert stored.exists(), "a terminal is no log"

    journald.read()
    last = detached(folder, "ctsqueeze")
    first, second = journald.entries()
    assert (last.unsent, stored.exists()) == (0, False)
    assert (first["SYSLOG_IDENTIFIER"], first["MESSAGE_ID"], first["CTRECORDER_PATH"]) == (
        "ctrecord",
        messages.SEGMENT_CLOSED.id,
        "/x/a",
    )
    assert TIME.fullmatch(first["CTRECORDER_TIME"])
    assert second["SYSLOG_IDENTIFIER"] == "ctexpire"
    export = folder.parent / "export"
    export.write_text(json.dumps({**first, "_UID": "0"}) + "\n")
    assert logged.load(str(export)).anchors == [logged.Anchor("closed", "/x/a", HASH, "", True)]


def test_a_file_that_is_taken_in_parts(journald: Server, folder: Path) -> None:
    """The daemon takes some of them: the rest stays, and `retry` sends it."""
    limit = journald.fill()
    log = detached(folder)
    for number in range(limit + 50):
        closed(log, f"{number}")
    log.close(0)
    journald.read()
    log = detached(folder)
    assert 0 < log.unsent <= 50
    found = journald.entries() + drained(log, journald)
    assert [one["CTRECORDER_PATH"] for one in found] == [f"/x/{n}" for n in range(limit + 50)]
    assert (log.unsent, names(folder)) == (0, [])


def test_only_what_a_command_stores_is_sent(journald: Server, folder: Path) -> None:
    """The folder belongs to the recorder's user, and root sends the file."""
    good = unsent.Entry(messages.GAP, "ctrecord", "a gap", {"lost": "3"}, 1).to_line()
    facts = json.loads(good)
    changes: list[dict[str, object]] = [
        {"id": messages.COUNTERS.id},
        {"id": "0" * 32},
        {"id": {}},
        {"command": "sshd"},
        {"command": []},
        {"command": {}},
        {"text": 3},
        {"time": -1},
        {"time": True},
        {"time": 1 << 70},
        {"fields": {"MESSAGE": "x"}},
        {"fields": {"lost": 3}},
        {"fields": 3},
        {"fields": [["lost", "3"]]},
    ]
    lines = [
        b"",
        b"null",
        b"[]",
        b'{"id": []}',
        b"\xff\xfe",
        b"[" * 100_000,
        *(json.dumps({**facts, **change}).encode() for change in changes),
        json.dumps({**facts, "text": "two\nlines"}).encode(),
        good[: len(good) // 2],
    ]
    (folder / unsent.UNSENT).write_bytes(b"\n".join(lines))
    detached(folder)
    assert [one["MESSAGE"] for one in journald.entries()] == [
        "two\\nlines (at 1970-01-01T00:00:00.000000001Z, kept in ctrecorder.unsent)",
        f"{folder / unsent.UNSENT}: 20 lines that no command stored there: dropped, not logged",
    ]
    assert names(folder) == []


@pytest.mark.parametrize("planted", ["link", "hard link", "folder", "foreign owner"])
def test_a_planted_file_is_neither_read_nor_written(
    journald: Server, folder: Path, planted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    precious, path = folder.parent / "precious", folder / unsent.UNSENT
    precious.write_bytes(unsent.Entry(messages.GAP, "ctrecord", "a gap", {}, 1).to_line())
    before = precious.read_bytes()
    if planted == "link":
        path.symlink_to(precious)
    elif planted == "hard link":
        os.link(precious, path)
    elif planted == "folder":
        path.mkdir()
    else:
        path.write_bytes(before)
        os.chown(path, 1234, 2345)
    log = detached(folder)
    assert journald.read() == []
    journald.fill()
    closed(log)
    log.close(0)
    assert capsys.readouterr().err.startswith("ctrecord: closed /x/a")
    assert precious.read_bytes() == before


def test_a_file_that_another_command_works_on_is_not_waited_for(
    journald: Server, folder: Path
) -> None:
    entry = unsent.Entry(messages.GAP, "ctrecord", "a gap", {}, 1)
    unsent.store(str(folder), [entry])
    with Folder(str(folder)) as opened:
        lock = filelock.take(opened, Purpose.UNSENT, Holder.LOG)
        assert lock is not None
        started = time.monotonic()
        detached(folder).retry()
        assert time.monotonic() - started < 0.5, "it does not wait for the lock"
        assert journald.read() == []
        release = threading.Timer(0.1, lock.release)
        release.start()
        assert unsent.store(str(folder), [entry, entry]) == 2
        release.join()
    assert (folder / unsent.UNSENT).read_bytes() == 3 * entry.to_line()


def test_the_file_is_bounded(
    journald: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsent, "MAX_FILE_BYTES", 2000)
    journald.fill()
    for _ in range(20):
        log = detached(folder)
        closed(log)
        log.close(0)
    assert 1500 < (folder / unsent.UNSENT).stat().st_size <= 2000


# A recorder's loop, as fast as it can, for 0.6 s: its longest turn, in ms.
LOOP = """
import sys, time
from ctrecorder.service import daemon, log, messages
log.JOURNAL_SOCKET = {socket!r}
mine = log.Log("ctrecord")
mine.detach()
mine.keep_in({folder!r})
longest, end = 0.0, time.monotonic() + 0.6
number = 0
while (began := time.monotonic()) < end:
    number += 1
    mine.send(messages.GAP, f"gap {{number}}", lost=number)
    mine.retry()
    daemon.notify("STATUS=x" * 100, "WATCHDOG=1")
    longest = max(longest, time.monotonic() - began)
    time.sleep(0.001)
print(number, round(longest * 1000), flush=True)
sys.stdin.readline()
mine.close()
"""
JOURNALD = """
import socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(sys.argv[1])
print("bound", flush=True)
while True:
    sys.stdout.buffer.write(server.recv(1 << 16).replace(b"\\n", b"|") + b"\\n")
    sys.stdout.buffer.flush()
"""


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_stopped_journald_does_not_slow_a_loop_and_gets_all_after_it_continues(
    folder: Path, tmp_path: Path
) -> None:
    """Real processes: the journald is stopped by SIGSTOP, and systemd's socket by the same."""
    path, received = tmp_path / "journal", tmp_path / "received"
    with received.open("wb") as out:
        server = subprocess.Popen([sys.executable, "-c", JOURNALD, str(path)], stdout=out)
    try:
        wait_for(lambda: b"bound" in received.read_bytes())
        os.kill(server.pid, signal.SIGSTOP)
        code = LOOP.format(socket=str(path), folder=str(folder))
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
        ) as loop:
            assert loop.stdout is not None
            turns, longest = map(int, loop.stdout.readline().split())
            assert turns > 100
            assert longest < 200, "ms: the loop waited"
            os.kill(server.pid, signal.SIGCONT)
            loop.communicate("\n")
        assert loop.returncode == 0
        wait_for(lambda: received.read_bytes().count(b"MESSAGE=gap") == turns)
        late = [line for line in received.read_bytes().splitlines() if b"CTRECORDER_TIME" in line]
        assert late, "the queue of the socket was full"
        assert all(b" (at 20" in line for line in late)
        assert names(folder) == []
    finally:
        server.kill()
        server.wait()


def test_notifications_that_were_not_taken_come_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    server.fill()
    daemon.notify("READY=1")
    daemon.notify("STATUS=1 event", "WATCHDOG=1")
    assert server.read() == []
    daemon.notify("STATUS=2 events", "WATCHDOG=1")
    assert server.read() == [b"READY=1\nSTATUS=2 events\nWATCHDOG=1"]
    daemon.notify("STATUS=3 events")
    assert server.read() == [b"STATUS=3 events"]
    server.socket.close()


def test_what_root_does_by_hand_is_told_and_logged(
    journald: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is evidence, and nothing else; a command that is not root's logs nothing."""
    log = made("ctsqueeze")
    closed(log)
    log.witness(None)
    closed(log, "b")
    log.send(messages.SKIPPED, "skipped")
    assert [one["CTRECORDER_PATH"] for one in journald.entries()] == ["/x/b"]
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in told] == ["closed", "closed", "skipped"]


def test_a_witness_logs_evidence_but_not_what_was_stored(journald: Server, folder: Path) -> None:
    """The owner of the folder could have written that: root does not say it for him."""
    said: list[unsent.Entry] = []

    def witness(entry: unsent.Entry, late: bool) -> bool:
        said.append(entry)
        return not late

    log = detached(folder)
    journald.fill()
    closed(log)
    log.close(0)
    journald.read()
    log = made("ctexpire")
    log.target = "journal"
    log.witness(witness)
    log.keep_in(str(folder))
    closed(log, "b")
    log.send(messages.SKIPPED, "skipped")
    assert [entry.fields["path"] for entry in said] == ["/x/b"]
    assert [one["MESSAGE"] for one in journald.entries()] == ["skipped"]
    assert (folder / unsent.UNSENT).exists()


def test_a_witness_that_does_not_log(
    journald: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evidence is kept as that of any command; where it cannot be, a line says so."""
    log = made("ctexpire")
    log.witness(lambda entry, late: False)
    log.keep_in(str(folder))
    closed(log)
    log.close(0)
    assert (folder / unsent.UNSENT).exists()
    assert "did not take" not in capsys.readouterr().err
    log = made("ctexpire")
    log.witness(lambda entry, late: False)
    log.keep_in(str(folder / "missing"))
    closed(log)
    log.close(0)
    assert "the log did not take 1 anchor: cttest --anchors will" in capsys.readouterr().err
    assert journald.entries() == []


def test_a_command_ends_when_journald_has_its_anchors(journald: Server) -> None:
    """It names the unit of an entry by the process that sent it."""
    log = detached()
    closed(log)
    reader = threading.Timer(0.3, journald.read)
    reader.start()
    started = time.monotonic()
    log.close(5)
    assert 0.2 < time.monotonic() - started < 4
    reader.join()
    log = detached()
    log.send(messages.COUNTERS, "counters")
    started = time.monotonic()
    log.close(5)
    assert time.monotonic() - started < 0.2
