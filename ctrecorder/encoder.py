"""A table to the payload of a block.  `codec` reads what this writes, and names the encodings.

A `Plan` says for each column which encodings to try.  `LIVE` is for the recorder: one try, what costs little and gives much.
Whatever the plan says, the values come back exactly: an encoding that cannot hold a column's values is not used for it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctrecorder.codec import (
    CONSTANT,
    DELTA,
    DICTIONARY,
    DIFFERENCE,
    ENTRY,
    HASH_SIZE,
    HEAD,
    PLANES,
    SAME,
    SPARSE,
    Entry,
    body_hash,
    unsigned,
)
from ctrecorder.columns import BY_NAME, COLUMNS, Array, Column, Table
from ctrecorder.runs import pack, pack_planes


@dataclass(frozen=True)
class Scheme:
    """How to store one column.

    `partner`: the column that it resembles (addresses: mostly equal; numbers: near).  `dictionary`: of its distinct values, if these are at
    most one in `dictionary` rows (0: never).  `level`: of zstd, None: the block's, 0: do not try (noise).
    """

    partner: str = ""
    dictionary: int = 0
    delta: bool = False
    planes: bool = True
    level: int | None = None
    sparse: bool = False
    scale: bool = False


Plan = Mapping[str, Scheme]

_ADDRESS = Scheme(dictionary=1)
_FEW = Scheme(dictionary=16)
_COUNTER = Scheme(sparse=True)
LIVE: Plan = {
    "time": Scheme(delta=True),
    "orig_src": _ADDRESS,
    "orig_dst": _ADDRESS,
    "reply_src": Scheme(partner="orig_dst", dictionary=1),
    "reply_dst": Scheme(partner="orig_src", dictionary=1),
    "reply_sport": Scheme(partner="orig_dport"),
    "reply_dport": Scheme(partner="orig_sport"),
    "id": Scheme(planes=False, level=0),
    "status": _FEW,
    "known": _FEW,
    "zone": _FEW,
    "mark": _FEW,
    "start": Scheme(sparse=True),
    "stop": Scheme(sparse=True, partner="time"),
    "orig_packets": _COUNTER,
    "orig_bytes": _COUNTER,
    "reply_packets": _COUNTER,
    "reply_bytes": _COUNTER,
    "tcp_state": Scheme(sparse=True),
}
_PLAIN = Scheme()


def encode_columns(table: Table, level: int = 1, plan: Plan = LIVE) -> bytes:
    """`table` as a payload in form COLUMNS, zstd frames of `level`."""
    encoder = _Encoder(table, level)
    stored = [column for column in COLUMNS if column.name in table.columns]
    parts = [part for column in stored if (part := encoder.column(column, plan.get(column.name, _PLAIN))) is not None]
    length = HEAD.size + len(parts) * ENTRY.size + sum(len(part.dictionary) for part in parts)
    directory = [part.entry.store() for part in parts]
    return b"".join(
        [HEAD.pack(len(parts), 0, length), *directory, *(part.dictionary for part in parts), *(part.body for part in parts)]
    )


def encode_rows(table: Table, level: int = 1) -> bytes:
    """`table` as a payload in form ROWS."""
    stored = [(column, table.columns[column.name]) for column in COLUMNS if column.name in table.columns]
    stored = [(column, values) for column, values in stored if _any(values)] or [(BY_NAME["known"], table["known"])]
    formats = [values.dtype.str for _, values in stored]
    records = np.empty(len(table), np.dtype({"names": [column.name for column, _ in stored], "formats": formats}))
    for column, values in stored:
        records[column.name] = values
    layout = bytes([len(stored)]) + b"".join(bytes([column.id, values.dtype.itemsize]) for column, values in stored)
    return layout + pack(records.view(np.uint8), level)


class _Part(NamedTuple):
    entry: Entry
    dictionary: bytes
    body: bytes


class _Encoder:
    """Encodes the columns of one table."""

    def __init__(self, table: Table, level: int) -> None:
        self._table, self._level = table, level
        self._selected: dict[bytes, Array] = {}

    def column(self, column: Column, scheme: Scheme) -> _Part | None:
        """The column as stored; None if it is zero in every row."""
        values = np.ascontiguousarray(self._table.columns[column.name])
        if not _any(values):
            return None
        encoding, selected = 0, None
        if scheme.sparse:
            selected = self._selection(column, values)
        if selected is not None:
            encoding, values = SPARSE, values[selected]
        if values.dtype.kind == "S":
            return self._wide(column, values, scheme, encoding, selected)
        return self._narrow(column, values, scheme, encoding, selected)

    def _selection(self, column: Column, values: Array) -> Array | None:
        """The numbers of the rows in which `column` is known, if these are not all rows, and it is 0 in the others."""
        known = self._table["known"]
        if "known" not in self._table.columns:
            return None
        marked = (known & np.uint32(1 << column.id)) != 0
        key = np.packbits(marked).tobytes()
        selected = self._selected.get(key)
        if selected is None:
            selected = self._selected[key] = np.flatnonzero(marked)
        if len(selected) == len(values) or np.count_nonzero(values) != np.count_nonzero(values[selected]):
            return None
        return selected

    def _partner(self, scheme: Scheme, selected: Array | None) -> Array | None:
        if not scheme.partner or scheme.partner not in self._table.columns:
            return None
        values = np.ascontiguousarray(self._table.columns[scheme.partner])
        return values if selected is None else values[selected]

    def _wide(self, column: Column, values: Array, scheme: Scheme, encoding: int, selected: Array | None) -> _Part:
        """An IPv6 address column: constant, as the partner or by dictionary, or plain in planes."""
        if _constant(values):
            low, high = struct.unpack("<qq", values[:1].tobytes())
            return _Part(_entry(column, encoding | CONSTANT, low=low, high=high), b"", b"")
        return self._by_dictionary(column, values, scheme, encoding, selected) or self._body(
            column, values.view(np.uint8).reshape(-1, 16), scheme, encoding, {}
        )

    def _narrow(self, column: Column, values: Array, scheme: Scheme, encoding: int, selected: Array | None) -> _Part:
        numbers = values.view(unsigned(values.dtype))
        if _constant(numbers):
            return _Part(_entry(column, encoding | CONSTANT, low=int(values[0])), b"", b"")
        if scheme.dictionary:
            part = self._by_dictionary(column, values, scheme, encoding, selected)
            if part is not None:
                return part
        fields = {}
        partner = None if column.kind == "addr" else self._partner(scheme, selected)
        if partner is not None:
            numbers = numbers - partner.view(numbers.dtype)
            encoding |= DIFFERENCE
            fields["partner"] = BY_NAME[scheme.partner].id
        return self._store_numbers(column, numbers, scheme, encoding, fields, b"", signed=partner is not None or values.dtype.kind == "i")

    def _by_dictionary(self, column: Column, values: Array, scheme: Scheme, encoding: int, selected: Array | None) -> _Part | None:
        partner = self._partner(scheme, selected)
        fields = {}
        encoding |= DICTIONARY
        if partner is None:
            distinct, index = distinct_values(values)
        else:
            encoding |= SAME
            fields["partner"] = BY_NAME[scheme.partner].id
            others = np.flatnonzero(values != partner)
            distinct, exceptions = distinct_values(values[others])
            index = np.zeros(len(values), np.uint32)
            index[others] = exceptions + np.uint32(1)
        if len(distinct) * scheme.dictionary > len(values):
            return None
        fields["entries"] = len(distinct)
        dictionary = _dictionary(distinct, self._level)
        return self._store_numbers(column, index, scheme, encoding, fields, dictionary, signed=False)

    def _store_numbers(
        self, column: Column, numbers: Array, scheme: Scheme, encoding: int, fields: dict[str, int], dictionary: bytes, signed: bool
    ) -> _Part:
        """Numbers or indexes as narrow items above the least, `low`; then planes and zstd."""
        first = 0
        if scheme.delta and len(numbers) > 1:
            encoding, signed, first = encoding | DELTA, True, int(numbers[0])
            differences = np.empty_like(numbers)
            differences[0] = 0
            np.subtract(numbers[1:], numbers[:-1], out=differences[1:])
            differences[0] = differences[1]
            numbers = differences
        ordered = numbers.view(f"<i{numbers.dtype.itemsize}") if signed else numbers
        low, high = int(ordered.min()), int(ordered.max())
        fields |= {"low": low, "high": first if encoding & DELTA else high}
        if low == high:
            return _Part(_entry(column, encoding | CONSTANT, dictionary_length=len(dictionary), **fields), dictionary, b"")
        scale = _scale(numbers, low) if scheme.scale else 0
        spread = (high - low) // 10**scale
        width = 1 if spread < 1 << 8 else 2 if spread < 1 << 16 else 4 if spread < 1 << 32 else 8
        items = numbers - numbers.dtype.type(low & (1 << 8 * numbers.dtype.itemsize) - 1) if low else numbers
        if scale:
            items = items // items.dtype.type(10**scale)
            fields["scale"] = scale
        return self._body(column, items.astype(f"<u{width}"), scheme, encoding, fields, dictionary)

    def _body(self, column: Column, items: Array, scheme: Scheme, encoding: int, fields: dict[str, int], dictionary: bytes = b"") -> _Part:
        level = self._level if scheme.level is None else scheme.level
        width = items.dtype.itemsize
        if items.ndim == 2:
            items, width = items.view("S16").reshape(-1), 16
        if width == 16 or (scheme.planes and width > 1):
            encoding |= PLANES
            body = pack_planes(items, level)
        else:
            body = pack(items, level) if level else items.tobytes()
        entry = _entry(column, encoding, width=width, dictionary_length=len(dictionary), body_length=len(body), hash=body_hash(body), **fields)
        return _Part(entry, dictionary, body)


def distinct_values(values: Array) -> tuple[Array, Array]:
    """The distinct values of `values` (n,), ascending, and for each row its place among them, (n,) uint32.

    Faster than sorting: each row goes to one of 65,536 slots by a hash (two-byte values: by themselves), and only rows that find another value
    in their slot are sorted.
    """
    if values.dtype.kind == "S":
        return _distinct_wide(values)
    if len(values) < 4096:
        distinct, index = np.unique(values, return_inverse=True)
        return distinct, index.astype(np.uint32)
    slot = _slots(values)
    table = np.empty(1 << 16, values.dtype)
    table[slot] = values
    strays = np.flatnonzero(table[slot] != values)
    used = np.zeros(1 << 16, np.bool_)
    used[slot] = True
    places = np.flatnonzero(used)
    distinct = table[places]
    if len(strays):
        others, other_index = np.unique(values[strays], return_inverse=True)
        distinct = np.concatenate((distinct, others))
    order = np.argsort(distinct, kind="stable")
    rank = np.empty(len(distinct), np.uint32)
    rank[order] = np.arange(len(distinct), dtype=np.uint32)
    of_slot = np.zeros(1 << 16, np.uint32)
    of_slot[places] = rank[: len(places)]
    index = of_slot[slot]
    if len(strays):
        index[strays] = rank[len(places) + other_index]
    return distinct[order], index


def _slots(values: Array) -> Array:
    """A slot in 0..65535 for each value: Knuth's multiplicative hash, its upper 16 bits."""
    size = values.dtype.itemsize
    numbers = values.view(unsigned(values.dtype))
    if size <= 2:
        return numbers.astype(np.intp)
    if size == 4:
        return (numbers * np.uint32(2654435761) >> np.uint32(16)).astype(np.intp)
    return (numbers * np.uint64(11400714819323198485) >> np.uint64(48)).astype(np.intp)


