"""The promises in DESIGN.md: each row names a test that there is, and a source for what it says of
others.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("SQLite", "borg", "journald", "auditd", "rsyslog", "conntrackd")
# A cell that states nothing needs no source.
NOTHING = "not found"


def section() -> str:
    text = (ROOT / "DESIGN.md").read_text()
    return text.partition("\n## Promises")[2].partition("\n## ")[0]


def rows() -> list[list[str]]:
    """The cells of each row: the promise, its test, what others promise."""
    lines = [line for line in section().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_each_promise_names_its_test() -> None:
    for promise, test, _ in rows():
        (path,) = re.findall(r"^`(tests/\S+)`$", test)
        assert "\ndef test_" in (ROOT / path).read_text(), promise


def test_what_is_said_of_others_has_a_source() -> None:
    sources = re.findall(r"^- \[(\d+)\] <https?://\S+>", section(), re.MULTILINE)
    assert sources == [str(number) for number in range(1, len(sources) + 1)]
    used = set()
    for promise, _, others in rows():
        cited = re.findall(r"\[(\d+)\]", others)
        used |= set(cited)
        assert bool(cited) != (others == NOTHING), promise
    assert used == set(sources)
    assert all(any(program in others for *_, others in rows()) for program in PROGRAMS)
