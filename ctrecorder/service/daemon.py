"""What a service needs: systemd notifications, the daemon, the pid file, signals."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from collections.abc import Iterable
from types import TracebackType

from ctrecorder import filelock
from ctrecorder.errors import ArchiveError, ExitCode, KernelError, UsageError
from ctrecorder.filelock import Holder, Lock
from ctrecorder.folder import Folder
from ctrecorder.service import journal
from ctrecorder.terminal import printable

# Notifications that systemd did not take: at most one for each name.
_unnotified: list[str] = []
PIDFILE_BYTES = 32  # a pid and a newline are at most 9: a longer file is not a pid file of ours


def notify(*lines: str) -> None:
    """Notify systemd: "READY=1", "STATUS=...", "WATCHDOG=1", "RELOADING=1", "STOPPING=1".

    Does nothing without NOTIFY_SOCKET.  Never waits: what systemd does not take now is sent again
    with the next call, except what that call repeats.
    """
    names = {line.partition("=")[0] for line in lines}
    waiting = [line for line in _unnotified if line.partition("=")[0] not in names]
    _unnotified.clear()
    if not journal.notify(*waiting, *lines) and "NOTIFY_SOCKET" in os.environ:
        _unnotified.extend((*waiting, *lines))


def watchdog_seconds() -> float:
    """The longest interval between two WATCHDOG=1: half of WatchdogSec; 0 without a watchdog."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "0")
    return int(microseconds) / 2e6 if microseconds.isdigit() else 0.0


class PidFile:
    """A file with the daemon's pid, locked while the daemon runs.

    It is created before the daemon forks, so that the error of a second recorder reaches the
    terminal.  A file without a lock was left by a crash and is taken over.  Raises ArchiveError if
    it cannot be created, is locked, or is not a pid file.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._name = os.path.basename(path)
        try:
            self._folder = Folder.of(self.path)
        except ArchiveError as error:
            raise ArchiveError(f"cannot make the pid file {self.path}: {error}") from error
        try:
            while True:
                self.fd = self._open()
                if self._is_in_place():
                    return
                self._lock.release()  # its owner removed it between open and lock
                os.close(self.fd)
        except BaseException:
            self._folder.close()
            raise

    def write(self) -> None:
        """Write the pid of this process (after the fork)."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, b"%d\n" % os.getpid(), 0)

    def remove(self) -> None:
        """Remove the file, or empty it if the privileges to remove it were dropped; unlock it."""
        try:
            if self._is_in_place():
                self._folder.unlink(self._name)
        except OSError:
            os.ftruncate(self.fd, 0)
        self._lock.release()
        os.close(self.fd)
        self._folder.close()

    def _open(self) -> int:
        try:
            fd = self._folder.open(self._name, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ArchiveError(f"cannot open the pid file {self.path}: {error.strerror}") from error
        try:
            status = os.fstat(fd)
            # A file with a second name (a hard link) may be another user's.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise ArchiveError(f"{self.path} is not a pid file: not a regular file")
            content = os.pread(fd, PIDFILE_BYTES, 0).strip()
            if content and not content.isdigit():
                raise ArchiveError(
                    f"{self.path} is not a pid file: has other content; choose another with -P"
                )
            self._lock = self._locked(status, content)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _locked(self, status: os.stat_result, content: bytes) -> Lock:
        try:
            lock = filelock.take(self._folder, status, Holder.DAEMON)
        except OSError as error:
            file = os.path.join(self._folder.path, filelock.LOCK_FILE)
            raise ArchiveError(
                f"cannot lock the pid file {self.path}: {file}: {error.strerror}"
            ) from error
        if lock is None:
            pid = printable(content.decode("ascii"))
            raise ArchiveError(f"already running as pid {pid}: {self.path} is locked")
        return lock

    def _is_in_place(self) -> bool:
        return self._folder.has(self._name, os.fstat(self.fd))


def daemonize(pidfile: PidFile | None = None) -> None:
    """Go to the background; returns in the daemon only.

    Files stay open; stdin, stdout and stderr become /dev/null.  Call it when everything that can
    fail is done: the calling process exits with 0 once the daemon has its own session and its pid
    is in `pidfile`, with 2 if that failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ready, done = os.pipe()
    if os.fork():
        os.close(done)
        os._exit(ExitCode.OK if os.read(ready, 1) else ExitCode.FAILED)
    os.close(ready)
    os.setsid()
    if (
        os.fork()
    ):  # a session leader that opens a terminal gets it as its own: continue as its child
        os._exit(ExitCode.OK)
    os.chdir("/")
    if pidfile is not None:
        pidfile.write()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.write(done, b"1")
    os.close(done)


def set_nice(nice: int) -> None:
    """Set the nice value, -20 (highest priority) to 19.

    Raises UsageError outside that range, KernelError if not allowed.
    """
    if not -20 <= nice <= 19:
        raise UsageError(f"nice {nice}: must be -20 to 19")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        raise KernelError(
            f"cannot set nice {nice}: {error.strerror}; a value below the current one needs root"
        ) from error


class SignalPipe:
    """Signals for poll(): `fileno` becomes readable, `read` returns the signals.

    Python's own handler does nothing, so a signal during a system call does not interrupt the
    loop's logic.  Use it in the main thread, as a context or with `close`.
    """

    def __init__(self, signals: Iterable[int]) -> None:
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        self._old = {number: signal.signal(number, _nothing) for number in signals}
        self._old_fd = signal.set_wakeup_fd(self._there.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._here.fileno()

    def read(self) -> list[int]:
        """The signals since the last call, in order.  Never blocks."""
        try:
            return [number for number in self._here.recv(4096) if number in self._old]
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Restore the former handlers."""
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._here.close()
        self._there.close()

    def __enter__(self) -> SignalPipe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _nothing(number: int, frame: object) -> None:
    """The handler of SignalPipe's signals: without one Python does not write to the wakeup fd."""
