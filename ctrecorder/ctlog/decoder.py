"""A block's columns in form COLUMNS, read when they are asked for: whole, only in some rows, or
only as far as a search needs.

A search for an address compares places in dictionaries, and reads no body where the dictionary has
no such entry.  Then only the rows that were found are read of the other columns: what is hashed and
unpacked is the same, what is computed is little.

Nothing here does I/O.  The bytes are a stranger's, as in `codec`; what is wrong raises FormatError
with its offset in the payload.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import BY_ID, BY_NAME, Array, Table
from ctrecorder.ctlog.compression import Buffer, unpack, unpack_planes
from ctrecorder.ctlog.index import (
    CONSTANT,
    DELTA,
    DICTIONARY,
    DIFFERENCE,
    FORM_SMALL,
    PLANES,
    RANGES,
    SAME,
    SPARSE,
    Entry,
    Index,
    body_hash,
    small_layout,
    small_run,
    small_table,
    unsigned,
    wide_constant,
)
from ctrecorder.ctlog.ranges import Ranges
from ctrecorder.errors import FormatError

Bools = NDArray[np.bool_]
Fetch = Callable[[int, int], Buffer]
# Where at least one row in so many is wanted, all are decoded: what a row costs by itself is then
# more.
_FEW = 256


class LazyTable:
    """The rows of a block, as a `Table`; each column is decoded once, when it is asked for.

    `fetch(offset, length)` gives bytes of the payload.  With `verify` each body is held against its
    hash.  Raises FormatError.
    """

    def __init__(self, index: Index, fetch: Fetch, verify: bool = True) -> None:
        self._index, self._fetch, self._verify = index, fetch, verify
        self.family = index.family
        self._whole: LazyTable | None = None  # of which this is a part
        self._rows: NDArray[np.intp] | None = None  # None: all
        self._dense = False
        self._done: dict[str, Array] = {}
        self._places_of: dict[int, Array] = {}  # by the column's id
        self._open: set[str] = set()

    def __len__(self) -> int:
        return self._index.rows if self._rows is None else len(self._rows)

    def take(self, rows: NDArray[np.intp]) -> LazyTable:
        """Some `rows` of the block, ascending, of a table of all.  What was decoded is kept."""
        if len(rows) == len(self):
            return self
        found = LazyTable(self._index, self._fetch, self._verify)
        found._whole, found._rows, found._dense = self, rows, len(rows) * _FEW > len(self)
        return found

    def table(self, names: Iterable[str] | None = None) -> Table:
        """The columns `names` (default: all) that are there."""
        wanted = (
            self._index.columns
            if names is None
            else [name for name in dict.fromkeys(names) if name in self._index.columns]
        )
        return Table(self.family, len(self), {name: self[name] for name in wanted})

    def __getitem__(self, name: str) -> Array:
        """The column `name`, (rows,); zeros if it is not there."""
        found = self._done.get(name)
        if found is None and self._whole is not None and (self._dense or name in self._whole._done):
            found = self._done[name] = self._whole[name][self._rows]
        if found is None:
            entry = self._index.columns.get(name)
            dtype = BY_NAME[name].dtype(self.family)
            if entry is None:
                return np.broadcast_to(np.zeros((), dtype), (len(self),))
            with self._leaning(entry, name):
                found = self._done[name] = self._decode(entry, dtype)
        return found

    def address_mask(self, name: str, low: bytes, high: bytes) -> Bools:
        """(rows,): where the address in column `name` is from `low` to `high`, as `address_within`
        has them.
        """
        entry = self._index.columns.get(name)
        if (
            name in self._done
            or entry is None
            or not entry.encoding & DICTIONARY
            or entry.encoding & SPARSE
        ):
            return address_within(self[name], low, high)
        dictionary = self._index.dictionary(name)
        inside = np.flatnonzero(address_within(dictionary, low, high))
        same = bool(entry.encoding & SAME)
        with self._leaning(entry, name):
            partner = self.address_mask(BY_ID[entry.partner].name, low, high) if same else None
            if not len(inside) and (partner is None or not partner.any()):
                return np.zeros(len(self), np.bool_)
            places = self._places(entry)
        found: Bools = np.zeros(len(self), np.bool_)
        if len(inside):  # a dictionary ascends, so they are neighbours
            first, last = int(inside[0]) + same, int(inside[-1]) + same
            found = places == first if first == last else (places >= first) & (places <= last)
        if partner is not None:
            found = found | (partner & (places == 0))
        return found

    @contextlib.contextmanager
    def _leaning(self, entry: Entry, name: str) -> Iterator[None]:
        """While column `name` is read; FormatError if that leads to itself."""
        if name in self._open:
            raise FormatError(f"column {entry.id} leans on itself", offset=entry.place)
        self._open.add(name)
        yield
        self._open.discard(name)

    def _decode(self, entry: Entry, dtype: np.dtype[Any]) -> Array:
        """The column in the rows of this table."""
        if entry.encoding & SPARSE:
            return self._sparse(entry, dtype)
        return self._values(entry, dtype, self._index.rows, self._rows, None)

    def _sparse(self, entry: Entry, dtype: np.dtype[Any]) -> Array:
        """The same of a column of which not all rows are stored."""
        if entry.id > 31:
            raise FormatError(f"column {entry.id} has no bit in `present`", offset=entry.place)
        whole = self if self._whole is None else self._whole
        selected = np.flatnonzero(whole["present"] & np.uint32(1 << entry.id))
        spread = np.zeros(len(whole), dtype)
        spread[selected] = whole._values(entry, dtype, len(selected), None, selected)
        return spread if self._rows is None else spread[self._rows]

    def _values(
        self,
        entry: Entry,
        dtype: np.dtype[Any],
        count: int,
        rows: NDArray[np.intp] | None,
        selected: NDArray[np.intp] | None,
    ) -> Array:
        """Values of a column of `count` items: those at `rows` (None: all), whose partners are at
        `selected` (None: in the same places).
        """
        if dtype.kind == "S" and not entry.encoding & DICTIONARY:
            values = self._wide(entry, count, rows)
        elif entry.encoding & DICTIONARY:
            places = (
                self._places(entry)
                if selected is None
                else self._numbers(entry, count, rows, np.dtype(np.uint32))
            )
            values = self._look_up(entry, places, selected)
        else:
            values = self._numbers(entry, count, rows, unsigned(dtype)).view(dtype)
        return values + self._partner(entry, selected) if entry.encoding & DIFFERENCE else values

    def _partner(self, entry: Entry, selected: NDArray[np.intp] | None) -> Array:
        values = self[BY_ID[entry.partner].name]
        return values if selected is None else values[selected]

    def _places(self, entry: Entry) -> Array:
        """(rows,): the places in the dictionary."""
        found = self._places_of.get(entry.id)
        if found is None and self._whole is not None and entry.id in self._whole._places_of:
            found = self._whole._places_of[entry.id][self._rows]
        if found is None:
            found = self._numbers(entry, self._index.rows, self._rows, np.dtype(np.uint32))
        self._places_of[entry.id] = found
        return found

    def _body(self, entry: Entry) -> Buffer:
        body = self._fetch(entry.body_place, entry.body_length)
        if self._verify and body_hash(body) != entry.hash:
            raise FormatError(
                f"the body of column {BY_ID[entry.id].name} does not match its hash",
                offset=entry.body_place,
            )
        return body

    def _numbers(
        self, entry: Entry, count: int, rows: NDArray[np.intp] | None, dtype: np.dtype[Any]
    ) -> Array:
        """The items (of `count` those at `rows`) as numbers of `dtype`, modulo its size: scaled,
        plus `low`, summed up if DELTA.
        """
        if entry.encoding & CONSTANT:
            numbers = np.full(count, np.array(entry.low, np.int64).astype(dtype), dtype)
            if not entry.encoding & DELTA:
                return numbers if rows is None else numbers[rows]
        elif entry.encoding & RANGES:
            ranges = Ranges(self._body(entry), count, entry.body_place)
            if rows is not None and entry.encoding & DELTA:
                return _some_sums(entry, ranges, rows, dtype)
            numbers = _scaled(
                entry, (ranges.all() if rows is None else ranges.at(rows)).view(np.uint64), dtype
            )
        else:
            items = self._items(entry, count)
            numbers = _scaled(
                entry, items if rows is None or entry.encoding & DELTA else items[rows], dtype
            )
        if not entry.encoding & DELTA:
            return numbers
        if count:
            numbers[0] = np.array(entry.high, np.int64).astype(dtype)
            numbers = np.cumsum(numbers, dtype=dtype)
        return numbers if rows is None else numbers[rows]

    def _items(self, entry: Entry, count: int) -> Array:
        """The (count,) unsigned items of a body that is not in ranges."""
        body, width = self._body(entry), entry.width
        item = np.dtype(f"<u{width}")
        if entry.encoding & PLANES:
            return unpack_planes(body, width, count, entry.body_place).view(item).reshape(count)
        return np.frombuffer(unpack(body, width * count, entry.body_place), item)

    def _look_up(self, entry: Entry, places: Array, selected: NDArray[np.intp] | None) -> Array:
        dictionary = self._index.dictionary(BY_ID[entry.id].name)
        same = bool(entry.encoding & SAME)
        if len(places) and int(places.max()) >= len(dictionary) + same:
            raise FormatError(
                f"an index outside the dictionary of column {entry.id}", offset=entry.body_place
            )
        if not same:
            return dictionary[places]
        values = self._partner(entry, selected)
        others = np.flatnonzero(places)
        if len(others):
            values = values.copy()
            values[others] = dictionary[places[others] - 1]
        return values

    def _wide(self, entry: Entry, count: int, rows: NDArray[np.intp] | None) -> Array:
        if entry.encoding & CONSTANT:
            return np.broadcast_to(wide_constant(entry), (count if rows is None else len(rows),))
        values = (
            unpack_planes(self._body(entry), 16, count, entry.body_place).view("S16").reshape(count)
        )
        return values if rows is None else values[rows]


def _scaled(entry: Entry, items: Array, dtype: np.dtype[Any]) -> Array:
    numbers = items.astype(dtype)
    if entry.scale:
        numbers *= np.array(10**entry.scale, np.int64).astype(dtype)
    if entry.low:
        numbers += np.array(entry.low, np.int64).astype(dtype)
    return numbers


def _some_sums(entry: Entry, ranges: Ranges, rows: NDArray[np.intp], dtype: np.dtype[Any]) -> Array:
    """The numbers at some rows of a column with DELTA: `high`, and the steps of all rows after the
    first, up to each.
    """
    sums = ranges.sums(np.append(np.zeros(1, np.intp), rows)).view(np.uint64)
    numbers = _scaled(entry._replace(low=0), sums[1:] - sums[0], dtype)
    numbers += rows.astype(dtype) * np.array(entry.low, np.int64).astype(dtype)
    numbers += np.array(entry.high, np.int64).astype(dtype)
    return numbers


def address_within(addresses: Array, low: bytes, high: bytes) -> Bools:
    """Which addresses, (n,), are from `low` to `high`: an address twice, or the ends of a prefix,
    in network order.
    """
    if addresses.dtype.kind != "S":
        first_number, last_number = int.from_bytes(low, "big"), int.from_bytes(high, "big")
        inside: Bools = (
            addresses == first_number
            if low == high
            else (addresses >= first_number) & (addresses <= last_number)
        )
        return inside
    # The two halves of the address, in the order of their bytes: a prefix's bits can be compared in
    # any byte order.
    halves = np.ascontiguousarray(addresses).view(np.uint64).reshape(len(addresses), 2)
    first, last = np.frombuffer(low, np.uint64), np.frombuffer(high, np.uint64)
    prefix = ~(first ^ last)
    same = (halves & prefix) == (first & prefix)
    both: Bools = same[:, 0] & same[:, 1]
    return both


def decode_columns(
    index: Index, fetch: Fetch, names: Iterable[str] | None = None, verify: bool = True
) -> Table:
    """The columns `names` (default: all that are there) as a table.

    `fetch(offset, length)` gives bytes of the payload.  With `verify` each body is held against its
    hash.  Raises FormatError.
    """
    return LazyTable(index, fetch, verify).table(names)


def decode_table(
    payload: Buffer, form: int, family: int, rows: int, names: Iterable[str] | None = None
) -> Table:
    """All of a payload, checked: the columns `names` (default: all that are there) of `rows` rows.

    Raises FormatError.
    """
    if form == FORM_SMALL:
        layout = small_layout(payload, family)
        return small_table(layout, [(rows, small_run(payload, layout, rows))], family, names)
    index = Index(payload, family, rows, len(payload))
    return decode_columns(index, lambda offset, length: payload[offset : offset + length], names)
