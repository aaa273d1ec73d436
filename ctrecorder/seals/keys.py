"""The keys of epochs: each is a hash of the one before, so that none leads back to an earlier one.

The key of epoch 0 is the verification key.  Who has it can check every seal, and forge every seal.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b

from ctrecorder.errors import FormatError, UsageError

KEY_BYTES = 32
# An epoch lasts this long by a clock that nobody sets.
EPOCH_SECONDS = 900
# Epochs from 0 on that a key is computed for: 239 years of 15 minutes, 10 to 30 s of hashing.  A
# stranger's file can name any epoch.
MAX_EPOCH = 1 << 23
_NEXT, _ID, _CHECK = b"ctlog next epoch", b"ctlog key id", b"ctlog key text"
_CHECK_BYTES = 3
_GROUP, _GROUPS = 4, 7  # characters of a group, groups of a line
TEXT_LINES = 2
# What is read where a character is not in the alphabet of base32.
_ALIKE = str.maketrans("018", "OIB", "- \t\r\n")
# Every so many epochs a key is kept: 400 kB for MAX_EPOCH.
_KEPT = 1 << 11


def next_key(key: bytes) -> bytes:
    """The key of the next epoch."""
    return blake2b(key, digest_size=KEY_BYTES, person=_NEXT).digest()


def advance(key: bytes, epochs: int) -> bytes:
    """The key after this number of epochs: 1 to 3 us each, 35 to 120 ms for a year."""
    for _ in range(epochs):
        key = blake2b(key, digest_size=KEY_BYTES, person=_NEXT).digest()
    return key


def key_id(verification_key: bytes) -> str:
    """The name of a key, which tells nothing about it: 16 hex digits."""
    return blake2b(verification_key, digest_size=KEY_BYTES, person=_ID).digest()[:8].hex()


class EpochKeys:
    """The keys of all epochs, computed from the verification key as they are needed."""

    def __init__(self, verification_key: bytes) -> None:
        self.id = key_id(verification_key)
        self._kept = [verification_key]  # that of each epoch that is a multiple of _KEPT
        self._epoch, self._key = 0, verification_key

    def at(self, epoch: int) -> bytes:
        """The key of `epoch`.  Raises FormatError for an epoch that no recorder reaches."""
        if not 0 <= epoch <= MAX_EPOCH:
            raise FormatError(f"epoch {epoch} is out of range", offset=0)
        while len(self._kept) <= epoch // _KEPT:
            self._kept.append(advance(self._kept[-1], _KEPT))
        begin = epoch // _KEPT * _KEPT
        if not begin <= self._epoch <= epoch:
            self._epoch, self._key = begin, self._kept[epoch // _KEPT]
        self._key = advance(self._key, epoch - self._epoch)
        self._epoch = epoch
        return self._key


def key_text(verification_key: bytes) -> str:
    """The key as two lines of groups of four letters and digits, with a check for typing errors."""
    check = blake2b(verification_key, digest_size=_CHECK_BYTES, person=_CHECK).digest()
    text = base64.b32encode(verification_key + check).decode("ascii")
    groups = [text[at : at + _GROUP] for at in range(0, len(text), _GROUP)]
    return "\n".join("-".join(groups[at : at + _GROUPS]) for at in range(0, len(groups), _GROUPS))


def parse_key_text(text: str) -> bytes:
    """The key of `key_text`, typed by a person.  Raises UsageError."""
    letters = text.upper().translate(_ALIKE)
    try:
        data = base64.b32decode(letters)
    except (binascii.Error, ValueError):
        data = b""
    key, check = data[:KEY_BYTES], data[KEY_BYTES:]
    if (
        len(data) != KEY_BYTES + _CHECK_BYTES
        or check != blake2b(key, digest_size=_CHECK_BYTES, person=_CHECK).digest()
    ):
        raise UsageError(
            "this is not a verification key, or a letter of it is wrong: it has 14 groups of 4 "
            "letters and digits"
        )
    return key
