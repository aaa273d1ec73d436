"""Files that may be compressed, read from the beginning: plain, gzip, bzip2, xz and zstd,
recognised by their first bytes.

    stream = Stream(descriptor)
    while data := stream.read(1 << 20):
        ...
    if stream.error:
        ...  # the bytes before it are good, as far as the compression can detect

Several compressed files, concatenated, are one, as for their own tools.  All reading is by pread,
so many streams can share a descriptor.  Memory: the requested bytes, and the decoder's window (zstd
at most 128 MiB, xz 65), for zstd twice 32 MiB more in the worst case.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Protocol

from ctrecorder.errors import FormatError

# Compressed bytes that are read at once.  A decoder that finds damage in a piece loses its output
# of that piece, so pieces are small.  The output of zstd's decoder cannot be limited, and 1 KiB
# can be 256 blocks of 128 KiB.
_PIECE, _PIECE_ZSTD = 4096, 1024
# `xz -9` and `zstd --long` can be read; a stranger's file could ask for 4 GiB.
_XZ_MEMORY = 128 << 20
_ZSTD_WINDOW = 128 << 20
# If the size in the last bytes of a gzip file is this near to the unpacked size, it is no chance (1
# in 2,000).
_SIZE_NEAR = 1 << 20


class _Decoder(Protocol):
    """The decoder of one compressed file.  It keeps input while it can make more of it."""

    @property
    def eof(self) -> bool:
        """Whether the end of that file was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether it can make nothing without more input."""

    @property
    def unused_data(self) -> bytes:
        """The input after the end of that file."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """The next bytes, at most `max_length` (zstd: as many as it likes)."""


class _Gzip:
    """zlib's decoder, which returns the input that it did not use.

    All output before damage is given, as by zcat: zlib itself drops the output of the call that
    raises its error.  `size`: bytes of output.
    """

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._error: zlib.error | None = None
        self.size = 0

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail and self._error is None

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        if self._error is not None:
            raise self._error
        data = self._decoder.unconsumed_tail + data
        before = self._decoder.copy()
        try:
            made = self._decoder.decompress(data, max_length)
        except zlib.error as error:
            self._decoder, self._error = before, error
            made = self._up_to_damage(data)
        self.size += len(made)
        return made

    def _up_to_damage(self, data: bytes) -> bytes:
        """The output of `data` up to the byte at which the decoder raises."""
        made = bytearray()
        try:
            for place in range(len(data)):
                made += self._decoder.decompress(data[place : place + 1])
        except zlib.error:
            pass
        return bytes(made)

    def has_end(self, last: bytes) -> bool:
        """Whether `last`, the last bytes of the file, are the size that a gzip file ends with.

        A damaged file can look as if its end were missing: damage may hide the end of the data.
        """
        stored = int.from_bytes(last[-4:], "little")
        return (stored - self.size + _SIZE_NEAR) % (1 << 32) <= 2 * _SIZE_NEAR


class _Zstd:
    """zstd's decoder; its output has no limit."""

    needs_input = True

    def __init__(self) -> None:
        from zstandard import ZstdDecompressor

        self._decoder = ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._decoder.decompress(data) if data else b""


# A decoder, and the exception that it raises for damaged input.
_Made = tuple[_Decoder, type[Exception]]


def _gzip() -> _Made:
    return _Gzip(), zlib.error


def _bzip2() -> _Made:
    from bz2 import BZ2Decompressor

    return BZ2Decompressor(), OSError


def _xz() -> _Made:
    from lzma import LZMADecompressor, LZMAError

    return LZMADecompressor(memlimit=_XZ_MEMORY), LZMAError


def _zstd() -> _Made:
    from zstandard import ZstdError

    return _Zstd(), ZstdError


# First bytes, name, function that makes a decoder, compressed bytes that are read at once.
_KINDS: tuple[tuple[bytes, str, Callable[[], _Made], int], ...] = (
    (b"\x1f\x8b", "gzip", _gzip, _PIECE),
    (b"BZh", "bzip2", _bzip2, _PIECE),
    (b"\xfd7zXZ\0", "xz", _xz, _PIECE),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd, _PIECE_ZSTD),
)


class Stream:
    """The unpacked bytes of an open file, in order.

    `kind`: "gzip", "bzip2", "xz", "zstd", or "" for a plain file.
    `position`: of the next byte, in the unpacked bytes.
    `error`: why it ended too early, with the offset in the packed file; None if it did not.
    `cut`: the error is only that the end of the file is missing.
    Raises OSError if the file cannot be read.
    """

    def __init__(self, descriptor: int) -> None:
        self.kind, self.position, self.cut = "", 0, False
        self.error: FormatError | None = None
        self._descriptor = descriptor
        self._place = 0  # of the next byte of the packed file
        head = os.pread(descriptor, 8, 0)
        for self._magic, kind, self._make, self._piece in _KINDS:
            if head.startswith(self._magic):
                self.kind = kind
                break
        self._decoder: _Decoder | None = None
        self._refusal: type[Exception] = FormatError
        self._input = self._ready = b""

    def read(self, length: int) -> bytes:
        """The next `length` bytes; fewer only at the end, or before the `error`."""
        if not self.kind:
            data = os.pread(self._descriptor, length, self.position)
        else:
            pieces, wanted = [], length
            while wanted > 0 and (self._ready or self._unpack(wanted)):
                pieces.append(self._ready[:wanted])
                self._ready = self._ready[wanted:]
                wanted -= len(pieces[-1])
            data = b"".join(pieces)
        self.position += len(data)
        return data

    def skip_to(self, position: int) -> None:
        """Skip the bytes before `position`, which must not be before the current one."""
        if not self.kind:
            self.position = position
        while self.position < position and self.read(min(position - self.position, 1 << 20)):
            pass

    def _unpack(self, length: int) -> bool:
        """Make some bytes ready, about `length` at most; False at the end."""
        while not self._ready and self.error is None:
            decoder = self._decoder = self._decoder or self._next_file()
            if decoder is None:
                return False
            data = self._input
            if not data and decoder.needs_input:
                data = self._take()
            self._input = b""
            try:
                self._ready = decoder.decompress(data, length)
            except self._refusal as error:
                self._fail(f"the {self.kind} data is damaged ({error})")
                return False
            if decoder.eof:
                self._input, self._decoder = decoder.unused_data, None
            elif not data and not self._ready and decoder.needs_input:
                self._fail(f"the {self.kind} data is cut: its end is missing")
                self.cut = not (isinstance(decoder, _Gzip) and decoder.has_end(self._last()))
        return bool(self._ready)

    def _next_file(self) -> _Decoder | None:
        """A decoder for the compressed file that begins here; None if none does."""
        while len(self._input) < len(self._magic) and (more := self._take()):
            self._input += more
        if not self._input:
            return None
        if not self._input.startswith(self._magic):
            self._fail(f"the {self.kind} data is followed by other data")
            return None
        decoder, self._refusal = self._make()
        return decoder

    def _take(self) -> bytes:
        data = os.pread(self._descriptor, self._piece, self._place)
        self._place += len(data)
        return data

    def _last(self) -> bytes:
        """The last bytes of the packed file, which was read to its end."""
        return os.pread(self._descriptor, 4, max(self._place - 4, 0))

    def _fail(self, reason: str) -> None:
        self.error = FormatError(reason, offset=self._place - len(self._input))
