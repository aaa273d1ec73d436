"""Colours of a terminal.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

_RESET = "\x1b[0m"
_CODES: Mapping[str, str] = {
    "head": "\x1b[1m",
    "start": "\x1b[32m",
    "end": "\x1b[31m",
    "change": "\x1b[33m",
    "existing": "\x1b[34m",
    "nat": "\x1b[36m",
    "hole": "\x1b[1;35m",
    "faint": "\x1b[2m",
}
EVENTS: Mapping[str, str] = {"S": "start", "E": "end", "U": "change", "R": "existing"}


class Paint:
    """Paints texts, or leaves them as they are."""

    def __init__(self, *, on: bool) -> None:
        self.on = on

    def __call__(self, role: str, text: str) -> str:
        """`text` in the colour of `role`, "" for none."""
        return f"{_CODES[role]}{text}{_RESET}" if self.on and role and text else text


def wanted(choice: str, *, terminal: bool, environment: Mapping[str, str]) -> bool:
    """Whether to paint: `choice` is auto, always or never.

    auto: on a terminal that is not dumb, unless NO_COLOR is set to something (no-color.org).
    """
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    return terminal and environment.get("TERM", "") not in ("", "dumb")
