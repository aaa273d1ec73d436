"""A Bloom filter of the addresses of a segment.

A search for an address that the filter lacks reads no index of the segment.  With 7 bits an
address, of which 5 are set for it, one in 29 other addresses seems to be in the segment.  More bits
would cost more than they save: reading a segment in vain takes some milliseconds.  ctlog(5),
ADDRESSES, is the specification.  Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import ADDRESSES, Array, Table
from ctrecorder.ctlog.compression import Buffer
from ctrecorder.errors import FormatError

_HEAD = struct.Struct("<IB3x")  # number of addresses, bits set for each
_BITS_PER_ADDRESS, _BITS_SET = 7, 5
# A segment of fewer rows has no filter: the indexes of its blocks are as small.
LEAST_ROWS = 4096
# A segment of more addresses has no filter.  Collecting takes twice as much memory: 32 MB.
MOST_ADDRESSES = 1 << 21
_JOINED_ADDRESSES = MOST_ADDRESSES // 8  # joined with the collected ones together
_MASK = (1 << 64) - 1
# The mixing steps of splitmix64 (Steele, Lea, Flood 2014), without its counter.
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31

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
    return number ^ number >> _LAST_SHIFT


def keys(addresses: Array) -> Keys:
    """The keys, (n,), of the values of an address column, (n,)."""
    if addresses.dtype.kind != "S":
        return _all_mixed(addresses.astype(np.uint64))
    halves = np.ascontiguousarray(addresses).view("<u8").reshape(-1, 2)
    return _all_mixed(_all_mixed(halves[:, 0]) ^ halves[:, 1])


def _all_mixed(numbers: Keys) -> Keys:
    for shift, factor in _STEPS:
        numbers = (numbers ^ numbers >> np.uint64(shift)) * np.uint64(factor)
    return numbers ^ numbers >> np.uint64(_LAST_SHIFT)


class Collector:
    """Collects the addresses of a segment, up to MOST_ADDRESSES."""

    def __init__(self) -> None:
        self.rows = 0
        self._keys: Keys = np.zeros(0, np.uint64)
        self._added: list[Keys] = []
        self._added_count = 0
        self._full = False

    def add(self, table: Table) -> None:
        """Add the four addresses of each row."""
        self.rows += len(table)
        if self._full:
            return
        for values in _changes(table):
            found = np.unique(keys(values))
            self._added.append(found)
            self._added_count += len(found)
        if self._added_count > _JOINED_ADDRESSES:
            self._join()

    def _join(self) -> None:
        self._keys = np.unique(np.concatenate((self._keys, *self._added)))
        self._added, self._added_count = [], 0
        if len(self._keys) > MOST_ADDRESSES:
            self._keys, self._full = np.zeros(0, np.uint64), True

    def payload(self) -> bytes | None:
        """The stored filter; None: the segment has too few rows or too many addresses."""
        self._join()
        if self._full or self.rows < LEAST_ROWS:
            return None
        count = len(self._keys)
        size = -(-count * _BITS_PER_ADDRESS // 8)
        bits = np.zeros(size * 8, np.uint8)
        step = self._keys >> np.uint64(32)
        position = self._keys & np.uint64(0xFFFFFFFF)
        for _ in range(_BITS_SET):
            bits[(position % np.uint64(size * 8)).astype(np.intp)] = 1
            position += step
        return _HEAD.pack(count, _BITS_SET) + np.packbits(bits, bitorder="little").tobytes()


def _changes(table: Table) -> Iterator[Array]:
    """The addresses of `table`, without most repetitions.

    Left out: an address equal to that of the row before, and a reply address equal to the original
    address of the opposite endpoint.
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
    """A stored filter.  Raises FormatError."""

    def __init__(self, payload: Buffer) -> None:
        if len(payload) <= _HEAD.size:
            raise FormatError(f"a filter of {len(payload)} bytes", offset=0)
        _, self._bits_set = _HEAD.unpack_from(payload)
        self._bits = payload[_HEAD.size :]

    def may_hold(self, address: bytes) -> bool:
        """Whether an address of 4 or 16 bytes in network order can be in the segment."""
        step, first = divmod(key(address), 1 << 32)
        size = 8 * len(self._bits)
        positions = ((first + number * step) % size for number in range(self._bits_set))
        return all(self._bits[bit >> 3] >> (bit & 7) & 1 for bit in positions)

    def lacks(self, table: Table) -> bool:
        """Whether the filter lacks an address of `table`: a search would skip the segment."""
        bits = np.frombuffer(self._bits, np.uint8)
        size = np.uint64(8 * len(bits))
        for values in _changes(table):
            found = keys(values)
            step, position = found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)
            for _ in range(self._bits_set):
                bit = (position % size).astype(np.intp)
                if not (bits[bit >> 3] >> (bit & 7).astype(np.uint8) & 1).all():
                    return True
                position += step
        return False
