"""Some seconds of the fuzzer atheris, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.router import CHECKOUT

ATHERIS = CHECKOUT / ".venv/atheris-3.0.0"
FUZZ_SECONDS = 20
_FOUND = ("crash-", "timeout-", "oom-")
_WAIT_SECONDS = 180
_LEAST_RUNS = 100


def fuzz(script: str, folder: Path, most_memory: int) -> int:
    """Run the fuzzer `script` of tests/faults; how often it was run.

    `folder`: may hold a corpus; what fails is written there.  `most_memory`: bytes.
    """
    done = subprocess.run(
        [
            *("sh", "-c", '"$@"; exit $?', "sh"),  # so that our memory is not taken for its own
            sys.executable,
            CHECKOUT / "tests/faults" / script,
            folder / "corpus",
            f"-max_total_time={FUZZ_SECONDS}",
            "-timeout=20",
            f"-rss_limit_mb={most_memory >> 20}",
            f"-artifact_prefix={folder}/",
            "-print_final_stats=1",
        ],
        env={"PYTHONPATH": f"{CHECKOUT}:{ATHERIS}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=_WAIT_SECONDS,
        errors="replace",
    )
    found = [path for path in folder.iterdir() if path.name.startswith(_FOUND)]
    assert done.returncode == 0, f"{found}: {done.stderr[-3000:]}"
    runs = int(re.findall(r"number_of_executed_units: (\d+)", done.stderr)[0])
    assert runs > _LEAST_RUNS
    return runs
