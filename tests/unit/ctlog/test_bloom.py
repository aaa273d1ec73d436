"""The filter of a segment's addresses: it contains all of them and few others.

A search skips a segment whose filter lacks the address.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

import numpy as np
import pytest

from ctrecorder.columns import ADDRESSES, Table
from ctrecorder.ctlog import bloom
from ctrecorder.ctlog.bloom import Bloom, Collector
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.predicate import Query, Term
from ctrecorder.errors import FormatError
from ctrecorder.filters.values import parse_network
from ctrecorder.order.merge import merge
from ctrecorder.query.connections import list_connections
from ctrecorder.query.open import open_archive
from ctrecorder.segment.pending import addresses_block
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
from tests.support.tables import FAMILIES, NOON


def packed(table: Table) -> set[bytes]:
    """The addresses of a table, in network order."""
    found = set()
    for name in ADDRESSES:
        values = table[name]
        data = np.ascontiguousarray(
            values if table.family == 10 else values.astype(">u4")
        ).tobytes()
        size = 16 if table.family == 10 else 4
        found |= {data[at : at + size] for at in range(0, len(data), size)}
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_there_is_never_denied_and_others_mostly(family: int) -> None:
    collector, told = Collector(), set()
    for seed in range(4):
        table = tables.connections(family, 2000, seed=seed, kinds=1500)
        told |= packed(table)
        collector.add(table)
    payload = collector.payload()
    assert payload is not None
    found = Bloom(payload)
    assert all(found.may_hold(address) for address in told)
    random = np.random.default_rng(1)
    others = {random.bytes(len(next(iter(told)))) for _ in range(5000)} - told
    assert 0.02 < sum(found.may_hold(address) for address in others) / len(others) < 0.05
    assert len(payload) < len(told) * 7 / 8 + 10


def test_the_answer_of_the_other_direction_is_among_them() -> None:
    """In one row of many equal ones, the reply comes from another address than was called."""
    rows = 5000
    one = np.full(rows, 7, "<u4")
    reply = one.copy()
    reply[[17, rows - 1]] = 99, 98
    collector = Collector()
    collector.add(
        Table(2, rows, {"orig_src": one, "orig_dst": one, "reply_src": reply, "reply_dst": one})
    )
    found = Bloom(collector.payload() or b"")
    assert found.may_hold(bytes((0, 0, 0, 99)))
    assert found.may_hold(bytes((0, 0, 0, 98)))


def test_few_rows_need_none_and_too_many_addresses_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collector = Collector()
    collector.add(tables.connections(2, bloom.LEAST_ROWS - 1))
    assert collector.payload() is None
    monkeypatch.setattr(bloom, "MOST_ADDRESSES", 1000)
    collector.add(tables.connections(2, 3000, kinds=3000))
    assert collector.payload() is None


@pytest.mark.parametrize("payload", [b"", bytes(8)])
def test_a_stranger_s_filter(payload: bytes) -> None:
    with pytest.raises(FormatError):
        Bloom(payload)


def segment(path: Path, table: Table) -> Path:
    writer, collector = (
        SegmentWriter.create(str(path), Header(chain="c"), time_ns=NOON),
        Collector(),
    )
    collector.add(table)
    writer.append(table, kind=Kind.CONNECTIONS)
    writer.write(addresses_block(collector.payload() or b"", writer.times))
    writer.close()
    return path


def ask(address: str) -> Query:
    return Query(terms=(Term((parse_network(address),)),))


@pytest.mark.slow
def test_only_segments_that_can_have_an_address_are_searched(tmp_path: Path) -> None:
    made = [tables.connections(2, 5000, seed=seed, kinds=3000) for seed in range(20)]
    paths = [str(segment(tmp_path / f"{number:02}", table)) for number, table in enumerate(made)]
    wanted = int(made[11]["orig_dst"][0])
    opened = open_archive(paths, ask(str(ipaddress.ip_address(wanted))))
    rows = sum(
        len(table) for batch in list_connections(opened, ["start"]) for table in batch.tables
    )
    assert rows == sum(
        int(np.logical_or.reduce([table[name] == wanted for name in ADDRESSES]).sum())
        for table in made
    )
    assert opened.query.stats.segments_skipped_by_addresses > 14
    # A network may be anywhere.
    opened = open_archive(paths, ask("0.0.0.0/1"))
    assert (
        sum(len(table) for batch in list_connections(opened, ["start"]) for table in batch.tables)
        > 40_000
    )


def test_a_damaged_filter_hides_nothing(tmp_path: Path) -> None:
    table = tables.connections(2, 5000, kinds=3000)
    path = segment(tmp_path / "a", table)
    query = ask(str(ipaddress.ip_address(int(table["orig_dst"][0])))).of_connections()
    with Segment(str(path)) as opened:
        (block,) = opened.blocks_of(Kind.ADDRESSES)
        length = opened.frame(block).length
    data = bytearray(path.read_bytes())
    data[block.offset + 64 + 8 : block.offset + 64 + length] = bytes(length - 8)
    path.write_bytes(data)
    with Segment(str(path)) as opened:
        assert sum(
            len(each)
            for batch in merge([opened], ["start"], query, Kind.CONNECTIONS)
            for each in batch.tables
        )
        assert "does not match its hash" in str(opened.findings[0])
