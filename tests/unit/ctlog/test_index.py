"""Columns to bytes and back: every column, family and encoding; and malformed bytes."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder import uapi
from ctrecorder.columns import BY_ID, BY_NAME, COLUMNS, Array, Table, bit
from ctrecorder.ctlog import encoder
from ctrecorder.ctlog import index as index_module
from ctrecorder.ctlog.compression import pack_planes
from ctrecorder.ctlog.decoder import decode_columns, decode_table
from ctrecorder.ctlog.encoder import encode_columns, encode_small
from ctrecorder.ctlog.entry import (
    DICTIONARY,
    DIFFERENCE,
    ENTRY,
    PLANES,
    SPARSE,
    Entry,
    body_hash,
)
from ctrecorder.ctlog.frame import MAX_ROWS
from ctrecorder.ctlog.index import FORM_COLUMNS, FORM_SMALL, HEAD, Index
from ctrecorder.ctlog.plans import LIVE, SQUEEZED, ColumnEncoding, EncodingPlan
from ctrecorder.ctlog.unique import distinct, estimate
from ctrecorder.errors import FormatError
from tests.support import tables
from tests.support.tables import FAMILIES, same

ALL = [(column.name, family) for column in COLUMNS for family in FAMILIES]


def round_trip(table: Table, level: int = 1, plan: EncodingPlan = LIVE) -> bytes:
    payload = encode_columns(table, level, plan)
    same(decode_table(payload, FORM_COLUMNS, table.family, table.rows), table)
    return payload


def index_of(payload: bytes, family: int, rows: int) -> Index:
    return Index(payload, family, rows, len(payload))


def entry_of(payload: bytes, name: str, family: int, rows: int) -> Entry:
    return index_of(payload, family, rows).columns[name]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 2, 3, 300, 5000, 65536])
def test_what_a_kernel_reports_comes_back(family: int, rows: int) -> None:
    round_trip(tables.events(family, rows, seed=rows))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 2, 9, 4000])
def test_extreme_values_come_back(family: int, rows: int) -> None:
    round_trip(tables.extremes(family, rows))
    same(
        decode_table(encode_small(tables.extremes(family, rows)), FORM_SMALL, family, rows),
        tables.extremes(family, rows),
    )


SCHEMES = [
    ColumnEncoding(
        partner=partner,
        dictionary=dictionary,
        delta=delta,
        planes=planes,
        sparse=sparse,
        scale=scale,
    )
    for partner in ("", "twin")
    for dictionary in (0, 1)
    for delta in (False, True)
    for planes in (False, True)
    for sparse in (False, True)
    for scale in (False, True)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), ALL)
def test_every_column_comes_back_by_every_scheme(name: str, family: int) -> None:
    """Also by encodings that make no sense for the column."""
    twin = next(
        other.name
        for other in COLUMNS
        if other.kind == BY_NAME[name].kind and other.name not in (name, "present")
    )
    random = np.random.default_rng(BY_NAME[name].id)
    for shape in ("noise", "few", "steps"):
        for scheme in SCHEMES:
            if scheme.scale and BY_NAME[name].kind != "<i8":
                continue
            values = tables.noise(random, name, family, 500)
            if shape == "few":
                values = values[random.integers(0, 3, 500)]
            elif shape == "steps" and values.dtype.kind != "S":
                values = np.arange(500).astype(values.dtype) * values.dtype.type(3)
            columns: dict[str, Array] = {
                "present": np.full(500, 0xFFFFFFFF, np.uint32),
                name: values,
            }
            if name != "present" and BY_NAME[name].id < 32:
                unknown = random.integers(0, 2, 500).astype(bool)
                columns["present"] = np.where(unknown, 0, bit(name)).astype(np.uint32)
                columns[name] = values.copy()
                columns[name][unknown] = 0 if values.dtype.kind != "S" else b""
            columns[twin] = np.where(
                random.integers(0, 2, 500).astype(bool), columns[name], values[::-1]
            ).astype(values.dtype)
            plan = {
                name: ColumnEncoding(
                    **{**scheme.__dict__, "partner": twin if scheme.partner else ""}
                )
            }
            round_trip(Table(family, 500, columns), level=3, plan=plan)


@given(st.data())
def test_any_table_comes_back(data: st.DataObject) -> None:
    """Any choice of columns, few values or all of the type, present or not."""
    family = data.draw(st.sampled_from(FAMILIES))
    rows = data.draw(st.integers(1, 40))
    columns: dict[str, Array] = {}
    for name in data.draw(st.lists(st.sampled_from(sorted(BY_NAME)), unique=True, min_size=1)):
        dtype = BY_NAME[name].dtype(family)
        if dtype.kind == "S":
            drawn = data.draw(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=4))
            pool = np.frombuffer(b"".join(drawn), "S16")
        else:
            limits: np.iinfo[Any] = np.iinfo(dtype.name)
            ends = st.sampled_from([int(limits.min), int(limits.max), 0, 1])
            pool = np.array(
                data.draw(
                    st.lists(
                        ends | st.integers(int(limits.min), int(limits.max)), min_size=1, max_size=6
                    )
                ),
                dtype,
            )
        columns[name] = pool[
            np.array(
                data.draw(st.lists(st.integers(0, len(pool) - 1), min_size=rows, max_size=rows))
            )
        ]
    table = Table(family, rows, columns)
    round_trip(table)
    same(decode_table(encode_small(table), FORM_SMALL, family, rows), table)


def test_zero_columns_are_not_stored() -> None:
    table = Table(uapi.AF_INET, 4, {"zone": np.zeros(4, np.uint16), "event": np.ones(4, np.uint8)})
    payload = round_trip(table)
    assert list(index_of(payload, uapi.AF_INET, 4).columns) == ["event"]
    nothing = Table(uapi.AF_INET6, 4, {"orig_src": np.zeros(4, "S16")})
    same(decode_table(round_trip(nothing), FORM_COLUMNS, nothing.family, 4), nothing)
    same(decode_table(encode_small(nothing), FORM_SMALL, nothing.family, 4), nothing)


def test_read_only_and_broadcast_arrays_are_taken() -> None:
    address = np.broadcast_to(np.array(b"\x20\x01", "S16"), (700,))
    round_trip(
        Table(
            uapi.AF_INET6, 700, {"orig_src": address, "id": np.arange(1400, dtype=np.uint32)[::2]}
        )
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_equals_its_partner_costs_an_entry(family: int) -> None:
    """The reply tuple of connections without NAT costs only its entries."""
    table = tables.events(family, 5000)
    table.columns["reply_src"] = table.columns["orig_dst"]
    for name, scheme in (("reply_src", LIVE["reply_src"]), ("reply_sport", LIVE["reply_sport"])):
        part = encoder.encode_parts(table, 1, {name: scheme})[name]
        assert part.size == 0


def test_rows_without_counters_cost_nothing() -> None:
    table = tables.events(uapi.AF_INET, 5000)
    payload = encode_columns(table)
    entry = entry_of(payload, "orig_bytes", uapi.AF_INET, 5000)
    assert entry.encoding & SPARSE
    ended = int((table["event"] == 3).sum())
    assert entry.body_length < 4 * ended + 100


def test_the_live_plan_is_small() -> None:
    """13 bytes of an event are noise: id, source port, low bytes of times and counters."""
    assert len(encode_columns(tables.events(uapi.AF_INET, 65536))) / 65536 < 26
    assert len(encode_columns(tables.events(uapi.AF_INET6, 65536))) / 65536 < 26


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kinds", [1, 2, 8, 9, 300, 6000])
def test_distinct_is_unique(family: int, kinds: int) -> None:
    """numpy's own sorting as the oracle."""
    for rows in (1, 700, 20_000):
        for name in ("orig_src", "orig_sport", "id", "orig_bytes"):
            pool = tables.noise(np.random.default_rng(kinds), name, family, kinds)
            values = pool[np.random.default_rng(rows).integers(0, kinds, rows)]
            entries, places = distinct(values)
            wanted, wanted_places = np.unique(values, return_inverse=True)
            assert entries.tobytes() == wanted.tobytes()
            assert (places == wanted_places).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kinds", [1, 9, 100, 1000, 100_000])
