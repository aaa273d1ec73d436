"""The shell's completion: from the question to the answer, as one waits for it at the terminal."""

from __future__ import annotations

import os
import statistics
import subprocess
import time

from tests.bench.report import Report
from tests.support.router import CHECKOUT

ROUNDS = 9
# What the shell hands over, as argcomplete's own bash function does.
QUESTION = {
    "COMP_TYPE": "9",
    "_ARGCOMPLETE": "1",
    "_ARGCOMPLETE_SHELL": "bash",
    "_ARGCOMPLETE_IFS": "\n",
    "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
}


def run(report: Report) -> None:
    """Asks each command for its options."""
    report.heading("Completion")
    report.note(f"whole process; medians of {ROUNDS}")
    for command in sorted(path.name for path in (CHECKOUT / "bin").iterdir()):
        report.figure(
            f"{command} --TAB",
            statistics.median(_seconds(command) for _ in range(ROUNDS)),
            "s",
            most=0.15,
        )


def _seconds(command: str) -> float:
    line = f"{command} --h"
    query = {**QUESTION, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    begin = time.perf_counter()
    ask = ["sh", "-c", f"exec {CHECKOUT / 'bin' / command} 8>&1 9>&2 >/dev/null"]
    answer = subprocess.run(ask, capture_output=True, env={**os.environ, **query}, check=True)
    seconds = time.perf_counter() - begin
    if b"--help" not in answer.stdout.split():
        raise AssertionError(f"{command} answered {answer.stdout!r}")
    return seconds
