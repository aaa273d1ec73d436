"""The payload of EVENTS or CONNECTIONS: its index, and the form SMALL.  `lazy` reads the columns,
`encoder` writes what both read.

There are two forms.  SMALL, for blocks of few rows: all columns, plain, as one run; there is nearly
no overhead, and thousands of such blocks are read as one table.  COLUMNS, for all others: an index
(directory and dictionaries), then a body for each column, so that a search reads the index, and
then only the columns that it needs.  ctlog(5) is the specification.

Nothing here does I/O.  The bytes are a stranger's: each length, count, width and number is checked
before memory is taken for it; what is wrong raises FormatError with its offset in the payload.
Memory is bounded by `rows`, which `format` has checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from ctrecorder.columns import BY_ID, BY_NAME, Array, Table
from ctrecorder.ctlog.compression import Buffer, unpack, unpack_planes
from ctrecorder.errors import FormatError, NewerError

# Forms of a payload, as the block's frame says.
WHOLE = 0  # neither: JSON, or a footer
FORM_COLUMNS = 1
FORM_SMALL = 2

# Encodings, in the order in which the writer applies them.
SPARSE = 0x01  # only the rows whose `present` has the column's bit; the others are 0
DIFFERENCE = 0x02  # to the partner column, in the same row
SAME = 0x04  # index 0 says "as the partner", index N the dictionary's entry N - 1
DICTIONARY = 0x08  # an index into the column's dictionary
DELTA = 0x10  # to the item before
CONSTANT = 0x20  # all items are 0, so that `low` is all: there is no body
PLANES = 0x40  # the first byte of every item, then the second, ...
RANGES = 0x80  # which range each item is in, and where in it
ENCODINGS: Mapping[str, int] = {
    "SPARSE": SPARSE,
    "DIFFERENCE": DIFFERENCE,
    "SAME": SAME,
    "DICTIONARY": DICTIONARY,
    "DELTA": DELTA,
    "CONSTANT": CONSTANT,
    "PLANES": PLANES,
    "RANGES": RANGES,
}

HEAD = struct.Struct("<HHI")  # columns, 0, length of the index
ENTRY = struct.Struct("<BHBBB2xIII4xqq16s")
HASH_SIZE = 16
# A power of ten times any item fits 64 bits, so that a scale is a time's resolution (us 3, ms 6, s
# 9) and nothing else.
MAX_SCALE = 9
WIDTHS = (1, 2, 4, 8)
# Bytes of the columns of a block in form SMALL: the form is not for blocks that are larger, and a
# search must read all of it.
MAX_SMALL = 1 << 20


class Entry(NamedTuple):
    """A column's entry in the directory; `place`, `dictionary_place`, `body_place` are offsets in
    the payload, and not stored.
    """

    id: int
    encoding: int
    width: int = 0  # bytes of an item
    partner: int = 0  # the id of the column it leans on
    scale: int = 0  # items count steps of this power of ten
    entries: int = 0  # of the dictionary
    dictionary_length: int = 0
    body_length: int = 0
    low: int = 0  # the least number, which item 0 stands for; with DELTA the least difference
    high: int = 0  # the greatest number; with DELTA the first
    hash: bytes = bytes(HASH_SIZE)  # of the body
    place: int = 0
    dictionary_place: int = 0
    body_place: int = 0

    def store(self) -> bytes:
        """The 56 bytes of the directory."""
        return ENTRY.pack(*self[:11])


class Bound(NamedTuple):
    """What the index tells of a column: values lie in low..high, and in one of `parts` (ascending,
    distinct) if there are any.
    """

    low: int | bytes
    high: int | bytes
    parts: tuple[Array, ...] = ()


def body_hash(body: Buffer) -> bytes:
    """The hash of a column's body in its entry; the entry is under the frame's hash, and so the
    body is.
    """
    return blake2b(body, digest_size=HASH_SIZE).digest()


class Index:
    """The index of a payload in form COLUMNS: `columns` maps names to entries; a column that is not
    there is all zero.

    `data`: at least the index, from the payload's first byte; `payload_length` as the frame has it.
     Ids that this version does not know are passed over.  Raises FormatError.
    """

    def __init__(self, data: Buffer, family: int, rows: int, payload_length: int) -> None:
        self.family, self.rows = family, rows
        self.columns: dict[str, Entry] = {}
        self._dictionaries: dict[str, Array] = {}
        count, self.length = index_head(data, payload_length)
        self._data = data
        place = HEAD.size
        dictionary_place = HEAD.size + count * ENTRY.size
        body_place, before = self.length, 0
        if dictionary_place > self.length or len(data) < self.length:
            raise FormatError(
                f"a directory of {count} columns in an index of {self.length} bytes", offset=0
            )
        for fields in ENTRY.iter_unpack(data[HEAD.size : dictionary_place]):
            entry = Entry._make((*fields, place, dictionary_place, body_place))
            if entry.id <= before:
                raise FormatError(f"column {entry.id} after column {before}", offset=place)
            before = entry.id
            place += ENTRY.size
            dictionary_place += entry.dictionary_length
            body_place += entry.body_length
            column = BY_ID.get(entry.id)
            if column is not None:
                _check(entry, column.dtype(family), rows)
                self.columns[column.name] = entry
        if dictionary_place != self.length:
            raise FormatError(
                f"dictionaries up to byte {dictionary_place} in an index of {self.length}", offset=0
            )
        if body_place != payload_length:
            raise FormatError(
                f"columns up to byte {body_place} in a payload of {payload_length}", offset=0
            )

    def bound(self, name: str) -> Bound | None:
        """What is known of the values of column `name` without reading it; None: nothing.

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
        """Arrays, each ascending, that the column's values lie in, or (not DICTIONARY) between;
        None: not known.
        """
        if entry.encoding & DIFFERENCE:
            return None
        if entry.encoding & DICTIONARY:
            partner = self.bound(BY_ID[entry.partner].name) if entry.encoding & SAME else None
            if entry.encoding & SAME and (partner is None or not partner.parts):
                return None
            return (*(partner.parts if partner else ()), self.dictionary(BY_ID[entry.id].name))
        if entry.encoding & DELTA or (dtype.kind == "S" and not entry.encoding & CONSTANT):
            return None
        if dtype.kind == "S":
            return (wide_constant(entry),)
        high = entry.low if entry.encoding & CONSTANT else entry.high
        return (np.array([entry.low, high], np.int64).astype(dtype),)

    def dictionary(self, name: str) -> Array:
        """The dictionary of column `name`: (entries,) of its dtype, ascending, distinct.

        Raises FormatError.
        """
        found = self._dictionaries.get(name)
        if found is None:
            found = self._dictionaries[name] = self._read_dictionary(
                self.columns[name], BY_NAME[name].dtype(self.family)
            )
        return found

    def _read_dictionary(self, entry: Entry, dtype: np.dtype[Any]) -> Array:
        """The entries are stored as planes of the differences (16-byte ones: exclusive or) to the
        entry before.
        """
        place, count = entry.dictionary_place, entry.entries
        if count == 0:
            return np.zeros(0, dtype)
        stored = self._data[place : place + entry.dictionary_length]
        planes = unpack_planes(stored, dtype.itemsize, count, place)
        if dtype.kind == "S":
            values: Array = (
                np.bitwise_xor.accumulate(planes.view("<u8"), axis=0).view(dtype).reshape(count)
            )
        else:
            values = np.cumsum(
                planes.view(unsigned(dtype)).reshape(count), dtype=unsigned(dtype)
            ).view(dtype)
        if not (values[1:] > values[:-1]).all():
            raise FormatError(f"the dictionary of column {entry.id} does not ascend", offset=place)
        return values


