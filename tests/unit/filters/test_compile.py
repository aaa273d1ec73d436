"""Compiled expressions: masks against the slow evaluator, for any expression; what is skipped, and
what is asked before pairing, never excludes a match; a bare host is what -i is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrecorder.columns import BY_NAME, Table, concat
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.index import Index
from ctrecorder.ctlog.predicate import Query, Term
from ctrecorder.filters.compile import compile_filter, merged
from ctrecorder.filters.values import parse_network
from ctrecorder.query.connections import list_connections
from ctrecorder.query.events import list_events
from ctrecorder.query.open import open_archive
from ctrecorder.segment.reader import Bounds
from ctrecorder.times import BEGIN, END
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support import filter_data
from tests.support.folders import paths
from tests.support.slow_filter import Slow

ADDRESSES = ["192.168.1.100", "192.168.1.10", "203.0.113.25", "198.51.100.1", "10.9.0.5"]
NETS = ["192.168.1.0/24", "203.0.113.16/28", "10.0.0.0/8", "198.51.100.0/24", "0.0.0.0/0"]
TIMES = ["2026-11-23 15:00", "2026-11-23 14:30", '"2026-11-23 15:59"', "2026-11-23"]
SIGNS = [">", ">=", "<", "<=", "=", "!="]


@pytest.fixture(autouse=True, scope="module")
def in_utc() -> Iterator[None]:
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


@cache
def rows(family: int, connections: bool) -> tuple[Table, list[dict[str, Any]]]:
    """The rows of the home router, as a table and as dicts."""
    with TemporaryDirectory() as folder:
        log = filter_data.home(Path(folder) / "log", family)
        archive = open_archive(map(str, paths(log)), Query())
        listed = (
            list_connections(archive, BY_NAME) if connections else list_events(archive, BY_NAME)
        )
        table = concat([each for batch in listed for each in batch.tables])
        archive.close()
        found = filter_data.rows_of(log, connections=connections)
    if not connections:
        found = [row for row in found if row["event"] != "EXISTING"]
    assert len(found) == len(table)
    return table, found


def joined(*parts: Any) -> st.SearchStrategy[str]:
    """Texts with spaces between them; a list is a choice."""
    chosen = [st.sampled_from(part) if isinstance(part, list) else part for part in parts]
    return st.tuples(*chosen).map(lambda found: " ".join(each for each in found if each))


PORTS = st.integers(1, 65535).map(str) | st.sampled_from(["53", "80", "443", "8443", "22,25"])
ENDS = ["", "orig", "reply", "inside", "public", "remote"]
WAYS = ["", "src", "dst", "src or dst", "src and dst"]
LEAVES = st.one_of(
    joined(["", "tcp", "udp"], ENDS, WAYS, ["host"], ADDRESSES),
    joined(["", "tcp", "ip"], ENDS, WAYS, ["net"], NETS),
    joined(["", "tcp", "udp"], ENDS, WAYS, ["port"], PORTS),
    joined(["port", "sport", "dport"], SIGNS, st.integers(0, 65535).map(str)),
    joined(["snat", "dnat", "nat", "assured", "replied", "tcp", "icmp", "ip", "any"]),
    joined(["snat", "dnat", "nat"], NETS),
    joined(["proto"], ["tcp", "17", "tcp,udp", "1-17", "!= 6"]),
    joined(["icmp type"], ["8", "3", "echo", "8,3"]),
    joined(["", "orig", "reply"], ["zone"], ["0", "1", "2,3", "> 0"]),
    joined(["mark"], ["0", "1", "0x10/0x10", "> 2", "1/0x1"]),
    joined(["state"], ["established", "time_wait,close"]),
    joined(["status"], ["assured", "dying", "seen_reply,dying"]),
    joined(["", "orig", "reply"], ["bytes"], SIGNS, ["0", "40", "1M", "10M", "10Mi", "3G"]),
    joined(["", "orig", "reply"], ["packets"], SIGNS, ["1", "5k", "3500"]),
    joined(["duration"], SIGNS, ["1s", "12.25s", "1m", "1h", "1h6m40s", "1d", "600"]),
    joined(["before", "after", "at"], TIMES),
    joined(["between 2026-11-23 14:30 and"], TIMES[:3:2]),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        joined(inner, ["and", "or", "&&", "||", ""], inner),
        joined(["("], inner, [")"]),
        joined(["not (", "!("], inner, [")"]),
        joined(["not"], LEAVES),
    ),
    max_leaves=6,
)


@pytest.mark.slow
@pytest.mark.parametrize("connections", [True, False], ids=["connections", "events"])
@pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["IPv4", "IPv6"])
@given(text=EXPRESSIONS)
@settings(deadline=None)
def test_masks_against_the_slow_evaluator(family: int, connections: bool, text: str) -> None:
    v6 = family == AF_INET6
    text = filter_data.expression_as_v6(text) if v6 else text
    table, dicts = rows(family, connections)
    inside = tuple(map(filter_data.as_v6, filter_data.INSIDE)) if v6 else filter_data.INSIDE
    query = filter_data.query(text, connections=connections, v6=v6)
    query = query.of_connections() if connections else query
    matches = Slow(filter_data.NOW, inside, connections).parse(text)
    # Every third row is enough, and other ones each time.
    offset = len(text) % 3
    table, dicts = table.take(np.arange(offset, len(table), 3)), dicts[offset::3]
    found = query.evaluate(table)
    assert found.tolist() == [matches(row) for row in dicts], text
    narrow = table.select(query.columns_needed())
    assert query.evaluate(narrow).tolist() == found.tolist(), text
    of_flow = query.of_flows().of_connections() if connections else query.of_flows()
    assert not (found & ~of_flow.evaluate(table)).any(), text
    for first in range(0, len(table), 100):
        part = table.slice(first, first + 100)
        payload = encode_columns(part)
        index = Index(payload, family, len(part), len(payload))
        kind = Kind.CONNECTIONS if connections else Kind.EVENTS
        if not query.may_contain(Bounds(kind, index)):
            assert not found[first : first + 100].any(), text


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "192.0.2.0/24"])
def test_a_bare_host_is_the_term_of_i(address: str) -> None:
    """So it costs the same: the same masks, indexes and filters of addresses."""
    kind = "net" if "/" in address else "host"
    for connections in (True, False):
        context = filter_data.context(connections=connections)
        for text in (f"{kind} {address}", address, f"ip {address}"):
            query = merged([compile_filter(text, context)])
            assert query == Query(terms=(Term(networks=(parse_network(address),)),))


def test_a_protocol_is_that_of_the_query() -> None:
    """So holes of other protocols are not reported."""
    query = filter_data.query("tcp and port 443", connections=True)
    assert query.protocols == {6}
    assert query.terms == (Term(ports=((443, 443),)),)
    assert filter_data.query("tcp or port 443", connections=True).protocols == frozenset()
    nothing = filter_data.query("tcp and udp", connections=True)
    table, _ = rows(AF_INET, connections=True)
    assert not nothing.of_connections().evaluate(table).any()


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("at 2026-11-23", 0, 24),
        ("tcp and at 2026-11-23", 0, 24),
        ("between 2026-11-23 and 2026-11-24", 0, 48),
        ("after 2026-11-22 and before 2026-11-24", 0, 24),
        ("before 2026-11-24", None, 24),
        ("after 2026-11-22", 0, None),
        ("at 2026-11-23 or tcp", None, None),
        ("not at 2026-11-23", None, None),
        ("at 2026-11-23 and at 2026-11-25", None, None),
        ("after 2026-11-24 and before 2026-11-23", None, None),
    ],
)
def test_the_window_of_an_expression(text: str, begin: int | None, end: int | None) -> None:
    """Holes are reported for it, and segments outside are not opened."""
    midnight = 1795392000 * 10**9
    query = filter_data.query(text, connections=True)
    hour = 3600 * 10**9
    assert query.since == (BEGIN if begin is None else midnight + begin * hour)
    assert query.until == (END if end is None else midnight + end * hour)


def test_thousands_of_addresses_are_one_search(tmp_path: Path) -> None:
    """Against the addresses one by one; in a column and in the index of a block."""
    random = np.random.default_rng(1)
    table, dicts = rows(AF_INET, connections=True)
    numbers = random.integers(0, 2**32, 5000)
    some = [f"203.0.113.{number}" for number in range(20, 30)]
    texts = [".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0)) for number in numbers]
    (tmp_path / "list").write_text("\n".join([*texts, *some]))
    query = filter_data.query(f"host in {tmp_path}/list", connections=True).of_connections()
    wanted = {*texts, *some}
    expected = [
        bool(wanted & {row["orig_src"], row["orig_dst"], row["reply_dst"]}) for row in dicts
    ]
    assert query.evaluate(table).tolist() == expected
    assert 0 < sum(expected) < len(expected)
