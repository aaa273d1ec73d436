"""Decodes the columns of a block in form COLUMNS when they are read: all rows, or some rows.

A search for an address compares indexes into dictionaries, and reads no body if the dictionary
lacks the address.  Then it reads the other columns only in the rows that it found.

The bytes are not trusted: damage raises FormatError with its offset in the payload.  `codecs` has
the steps, `index` the entries and dictionaries.  No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ctrecorder.columns import BY_ID, BY_NAME, Array, Table
from ctrecorder.ctlog.codecs import (
    Bools,
    Delta,
    Dictionary,
    Difference,
    Grouped,
    Items,
    Rows,
    Scale,
    Sparse,
    modulo,
)
from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.entry import (
    CONSTANT,
    DELTA,
    DICTIONARY,
    DIFFERENCE,
    GROUPED,
    PLANES,
    RANGES,
    SAME,
    SPARSE,
    UNSIGNED,
    Entry,
    body_hash,
    unsigned,
)
from ctrecorder.ctlog.index import (
    FORM_SMALL,
    Index,
    address16_constant,
    small_layout,
    small_run,
    small_table,
)
from ctrecorder.ctlog.ranges import FEW_ROWS, Ranges
from ctrecorder.errors import FormatError

Fetch = Callable[[int, int], Buffer]
# If more than one row in this many is read, all rows are decoded: decoding a single row takes about
# as long as decoding this many together.
_ROWS_PER_SINGLE_ROW = 32
# If the groups of the rows that are read have more than one row in this many, all are decoded: to
# unpack a single one of a range takes as long as this many together.
_ROWS_PER_GROUPED_ROW = 4
_INDEX = np.dtype(np.uint32)  # the type of indexes into a dictionary


class Selection(NamedTuple):
    """The items to decode: `rows` (ascending; None: all) of `stored` items."""

    stored: int
    rows: Rows | None = None

    @property
    def length(self) -> int:
        """The number of selected items."""
        return self.stored if self.rows is None else len(self.rows)

    def of(self, items: Array) -> Array:
        """The selected ones of all `items`, (count,)."""
        return items if self.rows is None else items[self.rows]


class LazyTable:
    """The rows of a block, or some of them, as a `Table`.  Each column is decoded once, when read.

    `fetch(offset, length)` returns bytes of the payload.  With `verify` each body is compared with
    its hash.  Raises FormatError.
    """

    def __init__(self, index: Index, fetch: Fetch, verify: bool = True) -> None:
        self.index, self._fetch, self._verify = index, fetch, verify
        self.family = index.family
        self._block: LazyTable | None = None  # the table of all rows; None: this one
        self._rows: Rows | None = None  # of the block; None: all
        self._decode_all = False  # decode all rows of the block, then select
        self._columns: dict[str, Array] = {}
        self._indexes_by_id: dict[int, Array] = {}  # into the dictionaries
        self._in_progress: set[str] = set()

    def __len__(self) -> int:
        return self.index.rows if self._rows is None else len(self._rows)

    @property
    def held_bytes(self) -> int:
        """Bytes of what is decoded so far."""
        decoded = (*self._columns.values(), *self._indexes_by_id.values())
        return self.index.held_bytes + sum(array.nbytes for array in decoded)

    def take(self, rows: Rows) -> LazyTable:
        """Some `rows`, ascending, of a table of all rows.  Columns already decoded are reused."""
        if len(rows) == len(self):
            return self
        found = LazyTable(self.index, self._fetch, self._verify)
        found._block, found._rows = self, rows
        found._decode_all = len(rows) * _ROWS_PER_SINGLE_ROW > len(self)
        return found

    def table(self, names: Iterable[str] | None = None) -> Table:
        """The columns `names` (default: all) that are stored."""
        wanted = (
            self.index.columns
            if names is None
            else [name for name in dict.fromkeys(names) if name in self.index.columns]
        )
        return Table(self.family, len(self), {name: self[name] for name in wanted})

    def __getitem__(self, name: str) -> Array:
        """The column `name`, (rows,); zeros if it is not stored."""
        found = self._columns.get(name)
        if found is None:
            entry = self.index.columns.get(name)
            dtype = BY_NAME[name].dtype(self.family)
            if entry is None:
                return np.broadcast_to(np.zeros((), dtype), (len(self),))
            if self._block is not None and (self._decode_all or name in self._block._columns):
                found = self._block[name][self._rows]
            else:
                self._begin(entry, name)
                try:
                    found = self._decode(entry, dtype)
                finally:
                    self._in_progress.discard(name)
            self._columns[name] = found
        return found

    def address_mask(self, name: str, low: bytes, high: bytes) -> Bools:
        """The rows, (rows,), whose address in column `name` is from `low` to `high`.

        `low` and `high`: as in `address_within`.
        """
        entry = self.index.columns.get(name)
        if (
            name in self._columns
            or entry is None
            or not entry.encoding & DICTIONARY
            or entry.encoding & SPARSE
        ):
            return address_within(self[name], low, high)
        inside = np.flatnonzero(address_within(self.index.dictionary(name), low, high))
        same = bool(entry.encoding & SAME)
        self._begin(entry, name)
        try:
            partner = self.address_mask(BY_ID[entry.partner].name, low, high) if same else None
            if not len(inside) and (partner is None or not partner.any()):
                return np.zeros(len(self), np.bool_)
            indexes = self._indexes(entry)
        finally:
            self._in_progress.discard(name)
        found: Bools = np.zeros(len(self), np.bool_)
        if len(inside):  # the dictionary is sorted, so the entries are neighbours
            first, last = int(inside[0]) + same, int(inside[-1]) + same
            found = indexes == first if first == last else (indexes >= first) & (indexes <= last)
        if partner is not None:
            found = found | (partner & (indexes == 0))
        return found

    def coded(self, name: str) -> tuple[Array, Array] | None:
        """Column `name` as indexes, (rows,), and the distinct values that they count; None if it
        is not stored so.

        Of a column that leans on a partner, a value can be there twice.
        """
        entry = self.index.columns.get(name)
        if entry is None or not entry.encoding & DICTIONARY or entry.encoding & SPARSE:
            return None
        if self._block is not None:
            found = self._block.coded(name)
            return None if found is None else (found[0][self._rows], found[1])
        dictionary = self.index.dictionary(name)
        if not entry.encoding & SAME:
            indexes = self._indexes(entry)
            Dictionary.check(indexes, len(dictionary), entry.body_offset)
            return indexes, dictionary
        self._begin(entry, name)
        try:
            partner = self.coded(BY_ID[entry.partner].name)
        finally:
            self._in_progress.discard(name)
        if partner is None:
            return None
        indexes = self._indexes(entry)
        Dictionary.check(indexes, len(dictionary) + 1, entry.body_offset)
        own = indexes + np.uint32(len(partner[1])) - np.uint32(1)
        return (
            np.where(indexes == 0, partner[0].astype(_INDEX), own),
            np.concatenate((partner[1], dictionary)),
        )

    def _begin(self, entry: Entry, name: str) -> None:
        """Note that column `name` is being decoded; FormatError if that needs the column itself."""
        if name in self._in_progress:
            raise FormatError(
                f"column {entry.id} depends on itself through partners", offset=entry.offset
            )
        self._in_progress.add(name)

    def _decode(self, entry: Entry, dtype: np.dtype[Any]) -> Array:
        """The column in the rows of this table."""
        stored = None
        if entry.encoding & SPARSE:
            if self._block is not None:
                return self._block._decode(entry, dtype)[self._rows]
            stored = self._stored_rows(entry)
        items = Selection(self.index.rows, self._rows) if stored is None else Selection(len(stored))
        partner = None
        if entry.partner:
            partner = self[BY_ID[entry.partner].name]
            partner = partner if stored is None else partner[stored]
        if entry.encoding & DICTIONARY:
            indexes = (
                self._indexes(entry) if stored is None else self._numbers(entry, items, _INDEX)
            )
            dictionary = self.index.dictionary(BY_ID[entry.id].name)
            same = partner if entry.encoding & SAME else None
            values = Dictionary.decode(indexes, dictionary, same, entry.body_offset)
        elif dtype.kind == "S":
            values = self._address16(entry, items, dtype)
        else:
            values = self._numbers(entry, items, unsigned(dtype)).view(dtype)
        if entry.encoding & DIFFERENCE and partner is not None:
            values = Difference.decode(values, partner)
        return values if stored is None else Sparse.decode(values, stored, len(self))

    def _stored_rows(self, entry: Entry) -> Rows:
        """The rows in which a SPARSE column is stored."""
        if entry.id > 31:
            raise FormatError(f"column {entry.id} has no bit in `present`", offset=entry.offset)
        return np.flatnonzero(self["present"] & np.uint32(1 << entry.id))

    def _indexes(self, entry: Entry) -> Array:
        """(rows,): the indexes into the dictionary of a column that is not SPARSE."""
        found = self._indexes_by_id.get(entry.id)
        if found is None and self._block is not None and entry.id in self._block._indexes_by_id:
            found = self._block._indexes_by_id[entry.id][self._rows]
        if found is None:
            found = self._numbers(entry, Selection(self.index.rows, self._rows), _INDEX)
        self._indexes_by_id[entry.id] = found
        return found

    def _numbers(self, entry: Entry, items: Selection, dtype: np.dtype[Any]) -> Array:
        body = b"" if entry.encoding & CONSTANT else self._body(entry)
        if entry.encoding & GROUPED:
            whole = self if self._block is None else self._block
            return decode_grouped(entry, body, items, whole._group_begins(), dtype)
        return decode_numbers(entry, body, items, dtype)

    def _group_begins(self) -> Bools:
        """(rows,): where a group begins, of a table of all rows."""
        return Grouped.begins(map(self._distinguishing, Grouped.BY), len(self))

    def _distinguishing(self, name: str) -> Array:
        """(rows,): numbers that are equal where the values of column `name` are."""
        entry = self.index.columns.get(name)
        if entry is None or name in self._columns:
            return self[name]
        if entry.encoding & (DICTIONARY | SAME | SPARSE) == DICTIONARY:
            return self._indexes(entry)
        return self[name]

    def _address16(self, entry: Entry, items: Selection, dtype: np.dtype[Any]) -> Array:
        if entry.encoding & CONSTANT:
            return np.broadcast_to(address16_constant(entry), (items.length,))
        planes = Items.decode(self._body(entry), dtype, items.stored, True, entry.body_offset)
        return items.of(planes)

    def _body(self, entry: Entry) -> Buffer:
        body = self._fetch(entry.body_offset, entry.body_length)
        if self._verify and body_hash(body) != entry.hash:
            raise FormatError(
                f"the body of column {BY_ID[entry.id].name} does not match its hash",
                offset=entry.body_offset,
            )
        return body


def decode_numbers(entry: Entry, body: Buffer, items: Selection, dtype: np.dtype[Any]) -> Array:
    """The selected numbers of a column, of an unsigned `dtype`.  Raises FormatError.

    The inverse of `encoder.encode_numbers`.
    """
    encoding, low = entry.encoding, entry.low
    if encoding & DELTA and items.rows is not None:
        if encoding & RANGES and len(items.rows) < FEW_ROWS:
            ranges = Ranges(body, items.stored, entry.body_offset)
            return _sums_of_ranges(entry, ranges, items.rows, dtype)
        return items.of(decode_numbers(entry, body, Selection(items.stored), dtype))
    if encoding & CONSTANT:
        numbers = np.full(items.length, modulo(low, dtype), dtype)
    elif encoding & RANGES:
        ranges = Ranges(body, items.stored, entry.body_offset)
        offsets = ranges.all() if items.rows is None else ranges.at(items.rows)
        numbers = Scale.decode(offsets.view(np.uint64), low, entry.scale, dtype)
    else:
        item, planes = UNSIGNED[entry.width], bool(encoding & PLANES)
        stored = Items.decode(body, item, items.stored, planes, entry.body_offset)
        numbers = Scale.decode(items.of(stored), low, entry.scale, dtype)
    return Delta.decode(numbers, entry.high) if encoding & DELTA else numbers


def decode_grouped(
    entry: Entry, body: Buffer, items: Selection, begins: Bools, dtype: np.dtype[Any]
) -> Array:
    """The selected numbers of a column in groups, of an unsigned `dtype`.  Raises FormatError.

    `begins`: (stored,), where a group begins.  Few selected rows are decoded from their groups, up
    to the last selected row of each.
    """
    plain = entry._replace(encoding=entry.encoding & ~GROUPED)
    first, rows = np.flatnonzero(begins), items.rows
    needed, places = None, None
    if rows is not None:
        begun = first[np.searchsorted(first, rows, "right") - 1]
        is_last = np.append(begun[1:] != begun[:-1], np.ones(len(rows[:1]), np.bool_))
        lengths = rows[is_last] - begun[is_last] + 1
        ends = np.cumsum(lengths)
        if len(ends) and int(ends[-1]) * _ROWS_PER_GROUPED_ROW < items.stored:
            needed = np.arange(int(ends[-1])) + np.repeat(begun[is_last] - ends + lengths, lengths)
            places = np.searchsorted(needed, rows)
            first = ends - lengths
    steps = decode_numbers(plain, body, Selection(items.stored, needed), dtype)
    steps[first] += modulo(entry.high - entry.low, dtype)
    numbers = Grouped.decode(steps, first)
    return items.of(numbers) if places is None else numbers[places]


def _sums_of_ranges(entry: Entry, ranges: Ranges, rows: Rows, dtype: np.dtype[Any]) -> Array:
    """The numbers of a column with DELTA and RANGES in some rows.

    Each is `high`, plus the differences of all rows after the first one up to its own row.
    """
    sums = ranges.sums(np.append(np.zeros(1, np.intp), rows)).view(np.uint64)
    numbers = Scale.decode(sums[1:] - sums[0], 0, entry.scale, dtype)
    numbers += rows.astype(dtype) * modulo(entry.low, dtype)
    numbers += modulo(entry.high, dtype)
    return numbers


def address_within(addresses: Array, low: bytes, high: bytes) -> Bools:
    """Whether each of `addresses`, (n,), is from `low` to `high`.

    `low` and `high`: one address twice, or the first and the last address of a prefix; 4 or 16
    bytes in network order.
    """
    if addresses.dtype.kind != "S":
        first_number, last_number = int.from_bytes(low, "big"), int.from_bytes(high, "big")
        inside: Bools = (
            addresses == first_number
            if low == high
            else (addresses >= first_number) & (addresses <= last_number)
        )
        return inside
    # The bits of a prefix can be compared in any byte order, so the halves are read as they are.
    halves = np.ascontiguousarray(addresses).view(np.uint64).reshape(len(addresses), 2)
    first, last = np.frombuffer(low, np.uint64), np.frombuffer(high, np.uint64)
    prefix = ~(first ^ last)
    same = (halves & prefix) == (first & prefix)
    both: Bools = same[:, 0] & same[:, 1]
    return both


def decode_columns(
    index: Index, fetch: Fetch, names: Iterable[str] | None = None, verify: bool = True
) -> Table:
    """The columns `names` (default: all that are stored) as a table.  Arguments as LazyTable."""
    return LazyTable(index, fetch, verify).table(names)


def decode_table(
    payload: Buffer, form: int, family: int, rows: int, names: Iterable[str] | None = None
) -> Table:
    """A whole payload, checked: the columns `names` (default: all that are stored).

    Raises FormatError.
    """
    if form == FORM_SMALL:
        layout = small_layout(payload, family)
        return small_table(layout, [(rows, small_run(payload, layout, rows))], family, names)
    index = Index(payload, family, rows, len(payload))
    return decode_columns(index, lambda offset, length: payload[offset : offset + length], names)
