"""Seals and lines of the ledger: made, read, and found to be changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.errors import FormatError
from ctrecorder.seals import ledger
from ctrecorder.seals.block import SEAL, is_right, pack_seal, parse_seal
from ctrecorder.seals.ledger import NO_LINE, pack_line, parse_line

KEY = bytes(range(32))
EPOCHS = st.integers(0, 2**32 - 1)
FACTS = st.dictionaries(st.sampled_from(["segment", "seal", "last_hash"]), st.text(max_size=40))


@given(EPOCHS, EPOCHS, st.binary(min_size=48, max_size=48), st.binary(max_size=9))
def test_a_seal_is_over_its_frame_and_its_epochs(
    one: int, other: int, head: bytes, more: bytes
) -> None:
    since, epoch = sorted((one, other))
    payload = pack_seal(KEY, epoch, since, head)
    seal = parse_seal(payload + more)
    assert len(payload) == SEAL.size
    assert (seal.epoch, seal.since, seal.is_late) == (epoch, since, epoch > since + 1)
    assert is_right(seal, head, KEY)
    assert not is_right(seal, head, KEY[::-1])
    assert not is_right(seal, bytes([head[0] ^ 1]) + head[1:], KEY)
    assert not is_right(seal._replace(epoch=epoch ^ 1), head, KEY)
    assert not is_right(seal._replace(since=since ^ 1), head, KEY)


@pytest.mark.parametrize("payload", [b"", bytes(39), bytes(4) + b"\1\0\0\0" + bytes(32)])
def test_a_seal_that_cannot_be(payload: bytes) -> None:
    with pytest.raises(FormatError):
        parse_seal(payload)


@given(EPOCHS, st.integers(-(2**63), 2**63 - 1), FACTS)
def test_a_line_is_read_as_it_was_written(epoch: int, time: int, facts: dict[str, Any]) -> None:
    data = pack_line(KEY, epoch, time, "close", NO_LINE, facts)
    assert data.count(b"\n") == 1
    line = parse_line(data)
    assert (line.epoch, line.time, line.what, line.previous) == (epoch, time, "close", NO_LINE)
    assert line.facts == facts
    assert line.is_right(KEY)
    assert not line.is_right(KEY[::-1])
    after = parse_line(pack_line(KEY, epoch, time, "close", line.hash, facts))
    assert after.hash != line.hash


@given(st.data())
def test_a_changed_line_is_found(data: st.DataObject) -> None:
    line = pack_line(KEY, 7, 1, "next", NO_LINE, {"next": 9, "segment": "a"})
    at = data.draw(st.integers(0, len(line) - 2))
    wrong = line[:at] + bytes([line[at] ^ data.draw(st.integers(1, 255))]) + line[at + 1 :]
    try:
        found = parse_line(wrong)
    except (FormatError, UnicodeDecodeError):
        return
    assert not found.is_right(KEY) or found.hash == parse_line(line).hash


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]\tx",
        b"[" * 5000,
        b'{"epoch":1,"time":2,"what":"next","previous":"","next":1}\tx',
        b'{"epoch":1,"time":2,"what":"next","previous":""}\tx',
        b'{"epoch":1,"time":2,"what":"stop","previous":"","next":2}\tx',
        b'{"epoch":true,"time":2,"what":"stop","previous":""}\tx',
        b'{"epoch":-1,"time":2,"what":"stop","previous":""}\tx',
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(FormatError):
        parse_line(line)


def test_a_line_has_a_limit() -> None:
    with pytest.raises(FormatError):
        pack_line(KEY, 1, 2, "hold", NO_LINE, {"reason": "x" * ledger.MAX_LINE_BYTES})


def test_the_name_of_a_ledger() -> None:
    assert ledger.key_of(ledger.file_name("0123456789abcdef")) == "0123456789abcdef"
    for name in ("seal-.ledger", "seal-0123456789ABCDEF.ledger", "0123456789abcdef", "a"):
        assert ledger.key_of(name) == ""
