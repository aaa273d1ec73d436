"""A fresh lab for each test: it takes 0.1 s."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.router import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Client, NAT router and server, awake, with events, counters and timestamps on."""
    with Lab() as built:
        yield built
