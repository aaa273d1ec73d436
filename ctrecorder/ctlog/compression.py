"""Runs of bytes: how a block stores arrays, plain or as one zstd frame, whole or in byte planes.

A run whose stored length equals its plain length is plain.  A shorter one is one zstd frame, which
must declare the plain length.  So there is no flag that could be wrong, and a reader allocates only
the memory that follows from rows and widths.  Not for several threads: the compressors are shared.
"""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
import zstandard

from ctrecorder.columns import Array
from ctrecorder.errors import FormatError

Buffer = bytes | memoryview

# The window of zstd at its highest levels.  No run is longer (262,144 rows of 16 bytes); a frame
# with a larger window is refused.
_MAX_WINDOW_BYTES = 1 << 23
# A frame that saves less than 1/64 does not pay for its decompression.
_MIN_SAVING_DIVISOR = 64


@cache
def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)


_decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)


def pack(plain: Array, level: int) -> bytes:
    """A contiguous array as a run: a zstd frame of `level`, or plain.

    Plain if `level` is 0, or if a frame would save too little.
    """
    if level == 0:
        return plain.tobytes()
    view = plain.view(np.uint8).data
    packed = _compressor(level).compress(view)
    return packed if len(packed) < len(view) - len(view) // _MIN_SAVING_DIVISOR else bytes(view)


def unpack(stored: Buffer, plain_length: int, offset: int) -> Buffer:
    """The `plain_length` bytes of the run `stored`; FormatError at `offset` for damage."""
    if len(stored) == plain_length:
        return stored
    if len(stored) > plain_length:
        raise FormatError(
            f"a run of {len(stored)} bytes where at most {plain_length} are expected", offset=offset
        )
    try:
        declared = zstandard.get_frame_parameters(stored).content_size
        if declared != plain_length:
            raise FormatError(
                f"a zstd frame of {declared} bytes where {plain_length} are expected", offset=offset
            )
        plain = _decompressor.decompress(stored, max_output_size=plain_length)
    except zstandard.ZstdError as error:
        raise FormatError(f"not a zstd frame: {error}", offset=offset) from None
    if len(plain) != plain_length:
        raise FormatError(
            f"a zstd frame contained {len(plain)} bytes instead of {plain_length}", offset=offset
        )
    return plain


def pack_planes(items: Array, level: int) -> bytes:
    """`items`, (n,) of a dtype of w bytes, as w lengths (u32) and w planes.

    A plane is a run of n bytes: the first byte of every item, then the second byte, and so on.  A
    plane that is all 0 has length 0.
    """
    width, count = items.dtype.itemsize, len(items)
    bytes_of = np.ascontiguousarray(items).view(np.uint8).reshape(count, width)
    runs = []
    for number in range(width):
        plane = np.ascontiguousarray(bytes_of[:, number])
        runs.append(pack(plane, level) if plane.any() else b"")
    return struct.pack(f"<{width}I", *map(len, runs)) + b"".join(runs)


def unpack_planes(stored: Buffer, width: int, count: int, offset: int) -> Array:
    """The (count, width) uint8 array of `pack_planes`; FormatError from `offset` on for damage."""
    head = 4 * width
    if len(stored) < head:
        raise FormatError(
            f"{len(stored)} bytes are too few for the lengths of {width} planes", offset=offset
        )
    lengths = struct.unpack_from(f"<{width}I", stored)
    if sum(lengths) + head != len(stored):
        raise FormatError(
            f"planes of {sum(lengths)} bytes in a body of {len(stored)}", offset=offset
        )
    planes = np.zeros((count, width), np.uint8)
    start = head
    for number, length in enumerate(lengths):
        if length:
            planes[:, number] = np.frombuffer(
                unpack(stored[start : start + length], count, offset + start), np.uint8
            )
        start += length
    return planes
