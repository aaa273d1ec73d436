"""Archives in letters: .zip and .gz, unpacked in bounds."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from ctrecorder.envelopes.bounds import Budget

ZIP, GZIP = b"PK\x03\x04", b"\x1f\x8b"
_CHUNK = 2**16
# The flag of an encrypted member.
_ENCRYPTED = 1
# What zipfile raises of a file that is none, or that was made to be read wrongly.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, OverflowError, RuntimeError),
)


class Broken(Exception):
    """An archive that cannot be unpacked.  The text says why."""


def gunzip(data: bytes, budget: Budget) -> bytes:
    """All members of a gzip file.  Raises Broken, Refused."""
    parts: list[bytes] = []
    total = 0
    rest = data
    while rest.startswith(GZIP):
        unpacker = zlib.decompressobj(31)
        while not unpacker.eof:
            try:
                part = unpacker.decompress(rest, _CHUNK)
            except zlib.error as error:
                raise Broken("the gzip file is damaged") from error
            if not part and not unpacker.eof:
                raise Broken("the gzip file is cut off")
            rest = unpacker.unconsumed_tail
            total += len(part)
            budget.unpacked(len(part), total, len(data))
            parts.append(part)
        rest = unpacker.unused_data
    return b"".join(parts)


def unzip(data: bytes, budget: Budget, depth: int) -> list[tuple[str, bytes]]:
    """Name and content of each member of a zip file.  Raises Broken, Refused."""
    found: list[tuple[str, bytes]] = []
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                budget.part(depth)
                if info.flag_bits & _ENCRYPTED:
                    raise Broken("the zip file is encrypted")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise Broken("the zip file uses a compression other than deflate")
                parts = []
                with archive.open(info) as member:
                    while part := member.read(_CHUNK):
                        total += len(part)
                        budget.unpacked(len(part), total, len(data))
                        parts.append(part)
                found.append((info.filename, b"".join(parts)))
    except _DAMAGED as error:
        raise Broken("the zip file is damaged") from error
    return found
