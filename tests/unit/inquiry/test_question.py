"""An address is read in one way, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.inquiry.question import (
    Question,
    Target,
    Window,
    checked,
    parse_protocols,
    parse_target,
    windows,
)
from ctrecorder.moments import reader
from ctrecorder.moments.moment import Zones

NOW = 1_790_000_000 * 10**9


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("198.51.100.1:40000", ("198.51.100.1", 40000)),
        ("198.51.100.1", ("198.51.100.1", None)),
        (" 198.51.100.1:1 ", ("198.51.100.1", 1)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", None)),
        ("2001:db8::1", ("2001:db8::1", None)),
        ("2001:DB8:0::1", ("2001:db8::1", None)),
        ("[2001:db8::1:443]", ("2001:db8::1:443", None)),
        ("2001:db8::1:40000", ("2001:db8::1", 40000)),
        ("2001:db8:1:2:3:4:5:6:443", ("2001:db8:1:2:3:4:5:6", 443)),
        ("2001:db8::1:abcd", ("2001:db8::1:abcd", None)),
        ("::ffff:198.51.100.1", ("198.51.100.1", None)),
        ("[::ffff:198.51.100.1]:40000", ("198.51.100.1", 40000)),
        ("[::ffff:c633:6401]:40000", ("198.51.100.1", 40000)),
    ],
)
def test_an_address_and_a_port(text: str, target: tuple[str, int | None]) -> None:
    assert parse_target(text) == target
    if target[1] is not None:
        assert parse_target(str(Target(*target))) == target


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("2001:db8::1:443", ["[2001:db8::1:443]", "[2001:db8::1]:443"]),
        ("::1:80", ["[::1:80]", "[::1]:80"]),
        ("2001:db8:1:2:3:4:5:443", []),
    ],
)
def test_what_can_be_two_addresses_is_refused(text: str, readings: list[str]) -> None:
    """With both readings; eight groups are one address, for seven are none."""
    if not readings:
        assert parse_target(text).port is None
        return
    with pytest.raises(UsageError) as refused:
        parse_target(text)
    assert all(reading in str(refused.value) for reading in readings)


@pytest.mark.parametrize(
    "text",
    [
        "somewhere:80",
        "198.51.100.0/24:80",
        "198.51.100.1:0",
        "198.51.100.1:65536",
        "198.51.100.1:8000-8080",
        "198.51.100.1:",
        "198.51.100.1:１２",
        "198.51.100:80",
        "198.51.100.01:80",
        "[198.51.100.1]:80",
        "fe80::1%eth0",
        "[2001:db8::1",
        "",
        ":80",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"tolerance": -1.0}, "--tolerance"),
        ({"tolerance": float("nan")}, "--tolerance"),
        ({"tolerance": 604801.0}, "--tolerance"),
        ({"protocols": frozenset({1, 6})}, "ICMP"),
        ({"protocols": frozenset({1}), "remote": Target("203.0.113.1", 80)}, "ICMP"),
        ({"remote": Target("2001:db8::9", None)}, "IPv6"),
    ],
)
def test_parts_that_do_not_fit(question: dict[str, Any], words: str) -> None:
    window = Window(0, 1, "", "", "given")
    one = Question(Target("198.51.100.1", 40000), window, "source", **question)
    with pytest.raises(UsageError, match=words):
        checked(one)


def test_protocols() -> None:
    assert parse_protocols(["tcp, udp", "132"]) == {6, 17, 132}
    with pytest.raises(UsageError):
        parse_protocols(["smtp"])


def test_a_window_for_each_reading_and_each_time_that_a_clock_showed() -> None:
    """The hour that comes twice is two windows of a second, not one of an hour."""
    moment = reader.read("2026-10-25 02:30:00", NOW * 2, Zones(option="Europe/Berlin"))
    first, second = windows(moment)
    assert (first.end - first.begin, second.begin - first.begin) == (10**9, 3600 * 10**9)
    assert {first.readings, second.readings} == {2}
    (only,) = windows(reader.read("2026-10-25 02:30:00 +01:00", NOW * 2, Zones()))
    assert (only.begin, only.readings, only.basis) == (second.begin, 1, "given")
    assert windows(reader.read("2026-10-25 02:30:00", NOW * 2, Zones())) == []


def test_the_tolerance_is_on_both_sides() -> None:
    window = Window(NOW, NOW + 10**9, "", "", "given")
    query = Question(Target("198.51.100.1", 40000), window, "source", tolerance=0.5).query()
    assert (query.since, query.until) == (NOW - 5 * 10**8, NOW + 15 * 10**8)
    assert query.add_clock_error
