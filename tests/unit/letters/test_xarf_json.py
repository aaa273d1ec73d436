"""XARF 3 and 4: roles of ports, ranges of times."""

from __future__ import annotations

import json

import pytest

from tests.support.letter_cases import letter, mail, questions

V4 = {
    "xarf_version": "4.2.0",
    "timestamp": "2026-11-24T06:00:05Z",
    "category": "connection",
    "type": "login_attack",
    "source_identifier": "198.51.100.1",
}


def v4(**more: object) -> str:
    return json.dumps(V4 | more)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"source_port": 40000}, (40000, "source")),
        ({"source_port": "40000"}, (40000, "source")),
        ({"source_port": 0}, (None, "none")),
        ({"source_port": 53}, (53, "source")),
        ({"source_port": 123, "protocol": "udp"}, (123, "source")),
        ({"source_port": 3389}, (3389, "source")),
        ({"source_port": 40000, "type": "vulnerability_scan"}, (40000, "source")),
        (
            {"source_port": 443, "category": "vulnerability", "destination_ip": "192.0.2.1"},
            (443, "source"),
        ),
        ({"source_port": 40000, "category": "vulnerability"}, (40000, "service")),
        ({"source_port": 40000, "attack_vector": "memcached_amplification"}, (40000, "source")),
        ({"source_port": 11211, "attack_vector": "memcached_amplification"}, (11211, "service")),
        ({"source_port": 51413, "category": "copyright"}, (51413, "listening")),
        ({"source_port": 6885, "category": "copyright"}, (6885, "listening")),
        ({"source_port": 51413}, (51413, "source")),
        ({"source_port": 51413, "destination_ip": "192.0.2.1"}, (51413, "source")),
        ({"destination_port": 22}, (None, "none")),
    ],
)
def test_roles_of_ports(more: dict[str, object], expected: tuple[int | None, str]) -> None:
    (found,) = questions(v4(**more))
    assert (found.port, found.role) == expected


def test_a_port_of_a_copyright_report_may_be_a_listening_one() -> None:
    """Of a login attack it is the one that it came from."""
    reports = (v4(source_port=40000, category=kind) for kind in ("copyright", "connection"))
    assert [letter(each).sightings[0].may_listen for each in reports] == [True, False]


def test_the_other_end() -> None:
    more = {"destination_ip": "192.0.2.1", "destination_port": 25, "protocol": "smtp"}
    (found,) = questions(v4(**more, spoofed_source_ip="192.0.2.9"))
    assert (found.remote, found.remote_port, found.protocol) == ("192.0.2.1", 25, None)


@pytest.mark.parametrize(
    ("more", "first", "length"),
    [
        ({}, "06:00:05", None),
        ({"first_seen": "2026-11-24T05:00:05Z"}, "05:00:05", 3600),
        ({"last_seen": "2026-11-24T06:10:05Z"}, "06:00:05", 600),
        (
            {"first_seen": "2026-11-24T05:00:05Z", "last_seen": "2026-11-24T05:00:06Z"},
            "05:00:05",
            1,
        ),
        ({"first_seen": "2026-11-24T06:00:05Z"}, "06:00:05", None),
        ({"first_seen": "soon"}, "06:00:05", None),
    ],
)
def test_times(more: dict[str, object], first: str, length: int | None) -> None:
    (found,) = questions(v4(**more))
    assert f"{found.time:%H:%M:%S}" == first
    assert found.second is not None
    assert found.until == (found.second + length if length else None)


def test_reports_below_a_greeting_and_one_after_the_other() -> None:
    lines = v4() + "\n" + v4(source_identifier="198.51.100.2")
    found = questions(mail(f"Hello,\n\n{lines}\n\n-- \nKiesel\n"))
    assert [each.address for each in found] == ["198.51.100.1", "198.51.100.2"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (v4(source_identifier="shop.example"), "names no address"),
        (v4()[:-10], "line 1 is broken"),
        (v4()[:-1] + ', "Source_Port": 1, "source_port": 2}', "has a name twice"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    found = letter(text)
    assert problem in found.problem
    assert not found.sightings


def test_other_json_is_of_no_known_form() -> None:
    found = letter('{"ip": "198.51.100.1", "at": "2026-11-24T06:00:05Z"}')
    assert "no known form" in found.problem
    assert [each.value for each in found.seen] == ["198.51.100.1", "2026-11-24T06:00:05Z"]
