"""Completion as installed: bash finds it through bash-completion, zsh and fish in their vendors'
folders.
"""

from __future__ import annotations

import json

import pytest

from tests.support.booted import LOGS, Router


def tab(router: Router, shell: str, line: str) -> list[str]:
    words: list[str] = json.loads(
        router.run("python3", "/srv/tree/tests/package/press_tab.py", shell, line).stdout
    )
    return words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ctrecord --ro", {"--rotate", "--rows"}),
        ("ctlist --format ", {"text", "classic", "conntrack", "json", "csv"}),
        ("ctwho --format ", {"text", "json", "csv"}),
        ("ctlist --event ", {"new", "update", "destroy", "existing"}),
        ("ctsqueeze --resolution ", {"us", "ms", "s"}),
        ("cttest --doc", {"--doctor"}),
        ("ctexpire --max-", {"--max-age", "--max-size"}),
    ],
)
def test_options_and_choices_are_offered(
    router: Router, shell: str, line: str, words: set[str]
) -> None:
    assert words <= set(tab(router, shell, line))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_segments_are_offered_after_f(router: Router, shell: str) -> None:
    segment = router.sh(f"ls {LOGS}/*.ctlog | head -1").strip()
    assert segment in tab(router, shell, f"ctlist -f {segment[:-3]}")
