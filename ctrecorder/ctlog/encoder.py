"""Encodes a table as the payload of a block.

An `EncodingPlan` has a `ColumnEncoding` for each column, which names the steps to try.  Every plan
is lossless: a step that cannot represent a column's values is not used for it.  `codecs` has the
steps, `decoder` reads the result.  No I/O.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from ctrecorder.columns import BY_NAME, COLUMNS, LAST_BIT, Array, Column, Table
from ctrecorder.ctlog.codecs import (
    Bools,
    Delta,
    Dictionary,
    DictionaryEntries,
    Difference,
    Grouped,
    Items,
    Rows,
    Scale,
    Sparse,
    modulo,
    narrowest,
)
from ctrecorder.ctlog.compression import pack
from ctrecorder.ctlog.entry import (
    CONSTANT,
    DELTA,
    DICTIONARY,
    DIFFERENCE,
    ENTRY,
    GROUPED,
    HASH_SIZE,
    PLANES,
    RANGES,
    SAME,
    SPARSE,
    Entry,
    body_hash,
    unsigned,
)
from ctrecorder.ctlog.index import HEAD
from ctrecorder.ctlog.plans import LIVE, PLAIN, ColumnEncoding, EncodingPlan
from ctrecorder.ctlog.ranges import LIMIT, pack_ranges
from ctrecorder.ctlog.unique import Indexes, distinct


def encode_columns(table: Table, level: int = 1, plan: EncodingPlan = LIVE) -> bytes:
    """`table` as a payload in form COLUMNS.  `level`: of the zstd frames."""
    parts = encode_parts(table, level, plan).values()
    length = HEAD.size + len(parts) * ENTRY.size + sum(len(part.dictionary) for part in parts)
    directory = [part.entry.store() for part in parts]
    dictionaries, bodies = [part.dictionary for part in parts], [part.body for part in parts]
    return b"".join((HEAD.pack(len(parts), 0, length), *directory, *dictionaries, *bodies))


def encode_small(table: Table, level: int = 1) -> bytes:
    """`table` as a payload in form SMALL.  `level`: of the zstd frame."""
    stored = [
        column for column in COLUMNS if column.name in table.columns and _any(table[column.name])
    ] or [BY_NAME["present"]]
    layout = [
        byte for column in stored for byte in (column.id, column.dtype(table.family).itemsize)
    ]
    run = b"".join(table[column.name].tobytes() for column in stored)
    return bytes([len(stored), *layout]) + pack(np.frombuffer(run, np.uint8), level)


class Part(NamedTuple):
    """An encoded column."""

    entry: Entry
    dictionary: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of the dictionary and the body."""
        return len(self.dictionary) + len(self.body)


def encode_parts(table: Table, level: int, plan: EncodingPlan) -> dict[str, Part]:
    """The encoded columns of `table` by name, ascending by id, without columns that are all 0."""
    encoder = _Encoder(table, level)
    parts = {
        column.name: encoder.encode(column, plan.get(column.name, PLAIN))
        for column in COLUMNS
        if column.name in table.columns
    }
    return {name: part for name, part in parts.items() if part is not None}


class _Numbers(NamedTuple):
    """The result of the steps Dictionary and Difference for a column.

    `values`: (count,) unsigned, or addresses of 16 bytes if neither step was used.
    """

    values: Array
    encoding: int = 0
    partner: int = 0
    entries: int = 0
    dictionary: bytes = b""


