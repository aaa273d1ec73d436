"""promtool and node_exporter of Debian, unpacked into build/ and not installed: the packages would
enable and start units.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from tests.support.router import CHECKOUT


@cache
def unpacked() -> Path:
    """The folder with the packages' files, made at the first use."""
    folder = CHECKOUT / "build" / "prometheus"
    if not folder.exists():
        part = folder.with_suffix(f".{os.getpid()}")
        part.mkdir(parents=True)
        for package in (_with_promtool(), "prometheus-node-exporter"):
            subprocess.run(["apt-get", "-q", "download", package], cwd=part, check=True)
        for path in part.glob("*.deb"):
            subprocess.run(["dpkg", "-x", path, part], check=True)
            path.unlink()
        part.rename(folder)
    return folder


def _with_promtool() -> str:
    """The package that has promtool: its own in Debian 13, that of the server in Debian 12."""
    done = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", "promtool"], capture_output=True, check=False
    )
    return "promtool" if done.returncode == 0 and done.stdout else "prometheus"


def promtool(*arguments: object, stdin: str | None = None) -> str:
    """Run promtool; what it said.  AssertionError if it finds something."""
    program = unpacked() / "usr/bin/promtool"
    done = subprocess.run(
        [program, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=120
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
