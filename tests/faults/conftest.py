"""A fresh lab with traffic for each test, and the table of all faults at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from tests.support.faulttable import Table
from tests.support.router import Lab
from tests.support.traffic import Traffic

_table = Table()


@pytest.fixture(scope="session")
def table() -> Table:
    return _table


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Client, NAT router and server, awake, with events, counters and timestamps on."""
    with Lab() as built:
        yield built


@pytest.fixture
def traffic(lab: Lab) -> Iterator[Traffic]:
    made = Traffic(lab)
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if _table.rows:
        terminalreporter.section("faults")
        for line in _table.text():
            terminalreporter.line(line)
