"""Queries: masks against a slow reader with ipaddress; skipped blocks have no matching row."""

from __future__ import annotations

import ipaddress
import random
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from ctrecorder.columns import ADDRESSES, PORTS, Table
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.index import Index
from ctrecorder.ctlog.predicate import (
    ALL_ENDPOINTS,
    ORIG_DST,
    REPLY_DST,
    Query,
    Term,
)
from ctrecorder.errors import UsageError
from ctrecorder.filters.values import parse_network, parse_ports
from ctrecorder.labels import parse_event, parse_protocol
from ctrecorder.segment.reader import Bounds
from ctrecorder.times import BEGIN, END
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support.rows import NS, Row, event, random_events, table, without

ENDS = dict(zip(ADDRESSES, PORTS, strict=True))


parsed_address = cache(ipaddress.ip_address)
parsed_network = cache(ipaddress.ip_network)


def slow_end(row: Row, address: str, networks: list[str], ports: list[tuple[int, int]]) -> bool:
    """Whether one endpoint of a row is in the networks and the ports."""
    if networks and not any(
        parsed_address(row[address]) in parsed_network(one, strict=False) for one in networks
    ):
        return False
    return not ports or any(low <= row.get(ENDS[address], -1) <= high for low, high in ports)


def slow(
    row: Row,
    networks: list[str],
    ports: list[tuple[int, int]],
    protocols: set[int],
    events: set[int],
) -> bool:
    """As in ctlist(1): -i and -p each match any of the four endpoints."""
    return (
        (not networks or any(slow_end(row, address, networks, []) for address in ADDRESSES))
        and (not ports or any(slow_end(row, address, [], ports) for address in ADDRESSES))
        and (not protocols or row["l4proto"] in protocols)
        and row["event"] in events
    )


def query(
    networks: list[str],
    ports: list[tuple[int, int]],
    protocols: set[int],
    events: set[int],
    since: int = BEGIN,
    until: int = END,
) -> Query:
    terms = [Term(networks=tuple(map(parse_network, networks)))] if networks else []
    terms += [Term(ports=tuple(ports))] if ports else []
    return Query(since, until, frozenset(protocols), frozenset(events), tuple(terms))


def networks_of(chance: random.Random, rows: list[Row]) -> list[str]:
    """One or two networks of any length that contain an address of the table."""
    addresses = [
        chance.choice(rows)[chance.choice(ADDRESSES)] for _ in range(chance.choice([1, 2]))
    ]
    return [f"{one}/{chance.randrange(33 if '.' in one else 129)}" for one in addresses]


@pytest.mark.slow
@pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["IPv4", "IPv6"])
def test_masks_and_skipped_blocks_against_slow_answers(family: int) -> None:
    chance = random.Random(family)
    skipped = 0
    for seed in range(60):
        rows = random_events(seed, chance.choice([1, 5, 60, 600]), family)
        networks = networks_of(
            chance,
            chance.choice(
                [rows, random_events(seed + 1000, 3, chance.choice([AF_INET, AF_INET6]))]
            ),
        )
        lows = [chance.choice([0, 53, chance.randrange(65000)]) for _ in range(2)]
        ports = [(low, low + chance.choice([0, 300])) for low in lows]
        asked = (
            chance.choice([[], networks]),
            chance.choice([[], ports]),
            chance.choice([set(), {6, 112}, {1}]),
            chance.choice([{1, 2, 3}, {4}, {1, 2, 3, 4}]),
        )
        asking, whole = query(*asked), table(rows, family)
        wanted = asking.evaluate(whole)
        assert wanted.tolist() == [slow(row, *asked) for row in rows], asked
        assert asking.evaluate(whole.select(asking.columns_needed())).tolist() == wanted.tolist()
        may = asking.may_contain(bounds(whole))
        assert may or not wanted.any(), asked
        skipped += not may
    assert skipped > 5  # not all blocks are read


def bounds(whole: Table, kind: Kind = Kind.EVENTS) -> Bounds:
    """The bounds in the index of a block of the table."""
    payload = encode_columns(whole)
    return Bounds(kind, Index(payload, whole.family, len(whole), len(payload)))


def test_a_network_and_a_port_may_be_at_two_ends() -> None:
    """-i INSIDER -p 25: the port is at the other endpoint than the address."""
    asking = query(["192.168.1.100"], [(25, 25)], set(), {1})
    assert asking.evaluate(table([event()])).tolist() == [True]


def test_an_end_holds_address_and_port_together() -> None:
    """The query of ctwho: address and port at one endpoint."""
    rows = [
        event(),
        event(reply_dport=1528),
        event(orig_dst="88.1.1.1", orig_dport=1527, reply_dst="1.1.1.1"),
    ]
    term = Term((parse_network("88.1.1.1"),), ((1527, 1527),), (REPLY_DST, ORIG_DST))
    assert Query(terms=(term,)).evaluate(table(rows)).tolist() == [True, False, True]


def test_ports_of_icmp_are_none() -> None:
    """The port columns hold the id, type and code of ICMP."""
    icmp = without(event(l4proto=1, orig_icmp=(8, 0, 25), reply_icmp=(0, 0, 25)), *PORTS)
    assert not query([], [(25, 25), (2048, 2048)], set(), {1}).evaluate(table([icmp])).any()
    # Port 0 is one, but not where there are no ports.
    rows = [without(event(l4proto=112), *PORTS), event(orig_sport=0)]
    assert query([], [(0, 0)], set(), {1}).evaluate(table(rows)).tolist() == [False, True]


