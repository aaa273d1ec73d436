"""The pager, as journalctl and git have it: $PAGER or less, with LESS=FRSX if that is not set."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping


def command(environment: Mapping[str, str]) -> list[str]:
    """The words of the pager's command; []: none is wanted, or there is none."""
    words = environment.get("PAGER")
    if words is None:
        return next(([name] for name in ("less", "more") if shutil.which(name)), [])
    try:
        found = shlex.split(words)
    except ValueError:
        found = []
    if not found or found == ["cat"] or shutil.which(found[0]) is None:
        return []
    return found


def environment_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What the pager gets: a short text ends it, colours are shown, long lines are cut.

    With sudo it gets LESSSECURE, as systemd does it: less could start a shell for root.
    """
    found = {"LESS": "FRSX", "LV": "-c", **environment}
    if "SUDO_UID" in environment:
        found["LESSSECURE"] = "1"
    return found


@contextlib.contextmanager
def paged(words: list[str]) -> Iterator[None]:
    """What is written to standard output goes to the pager `words`, until it ends; []: to none.

    A pager that is quit closes the pipe: the writer gets BrokenPipeError.  Ctrl-C is the pager's
    while it shows the rest.
    """
    if not words:
        yield
        return
    reading, writing = os.pipe()
    process = subprocess.Popen(words, stdin=reading, env=environment_of(os.environ))
    saved = os.dup(1)
    os.dup2(writing, 1)
    os.close(reading)
    os.close(writing)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
