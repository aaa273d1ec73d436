"""Other programs, run in bounds: what they say is a stranger's, and they end with this command."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import IO, NamedTuple

from ctrecorder.errors import CtrecorderError
from ctrecorder.lifetime import die_with
from ctrecorder.terminal import printable

# Shorter, a far machine on a bad line does not answer in time; longer, one that is away keeps the
# others waiting.
CONNECT_SECONDS = 20
MAX_WHY = 300
_PACKAGES = {"rsync": "rsync", "ssh": "openssh-client"}


class ProgramError(CtrecorderError):
    """A program that is not installed, or does not end in time."""


class Ran(NamedTuple):
    """A program that has ended: its exit code, what it wrote, and its most telling line of stderr.

    `is_cut`: it wrote more than it may.
    """

    code: int
    out: str
    why: str
    is_cut: bool = False


def ssh(key: str = "") -> list[str]:
    """The words of ssh that asks nobody and forwards nothing; `key`: the file of the key."""
    options = ["BatchMode=yes", f"ConnectTimeout={CONNECT_SECONDS}", "ServerAliveInterval=15"]
    options += ["ServerAliveCountMax=3", "ClearAllForwardings=yes", "RequestTTY=no"]
    options += [f"IdentityFile={key}", "IdentitiesOnly=yes"] if key else []
    return ["ssh", *(word for each in options for word in ("-o", each))]


def bare(host: str) -> str:
    """The host as ssh wants it: an IPv6 address without its brackets."""
    return host.replace("[", "").replace("]", "")


def run(command: Sequence[str], *, text: str = "", seconds: float | None, most_bytes: int) -> Ran:
    """Run a program with `text` as its input.  Raises ProgramError.

    `seconds`: how long it may take; None: as long as it wants.  `most_bytes`: of its output.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                command,
                input=text.encode(),
                stdout=out,
                stderr=errors,
                timeout=seconds,
                check=False,
                preexec_fn=partial(_limit, os.getpid(), most_bytes),
            )
        except FileNotFoundError as error:
            what = f"{command[0]} is not installed: apt install {_PACKAGES[command[0]]}"
            raise ProgramError(what) from error
        except subprocess.TimeoutExpired as error:
            raise ProgramError(f"no answer in {seconds:g} s") from error
        lines = _read(errors, most_bytes).strip().splitlines()
        size = os.fstat(out.fileno()).st_size
        return Ran(done.returncode, _read(out, most_bytes), _telling(lines), size >= most_bytes)


def _limit(parent: int, most_bytes: int) -> None:
    """In the new process: it ends with its parent, and writes no more than is read."""
    if not die_with(parent):
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def _read(file: IO[bytes], most_bytes: int) -> str:
    """What a program wrote."""
    file.seek(0)
    return file.read(most_bytes).decode("utf-8", "replace")


def _telling(lines: list[str]) -> str:
    """The line of stderr that tells most: the last lines of rsync only say that it ended."""
    ends = ("rsync error: ", "rsync: connection unexpectedly closed", "rsync: [sender] write error")
    told = [line for line in lines if not line.startswith(ends)] or lines
    return printable(told[-1][:MAX_WHY]) if told else ""
