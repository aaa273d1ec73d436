"""Letters with their answers as CSV; a letter that is a table keeps its rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from ctrecorder.cases.letter import LetterAnswered
from ctrecorder.inquiry import table
from ctrecorder.inquiry.ask import Answered
from ctrecorder.inquiry.verdicts import Word

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


def with_rows_of(one: LetterAnswered, rows: Sequence[str]) -> str:
    """The lines `rows` of a letter that is a table, from its names on, with columns added."""
    by_line: dict[int, list[Answered]] = {}
    for each in one.answers:
        by_line.setdefault(_line(each), []).append(each)
    delimiter = max(_DELIMITERS, key=rows[0].count) if rows else ","
    found: list[Sequence[str]] = []
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        cells = next(csv.reader([row], delimiter=delimiter))
        added: list[Sequence[str]] = [table.ANSWER]
        if found:
            added = [*map(table.answer, by_line.get(number, []))] or [[""] * len(table.ANSWER)]
        found += [(*cells, *each) for each in added]
    return table.lines(found)


def _line(one: Answered) -> int:
    """The line of the letter in which the address stands."""
    return next((each.line for each in one.question.read_from if each.field == "address"), 0)
