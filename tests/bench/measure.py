"""What a process costs: time, CPU, memory, by the kernel's accounts."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """Of one run of a command."""

    wall: float  # seconds, from start to end
    cpu: float  # seconds, user and system
    peak_kbytes: int  # greatest resident size


def timed(command: list[object], stdout: Path, cpu: int | None = None, allowed: tuple[int, ...] = (0,)) -> Cost:
    """Runs `command` with its output in a file, on one CPU only if `cpu` is given.  AssertionError for an exit code that is not allowed."""
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
    with stdout.open("wb") as file:
        begin = time.monotonic()
        process = subprocess.Popen([*pinned, *map(str, command)], stdout=file, stdin=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in allowed:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {process.returncode}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, all threads, by its CPU clock (clock_getcpuclockid(3): exact to the ns)."""
    return time.clock_gettime(~pid << 3 | 2)


def resident_kbytes(pid: int, what: str = "VmRSS") -> int:
    """VmRSS or VmHWM of the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
