"""Tops against a slow counter with a dict, on tables and on blocks as they are stored."""

from __future__ import annotations

import gc
import ipaddress
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from ctrecorder import ends, spill, uapi
from ctrecorder.columns import ADDRESSES, PORTS, Source, Table, bit, concat
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.index import Index, index_head
from ctrecorder.ctlog.plans import SQUEEZED
from ctrecorder.ends import Inside
from ctrecorder.errors import FormatError
from ctrecorder.tops import count
from ctrecorder.tops.count import Tops
from ctrecorder.tops.fields import Field, Measure, Top, parse
from tests.support.tables import FAMILIES, NOON, SECOND, connections

# Half of the addresses of `tables.connections` are inside.
INSIDE = Inside(["0.0.0.0/1", "2001:db8::/65"])
NOW = NOON + 5000 * SECOND
OFFSET = 5 * 3600 + 45 * 60  # as in Nepal
TOPS = (
    *("inside", "public", "remote", "src", "dst", "ip", "port", "anyport", "proto", "hour", "day"),
    *(
        "mark",
        "zone",
        "src/8",
        "dst/20/40",
        "ip/4/36",
        "inside,port",
        "proto,anyport",
        "ip,anyport",
    ),
    *("src,dst,port,hour", "remote/16,day"),
)


def offsets(seconds: Any) -> Any:
    return np.full(len(seconds), OFFSET)


def rows_of(seed: int, family: int, rows: int = 200) -> Table:
    """Connections with everything that a field looks at, some of it not known."""
    random = np.random.default_rng(seed)
    table = connections(family, rows, seed, kinds=12)
    columns = dict(table.columns)
    columns["present"] = columns["present"] | np.uint32(
        sum(bit(name) for name in (*ADDRESSES, *PORTS))
    )
    for names in (
        *(("reply_src", "reply_dst"), ("reply_src",), ("orig_dport",)),
        ("orig_bytes", "reply_bytes"),
    ):
        unknown = random.random(rows) < 0.2
        gone = np.uint32(~sum(bit(name) for name in names) & 0xFFFFFFFF)
        columns["present"] = np.where(unknown, columns["present"] & gone, columns["present"])
    columns["orig_dport"] = random.integers(0, 6, rows).astype("<u2")
    columns["reply_sport"] = np.where(
        random.random(rows) < 0.3, random.integers(0, 6, rows), columns["orig_dport"]
    ).astype("<u2")
    columns["start_source"] = random.integers(0, 4, rows).astype("u1")
    columns["mark"] = random.integers(0, 3, rows).astype("<u4")
    columns["zone"] = random.integers(0, 2, rows).astype("<u2")
    columns["orig_zone"] = random.integers(0, 3, rows).astype("<u2")
    columns["orig_bytes"] = random.choice(np.array([0, 7, 2**32, 2**64 - 1], "<u8"), rows)
    columns["seen"] = np.full(rows, 5, "u1")
    return Table(family, rows, columns)


def number(address: bytes) -> int:
    return int.from_bytes(address, "big")


