"""Frames, JSON payloads and footers: written ones are read, impossible ones are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder import uapi
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.frame import (
    FRAME,
    INDEX,
    MAX_JSON,
    MAX_PAYLOAD,
    MAX_ROWS,
    NO_HASH,
    VERSION,
    Frame,
    Gap,
    Kind,
    Mark,
    block_times,
    check_hash,
    dump_json,
    hashed_part,
    load_json,
    pack_block,
    pack_footer,
    parse_footer,
    parse_frame,
    parse_trailer,
    row_times,
)
from ctrecorder.ctlog.index import FORM_COLUMNS, FORM_SMALL, WHOLE
from ctrecorder.errors import FormatError
from tests.support import tables
from tests.support.tables import NOON, SECOND

GAP = pack_block(Kind.GAP, Gap(1, 2, "overrun", 5).payload(), bytes(range(16)), (1, 2))
PAYLOAD = encode_columns(tables.events(uapi.AF_INET, 50))
EVENTS = pack_block(
    Kind.EVENTS, PAYLOAD, NO_HASH, (1, 2), family=uapi.AF_INET, form=FORM_COLUMNS, rows=50
)


def changed(block: bytes, offset: int, patch: bytes) -> bytes:
    return block[:offset] + patch + block[offset + len(patch) :]


def test_a_frame_comes_back() -> None:
    frame = parse_frame(EVENTS)
    kind = Kind.EVENTS, uapi.AF_INET, VERSION, FORM_COLUMNS
    assert frame[:9] == (*kind, 50, len(PAYLOAD), 1, 2, NO_HASH)
    assert parse_frame(GAP).previous == bytes(range(16))
    check_hash(EVENTS[:64], hashed_part(PAYLOAD, FORM_COLUMNS))


@pytest.mark.parametrize(
    ("offset", "patch", "at", "says"),
    [
        (0, b"\xc7CTA", 0, "not a block"),
        (4, b"\0", 4, "kind 0"),
        (5, b"\x03", 5, "family 3"),
        (6, b"\x03", 6, "version 3: made by a newer version"),
        (7, b"\x03", 5, "form 3"),
        (7, b"\x00", 5, "form 0"),
        (8, bytes(4), 8, "0 rows"),
        (8, struct.pack("<I", MAX_ROWS + 1), 8, f"{MAX_ROWS + 1} rows"),
        (12, struct.pack("<I", MAX_PAYLOAD + 1), 12, "payload"),
        (12, struct.pack("<I", 7), 12, "payload"),
        (16, struct.pack("<q", 3), 16, "is after"),
    ],
)
def test_a_frame_that_no_writer_writes_is_refused(
    offset: int, patch: bytes, at: int, says: str
) -> None:
    with pytest.raises(FormatError, match=says) as caught:
        parse_frame(changed(EVENTS, offset, patch))
    assert caught.value.offset == at


@pytest.mark.parametrize(("offset", "patch"), [(5, b"\x02"), (7, b"\x01"), (8, b"\x01")])
def test_a_gap_has_no_rows(offset: int, patch: bytes) -> None:
    with pytest.raises(FormatError, match="kind 4"):
        parse_frame(changed(GAP, offset, patch))


def test_a_kind_of_a_newer_version_is_a_block() -> None:
    assert parse_frame(changed(GAP, 4, b"\x63")).kind == 0x63


@pytest.mark.parametrize("length", range(64))
def test_a_short_frame_is_refused(length: int) -> None:
    with pytest.raises(FormatError):
        parse_frame(GAP[:length])


@pytest.mark.parametrize("block", [GAP, EVENTS], ids=["gap", "events"])
def test_the_hash_covers_every_byte_before_and_behind_it(block: bytes) -> None:
    """In form COLUMNS it covers the index, which has the hashes of the bodies."""
    form = parse_frame(block).form
    end = 64 + len(hashed_part(block[64:], form))
    assert end == len(block) or form == FORM_COLUMNS
    for offset in range(0, end, 7 if form == FORM_COLUMNS else 1):
        wrong = changed(block, offset, bytes([block[offset] ^ 0x10]))
        with pytest.raises(FormatError, match="hash"):
            check_hash(wrong[:64], wrong[64:end])


def test_a_key_makes_another_hash() -> None:
    sealed = pack_block(Kind.GAP, GAP[64:], NO_HASH, (1, 2), key=b"secret")
    check_hash(sealed[:64], sealed[64:], b"secret")
    for key in (b"", b"other"):
        with pytest.raises(FormatError):
            check_hash(sealed[:64], sealed[64:], key)


@given(
    st.text(max_size=50),
    st.none() | st.integers(0, 2**63 - 1),
    st.text(max_size=50),
    st.integers(-(2**63), 2**63 - 1),
)
def test_gaps_come_back(reason: str, lost: int | None, detail: str, begin: int) -> None:
    gap = Gap(begin, begin, reason, lost, detail)
    block = pack_block(Kind.GAP, gap.payload(), NO_HASH, (begin, begin))
    assert Gap.parse(parse_frame(block), block[64:]) == gap


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


@given(st.text(), st.dictionaries(st.text().filter(lambda name: name != "what"), JSON))
def test_marks_come_back(what: str, facts: dict[str, Any]) -> None:
    mark = Mark(3, 4, what, facts)
    frame = Frame(Kind.MARK, 0, VERSION, WHOLE, 0, 0, 3, 4, NO_HASH, NO_HASH)
    assert Mark.parse(frame, mark.payload()) == mark


BAD_JSON = [
    b"",
    b"[]",
    b"null",
    b"{",
    b"\xff{}",
    b'{"lost":NaN}',
    b'{"lost":1e999}',
    b'{"lost":-1e999}',
    b'{"lost":Infinity}',
    b"[" * 60000,
    b'{"a":' * 12000,
    b'{"a":' + b"9" * 60000 + b"}",
    b"{}" + b" " * MAX_JSON,
]


@pytest.mark.parametrize("data", BAD_JSON, ids=range(len(BAD_JSON)))
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        load_json(data)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reason": 3},
        {"reason": "x", "lost": -1},
        {"reason": "x", "lost": 1.5},
        {"reason": "x", "lost": True},
        {"reason": "x", "detail": 1},
    ],
)
def test_a_gap_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="GAP"):
        Gap.parse(parse_frame(GAP), dump_json(fields))


@pytest.mark.parametrize("fields", [{}, {"what": None}, {"what": 1}])
def test_a_mark_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="MARK"):
        Mark.parse(parse_frame(GAP), dump_json(fields))


def test_a_hostname_that_is_no_text_is_stored() -> None:
    """Linux allows any bytes; Python gives them as lone surrogates."""
    assert load_json(dump_json({"host": "a\udcff"})) == {"host": "a?"}


INDEXED = np.array(
    [(0, 1, 2, 0, 1, 0, 0, 0), (100, 1, 2, 5, 2, 2, 1, 0), (300, 3, 4, 9, 2, 10, 2, 0)], INDEX
)


def test_a_footer_comes_back() -> None:
    payload = pack_footer(INDEXED, {"rows": 14}, 500)
    assert parse_trailer(payload[-16:]) == (500, len(b'{"rows":14}'))
    index, totals = parse_footer(payload, 500)
    assert (index == INDEXED).all()
    assert totals == {"rows": 14}
    index, totals = parse_footer(pack_footer(INDEXED[:0], {}, 500), 500)
    assert len(index) == 0


def footers() -> list[tuple[str, bytes, int]]:
    good = pack_footer(INDEXED, {}, 500)
    bent = []
    for name, row, value in (
        ("offset", 0, 1),
        ("offset", 2, 100),
        ("offset", 2, 500),
        ("offset", 1, 2**64 - 1),
        ("time_min", 1, 3),
        ("rows", 1, 2**31),
    ):
        index = INDEXED.copy()
        index[name][row] = value
        bent.append((f"{name} {row} {value}", pack_footer(index, {}, 500), 500))
    return [
        ("elsewhere", good, 499),
        ("no magic", good[:-1] + b"x", 500),
        ("short", good[:15], 500),
        ("half a record", good[1:], 500),
        ("no json", good[:-18] + b"[]" + good[-16:], 500),
        ("json longer than all", good[:-8] + struct.pack("<I", len(good)) + good[-4:], 500),
        *bent,
    ]


@pytest.mark.parametrize(("what", "payload", "offset"), footers())
def test_a_footer_that_lies_is_refused(what: str, payload: bytes, offset: int) -> None:
    with pytest.raises(FormatError):
        parse_footer(payload, offset)


def test_times_of_rows_and_blocks() -> None:
    table = tables.connections(uapi.AF_INET, 4)
    table.columns["start"] = np.array([NOON, 0, NOON + 5, 0])
    table.columns["end"] = np.array([NOON + SECOND, NOON + 2, 0, 0])
    assert row_times(Kind.CONNECTIONS, table).tolist() == [NOON, NOON + 2, NOON + 5, 0]
    assert block_times(Kind.CONNECTIONS, table) == (0, NOON + SECOND)
    events = tables.events(uapi.AF_INET, 9)
    assert block_times(Kind.EVENTS, events) == (min(events["time"]), max(events["time"]))


def test_frames_are_64_bytes() -> None:
    """Readers of every version count on it."""
    assert FRAME.size == 64
    assert INDEX.itemsize == 32
    assert {FORM_COLUMNS, FORM_SMALL, WHOLE} == {0, 1, 2}