class _Encoder:
    """Encodes the columns of one table: values to numbers, then numbers to a body."""

    def __init__(self, table: Table, level: int) -> None:
        self._table, self._level = table, level
        self._present: tuple[Array, Indexes] | None = None  # distinct values of `present`
        self._rows_by_mask: dict[bytes, Rows] = {}

    def encode(self, column: Column, how: ColumnEncoding) -> Part | None:
        """`column` as `how` describes; None if it is 0 in every row."""
        values = np.ascontiguousarray(self._table[column.name])
        if _is_constant(values):
            return _constant_part(column, 0, values) if _any(values[:1]) else None
        encoding, rows = 0, self._rows_present_in(column) if how.sparse else None
        kept = None if rows is None else Sparse.encode(values, rows)
        if kept is None:
            rows = None
        else:
            encoding, values = SPARSE, kept
            if _is_constant(values):
                return _constant_part(column, encoding, values)
        del kept
        numbers = self._to_numbers(column, how, values, rows)
        del values
        encoding |= numbers.encoding
        if numbers.values.dtype.kind == "S":
            planes = Items.encode(numbers.values, self._level, planes=True)
            return _part(column, numbers, EncodedNumbers(encoding | PLANES, planes, width=16))
        if how.grouped and not numbers.encoding and not encoding:
            grouped = encode_grouped(numbers.values, self._begins(), how, self._level)
            if grouped is not None:
                return _part(column, numbers, grouped)
        signed = numbers.encoding == DIFFERENCE or (not numbers.encoding and column.kind == "<i8")
        body = encode_numbers(numbers.values, encoding, how, self._level, signed)
        return _part(column, numbers, body)

    def _to_numbers(
        self, column: Column, how: ColumnEncoding, values: Array, stored: Rows | None
    ) -> _Numbers:
        """The steps Dictionary and Difference.  `values`: of the rows `stored` (None: all)."""
        partner = self._partner(how, stored)
        partner_id = 0 if partner is None else BY_NAME[how.partner].id
        if how.dictionary:
            found = Dictionary.encode(values, how.max_entries(len(values)), partner)
            if found is not None:
                entries, indexes = found
                dictionary = DictionaryEntries.encode(entries, self._level)
                encoding = DICTIONARY if partner is None else DICTIONARY | SAME
                return _Numbers(indexes, encoding, partner_id, len(entries), dictionary)
        if values.dtype.kind == "S":
            return _Numbers(values)
        numbers = values.view(unsigned(values.dtype))
        if partner is None or column.kind == "addr":
            return _Numbers(numbers)
        return _Numbers(Difference.encode(numbers, partner), DIFFERENCE, partner_id)

    def _begins(self) -> Bools:
        """(rows,): where a group begins."""
        columns = (np.ascontiguousarray(self._table[name]) for name in Grouped.BY)
        return Grouped.begins(columns, len(self._table))

    def _rows_present_in(self, column: Column) -> Rows | None:
        """The rows whose `present` has the bit of `column`; None: all, none, or it has no bit."""
        if "present" not in self._table or column.id > LAST_BIT:
            return None
        if self._present is None:
            self._present = distinct(np.ascontiguousarray(self._table["present"]))
        kinds, indexes = self._present
        marked = (kinds & np.uint32(1 << column.id)) != 0
        if marked.all() or not marked.any():
            return None
        rows = self._rows_by_mask.get(marked.tobytes())
        if rows is None:
            rows = self._rows_by_mask[marked.tobytes()] = np.flatnonzero(marked[indexes])
        return rows

    def _partner(self, how: ColumnEncoding, stored: Rows | None) -> Array | None:
        """The values of the partner in the rows `stored` (None: all); None if there is none."""
        if how.partner not in self._table.columns:
            return None
        values = np.ascontiguousarray(self._table[how.partner])
        return values if stored is None else values[stored]


class EncodedNumbers(NamedTuple):
    """A body, and the fields of the entry that describe it."""

    encoding: int
    body: bytes = b""
    width: int = 0
    scale: int = 0
    low: int = 0
    high: int = 0