def test_a_window_has_its_first_moment_and_not_its_last() -> None:
    rows = [event(time=NS + step) for step in (-1, 0, 1, 9, 10, 11)]
    asking = query([], [], set(), {1}, since=NS, until=NS + 10)
    assert asking.evaluate(table(rows)).tolist() == [False, True, True, True, False, False]
    spans = product((NS - 5, NS - 1), (NS - 1, NS, NS + 9, NS + 20))
    assert [asking.may_contain_time(*span) for span in spans] == [False, True, True, True] * 2
    assert not asking.may_contain_time(NS + 10, NS + 20)
    with pytest.raises(UsageError, match="ends before it begins"):
        Query(since=NS, until=NS)


def test_connections_are_wanted_that_lived_in_the_window() -> None:
    spans = [
        (NS - 9, NS - 1, False),
        (NS - 9, NS, True),
        (NS + 3, NS + 4, True),
        (NS - 9, NS + 99, True),
        (NS + 10, NS + 99, False),
        (NS - 9, 0, True),  # has not ended
        (NS + 10, 0, False),
        (0, NS + 5, True),  # no one knows when it began
        (0, NS + 10, False),
    ]
    asking = Query(since=NS, until=NS + 10).of_connections()
    rows = [without(event(start=start, end=end), "time", "event") for start, end, _ in spans]
    assert asking.evaluate(table(rows)).tolist() == [wanted for _, _, wanted in spans]
    for row, (_, _, wanted) in zip(rows, spans, strict=True):
        one = table([row])
        assert asking.may_contain(bounds(one, Kind.CONNECTIONS)) or not wanted
        assert (
            asking.may_contain_time(row["start"] or row["end"], max(row["start"], row["end"]))
            or not wanted
        )
    ended = table([rows[0]] * 600)
    assert not asking.may_contain(bounds(ended, Kind.CONNECTIONS))


def test_flows_are_asked_for_without_their_times() -> None:
    """Pairing needs starts before the window, ends after it, and rows of dumps."""
    asking = query(["192.168.1.100"], [], {6}, {1}, since=NS, until=NS + 1).of_flows()
    rows = [
        event(time=1),
        event(time=END - 1, event=4),
        event(l4proto=17),
        event(orig_src="1.1.1.1", event=3),
    ]
    assert asking.evaluate(table(rows)).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("10.1.2.3", "10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/8", "10.0.0.0", "10.255.255.255"),
        ("10.1.2.3/255.255.0.0", "10.1.0.0", "10.1.255.255"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        ("2001:db8::1", "2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1", "2001:db8::1"),
        ("2001:db8::1/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_networks(text: str, low: str, high: str) -> None:
    network = parse_network(text)
    assert (network.low, network.high) == (
        ipaddress.ip_address(low).packed,
        ipaddress.ip_address(high).packed,
    )
    assert network.family == (AF_INET6 if ":" in text else AF_INET)


WRONG: list[tuple[Any, str]] = [
    *(
        (parse_network, text)
        for text in (
            "",
            "10.1.2",
            "10.1.2.3/33",
            "10.1.2.3/0.0.0.255",
            "10.1.2.3/255.0.255.0",
            "10.1.2.3/",
        )
    ),
    *((parse_network, text) for text in ("fe80::1%eth0", "fe80::1%eth0/64")),
    *(
        (parse_network, text)
        for text in (
            "2001:db8::1/129",
            "2001:db8::1/255.0.0.0",
            "host",
            "10.1.2.3/-1",
            "[10.1.2.3",
            "10.0.0.256",
        )
    ),
    *(
        (parse_ports, text)
        for text in ("", "-", "65536", "-1", "25-", "30-20", "http", "1.5", "٢٥", "25 ", "9" * 9)
    ),
    *((parse_protocol, text) for text in ("", "tcpp", "256", "-6", "6.0", "٦")),
    *((parse_event, text) for text in ("", "start", "1")),
]


@pytest.mark.parametrize(
    ("parse", "text"), WRONG, ids=[f"{parse.__name__} {text}" for parse, text in WRONG]
)
def test_wrong_arguments_are_one_line_that_says_what_is_right(parse: Any, text: str) -> None:
    with pytest.raises(UsageError, match=r"(say|use|write) ") as caught:
        parse(text)
    assert f"'{text}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_right_arguments() -> None:
    assert (parse_ports("25"), parse_ports("8000-8080"), parse_ports("0")) == (
        (25, 25),
        (8000, 8080),
        (0, 0),
    )
    assert [parse_protocol(text) for text in ("TCP", "17", "ipv6-icmp", "icmpv6", "0")] == [
        6,
        17,
        58,
        58,
        0,
    ]
    assert [parse_event(text) for text in ("new", "EXISTING")] == [1, 4]


def test_the_ends() -> None:
    assert [address for address, _ in ALL_ENDPOINTS] == list(ADDRESSES)
    assert np.array_equal([port for _, port in ALL_ENDPOINTS], PORTS)
