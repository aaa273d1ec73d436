"""Columns read in some rows, and addresses found by dictionary index: equal to the whole table."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.columns import ADDRESSES, Table
from ctrecorder.ctlog.codecs import Grouped
from ctrecorder.ctlog.decoder import LazyTable, decode_columns
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.index import Index
from ctrecorder.ctlog.plans import GROUPS, LIVE, SQUEEZED, ColumnEncoding, EncodingPlan
from tests.support import tables
from tests.support.tables import FAMILIES, same

PLANS = {
    "live": LIVE,
    "squeezed": SQUEEZED,
    "grouped": {**GROUPS, "start": replace(GROUPS["start"], ranges=1)},
    "plain": {},
    "sparse": {name: ColumnEncoding(sparse=True, dictionary=1) for name in ADDRESSES},
}


class Body:
    """A payload, and the offsets that were fetched."""

    def __init__(self, table: Table, plan: EncodingPlan) -> None:
        self.payload = encode_columns(table, 1, plan)
        self.index = Index(self.payload, table.family, len(table), len(self.payload))
        self.fetched: list[int] = []

    def fetch(self, offset: int, length: int) -> bytes:
        self.fetched.append(offset)
        return self.payload[offset : offset + length]

    def lazy(self) -> LazyTable:
        return LazyTable(self.index, self.fetch)


@cache
def made(family: int, kind: str, rows: int = 3000) -> Table:
    if kind == "squeezed":
        return tables.connections(family, rows, seed=3, kinds=50)
    if kind == "grouped":
        found = tables.connections(family, rows, seed=3, kinds=50)
        return found.take(np.lexsort([found[name] for name in ("start", *reversed(Grouped.BY))]))
    return tables.events(family, rows, seed=3, kinds=50)


@cache
def body_of(family: int, kind: str) -> Body:
    return Body(made(family, kind), PLANS[kind])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PLANS)
@given(data=st.data())
def test_some_rows(family: int, kind: str, data: st.DataObject) -> None:
    table = made(family, kind)
    rows = np.array(
        sorted(data.draw(st.sets(st.integers(0, 2999), min_size=1, max_size=40))), np.intp
    )
    lazy = body_of(family, kind).lazy()
    for name in data.draw(st.lists(st.sampled_from(sorted(table.columns)), max_size=3)):
        assert (lazy[name] == table[name]).all()
    part = lazy.take(rows)
    assert len(part) == len(rows)
    same(part.table(), table.take(rows))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PLANS)
def test_addresses_by_their_places(family: int, kind: str) -> None:
    table, body = made(family, kind), body_of(family, kind)
    plain = decode_columns(body.index, body.fetch, ADDRESSES)
    size = 16 if family == 10 else 4
    stored = {
        name: np.ascontiguousarray(
            plain[name] if family == 10 else plain[name].astype(">u4")
        ).tobytes()
        for name in ADDRESSES
    }
    for name in ADDRESSES:
        for row in range(0, 3000, 300):
            value = table[name][row]
            low = (
                np.array([value], table[name].dtype).tobytes()
                if family == 10
                else int(value).to_bytes(4, "big")
            )
            prefix = low[:-2] + bytes(2), low[:-2] + b"\xff\xff"
            for first, last in ((low, low), prefix):
                lazy = body.lazy()
                for each, data in stored.items():
                    expected = [
                        first <= data[at : at + size] <= last for at in range(0, len(data), size)
                    ]
                    assert lazy.address_mask(each, first, last).tolist() == expected


def test_what_no_dictionary_has_is_not_read() -> None:
    body = Body(made(2, "live"), LIVE)
    assert not any(
        body.lazy().address_mask(name, b"\1\2\3\4", b"\1\2\3\4").any() for name in ADDRESSES
    )
    assert body.fetched == []
