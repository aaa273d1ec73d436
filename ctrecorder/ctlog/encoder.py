"""A table to the payload of a block.  `codec` reads what this writes, and names the encodings.

A `Plan` has a `Scheme` for each column: what to try.  Whatever a plan says, the values come back
exactly: an encoding that cannot hold a column's values is not used for it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import BY_NAME, COLUMNS, Array, Column, Table
from ctrecorder.ctlog.compression import pack, pack_planes
from ctrecorder.ctlog.index import (
    CONSTANT,
    DELTA,
    DICTIONARY,
    DIFFERENCE,
    ENTRY,
    HEAD,
    PLANES,
    RANGES,
    SAME,
    SPARSE,
    Entry,
    body_hash,
    unsigned,
)
from ctrecorder.ctlog.ranges import GREATEST, pack_ranges
from ctrecorder.ctlog.unique import Places, distinct, estimate


@dataclass(frozen=True)
class ColumnEncoding:
    """A way to store a column."""

    partner: str = (
        ""  # the column that it resembles: an address is mostly equal to it, a number near it
    )
    dictionary: int = (
        0  # make one if there are at least so many rows for each distinct value; 0: never
    )
    most_entries: int | None = None  # and no more distinct values than this
    delta: bool = False
    planes: bool = True
    level: int | None = None  # of zstd; None: the block's; 0: noise, do not try
    sparse: bool = False  # leave out the rows in which it is not known
    scale: bool = False  # look for a common power of ten
    ranges: int = (
        0  # 64-bit numbers of many magnitudes: in ranges, if there are at least so many; 0: never
    )


EncodingPlan = Mapping[str, ColumnEncoding]

_PLAIN = ColumnEncoding()
# In a block of a flood to everywhere, to find and sort thousands of addresses would take a third of
# all encoding, and a search gains nothing: the dictionary would be as long as the column.
_MOST = 4096
_ADDRESS = ColumnEncoding(dictionary=1, most_entries=_MOST)
_FEW = ColumnEncoding(dictionary=16)
_COUNTER = ColumnEncoding(sparse=True)
# For the recorder: one try for each column, what costs little and gives much.  Measured on 1.1
# million events of a university's network, all columns: 18.5 bytes and 0.16 us an event.  10 of the
# bytes are noise: ids, source ports, the low bytes of times.
LIVE: EncodingPlan = {
    "time": ColumnEncoding(delta=True),
    "orig_src": _ADDRESS,
    "orig_dst": _ADDRESS,
    "reply_src": ColumnEncoding(partner="orig_dst", dictionary=1, most_entries=_MOST),
    "reply_dst": ColumnEncoding(partner="orig_src", dictionary=1, most_entries=_MOST),
    "orig_sport": ColumnEncoding(planes=False),
    "orig_dport": ColumnEncoding(planes=False),
    "reply_sport": ColumnEncoding(partner="orig_dport"),
    "reply_dport": ColumnEncoding(partner="orig_sport"),
    "id": ColumnEncoding(planes=False, level=0),
    "status": _FEW,
    "present": _FEW,
    "zone": _FEW,
    "mark": _FEW,
    "start": ColumnEncoding(sparse=True),
    "stop": ColumnEncoding(sparse=True, partner="time"),
    "orig_packets": _COUNTER,
    "orig_bytes": _COUNTER,
    "reply_packets": _COUNTER,
    "reply_bytes": _COUNTER,
    "tcp_state": _COUNTER,
}


def encode_columns(table: Table, level: int = 1, plan: EncodingPlan = LIVE) -> bytes:
    """`table` as a payload in form COLUMNS, zstd frames of `level`."""
    parts = encode_parts(table, level, plan).values()
    length = HEAD.size + len(parts) * ENTRY.size + sum(len(part.dictionary) for part in parts)
    directory = [part.entry.store() for part in parts]
    dictionaries, bodies = [part.dictionary for part in parts], [part.body for part in parts]
    return b"".join((HEAD.pack(len(parts), 0, length), *directory, *dictionaries, *bodies))


def encode_small(table: Table, level: int = 1) -> bytes:
    """`table` as a payload in form SMALL."""
    stored = [
        column for column in COLUMNS if column.name in table.columns and _any(table[column.name])
    ] or [BY_NAME["present"]]
    layout = [
        byte for column in stored for byte in (column.id, column.dtype(table.family).itemsize)
    ]
    run = b"".join(table[column.name].tobytes() for column in stored)
    return bytes([len(stored), *layout]) + pack(np.frombuffer(run, np.uint8), level)


class Part(NamedTuple):
    """A column as stored."""

    entry: Entry
    dictionary: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Its bytes beside the entry."""
        return len(self.dictionary) + len(self.body)


def encode_parts(table: Table, level: int, plan: EncodingPlan) -> dict[str, Part]:
    """The columns of `table` as stored, by name, in the order of their ids; those that are all zero
    are left out.
    """
    encoder = Encoder(table, level)
    parts = {
        column.name: encoder.encode(column, plan.get(column.name, _PLAIN))
        for column in COLUMNS
        if column.name in table.columns
    }
    return {name: part for name, part in parts.items() if part is not None}


