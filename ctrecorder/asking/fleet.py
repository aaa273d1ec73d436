"""ctwho --fleet: one question, or those of letters, to many routers."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ctrecorder.asking import letters, pages
from ctrecorder.cli import common

if TYPE_CHECKING:
    from ctrecorder.fleet.verdict import FleetAnswer
    from ctrecorder.inquiry.ask import Asking
    from ctrecorder.inquiry.question import Question
    from ctrecorder.letters.sighting import Letter
    from ctrecorder.service.audit import Audit


def answer(
    args: argparse.Namespace,
    questions: Sequence[Question],
    asking_of: Callable[[argparse.Namespace, int], Asking],
    audit: Audit,
) -> int:
    """Ask the routers of the list, print one answer for each question; returns the exit code."""
    from ctrecorder.fleet import asking as fleet
    from ctrecorder.fleet import routers, shown
    from ctrecorder.fleet.verdict import judged
    from ctrecorder.inquiry.verdicts import code_of_letter

    listed = routers.read(args.fleet)
    asking = asking_of(args, time.time_ns())
    answers = [judged(one, fleet.ask(listed, one, asking)) for one in questions]
    audit.verdict = ", ".join(dict.fromkeys(one.judged.word.value for one in answers))
    audit.proved = all(one.judged.proved for one in answers)
    audit.rows = sum(len(one.persons) for one in answers)
    if args.format == "json":
        text = "".join(f"{json.dumps(shown.twin(one, asking))}\n" for one in answers)
    elif args.format == "csv":
        text = shown.csv(answers)
    else:
        text = "\n".join(shown.text(one, asking, utc=args.utc) for one in answers)
    pages.write(args, text)
    return code_of_letter([one.code for one in answers])


def answer_letters(args: argparse.Namespace, asking: Asking, setting: str) -> int:
    """Ask the routers of the list what letters ask, each question with its entry in the journal.

    `setting`: of the audit.  Returns the exit code.
    """
    from ctrecorder.cases.letter import questions_of
    from ctrecorder.errors import ExitCode
    from ctrecorder.fleet import asking as fleet
    from ctrecorder.fleet import routers
    from ctrecorder.fleet.verdict import judged, not_asked
    from ctrecorder.inquiry.verdicts import code_of_letter

    letters.audit_of(args, setting, [])  # a reason may be required, before anything is read
    listed = routers.read(args.fleet)
    found: list[tuple[Letter, list[FleetAnswer]]] = []
    for letter in letters.letters_of(args, asking.now, None):
        if letter.problem:
            common.report("ctwho", f"{letter.file}: {letter.problem}")
        answers = [
            not_asked(one) if one.why_not else judged(one, fleet.ask(listed, one, asking))
            for one in questions_of(letter, args.tolerance)
        ]
        found.append((letter, answers))
    if not found:
        common.report("ctwho", f"{args.letter}: no letters")
    pages.write(args, _of_letters(args, found, asking))
    for letter, answers in found:
        for each in answers:
            letters.audit(args, setting, letter, each.question, len(each.persons), each.judged)
    codes = [each.code for _, answers in found for each in answers]
    return code_of_letter([*codes, *(ExitCode.FAILED for _, answers in found if not answers)])


def _of_letters(
    args: argparse.Namespace, found: Sequence[tuple[Letter, list[FleetAnswer]]], asking: Asking
) -> str:
    """The answers in the format that was chosen."""
    from ctrecorder.cases import screen, twin
    from ctrecorder.fleet import shown

    if args.format == "json":
        return "".join(
            json.dumps(
                {
                    **twin.letter_head(letter),
                    "questions": [shown.twin(each, asking) for each in answers],
                }
            )
            + "\n"
            for letter, answers in found
        )
    if args.format == "csv":
        return shown.csv_of_letters(
            (letter.file, _line(each.question), each)
            for letter, answers in found
            for each in answers
        )
    return "\n".join(
        screen.framed(letter, [shown.text(each, asking, utc=args.utc) for each in answers])
        for letter, answers in found
    )


def _line(question: Question) -> int:
    """The line of the letter in which the address stands."""
    return next((one.line for one in question.read_from if one.field in ("address", "row")), 0)
