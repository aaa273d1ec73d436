"""Letters by Debian's own fail2ban, letters with random changes, and letters by a fuzzer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctrecorder.letters.read import read_path
from tests.faults.fuzz_letters import run
from tests.faults.test_segments import ATHERIS, FUZZ_SECONDS
from tests.support.fail2ban_mail import ADDRESS, BANNED
from tests.support.faulttable import Table
from tests.support.letters import Question, asked
from tests.support.router import CHECKOUT

NOW = 1_795_867_200 * 10**9  # 2026-11-28 12:00 UTC
LETTERS = 20_000
MOST_MEMORY = 600 << 20
LOG = """\
Nov 24 06:00:01 h sshd[1]: Invalid user pi from 198.51.100.7 port 40000
Nov 24 06:00:04 h sshd[2]: Failed password for root from 198.51.100.7 port 40002 ssh2
"""
LINES = [
    Question(ADDRESS, 40000, "source", BANNED - 4),
    Question(ADDRESS, 40002, "source", BANNED - 1),
]
UNKNOWN = [Question(ADDRESS, each.port, "source") for each in LINES]


@pytest.mark.parametrize(
    ("action", "questions"),
    [
        ("complain", LINES),
        ("xarf-login-attack", [Question(ADDRESS, second=BANNED), *LINES]),
        # It notes no zone: the operator has to know it.
        ("mail-whois-lines", UNKNOWN),
    ],
)
def test_fail2ban(tmp_path: Path, action: str, questions: list[Question]) -> None:
    (tmp_path / "auth.log").write_text(LOG)
    program = CHECKOUT / "tests/support/fail2ban_mail.py"
    subprocess.run(
        [sys.executable, "-W", "ignore", program, action, tmp_path / "auth.log", tmp_path],
        env={**os.environ, "TZ": "Europe/Berlin"},
        check=True,
        timeout=60,
    )
    (letter,) = read_path(str(tmp_path / "mail"), NOW)
    assert [asked(each) for each in letter.sightings] == questions
    (letter,) = read_path(str(tmp_path / "mail"), NOW, "Europe/Berlin")
    assert [asked(each) for each in letter.sightings][-2:] == LINES


def test_random_changes(table: Table) -> None:
    """An hour by hand is better: see fuzz_letters.py."""
    run(LETTERS, 1)
    table.add_row("letters with a random change", tried=LETTERS)


@pytest.mark.unmeasured
def test_fuzzer(tmp_path: Path, table: Table) -> None:
    done = subprocess.run(
        [
            *("sh", "-c", '"$@"; exit $?', "sh"),  # so that our memory is not taken for its own
            sys.executable,
            CHECKOUT / "tests/faults/atheris_letters.py",
            tmp_path / "corpus",
            f"-max_total_time={FUZZ_SECONDS}",
            "-timeout=20",
            f"-rss_limit_mb={MOST_MEMORY >> 20}",
            f"-artifact_prefix={tmp_path}/",
            "-print_final_stats=1",
        ],
        env={"PYTHONPATH": f"{CHECKOUT}:{ATHERIS}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=180,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = int(re.findall(r"number_of_executed_units: (\d+)", done.stderr)[0])
    assert runs > 100
    table.add_row("letters by a fuzzer", tried=runs)