def _distinct_wide(values: Array) -> tuple[Array, Array]:
    """The same for 16-byte values, by a 64-bit key for each; where two values share a key, by sorting."""
    halves = values.view("<u8").reshape(-1, 2)
    keys = halves[:, 0] * np.uint64(11400714819323198485) ^ (halves[:, 1] + (halves[:, 0] >> np.uint64(32))) * np.uint64(14029467366897019727)
    by_key, index = distinct_values(keys)
    one = np.empty(len(by_key), np.intp)
    one[index] = np.arange(len(values))
    distinct = values[one]
    if not (distinct[index].view("<u8") == values.view("<u8")).all():
        distinct, index = np.unique(values, return_inverse=True)
        return distinct, index.astype(np.uint32)
    order = np.argsort(distinct, kind="stable")
    rank = np.empty(len(order), np.uint32)
    rank[order] = np.arange(len(order), dtype=np.uint32)
    return distinct[order], rank[index]


def _dictionary(distinct: Array, level: int) -> bytes:
    if not len(distinct):
        return b""
    if distinct.dtype.kind == "S":
        numbers = distinct.view("<u8").reshape(-1, 2)
        steps = numbers.copy()
        steps[1:] ^= numbers[:-1]
        return pack_planes(steps.view("S16").reshape(-1), level)
    numbers = distinct.view(unsigned(distinct.dtype))
    return pack_planes(np.diff(numbers, prepend=numbers.dtype.type(0)), level)


def _scale(numbers: Array, low: int) -> int:
    """The greatest of 9, 6, 3 (s, ms, us) so that all numbers are `low` plus a multiple of that power of ten; else 0."""
    above = numbers - numbers.dtype.type(low & (1 << 8 * numbers.dtype.itemsize) - 1)
    for scale in (9, 6, 3):
        if not (above % above.dtype.type(10**scale)).any():
            return scale
    return 0


def _signed64(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _any(values: Array) -> bool:
    """If any value is not zero."""
    if values.dtype.kind == "S":
        return bool(np.ascontiguousarray(values).view("<u8").any())
    return bool(values.any())


def _constant(values: Array) -> bool:
    return bool(values[-1] == values[0]) and bool((values == values[0]).all())


def _entry(
    column: Column,
    encoding: int,
    *,
    width: int = 0,
    partner: int = 0,
    scale: int = 0,
    entries: int = 0,
    dictionary_length: int = 0,
    body_length: int = 0,
    low: int = 0,
    high: int = 0,
    hash: bytes = bytes(HASH_SIZE),
) -> Entry:
    return Entry(column.id, encoding, width, partner, scale, entries, dictionary_length, body_length, _signed64(low), _signed64(high), hash)
