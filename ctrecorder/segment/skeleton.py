"""A squeezed segment without its connections: what its frames prove, as bytes.

Header, GAPs, MARKs, SEALs and the footer stay where they are in the file, so a reader of it sees
the segment; its connections are in a table.  If the footer lists no blocks, a reader follows them:
then of each block all that its hash covers stays too.
"""

from __future__ import annotations

import struct

from ctrecorder.ctlog.frame import FRAME, TABLES, Kind
from ctrecorder.errors import FormatError
from ctrecorder.segment.reader import Segment

_PIECE = struct.Struct("<QQ")
_LEFT_OUT = (*TABLES, Kind.ADDRESSES)
# Bytes of one; an hour with a GAP each second has 1 MiB.
MAX_BYTES = 64 << 20
# Bytes of the file that one can be of: 1,000,000,000 connections.  More: a lie of a few bytes makes
# a reader search such a hole for blocks, 0.4 s a GiB.
_MAX_FILE = 1 << 34


def pieces(segment: Segment) -> bytes:
    """The skeleton: pieces of the file, each behind its offset and length.

    Raises FormatError and ArchiveError.
    """
    spans: list[list[int]] = []
    for block in segment.blocks:
        frame = segment.file.frame(block.offset)
        if block.kind not in _LEFT_OUT:
            _join(spans, block.offset, block.offset + FRAME.size + frame.length)
        elif not segment.is_listed:
            hashed = segment.file.hashed(block.offset, frame)
            _join(spans, block.offset, block.offset + FRAME.size + hashed)
    _join(spans, segment.footer_at, segment.size)
    return b"".join(
        _PIECE.pack(begin, end - begin) + segment.file.read(begin, end - begin)
        for begin, end in spans
    )


def _join(spans: list[list[int]], begin: int, end: int) -> None:
    if spans and spans[-1][1] == begin:
        spans[-1][1] = end
    else:
        spans.append([begin, end])


def parse(data: bytes) -> list[tuple[int, bytes]]:
    """The pieces of a skeleton, each with its offset, in order.  Raises FormatError."""
    found, at, reached = [], 0, 0
    while at < len(data):
        if len(data) - at < _PIECE.size:
            raise FormatError("what is stored of the segment ends too early")
        offset, length = _PIECE.unpack_from(data, at)
        at += _PIECE.size
        if length > len(data) - at or not reached <= offset <= _MAX_FILE:
            raise FormatError("what is stored of the segment is no part of one")
        found.append((offset, data[at : at + length]))
        at, reached = at + length, offset + length
    if not found:
        raise FormatError("nothing is stored of the segment but its rows")
    return found
