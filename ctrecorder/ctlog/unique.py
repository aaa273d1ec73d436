"""The distinct values of an array, and where each row's is among them: what dictionaries are made
of.

Faster than sorting: few values are found one by one, many are spread over slots by a hash, so that
only rows that meet another value in their slot are sorted.  65,536 addresses of 4 / 200 / 7,000
kinds: 1 / 5 / 14 ns a row, where np.unique takes 30 / 44 / 80.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array

Places = NDArray[np.uint8] | NDArray[np.uint32]

# Values that are found one by one: a pass over all rows for each costs less than the slots up to
# about so many.
_FEW = 8
_SAMPLE = 128
_SAMPLED, _SAMPLED_RUN = 256, 16
# Of so many rows a table of as many slots stays in the CPU's cache, and in memory that malloc() has
# at hand.
_FEW_ROWS_BITS = 14
# Below that the slots cost more than sorting.
_SORTED_ROWS = 4096
# Knuth's multiplicative hash: 2**32 and 2**64 by the golden ratio, made odd.
_SIGN = np.uint64(1 << 63)  # turned over, numbers with a sign sort as those without
_GOLDEN_32, _GOLDEN_64 = np.uint32(2654435761), np.uint64(11400714819323198485)


def estimate(values: Array) -> int:
    """About how many distinct values there are, by a sample; too few rather than too many.

    `values`: (n,), n > 0.
    """
    if len(values) <= _SAMPLED:
        return len(np.unique(values))
    # Neighbours, so that what comes in bursts is not taken for many, from all over.
    starts = np.linspace(0, len(values) - _SAMPLED_RUN, _SAMPLED // _SAMPLED_RUN).astype(np.intp)
    found = len(np.unique(values[starts[:, np.newaxis] + np.arange(_SAMPLED_RUN)]))
    alike = _SAMPLED - found
    if not alike:
        return len(values)
    # Of s rows with k values s * s / 2k are like one before, as long as these are few.
    return found if alike > found else min(len(values), _SAMPLED**2 // (2 * alike))


def distinct(values: Array) -> tuple[Array, Places]:
    """`values`: (n,), n > 0, integers or S16.

    Returns the distinct ones, ascending, (k,), and the place of each row's among them, (n,).
    """
    if values.dtype.kind == "S":
        return _distinct_wide(values)
    if values.dtype.kind == "i":
        ordered, places = distinct(values.view(np.uint64) ^ _SIGN)
        return (ordered ^ _SIGN).view(np.int64), places
    few = _distinct_few(values)
    if few is not None:
        return few
    if len(values) < _SORTED_ROWS:
        return _by_sorting(values)
    return _by_slots(values)


def _distinct_few(values: Array) -> tuple[Array, NDArray[np.uint8]] | None:
    """The same if there are at most `_FEW` distinct values, otherwise None."""
    sample = set(values[:: len(values) // _SAMPLE + 1].tolist())
    if len(sample) > _FEW:
        return None
    found = sorted(sample)
    others = np.ones(len(values), np.bool_)
    for value in found:
        others &= values != value
    while True:
        first = int(others.argmax())
        if not others[first]:
            break
        if len(found) == _FEW:
            return None
        found.append(values[first])
        others &= values != values[first]
    ordered = np.sort(np.array(found, values.dtype))
    places = np.zeros(len(values), np.uint8)
    for value in ordered[1:]:
        places += values >= value
    return ordered, places


def _by_sorting(values: Array) -> tuple[Array, NDArray[np.uint32]]:
    ordered, places = np.unique(values, return_inverse=True)
    return ordered, places.astype(np.uint32)


def _by_slots(values: Array) -> tuple[Array, NDArray[np.uint32]]:
    slots, count = _slots(values)
    table = np.empty(count, values.dtype)
    table[slots] = values  # of the values that share a slot, one stays
    strays = np.flatnonzero(table[slots] != values)
    used = np.zeros(count, np.bool_)
    used[slots] = True
    used_slots = np.flatnonzero(used)
    stray_values, stray_places = _by_sorting(values[strays])
    unordered = np.concatenate((table[used_slots], stray_values))
    order = np.argsort(unordered)
    rank = _inverse(order)
    rank_of_slot = np.empty(count, np.uint32)
    rank_of_slot[used_slots] = rank[: len(used_slots)]
    places = rank_of_slot[slots]
    places[strays] = rank[len(used_slots) :][stray_places]
    return unordered[order], places


def _slots(values: Array) -> tuple[NDArray[np.intp], int]:
    """A slot for each value, and how many slots there are; values of up to two bytes are their own."""
    if values.dtype.itemsize <= 2:
        return values.astype(np.intp), 1 << 16
    bits = _FEW_ROWS_BITS if len(values) <= 1 << _FEW_ROWS_BITS else 16
    if values.dtype.itemsize == 4:
        return ((values * _GOLDEN_32) >> np.uint32(32 - bits)).astype(np.intp), 1 << bits
    return ((values * _GOLDEN_64) >> np.uint64(64 - bits)).astype(np.intp), 1 << bits


def _inverse(order: NDArray[np.intp]) -> NDArray[np.uint32]:
    rank = np.empty(len(order), np.uint32)
    rank[order] = np.arange(len(order), dtype=np.uint32)
    return rank


def _distinct_wide(values: Array) -> tuple[Array, Places]:
    """16-byte values by a 64-bit key of each; if two values ever have one key, by sorting."""
    halves: NDArray[Any] = values.view("<u8").reshape(-1, 2)
    keys = (halves[:, 0] ^ (halves[:, 0] >> np.uint64(29))) * _GOLDEN_64 + halves[:, 1]
    unique_keys, places = distinct(keys)
    row = np.empty(len(unique_keys), np.intp)
    row[places] = np.arange(len(values))
    unordered = values[row]
    if not (unordered[places].view("<u8") == values.view("<u8")).all():
        return _by_sorting(values)
    order = np.argsort(unordered)
    return unordered[order], _inverse(order)[places]
