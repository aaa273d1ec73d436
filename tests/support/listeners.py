"""ctrecord as an operator runs it, `conntrack -E` beside it, and what both saw, in one form: a
tuple an event.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.folders import paths
from tests.support.router import CHECKOUT, HasRouter, Lab, event_sockets, wait_for_next, wait_until

# What identifies an event: its kind, protocol, both tuples as conntrack writes them, and the
# kernel's id.
Event = tuple[str, str, str, str, str]
Row = dict[str, Any]


# No test with a recorder of its own takes so long.
LONGEST_TEST = 90


def one_segment() -> tuple[object, ...]:
    """Options for a recorder that begins another segment only if it is told to: a test that runs
    over the hour would else see one more.
    """
    wait_for_next(86400, LONGEST_TEST)
    return "-t", 1440


class Recorder:
    """`ctrecord -F` in the lab's router, recording to `folder`; returns once it records."""

    def __init__(
        self,
        lab: HasRouter,
        folder: Path,
        *options: object,
        template: str = "%Y%m%d-%H%M%S.ctlog",
        user: str = "root",
    ) -> None:
        self.folder = folder
        self._stderr = folder.parent / f"{folder.name}.stderr"
        folder.mkdir(exist_ok=True)
        command = (
            CHECKOUT / "bin/ctrecord",
            "-F",
            "-U",
            user,
            *one_segment(),
            "-f",
            folder / template,
            *options,
        )
        self.process = lab.router.spawn(*command, stderr=self._stderr)
        self.wait("recording to ")

    @property
    def log(self) -> str:
        """What it has said."""
        return self._stderr.read_text()

    @property
    def segments(self) -> list[Path]:
        """Its segments, oldest first."""
        return paths(self.folder)

    def wait(self, text: str, count: int = 1) -> None:
        """Waits until it has said `text`, `count` times since its start."""

        def said() -> bool:
            if self.process.poll() is not None and self.log.count(text) < count:
                raise AssertionError(f"ctrecord ended with {self.process.returncode}: {self.log}")
            return self.log.count(text) >= count

        try:
            wait_until(said, f"{text!r} from ctrecord")
        except TimeoutError as error:
            raise AssertionError(f"{error}, which said: {self.log}") from None

    def flush(self) -> str:
        """SIGUSR1, once all that is queued was read: everything until now is in the log.

        The line with the counters.
        """
        wait_until(
            lambda: not any(each.queued for each in event_sockets(self.process.pid)),
            "ctrecord reading what is queued",
        )
        said = self.log.count("counters: ")
        self.process.send_signal(signal.SIGUSR1)
        self.wait("counters: ", said + 1)
        return next(line for line in reversed(self.log.splitlines()) if "counters: " in line)

    def rotate(self) -> None:
        """SIGHUP, and the new segment is there."""
        said = self.log.count("recording to ")
        known = len(self.segments)
        self.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: len(self.segments) > known, f"a new segment; ctrecord said ({said}): {self.log}"
        )

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Ends it in order; what it said.  AssertionError if its exit code is not 0."""
        self.process.send_signal(number)
        if self.process.wait(timeout=20):
            raise AssertionError(f"ctrecord ended with {self.process.returncode}: {self.log}")
        return self.log


class ConntrackE:
    """`conntrack -E -o timestamp,id` in the lab's router: the peer that must have seen the same."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._output = folder / "conntrack-E.txt"
        self.process = lab.router.spawn(
            "conntrack", "-E", "-e", "NEW,DESTROY", "-o", "timestamp,id", stdout=self._output
        )
        wait_until(lambda: event_sockets(self.process.pid), "conntrack -E subscribed")

    def lines(self) -> list[str]:
        """What it printed, once all that is queued was read, without the recorder's probes."""
        wait_until(
            lambda: not any(each.queued for each in event_sockets(self.process.pid)),
            "conntrack -E reading what is queued",
        )
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=10)
        return [line for line in self._output.read_text().splitlines() if "zone=65535" not in line]


def ctlist(*arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Runs ctlist; AssertionError if its exit code is not `code`; None: it may be any."""
    return _run("ctlist", arguments, code)


def ctwho(*arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Runs ctwho, as `ctlist`.  What asks and what recorded have one clock, so it is trusted."""
    return _run("ctwho", (*arguments, "--trust-clock"), code)


def _run(
    name: str, arguments: tuple[object, ...], code: int | None
) -> subprocess.CompletedProcess[str]:
    words = [*map(str, arguments)]
    done = subprocess.run(
        [CHECKOUT / "bin" / name, *words], capture_output=True, text=True, timeout=60
    )
    if code is not None and done.returncode != code:
        raise AssertionError(f"{name} {' '.join(words)}: exit {done.returncode}: {done.stderr}")
    return done


def listed(*arguments: object) -> list[Row]:
    """The rows that ctlist gives as JSON."""
    return [json.loads(line) for line in ctlist("--format", "json", *arguments).stdout.splitlines()]


def identity(row: Row) -> Event:
    """An event of `listed`."""
    return row["event"], row["protocol"], side(row, "orig"), side(row, "reply"), str(row["id"])


def side(row: Row, name: str) -> str:
    """One direction of a row of `listed`, as conntrack writes it."""
    parts = [f"src={row[f'{name}_src']}", f"dst={row[f'{name}_dst']}"]
    for label, key in (
        ("sport", "sport"),
        ("dport", "dport"),
        ("type", "icmp_type"),
        ("code", "icmp_code"),
        ("id", "icmp_id"),
    ):
        if f"{name}_{key}" in row:
            parts.append(f"{label}={row[f'{name}_{key}']}")
    return " ".join(parts)


_LINE = re.compile(
    r"\[[\d.]+\]\s+\[(?P<event>\w+)\] (?P<proto>\w+) +\d+ .*?"
    r"(?P<orig>src=.*?) (?:\[UNREPLIED\] )?(?P<reply>src=.*) id=(?P<id>\d+)"
)
_NOT_TUPLE = re.compile(r" (?:packets|bytes|delta-time|mark|zone)=\d+| \[\w+\]")


def identity_of_line(line: str) -> Event:
    """An event of conntrack's."""
    found = _LINE.match(line)
    if not found:
        raise AssertionError(f"not a line of conntrack -E: {line}")
    orig, reply = (_NOT_TUPLE.sub("", found[name]) for name in ("orig", "reply"))
    return found["event"], found["proto"], orig, reply, found["id"]


def difference(ours: Counter[Any], theirs: Counter[Any]) -> str:
    """What only one of two has, for an assertion's message."""
    surplus, missing = (ours - theirs).elements(), (theirs - ours).elements()
    return "\n".join(
        [*(f"only ours: {item}" for item in surplus), *(f"missing: {item}" for item in missing)]
    )
