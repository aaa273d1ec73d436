"""coverage_table.py RC: prints which share of the lines of each package was executed.

RC is the configuration that the measured processes used.  Their data files are combined.  Modules
that no process imported count with all their lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import coverage

PACKAGE = Path(__file__).resolve().parents[2] / "ctrecorder"


def shares(rc: str) -> dict[str, tuple[int, int]]:
    """Lines that can be executed, and those of them that were, by package."""
    measured = coverage.Coverage(config_file=rc)
    measured.combine(strict=True)
    found: dict[str, tuple[int, int]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        _, lines, _, missing, _ = measured.analysis2(str(path))
        below = path.relative_to(PACKAGE).parts
        package = f"{below[0]}/" if len(below) > 1 else "(root)"
        most, executed = found.get(package, (0, 0))
        found[package] = (most + len(lines), executed + len(lines) - len(missing))
    return found


def text(found: dict[str, tuple[int, int]]) -> Iterable[str]:
    """The table, a line at a time."""
    yield f"{'package':<14} {'lines':>7} {'executed':>9} {'share':>8}"
    total = tuple(map(sum, zip(*found.values(), strict=True)))
    for package, (lines, executed) in [*found.items(), ("total", total)]:
        yield f"{package:<14} {lines:>7,} {executed:>9,} {executed / max(lines, 1):>8.1%}"


if __name__ == "__main__":
    print("\n".join(text(shares(sys.argv[1]))))
