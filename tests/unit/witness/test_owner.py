"""Root becomes the owner of the folder: of the one that it opened, with nothing of root's."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ctrecorder.errors import ArchiveError
from ctrecorder.folder import Folder
from ctrecorder.service.privileges import status_of
from ctrecorder.witness import scribe
from ctrecorder.witness.owner import Workplace, become_owner
from tests.support.router import wait_until

OWNER, GROUP = 4000, 4001


@pytest.fixture
def folder(place: Path) -> Path:
    return made(place / "log", OWNER)


def made(path: Path, uid: int) -> Path:
    path.mkdir()
    os.chown(path, uid, GROUP if uid else 0)
    return path


def start(folder: Path, body: Callable[[Workplace], int]) -> int:
    """The pid of a process that works on `folder` by hand, as root, with `body`."""
    child = os.fork()
    if not child:
        code = 99
        try:
            code = body(become_owner("ctexpire", str(folder)))
        except BaseException:  # noqa: BLE001 - the parent fails
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def worker_of(child: int) -> int:
    children = Path(f"/proc/{child}/task/{child}/children")
    wait_until(lambda: bool(children.read_text()), "the worker")
    return int(children.read_text())


def test_a_link_is_followed_once(place: Path) -> None:
    """It led to a folder of root's, so root works: not in another folder, where it leads later, nor
    in one that takes the place of root's.
    """
    ours, theirs, link = made(place / "ours", 0), made(place / "theirs", OWNER), place / "link"
    link.symlink_to(ours)

    def body(work: Workplace) -> int:
        link.unlink()
        link.symlink_to(theirs)
        assert (work.folder, work.log) == (str(ours), None)
        Folder(work.folder).close()
        ours.rename(place / "away")
        theirs.rename(ours)
        with pytest.raises(ArchiveError, match=f"{ours}: was exchanged for another folder"):
            Folder(work.folder)
        with pytest.raises(ArchiveError, match="exchanged"):
            Folder.of(f"{ours}/a.ctlog")
        return 3

    assert code_of(start(link, body)) == 3


def test_nothing_of_roots_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root stands in a folder that only root can reach, with secrets in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    monkeypatch.setenv("LC_TIME", "C")
    before = dict(os.environ)
    assert "HOME" in before

    def body(_: Workplace) -> int:
        left = set(os.environ)
        assert left <= {"LANG", "LANGUAGE", "PATH", "TZ", "LC_TIME", "OPENBLAS_NUM_THREADS"} | {
            name for name in before if name.startswith("LC_")
        }
        assert os.environ["TZ"] == "Europe/Amsterdam"
        assert os.getcwd() == "/"
        (folder / "ready").touch()
        time.sleep(20)
        return 5

    child = start(folder, body)
    wait_until((folder / "ready").exists, "the worker is ready")
    worker = worker_of(child)
    assert Path(f"/proc/{worker}/environ").read_bytes().strip(b"\0") == b""
    os.kill(worker, signal.SIGKILL)
    assert code_of(child) == -signal.SIGKILL


def hostile(folder: Path) -> Callable[[Workplace], int]:
    """Goes on whatever comes."""

    def body(_: Workplace) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        (folder / "ready").touch()
        time.sleep(30)
        return 6

    return body


def test_a_worker_that_ignores_signals_does_not_outlive_root(folder: Path) -> None:
    child = start(folder, hostile(folder))
    wait_until((folder / "ready").exists, "the worker is ready")
    worker = worker_of(child)
    os.kill(child, signal.SIGKILL)
    code_of(child)
    wait_until(lambda: not alive(worker), "the end of the worker")


def test_what_leaves_the_session_of_the_worker_does_not_outlive_it(folder: Path) -> None:
    """A daemon, in the way of daemons: two forks, and a session of its own."""

    def body(_: Workplace) -> int:
        if not os.fork():
            os.setsid()
            if not os.fork():
                (folder / "daemon").write_text(str(os.getpid()))
                time.sleep(30)
            os._exit(0)
        os.wait()
        while not (folder / "daemon").exists() or not (folder / "daemon").read_text():
            time.sleep(0.01)
        return 12

    assert code_of(start(folder, body)) == 12
    assert not alive(int((folder / "daemon").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_both_in_time(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribe, "_END_SECONDS", 0.3)
    child = start(folder, hostile(folder))
    wait_until((folder / "ready").exists, "the worker is ready")
    catches = 1 << (number - 1)
    wait_until(lambda: bool(int(status_of(child)["SigCgt"], 16) & catches), "the scribe waits")
    begun = time.monotonic()
    os.kill(child, number)
    assert code_of(child) == -signal.SIGKILL
    assert time.monotonic() - begun < 5


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_it_prints_is_copied_without_control(folder: Path) -> None:
    """More than a pipe takes at once, to both streams; and no terminal in between."""
    lines = "".join(f"line {number}\n" for number in range(20_000))
    master, slave = os.openpty()
    out, end = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        os.dup2(end, 1)
        os.dup2(slave, 2)

        def body(_: Workplace) -> int:
            if os.isatty(1) or os.isatty(2) or tty():
                return 7
            os.write(2, b"title \x1b]0;x\x07 \xff\xc2\x9b\r\n")
            with os.fdopen(1, "w", closefd=False) as stream:
                stream.write(lines)
            return 8

        os._exit(code_of(start(folder, body)))
    os.close(end)
    with os.fdopen(out) as stream:
        assert stream.read() == lines
    assert code_of(child) == 8
    said = os.read(master, 1000)
    assert said == b"title \\x1b]0;x\\x07 \xef\xbf\xbd\\x9b\\r\r\n"
    os.close(master)
    os.close(slave)


def tty() -> bool:
    """If this process has a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def test_nobody_reads_what_it_prints(folder: Path) -> None:
    """The worker is told, as by a pipe of its own."""

    def body(_: Workplace) -> int:
        try:
            while True:
                os.write(1, b"x" * 65536)
        except BrokenPipeError:
            return 9

    out, end = os.pipe()
    os.close(out)
    child = os.fork()
    if not child:
        os.dup2(end, 1)
        os._exit(code_of(start(folder, body)))
    os.close(end)
    assert code_of(child) == 9


def test_a_stream_that_is_closed(folder: Path) -> None:
    child = os.fork()
    if not child:
        os.close(1)
        os._exit(code_of(start(folder, lambda _: os.write(1, b"x") + 10)))
    assert code_of(child) == 11
