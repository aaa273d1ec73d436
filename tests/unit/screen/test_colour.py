"""When to paint."""

from __future__ import annotations

import pytest

from ctrecorder.screen.colour import Paint, wanted


@pytest.mark.parametrize(
    ("choice", "terminal", "environment", "expected"),
    [
        ("auto", True, {"TERM": "xterm"}, True),
        ("auto", False, {"TERM": "xterm"}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": ""}, True),  # no-color.org: not empty
        ("auto", True, {"TERM": "dumb"}, False),
        ("auto", True, {}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {"TERM": "xterm"}, False),
    ],
)
def test_wanted(choice: str, terminal: bool, environment: dict[str, str], expected: bool) -> None:
    assert wanted(choice, terminal=terminal, environment=environment) is expected


def test_nothing_is_painted_without_colours_or_text() -> None:
    assert Paint(on=False)("hole", "x") == "x"
    assert Paint(on=True)("hole", "") == ""
    assert Paint(on=True)("", "x") == "x"
