"""ARF: whose port and which times."""

from __future__ import annotations

import pytest

from tests.support.letter_cases import letter, questions

HEAD = (
    "From: a@kiesel.example\nTo: b@kiesel.example\nSubject: x\nMIME-Version: 1.0\n"
    "Content-Type: multipart/report; boundary=o\n\n--o\n\nhello\n"
)
RECEIVED = "Received: from a.example ([198.51.100.1]{}) by b.example; {}\n"
TIME = "Tue, 24 Nov 2026 06:00:05 +0000"
LATER = "Tue, 24 Nov 2026 06:00:45 +0000"


def report(fields: str, message: str = "", kind: str = "message/rfc822") -> str:
    return (
        f"{HEAD}--o\nContent-Type: message/feedback-report\n\n{fields}\n"
        f"--o\nContent-Type: {kind}\n\n{message}Subject: y\n\nbody 203.0.113.9\n--o--\n"
    )


FIELDS = f"Feedback-Type: abuse\nArrival-Date: {TIME}\nSource-IP: 198.51.100.1\n"


@pytest.mark.parametrize("kind", ["message/rfc822", "text/rfc822-headers"])
@pytest.mark.parametrize(
    ("beside", "port"), [(":50449", 50449), ("", None), (":0", None), (" port 50449", 50449)]
)
def test_the_port_beside_the_address(kind: str, beside: str, port: int | None) -> None:
    (found,) = questions(report(FIELDS, RECEIVED.format(beside, TIME), kind))
    assert (found.address, found.port) == ("198.51.100.1", port)
    assert found.role == ("source" if port else "none")


def test_ports_of_other_hops_are_not_its_port() -> None:
    """An inner hop is written the same way; the receiver's own address stands behind "by"."""
    inner = RECEIVED.replace("198.51.100.1", "203.0.113.5").format(":4444", TIME)
    mine = f"Received: from b.example by c.example ([198.51.100.1]:25); {TIME}\n"
    (found,) = questions(report(FIELDS, inner + mine))
    assert (found.port, found.until) == (None, None)


def test_the_topmost_of_two_lines_counts() -> None:
    lines = RECEIVED.format(":40001", LATER) + RECEIVED.format(":40002", TIME)
    (found,) = questions(report(FIELDS, lines))
    assert found.port == 40001


def test_a_source_port_wins() -> None:
    (found,) = questions(report(FIELDS + "Source-Port: 41000\n", RECEIVED.format(":4", TIME)))
    assert (found.port, found.role) == (41000, "source")


@pytest.mark.parametrize(("arrival", "received"), [(TIME, LATER), (LATER, TIME)])
def test_from_one_clock_to_the_other(arrival: str, received: str) -> None:
    fields = FIELDS.replace(TIME, arrival)
    (found,) = questions(report(fields, RECEIVED.format("", received)))
    assert found.second is not None
    assert found.until == found.second + 40


def test_minus_zero_is_utc() -> None:
    (found,) = questions(report(FIELDS.replace("+0000", "-0000")))
    assert found.time.strftime("%H:%M:%S") == "06:00:05"


def test_without_an_arrival_the_receiver_tells() -> None:
    fields = FIELDS.replace("Arrival-Date", "X-Arrival")
    (found,) = questions(report(fields, RECEIVED.format("", LATER)))
    assert found.time.strftime("%H:%M:%S") == "06:00:45"


def test_fields_may_be_folded_and_begin_late() -> None:
    fields = "\n" + FIELDS.replace("Arrival-Date: Tue,", "Arrival-Date:\n Tue,\n\t")
    (found,) = questions(report(fields))
    assert found.second is not None


@pytest.mark.parametrize("address", ["203.0.113.1, 203.0.113.2", "x.example", "127.0.0.1"])
def test_no_address(address: str) -> None:
    found = letter(report(FIELDS.replace("198.51.100.1", address)))
    assert found.problem == "the report names no Source-IP"
    assert not found.sightings
