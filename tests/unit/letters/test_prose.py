"""An address alone on its line, and its times below."""

from __future__ import annotations

from tests.support.letter_cases import letter, mail, questions


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