def test_how_many_are_distinct_is_told_by_a_sample(family: int, kinds: int) -> None:
    """The estimate is close; for values in bursts it can be too small, never too large."""
    random = np.random.default_rng(kinds)
    values = tables.noise(random, "orig_src", family, kinds)[random.integers(0, kinds, 16384)]
    true = len(np.unique(values))
    assert true / 2 <= estimate(values) <= 2 * true
    bursts = np.repeat(values[:4096], 4)
    assert estimate(bursts) <= 2 * len(np.unique(bursts))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flood_to_everywhere_costs_no_dictionary(family: int) -> None:
    """No dictionary of thousands of entries is made; a smaller one is, also for few rows."""
    for rows, kinds, made in ((16384, 100_000, False), (16384, 1000, True), (3000, 100_000, True)):
        table = tables.events(family, rows, kinds=kinds)
        entry = entry_of(encode_columns(table), "orig_dst", family, rows)
        assert bool(entry.encoding & DICTIONARY) == made


def test_distinct_survives_keys_that_collide() -> None:
    """Values of 16 bytes with the same 64-bit key."""
    from ctrecorder.ctlog import unique as module

    halves = np.zeros((5000, 2), np.uint64)
    halves[:, 0] = np.arange(5000) % 7
    mixed = (halves[:, 0] ^ (halves[:, 0] >> np.uint64(29))) * module._GOLDEN_64
    halves[:, 1] = -mixed
    values = halves.view("S16").reshape(-1)
    entries, places = distinct(values)
    wanted, wanted_places = np.unique(values, return_inverse=True)
    assert len(wanted) == 7
    assert entries.tobytes() == wanted.tobytes()
    assert (places == wanted_places).all()


