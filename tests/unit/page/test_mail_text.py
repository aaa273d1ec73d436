"""The answer as text for a mail."""

from __future__ import annotations

import pytest

from ctrecorder.page import answer, mail_text, twin
from tests.support import page_twins
from tests.support.page_twins import FREE, HOSTILE, with_text

ONE = """\
VERDICT:       ONE
               One inside host had it, and the log proves that no other
               had it.
Asked about:   198.51.100.1 port 40000, tcp
Port:          the port that it sent from
Remote end:    203.0.113.9 port 443
As written:    "2026-11-24 06:00:05 +01:00"
From:          2026-11-24 06:00:04 +01:00
               2026-11-24 05:00:04 +00:00 (UTC)
Until:         2026-11-24 06:00:07 +01:00
               2026-11-24 05:00:07 +00:00 (UTC)
Case:          "A-2026-117"
Inside host:   10.0.0.5, zone 3
  ports:       51234
  began:       2026-11-24 05:59:58.12 +01:00
               2026-11-24 04:59:58.12 +00:00 (UTC)
               (by the clock of the kernel)
  ended:       2026-11-24 06:03:11.004512 +01:00
               2026-11-24 05:03:11.004512 +00:00 (UTC)
               (by the clock of the kernel)
Coverage:      Complete: the log covers all of this time.
Clock:         synchronised, at most 0.012 s off

SHA-256 of the JSON twin of this answer:
  DIGEST
"""


def test_the_answer_to_one_question() -> None:
    whole = page_twins.answer()
    digest = twin.digest(twin.spelling(whole))
    assert mail_text.text(whole) == ONE.replace("DIGEST", digest)


def test_a_letter_without_a_question() -> None:
    text = mail_text.text(page_twins.unread_letter())
    assert text.startswith("Not asked:     the form of this letter is not known\n")


def test_a_letter_names_each_question_and_its_hash() -> None:
    text = mail_text.text(page_twins.of_letter())
    assert text.startswith("TOGETHER:      1 inside host fits all 3 sightings.")
    for number, verdict in enumerate(twin.VERDICTS, 1):
        assert f"Question {number} of 9\nVERDICT:       {verdict}\n" in text
    assert f'SHA-256 of the letter "notice.eml":\n  {page_twins.LETTER_SHA256}\n' in text
    assert "Inside host:   10.0.0.77, mark 0x9; only by the tolerance\n" in text
    assert "  began:       not recorded\n" in text
    assert "Hole:          the kernel dropped events" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_lines_fit_and_are_plain(text: str) -> None:
    whole = with_text(page_twins.of_letter(), text, FREE - {"file"})
    made = mail_text.text(whole)
    assert all(char.isprintable() or char == "\n" for char in made)
    assert max(map(len, made.split("\n"))) <= 72


def test_the_page_has_the_same_text() -> None:
    page = answer.html(page_twins.answer())
    text = mail_text.text(page_twins.answer())
    assert text.rstrip("\n").replace('"', "&quot;") in page