def index_head(data: Buffer, payload_length: int) -> tuple[int, int]:
    """The number of columns and the length of the index, from the first 8 bytes of a payload in
    form COLUMNS.  Raises FormatError.
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


def _check(entry: Entry, dtype: np.dtype[Any], rows: int) -> None:
    """What an entry of a known column must hold to; raises FormatError."""
    encoding = entry.encoding
    wide = dtype.kind == "S" and not encoding & DICTIONARY
    if encoding & ~sum(ENCODINGS.values()):
        reason = f"column {entry.id} has encoding 0x{encoding:04x}"
        raise NewerError(f"{reason}: made by a newer version of ctrecorder", offset=entry.place)
    wrong = (
        (encoding & SAME and not encoding & DICTIONARY)
        or (bool(encoding & (SAME | DIFFERENCE)) != (entry.partner != 0))
        or (encoding & SAME and encoding & DIFFERENCE)
        or (dtype.kind == "S" and encoding & DIFFERENCE)
        or (wide and encoding & DELTA)
        or (wide and not encoding & (CONSTANT | PLANES))
        or bool(entry.entries) != bool(entry.dictionary_length)
        or entry.entries > (rows if encoding & DICTIONARY else 0)
        or (encoding & CONSTANT and (entry.body_length or encoding & (PLANES | RANGES)))
        or (encoding & RANGES and (wide or encoding & (DICTIONARY | PLANES)))
        or entry.scale > MAX_SCALE
    )
    if not wrong and not encoding & CONSTANT:
        limit = 4 if encoding & DICTIONARY else dtype.itemsize
        if encoding & RANGES:
            wrong = entry.width != 0
        else:
            wrong = entry.width != 16 if wide else entry.width not in WIDTHS or entry.width > limit
    if wrong:
        raise FormatError(
            f"the directory contradicts itself for column {entry.id}", offset=entry.place
        )
    if entry.partner:
        partner = BY_ID.get(entry.partner)
        if partner is None or partner.kind != BY_ID[entry.id].kind:
            raise FormatError(
                f"column {entry.id} cannot lean on column {entry.partner}", offset=entry.place
            )


def wide_constant(entry: Entry) -> Array:
    """The address of 16 bytes, (1,), that stands in every row."""
    return np.frombuffer(struct.pack("<qq", entry.low, entry.high), "S16")


def _bound_of(parts: tuple[Array, ...]) -> Bound:
    filled = tuple(part for part in parts if len(part))
    return Bound(
        min(_scalar(part[:1]) for part in filled),
        max(_scalar(part[-1:]) for part in filled),
        filled,
    )


def _scalar(one: Array) -> Any:
    """The only value of an array as an int or as 16 bytes, with the trailing NULs that numpy drops."""
    return one.tobytes() if one.dtype.kind == "S" else int(one[0])


def unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The little-endian unsigned integer of the same size."""
    return np.dtype(f"<u{dtype.itemsize}")


