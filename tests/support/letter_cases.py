"""One letter in, its questions out: what the tests of the readers of single forms share."""

from __future__ import annotations

from ctrecorder.letters.read import read
from ctrecorder.letters.sighting import Letter
from tests.support.letters import Question, asked

# 2026-11-28 12:00 UTC.
NOW = 1_795_867_200 * 10**9


def letter(text: str, zone: str = "") -> Letter:
    (found,) = read(text.encode(), "letter", NOW, zone)
    return found


def questions(text: str, zone: str = "") -> list[Question]:
    return [asked(each) for each in letter(text, zone).sightings]


def ports(text: str) -> list[tuple[str, int | None, str]]:
    """Address, port and role of each question."""
    return [(each.address, each.port, each.role) for each in questions(text)]


def mail(body: str, subject: str = "x", kind: str = "text/plain") -> str:
    return (
        "From: a@kiesel.example\nTo: b@kiesel.example\nDate: Wed, 25 Nov 2026 09:30:00 +0100\n"
        f"Subject: {subject}\nContent-Type: {kind}\n\n{body}"
    )
