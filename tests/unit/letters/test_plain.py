"""Plain lists: strict, so that prose is none."""

from __future__ import annotations

import pytest

from tests.support.letter_cases import letter, mail, ports, questions

TIME = "2026-11-24 06:00:05Z"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"198.51.100.1:40000 {TIME}", 40000),
        (f"198.51.100.1 port 40000 {TIME}", 40000),
        (f"198.51.100.1 40000 {TIME}", 40000),
        (f"198.51.100.1,80,{TIME}", 80),
        (f"198.51.100.1 80 {TIME}", "nothing"),
        ("198.51.100.1 24 Nov 2026 06:00:05 UTC", None),
        (f"* 198.51.100.1 {TIME}   # note", None),
        (f"17. {TIME} 198.51.100.1:40000", 40000),
        (f"[2001:db8::1]:40000 {TIME}", 40000),
        (f"2001:db8::1 {TIME}", None),
        ("198.51.100.1:40000 1795500005", 40000),
    ],
)
def test_lines(line: str, expected: int | str | None) -> None:
    found = questions(f"{line}\n")
    if expected == "nothing":
        assert not found
        return
    assert [(each.port, each.role) for each in found] == [
        (expected, "source" if expected else "none")
    ]
    assert f"{found[0].time:%H:%M}" == "06:00"


@pytest.mark.parametrize(
    "line",
    [
        f"198.51.100.1 was seen at {TIME}",
        f"198.51.100.1 198.51.100.2 {TIME}",
        f"198.51.100.0/24 {TIME}",
        "198.51.100.1:40000",
        f"198.51.100.1:40000 {TIME} 12 times",
        f"1 198.51.100.1 0.4 ms {TIME}",
        f"tcp udp 198.51.100.1 {TIME}",
    ],
)
def test_no_list(line: str) -> None:
    assert not questions(f"{line}\n")


def test_a_range_and_the_other_end() -> None:
    (found,) = questions(f"198.51.100.1:40000 -> 192.0.2.1:443 tcp {TIME} - 2026-11-24 06:10:05Z\n")
    assert (found.remote, found.remote_port, found.protocol) == ("192.0.2.1", 443, "tcp")
    assert found.second is not None
    assert found.until == found.second + 600


def test_ipv6_with_a_port_needs_brackets() -> None:
    found = letter(f"2001:db8::1:443 {TIME}\n")
    assert "line 1: IPv6 with a port needs brackets" in found.problem
    assert [each.value for each in found.seen] == ["2001:db8::1:443", TIME]
    assert ports(f"[2001:db8::1:443]:40000 {TIME}\n") == [("2001:db8::1:443", 40000, "source")]


def test_lines_that_are_not_read_are_shown() -> None:
    found = letter(f"198.51.100.1 {TIME}\n198.51.100.2 and friends {TIME}\n")
    assert len(found.sightings) == 1
    assert [each.value for each in found.seen] == ["198.51.100.2", TIME]


def test_lines_of_a_list_that_were_not_read_are_told() -> None:
    """In a file; in a mail they can be sentences."""
    text = (
        "198.51.100.1:40000 2026-11-24 06:00:05Z\n"
        "198.51.100.2 did harm at 2026-11-24 06:00:05Z\n"
        "2001:db8::1:443 2026-11-24 06:00:05Z\nabout 198.51.100.9\n"
    )
    assert [(each.address.place.line, each.problem) for each in letter(text).unread] == [
        (2, "the line is of no known form"),
        (3, "IPv6 with a port needs brackets: [2001:db8::1]:567"),
    ]
    assert not letter(mail(text)).unread
    assert len(letter(text).sightings) == 1


def test_times_below_an_address() -> None:
    text = (
        "198.51.100.1 (S)\n - Mon, 23 Nov 2026 12:00AM GMT\n   - Subject: x\n"
        " - Mon, 23 Nov 2026 12:30PM GMT\n\n - Mon, 23 Nov 2026 01:00PM GMT\n"
        "198.51.100.2\nwords\n - Mon, 23 Nov 2026 02:00PM GMT\n"
    )
    found = questions(mail(text))
    assert [(each.address, f"{each.time:%H:%M}") for each in found] == [
        ("198.51.100.1", "00:00"),
        ("198.51.100.1", "12:30"),
    ]
    assert all(each.prose for each in letter(mail(text)).sightings)


def test_a_named_port_needs_no_brackets() -> None:
    """64:ff9b::c633:6401 could end with a port, but the port is named."""
    assert ports(f"64:ff9b::c633:6401 port 40000 {TIME}\n") == [
        ("64:ff9b::c633:6401", 40000, "source")
    ]
    assert not ports(f"64:ff9b::c633:6401 {TIME}\n")
