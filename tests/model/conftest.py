"""The table of the model test, at the end of the run."""

from __future__ import annotations

import pytest
from _pytest.terminal import TerminalReporter

_lines: list[str] = []


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines to be printed at the end."""
    return _lines


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if _lines:
        terminalreporter.section("never a false alibi")
        for line in _lines:
            terminalreporter.line(line)