def unknown_columns(payload: Buffer, form: int) -> set[int]:
    """The ids in a sound payload of columns that this version does not know, and passes over."""
    if form == FORM_SMALL:
        ids = payload[1 : 1 + 2 * payload[0] : 2]
    else:
        count, _ = index_head(payload, len(payload))
        ids = payload[HEAD.size : HEAD.size + count * ENTRY.size : ENTRY.size]
    return set(bytes(ids)) - BY_ID.keys()


def small_layout(payload: Buffer, family: int) -> bytes:
    """The first part of a payload in form SMALL, which names its columns; blocks with equal ones
    are read as one.  Raises FormatError.
    """
    count = payload[0] if len(payload) else 0
    layout = bytes(payload[: 1 + 2 * count])
    if not count or len(layout) != 1 + 2 * count:
        raise FormatError(f"{len(payload)} bytes are too few for {count} columns", offset=0)
    _check_layout(layout, family)
    return layout


@lru_cache(
    maxsize=64
    # one for each set of columns that events come with; a search meets each of them thousands of
    # times
)
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
    """The columns of a payload in form SMALL, one after the other: for each of `layout`, `rows`
    times its width.  Raises FormatError.
    """
    length = rows * sum(layout[2::2])
    if length > MAX_SMALL:
        raise FormatError(f"{rows} rows in form SMALL", offset=0)
    return unpack(payload[len(layout) :], length, len(layout))


def small_table(
    layout: bytes,
    runs: Sequence[tuple[int, Buffer]],
    family: int,
    names: Iterable[str] | None = None,
) -> Table:
    """One or more blocks of one `layout`, each its number of rows and its run, as a table of the
    columns `names` (default: all).
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
