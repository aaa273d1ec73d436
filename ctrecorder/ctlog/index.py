"""The index of a payload of EVENTS or CONNECTIONS, and the form SMALL.

A payload has one of two forms.  SMALL is for blocks of few rows: all columns, plain, in one run.
It has nearly no overhead, and thousands of such blocks are read as one table.  COLUMNS is for all
other blocks: an index (directory and dictionaries), then a body for each column.  A search reads
the index, and then only the columns that it needs.  ctlog(5) is the specification; `encoder` writes
both forms, `decoder` reads the columns.

The bytes are not trusted: each length, count, width and number is checked before memory is
allocated for it.  Damage raises FormatError with its offset in the payload.  Memory is bounded by
the number of rows, which `frame` has checked.  No I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ctrecorder.columns import BY_ID, BY_NAME, Array, Table
from ctrecorder.ctlog.codecs import DictionaryEntries
from ctrecorder.ctlog.compression import Buffer, unpack
from ctrecorder.ctlog.entry import (
    CONSTANT,
    DELTA,
    DICTIONARY,
    DIFFERENCE,
    ENTRY,
    GROUPED,
    SAME,
    SPARSE,
    Entry,
    check_entry,
)
from ctrecorder.errors import FormatError

# Forms of a payload, as in the frame.
WHOLE = 0  # none of these: JSON, a filter or a footer
FORM_COLUMNS = 1
FORM_SMALL = 2
FORM_PACKED = 3  # the JSON of a HEADER as a zstd frame: `header.packed`

HEAD = struct.Struct("<HHI")  # number of columns, 0, length of the index
# Plain bytes of the columns of a block in form SMALL.  A search reads all of them, so the form is
# not for larger blocks.
MAX_SMALL = 1 << 20


class Bound(NamedTuple):
    """Bounds of a column from its index: all values are in low..high.

    If there are `parts` (each ascending and distinct), each value is in one of them.
    """

    low: int | bytes
    high: int | bytes
    parts: tuple[Array, ...] = ()


def may_be_in(bound: Bound | None, ranges: Iterable[tuple[int | bytes, int | bytes]]) -> bool:
    """Whether a value within `bound` can be in one of the inclusive `ranges`."""
    if bound is None:
        return True
    return any(
        _overlap(bound.low, bound.high, low, high)
        and (not bound.parts or _any_part(bound.parts, low, high))
        for low, high in ranges
    )


def _overlap(first: int | bytes, last: int | bytes, low: int | bytes, high: int | bytes) -> bool:
    """Whether first..last and low..high overlap.

    All four are numbers, or addresses of 16 bytes, of which numpy may have cut trailing NULs.
    """
    if (
        isinstance(first, bytes)
        and isinstance(last, bytes)
        and isinstance(low, bytes)
        and isinstance(high, bytes)
    ):
        return first.ljust(16, b"\0") <= high and last.ljust(16, b"\0") >= low
    return int(first) <= int(high) and int(last) >= int(low)


def _any_part(parts: tuple[Array, ...], low: int | bytes, high: int | bytes) -> bool:
    """Whether a value of the sorted `parts` is in low..high."""
    return any(
        np.searchsorted(part, part.dtype.type(low))
        < np.searchsorted(part, part.dtype.type(high), side="right")
        for part in parts
    )


class Index:
    """The index of a payload in form COLUMNS.

    `columns` maps names to entries; a column without an entry is 0 in every row.  Columns with an
    id that this version does not know are skipped.

    `data`: the first bytes of the payload, at least the index; `payload_length`: as in the frame.
    Raises FormatError.
    """

    def __init__(self, data: Buffer, family: int, rows: int, payload_length: int) -> None:
        self.family, self.rows = family, rows
        self.columns: dict[str, Entry] = {}
        self._dictionaries: dict[str, Array] = {}
        count, self.length = index_head(data, payload_length)
        self._data = data
        offset = HEAD.size
        dictionary_offset = HEAD.size + count * ENTRY.size
        body_offset, before = self.length, 0
        if dictionary_offset > self.length or len(data) < self.length:
            raise FormatError(
                f"a directory of {count} columns in an index of {self.length} bytes", offset=0
            )
        for fields in ENTRY.iter_unpack(data[HEAD.size : dictionary_offset]):
            entry = Entry._make((*fields, offset, dictionary_offset, body_offset))
            if entry.id <= before:
                raise FormatError(f"column {entry.id} after column {before}", offset=offset)
            before = entry.id
            offset += ENTRY.size
            dictionary_offset += entry.dictionary_length
            body_offset += entry.body_length
            column = BY_ID.get(entry.id)
            if column is not None:
                check_entry(entry, column, family, rows)
                self.columns[column.name] = entry
        if dictionary_offset != self.length:
            raise FormatError(
                f"dictionaries up to byte {dictionary_offset} in an index of {self.length}",
                offset=0,
            )
        if body_offset != payload_length:
            raise FormatError(
                f"columns up to byte {body_offset} in a payload of {payload_length}", offset=0
            )

    @property
    def held_bytes(self) -> int:
        """Bytes of the index and of the dictionaries that were decoded."""
        return len(self._data) + sum(array.nbytes for array in self._dictionaries.values())

    def bound(self, name: str) -> Bound | None:
        """Bounds of the values of column `name`; None: unknown without its body.

        Raises FormatError.
        """
        dtype = BY_NAME[name].dtype(self.family)
        zero = np.zeros(1, dtype)
        entry = self.columns.get(name)
        if entry is None:
            return _bound_of((zero,))
        parts = self._parts(entry, dtype)
        if parts is None:
            return None
        if entry.encoding & SPARSE:
            parts = (*parts, zero)
        return (
            _bound_of(parts) if entry.encoding & DICTIONARY else _bound_of(parts)._replace(parts=())
        )

    def _parts(self, entry: Entry, dtype: np.dtype[Any]) -> tuple[Array, ...] | None:
        """Ascending arrays: each value is in one of them, or (without DICTIONARY) between the first
        and the last element.  None: unknown without the body.
        """
        if entry.encoding & DIFFERENCE:
            return None
        if entry.encoding & DICTIONARY:
            partner = self.bound(BY_ID[entry.partner].name) if entry.encoding & SAME else None
            if entry.encoding & SAME and (partner is None or not partner.parts):
                return None
            return (*(partner.parts if partner else ()), self.dictionary(BY_ID[entry.id].name))
        if entry.encoding & (DELTA | GROUPED) or (
            dtype.kind == "S" and not entry.encoding & CONSTANT
        ):
            return None
        if dtype.kind == "S":
            return (address16_constant(entry),)
        high = entry.low if entry.encoding & CONSTANT else entry.high
        return (np.array([entry.low, high], np.int64).astype(dtype),)

    def dictionary(self, name: str) -> Array:
        """The dictionary of column `name`: (entries,) of its dtype, ascending and distinct.

        Raises FormatError.
        """
        found = self._dictionaries.get(name)
        if found is None:
            entry = self.columns[name]
            offset = entry.dictionary_offset
            found = self._dictionaries[name] = DictionaryEntries.decode(
                self._data[offset : offset + entry.dictionary_length],
                entry.entries,
                BY_NAME[name].dtype(self.family),
                offset,
            )
        return found


def index_head(data: Buffer, payload_length: int) -> tuple[int, int]:
    """The number of columns and the length of the index.  Raises FormatError.

    `data`: at least the first 8 bytes of a payload in form COLUMNS.
    """
    if len(data) < HEAD.size:
        raise FormatError(f"a payload of {len(data)} bytes has no index", offset=0)
    count, spare, length = HEAD.unpack_from(data)
    if spare or not HEAD.size + count * ENTRY.size <= length <= payload_length:
        raise FormatError(
            f"an index of {length} bytes for {count} columns in a payload of {payload_length}",
            offset=0,
        )
    return count, length


def address16_constant(entry: Entry) -> Array:
    """The address of 16 bytes, (1,), of every row of a CONSTANT column."""
    return np.frombuffer(struct.pack("<qq", entry.low, entry.high), "S16")


def _bound_of(parts: tuple[Array, ...]) -> Bound:
    filled = tuple(part for part in parts if len(part))
    return Bound(
        min(_scalar(part[:1]) for part in filled),
        max(_scalar(part[-1:]) for part in filled),
        filled,
    )


def _scalar(one: Array) -> Any:
    """The value of an array of one: an int, or 16 bytes (numpy would drop trailing NULs)."""
    return one.tobytes() if one.dtype.kind == "S" else int(one[0])


def unknown_columns(payload: Buffer, form: int) -> set[int]:
    """The ids in a sound payload of columns that this version does not know, and passes over."""
    if form == FORM_SMALL:
        ids = payload[1 : 1 + 2 * payload[0] : 2]
    else:
        count, _ = index_head(payload, len(payload))
        ids = payload[HEAD.size : HEAD.size + count * ENTRY.size : ENTRY.size]
    return set(bytes(ids)) - BY_ID.keys()


def small_layout(payload: Buffer, family: int) -> bytes:
    """The first part of a payload in form SMALL, which lists its columns.  Raises FormatError.

    Blocks with equal layouts are read as one table.
    """
    count = payload[0] if len(payload) else 0
    layout = bytes(payload[: 1 + 2 * count])
    if not count or len(layout) != 1 + 2 * count:
        raise FormatError(f"{len(payload)} bytes are too few for {count} columns", offset=0)
    _check_layout(layout, family)
    return layout


# There is one layout for each set of columns that events have; a search reads thousands of blocks
# of each.
@lru_cache(maxsize=64)
def _check_layout(layout: bytes, family: int) -> None:
    before = 0
    for number, (identity, width) in enumerate(zip(layout[1::2], layout[2::2], strict=True)):
        column = BY_ID.get(identity)
        if (
            identity <= before
            or not width
            or (column is not None and column.dtype(family).itemsize != width)
        ):
            raise FormatError(
                f"column {identity} of {width} bytes after column {before}", offset=1 + 2 * number
            )
        before = identity


def small_run(payload: Buffer, layout: bytes, rows: int) -> Buffer:
    """The values of a payload in form SMALL: each column of `layout` in turn, `rows` values each.

    Raises FormatError.
    """
    length = rows * sum(layout[2::2])
    if length > MAX_SMALL:
        raise FormatError(f"{rows} rows are too many for the form SMALL", offset=0)
    return unpack(payload[len(layout) :], length, len(layout))


def small_table(
    layout: bytes,
    runs: Sequence[tuple[int, Buffer]],
    family: int,
    names: Iterable[str] | None = None,
) -> Table:
    """Blocks of one `layout` as one table of the columns `names` (default: all).

    `runs`: for each block its number of rows and the result of `small_run`.
    """
    wanted = None if names is None else set(names)
    columns: dict[str, Array] = {}
    before = 0
    for identity, width in zip(layout[1::2], layout[2::2], strict=True):
        column = BY_ID.get(identity)
        if column is not None and (wanted is None or column.name in wanted):
            parts = [run[rows * before : rows * (before + width)] for rows, run in runs]
            columns[column.name] = np.frombuffer(
                parts[0] if len(parts) == 1 else b"".join(parts), column.dtype(family)
            )
        before += width
    return Table(family, sum(rows for rows, _ in runs), columns)
