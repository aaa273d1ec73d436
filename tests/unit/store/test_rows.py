"""Rows of the database are the tables that they were; what has another form is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctrecorder.archive.open import open_segment
from ctrecorder.columns import ADDRESSES, PORTS, TUPLE, Array, Source, Table
from ctrecorder.connections import parts
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import ArchiveError, CtrecorderError, FormatError
from ctrecorder.holders.who import parse_end
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.shipping.rowbinary import COLUMNS, rows, text
from ctrecorder.store.rows import _COLUMNS, _DTYPE, blocks, condition, parsed, table_of
from tests.support import holders
from tests.support.holders import Log

NAMES = (*TUPLE, *parts.SPAN, "present", "zone", "orig_zone", "reply_zone", "mark", "status", "id")


def stored(table: Table, number: int = 0) -> Array:
    """What the engine has of the rows of a table, and gives to a question."""
    kinds = [(name, "V2" if kind == "V" else kind.replace("S", "V")) for name, kind in COLUMNS]
    sent = np.frombuffer(rows(table, bytes(range(16)), 0, "e", number), np.dtype(kinds))
    found = np.zeros(len(sent), _DTYPE)
    for name in _DTYPE.names or ():
        found[name] = sent[name].view(_DTYPE[name]) if name == "upload" else sent[name]
    return found


def tables(folder: Path, resolution: str = "us") -> Iterator[Table]:
    folder.mkdir()
    log = Log(folder)
    log.write(holders.flows(3, 400, 3, before=2), 3)
    for path in log.paths:
        squeeze(path, SqueezeOptions(resolution))
        with open_segment(path) as segment:
            yield from map(segment.read, segment.blocks_of(Kind.CONNECTIONS))


def listed(table: Table) -> list[tuple[object, ...]]:
    return sorted(zip(*(table[name].tolist() for name in NAMES), strict=True))


def assert_same(found: Table, wanted: Table) -> None:
    assert (found.family, len(found)) == (wanted.family, len(wanted))
    for name in NAMES:
        assert found[name].dtype == wanted[name].dtype
        assert found[name].tolist() == wanted[name].tolist(), name


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["us", "s"])
def test_rows_come_back_as_they_were(tmp_path: Path, resolution: str) -> None:
    families = set()
    for number, table in enumerate(tables(tmp_path / "log", resolution)):
        assert_same(table_of(stored(table)), table)
        # The database has them in another order.
        mixed = np.random.default_rng(number).permutation(len(table))
        (found,) = blocks(stored(table, number)[mixed]).values()
        (again,) = blocks(stored(table, number)).values()
        assert_same(found, again)
        assert listed(found) == listed(table)
        families.add(table.family)
    assert families == {2, 10}


def test_parts_of_one_flow_keep_their_order() -> None:
    columns: dict[str, Array] = {name: np.zeros(6, "u4") for name in ADDRESSES}
    columns |= {name: np.zeros(6, "u2") for name in PORTS}
    columns["id"] = np.array([1, 2, 1, 1, 2, 3], "u4")
    columns["start"] = np.array([9, 5, 1, 7, 3, 4], "i8") * 1000
    columns["start_source"] = np.full(6, Source.KERNEL, "u1")
    table = Table(2, 6, columns)
    assert stored(table)["turn"].tolist() == [0, 0, 1, 2, 1, 0]
    (found,) = blocks(stored(table)[::-1]).values()
    for key, starts in ((1, [9, 1, 7]), (2, [5, 3])):
        assert (found["start"][found["id"] == key] // 1000).tolist() == starts


def test_a_time_before_the_start_and_addresses_of_zeros() -> None:
    one: dict[str, Array] = {name: np.array([b"\x20"], "S16") for name in ADDRESSES}
    one["reply_src"] = np.zeros(1, "S16")  # the reply is not known
    one |= {"start": np.array([5000]), "end": np.array([2000])}
    one |= {name: np.array([1], "u1") for name in ("start_source", "end_source")}
    table = Table(10, 1, one)
    found = table_of(stored(table))
    assert (int(found["start"][0]), int(found["end"][0])) == (5000, 2000)
    assert found["reply_src"].tolist() == [b""]
    with pytest.raises(CtrecorderError, match="cannot be stored as rows"):
        rows(Table(10, 1, {**one, "end": np.array([2001])}), bytes(16), 0, "e")


def answer(head: list[tuple[str, str]], data: bytes = b"") -> bytes:
    names = b"".join(text(name.encode()) for name, _ in head)
    return bytes([len(head)]) + names + b"".join(text(kind.encode()) for _, kind in head) + data


HEAD = [(name, kind) for name, kind, _ in _COLUMNS]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        answer(HEAD[:-1]),
        answer([*HEAD[:-1], ("time", "UInt64")]),
        answer([*HEAD[1:], HEAD[0]]),
        answer(HEAD, bytes(_DTYPE.itemsize - 1)),
        b"<html>",
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError, match="what it answers is no list of connections"):
        parsed("clickhouse://h/log", data)
    assert len(parsed("", answer(HEAD))) == 0


def test_rows_of_two_families_are_refused() -> None:
    both = np.zeros(2, _DTYPE)
    both["family"] = 2, 10
    with pytest.raises(FormatError, match="not of one family"):
        blocks(both)
    both["family"] = 7
    with pytest.raises(FormatError):
        blocks(both)


def test_the_condition_is_text_of_numbers_alone() -> None:
    """No word of a question is in it: addresses and ports were parsed before."""
    terms = (parse_end("192.0.2.7:80"), parse_end("2001:db8::1"))
    asked = condition(Query(terms=terms, protocols=frozenset((6, 17))))
    assert "public = toIPv6('0:0:0:0:0:ffff:c000:207')" in asked
    assert "BETWEEN 80 AND 80" in asked
    assert "toIPv6('2001:db8:0:0:0:0:0:1')" in asked
    assert asked.endswith("l4proto IN (6, 17)")
    assert condition(Query()) == "1"
