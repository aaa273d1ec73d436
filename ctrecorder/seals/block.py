"""The block SEAL: which epoch sealed everything before it."""

from __future__ import annotations

import hmac
import struct
from hashlib import blake2b
from typing import NamedTuple

from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.frame import FRAME
from ctrecorder.errors import FormatError

SEAL = struct.Struct("<II32s")
_PERSON = b"ctlog seal"


class Seal(NamedTuple):
    """The payload of a SEAL.

    `epoch`: whose key made it.  `since`: of a squeezed or repaired segment the epoch of the last
    SEAL of what it replaces, else the same.
    """

    epoch: int
    since: int
    seal: bytes

    @property
    def is_late(self) -> bool:
        """Whether it proves nothing of the time before it was made."""
        return self.epoch > self.since + 1


def pack_seal(key: bytes, epoch: int, since: int, head: bytes) -> bytes:
    """The payload of a SEAL.  `head`: the first 48 bytes of its frame."""
    covered = struct.pack("<II", epoch, since)
    return covered + _seal(key, head, covered)


def parse_seal(payload: Buffer) -> Seal:
    """The seal in the payload of a SEAL block.  Raises FormatError."""
    if len(payload) < SEAL.size:
        raise FormatError(f"a SEAL of {len(payload)} bytes", offset=FRAME.size)
    seal = Seal._make(SEAL.unpack_from(payload))
    if seal.since > seal.epoch:
        raise FormatError(
            f"a SEAL of epoch {seal.epoch} since epoch {seal.since}", offset=FRAME.size
        )
    return seal


def is_right(seal: Seal, head: Buffer, key: bytes) -> bool:
    """Whether the seal was made with `key`, that of its epoch, for the frame with this `head`."""
    covered = struct.pack("<II", seal.epoch, seal.since)
    return hmac.compare_digest(seal.seal, _seal(key, head, covered))


def _seal(key: bytes, head: Buffer, covered: bytes) -> bytes:
    return blake2b(bytes(head) + covered, digest_size=32, key=key, person=_PERSON).digest()
