"""What the benchmarks print: the machine, the versions, the figures, each with its target and
whether it was met.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

WIDTH = 58


class Report:
    """Prints as it goes; `missed` collects what fell short."""

    def __init__(self) -> None:
        self.met = 0
        self.missed: list[str] = []

    def heading(self, title: str) -> None:
        """Begins a part."""
        print(f"\n{title}\n{'-' * len(title)}", flush=True)

    def note(self, text: str) -> None:
        """How it was measured, or what else was seen."""
        print(f"  {text}", flush=True)

    def figure(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        """A figure, and its target: at most `most`, or at least `least`, or none."""
        line = f"  {name:<{WIDTH}} {_number(value):>10} {unit:<10}"
        if most is not None:
            line += f" target <= {_number(most)}  {self._judge(name, value <= most)}"
        if least is not None:
            line += f" target >= {_number(least)}  {self._judge(name, value >= least)}"
        print(line.rstrip(), flush=True)

    def _judge(self, name: str, met: bool) -> str:
        if met:
            self.met += 1
            return "met"
        self.missed.append(name)
        return "MISSED"

    def table(self, columns: list[str], rows: list[list[object]]) -> None:
        """A table; numbers to the right."""
        cells = [
            columns,
            *(
                [_number(cell) if isinstance(cell, float) else str(cell) for cell in row]
                for row in rows
            ),
        ]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        for row in cells:
            print(
                "  "
                + "  ".join(
                    cell.ljust(w) if i == 0 else cell.rjust(w)
                    for i, (cell, w) in enumerate(zip(row, widths, strict=True))
                )
            )
        print(flush=True)

    def summary(self) -> None:
        """The last lines: how many targets were met, and which were not."""
        print(f"\n{self.met} of {self.met + len(self.missed)} targets met")
        for name in self.missed:
            print(f"  MISSED: {name}")


def _number(value: float) -> str:
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def machine() -> list[str]:
    """The machine and the versions that a figure depends on, a line each."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    release = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    packages = ["python3", "python3-numpy", "python3-zstandard", "conntrack", "ulogd2", "nfdump"]
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages],
        capture_output=True,
        text=True,
    ).stdout
    return [
        f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} CPUs, "
        f"{int(memory[1]) >> 20 if memory else 0} GiB, "
        "governor "
        f"{governor.read_text().strip() if governor.exists() else 'not shown (a virtual machine)'}",
        f"{release[1] if release else ''}, kernel {os.uname().release}, load "
        f"{' '.join(f'{load:.2f}' for load in os.getloadavg())}",
        ", ".join(found.splitlines()),
    ]