def plain(values: Array) -> set[int | bytes]:
    """The values as Python objects; those of 16 bytes with trailing NULs."""
    if values.dtype.kind != "S":
        return set(values.tolist())
    data = np.ascontiguousarray(values).tobytes()
    return {data[at : at + 16] for at in range(0, len(data), 16)}


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_hold_and_dictionaries_are_exact(family: int) -> None:
    table = tables.events(family, 3000, kinds=60)
    index = index_of(encode_columns(table), family, 3000)
    for name in BY_NAME:
        bound = index.bound(name)
        if bound is None:
            assert name in ("time", "stop", "reply_sport", "reply_dport")
            continue
        values = plain(table[name])
        assert all(bound.low <= value <= bound.high for value in values)  # type: ignore[operator]
        assert not bound.parts or values <= set().union(*map(plain, bound.parts))
    bound = index.bound("reply_src")
    assert bound is not None
    exact = set().union(*map(plain, bound.parts))
    assert (
        plain(table["reply_src"]) <= exact <= plain(table["reply_src"]) | plain(table["orig_dst"])
    )


def test_only_the_bodies_that_are_asked_for_are_fetched() -> None:
    table = tables.events(uapi.AF_INET, 3000)
    payload = encode_columns(table)
    fetched: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        fetched.append(offset)
        return payload[offset : offset + length]

    index = index_of(payload, table.family, table.rows)
    found = decode_columns(index, fetch, ["reply_dport", "time"])
    same(found, table.select(["reply_dport", "time"]))
    assert fetched == [
        index.columns[name].body_offset for name in ("orig_sport", "reply_dport", "time")
    ]


def test_columns_of_a_newer_version_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    table = tables.events(uapi.AF_INET, 400)
    for form, encode in ((FORM_COLUMNS, encode_columns), (FORM_SMALL, encode_small)):
        payload = encode(table)
        with monkeypatch.context() as patch:
            newer = {"orig_sport", "orig_dst", "reply_src", "reply_dport"}
            patch.setattr(
                index_module,
                "BY_ID",
                {number: column for number, column in BY_ID.items() if column.name not in newer},
            )
            index_module._check_layout.cache_clear()
            kept = [name for name in table.columns if name not in newer]
            same(decode_table(payload, form, table.family, table.rows, kept), table.select(kept))
        index_module._check_layout.cache_clear()


def attempt(payload: bytes, form: int, family: int, rows: int) -> Table | FormatError:
    """The table of a payload, or the FormatError; another error is raised."""
    try:
        return decode_table(payload, form, family, rows)
    except FormatError as error:
        return error


def broken(payload: bytes, at: int, *patch: bytes) -> bytes:
    return payload[:at] + b"".join(patch) + payload[at + sum(map(len, patch)) :]


def test_an_unknown_encoding_is_refused_as_newer() -> None:
    payload = encode_columns(tables.events(uapi.AF_INET, 100))
    with pytest.raises(FormatError, match="newer version") as caught:
        index_of(broken(payload, HEAD.size + 1, b"\x00\x02"), uapi.AF_INET, 100)
    assert caught.value.offset == HEAD.size


