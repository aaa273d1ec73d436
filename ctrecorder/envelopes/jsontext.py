"""JSON with the place of each value, which the standard library does not keep.

Stricter than Python's reader: no name twice in an object, no NaN, bounded depth and count.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_BLANK = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(
    r"-?(?:0|[1-9][0-9]{0,999})(?:\.[0-9]{1,999})?(?:[eE][+-]?[0-9]{1,3})?|true|false|null"
)
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_MAX_DEPTH = 32
_MAX_VALUES = 400_000


class BadJson(Exception):
    """Not JSON.  The text says why; `position`: where."""

    def __init__(self, why: str, position: int) -> None:
        super().__init__(why)
        self.position = position


@dataclass(frozen=True)
class Value:
    """A value at text[start:end].

    `members` of an object by name, `items` of an array, `word` of a scalar: a string without its
    quotes, others as they are written; "" for null.
    """

    start: int
    end: int
    word: str = ""
    members: dict[str, Value] | None = None
    items: tuple[Value, ...] | None = None
    quoted: bool = False

    @property
    def span(self) -> tuple[int, int]:
        """Where it stands, without quotes."""
        return self.start + self.quoted, self.end - self.quoted

    def get(self, *names: str) -> Value | None:
        """The member by its path, whatever the case of its name; None: there is none."""
        found: Value | None = self
        for name in names:
            found = (found.members or {}).get(name.lower()) if found else None
        return found


def parse(text: str, start: int = 0) -> tuple[Value, ...]:
    """The objects and arrays from `start` on: one document, or several (JSON lines).

    What follows and begins otherwise, such as the foot of a mail, is let be.  Raises BadJson.
    """
    found: list[Value] = []
    reader = _Reader(text)
    position = reader.blank(start)
    while not found or text[position : position + 1] in ("{", "["):
        value = reader.value(position, 0)
        found.append(value)
        position = reader.blank(value.end)
    return tuple(found)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._left = _MAX_VALUES

    def blank(self, position: int) -> int:
        match = _BLANK.match(self._text, position)
        return match.end() if match else position

    def value(self, position: int, depth: int) -> Value:
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            raise BadJson("has too many values or levels", position)
        char = self._text[position : position + 1]
        if char == "{":
            return self._object(position, depth)
        if char == "[":
            return self._array(position, depth)
        if char == '"':
            word, end = self._string(position)
            return Value(position, end, word, quoted=True)
        match = _SCALAR.match(self._text, position)
        if match is None:
            raise BadJson("is broken", position)
        return Value(position, match.end(), "" if match[0] == "null" else match[0])

    def _string(self, position: int) -> tuple[str, int]:
        match = _STRING.match(self._text, position)
        try:
            if match is not None:
                return str(json.loads(match[0], strict=False)), match.end()
        except ValueError:
            pass
        raise BadJson("is broken", position)

    def _object(self, start: int, depth: int) -> Value:
        members: dict[str, Value] = {}
        position = self.blank(start + 1)
        while self._text[position : position + 1] != "}":
            if members:
                position = self._comma(position)
            if self._text[position : position + 1] != '"':
                raise BadJson("is broken", position)
            name, end = self._string(position)
            if name.lower() in members:
                raise BadJson("has a name twice", position)
            end = self.blank(end)
            if self._text[end : end + 1] != ":":
                raise BadJson("is broken", end)
            value = members[name.lower()] = self.value(self.blank(end + 1), depth + 1)
            position = self.blank(value.end)
        return Value(start, position + 1, members=members)

    def _array(self, start: int, depth: int) -> Value:
        items: list[Value] = []
        position = self.blank(start + 1)
        while self._text[position : position + 1] != "]":
            if items:
                position = self._comma(position)
            value = self.value(position, depth + 1)
            items.append(value)
            position = self.blank(value.end)
        return Value(start, position + 1, items=tuple(items))

    def _comma(self, position: int) -> int:
        if self._text[position : position + 1] != ",":
            raise BadJson("is broken", position)
        return self.blank(position + 1)
