"""The documents for contributors and the build scripts name files, targets, modules and tests that
exist.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.faces import ROOT, modules

DOCUMENTS = ("CONTRIBUTING.md", "SECURITY.md", "README.md")
SCRIPTS = ("Makefile", "debian/rules", ".ci/run", "CONTRIBUTING.md", "README.md")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_targets_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([^):#]+)\)", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {word for line in targets for word in line.split()}
    assert set(re.findall(r"(?:`|^    )make ([a-z][a-z-]*)", text, re.MULTILINE)) <= known


def test_tests_that_are_named_exist() -> None:
    named = re.findall(r"(tests/\S+\.py)::(\w+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_modules_that_are_run_exist(name: str) -> None:
    for module in re.findall(r"-m ctrecorder\.([\w.]+)", (ROOT / name).read_text()):
        assert module in modules(), module


def test_the_settings_of_editors_agree_with_the_formatter() -> None:
    length = re.search(
        r"^line-length = (\d+)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert length is not None
    editors = Path(ROOT / ".editorconfig").read_text()
    assert f"max_line_length = {length[1]}" in editors