def lies() -> Iterator[tuple[str, int, bytes]]:
    """Offsets in the first entry of a directory, and impossible values for them."""
    huge = struct.pack("<I", 0xFFFFFFFF)
    yield "columns", 0, b"\xff\xff"
    yield "index length", 4, huge
    yield "index length", 4, bytes(4)
    for what, offset in (("entries", 8), ("dictionary length", 12), ("body length", 16)):
        yield what, HEAD.size + offset, huge
    yield "id", HEAD.size, b"\x00"
    yield "id", HEAD.size, b"\x1d"
    yield "width", HEAD.size + 3, b"\x03"
    yield "width", HEAD.size + 3, b"\x10"
    yield "partner", HEAD.size + 4, b"\x01"
    yield "scale", HEAD.size + 5, b"\x0a"
    for encoding in range(1, 256):
        yield f"encoding {encoding}", HEAD.size + 1, bytes([encoding])


@pytest.mark.parametrize(("what", "at", "patch"), lies())
def test_a_directory_that_lies_is_refused_without_taking_memory(
    what: str, at: int, patch: bytes
) -> None:
    table = tables.events(uapi.AF_INET, 300)
    payload = encode_columns(table)
    changed = broken(payload, at, patch)
    if changed == payload:
        return
    tracemalloc.start()
    found = attempt(changed, FORM_COLUMNS, table.family, table.rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if isinstance(found, FormatError):
        assert 0 <= found.offset <= len(payload)
    else:
        assert what.startswith(
            "encoding"
        )  # another reading of the same bytes, which the frame's hash would have found
        assert len(found["time"]) == table.rows
    assert peak < 1 << 20


def crafted(column: int, encoding: int, width: int, body: bytes, **fields: int) -> bytes:
    """A payload of one column."""
    entry = Entry(column, encoding, width, body_length=len(body), hash=body_hash(body), **fields)
    return HEAD.pack(1, 0, HEAD.size + ENTRY.size) + entry.store() + body


def test_a_scale_beyond_the_type_is_modulo_its_size() -> None:
    """As in ctlog(5); no writer does this."""
    found = decode_table(crafted(8, 0, 1, b"\x00\x01\x02", scale=9), FORM_COLUMNS, uapi.AF_INET, 3)
    assert found["orig_sport"].tolist() == [0, 10**9 % 65536, 2 * 10**9 % 65536]


@pytest.mark.slow
@pytest.mark.parametrize("declared", [True, False])
def test_a_zstd_bomb_is_refused_before_memory_is_taken(declared: bool) -> None:
    """1 GiB of zeros where a few rows are expected."""
    compressor = zstandard.ZstdCompressor(level=3, write_content_size=declared)
    chunks = compressor.compressobj(size=1 << 30) if declared else compressor.compressobj()
    bomb = b"".join([chunks.compress(bytes(1 << 20)) for _ in range(1024)] + [chunks.flush()])
    for encoding in (0, PLANES):
        rows = MAX_ROWS
        body = bomb if encoding == 0 else struct.pack("<8I", *[len(bomb)] + [0] * 7) + bomb
        tracemalloc.start()
        with pytest.raises(FormatError, match="zstd frame of"):
            decode_table(crafted(1, encoding, 8, body), FORM_COLUMNS, uapi.AF_INET, rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20
    assert declared or b"\xb5/\xfd" in bomb[:8]


def test_a_small_block_cannot_claim_more_than_its_limit() -> None:
    payload = bytes([1, 1, 8]) + b"\x28\xb5\x2f\xfd"
    with pytest.raises(FormatError, match="form SMALL"):
        decode_table(payload, FORM_SMALL, uapi.AF_INET, MAX_ROWS)


def test_a_place_outside_the_dictionary_is_refused() -> None:
    values = np.array([5, 9, 5, 9], np.uint32)
    part = encoder.encode_parts(
        Table(uapi.AF_INET, 4, {"orig_src": values}),
        0,
        {"orig_src": ColumnEncoding(dictionary=1, level=0)},
    )["orig_src"]
    assert part.body == b"\0\1\0\1"
    body = b"\0\1\2\1"
    entry = part.entry._replace(hash=body_hash(body))
    payload = (
        HEAD.pack(1, 0, HEAD.size + ENTRY.size + len(part.dictionary))
        + entry.store()
        + part.dictionary
        + body
    )
    with pytest.raises(FormatError, match="outside the dictionary"):
        decode_table(payload, FORM_COLUMNS, uapi.AF_INET, 4)


def test_a_dictionary_that_does_not_ascend_is_refused() -> None:
    """A search in it would miss entries."""
    values = np.array([5, 9, 5, 9], np.uint32)
    part = encoder.encode_parts(
        Table(uapi.AF_INET, 4, {"orig_src": values}),
        0,
        {"orig_src": ColumnEncoding(dictionary=1, level=0)},
    )["orig_src"]
    steps = pack_planes(np.array([9, 0xFFFFFFFC], np.uint32), 0)
    entry = part.entry._replace(dictionary_length=len(steps))
    payload = (
        HEAD.pack(1, 0, HEAD.size + ENTRY.size + len(steps)) + entry.store() + steps + part.body
    )
    with pytest.raises(FormatError, match="does not ascend"):
        decode_table(payload, FORM_COLUMNS, uapi.AF_INET, 4)


def test_a_column_that_depends_on_itself_is_refused() -> None:
    body = bytes(4)
    entries = [
        Entry(number, DIFFERENCE, 1, partner=partner, body_length=4, hash=body_hash(body))
        for number, partner in ((16, 17), (17, 16))
    ]
    payload = (
        HEAD.pack(2, 0, HEAD.size + 2 * ENTRY.size)
        + b"".join(entry.store() for entry in entries)
        + 2 * body
    )
    with pytest.raises(FormatError, match="depends on itself"):
        decode_table(payload, FORM_COLUMNS, uapi.AF_INET, 4)
    known = crafted(23, SPARSE, 1, body)
    with pytest.raises(FormatError, match="depends on itself"):
        decode_table(known, FORM_COLUMNS, uapi.AF_INET, 4)


def test_a_body_is_held_against_its_hash() -> None:
    table = tables.events(uapi.AF_INET, 300)
    payload = encode_columns(table)
    entry = entry_of(payload, "id", table.family, 300)
    changed = broken(payload, entry.body_offset, bytes([payload[entry.body_offset] ^ 1]))
    with pytest.raises(FormatError, match="id does not match its hash") as caught:
        decode_table(changed, FORM_COLUMNS, table.family, 300)
    assert caught.value.offset == entry.body_offset
    same(decode_table(changed, FORM_COLUMNS, table.family, 300, ["time"]), table.select(["time"]))


def rehashed(payload: bytes) -> bytes:
    """A payload in form COLUMNS with the right hash for each body, as an attacker would make it."""
    count, length = index_module.index_head(payload, len(payload))
    data, place = bytearray(payload), length
    for entry in range(HEAD.size, HEAD.size + count * ENTRY.size, ENTRY.size):
        end = place + struct.unpack_from("<I", data, entry + 16)[0]
        data[entry + 40 : entry + 56] = body_hash(bytes(data[place:end]))
        place = end
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("form", [FORM_COLUMNS, FORM_SMALL])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["events", "connections"])
def test_payloads_cut_or_changed_anywhere_are_read_or_refused(
    form: int, family: int, kind: str
) -> None:
    """The hashes are right, so decoding returns a table of the right shape, or a FormatError."""
    table = (
        tables.events(family, 12, kinds=4)
        if kind == "events"
        else tables.connections(family, 12, kinds=4)
    )
    plan = LIVE if kind == "events" else SQUEEZED
    payload = encode_columns(table, 1, plan) if form == FORM_COLUMNS else encode_small(table)
    damaged = [payload[:length] for length in range(len(payload))]
    damaged += [
        broken(payload, at, bytes([payload[at] ^ flip]))
        for at in range(len(payload))
        for flip in (1, 0xFF)
    ]
    for each in damaged:
        if form == FORM_COLUMNS and len(each) == len(payload) and each[:8] == payload[:8]:
            each = rehashed(each)
        found = attempt(each, form, family, table.rows)
        if isinstance(found, FormatError):
            assert 0 <= found.offset <= len(payload)
        else:
            assert all(len(array) == table.rows for array in found.columns.values())


@given(
    st.binary(max_size=300),
    st.sampled_from(FAMILIES),
    st.integers(1, 300),
    st.sampled_from([FORM_COLUMNS, FORM_SMALL]),
)
def test_any_bytes_are_read_or_refused(payload: bytes, family: int, rows: int, form: int) -> None:
    found = attempt(payload, form, family, rows)
    assert isinstance(found, FormatError) or found.rows == rows
