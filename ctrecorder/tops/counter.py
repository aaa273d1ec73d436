"""Sums by key, exact and in bounded memory.  Pure: the caller gives the temporary files.

Keys wait in memory until they are too many; equal ones are then joined.  If they stay too many,
they are divided by a hash into parts, which wait in temporary files.  At the end each part is
counted by itself, in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ctrecorder.columns import Array
from ctrecorder.tops.coded import Words

Sums = NDArray[np.uint64]
# A part of a division into this many parts: 2**32 keys are divided twice.
_FANOUT_BITS = 6
# The arrays of a few keys take as much memory by themselves as so many keys.
_ROWS_OF_ARRAYS = 16
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


class Store(Protocol):
    """A temporary file of arrays."""

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write arrays of one length to the end."""

    def read(self) -> Iterator[dict[str, Array]]:
        """All that was written, in order."""

    def close(self) -> None:
        """Delete the file."""


class Ranked(NamedTuple):
    """A key with its sum."""

    amount: int
    key: tuple[int, ...]


class Keyed(NamedTuple):
    """Keys, (k, words), with their sums: high * 2**32 + low, (k,) each."""

    words: Words
    low: Sums
    high: Sums

    def take(self, rows: Array | slice) -> Keyed:
        return Keyed(self.words[rows], self.low[rows], self.high[rows])


class Counter:
    """Sums by keys of `words` words.  `most`: keys that are kept in memory."""

    def __init__(self, words: int, most: int, store: Callable[[], Store], depth: int = 0) -> None:
        self._words, self._most, self._store, self._depth = words, most, store, depth
        self._waiting: list[Keyed] = []
        self._rows = 0
        self._parts: list[Store | None] = []

    def add(self, keyed: Keyed) -> None:
        """Add keys, of which some may be equal.  low < 2**52, high < 2**52."""
        self._waiting.append(keyed)
        self._rows += len(keyed.low) + _ROWS_OF_ARRAYS
        if self._rows > self._most:
            joined = self._join()
            if len(joined.low) > self._most // 2:
                self._spill(joined)
            else:
                self._waiting, self._rows = [joined], len(joined.low)

    def best(self, length: int) -> tuple[list[Ranked], int]:
        """The `length` keys with the greatest sums, of equal sums the least keys; and how many keys
        there are.  The counter is then empty.
        """
        if not self._parts:
            joined = self._join()
            return _best(joined, length), len(joined.low)
        if self._rows:
            self._spill(self._join())
        found: list[Ranked] = []
        count = 0
        for part in self._parts:
            if part is None:
                continue
            counter = Counter(self._words, self._most, self._store, self._depth + 1)
            for keyed in self._read(part):
                counter.add(keyed)
            best, keys = counter.best(length)
            count += keys
            found = sorted([*found, *best], key=_rank)[:length]
        return found, count

    def drain(self) -> Iterator[Keyed]:
        """All keys with their sums; a key can come several times.  The counter is then empty."""
        if self._rows:
            yield self._join()
        parts, self._parts = self._parts, []
        for part in parts:
            if part is not None:
                yield from self._read(part)

    def _read(self, part: Store) -> Iterator[Keyed]:
        """All of a file, which is then deleted."""
        for columns in part.read():
            words = columns["words"].reshape(-1, self._words)
            yield Keyed(words, columns["low"], columns["high"])
        part.close()

    def _join(self) -> Keyed:
        """All that waits, each key once, in the order of the hash; nothing waits then."""
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if not waiting:
            empty = np.zeros(0, np.uint64)
            return Keyed(np.zeros((0, self._words), np.uint64), empty, empty)
        # One column after the other: what is joined is freed before the next one is made.
        columns = [list(column) for column in zip(*waiting, strict=True)]
        waiting.clear()
        words, low, high = (_taken_together(column) for column in columns)
        hashes = _hash(words)
        # Words of one length have another hash each; equal hashes of several are told apart.
        order = np.argsort(hashes) if self._words == 1 else np.lexsort((*words.T, hashes))
        del hashes
        words = words[order]
        low = low[order]
        high = high[order]
        del order
        changes = (words[1:] != words[:-1]).any(axis=1)
        first = np.flatnonzero(np.concatenate(([True], changes)))
        words = words[first]
        low = np.add.reduceat(low, first)
        high = np.add.reduceat(high, first)
        high += low >> _HALF
        low &= _LOW
        return Keyed(words, low, high)

    def _spill(self, joined: Keyed) -> None:
        """Write keys, in the order of their hashes, to the files of their parts."""
        shift = np.uint64(64 - _FANOUT_BITS * (self._depth + 1))
        part = (_hash(joined.words) >> shift) & np.uint64((1 << _FANOUT_BITS) - 1)
        edges: Any = np.searchsorted(
            part, np.arange((1 << _FANOUT_BITS) + 1, dtype=np.uint64)
        ).tolist()
        self._parts = self._parts or [None] * (1 << _FANOUT_BITS)
        for number, (begin, end) in enumerate(itertools.pairwise(edges)):
            if begin == end:
                continue
            store = self._parts[number] = self._parts[number] or self._store()
            some = joined.take(slice(begin, end))
            store.append({"words": some.words.reshape(-1), "low": some.low, "high": some.high})


def _taken_together(arrays: list[Array]) -> Array:
    """The arrays as one; the list is then empty."""
    found = np.concatenate(arrays)
    arrays.clear()
    return found


def _rank(one: Ranked) -> tuple[int, tuple[int, ...]]:
    return -one.amount, one.key


def _best(keyed: Keyed, length: int) -> list[Ranked]:
    """Distinct keys by their sums, and then by the keys."""
    if len(keyed.low) > 4 * length:
        # All sums from the last wanted one on, also equal ones.
        least = np.partition(keyed.high, -length)[-length]
        keyed = keyed.take(keyed.high >= least)
        if len(keyed.low) > 4 * length and (keyed.high == least).all():
            keyed = keyed.take(keyed.low >= np.partition(keyed.low, -length)[-length])
    order = np.lexsort((*(~keyed.words.T[::-1]), keyed.low, keyed.high))[::-1][:length]
    chosen = keyed.take(order)
    columns: list[Any] = [each.tolist() for each in chosen]
    return [Ranked((high << 32) + low, tuple(key)) for key, low, high in zip(*columns, strict=True)]


def _hash(words: Words) -> Words:
    """(k,): a number for each key, which differs for keys of one word."""
    mixed = np.zeros(len(words), np.uint64)
    for word in words.T:
        mixed ^= word
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
    return mixed
