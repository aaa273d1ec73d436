"""Lines of text from columns, without a Python step a row.

A line is a row of words: uint64 numbers whose 8 bytes in memory are text, in which NUL bytes are
ignored.  Each column becomes one or more words a row, from tables of ready text.  The words of all
rows are stored in one matrix, and one `bytes.translate` deletes the NULs.  So a line of 110 bytes
takes 0.2 us, and fields of any length need no padding, shifting or joining.

Pure: takes arrays, returns arrays.  `Words`: (n, k) uint64, k words of text for each of n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.columns import Array
from ctrecorder.render import dates

Words = NDArray[np.uint64]
Mask = NDArray[np.bool_] | bool  # which rows: (n,) bool, or one value for all rows
_WORD_BYTES = 8


def literal(text: bytes) -> Words:
    """The words, (k,), of `text`, which has no NUL."""
    return np.frombuffer(text + bytes(-len(text) % _WORD_BYTES), np.uint64)


def assemble(rows: int, pieces: Sequence[bytes | Words]) -> bytearray:
    """The text of `rows` lines, each of them all `pieces` one after the other.

    A piece is a text that all lines have, or words, (rows, k).
    """
    words = [literal(piece) if isinstance(piece, bytes) else piece for piece in pieces]
    width = sum(piece.shape[-1] for piece in words)
    text = bytearray(rows * width * _WORD_BYTES)
    matrix = np.frombuffer(text, np.uint64).reshape(rows, width)
    column = 0
    for piece in words:
        matrix[:, column : column + piece.shape[-1]] = piece
        column += piece.shape[-1]
    return text.translate(None, b"\0")


def lines_of(rows: int, pieces: Sequence[bytes | Words]) -> list[str]:
    """The text of each of `rows` rows, as `assemble` makes it."""
    return assemble(rows, [*pieces, b"\n"]).decode().split("\n")[:-1]


def only(where: Mask, words: bytes | Words) -> list[Words]:
    """Pieces for `assemble` that have `words` in the rows `where`, and nothing in the others.

    `words`: (n, k), or one text for all rows.
    """
    if where is False:
        return []
    piece = literal(words) if isinstance(words, bytes) else words
    return [piece if where is True else np.where(np.asarray(where)[:, None], piece, np.uint64(0))]


def distinct(values: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sorted distinct values, (k,), and the index of each row's value among them, (n,).

    `values`: (n,) integers below 2**63, n > 0.  Values of a small span, as the seconds and flags of
    a chunk, are marked in a map: 10 times faster than sorting.
    """
    wide = values.astype(np.int64, copy=False)
    low, high = int(wide.min()), int(wide.max())
    if high - low >= 4 * len(wide) + 1024:
        unique, which = np.unique(wide, return_inverse=True)
        return unique, which.reshape(-1)
    offset = wide - low
    seen = np.zeros(high - low + 1, np.bool_)
    seen[offset] = True
    return np.flatnonzero(seen) + low, (np.cumsum(seen) - 1).take(offset)


def by_value(values: Array, text: Callable[[int], str]) -> Words:
    """The words of `text(value)` in each row.

    `values`: (n,) integers with few distinct values; `text` is called once for each of these.
    """
    unique, which = distinct(values)
    words = [literal(text(int(value)).encode()) for value in unique]
    table = np.zeros((len(words), max(max(map(len, words)), 1)), np.uint64)
    for row, word in zip(table, words, strict=True):
        row[: len(word)] = word
    found: Words = table.take(which, axis=0)
    return found


def by_bytes(values: Array, text: Callable[[bytes], str]) -> Words:
    """As `by_value`, of (n,) S16 with few distinct values, filled up with NUL."""
    unique, which = np.unique(values, return_inverse=True)
    texts = [text(one.tobytes()) for one in unique.reshape(-1, 1)]
    return by_value(which.reshape(-1), lambda number: texts[number])