def values(field: Field, row: dict[str, Any], sides: dict[str, int | None]) -> set[int]:
    """The values of a field in a row."""
    known = {name: bool(row["present"] & bit(name)) for name in (*ADDRESSES, *PORTS)}
    icmp = row["l4proto"] in (1, 58)
    if field.is_address:
        if field.name in sides:
            one = sides[field.name]
            found = set() if one is None else {one}
        elif field.name == "ip":
            found = {row[name] for name in ADDRESSES if known[name]}
        else:
            name = f"orig_{field.name}"
            found = {row[name]} if known[name] else set()
        bits = 32 if row["family"] == uapi.AF_INET else 128
        prefix = field.prefix_v4 if bits == 32 else field.prefix_v6
        return {one >> (bits - prefix) << (bits - prefix) for one in found}
    if field.name in ("port", "anyport"):
        names = PORTS if field.name == "anyport" else ("orig_dport",)
        return {row[name] for name in names if known[name] and not icmp}
    if field.name in ("hour", "day"):
        if row["start_source"] not in (Source.KERNEL, Source.RECEIPT):
            return set()
        local = row["start"] // SECOND + OFFSET
        return {local // 3600 * 3600 - OFFSET if field.name == "hour" else local // 86400 * 86400}
    if field.name == "zone":
        return {row["zone"] or row["orig_zone"]}
    return {row["l4proto" if field.name == "proto" else field.name]}


def amount(measure: Measure, row: dict[str, Any]) -> int:
    if measure == Measure.CONNECTIONS:
        return 1
    if measure == Measure.DURATION:
        if row["start_source"] == Source.UNKNOWN:
            return 0
        return max(int(row["end"] or NOW) - int(row["start"]), 0)
    return int(row[f"orig_{measure.value}"]) + int(row[f"reply_{measure.value}"])


def as_rows(table: Table) -> Iterator[tuple[dict[str, Any], dict[str, int | None]]]:
    """Each row as a dict, with addresses as numbers, and its ends."""
    found = ends.ends_of(table, INSIDE)
    names = [*ADDRESSES, *PORTS, "present", "l4proto", "start", "start_source", "end", "mark"]
    names += ["zone", "orig_zone", "orig_bytes", "reply_bytes", "orig_packets", "reply_packets"]

    def value(column: Any, place: int) -> int:
        one = column[place : place + 1]
        return number(one.tobytes()) if one.dtype.kind == "S" else int(one[0])

    for place in range(len(table)):
        sides = {
            side: value(getattr(found, side), place)
            if getattr(found, f"has_{side}")[place]
            else None
            for side in ("inside", "public", "remote")
        }
        row = {name: value(table[name], place) for name in names}
        yield {**row, "family": table.family}, sides


def slow(
    top: Top, measure: Measure, tables: list[Table]
) -> tuple[list[tuple[int, tuple[int, ...], int]], int]:
    """All rows of the top, and how many connections have no key."""
    sums: dict[tuple[int, tuple[int, ...]], int] = defaultdict(int)
    without = 0
    for table in tables:
        for row, sides in as_rows(table):
            keys = set(product(*(values(field, row, sides) for field in top.fields)))
            without += not keys
            family = table.family if any(field.is_address for field in top.fields) else 0
            for key in keys:
                sums[family, key] += amount(measure, row)
    ranked = [(family, key, total) for (family, key), total in sums.items()]
    return sorted(ranked, key=lambda one: (-one[2], one[0], one[1])), without


def stored(table: Table) -> LazyTable:
    """The table as a block of a squeezed segment."""
    payload = encode_columns(table, 1, SQUEEZED)
    length = index_head(payload, len(payload))[1]
    index = Index(payload[:length], table.family, len(table), len(payload))
    return LazyTable(index, lambda offset, size: payload[offset : offset + size])


def counted(
    tops: list[Top], measure: Measure, parts: list[Table | LazyTable]
) -> tuple[Tops, list[Any]]:
    one = Tops(tops, measure, INSIDE, offsets, NOW, spill.Store)
    for part in parts:
        one.add(part)
    return one, one.best(1 << 20)


@pytest.mark.parametrize("measure", list(Measure))
@pytest.mark.parametrize("lazy", [False, True])
def test_as_the_slow_counter(lazy: bool, measure: Measure) -> None:
    tables = [rows_of(seed, family) for seed in (1, 2) for family in FAMILIES]
    tops = [parse(text) for text in TOPS]
    parts = [stored(table) if lazy else table for table in tables]
    one, found = counted(tops, measure, parts)
    for top, here in zip(tops, found, strict=True):
        expected, without = slow(top, measure, tables)
        assert [(row.family, row.values, row.amount) for row in here.rows] == expected, top.text
        assert (here.distinct, here.without) == (len(expected), without), top.text
    rows = [row for table in tables for row, _ in as_rows(table)]
    assert one.connections == len(rows)
    assert one.whole == sum(amount(measure, row) for row in rows)


def test_some_rows_of_a_block() -> None:
    """As a filter leaves them."""
    table = rows_of(3, uapi.AF_INET)
    for some in (np.arange(0, 200, 3), np.array([199]), np.array([5, 6])):
        chosen = stored(table).take(some)
        for text in TOPS:
            _, (found,) = counted([parse(text)], Measure.BYTES, [chosen])
            expected = slow(parse(text), Measure.BYTES, [table.take(some)])[0]
            assert [(row.family, row.values, row.amount) for row in found.rows] == expected


def test_more_keys_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a part are divided too."""
    monkeypatch.setattr(count, "_KEYS_BYTES", 24 * 60)
    tables = [rows_of(seed, family, 150) for seed in range(4) for family in FAMILIES]
    for text in ("port,src", "src,dst,anyport", "hour"):
        top = parse(text)
        _, (found,) = counted([top], Measure.BYTES, list(tables))
        expected, _ = slow(top, Measure.BYTES, tables)
        assert [(row.family, row.values, row.amount) for row in found.rows] == expected
        short = Tops([top], Measure.BYTES, INSIDE, offsets, NOW, spill.Store)
        for table in tables:
            short.add(table)
        (best,) = short.best(7)
        assert [(row.family, row.values, row.amount) for row in best.rows] == expected[:7]
        assert best.distinct == len(expected)


def test_ties_go_by_value() -> None:
    count_of_each, kinds = 3, 1000
    addresses = np.random.default_rng(1).permutation(np.arange(kinds, dtype="<u4") * 4_000_003)
    table = Table(
        uapi.AF_INET,
        kinds,
        {"orig_src": addresses, "present": np.full(kinds, bit("orig_src"), "<u4")},
    )
    _, (found,) = counted([parse("src")], Measure.CONNECTIONS, [table] * count_of_each)
    assert [row.values[0] for row in found.rows] == sorted(addresses.tolist())
    assert {row.amount for row in found.rows} == {count_of_each}


def test_sums_of_more_than_64_bits() -> None:
    """Durations of 100,000,000 connections of a quarter of an hour have more than 63 bits."""
    table = Table(
        uapi.AF_INET,
        2,
        {
            "orig_bytes": np.array([2**64 - 1, 2**64 - 2], "<u8"),
            "reply_bytes": np.array([2**64 - 1, 1], "<u8"),
            "orig_src": np.array([1, 2], "<u4"),
            "present": np.full(2, 0xFFFFFFFF, "<u4"),
        },
    )
    one, (found,) = counted([parse("src")], Measure.BYTES, [table] * 100)
    assert [row.amount for row in found.rows] == [100 * 2 * (2**64 - 1), 100 * (2**64 - 1)]
    assert one.whole == 100 * 3 * (2**64 - 1)


def test_what_is_not_known_is_counted_apart() -> None:
    table = rows_of(4, uapi.AF_INET)
    told = Counter(row["start_source"] != Source.UNKNOWN for row, _ in as_rows(table))
    one, _ = counted([parse("src")], Measure.DURATION, [table])
    assert one.unmeasured == told[False] > 0
    one, _ = counted([parse("src")], Measure.BYTES, [table])
    wanted = bit("orig_bytes") | bit("reply_bytes")
    assert one.unmeasured == sum(not row["present"] & wanted for row, _ in as_rows(table)) > 0
    assert one.open == sum(not row["end"] for row, _ in as_rows(table)) > 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("lazy", [False, True])
def test_blocks_that_were_counted_take_no_memory(lazy: bool) -> None:
    """Also until Python searches for cycles: a thousand blocks were kept, 160 MiB."""
    rows, blocks = 16_384, 10
    table = rows_of(8, uapi.AF_INET, 4)  # few keys: what is kept of them takes little
    columns = {name: np.tile(table[name], rows // 4) for name in table.columns}
    few = Table(uapi.AF_INET, rows, columns)
    block = stored(few) if lazy else few
    for text in TOPS:
        one = Tops([parse(text)], Measure.BYTES, INSIDE, offsets, NOW, spill.Store)
        one.add(block)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(blocks):
                one.add(block)
            kept = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            gc.enable()
        # A column of a block has at least `rows` bytes.
        assert kept < rows * blocks, text


def test_damage_counts_nothing() -> None:
    """A column that is damaged is found before the columns that are whole are counted."""
    table = concat([rows_of(5, uapi.AF_INET)])
    payload = encode_columns(table, 1, SQUEEZED)
    length = index_head(payload, len(payload))[1]
    index = Index(payload[:length], table.family, len(table), len(payload))
    entry = index.columns["orig_bytes"]
    place = entry.body_offset
    payload = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
    one = Tops([parse("src")], Measure.BYTES, INSIDE, offsets, NOW, spill.Store)
    with pytest.raises(FormatError, match="orig_bytes"):
        one.add(LazyTable(index, lambda offset, size: payload[offset : offset + size]))
    assert (one.connections, one.whole, one.best(9)[0].rows) == (0, 0, [])


def test_columns_are_those_that_are_read() -> None:
    one = Tops([parse("port")], Measure.CONNECTIONS, INSIDE, offsets, NOW, spill.Store)
    assert one.columns == ["end", "l4proto", "orig_dport", "present"]
    table = rows_of(6, uapi.AF_INET)
    for text, measure in product(TOPS, Measure):
        one = Tops([parse(text)], measure, INSIDE, offsets, NOW, spill.Store)
        _, (found,) = counted([parse(text)], measure, [table.select(one.columns)])
        _, (every,) = counted([parse(text)], measure, [table])
        assert found == every, (text, measure)


def test_addresses_in_rows_are_those_of_ipaddress() -> None:
    table = rows_of(7, uapi.AF_INET6)
    _, (found,) = counted([parse("src/48")], Measure.CONNECTIONS, [table])
    networks = {ipaddress.ip_network((row.values[0], 48)) for row in found.rows}
    assert networks == {ipaddress.ip_network("2001:db8::/48")}