@dataclass
class _Draft:
    """A column on its way: the numbers or places of its rows (of `selected`, if not all), and what
    its entry will be.
    """

    column: Column
    scheme: ColumnEncoding
    values: Array
    encoding: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    selected: NDArray[np.intp] | None = None
    dictionary: bytes = b""

    def note(self, encoding: int = 0, **fields: Any) -> None:
        """Add to the entry: bits of the encoding, fields."""
        self.encoding |= encoding
        self.fields.update(fields)

    def part(self, body: bytes = b"") -> Part:
        self.note(dictionary_length=len(self.dictionary), body_length=len(body))
        if body:
            self.note(hash=body_hash(body))
        return Part(Entry(self.column.id, self.encoding, **self.fields), self.dictionary, body)


class Encoder:
    """Encodes the columns of one table."""

    def __init__(self, table: Table, level: int) -> None:
        self._table, self._level = table, level
        self._known: tuple[Array, Places] | None = None
        self._selected: dict[bytes, NDArray[np.intp]] = {}

    def encode(self, column: Column, scheme: ColumnEncoding) -> Part | None:
        """`column` by `scheme`; None if it is zero in every row."""
        draft = _Draft(column, scheme, np.ascontiguousarray(self._table[column.name]))
        if _constant(draft.values):
            return _constant_part(draft) if _any(draft.values[:1]) else None
        if scheme.sparse:
            self._leave_out_unknown(draft)
            if _constant(draft.values):
                return _constant_part(draft)
        if draft.values.dtype.kind == "S":
            return self._encode_wide(draft)
        draft.values = draft.values.view(unsigned(draft.values.dtype))
        if self._use_dictionary(draft):
            return self._encode_numbers(draft, signed=False)
        partner = self._partner(draft)
        if partner is not None and column.kind != "addr":
            draft.note(DIFFERENCE, partner=BY_NAME[scheme.partner].id)
            draft.values = draft.values - partner.view(draft.values.dtype)
        return self._encode_numbers(
            draft, signed=bool(draft.encoding & DIFFERENCE) or column.kind == "<i8"
        )

    def _leave_out_unknown(self, draft: _Draft) -> None:
        """Keep the rows in which the column is known, if these are not all, and it is 0 in the others."""
        if "present" not in self._table:
            return
        if self._known is None:
            self._known = distinct(np.ascontiguousarray(self._table["present"]))
        kinds, places = self._known
        marked = (kinds & np.uint32(1 << draft.column.id)) != 0
        if marked.all() or not marked.any():
            return
        selected = self._selected.get(marked.tobytes())
        if selected is None:
            selected = self._selected[marked.tobytes()] = np.flatnonzero(marked[places])
        kept = draft.values[selected]
        if np.count_nonzero(kept) == np.count_nonzero(draft.values):
            draft.note(SPARSE)
            draft.values, draft.selected = kept, selected

    def _partner(self, draft: _Draft) -> Array | None:
        if draft.scheme.partner not in self._table.columns:
            return None
        values = np.ascontiguousarray(self._table[draft.scheme.partner])
        return values if draft.selected is None else values[draft.selected]

    def _encode_wide(self, draft: _Draft) -> Part:
        """IPv6 addresses: as the partner or by dictionary, or in planes."""
        if self._use_dictionary(draft):
            return self._encode_numbers(draft, signed=False)
        draft.note(PLANES, width=16)
        return draft.part(pack_planes(draft.values, self._level))

    def _use_dictionary(self, draft: _Draft) -> bool:
        """Replace values by their places in a dictionary; False: the scheme does not want one of so
        many entries.
        """
        scheme = draft.scheme
        if not scheme.dictionary:
            return False
        values = draft.values.view(draft.column.dtype(self._table.family))
        most = len(values) // scheme.dictionary
        if scheme.most_entries is not None:
            most = min(most, scheme.most_entries)
        partner = self._partner(draft)
        others = None if partner is None else np.flatnonzero(values != partner)
        found = _distinct_up_to(values if others is None else values[others], most)
        if found is None:
            return False
        entries, places = found
        if others is not None:
            of_others, places = places, np.zeros(len(values), np.uint32)
            places[others] = of_others + np.uint32(1)
        if partner is not None:
            draft.note(SAME, partner=BY_NAME[scheme.partner].id)
        draft.note(DICTIONARY, entries=len(entries))
        draft.dictionary = _pack_dictionary(entries, self._level)
        draft.values = places
        return True

    def _encode_numbers(self, draft: _Draft, signed: bool) -> Part:
        """Numbers, or places in a dictionary, as narrow items above the least one."""
        numbers, first = draft.values, None
        if draft.scheme.delta and len(numbers) > 1:
            if draft.encoding & DICTIONARY:
                numbers = numbers.astype(np.uint32)  # as they are read
            first = int(numbers[0])
            differences = np.empty_like(numbers)
            np.subtract(numbers[1:], numbers[:-1], out=differences[1:])
            differences[0] = differences[1]
            numbers = differences
            draft.note(DELTA)
        if signed or first is not None:
            ordered = numbers.view(f"<i{numbers.dtype.itemsize}")
        else:
            ordered = numbers
        low, high = int(ordered.min()), int(ordered.max())
        draft.note(low=signed64(low), high=signed64(high if first is None else first))
        if low == high:
            draft.note(CONSTANT)
            return draft.part()
        if 0 < draft.scheme.ranges <= len(numbers) and numbers.dtype.itemsize == 8:
            above = 0 if draft.encoding & (DELTA | DIFFERENCE) else low
            if low - above > -GREATEST and high - above < GREATEST:
                return self._encode_ranges(
                    draft, (numbers - _modulo(above, numbers)).view(np.int64), above
                )
        items = numbers - _modulo(low, numbers) if low else numbers
        spread = high - low
        if draft.scheme.scale:
            scale = _common_scale(items)
            draft.note(scale=scale)
            items, spread = items // items.dtype.type(10**scale), spread // 10**scale
        return self._encode_items(draft, items.astype(_narrowest(spread), copy=False))

    def _encode_ranges(self, draft: _Draft, items: NDArray[np.int64], above: int) -> Part:
        """Items of either sign, above `above`, as ranges; lives end at whole seconds and a little
        more, so these may be peaks.
        """
        scale = _common_scale(items) if draft.scheme.scale else 0
        step = (
            10 ** (9 - scale) if draft.encoding & DIFFERENCE and not draft.encoding & DELTA else 0
        )
        draft.note(RANGES, low=signed64(above), scale=scale)
        return draft.part(pack_ranges(items // 10**scale, self._level, step))

    def _encode_items(self, draft: _Draft, items: Array) -> Part:
        level = self._level if draft.scheme.level is None else draft.scheme.level
        draft.note(width=items.dtype.itemsize)
        if draft.scheme.planes and items.dtype.itemsize > 1:
            draft.note(PLANES)
            return draft.part(pack_planes(items, level))
        return draft.part(pack(items, level))


def _constant_part(draft: _Draft) -> Part:
    """All values are the first, which is in the entry."""
    if draft.values.dtype.kind == "S":
        low, high = struct.unpack("<qq", draft.values[:1].tobytes())
        draft.note(CONSTANT, low=low, high=high)
    else:
        draft.note(CONSTANT, low=signed64(int(draft.values[0])))
    return draft.part()


def _distinct_up_to(values: Array, most: int) -> tuple[Array, Places] | None:
    """As `distinct`, of no value too; None if there are more than `most`, which a sample often tells."""
    if not len(values):
        return values, np.zeros(0, np.uint32)
    if len(values) > most and estimate(values) > most:
        return None
    found = distinct(values)
    return found if len(found[0]) <= most else None


def _pack_dictionary(entries: Array, level: int) -> bytes:
    """Each entry as the difference (16 bytes: exclusive or) to the one before, in planes."""
    if not len(entries):
        return b""
    if entries.dtype.kind == "S":
        halves: Array = entries.view("<u8").reshape(-1, 2)
        steps = halves.copy()
        steps[1:] ^= halves[:-1]
        return pack_planes(steps.view("S16").reshape(-1), level)
    numbers = entries.view(unsigned(entries.dtype))
    return pack_planes(np.diff(numbers, prepend=numbers.dtype.type(0)), level)


def _narrowest(spread: int) -> str:
    """The dtype of the fewest bytes that holds 0..spread."""
    return next(
        dtype
        for bits, dtype in ((8, "<u1"), (16, "<u2"), (32, "<u4"), (64, "<u8"))
        if spread < 1 << bits
    )


def _common_scale(items: Array) -> int:
    """The greatest of 9, 6, 3 (s, ms, us) so that all items are multiples of that power of ten;
    else 0.
    """
    for scale in (9, 6, 3):
        step = 10**scale
        # Most are found out by the first few.
        if step < 1 << 8 * items.dtype.itemsize and not any(
            (some % items.dtype.type(step)).any() for some in (items[:64], items)
        ):
            return scale
    return 0


def _modulo(number: int, like: Array) -> Any:
    """`number` as a scalar of the unsigned dtype of `like`, modulo its size."""
    return like.dtype.type(number & ((1 << 8 * like.dtype.itemsize) - 1))


def signed64(number: int) -> int:
    """`number` modulo 2**64 as a signed 64-bit integer."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _any(values: Array) -> bool:
    """If any value is not zero."""
    return bool(
        (np.ascontiguousarray(values).view("<u8") if values.dtype.kind == "S" else values).any()
    )


def _constant(values: Array) -> bool:
    return bool(values[-1] == values[0]) and bool((values == values[0]).all())