def decimal(values: Array) -> Words:
    """Unsigned integers of any width, (n,), as decimal numbers, (n, k)."""
    if values.dtype == np.uint16 or int(values.max(initial=0)) < 1 << 16:
        short: Words = _small().take(values.astype(np.intp)).reshape(-1, 1)
        return short
    rest = values.astype(np.uint64, copy=False)
    groups: list[Words] = []
    while True:
        higher = rest // np.uint64(10_000)
        group = (rest - higher * np.uint64(10_000)).astype(np.intp)
        group += np.where(higher == 0, 20_000 if not groups else 10_000, 0)
        groups.append(_groups().take(group))
        rest = higher
        if not rest.any():
            return np.stack(groups[::-1], axis=1)


def ipv4(values: Array, *, colon: bool) -> Words:
    """(n,) uint32 addresses as dotted quads, (n, 2); with `colon`, a colon follows."""
    numbers = values.astype(np.uint32, copy=False)
    words = np.empty((len(numbers), 2), np.uint64)
    words[:, 0] = _octets(".").take(numbers >> np.uint32(16))
    words[:, 1] = _octets(":" if colon else "\0").take(numbers & np.uint32(0xFFFF))
    return words


def ipv6(values: Array) -> Words:
    """(n,) S16 addresses as in RFC 5952 and as inet_ntop writes them, (n, 8)."""
    groups = np.ascontiguousarray(values).view(">u2").reshape(len(values), 8).astype(np.uint32)
    zeros = (groups == 0) @ (np.uint32(1) << np.arange(8, dtype=np.uint32))
    modes = _zero_runs().take(zeros, axis=0)  # (n, 8): how each group is written
    words: Words = _hex_groups().take(groups | modes << np.uint32(16))
    words[:, 7] &= ~_LAST_COLON
    # ::a.b.c.d and ::ffff:a.b.c.d: the run of zeros is the first six groups, or the first five
    dotted = (zeros & 0x7F == 0x3F) | ((zeros & 0x3F == 0x1F) & (groups[:, 5] == 0xFFFF))
    if dotted.any():
        words[dotted, 6] = _octets(".").take(groups[dotted, 6])
        words[dotted, 7] = _octets("\0").take(groups[dotted, 7])
    return words


def clock(ns: Array, *, utc: bool) -> Words:
    """(n,) int64 ns as "YYYY.MM.DD HH:MM:SS.uuuuuu", (n, 4), in local time or UTC."""
    seconds, rest = _split(ns)
    unique, which = distinct(seconds)
    return _with_fraction(dates.seconds_text(unique, utc=utc), which, rest, b"")


def rfc3339(ns: Array) -> Words:
    """(n,) int64 ns as "YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ", (n, 4)."""
    seconds, rest = _split(ns)
    unique, which = distinct(seconds)
    return _with_fraction(dates.rfc3339_seconds(unique), which, rest, b"Z")


def epoch(ns: Array) -> Words:
    """(n,) int64 ns, not negative, as seconds since 1970 with six decimals, (n, k)."""
    seconds, rest = _split(ns)
    unique, which = distinct(seconds)
    micro = rest // times.MICROSECOND
    milli = micro // 1000
    decimals = _three_digits(1, b".").take(milli) | _three_digits(4, b"").take(micro - 1000 * milli)
    return np.concatenate([decimal(unique).take(which, axis=0), decimals[:, None]], axis=1)


