"""Letters by Debian's own fail2ban, letters with random changes, and letters by a fuzzer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctrecorder.letters.read import read_path
from tests.faults.fuzz_letters import run
from tests.support.fail2ban_mail import ADDRESS, BANNED
from tests.support.faulttable import Table
from tests.support.fuzzing import fuzz
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


@pytest.mark.beside
def test_random_changes(table: Table) -> None:
    """An hour by hand is better: see fuzz_letters.py."""
    run(LETTERS, 1)
    table.add_row("letters with a random change", tried=LETTERS)


@pytest.mark.beside
@pytest.mark.unmeasured
def test_fuzzer(tmp_path: Path, table: Table) -> None:
    runs = fuzz("atheris_letters.py", tmp_path, MOST_MEMORY)
    table.add_row("letters by a fuzzer", tried=runs)
