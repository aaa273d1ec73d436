"""Numbers of many magnitudes, stored close to their entropy.

Each number is stored as the number of its range, one byte that zstd compresses, and as its offset
in the range, in as many bits as the range has.  It is for times that planes compress badly:
differences between starts, and durations of connections (a timeout and a little more).  A range is
an origin and a width in bits, chosen from the numbers, so a frequent number takes few bits wherever
it is.  ctlog(5) is the specification.  Pure; the bytes that are read are not trusted.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from ctrecorder.ctlog.compression import Buffer, pack, unpack
from ctrecorder.errors import FormatError

Numbers = NDArray[np.int64]

_HEAD = struct.Struct("<H")
_RANGE = np.dtype([("origin", "<i8"), ("bits", "u1")])
_LENGTH = struct.Struct("<I")
MAX_RANGES = 256
# A value that at least this share of the numbers follows closely gets ranges of its own.
_MIN_PEAK_SHARE, _MAX_PEAKS = 1 / 32, 8
_PEAK_SAMPLE = 4096  # numbers: enough to estimate a share of 1/32
# Neighbouring ranges with fewer numbers share one: to read a range costs as much as 1,000 numbers.
_LEAST_NUMBERS = 256
# For so many rows, summing all numbers costs less than counting up to each of them.
FEW_ROWS = 256
# With fewer numbers for each range, all are unpacked at once, else range by range.
_NUMBERS_AT_ONCE = 150
# Numbers from -2**62 to below 2**62 can be stored.
LIMIT = 1 << 62
_POWERS = [1 << exponent for exponent in range(62)]
_BELOW = [-LIMIT, *(-power for power in reversed(_POWERS))]


def pack_ranges(numbers: Numbers, level: int, step: int = 0) -> bytes:
    """`numbers`, (n,) from -LIMIT to below LIMIT, as a body.

    `step`: look for peaks at its multiples, as timeouts are whole seconds; 0: there are no peaks.
    """
    edges = _edges(_peaks(numbers, step))
    edge = (np.searchsorted(edges, numbers, side="right") - 1).astype(np.uint8)
    counts = np.bincount(edge, minlength=len(edges))
    merged = _merged(counts)
    first, last = (np.array(each, np.intp) for each in zip(*merged, strict=True))
    ranges = np.zeros(len(merged), _RANGE)
    ranges["origin"] = edges[first]
    ends = np.append(edges, LIMIT)[last + 1]
    ranges["bits"] = [
        int(end - origin - 1).bit_length()
        for origin, end in zip(ranges["origin"].tolist(), ends.tolist(), strict=True)
    ]
    renamed = np.searchsorted(first, np.arange(len(edges)), "right") - 1
    kinds = renamed.astype(np.uint8)[edge]
    counts = np.bincount(kinds)
    rest = (numbers - ranges["origin"][kinds]).view(np.uint64)
    order = np.argsort(kinds, kind="stable")
    parts, row = [], 0
    for bits, count in zip(map(int, ranges["bits"]), map(int, counts), strict=True):
        parts.append(_pack_bits(rest[order[row : row + count]], bits))
        row += count
    run = pack(kinds, level)
    return b"".join(
        (_HEAD.pack(len(ranges)), ranges.tobytes(), _LENGTH.pack(len(run)), run, *parts)
    )


class Ranges:
    """The (count,) numbers of the body `stored`; FormatError at `offset` for damage.

    All numbers are read, or some rows: then only the numbers of the ranges are unpacked for all.
    """

    def __init__(self, stored: Buffer, count: int, offset: int) -> None:
        amount = _HEAD.unpack_from(stored)[0] if len(stored) >= _HEAD.size else 0
        at = _HEAD.size + amount * _RANGE.itemsize
        if not 0 < amount <= MAX_RANGES or len(stored) < at + _LENGTH.size:
            raise FormatError(f"{amount} ranges in {len(stored)} bytes", offset=offset)
        ranges = np.frombuffer(stored[_HEAD.size : at], _RANGE)
        length = _LENGTH.unpack_from(stored, at)[0]
        at += _LENGTH.size
        if length > len(stored) - at or (ranges["bits"] > 64).any():
            raise FormatError(
                "the table of ranges has a length or a width that is too large", offset=offset
            )
        self._kinds = np.frombuffer(unpack(stored[at : at + length], count, offset + at), np.uint8)
        at += length
        self._counts = np.bincount(self._kinds, minlength=amount)
        if len(self._counts) > amount:
            raise FormatError(
                f"a number in range {len(self._counts) - 1} of {amount}", offset=offset
            )
        self._bits = ranges["bits"].astype(np.int64)
        self._origins = ranges["origin"].astype(np.int64).view(np.uint64)
        sizes = self._counts * (self._bits // 8) + -(-(self._counts * (self._bits % 8)) // 8)
        if int(sizes.sum()) != len(stored) - at:
            raise FormatError(
                f"ranges of {int(sizes.sum())} bytes in {len(stored) - at}", offset=offset
            )
        self._stored, self._starts = stored, np.append(0, np.cumsum(sizes)) + at

    def all(self) -> Numbers:
        """All numbers, (count,)."""
        order = np.argsort(self._kinds, kind="stable")
        if len(order) < _NUMBERS_AT_ONCE * len(self._counts):
            first = np.cumsum(self._counts) - self._counts
            kinds = self._kinds[order]
            found = self._unpacked(kinds, np.arange(len(order)) - first[kinds])
        else:
            found, row = np.empty(len(order), np.uint64), 0
            for number, rows in enumerate(map(int, self._counts)):
                np.add(self._rests(number), self._origins[number], out=found[row : row + rows])
                row += rows
        numbers = np.empty(len(order), np.int64)
        numbers[order] = found.view(np.int64)
        return numbers

    def at(self, rows: NDArray[np.intp]) -> Numbers:
        """The numbers at `rows`, ascending; faster than `all` for few rows."""
        return self._unpacked(self._kinds[rows], self._before(rows)).view(np.int64)

    def _unpacked(self, kinds: NDArray[np.uint8], before: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Numbers by their ranges `kinds`, and how many are `before` each in its range."""
        bits = self._bits[kinds]
        whole, left = bits // 8, bits % 8
        data = np.frombuffer(bytes(self._stored) + bytes(8), np.uint8)
        words: NDArray[np.uint64] = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        found: NDArray[np.uint64] = words[self._starts[kinds] + before * whole] & _low_bits(
            8 * whole
        )
        bit = before * left
        above = words[self._starts[kinds] + self._counts[kinds] * whole + bit // 8] >> (
            bit % 8
        ).astype(np.uint64) & _low_bits(left)
        # A shift by 64 does nothing; but then `left` is 0.
        found += np.where(left > 0, above << (8 * whole % 64).astype(np.uint64), np.uint64(0))
        found += self._origins[kinds]
        return found

    def sums(self, rows: NDArray[np.intp]) -> Numbers:
        """For each of `rows`, ascending, which should be few, the sum of all numbers up to it,
        modulo 2**64.
        """
        counts = self._up_to(rows)
        totals = np.zeros(len(self._kinds) + 1, np.uint64)
        np.cumsum(
            np.concatenate([self._rests(number) for number in range(len(self._counts))]),
            out=totals[1:],
        )
        first = np.cumsum(self._counts) - self._counts
        sums = totals[first + counts] - totals[first] + counts.view(np.uint64) * self._origins
        found: NDArray[np.uint64] = sums.sum(axis=1, dtype=np.uint64)
        return found.view(np.int64)

    def _before(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """(rows,): how many numbers of its range there are before each of `rows`."""
        data = self._kinds.tobytes()
        counts, reached = [0] * len(self._counts), [0] * len(self._counts)
        found: list[int] = []
        for row, kind in zip(map(int, rows), map(int, self._kinds[rows]), strict=True):
            counts[kind] += data.count(kind, reached[kind], row)
            reached[kind] = row
            found.append(counts[kind])
        return np.array(found, np.int64)

    def _up_to(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """(rows, ranges): how many numbers of each range there are up to each of `rows`."""
        found, row = np.zeros((len(rows), len(self._counts)), np.int64), 0
        for number, next_row in enumerate(map(int, rows)):
            found[number] = np.bincount(
                self._kinds[row : next_row + 1], minlength=len(self._counts)
            )
            row = next_row + 1
        summed: NDArray[np.int64] = np.cumsum(found, axis=0)
        return summed

    def _rests(self, number: int) -> NDArray[np.uint64]:
        """The offsets in one range, in the order of their rows."""
        stored = self._stored[int(self._starts[number]) : int(self._starts[number + 1])]
        return _unpack_bits(stored, int(self._bits[number]), int(self._counts[number]))


def unpack_ranges(stored: Buffer, count: int, offset: int) -> Numbers:
    """The (count,) numbers of the body `stored`; FormatError at `offset` for damage."""
    return Ranges(stored, count, offset).all()


def _peaks(numbers: Numbers, step: int) -> list[int]:
    """Multiples of `step` that many numbers follow by less than `step`."""
    if not step:
        return []
    sample = numbers[:: max(len(numbers) // _PEAK_SAMPLE, 1)]
    found, counts = np.unique(sample // step, return_counts=True)
    often = np.flatnonzero((counts >= len(sample) * _MIN_PEAK_SHARE) & (found > 0))
    chosen = often[np.argsort(-counts[often], kind="stable")][:_MAX_PEAKS]
    return sorted(map(int, found[chosen] * step))


def _edges(peaks: list[int]) -> Numbers:
    """The origins of the ranges: powers of two around 0, and after each peak up to the next one."""
    edges = [*_BELOW, 0]
    for base, end in zip([0, *peaks], [*peaks, LIMIT], strict=True):
        edges += [base] if base else []
        edges += [base + power for power in _POWERS if base + power < end]
    # A range costs 9 bytes, so there can be many; but its number must fit a byte.
    return np.array(edges if len(edges) <= MAX_RANGES else _edges(peaks[1:]), np.int64)


def _merged(counts: NDArray[np.intp]) -> list[tuple[int, int]]:
    """The first and the last edge of each range: neighbours with few numbers share one."""
    found: list[tuple[int, int]] = []
    total = 0
    for edge in map(int, np.flatnonzero(counts)):
        total += int(counts[edge])
        if found and total < _LEAST_NUMBERS:
            found[-1] = found[-1][0], edge
        else:
            found.append((edge, edge))
            total = int(counts[edge])
    return found


def _pack_bits(rest: NDArray[np.uint64], bits: int) -> bytes:
    """The low `bits` of each number: whole bytes row by row, then the remaining bits row by row.

    The lowest byte and the lowest bit come first.
    """
    whole, left = divmod(bits, 8)
    lanes = rest.view(np.uint8).reshape(-1, 8)
    packed = lanes[:, :whole].tobytes()
    if left:
        # Eight of them fill `left` bytes.
        groups = np.zeros((-(-len(rest) // 8), 8), np.uint64)
        groups.reshape(-1)[: len(rest)] = rest >> np.uint64(8 * whole)
        words = np.bitwise_or.reduce(groups << _shifts(left), axis=1)
        packed += (
            words.view(np.uint8).reshape(-1, 8)[:, :left].tobytes()[: -(-len(rest) * left // 8)]
        )
    return packed


def _unpack_bits(stored: Buffer, bits: int, count: int) -> NDArray[np.uint64]:
    whole, left = divmod(bits, 8)
    split = count * whole
    found = _words(stored[:split], whole, count)
    if left:
        words = _words(stored[split:], left, -(-count // 8))
        groups = words.reshape(-1, 1) >> _SHIFTS[left - 1]
        groups &= _MASKS[left - 1]
        rests = groups.reshape(-1)[:count]
        if not whole:
            return rests
        rests <<= np.uint64(8 * whole)
        found |= rests
    return found


def _low_bits(bits: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Masks of the lowest `bits`, 0 to 64."""
    masks: NDArray[np.uint64] = _LOW_BITS[bits]
    return masks


def _words(stored: Buffer, size: int, count: int) -> NDArray[np.uint64]:
    """(count,): items of `size` bytes; the last one can be cut short.

    Each is read as 8 bytes from where it begins, then masked.
    """
    if size == 0:
        return np.zeros(count, np.uint64)
    padded = bytearray(count * size + 8)
    padded[: len(stored)] = stored
    words: NDArray[np.uint64] = np.ndarray((count,), "<u8", padded, strides=(size,))
    return words & np.uint64((1 << 8 * size) - 1)


def _shifts(left: int) -> NDArray[np.uint64]:
    """(1, 8): the positions of eight items of `left` bits."""
    return np.arange(0, 8 * left, left, dtype=np.uint64).reshape(1, 8)


_SHIFTS = [_shifts(left) for left in range(1, 8)]
_MASKS = [np.uint64((1 << left) - 1) for left in range(1, 8)]
_LOW_BITS = np.array([(1 << bits) - 1 for bits in range(65)], np.uint64)
