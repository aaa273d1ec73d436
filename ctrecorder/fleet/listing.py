"""The lists of many routers, asked at once by ssh, as one: lines in order of time, each with its
router; and what each router said of its holes.

What a router sends is a stranger's: lines of bounded length, printable, of the same version.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import shlex
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from ctrecorder import __version__
from ctrecorder.errors import ExitCode
from ctrecorder.fleet.routers import Router
from ctrecorder.lifetime import die_with
from ctrecorder.shipping import program
from ctrecorder.terminal import printable

# How long a router may send nothing.  Shorter, one that reads weeks without a match is given up;
# longer, one that hangs keeps the lines of all others.
IDLE_SECONDS = 60.0
# Bytes of a line, and lines on stderr: a list has no longer ones, and a hole a line each.
_MAX_LINE, _MAX_SAID = 1 << 14, 200
_READ = 1 << 16
# The time at the beginning of a line, by format: where it begins, and its bytes.
_HEADS = (b"time,", b"start,")  # the line of names of CSV
_KEYS = {"text": (b"", 26), "csv": (b"", 30), "json": (b'":"', 30)}


@dataclass
class RemoteList:
    """The list of a router by ssh.

    `problems`: why it is not all there, and what the router said of it, a line each.
    `code`: the exit code of the list there; FAILED if there is none.
    """

    router: Router
    arguments: Sequence[str]
    reason: str
    problems: list[str] = field(default_factory=list)
    code: int = ExitCode.FAILED
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Ask the router."""
        listed = shlex.join(["ctlist", *self.arguments, "--reason", self.reason])
        listed += f" {shlex.quote(self.router.folder)}" if self.router.folder else ""
        command = [*program.ssh(), program.bare(self.router.host)]
        command.append(f"ctlist --version && {listed}")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=partial(die_with, os.getpid()),
                start_new_session=True,
            )
        except FileNotFoundError:
            self.problems.append("ssh is not installed: apt install openssh-client")

    def lines(self) -> Iterator[bytes]:
        """Its lines, as they come."""
        if self._process is None:
            return
        with self._process as process:
            try:
                yield from self._lines(process)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def _lines(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        if process.stdout is None or process.stderr is None:
            return
        wanted = f"ctlist (ctrecorder) {__version__}".encode()
        said, rest, is_first = b"", b"", True
        streams = {process.stdout.fileno(): b"out", process.stderr.fileno(): b"err"}
        while streams:
            ready, _, _ = select.select(list(streams), [], [], IDLE_SECONDS)
            if not ready:
                self.problems.append(f"sent nothing for {IDLE_SECONDS:g} s: the rest is missing")
                return
            for stream in ready:
                data = os.read(stream, _READ)
                if not data:
                    del streams[stream]
                elif streams[stream] == b"err":
                    said = (said + data)[: _MAX_SAID * _MAX_LINE]
                else:
                    *whole, rest = (rest + data).split(b"\n")
                    if max(map(len, (*whole, rest))) > _MAX_LINE:
                        self.problems.append(f"sent a line of more than {_MAX_LINE:,} bytes")
                        return
                    if is_first and whole:
                        if whole[0] != wanted:
                            self.problems.append(_other_version(whole[0]))
                            return
                        is_first, whole = False, whole[1:]
                    yield from whole
        self.code = process.wait()
        told = said.decode("utf-8", "replace").splitlines()
        self.problems += [line.removeprefix("ctlist: ") for line in told[:_MAX_SAID]]
        if rest or is_first or self.code not in (ExitCode.OK, ExitCode.NO, ExitCode.UNPROVED):
            self.problems.append(f"its list is not whole (exit code {self.code})")
            self.code = ExitCode.FAILED


def _other_version(line: bytes) -> str:
    here = f"here is ctrecorder {__version__}"
    return f"has {printable(line[:80].decode('utf-8', 'replace'))}, {here}"


def merged(sources: Iterable[tuple[str, Iterator[bytes]]], form: str) -> Iterator[bytes]:
    """The lines of all routers in order of time, each with the name of its router."""
    keyed = [_keyed(number, *one, form) for number, one in enumerate(sources)]
    for _, _, line in heapq.merge(*keyed, key=lambda one: one[:2]):
        yield line


def _keyed(
    number: int, name: str, lines: Iterator[bytes], form: str
) -> Iterator[tuple[bytes, int, bytes]]:
    """Each line with its time.  One without a time, or that comes too late, has that before it."""
    mark, length = _KEYS[form]
    reached = b""
    prefix = {"json": f'{{"router":{json.dumps(name)},', "csv": f"{name},"}.get(form, f"{name} ")
    for line in lines:
        if form == "csv" and line.startswith(_HEADS):
            continue
        begin = line.find(mark) + len(mark) if mark else 0
        key = line[begin : begin + length]
        if key[:1].isdigit():
            reached = max(reached, key)
        text = printable(line.decode("utf-8", "replace"))
        if form == "json":
            if not text.startswith("{"):
                continue  # no object: it is not a line of ctlist
            text = text[1:]
        yield reached, number, f"{prefix}{text}\n".encode()
