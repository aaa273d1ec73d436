"""Lines of a template: '{time} {inside} -> {remote} {bytes}'.  Pure.

A name in braces is a column of `fields`, with its exact value; after a colon, Python's alignment
and width: '{remote:>21}'.  {{ and }} are braces; \\t is a tab, \\n a new line, \\\\ a backslash.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Table
from ctrecorder.errors import UsageError
from ctrecorder.screen import fields
from ctrecorder.screen.fields import Field, Look

# Rows that are rendered at once.
_CHUNK_ROWS = 4096
_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\\\": "\\"}
_ALIGNED = re.compile(r"(?:[^{}]?[<>^])?[0-9]{0,3}")


class Template:
    """The lines of a template, as of `View`."""

    def __init__(self, text: str, look: Look, added: Sequence[Field] = ()) -> None:
        """`look`: is exact.  `added`: columns that it can have too.  Raises UsageError."""
        self.look = look
        names = {one.name: one for one in added}
        self._format, self._fields = _parse(text, names, connections=look.connections)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of tables that it reads."""
        return fields.needs(self._fields)

    @property
    def head(self) -> bytes:
        """Nothing."""
        return b""

    def lines(
        self, tables: Sequence[Table], order: NDArray[np.intp] | None = None
    ) -> Iterator[bytes]:
        """The lines of rows; `order`: of the rows of all tables, counted through; None: by time."""
        for parts, back in fields.chunks(tables, order, self.look, _CHUNK_ROWS):
            texts = [
                fields.merged([one.texts(part, self.look) for part in parts], back)
                for one in self._fields
            ]
            rows = zip(*texts, strict=True) if texts else [()] * sum(map(len, parts))
            yield "".join(self._format.format(*row) + "\n" for row in rows).encode()


def _parse(text: str, added: Mapping[str, Field], *, connections: bool) -> tuple[str, list[Field]]:
    """A format string with numbers for the names, and the columns by number.  Raises UsageError."""
    text = re.sub(r"\\[tn\\]", lambda found: _ESCAPES[found[0]], text)
    made = ""
    found: list[Field] = []
    try:
        for literal, name, aligned, conversion in string.Formatter().parse(text):
            made += literal.replace("{", "{{").replace("}", "}}")
            if name is None:
                continue
            if conversion or not _ALIGNED.fullmatch(aligned or ""):
                raise UsageError(
                    f"'{{{name}:{aligned}}}' in --format: after a colon, write a width, "
                    "with < > or ^ before it"
                )
            made += f"{{{len(found)}:{aligned}}}" if aligned else f"{{{len(found)}}}"
            one = added.get(name) or fields.field_of(name, connections=connections)
            found.append(one)
    except ValueError:
        raise UsageError(
            f"'{text}' in --format: a brace is open or closed without the other; {{{{ is a brace"
        ) from None
    return made, found
