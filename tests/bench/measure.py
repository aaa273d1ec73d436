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


# Starts a command and tells what it cost.  A process by itself, and a small one: the greatest
# resident size of a child begins with that of who forked it, and this here holds arrays of flows.
_LAUNCHER = """
import os, sys, time
os.set_inheritable(int(sys.argv[1]), False)
begin = time.monotonic()
_, status, used = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
wall = time.monotonic() - begin
cpu, code = used.ru_utime + used.ru_stime, os.waitstatus_to_exitcode(status)
text = f"{wall} {cpu} {used.ru_maxrss} {code}"
os.write(int(sys.argv[1]), text.encode())
"""


def timed(
    command: list[object], stdout: Path, cpu: int | None = None, allowed: tuple[int, ...] = (0,)
) -> Cost:
    """Runs `command` with its output in a file, on one CPU only if `cpu` is given.  AssertionError
    for an exit code that is not allowed.

    Resident sizes below 10 MB are not told: that is what the launcher has.
    """
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
    told, tell = os.pipe()
    with stdout.open("wb") as file, os.fdopen(told) as answer:
        launcher = [
            *pinned,
            "/usr/bin/python3",
            "-SE",
            "-c",
            _LAUNCHER,
            str(tell),
            *map(str, command),
        ]
        with subprocess.Popen(launcher, stdout=file, stdin=subprocess.DEVNULL, pass_fds=[tell]):
            os.close(tell)
            said = answer.read().split()
    code = int(said[3]) if said else None
    if code not in allowed:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {code}")
    return Cost(float(said[0]), float(said[1]), int(said[2]))


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, all threads, by its CPU clock (clock_getcpuclockid(3):
    exact to the ns).
    """
    return time.clock_gettime(~pid << 3 | 2)


def resident_kbytes(pid: int, what: str = "VmRSS") -> int:
    """VmRSS or VmHWM of the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
