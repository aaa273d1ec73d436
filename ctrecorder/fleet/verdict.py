"""One verdict on the answers of many routers.  Pure.

It is no more certain than the least certain of them: one that did not answer, or whose log has a
hole, may have had the address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ctrecorder.errors import ExitCode
from ctrecorder.fleet.asking import RouterAnswer
from ctrecorder.inquiry import notes
from ctrecorder.inquiry.question import LISTENING, Question
from ctrecorder.inquiry.verdicts import Judged, Proof, Word, judge

# More routers are only counted; each has a line of its own below.
_MAX_NAMES = 8


class Found(NamedTuple):
    """An inside host behind a router: `facts` as a person of a twin."""

    router: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class FleetAnswer:
    """A question, the answers of all routers, and the verdict on all of them."""

    question: Question
    answers: tuple[RouterAnswer, ...]
    judged: Judged

    @property
    def persons(self) -> list[Found]:
        """The inside hosts of all routers, who had the address at the very time first."""
        found = [Found(one.router.name, each) for one in self.answers for each in one.persons]
        return sorted(found, key=lambda one: bool(one.facts.get("only_by_tolerance")))

    @property
    def code(self) -> ExitCode:
        """The exit code for it: FAILED if what is on this machine could not be read."""
        here = [one for one in self.answers if not one.router.host]
        failed = any(one.code == ExitCode.FAILED for one in here)
        return ExitCode.FAILED if failed else self.judged.code


def _of(names: Sequence[str]) -> str:
    """ "edge1, edge2 and 7 more"."""
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def judged(question: Question, answers: Sequence[RouterAnswer]) -> FleetAnswer:
    """The answer of the fleet."""
    unproved = [one for one in answers if one.why]
    words = {one.twin["verdict"] if one.twin is not None else "" for one in unproved}

    def are_all(word: Word) -> bool:
        return words == {word.value}

    silent = [one.router.name for one in unproved if one.twin is None]
    others = [one.router.name for one in unproved if one.twin is not None]
    doubts = [f"{_of(silent)} did not answer"] if silent else []
    doubts += [f"the answer of {_of(others)} is not proved"] if others else []
    if question.window.readings > 1:
        doubts.append(f"the time can be read in {question.window.readings} ways")
    count = sum(len(one.persons) for one in answers)
    if any(one.router.host for one in answers):
        # A router that is asked by ssh does not know what the letter says of its port.
        doubts += _listening(question, count)
    proof = Proof(
        complete=all(one.complete for one in answers if one.twin is not None),
        not_yet=are_all(Word.NOT_YET),
        recorded=not are_all(Word.NOT_RECORDED),
        not_running=are_all(Word.NOT_RECORDED),
        expired=are_all(Word.NO_LONGER_KEPT),
        doubts=tuple(doubts),
    )
    return FleetAnswer(question, tuple(answers), judge(count, proof))


def _listening(question: Question, persons: int) -> tuple[str, ...]:
    if question.role == LISTENING:
        port = question.target.port
        return (f"port {port} is a listening port, and nobody is known to have had it outside",)
    return () if persons else notes.of_listening(question)


def not_asked(question: Question) -> FleetAnswer:
    """A question that cannot be asked."""
    return FleetAnswer(question, (), Judged(Word.CANNOT_BE_ASKED, question.why_not))
