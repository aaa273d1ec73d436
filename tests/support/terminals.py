"""Commands in a real terminal: tmux, with a server of its own; what stands on its screen."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.router import CHECKOUT, wait_until

# What the commands in the terminal get, and nothing else.
_ENVIRONMENT = {"PATH": os.environ["PATH"], "TZ": "Europe/Berlin", "TERM": "tmux-256color"}


_NUMBERS = itertools.count()


class Terminal:
    """A terminal of `columns` and `rows` in which a command runs."""

    def __init__(self, folder: Path) -> None:
        # A server that was told to end still has its socket for a moment.
        self._socket = folder / f"tmux{next(_NUMBERS)}"

    def tmux(self, *words: object) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", *map(str, words)],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
            env={**_ENVIRONMENT, "LC_ALL": "C.UTF-8"},
            cwd=CHECKOUT,
        )
        return done.stdout

    def start(self, command: str, columns: int, rows: int, environment: Mapping[str, str]) -> None:
        """Run a command of a shell."""
        words = [f"{name}={value}" for name, value in {**_ENVIRONMENT, **environment}.items()]
        line = shlex.join(["env", "-i", *words, "sh", "-c", command])
        self.tmux("new-session", "-d", "-x", columns, "-y", rows, line)

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self, *, colours: bool = False) -> str:
        """What stands on the screen, without empty lines at its end."""
        text = self.tmux("capture-pane", "-p", *(["-e"] if colours else []))
        return text.rstrip("\n") + "\n"

    def wait(self, text: str) -> str:
        """Wait until `text` stands on the screen; what stands there."""
        wait_until(lambda: text in self.screen(), f"{text!r} on the screen")
        return self.screen()


@contextlib.contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    """A terminal, ended at the end."""
    one = Terminal(folder)
    try:
        yield one
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            one.tmux("kill-server")


def shown(
    folder: Path, arguments: str, columns: int, environment: Mapping[str, str], rows: int = 40
) -> tuple[str, str]:
    """What ctlist shows in a terminal, without and with the codes of colours."""
    with terminal(folder) as one:
        command = f"{CHECKOUT / 'bin/ctlist'} {arguments}; echo; echo the end; sleep 60"
        one.start(command, columns, rows, environment)
        one.wait("the end")
        time.sleep(0.05)
        plain, coloured = one.screen(), one.screen(colours=True)
        return plain.replace("\nthe end\n", ""), coloured
