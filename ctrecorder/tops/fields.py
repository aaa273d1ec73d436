"""What a top is by: the words of --top and --by.  Pure; no numpy."""

from __future__ import annotations

import difflib
from enum import Enum
from typing import NamedTuple

from ctrecorder.errors import UsageError

# Prefixes of addresses, if a field has none or only one for IPv4.
_WHOLE_V4, _WHOLE_V6, _USUAL_V6 = 32, 128, 64

ADDRESSES = ("inside", "public", "remote", "src", "dst", "ip")
NAMES = (*ADDRESSES, "port", "anyport", "proto", "hour", "day", "mark", "zone")


class Measure(Enum):
    """What the rows of a top are ranked by."""

    CONNECTIONS = "connections"
    BYTES = "bytes"
    PACKETS = "packets"
    DURATION = "duration"


class Field(NamedTuple):
    """One part of a key.

    `prefix_v4`, `prefix_v6`: of addresses, how many bits count.
    """

    text: str
    name: str
    prefix_v4: int = _WHOLE_V4
    prefix_v6: int = _WHOLE_V6

    @property
    def is_address(self) -> bool:
        return self.name in ADDRESSES

    def prefix(self, *, v6: bool) -> int | None:
        """How many bits of an address of the family count; None: the whole address."""
        length, whole = (self.prefix_v6, _WHOLE_V6) if v6 else (self.prefix_v4, _WHOLE_V4)
        return None if length == whole else length


class Top(NamedTuple):
    """A top: by a key of one field or of several."""

    fields: tuple[Field, ...]

    @property
    def text(self) -> str:
        return ",".join(field.text for field in self.fields)


def parse(text: str) -> Top:
    """The top of "remote", "src/24", "inside,port".  Raises UsageError."""
    fields = tuple(_field(word.strip()) for word in text.split(","))
    if len({field.text for field in fields}) < len(fields):
        raise UsageError(f"--top {text}: a field is there twice")
    return Top(fields)


def _field(text: str) -> Field:
    name, *prefixes = text.lower().split("/")
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--top: no field '{text}': there are {', '.join(NAMES)}{hint}")
    if not prefixes:
        return Field(name, name)
    if name not in ADDRESSES:
        raise UsageError(f"--top {text}: only an address has a prefix: {', '.join(ADDRESSES)}")
    if len(prefixes) > 2 or not all(
        one.isascii() and one.isdigit() and len(one) <= 3 for one in prefixes
    ):
        raise UsageError(f"--top {text}: a prefix is as in {name}/24, or {name}/24/56 with IPv6")
    first, *rest = (int(one) for one in prefixes)
    if rest:
        v4, v6 = first, rest[0]
    else:
        v4, v6 = (first, _USUAL_V6) if first <= _WHOLE_V4 else (_WHOLE_V4, first)
    if v4 > _WHOLE_V4 or v6 > _WHOLE_V6:
        raise UsageError(f"--top {text}: a prefix has at most 32 bits of IPv4, 128 of IPv6")
    return Field(text.lower(), name, v4, v6)
