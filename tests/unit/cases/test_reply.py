"""A draft is safe, whatever a stranger wrote in the headers."""

from __future__ import annotations

import email
from email.policy import default

import pytest

from ctrecorder.cases.letter import LetterAnswered
from ctrecorder.cases.reply import draft
from ctrecorder.letters.sighting import Letter


@pytest.mark.parametrize(
    ("sender", "to"),
    [
        ("agent@example.net", "agent@example.net"),
        ("Agent <agent@example.net>", "agent@example.net"),
        ("a@example.net, b@example.com", None),
        ("a@example.net\r\nBcc: b@example.com", None),
        ("<script>", None),
        ("", None),
    ],
)
def test_one_recipient_at_most(sender: str, to: str | None) -> None:
    letter = Letter("x", "0" * 64, "<id\r\nBcc: b@example.com>", sender, "4711\r\nBcc: c@d")
    mail = email.message_from_bytes(draft(LetterAnswered(letter, ())), policy=default)
    assert mail["To"] == to
    assert mail["Bcc"] is None
    assert "4711" in mail["Subject"]
    text = mail.get_content()
    assert "Please send them as text" in " ".join(text.split())