def encode_numbers(
    numbers: Array, encoding: int, how: ColumnEncoding, level: int, signed: bool = False
) -> EncodedNumbers:
    """`numbers`, (count,) unsigned, as a body.

    `encoding`: the steps that made the numbers.  `signed`: the numbers are signed values viewed as
    unsigned, so their order is that of the signed values.
    """
    level = level if how.level is None else how.level
    first = None
    if how.delta and len(numbers) > 1:
        if encoding & DICTIONARY:
            numbers = numbers.astype(np.uint32)  # the type in which the decoder adds indexes
        first, numbers = Delta.encode(numbers)
        encoding, signed = encoding | DELTA, True
    ordered = numbers.view(f"<i{numbers.dtype.itemsize}") if signed else numbers
    low, high = int(ordered.min()), int(ordered.max())
    spread = high - low
    stored_high = signed64(high if first is None else first)
    if not spread:
        return EncodedNumbers(encoding | CONSTANT, low=signed64(low), high=stored_high)
    if 0 < how.ranges <= len(numbers) and numbers.dtype.itemsize == 8:
        base = 0 if encoding & (DELTA | DIFFERENCE) else low
        if low - base > -LIMIT and high - base < LIMIT:
            offsets = (numbers - modulo(base, numbers.dtype)).view(np.int64)
            scale = Scale.common(offsets) if how.scale else 0
            # A connection often ends a whole number of seconds after its start: its timeout.
            peaks = 10 ** (9 - scale) if encoding & (DELTA | DIFFERENCE) == DIFFERENCE else 0
            body = pack_ranges(Scale.encode(offsets, scale), level, peaks)
            low = signed64(base)
            return EncodedNumbers(encoding | RANGES, body, 0, scale, low, stored_high)
    items = numbers - modulo(low, numbers.dtype) if low else numbers
    scale = Scale.common(items) if how.scale else 0
    items = Scale.encode(items, scale).astype(narrowest(spread // 10**scale), copy=False)
    planes = how.planes and items.dtype.itemsize > 1
    return EncodedNumbers(
        encoding | PLANES if planes else encoding,
        Items.encode(items, level, planes),
        items.dtype.itemsize,
        scale,
        signed64(low),
        stored_high,
    )


def encode_grouped(
    numbers: Array, begins: Bools, how: ColumnEncoding, level: int
) -> EncodedNumbers | None:
    """64-bit `numbers`, (count,) unsigned, as a body in groups; None if that is not possible."""
    if not 0 < how.ranges <= len(numbers):
        return None
    first, items = Grouped.encode(numbers, begins)
    offsets = items.view(np.int64)
    if int(offsets.min()) < -LIMIT or int(offsets.max()) >= LIMIT:
        return None
    scale = Scale.common(offsets) if how.scale else 0
    body = pack_ranges(Scale.encode(offsets, scale), level if how.level is None else how.level)
    return EncodedNumbers(GROUPED | RANGES, body, 0, scale, 0, first)


def signed64(number: int) -> int:
    """`number` modulo 2**64 as a signed 64-bit integer."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _part(column: Column, numbers: _Numbers, stored: EncodedNumbers) -> Part:
    body, dictionary = stored.body, numbers.dictionary
    entry = Entry(
        column.id,
        stored.encoding,
        stored.width,
        numbers.partner,
        stored.scale,
        numbers.entries,
        len(dictionary),
        len(body),
        stored.low,
        stored.high,
        body_hash(body) if body else bytes(HASH_SIZE),
    )
    return Part(entry, dictionary, body)


def _constant_part(column: Column, encoding: int, values: Array) -> Part:
    """A column whose stored rows all have the first of `values`: the entry holds it."""
    if values.dtype.kind == "S":
        low, high = struct.unpack("<qq", values[:1].tobytes())
    else:
        low, high = signed64(int(values[0])), 0
    stored = EncodedNumbers(encoding | CONSTANT, low=low, high=high)
    return _part(column, _Numbers(values), stored)


def _any(values: Array) -> bool:
    """Whether any value is not 0."""
    return bool(
        (np.ascontiguousarray(values).view("<u8") if values.dtype.kind == "S" else values).any()
    )


def _is_constant(values: Array) -> bool:
    return bool(values[-1] == values[0]) and bool((values == values[0]).all())
