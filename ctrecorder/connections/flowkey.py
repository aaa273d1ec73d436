"""The key of a flow, (id, zones, tuple), and sorting rows by key.

Pure.  Rows are sorted by a hash of the key.  Then all columns of the key are compared, so two flows
whose hashes collide are never taken for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import ADDRESSES, PORTS, TUPLE, Table

_ZONES = ("zone", "orig_zone", "reply_zone")
KEY = ("id", *_ZONES, *TUPLE)


def sort(table: Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Sort rows by key; rows of one key keep their order.

    Returns `order` (rows,), the row numbers, and `first` (rows,), which of these rows are the first
    of their key.
    """
    key, rows = words(table), len(table)
    hashes = _hash(key)
    # By 48 bits of the hash, 16 at a time: numpy sorts numbers of 16 bits by radix, in a third of
    # the time of longer numbers.
    order = np.lexsort(digits(hashes)[1:])
    upper = hashes[order] >> np.uint64(16)
    first = np.ones(rows, np.bool_)
    first[1:] = upper[1:] != upper[:-1]
    alike = np.flatnonzero(~first)
    here, before = order[alike], order[alike - 1]
    if all(np.array_equal(word[here], word[before]) for word in key):
        return order, first
    # Two keys have the same 48 bits, by chance or by attack.
    order = np.lexsort(key)
    differ = np.zeros(max(rows - 1, 0), np.bool_)
    for word in key:
        differ |= word[order[1:]] != word[order[:-1]]
    first[1:] = differ
    return order, first


def digits(numbers: NDArray[Any]) -> list[NDArray[np.uint16]]:
    """`numbers`, (rows,) unsigned of 4 or 8 bytes, cut into numbers of 16 bits for `np.lexsort`.

    Returns the least significant ones first.
    """
    each = (
        np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
        .view("<u2")
        .reshape(len(numbers), numbers.dtype.itemsize // 2)
    )
    return [np.ascontiguousarray(each[:, digit]) for digit in range(each.shape[1])]


def words(table: Table, *, with_zones: bool = False) -> list[NDArray[np.uint64]]:
    """The key of each row as 64-bit words, (rows,) each.

    Two rows have the same key if and only if all their words are equal.  A table without zones has
    no word for them, which is faster; `with_zones`: it has, so that tables can be compared.
    """

    def wide(name: str) -> NDArray[np.uint64]:
        return table[name].astype(np.uint64)

    found = [wide("l4proto") | wide("id") << np.uint64(32)]
    ports = np.zeros(len(table), np.uint64)
    for number, name in enumerate(PORTS):
        ports |= wide(name) << np.uint64(16 * number)
    found.append(ports)
    zones = {name: number for number, name in enumerate(_ZONES) if name in table}
    if zones or with_zones:
        word = np.zeros(len(table), np.uint64)
        for name, number in zones.items():
            word |= wide(name) << np.uint64(16 * number)
        found.append(word)
    if table.family == uapi.AF_INET6:
        for name in ADDRESSES:
            halves = np.ascontiguousarray(table[name]).view("<u8").reshape(-1, 2)
            found += [halves[:, 0].copy(), halves[:, 1].copy()]
    else:
        found += [
            wide("orig_src") | wide("orig_dst") << np.uint64(32),
            wide("reply_src") | wide("reply_dst") << np.uint64(32),
        ]
    return found


def hashes(table: Table) -> NDArray[np.uint64]:
    """A hash of the key of each row, (rows,): equal keys of all tables have equal hashes."""
    return _hash(words(table, with_zones=True))


def _hash(key: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """A hash of each row; its high bits are well mixed (multiply and fold)."""
    total = np.zeros(len(key[0]), np.uint64)
    for word in key:
        total ^= word
        total *= np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
    total *= np.uint64(0xBF58476D1CE4E5B9)
    return total
