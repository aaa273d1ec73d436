"""Which addresses a segment can hold: a Bloom filter, so that a search for others reads a little of
the segment and no index.

ctlog(5), ADDRESSES, is the specification.  Pure.  A filter says "maybe" of each address that was
added, and of one in 29 others: 7 bits an address and 5 places.  More bits cost more than they
spare: a segment that is read in vain costs some milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import ADDRESSES, Array, Table
from ctrecorder.ctlog.compression import Buffer
from ctrecorder.errors import FormatError

_HEAD = struct.Struct("<IB3x")  # addresses, places of each
_BITS, _PLACES = 7, 5
# Segments of fewer rows have none: the index of their blocks is as small.
LEAST_ROWS = 4096
# Segments of more addresses have none.  Twice that are held while they are collected: 32 MB.
MOST_ADDRESSES = 1 << 21
_MORE = MOST_ADDRESSES // 8
_MASK = (1 << 64) - 1
# The steps of splitmix64 behind its counter (Steele, Lea, Flood 2014).
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST = 31

Keys = NDArray[np.uint64]


def key(address: bytes) -> int:
    """The key of an address of 4 or 16 bytes in network order."""
    if len(address) == 4:
        return _mixed(int.from_bytes(address, "big"))
    first, second = struct.unpack("<QQ", address)
    return _mixed(_mixed(first) ^ second)


def _mixed(number: int) -> int:
    for shift, factor in _STEPS:
        number = (number ^ number >> shift) * factor & _MASK
    return number ^ number >> _LAST


def keys(addresses: Array) -> Keys:
    """The keys, (n,), of addresses as a column has them."""
    if addresses.dtype.kind != "S":
        return _all_mixed(addresses.astype(np.uint64))
    halves = np.ascontiguousarray(addresses).view("<u8").reshape(-1, 2)
    return _all_mixed(_all_mixed(halves[:, 0]) ^ halves[:, 1])


def _all_mixed(numbers: Keys) -> Keys:
    for shift, factor in _STEPS:
        numbers = (numbers ^ numbers >> np.uint64(shift)) * np.uint64(factor)
    return numbers ^ numbers >> np.uint64(_LAST)


class Collector:
    """Collects the addresses of a segment; gives up beyond MOST_ADDRESSES."""

    def __init__(self) -> None:
        self.rows = 0
        self._known: Keys = np.zeros(0, np.uint64)
        self._fresh: list[Keys] = []
        self._waiting = 0
        self._full = False

    def add(self, table: Table) -> None:
        """Take the four addresses of each row."""
        self.rows += len(table)
        if self._full:
            return
        for values in _changes(table):
            found = np.unique(keys(values))
            self._fresh.append(found)
            self._waiting += len(found)
        if self._waiting > _MORE:
            self._join()

    def _join(self) -> None:
        self._known = np.unique(np.concatenate((self._known, *self._fresh)))
        self._fresh, self._waiting = [], 0
        if len(self._known) > MOST_ADDRESSES:
            self._known, self._full = np.zeros(0, np.uint64), True

    def payload(self) -> bytes | None:
        """The filter as stored; None: the segment needs none, or has too many addresses for one."""
        self._join()
        if self._full or self.rows < LEAST_ROWS:
            return None
        count = len(self._known)
        size = -(-count * _BITS // 8)
        bits = np.zeros(size * 8, np.uint8)
        step = self._known >> np.uint64(32)
        place = self._known & np.uint64(0xFFFFFFFF)
        for _ in range(_PLACES):
            bits[(place % np.uint64(size * 8)).astype(np.intp)] = 1
            place += step
        return _HEAD.pack(count, _PLACES) + np.packbits(bits, bitorder="little").tobytes()


def _changes(table: Table) -> Iterator[Array]:
    """The addresses of `table`, with few of those left out that stand below the same, or are the
    other direction's as well.
    """
    source, target, reply_source, reply_target = (table[name] for name in ADDRESSES)
    for values, same in (
        (source, None),
        (target, None),
        (reply_source, target),
        (reply_target, source),
    ):
        chosen = np.ones(len(values), np.bool_)
        np.not_equal(values[1:], values[:-1], out=chosen[1:])
        if same is not None:
            chosen &= values != same
        yield values[chosen]


class Bloom:
    """A filter as it was stored.  Raises FormatError."""

    def __init__(self, payload: Buffer) -> None:
        if len(payload) <= _HEAD.size:
            raise FormatError(f"a filter of {len(payload)} bytes", offset=0)
        _, self._places = _HEAD.unpack_from(payload)
        self._bits = payload[_HEAD.size :]

    def may_hold(self, address: bytes) -> bool:
        """If an address of 4 or 16 bytes in network order can be in the segment."""
        step, place = divmod(key(address), 1 << 32)
        places = ((place + number * step) % (8 * len(self._bits)) for number in range(self._places))
        return all(self._bits[at >> 3] >> (at & 7) & 1 for at in places)

    def lacks(self, table: Table) -> bool:
        """If one of the addresses of the rows is not in it: a search for that one would pass over
        the segment.
        """
        bits = np.frombuffer(self._bits, np.uint8)
        size = np.uint64(8 * len(bits))
        for values in _changes(table):
            found = keys(values)
            step, place = found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)
            for _ in range(self._places):
                at = (place % size).astype(np.intp)
                if not (bits[at >> 3] >> (at & 7).astype(np.uint8) & 1).all():
                    return True
                place += step
        return False
