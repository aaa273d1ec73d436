"""Runs of bytes: how arrays lie in a block, plain or as one zstd frame, whole or as byte planes.

A run whose stored length is its plain length is stored as it is; a shorter one is one zstd frame,
which must declare that plain length.  So no flag says how a run is stored, and none can lie, and no
memory is taken that rows and widths do not account for.  The compressors are shared: not for
several threads at once.
"""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
import zstandard

from ctrecorder.columns import Array
from ctrecorder.errors import FormatError

Buffer = bytes | memoryview

# zstd's own window at its highest levels.  No run is longer (262,144 rows of 16 bytes), and a frame
# that asks for more is refused.
_MAX_WINDOW = 1 << 23
# A frame must save 1/64, or it is not worth its decompression.
_WORTH = 64


@cache
def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)


_decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)


def pack(plain: Array, level: int) -> bytes:
    """A contiguous array as it is stored: a zstd frame of `level`, or its bytes where that saves
    nothing or `level` is 0.
    """
    if level == 0:
        return plain.tobytes()
    view = plain.view(np.uint8).data
    packed = _compressor(level).compress(view)
    return packed if len(packed) < len(view) - len(view) // _WORTH else bytes(view)


def unpack(stored: Buffer, plain_length: int, offset: int) -> Buffer:
    """The `plain_length` bytes that `stored` holds; FormatError at `offset` if it does not hold them."""
    if len(stored) == plain_length:
        return stored
    if len(stored) > plain_length:
        raise FormatError(f"{len(stored)} bytes stored for {plain_length}", offset=offset)
    try:
        declared = zstandard.get_frame_parameters(stored).content_size
        if declared != plain_length:
            raise FormatError(
                f"a zstd frame of {declared} bytes where {plain_length} are due", offset=offset
            )
        plain = _decompressor.decompress(stored, max_output_size=plain_length)
    except zstandard.ZstdError as error:
        raise FormatError(f"no zstd frame: {error}", offset=offset) from None
    if len(plain) != plain_length:
        raise FormatError(
            f"a zstd frame held {len(plain)} bytes instead of {plain_length}", offset=offset
        )
    return plain


def pack_planes(items: Array, level: int) -> bytes:
    """`items` (n,) of a w-byte dtype as w lengths (u32) and w runs of n bytes: all first bytes,
    then all second bytes, ...

    A run that is all zero has length 0.
    """
    width, count = items.dtype.itemsize, len(items)
    bytes_of = np.ascontiguousarray(items).view(np.uint8).reshape(count, width)
    runs = []
    for number in range(width):
        plane = np.ascontiguousarray(bytes_of[:, number])
        runs.append(pack(plane, level) if plane.any() else b"")
    return struct.pack(f"<{width}I", *map(len, runs)) + b"".join(runs)


def unpack_planes(stored: Buffer, width: int, count: int, offset: int) -> Array:
    """The (count, width) uint8 array that `pack_planes` stored; FormatError at `offset` and after."""
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
    at = head
    for number, length in enumerate(lengths):
        if length:
            planes[:, number] = np.frombuffer(
                unpack(stored[at : at + length], count, offset + at), np.uint8
            )
        at += length
    return planes
