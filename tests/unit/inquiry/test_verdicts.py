"""The rules of the nine words, as a table."""

from __future__ import annotations

import pytest

from ctrecorder.errors import ExitCode
from ctrecorder.inquiry.verdicts import Proof, Word, code_of_letter, judge

OK, NO, FAILED, UNPROVED = ExitCode.OK, ExitCode.NO, ExitCode.FAILED, ExitCode.UNPROVED
WHOLE = Proof(complete=True)
HOLE = Proof(complete=False)
CLOCK = Proof(complete=True, doubts=("the clock of gw was not synchronised",))
TWICE = Proof(complete=True, doubts=("the time can be read in 2 ways",))
LATER = Proof(complete=False, not_yet=True)
EXPIRED = Proof(complete=False, expired=True, recorded=False, not_running=True)
STOPPED = Proof(complete=False, recorded=False, not_running=True)
LOST = Proof(complete=False, recorded=False, not_running=False)
AROUND = Proof(complete=False, recorded=True, not_running=True)


@pytest.mark.parametrize(
    ("proof", "persons", "word", "code"),
    [
        (WHOLE, 0, "NOBODY", NO),
        (WHOLE, 1, "ONE", OK),
        (WHOLE, 2, "SEVERAL", OK),
        (HOLE, 0, "NOBODY KNOWN (not proved)", UNPROVED),
        (HOLE, 1, "ONE KNOWN (not proved)", UNPROVED),
        (HOLE, 9, "SEVERAL", UNPROVED),
        (CLOCK, 0, "NOBODY KNOWN (not proved)", UNPROVED),
        (CLOCK, 1, "ONE KNOWN (not proved)", UNPROVED),
        (CLOCK, 2, "SEVERAL", UNPROVED),
        (TWICE, 0, "NOBODY KNOWN (not proved)", UNPROVED),
        (TWICE, 1, "ONE KNOWN (not proved)", UNPROVED),
        (LATER, 0, "NOT YET", UNPROVED),
        (LATER, 1, "ONE KNOWN (not proved)", UNPROVED),
        (EXPIRED, 0, "NO LONGER KEPT", UNPROVED),
        (EXPIRED, 1, "ONE KNOWN (not proved)", UNPROVED),
        (STOPPED, 0, "NOT RECORDED", UNPROVED),
        (LOST, 0, "NOBODY KNOWN (not proved)", UNPROVED),
        (AROUND, 0, "NOBODY KNOWN (not proved)", UNPROVED),
    ],
)
def test_the_word_and_the_exit_code(proof: Proof, persons: int, word: str, code: ExitCode) -> None:
    judged = judge(persons, proof)
    assert (judged.word.value, judged.code) == (word, code)
    assert bool(judged.why) == (code is UNPROVED), "what is not proved says why"


def test_there_are_nine_words() -> None:
    assert len(Word) == 9


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([OK, OK], OK),
        ([OK, NO], OK),
        ([NO, NO], NO),
        ([NO, UNPROVED, OK], UNPROVED),
        ([UNPROVED, FAILED, OK], FAILED),
        ([], OK),
    ],
)
def test_the_exit_code_of_a_letter(codes: list[ExitCode], code: ExitCode) -> None:
    assert code_of_letter(codes) == code
