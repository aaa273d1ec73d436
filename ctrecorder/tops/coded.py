"""Values as numbers of distinct ones, so that counting needs no sorting.  Pure.

A squeezed block has its addresses and ports as indexes into dictionaries: these are the codes.  A
column without a dictionary gets codes here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import BY_NAME, Array, Table
from ctrecorder.ctlog.decoder import LazyTable

Words = NDArray[np.uint64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Coded(NamedTuple):
    """Values of rows.

    `codes`: (rows,) int: the entry of each row.
    `entries`: (k,), not necessarily distinct.
    """

    codes: Codes
    entries: Array

    def take(self, rows: Array) -> Coded:
        """The same for some rows."""
        return Coded(self.codes[rows], self.entries)


def coded(rows: Table | LazyTable, name: str) -> Coded:
    """Column `name`."""
    if isinstance(rows, LazyTable):
        found = rows.coded(name)
        if found is not None:
            return Coded(found[0].astype(np.int64), found[1])
    values = rows[name]
    dtype = BY_NAME[name].dtype(rows.family)
    if not values.strides or not values.strides[0]:  # one value in all rows
        return Coded(np.zeros(len(values), np.int64), values[:1])
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return Coded(values.astype(np.int64), np.arange(1 << 8 * dtype.itemsize, dtype=dtype))
    return code(values)


def code(values: Array) -> Coded:
    """Any values."""
    if not len(values):
        return Coded(np.zeros(0, np.int64), values)
    # Neighbours are often equal: what has to be sorted is then short.
    first = np.empty(len(values), np.bool_)
    first[0] = True
    np.not_equal(values[1:], values[:-1], out=first[1:])
    entries, codes = np.unique(values[first], return_inverse=True)
    return Coded(codes.astype(np.int64)[np.cumsum(first) - 1], entries)


def choose(choices: list[tuple[Mask, Coded]], rows: int) -> Coded:
    """The values of the first of `choices` whose mask has a row; of rows without any, anything."""
    codes: Codes = np.zeros(rows, np.int64)
    offset, entries = 0, []
    left = np.ones(rows, np.bool_)
    for mask, one in choices:
        chosen = mask & left
        codes = np.where(chosen, one.codes + offset, codes)
        left &= ~mask
        entries.append(one.entries)
        offset += len(one.entries)
    return Coded(codes, np.concatenate(entries))


def is_same(first: Coded, second: Coded) -> Mask:
    """(rows,): whether the values are equal."""
    found: Mask = first.entries[first.codes] == second.entries[second.codes]
    return found
