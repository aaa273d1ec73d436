"""What the doctor's modules share: a finding, and the tools that they run.

A tool that is missing, fails or hangs has no answer; it never stops the doctor.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

# A tool that has not answered by then hangs.
TOOL_SECONDS = 20
_PROPERTIES = "LoadState,ActiveState,SubState,MainPID,NRestarts,UnitFileState,ActiveExitTimestamp"
_SYSTEMD_FOLDER = "/run/systemd/system"
# systemd creates it where it runs as process 1 of a container.
CONTAINER_FILE = "/run/systemd/container"


@dataclass(frozen=True)
class Finding:
    """One finding about this machine.

    `what`: what prevents a complete recording, in one line.
    `fix`: the command that fixes it, or that shows what to fix by hand.
    `changes`: what the command changes; no command deletes logs, rules or packages.
    """

    what: str
    fix: str
    changes: str = "nothing: it only shows"


@dataclass(frozen=True)
class Note:
    """One fact that an operator should know and that does not make the recording incomplete."""

    what: str
    why: str


Result = Finding | Note


def run_tool(*command: str) -> str | None:
    """The standard output of a command; None if it is missing, fails or hangs."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def systemd_runs() -> bool:
    """If systemd manages this machine."""
    return os.path.isdir(_SYSTEMD_FOLDER)


def in_container() -> bool:
    """If this system is a container, whose host owns the clock and the kernel."""
    return os.path.exists(CONTAINER_FILE)


def unit_properties(unit: str) -> dict[str, str]:
    """The properties of a unit by name; {} if systemctl does not answer."""
    shown = run_tool("systemctl", "show", unit, f"--property={_PROPERTIES}") or ""
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def last_log_line(unit: str) -> str:
    """The last line that the recorder of `unit` logged, after ": "; "" if there is none."""
    line = run_tool(
        "journalctl",
        f"--unit={unit}",
        "--lines=1",
        "--output=cat",
        "--quiet",
        "SYSLOG_IDENTIFIER=ctrecord",
    )
    return f": {line.strip()}" if line and line.strip() else ""
