"""Letters with their answers as CSV; a letter that is a table keeps its rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from ctrecorder.cases.letter import LetterAnswered
from ctrecorder.inquiry import table
from ctrecorder.inquiry.ask import Answered
from ctrecorder.inquiry.verdicts import Word

_LINE_END = re.compile(r"\r\n|\n|\r")
_DELIMITERS = (",", ";", "\t", "|")


def head_of_letters() -> str:
    """The line of names of `of_letter`."""
    return table.lines([("file", "line", *table.QUESTION, *table.ANSWER)])


def of_letter(one: LetterAnswered) -> str:
    """A row for each question of a letter, in the letter's order; one without any has a row too."""
    file = one.letter.file
    if not one.answers:
        why = one.letter.problem or "nothing in it can be asked"
        blank = [""] * (len(table.QUESTION) + len(table.ANSWER))
        blank[len(table.QUESTION) + table.ANSWER.index("verdict")] = Word.CANNOT_BE_ASKED.value
        blank[len(table.QUESTION) + table.ANSWER.index("why")] = why
        return table.lines([(file, "", *blank)])
    return table.lines(
        [
            (file, str(_line(each)), *table.question(each), *table.answer(each))
            for each in one.answers
        ]
    )


def with_rows_of(one: LetterAnswered, text: str) -> str:
    """The lines of a letter that is a table, `text`, with columns added from its names on.

    A row that asks the same as one before it is no question of its own: it gets the same answers.
    """
    answers: dict[int, list[Answered]] = {}
    for each in one.answers:
        for line in (_line(each), *_again(one, each)):
            answers.setdefault(line, []).append(each)
    # As letters count their lines; str.splitlines() knows more ends than these.
    rows = _LINE_END.split(text)
    # A row that was not read can have another number of cells.
    good = [_line(each) for each in one.answers if each.question.target.address]
    first = rows[min(good) - 1]
    delimiter = max(_DELIMITERS, key=first.count)
    width = len(_cells(first, delimiter))
    known: dict[str, list[Answered]] = {}
    found: list[Sequence[str]] = []
    has_names = False
    for number, row in enumerate(rows, 1):
        cells = _cells(row, delimiter) if row.strip() else []
        added: list[Sequence[str]] = [[""] * len(table.ANSWER)]
        if not has_names:
            has_names = len(cells) == width
            added = [table.ANSWER if has_names else ()]
        elif of_row := answers.get(number) or known.get(row):
            known[row] = of_row
            added = [*map(table.answer, of_row)]
        found += [(*cells, *each) for each in added if cells]
    return table.lines(found)


def _cells(row: str, delimiter: str) -> list[str]:
    return next(csv.reader([row], delimiter=delimiter))


def _again(one: LetterAnswered, each: Answered) -> tuple[int, ...]:
    """The lines of the letter that ask the same again."""
    sightings = (*one.letter.sightings, *one.letter.unread)
    return sightings[each.question.sighting - 1].again


def _line(one: Answered) -> int:
    """The line of the letter in which the address stands."""
    return next(
        (each.line for each in one.question.read_from if each.field in ("address", "row")), 0
    )
