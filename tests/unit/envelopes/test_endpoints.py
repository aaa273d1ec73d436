"""Addresses and ports in texts: what is one, and what only looks like one."""

from __future__ import annotations

import pytest

from ctrecorder.envelopes.endpoints import address, ambiguous, find, port, protocol, whole


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from 198.51.100.7 port 51022 ssh2", [("198.51.100.7", 51022)]),
        ("198.51.100.7:567", [("198.51.100.7", 567)]),
        ("[2001:db8::1]:567", [("2001:db8::1", 567)]),
        ("[198.51.100.7:50449])", [("198.51.100.7", 50449)]),
        ("([198.51.100.7]:50449 helo=x)", [("198.51.100.7", 50449)]),
        ("client @0x7f 198.51.100.7#3399 (x.example)", [("198.51.100.7", 3399)]),
        ("2001:db8::7#3399", [("2001:db8::7", 3399)]),
        ("198.51.100.7, source port: 40000", [("198.51.100.7", 40000)]),
        ("*198.51.100.7*", [("198.51.100.7", 0)]),
        ("198.51.100.7: 5 attempts", [("198.51.100.7", 0)]),
        ("198.51.100.7:06:00:05", [("198.51.100.7", 0)]),
        ("198.51.100.7:99999", [("198.51.100.7", 0)]),
        ("::ffff:198.51.100.7 - - [", [("198.51.100.7", 0)]),
        ("2001:db8::", [("2001:db8::", 0)]),
        ("2a00::5", [("2a00::5", 0)]),
        ("a 2001:DB8:0:0::1 b", [("2001:db8::1", 0)]),
        ("198.51.100.7. The end", [("198.51.100.7", 0)]),
    ],
)
def test_found(line: str, expected: list[tuple[str, int]]) -> None:
    found = list(find(line))
    assert [(each.address, each.port) for each in found] == expected
    for each in found:
        assert whole(line[each.start : each.end]) == each.address
        assert not each.port or int(line[each.port_start : each.port_end]) == each.port


@pytest.mark.parametrize(
    "line",
    [
        "range 198.51.100.0/24",
        "version 1.2.3.4.5, 10.1.2.3-beta, v10.1.2.3",
        "127.0.0.1, ::1, 0.0.0.0, 255.255.255.255, 224.0.0.1, fe80::1, 300.1.2.3, 010.1.2.3",
        "host-198.51.100.7.example",
        "http://2001:db8:1:2:3:4:5:6:8080/",
        "at 12:30:05, std::string, a::b, Net::DNS",
        "id=20261124.198.51.100.7",
    ],
)
def test_no_address(line: str) -> None:
    assert not list(find(line))


def test_an_address_with_a_port_that_needs_brackets() -> None:
    assert ambiguous("2001:db8::1:443")
    assert not ambiguous("2001:db8::443")
    assert not ambiguous("2001:db8::1:beef")
    assert not ambiguous("2001:db8:1:2:3:4:5:443")


def test_words() -> None:
    assert port("65535") == 65535
    assert not port("0")
    assert not port("65536")
    assert not port("22a")
    assert not port("٢٢")
    assert protocol(" TCP") == "tcp"
    assert protocol("17") == "udp"
    assert not protocol("smtp")
    assert address("2001:db8::1%eth0") == ""
    assert whole("[2001:db8::1]") == "2001:db8::1"


def test_a_wall_of_addresses_is_no_log_line() -> None:
    assert len(list(find("198.51.100.7 " * 300))) == 20
