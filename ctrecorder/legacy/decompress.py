"""Files that may be compressed, read from the beginning on: plain, gzip, bzip2, xz and zstd, told
by their first bytes.

    stream = Stream(descriptor) while data := stream.read(1 << 20): ... if stream.error: ...  # what
    was read before is good, as far as the compression can tell

Several compressed files one behind the other are one, as for their own tools.  All reading is by
pread, so many streams can share a descriptor.  Memory: what is asked for, and the decoder's window
(zstd 128 MiB at most, xz 65), for zstd twice 32 MiB in the worst case.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Protocol

from ctrecorder.errors import FormatError

# Compressed bytes taken at once.  What a decoder made of a piece in which it then finds damage is
# lost with it, so they are few. zstd's decoder cannot be told how much to give, and 1 KiB can be
# 256 blocks of 128 KiB.
_PIECE, _PIECE_ZSTD = 4096, 1024
# `xz -9` and `zstd --long` can be read; a stranger's file could ask for 4 GiB.
_XZ_MEMORY = 128 << 20
_ZSTD_WINDOW = 128 << 20
# So near to what was unpacked the size in a gzip file's last bytes is no chance (1 in 2,000).
_SIZE_NEAR = 1 << 20


class _Decoder(Protocol):
    """Of one compressed file.  It holds input back while more can be made of it."""

    @property
    def eof(self) -> bool:
        """Whether the end of that file was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing can be made without more input."""

    @property
    def unused_data(self) -> bytes:
        """What was behind its end."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """The next bytes, at most `max_length` (zstd: as many as it likes)."""


class _Gzip:
    """zlib's decoder, which gives back the input that it did not use.

    All that it makes before the damage is given, as zcat does: zlib raises its error instead of
    what the same call made.  `size`: bytes that it made.
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
        """What `data` gives up to the byte at which the decoder raises."""
        made = bytearray()
        try:
            for place in range(len(data)):
                made += self._decoder.decompress(data[place : place + 1])
        except zlib.error:
            pass
        return bytes(made)

    def has_end(self, last: bytes) -> bool:
        """Whether `last`, the last bytes of the file, are the size that a gzip file ends with.

        A damaged file can look as if its end were missing, where damage hides the end of the data.
        """
        told = int.from_bytes(last[-4:], "little")
        return (told - self.size + _SIZE_NEAR) % (1 << 32) <= 2 * _SIZE_NEAR


class _Zstd:
    """zstd's decoder, which gives all that it can."""

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


# A decoder and what it raises for damaged input.
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


# First bytes, name, what makes a decoder, and compressed bytes taken at once.
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
    `error`: why it ended too early, its offset in the packed file; None while all is well.
    `cut`: whether the error is merely that the end of the file is missing.
    Raises OSError if the file cannot be read.
    """

    def __init__(self, descriptor: int) -> None:
        self.kind, self.position, self.cut = "", 0, False
        self.error: FormatError | None = None
        self._descriptor, self._place = (
            descriptor,
            0,
        )  # of what was not read yet, in the packed file
        head = os.pread(descriptor, 8, 0)
        for self._magic, kind, self._make, self._piece in _KINDS:
            if head.startswith(self._magic):
                self.kind = kind
                break
        self._decoder: _Decoder | None = None
        self._refusal: type[Exception] = FormatError
        self._input = self._ready = b""

    def read(self, length: int) -> bytes:
        """The next `length` bytes; fewer only at the end, or where `error` is."""
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
        """Leave out what is before `position`, which is not behind."""
        if not self.kind:
            self.position = position
        while self.position < position and self.read(min(position - self.position, 1 << 20)):
            pass

    def _unpack(self, length: int) -> bool:
        """Have some bytes ready, about `length` at most; False at the end."""
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
        """A decoder for the compressed file that begins here; None: there is none."""
        while len(self._input) < len(self._magic) and (more := self._take()):
            self._input += more
        if not self._input:
            return None
        if not self._input.startswith(self._magic):
            self._fail(f"what follows the {self.kind} data is something else")
            return None
        decoder, self._refusal = self._make()
        return decoder

    def _take(self) -> bytes:
        data = os.pread(self._descriptor, self._piece, self._place)
        self._place += len(data)
        return data

    def _last(self) -> bytes:
        """The last bytes of the packed file, all of which was read."""
        return os.pread(self._descriptor, 4, max(self._place - 4, 0))

    def _fail(self, reason: str) -> None:
        self.error = FormatError(reason, offset=self._place - len(self._input))
