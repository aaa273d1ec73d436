"""Entries in memory, against a search one by one."""

from __future__ import annotations

import ipaddress
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.errors import UsageError
from ctrecorder.names import store
from ctrecorder.names.entry import Entry, Line, network
from ctrecorder.times import BEGIN, END

# Few addresses, so that networks contain each other; zeros at the end, middle and begin.
addresses = st.sampled_from(
    ["192.0.2.0", "192.0.2.1", "192.0.3.255", "0.0.0.0", "255.255.255.255", "2001:db8::",
     "2001:db8::1", "2001:db8:0:100::", "::", "::ffff:192.0.2.1", "ff00::"]
)  # fmt: skip
moments = st.integers(1, 12)
optional = st.none() | st.integers(0, 2)


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, Entry]:
    address = draw(addresses)
    longest = 128 if ":" in address else 32
    lengths = [each for each in (0, 1, 8, 16, 24, 31, 32, 56, 64, 127, 128) if each <= longest]
    written = f"{address}/{draw(st.sampled_from(lengths))}"
    since, until = draw(st.just(BEGIN) | moments), draw(st.just(END) | moments)
    place = Line(0, draw(st.integers(1, 99)), "")
    name = draw(st.sampled_from("abc"))
    return written, Entry(
        network(written), since, until, name, place, draw(optional), draw(optional)
    )


def contains(written: str, address: str) -> bool:
    whole = ipaddress.ip_network(written, strict=False)
    one = ipaddress.ip_address(address)
    mapped = getattr(one, "ipv4_mapped", None)
    if whole.version == 6 and getattr(whole.network_address, "ipv4_mapped", None):
        return network(written).key == network(address).key and whole.prefixlen == 128
    return (mapped or one) in whole


@given(st.lists(entries(), max_size=12), addresses, moments, moments, optional, optional)
def test_against_a_search_one_by_one(
    stated: list[tuple[str, Entry]],
    address: str,
    since: int,
    length: int,
    zone: int | None,
    mark: int | None,
) -> None:
    kept = store.Entries(BEGIN, END)
    for _, entry in stated:
        kept.add(entry)
    until = since + length
    wanted: dict[str, set[int]] = {}
    for written, entry in stated:
        fits = contains(written, address) and entry.since < until and entry.until > since
        fits = fits and entry.since < entry.until
        fits = fits and (zone is None or entry.zone in (None, zone))
        if fits and (mark is None or entry.mark in (None, mark)):
            wanted.setdefault(entry.name, set()).update(
                range(min(entry.since, 13), min(entry.until, 13))
            )
    found: dict[str, set[int]] = {}
    for one in kept.directory(["f"], ()).holders(address, since, until, zone, mark):
        begin, end = one.since or BEGIN, one.until or END
        assert not found.get(one.name, set()) & set(range(begin, min(end, 13)))
        found.setdefault(one.name, set()).update(range(begin, min(end, 13)))
    assert found == wanted


def test_an_ipv6_default_route_names_no_holder_of_ipv4() -> None:
    kept = store.Entries(BEGIN, END)
    kept.add(Entry(network("::/0"), 1, 2, "six", Line(0, 1, "")))
    kept.add(Entry(network("0.0.0.0/0"), 1, 2, "four", Line(0, 2, "")))
    found = kept.directory(["f"], ())
    assert [one.name for one in found.holders("192.0.2.1", 1, 2, None, None)] == ["four"]
    assert [one.name for one in found.holders("2001:db8::1", 1, 2, None, None)] == ["six"]


def test_a_moment_is_asked_as_one_ns() -> None:
    kept = store.Entries(BEGIN, END)
    kept.add(Entry(network("192.0.2.1"), 5, 6, "a", Line(0, 1, "")))
    found = kept.directory(["f"], ())
    assert [len(found.holders("192.0.2.1", at, at, None, None)) for at in (4, 5, 6)] == [0, 1, 0]


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_ENTRIES", 10)
    kept = store.Entries(100, 200)
    for number in range(50):
        kept.add(Entry(network("192.0.2.1"), number, number + 1, "a", Line(0, number, "")))
    for _ in range(10):
        kept.add(Entry(network("192.0.2.1"), 99, 101, "a", Line(0, 1, "")))
    with pytest.raises(UsageError, match="more than 10 leases and sessions"):
        kept.add(Entry(network("192.0.2.1"), 99, 101, "a", Line(0, 1, "")))


@pytest.mark.unmeasured
@pytest.mark.slow
def test_memory_of_an_entry() -> None:
    tracemalloc.start()
    try:
        kept = store.Entries(BEGIN, END)
        for number in range(20_000):
            key = number.to_bytes(16)
            kept.add(
                Entry(network("::1")._replace(key=key), 1, 2, f"name {number}", Line(0, 1, ""))
            )
        found = kept.directory(["f"], ())
        del kept
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.holders("::7", 1, 2, None, None)) == 1
    assert current / 20_000 < 250
    assert peak / 20_000 < 500
