"""Keys of one field or of several as words of 64 bits, and back.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ctrecorder import uapi
from ctrecorder.columns import Array
from ctrecorder.tops.coded import Codes, Mask, Words, code
from ctrecorder.tops.fields import Top
from ctrecorder.tops.values import Part, Values

_BITS = {"port": 16, "anyport": 16, "proto": 8, "mark": 32, "zone": 16, "hour": 64, "day": 64}
_WORD_BITS = 64
# A table of counts may have so many places for each row; else the keys are sorted first.
_PLACES, _FREE_PLACES = 4, 1 << 16


class Distinct(NamedTuple):
    """The keys of some rows.

    `rows`: which rows, ascending; None: all.
    `codes`: (rows,): the key of each row, a number below `keys`.
    `parts`, `joint`: what the numbers stand for; see `words`.
    """

    rows: Array | None
    codes: Codes
    keys: int
    parts: tuple[Part, ...]
    joint: Array | None

    def words(self, layout: Layout, chosen: Array) -> Words:
        """(k, words): the keys with the numbers `chosen`, (k,)."""
        joint = chosen if self.joint is None else self.joint[chosen]
        found = []
        for part in reversed(self.parts):
            joint, here = np.divmod(joint, len(part.coded.entries))
            found.append(part.coded.entries[here])
        return layout.pack(found[::-1])


def keys(top: Top, values: Values, rows: int) -> Iterator[Distinct]:
    """The keys of rows; a row has each of its keys once.  Rows without a key are left out."""
    for parts in itertools.product(*(values.of(field) for field in top.fields)):
        found = _keys(parts, rows)
        if len(found.codes):
            yield found


def _keys(parts: tuple[Part, ...], rows: int) -> Distinct:
    has: Mask | None = None
    for part in parts:
        if part.has is not None:
            has = part.has if has is None else has & part.has
    chosen = None if has is None or has.all() else np.flatnonzero(has)
    codes: Codes = np.zeros(rows, np.int64)
    count = 1
    for part in parts:
        size = len(part.coded.entries)
        codes = codes * size + part.coded.codes
        count *= size
    if chosen is not None:
        codes = codes[chosen]
    if count <= max(_FREE_PLACES, _PLACES * len(codes)):
        return Distinct(chosen, codes, count, parts, None)
    numbered = code(codes)
    return Distinct(chosen, numbered.codes, len(numbered.entries), parts, numbered.entries)


class Layout:
    """How the fields of a top are packed into words, for a family.

    Keys compare as their fields do: the first field first.
    """

    def __init__(self, top: Top, family: int) -> None:
        self._family = family
        wide = family == uapi.AF_INET6
        # Of each field: its pieces as (word, bits).
        self._pieces: list[list[tuple[int, int]]] = []
        word, free = -1, 0
        for field in top.fields:
            size = _BITS.get(field.name, 2 * _WORD_BITS if wide else 32)
            pieces = []
            for some in [_WORD_BITS] * (size // _WORD_BITS) + [size] * (size % _WORD_BITS > 0):
                if some > free:
                    word, free = word + 1, _WORD_BITS
                free -= some
                pieces.append((word, some))
            self._pieces.append(pieces)
        self.words = word + 1

    def pack(self, values: list[Array]) -> Words:
        """(k, words), of an array (k,) for each field."""
        found = np.zeros((len(values[0]), self.words), np.uint64)
        for pieces, value in zip(self._pieces, values, strict=True):
            halves = _halves(value)
            for (word, size), half in zip(pieces, halves, strict=True):
                shifted = np.zeros((), np.uint64) if size == _WORD_BITS else found[:, word]
                found[:, word] = shifted << np.uint64(size % _WORD_BITS) | half
        return found

    def unpack(self, words: list[int]) -> list[int]:
        """The values of the fields of one key; an address as a number of 32 or 128 bits."""
        rest, found = list(words), []
        for pieces in reversed(self._pieces):
            value = shift = 0
            for word, size in reversed(pieces):
                value |= (rest[word] & ((1 << size) - 1)) << shift
                rest[word] >>= size
                shift += size
            found.append(value)
        return found[::-1]


def _halves(value: Array) -> list[Words]:
    """A column as words: one, or two of an address of 16 bytes."""
    if value.dtype.kind != "S":
        return [value.astype(np.uint64)]
    both = np.ascontiguousarray(value).view(">u8").reshape(-1, 2).astype(np.uint64)
    return [both[:, 0], both[:, 1]]
