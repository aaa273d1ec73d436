"""CSV and JSON of chosen columns: their exact values, in the order that was asked for.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Table
from ctrecorder.render import records
from ctrecorder.screen import fields
from ctrecorder.screen.fields import Field, Look

# Rows that are rendered at once.
_CHUNK_ROWS = 4096


class Selected:
    """The lines of chosen columns as `form`, csv or json; as of `View`."""

    def __init__(self, form: str, columns: Sequence[Field], look: Look) -> None:
        """`look`: is exact."""
        self._form, self._fields, self.look = form, list(columns), look

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of tables that it reads."""
        return fields.needs(self._fields)

    @property
    def head(self) -> bytes:
        """The names, in CSV."""
        return records.csv_head([one.name for one in self._fields]) if self._form == "csv" else b""

    def lines(
        self, tables: Sequence[Table], order: NDArray[np.intp] | None = None
    ) -> Iterator[bytes]:
        """The lines of rows; `order`: of the rows of all tables, counted through; None: by time."""
        made = self._csv if self._form == "csv" else self._json
        for parts, back in fields.chunks(tables, order, self.look, _CHUNK_ROWS):
            texts = [
                fields.merged([one.texts(part, self.look) for part in parts], back)
                for one in self._fields
            ]
            yield "".join(made(row) for row in zip(*texts, strict=True)).encode()

    def _csv(self, row: tuple[str, ...]) -> str:
        return ",".join(row) + "\n"

    def _json(self, row: tuple[str, ...]) -> str:
        members = [
            f'"{one.name}":{_member(one, text)}'
            for one, text in zip(self._fields, row, strict=True)
            if text
        ]
        return f"{{{','.join(members)}}}\n"


def _member(one: Field, text: str) -> str:
    """The value of a member.  No text of a column needs an escape."""
    if one.kind == "list":
        return "[" + ",".join(f'"{item}"' for item in text.split("|")) + "]"
    if one.kind == "numbers":
        return f"[{text.replace('|', ',')}]"
    return text if one.kind == "number" else f'"{text}"'
