"""The header of a segment as text or JSON.

The file can come from anyone, so no text of it is printed raw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ctrecorder.legacy import format as legacy_format
from ctrecorder.terminal import printable


def text(path: str, facts: Mapping[str, Any]) -> str:
    """The path, then a line for each member."""
    width = max(map(len, facts), default=0)
    lines = [
        f"  {printable(name + ':'):<{width + 1}} {printable(_value(value))}"
        for name, value in facts.items()
    ]
    return "\n".join([f"{printable(path)}:", *lines]) + "\n"


def as_json(path: str, facts: Mapping[str, Any]) -> str:
    """One object on one line, in ASCII."""
    return json.dumps({"path": path, **facts}) + "\n"


def classic(facts: Mapping[str, Any]) -> str | None:
    """The output of `ctrecorder -H`, in local time; None: not a file of the C ctrecorder."""
    header = legacy_format.header_of(facts.get("legacy"))
    return None if header is None else header.classic()


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_value(each)}" for name, each in value.items())
    if isinstance(value, list):
        # The only list is `protocols`, which is empty if all are recorded.
        return ", ".join(map(_value, value)) or "all"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return str(value)
