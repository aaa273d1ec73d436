"""Letters of all forms, made and invented, read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.letters.read import read
from ctrecorder.letters.sighting import Letter
from tests.support.letters import FORMS, Style, asked
from tests.support.letters_strategy import questions, styles

# 2026-11-28 12:00 UTC.
NOW = 1_795_867_200 * 10**9


def one(data: bytes, zone: str = "") -> Letter:
    (letter,) = read(data, "letter", NOW, zone)
    return letter


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_a_letter_made_from_questions_gives_them_back(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    made = data.draw(questions(form))
    letter = one(form.make(made, Style()))
    assert letter.form == form.name
    assert sorted(map(asked, letter.sightings), key=repr) == sorted(made, key=repr)
    assert letter.problem == ""


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_what_a_reader_must_bear_changes_no_question(name: str, data: st.DataObject) -> None:
    """Line ends, folding, order of fields, encodings."""
    form = FORMS[name]
    made = data.draw(questions(form))
    letter = one(form.make(made, data.draw(styles(form))))
    assert sorted(map(asked, letter.sightings), key=repr) == sorted(made, key=repr)
