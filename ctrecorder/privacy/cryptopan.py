"""Crypto-PAn: addresses replaced so that equal prefixes stay equal prefixes.  Pure.

J. Xu, J. Fan, M. Ammar, S. Moon: Prefix-Preserving IP Address Anonymization (2002).  Bit N of the
result is bit N of the address, changed or not by a bit of AES over the N bits before it.  nfanon
has the same results for IPv4.  (For IPv6, nfanon 1.7.1 takes the bytes of each half in the order of
the machine, so that it keeps no prefixes.)
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Array

KEY_BYTES = 32
_AES_BYTES = 16
# Addresses that are worked on at once: 128 blocks of 16 bytes each.
_AT_ONCE = 4096
# Addresses whose results are kept: most of a block were in the block before.
_KEPT = 1 << 17

Bytes = NDArray[np.uint8]


class CryptoPan:
    """Replaces addresses.  `key`: KEY_BYTES bytes, half for AES and half for the pad."""

    def __init__(self, key: bytes) -> None:
        self._aes = Cipher(algorithms.AES(key[:_AES_BYTES]), modes.ECB()).encryptor()
        self._pad = np.frombuffer(self._aes.update(key[_AES_BYTES:]), np.uint8)
        self._known: dict[int, tuple[Array, Array]] = {}

    def addresses(self, addresses: Array, family: int) -> Array:
        """(n,), as in a column of `family`."""
        distinct, which = np.unique(addresses, return_inverse=True)
        if not len(distinct):
            return addresses
        known, results = self._known.get(family, (distinct[:0], distinct[:0]))
        places = np.minimum(np.searchsorted(known, distinct), max(len(known) - 1, 0))
        new = np.ones(len(distinct), np.bool_) if not len(known) else known[places] != distinct
        if new.any():
            if len(known) > _KEPT:
                known, results, new = known[:0], results[:0], np.ones(len(distinct), np.bool_)
            known = np.concatenate((known, distinct[new]))
            results = np.concatenate((results, self._replace(distinct[new], family)))
            order = np.argsort(known)
            known, results = known[order], results[order]
            self._known[family] = known, results
            places = np.searchsorted(known, distinct)
        found: Array = results[places][which]
        return found

    def number(self, address: int, family: int) -> int:
        """One address, as a number of 32 or 128 bits."""
        if family == uapi.AF_INET6:
            column: Array = np.frombuffer(address.to_bytes(16, "big"), "S16")
        else:
            column = np.array([address], "<u4")
        return int.from_bytes(_as_bytes(self.addresses(column, family)).tobytes(), "big")

    def _replace(self, addresses: Array, family: int) -> Array:
        parts = [
            self._some(_as_bytes(addresses[first : first + _AT_ONCE]))
            for first in range(0, len(addresses), _AT_ONCE)
        ]
        replaced = np.ascontiguousarray(np.concatenate(parts))
        if family == uapi.AF_INET6:
            return replaced.view("S16").reshape(-1)
        return replaced.view(">u4").reshape(-1).astype("<u4")

    def _some(self, addresses: Bytes) -> Bytes:
        """(n, bytes): the results."""
        count, size = addresses.shape
        bits = 8 * size
        # (bits, bytes): which bits of the address are in the input for each bit.
        taken = np.packbits(np.tri(bits, bits, -1, dtype=np.uint8), axis=1)
        inputs = np.empty((count, bits, _AES_BYTES), np.uint8)
        inputs[:] = self._pad
        inputs[:, :, :size] = addresses[:, None, :] & taken | self._pad[:size] & ~taken
        outputs = np.frombuffer(self._aes.update(inputs.tobytes()), np.uint8)
        first_bits = outputs.reshape(count, bits, _AES_BYTES)[:, :, 0] >> 7
        found: Bytes = np.packbits(first_bits, axis=1) ^ addresses
        return found


def _as_bytes(addresses: Array) -> Bytes:
    """(n, 4 or 16), in network order."""
    if addresses.dtype.kind == "S":
        return np.ascontiguousarray(addresses).view(np.uint8).reshape(-1, 16)
    return addresses.astype(">u4").view(np.uint8).reshape(-1, 4)
