"""python3 -m tests.bench.bench [NAME...]: runs tests/bench/bench_NAME.py, or all of them, and
prints the machine and the figures.

Each has `run(report)`; one with `BY_NAME` runs only if it is named.  Targets are those of
DESIGN.md; nothing here is part of `make check`.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from tests.bench.report import Report, machine

HERE = Path(__file__).resolve().parent


def main(names: list[str]) -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(
            f"bench: no benchmark {', '.join(unknown)}: there are {', '.join(known)}",
            file=sys.stderr,
        )
        return 2
    report = Report()
    for line in machine():
        print(line)
    begin = time.monotonic()
    for name in names or known:
        bench = importlib.import_module(f"tests.bench.bench_{name}")
        if names or not hasattr(bench, "BY_NAME"):
            bench.run(report)
    report.summary()
    print(f"{time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
