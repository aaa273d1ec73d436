"""The steps of a column's encoding: each class has `encode` and beside it the inverse, `decode`.

The writer (`encoder`) applies the steps in the order of this module, the reader (`decoder`) in the
opposite order.  ctlog(5), "Decoding a column", is the specification.  Arithmetic is modulo the size
of the numbers' type.  No I/O, and no state: what a decoder needs to know is in the column's entry.

Arrays: `values` (rows,) of the column's type; `numbers` (count,) unsigned; `items` (count,)
unsigned, as the body stores them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array
from ctrecorder.ctlog.compression import Buffer, pack, pack_planes, unpack, unpack_planes
from ctrecorder.ctlog.entry import UNSIGNED, unsigned
from ctrecorder.ctlog.unique import Indexes, distinct, estimate
from ctrecorder.errors import FormatError

Rows = NDArray[np.intp]
Bools = NDArray[np.bool_]
_SCALES = (9, 6, 3)  # times of whole seconds, ms, us


class Sparse:
    """Stores some rows only; the column is 0 in the others."""

    @staticmethod
    def encode(values: Array, stored: Rows) -> Array | None:
        """The values of the rows `stored`; None if the column is not 0 in another row."""
        kept = values[stored]
        return kept if np.count_nonzero(kept) == np.count_nonzero(values) else None

    @staticmethod
    def decode(values: Array, stored: Rows, rows: int) -> Array:
        """`values` in the rows `stored` of a column of `rows` rows."""
        column = np.zeros(rows, values.dtype)
        column[stored] = values
        return column


class Dictionary:
    """Replaces values by indexes into the ascending list of the distinct values.

    With a partner (encoding SAME), index 0 means "equal to the partner in the same row", and index
    N means entry N - 1.
    """

    @staticmethod
    def encode(
        values: Array, max_entries: int, partner: Array | None = None
    ) -> tuple[Array, Indexes] | None:
        """The entries, and the index of each row; None if there are more than `max_entries`."""
        if partner is None:
            return _distinct_up_to(values, max_entries)
        others = np.flatnonzero(values != partner)
        found = _distinct_up_to(values[others], max_entries)
        if found is None:
            return None
        indexes = np.zeros(len(values), np.uint32)
        indexes[others] = found[1] + np.uint32(1)
        return found[0], indexes

    @staticmethod
    def check(indexes: Array, count: int, offset: int) -> None:
        """Raise FormatError at `offset` if an index is not below `count`."""
        if len(indexes) and int(indexes.max()) >= count:
            raise FormatError(
                f"index {int(indexes.max())} is outside the dictionary: it ends with {count - 1}",
                offset=offset,
            )

    @staticmethod
    def decode(indexes: Array, entries: Array, partner: Array | None, offset: int) -> Array:
        """The values of `indexes`; FormatError at `offset` if an index has no entry."""
        first = 0 if partner is None else 1  # the index of the first entry
        Dictionary.check(indexes, len(entries) + first, offset)
        if partner is None:
            return entries[indexes]
        others = np.flatnonzero(indexes)
        if not len(others):
            return partner
        values = partner.copy()
        values[others] = entries[indexes[others] - 1]
        return values


class DictionaryEntries:
    """Stores a dictionary: each entry as the difference to the one before, in planes.

    The difference of addresses of 16 bytes is their exclusive or.
    """

    @staticmethod
    def encode(entries: Array, level: int) -> bytes:
        if not len(entries):
            return b""
        if entries.dtype.kind == "S":
            halves: Array = entries.view("<u8").reshape(-1, 2)
            steps = halves.copy()
            steps[1:] ^= halves[:-1]
            return pack_planes(steps.view("S16").reshape(-1), level)
        numbers = entries.view(unsigned(entries.dtype))
        return pack_planes(np.diff(numbers, prepend=numbers.dtype.type(0)), level)

    @staticmethod
    def decode(stored: Buffer, count: int, dtype: np.dtype[Any], offset: int) -> Array:
        """The (count,) entries; FormatError at `offset` if they do not ascend."""
        if not count:
            return np.zeros(0, dtype)
        steps = unpack_planes(stored, dtype.itemsize, count, offset)
        if dtype.kind == "S":
            halves = np.bitwise_xor.accumulate(steps.view("<u8"), axis=0)
            entries: Array = halves.view(dtype).reshape(count)
        else:
            number = unsigned(dtype)
            entries = np.cumsum(steps.view(number).reshape(count), dtype=number).view(dtype)
        if not (entries[1:] > entries[:-1]).all():
            raise FormatError("the dictionary does not ascend", offset=offset)
        return entries


class Difference:
    """Replaces values by their differences to the partner in the same row."""

    @staticmethod
    def encode(values: Array, partner: Array) -> Array:
        return values - partner.view(values.dtype)

    @staticmethod
    def decode(values: Array, partner: Array) -> Array:
        return values + partner


class Delta:
    """Replaces numbers by their differences to the number before; the first is kept apart."""

    @staticmethod
    def encode(numbers: Array) -> tuple[int, Array]:
        """The first number, and the differences; the first difference repeats the second."""
        steps = np.empty_like(numbers)
        np.subtract(numbers[1:], numbers[:-1], out=steps[1:])
        steps[0] = steps[1]
        return int(numbers[0]), steps

    @staticmethod
    def decode(steps: Array, first: int) -> Array:
        """The numbers.  Overwrites the first of `steps`."""
        if len(steps):
            steps[0] = modulo(first, steps.dtype)
        numbers: Array = np.cumsum(steps, dtype=steps.dtype)
        return numbers


class Grouped:
    """Replaces the numbers of a group by their differences to the number before; the first of each
    group stays.

    `begins`: (rows,) bool, where a group begins; the first row does.
    """

    # The columns that are equal in all rows of a group.
    BY = ("l4proto", "orig_src", "orig_dst", "orig_dport")

    @staticmethod
    def begins(columns: Iterable[Array], rows: int) -> Bools:
        """Where a group of equal `columns`, each (rows,), begins."""
        found = np.zeros(rows, np.bool_)
        found[:1] = True
        for values in columns:
            found[1:] |= values[1:] != values[:-1]
        return found

    @staticmethod
    def encode(numbers: Array, begins: Bools) -> tuple[int, Array]:
        """The least first number of a group, and the items: firsts above it, and differences."""
        firsts = numbers[begins]
        least = firsts.view(f"<i{firsts.dtype.itemsize}").min()
        items = np.empty_like(numbers)
        np.subtract(numbers[1:], numbers[:-1], out=items[1:])
        items[begins] = firsts - least.view(firsts.dtype)
        return int(least), items

    @staticmethod
    def decode(steps: Array, first: Rows) -> Array:
        """The numbers.  `steps`: firsts and differences, overwritten.  `first`: the row in which
        each group begins, ascending.
        """
        if len(first):
            # A first number becomes the difference to the last number of the group before.
            steps[first[1:]] -= np.add.reduceat(steps, first)[:-1]
        return np.cumsum(steps, dtype=steps.dtype, out=steps)


class Scale:
    """Replaces numbers by the steps of 10**scale above `low`."""

    @staticmethod
    def encode(items: Array, scale: int) -> Array:
        """`items` above `low` as steps."""
        return items // items.dtype.type(10**scale) if scale else items

    @staticmethod
    def decode(items: Array, low: int, scale: int, dtype: np.dtype[Any]) -> Array:
        """The numbers, of `dtype`."""
        numbers = items.astype(dtype)
        if scale:
            numbers *= modulo(10**scale, dtype)
        if low:
            numbers += modulo(low, dtype)
        return numbers

    @staticmethod
    def common(items: Array) -> int:
        """The greatest of 9, 6 and 3 so that all items are multiples of 10**scale; otherwise 0."""
        for scale in _SCALES:
            step = 10**scale
            # The first items rule most scales out.
            if step < 1 << 8 * items.dtype.itemsize and not any(
                (some % items.dtype.type(step)).any() for some in (items[:64], items)
            ):
                return scale
        return 0


class Items:
    """Stores items of 1, 2, 4, 8 or 16 bytes as one run, or in planes: the body of a column."""

    @staticmethod
    def encode(items: Array, level: int, planes: bool) -> bytes:
        return pack_planes(items, level) if planes else pack(items, level)

    @staticmethod
    def decode(
        stored: Buffer, dtype: np.dtype[Any], count: int, planes: bool, offset: int
    ) -> Array:
        """The (count,) items of `dtype`; FormatError from `offset` on."""
        if planes:
            return unpack_planes(stored, dtype.itemsize, count, offset).view(dtype).reshape(count)
        return np.frombuffer(unpack(stored, dtype.itemsize * count, offset), dtype)


def narrowest(spread: int) -> np.dtype[Any]:
    """The unsigned dtype of the fewest bytes that holds 0..spread."""
    return next(dtype for size, dtype in UNSIGNED.items() if spread < 1 << 8 * size)


def modulo(number: int, dtype: np.dtype[Any]) -> Any:
    """`number` as a scalar of an unsigned `dtype`, modulo its size."""
    return dtype.type(number & ((1 << 8 * dtype.itemsize) - 1))


def _distinct_up_to(values: Array, max_entries: int) -> tuple[Array, Indexes] | None:
    """As `distinct`; None if there are more than `max_entries`.  `values` may be empty."""
    if not len(values):
        return values, np.zeros(0, np.uint32)
    # A sample often shows that there are more.
    if len(values) > max_entries and estimate(values) > max_entries:
        return None
    found = distinct(values)
    return found if len(found[0]) <= max_entries else None
