"""X-ARF in YAML: never a port of the attacked."""

from __future__ import annotations

from tests.support.letter_cases import letter, mail, ports, questions

TIME = "Tue, 24 Nov 2026 06:00:05 +0100"
REPORT = (
    "---\nReported-From: a@b.example\nCategory: abuse\nReport-Type: login-attack\nService: ssh\n"
    f"Version: 0.2\nDate: {TIME}\nSource-Type: ip-address\nSource: 198.51.100.1\nPort: 22\n"
)


def test_a_report() -> None:
    assert ports(REPORT) == [("198.51.100.1", None, "none")]
    assert f"{questions(REPORT)[0].time:%H:%M:%S}" == "05:00:05"
    assert letter(REPORT).form == "X-ARF 0.2"
    assert ports(REPORT + "Source-Port: 40000\n") == [("198.51.100.1", 40000, "source")]


def test_two_reports_do_not_mix() -> None:
    other = REPORT.replace("198.51.100.1", "198.51.100.2").replace("06:00", "07:00")
    found = questions(REPORT + other)
    assert [(each.address, each.time.hour) for each in found] == [
        ("198.51.100.1", 5),
        ("198.51.100.2", 6),
    ]


def test_no_address() -> None:
    found = letter(REPORT.replace("198.51.100.1", "http://198.51.100.9/x"))
    assert found.problem == "the report names no address"
    assert not letter(REPORT.replace("Source: 198", "Source: 1.1.1.1 198")).sightings


def test_log_lines_without_a_zone_are_let_be() -> None:
    """They say what the report says with its zone; with a note they are more sightings."""
    line = "Nov 24 06:00:01 h sshd[1]: x from 198.51.100.1 port 40000\n"
    assert ports(mail(REPORT + "\n" + line)) == [("198.51.100.1", None, "none")]
    noted = mail(f"{REPORT}\nNote: Local timezone is +0100 (CET)\n\n{line}")
    assert ports(noted)[1:] == [("198.51.100.1", 40000, "source")]
