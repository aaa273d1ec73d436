"""Archives: whole, broken, encrypted, and bombs."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.envelopes.bounds import MAX_UNPACKED, Budget, Refused
from ctrecorder.envelopes.unpack import Broken, gunzip, unzip


def packed(*members: tuple[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whole(one: bytes, two: bytes) -> None:
    assert unzip(packed(("a", one), ("b/c", two)), Budget(), 0) == [("a", one), ("b/c", two)]
    assert gunzip(gzip.compress(one) + gzip.compress(two), Budget()) == one + two


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    zeros = bytes(MAX_UNPACKED + 1)
    for data in (packed(("a", zeros)), packed(("a", zeros[::2]), ("b", zeros[::2]), ("c", b"1"))):
        with pytest.raises(Refused, match="unpacks to more than"):
            unzip(data, Budget(), 0)
    with pytest.raises(Refused, match="unpacks to more than"):
        gunzip(gzip.compress(zeros), Budget())
    with pytest.raises(Refused, match="200 times its size"):
        gunzip(gzip.compress(bytes(2**21)), Budget())
    with pytest.raises(Refused, match="more than 500 parts"):
        unzip(packed(*((str(number), b"") for number in range(501))), Budget(), 0)


def test_all_archives_of_a_letter_share_the_limit() -> None:
    budget = Budget()
    data = gzip.compress(random.Random(1).randbytes(6 * 2**20), 1)
    gunzip(data, budget)
    gunzip(data, budget)
    with pytest.raises(Refused, match="16 MiB"):
        gunzip(data, budget)


@given(st.integers(0, 150), st.integers(0, 255))
def test_damage(at: int, value: int) -> None:
    """Broken or refused, or what the damage left; no other error."""
    for data, unpack in (
        (packed(("a.csv", b"ip,time\n" * 20)), lambda data: unzip(data, Budget(), 0)),
        (gzip.compress(b"ip,time\n" * 20), lambda data: gunzip(data, Budget())),
    ):
        changed = data[:at] + bytes([value]) + data[at + 1 :]
        for attempt in (changed, data[:at]):
            with contextlib.suppress(Broken, Refused):
                unpack(attempt)


def test_what_it_does_not_unpack() -> None:
    with pytest.raises(Broken, match="other than deflate"):
        unzip(packed(("a", b"x"), kind=zipfile.ZIP_LZMA), Budget(), 0)
    data = bytearray(packed(("a", b"x")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Broken, match="encrypted"):
        unzip(bytes(data), Budget(), 0)
