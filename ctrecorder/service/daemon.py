"""What a command needs to live as a service: systemd notifications, the daemon, the pid file,
signals.

Nothing here knows of connections.  Privileges are in `privileges`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterable
from types import TracebackType

from systemd import daemon as systemd_daemon

from ctrecorder.errors import ArchiveError, KernelError, UsageError
from ctrecorder.folder import Folder
from ctrecorder.terminal import printable

PIDFILE_BYTES = 32  # a pid and a newline are at most 9: a longer file is no pid file of ours


def notify(*lines: str) -> None:
    """Tell systemd ("READY=1", "STATUS=...", "WATCHDOG=1", "RELOADING=1", "STOPPING=1"); nothing
    without NOTIFY_SOCKET.
    """
    with contextlib.suppress(OSError):
        systemd_daemon.notify("\n".join(lines))


def watchdog_seconds() -> float:
    """How often at least to say WATCHDOG=1: half of WatchdogSec; 0 if no watchdog waits for this
    process.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "0")
    return int(microseconds) / 2e6 if microseconds.isdigit() else 0.0


class PidFile:
    """A file with the daemon's pid, under a lock for as long as the daemon lives.

    Made before the daemon forks, so that a second recorder's error reaches the terminal.  A file
    without a lock was left by a crash and is taken over.  Raises ArchiveError if it cannot be made,
    is locked, or is something else.
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
                os.close(self.fd)  # its owner removed it between open and lock
        except BaseException:
            self._folder.close()
            raise

    def write(self) -> None:
        """Write the pid of this process (after the fork)."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, b"%d\n" % os.getpid(), 0)

    def remove(self) -> None:
        """Remove the file, or empty it where the privileges to remove it were given up; drop the lock."""
        try:
            if self._is_in_place():
                self._folder.unlink(self._name)
        except OSError:
            os.ftruncate(self.fd, 0)
        os.close(self.fd)
        self._folder.close()

    def _open(self) -> int:
        try:
            fd = self._folder.open(self._name, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ArchiveError(f"cannot make the pid file {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if (
                not stat.S_ISREG(status.st_mode) or status.st_nlink > 1
            ):  # a hard link: another's file
                raise ArchiveError(f"{self.path} is no pid file: not a regular file")
            content = os.pread(fd, PIDFILE_BYTES, 0).strip()
            if content and not content.isdigit():
                raise ArchiveError(
                    f"{self.path} is no pid file: it holds something else; name another with -P"
                )
        except BlockingIOError as error:
            pid = os.pread(fd, PIDFILE_BYTES, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise ArchiveError(
                f"already running as pid {printable(pid)}: {self.path} is locked"
            ) from error
        except ArchiveError:
            os.close(fd)
            raise
        return fd

    def _is_in_place(self) -> bool:
        return self._folder.has(self._name, os.fstat(self.fd))


def daemonize(pidfile: PidFile | None = None) -> None:
    """Go to the background; returns in the daemon only.  Files stay open, stdin, stdout and stderr
    become /dev/null.

    For when all that can fail was done.  The process that was called exits with 0 once the daemon
    is a session of its own and its pid is in `pidfile`, with 2 if that failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ready, done = os.pipe()
    if os.fork():
        os.close(done)
        os._exit(0 if os.read(ready, 1) else 2)
    os.close(ready)
    os.setsid()
    if (
        os.fork()
    ):  # a session leader that opened a terminal would get it as its own: so go on as its child
        os._exit(0)
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
    """Set the nice value, -20 (first) to 19 (last).

    Raises UsageError out of that range, KernelError if not allowed.
    """
    if not -20 <= nice <= 19:
        raise UsageError(f"nice {nice}: must be -20 to 19")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        raise KernelError(
            f"cannot set nice {nice}: {error.strerror}; below the present value it needs root"
        ) from error


class SignalPipe:
    """Signals as something that poll() sees: `fileno` becomes readable, `read` says which came.

    Python's own handler does nothing; a signal that comes during a system call does not interrupt
    the loop's logic. Use it in the main thread, as a context or with `close`.
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
        """The signals that came since, in order; [] if none.  Never blocks."""
        try:
            return [number for number in self._here.recv(4096) if number in self._old]
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Put back the handlers that were there before."""
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
    """The handler of a signal that SignalPipe reads: without one Python would not write to the
    wakeup fd.
    """
