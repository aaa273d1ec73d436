"""A command that tells who held an address: a customer database, a portal, a script."""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from ctrecorder.errors import CtrecorderError, UsageError, why
from ctrecorder.names.directory import Holder
from ctrecorder.names.entry import Addresses, Entry, Line
from ctrecorder.names.rows import Rows
from ctrecorder.names.store import Entries
from ctrecorder.names.written import Times
from ctrecorder.terminal import printable
from ctrecorder.times import SECOND

# A database answers in less; a command that hangs must not hang the answer.
TIMEOUT_SECONDS = 30
# Some thousand holders: more is no answer about one address.
MAX_OUTPUT = 1 << 20
MAX_ERRORS = 4096
# Answers that are kept: a letter asks about one host many times.
_MAX_KEPT = 1024
MAX_PROBLEMS = 20


class Command:
    """Runs the file `path` with three arguments: address, begin and end of the time (RFC 3339).

    It runs without a shell, with a small environment, and prints CSV as in `rows`.
    """

    def __init__(self, path: str, times: Times) -> None:
        """Raises UsageError: the path is no command, or one that anybody can change."""
        _check(path)
        self._path, self._times = path, times
        self._problems: dict[str, None] = {}
        self._kept: dict[tuple[str, int, int], bytes] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """Lines of its output that cannot be read."""
        return tuple(self._problems)

    def holders(
        self, address: str, since: int, until: int, zone: int | None, mark: int | None
    ) -> tuple[Holder, ...]:
        """As in `Directory`.  Raises CtrecorderError: the command failed."""
        key = (address, since, until)
        if key not in self._kept:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[key] = self._run([address, _rfc3339(since), _rfc3339(until)])
        entries = Entries(since, max(until, since + 1))
        for entry in self._parsed(address, self._kept[key]):
            entries.add(entry)
        return entries.directory([self._path], ()).holders(address, since, until, zone, mark)

    def _parsed(self, address: str, output: bytes) -> Iterator[Entry]:
        form = Rows(Addresses((address,)), self._times)
        lines = output.decode(errors="backslashreplace").splitlines()
        for number, text in enumerate(lines, 1):
            try:
                yield from form.feed(Line(0, number, text))
            except ValueError as error:
                problem = f"{self._path}: line {number} of its output: {error}"
                if len(self._problems) < MAX_PROBLEMS:
                    self._problems[printable(problem)] = None

    def _run(self, arguments: list[str]) -> bytes:
        """What it prints.  Raises UsageError, CtrecorderError."""
        try:
            process = subprocess.Popen(
                [self._path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(f"--names: cannot run {self._path}: {why(error)}") from None
        try:
            output, errors = _output(process)
        except _FailedError as error:
            raise CtrecorderError(f"--names: {self._path} {error}") from None
        finally:
            _end(process)
        if process.returncode:
            said = printable(errors.decode(errors="replace").strip().partition("\n")[0])
            reason = f"failed with exit status {process.returncode}"
            raise CtrecorderError(f"--names: {self._path} {reason}{': ' if said else ''}{said}")
        return output


class _FailedError(Exception):
    """Why the output of a command is no answer."""


def _check(path: str) -> None:
    """Raise UsageError unless `path` is a full path of a program that only its owner can change."""
    if not path.startswith("/"):
        raise UsageError(f"--names: '|{path}' is no command: write its full path after the '|'")
    try:
        status = os.stat(path)
    except OSError as error:
        raise UsageError(f"--names: {path}: {why(error)}") from None
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.X_OK):
        raise UsageError(f"--names: {path} is no program that this user can run")
    if status.st_mode & stat.S_IWOTH:
        raise UsageError(f"--names: everybody can change {path}: run chmod o-w on it")


def _environment() -> dict[str, str]:
    """Nothing of the caller's variables, which can change what a script does, but its zone."""
    kept = {name: os.environ[name] for name in ("HOME", "TZ") if name in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LC_ALL": "C.UTF-8", **kept}


def _output(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What it prints on stdout, and the beginning of stderr, until it ends.

    Raises _FailedError: too long, or too much.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    output, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, text in ((process.stdout, output), (process.stderr, errors)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, text)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise _FailedError(f"did not end within {TIMEOUT_SECONDS} seconds")
            for key, _ in ready:
                part = os.read(key.fd, 65_536)
                if not part:
                    selector.unregister(key.fileobj)
                elif key.data is output or len(errors) < MAX_ERRORS:
                    key.data.extend(part)
            if len(output) > MAX_OUTPUT:
                raise _FailedError(f"printed more than {MAX_OUTPUT:,} bytes")
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise _FailedError(f"did not end within {TIMEOUT_SECONDS} seconds") from None
    return bytes(output), bytes(errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and what it started, if it runs still."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


def _rfc3339(moment: int) -> str:
    second, rest = divmod(moment, SECOND)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
