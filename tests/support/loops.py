"""Commands that run again and again beside a test."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator

from tests.support.router import CHECKOUT


class Loop:
    """A command in a loop: how often it ran, with which exit codes, and every line that it said on
    stderr.
    """

    def __init__(self, *command: object) -> None:
        self.command = list(map(str, command))
        self.codes: Counter[int] = Counter()
        self.lines: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            done = subprocess.run(
                [CHECKOUT / "bin" / self.command[0], *self.command[1:]],
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.codes[done.returncode] += 1
            self.lines += done.stderr.splitlines()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


@contextlib.contextmanager
def loops(*commands: tuple[object, ...]) -> Iterator[list[Loop]]:
    running = [Loop(*command) for command in commands]
    try:
        yield running
    finally:
        for each in running:
            each.stop()