def _split(ns: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole seconds, and the remaining ns, 0 to 999,999,999."""
    wide = ns.astype(np.int64, copy=False)
    seconds = wide // times.SECOND
    return seconds, wide - seconds * times.SECOND


def _with_fraction(
    texts: NDArray[np.uint8], which: NDArray[np.int64], rest: NDArray[np.int64], end: bytes
) -> Words:
    """Date, time and decimals, (n, 4): six decimals, or with `end` nine decimals and `end`.

    `texts`: (k, 19) uint8 dates and times; `which`: (n,) the index of each row's text; `rest`: (n,)
    ns after the second.
    """
    padded = np.zeros((len(texts), 3 * _WORD_BYTES), np.uint8)
    padded[:, :19], padded[:, 19] = texts, ord(".")
    micro = rest // times.MICROSECOND
    milli = micro // 1000
    words = np.empty((len(which), 4), np.uint64)
    words[:, :3] = padded.view(np.uint64).take(which, axis=0)
    words[:, 2] |= _three_digits(4, b"").take(milli)
    words[:, 3] = _three_digits(0, b"").take(micro - 1000 * milli)
    if end:
        words[:, 3] |= _three_digits(3, end).take(rest - times.MICROSECOND * micro)
    return words


def _digits(
    numbers: NDArray[np.int64], count: int, *, base: int = 10, pad: bool = False
) -> NDArray[np.uint8]:
    """(n, count) uint8: the last `count` digits of each number.

    Leading zeros are NULs unless `pad`.
    """
    power = base ** np.arange(count - 1, -1, -1)
    text: NDArray[np.uint8] = np.frombuffer(b"0123456789abcdef", np.uint8)[
        numbers[:, None] // power % base
    ]
    if not pad:
        text[(numbers[:, None] < power) & (power > 1)] = 0
    return text


def _table(text: NDArray[np.uint8]) -> Words:
    """(n, up to 8) uint8 of text as (n,): one word a row."""
    padded = np.zeros((len(text), _WORD_BYTES), np.uint8)
    padded[:, : text.shape[1]] = text
    return padded.view(np.uint64)[:, 0]


# The tables below have at most 196,608 words.  They are made at their first use; all of them take
# about 20 ms.


@cache
def _small() -> Words:
    """The words of 0 to 65535."""
    return _table(_digits(np.arange(1 << 16), 5))


@cache
def _groups() -> Words:
    """The words of groups of four digits, in three parts of 10,000.

    Padded with zeros; as the first group of a number; as the only group of a number.
    """
    numbers = np.arange(10_000)
    first = _digits(numbers, 4)
    first[0] = 0
    return _table(np.concatenate([_digits(numbers, 4, pad=True), first, _digits(numbers, 4)]))


@cache
def _three_digits(at: int, end: bytes) -> Words:
    """The words of 000 to 999 with the digits at byte `at`.

    `end` follows the digits; if `at` is 1, it precedes them.
    """
    text = np.zeros((1000, _WORD_BYTES), np.uint8)
    text[:, at : at + 3] = _digits(np.arange(1000), 3, pad=True)
    if end:
        text[:, 0 if at == 1 else at + 3] = ord(end)
    return _table(text)


@cache
def _octets(end: str) -> Words:
    """The words of half an IPv4 address: "a.b", then `end`."""
    octet = _digits(np.arange(256), 3)
    text = np.zeros((256, 256, _WORD_BYTES), np.uint8)
    text[:, :, 0:3], text[:, :, 3] = octet[:, None], ord(".")
    text[:, :, 4:7], text[:, :, 7] = octet[None, :], ord(end)
    return _table(text.reshape(-1, _WORD_BYTES))


_GROUP, _SKIPPED, _RUN, _RUN_FIRST = range(4)
_LAST_COLON = literal(b"\0\0\0\0:")[0]


@cache
def _hex_groups() -> Words:
    """The words of a group of an IPv6 address, by group + 65536 * mode.

    By mode: "ffff:"; nothing; ":" for a run of zeros; "::" for a run at the beginning.  The colons
    of a run are the first bytes of the word.
    """
    text = np.zeros((4, 1 << 16, 5), np.uint8)
    text[_GROUP, :, :4], text[_GROUP, :, 4] = _digits(np.arange(1 << 16), 4, base=16), ord(":")
    text[_RUN, :, 0] = text[_RUN_FIRST, :, 0] = text[_RUN_FIRST, :, 1] = ord(":")
    return _table(text.reshape(-1, 5))


@cache
def _zero_runs() -> NDArray[np.uint32]:
    """(256, 8): the mode of each group, by the mask of the groups that are zero.

    The longest run of two or more zero groups is shortened; of equally long runs, the first.
    """
    modes = np.zeros((256, 8), np.uint32)
    for mask in range(256):
        runs = [(0, 0)]
        for first in range(8):
            length = next((n for n in range(8 - first) if not mask >> (first + n) & 1), 8 - first)
            runs.append((length, -first))
        length, first = max(runs)
        if length >= 2:
            modes[mask, -first : -first + length] = _SKIPPED
            modes[mask, -first] = _RUN if first else _RUN_FIRST
    return modes
