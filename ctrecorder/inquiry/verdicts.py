"""The nine words of a verdict, and when each is said.  Pure.

No verdict is more certain than its evidence: never ONE over a hole in the log, a time that can be
read in two ways, or a clock that can be off by any amount.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ctrecorder.errors import ExitCode


class Word(enum.Enum):
    """A verdict, as it is printed."""

    ONE = "ONE"
    ONE_KNOWN = "ONE KNOWN (not proved)"
    SEVERAL = "SEVERAL"
    NOBODY = "NOBODY"
    NOBODY_KNOWN = "NOBODY KNOWN (not proved)"
    NOT_RECORDED = "NOT RECORDED"
    NOT_YET = "NOT YET"
    CANNOT_BE_ASKED = "CANNOT BE ASKED"
    NO_LONGER_KEPT = "NO LONGER KEPT"


@dataclass(frozen=True)
class Proof:
    """What an answer rests on.

    `complete`: the log proves that it has every connection of that time.
    `not_yet`: it does not yet.
    `recorded`: anything of that time was recorded.
    `not_running`: each hole is a time without a recorder, or without the asked protocol.
    `expired`: a part of that time was deleted, with a receipt.
    `doubts`: why the times, or what was read, may be wrong, in words.
    """

    complete: bool
    not_yet: bool = False
    recorded: bool = True
    not_running: bool = False
    expired: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def proved(self) -> bool:
        """If the answer can be relied on."""
        return self.complete and not self.doubts


@dataclass(frozen=True)
class Judged:
    """A verdict, why it is no better, in words, and whether the answer is proved."""

    word: Word
    why: str = ""
    proved: bool = False

    @property
    def code(self) -> ExitCode:
        """The exit code for it."""
        if self.word is Word.CANNOT_BE_ASKED:
            return ExitCode.FAILED
        if not self.proved:
            return ExitCode.UNPROVED
        return ExitCode.NO if self.word is Word.NOBODY else ExitCode.OK


_NOTHING = "no recorder ran at that time, or it did not record this protocol"


def judge(persons: int, proof: Proof) -> Judged:
    """The verdict on an answer of so many persons."""
    if persons > 1:
        return Judged(Word.SEVERAL, _why(proof), proof.proved)
    if persons:
        return Judged(Word.ONE if proof.proved else Word.ONE_KNOWN, _why(proof), proof.proved)
    if proof.proved:
        return Judged(Word.NOBODY, "", True)
    word = _nobody(proof)
    return Judged(word, _why(proof, nothing=word is Word.NOT_RECORDED))


def _nobody(proof: Proof) -> Word:
    """Why nobody is known, where it is not proved that there is nobody."""
    if proof.complete:
        return Word.NOBODY_KNOWN
    if proof.not_yet:
        return Word.NOT_YET
    if proof.expired:
        return Word.NO_LONGER_KEPT
    if not proof.recorded and proof.not_running:
        return Word.NOT_RECORDED
    return Word.NOBODY_KNOWN


def _why(proof: Proof, *, nothing: bool = False) -> str:
    reasons = list(proof.doubts)
    if nothing:
        reasons.append(_NOTHING)
    elif proof.not_yet:
        reasons.append("that time is not recorded yet, or not on the disk")
    elif proof.expired:
        reasons.append("ctexpire deleted segments of that time, and left a receipt")
    elif not proof.complete:
        reasons.append("the log does not prove that it has every connection of that time")
    return "; ".join(reasons)


def code_of_letter(codes: list[ExitCode]) -> ExitCode:
    """The exit code for several questions: FAILED if one failed, else UNPROVED if one is not
    proved, else NO if nobody was found for any of them, else OK.
    """
    for worst in (ExitCode.FAILED, ExitCode.UNPROVED):
        if worst in codes:
            return worst
    return ExitCode.NO if codes and set(codes) == {ExitCode.NO} else ExitCode.OK
