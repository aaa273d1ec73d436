"""The tables of claims in cttest(1): made from one list, and each row has a test that attacks."""

from __future__ import annotations

import re
from pathlib import Path

from tests.package.machine_attacks import MACHINE_ATTACKS
from tests.support import claims
from tests.support.attacks import ATTACKS
from tests.support.claims import BY_NAME, CLAIMS, FOUND, LEVELS, PAGE, Who

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"\bmark\.claim\(\"([^\"]+)\"")
MATRIX = "tests/faults/test_claims.py"


def marked() -> dict[str, set[str]]:
    """The files that have a test of each name."""
    found: dict[str, set[str]] = {}
    for folder in claims.FOLDERS:
        for path in (ROOT / folder).glob("test_*.py"):
            for name in MARK.findall(path.read_text()):
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def test_each_row_has_an_attack_and_each_attack_a_row() -> None:
    assert sorted(marked()) == sorted(BY_NAME)
    assert len(BY_NAME) == len(CLAIMS)


def test_what_is_found_is_tried_with_all_options() -> None:
    """By the tests that compare the exit codes of each row."""
    matrix = {name for name, files in marked().items() if MATRIX in files}
    assert {claim.name for claim in CLAIMS if claim.plain} <= matrix


def test_each_row_is_attacked_on_a_booted_router() -> None:
    """By tests/package/attacker.py, which compares the exit codes of each row there."""
    booted = {*ATTACKS, *MACHINE_ATTACKS}
    assert {claim.name for claim in CLAIMS if claim.plain} <= booted <= set(BY_NAME)


def test_the_page_has_the_tables_of_the_list() -> None:
    """Write them with `python3 -B -m tests.support.claims`."""
    text = PAGE.read_text()
    assert claims.page_with(text) == text
    for claim in CLAIMS:
        assert f"\\fB{claim.name.replace('-', chr(92) + '-')}\\fP:" in text


def test_more_options_find_no_less() -> None:
    order = {FOUND: 2, claims.UNPROVED: 1, claims.NEVER: 0}
    for claim in CLAIMS:
        if claim.plain:
            plain, *_, both = (order[claim.verdict(level)] for level in LEVELS)
            assert plain <= both
    assert {claim.who for claim in CLAIMS} == set(Who)
