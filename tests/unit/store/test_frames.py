"""The skeletons in an answer of a database, and an answer that is none."""

from __future__ import annotations

import pytest

from ctrecorder.errors import ArchiveError
from ctrecorder.shipping.rowbinary import text
from ctrecorder.store.frames import parsed


def test_rows_of_bytes() -> None:
    long = bytes(300)
    data = bytes(16) + text(b"abc") + b"\x01" * 16 + text(long) + b"\x02" * 16 + text(b"")
    assert parsed("h", data) == [(bytes(16), b"abc"), (b"\x01" * 16, long), (b"\x02" * 16, b"")]
    assert parsed("h", b"") == []


@pytest.mark.parametrize(
    "data",
    [
        bytes(15),
        bytes(16) + b"\x05abc",
        bytes(16) + b"\xff" * 9,
        bytes(16) + b"\xff\xff\xff\xff\x7f",
        bytes(16) + text(b"abc")[:-1],
        b"<html>",
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(ArchiveError, match="what it answers is no list of segments"):
        parsed("h", data)
