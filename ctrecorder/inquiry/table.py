"""Answers as CSV (RFC 4180), a row a question; what a spreadsheet would compute is text.  Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from ctrecorder.inquiry.ask import Answered
from ctrecorder.inquiry.letter import LetterAnswered
from ctrecorder.inquiry.persons import Person
from ctrecorder.inquiry.question import protocols_text
from ctrecorder.inquiry.verdicts import Word
from ctrecorder.render.who import rfc3339
from ctrecorder.terminal import printable

# A cell that begins with one of these is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@")
_DELIMITERS = (",", ";", "\t", "|")
QUESTION = (
    "address",
    "port",
    "role",
    "protocol",
    "remote_address",
    "remote_port",
    "written",
    "zone",
)
ANSWER = (
    "since",
    "until",
    "verdict",
    "why",
    "complete",
    "persons",
    "customers",
    "connections",
    "start",
    "end",
    "only_by_tolerance",
    "case",
)


def text(answers: Iterable[Answered]) -> str:
    """The questions with their answers, after a line of names."""
    return lines([(*QUESTION, *ANSWER), *((*_question(one), *answer(one)) for one in answers)])


def head_of_letters() -> str:
    """The line of names of `of_letter`."""
    return lines([("file", "line", *QUESTION, *ANSWER)])


def of_letter(one: LetterAnswered) -> str:
    """A row for each question of a letter, in the letter's order; one without any has a row too."""
    file = one.letter.file
    if not one.answers:
        why = one.letter.problem or "nothing in it can be asked"
        blank = [""] * (len(QUESTION) + len(ANSWER))
        blank[len(QUESTION) + ANSWER.index("verdict")] = Word.CANNOT_BE_ASKED.value
        blank[len(QUESTION) + ANSWER.index("why")] = why
        return lines([(file, "", *blank)])
    return lines(
        [(file, str(_line(each)), *_question(each), *answer(each)) for each in one.answers]
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
        added: list[Sequence[str]] = [ANSWER]
        if found:
            added = [*map(answer, by_line.get(number, []))] or [[""] * len(ANSWER)]
        found += [(*cells, *each) for each in added]
    return lines(found)


def _line(one: Answered) -> int:
    """The line of the letter in which the address stands."""
    return next((each.line for each in one.question.read_from if each.field == "address"), 0)


def lines(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV, each cell safe."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([*map(safe, row)] for row in rows)
    return out.getvalue()


def safe(cell: str) -> str:
    """`cell` without control characters, and with an apostrophe before what a spreadsheet would
    compute.
    """
    is_formula = cell.lstrip().startswith(_FORMULA) or cell[:1].isspace()
    return ("'" if is_formula else "") + printable(cell)


def _question(one: Answered) -> tuple[str, ...]:
    question = one.question
    remote = question.remote
    return (
        question.target.address,
        _number(question.target.port),
        question.role,
        protocols_text(question.protocols),
        remote.address if remote else "",
        _number(remote.port if remote else None),
        question.window.text,
        question.window.zone,
    )


def _number(port: int | None) -> str:
    return "" if port is None else str(port)


def answer(one: Answered) -> tuple[str, ...]:
    """The cells of ANSWER.  Several persons are separated by "|"."""
    persons, asked = one.persons, one.asked
    complete = one.answer is not None and one.answer.verdict.proved
    return (
        rfc3339(asked.since) if asked else "",
        rfc3339(asked.until) if asked else "",
        one.judged.word.value,
        one.judged.why,
        "yes" if complete else "no",
        "|".join(map(_host, persons)),
        "|".join(_customers(person) for person in persons),
        "|".join(str(len(person.flows)) for person in persons),
        "|".join(rfc3339(person.start) if person.start else "" for person in persons),
        "|".join(rfc3339(person.end) if person.end else "" for person in persons),
        "|".join("yes" if person.only_by_tolerance else "no" for person in persons),
        one.asking.case,
    )


def _customers(person: Person) -> str:
    return " or ".join(dict.fromkeys(one.name for one in person.customers or ()))


def _host(person: Person) -> str:
    zone = f" zone {person.zone}" if person.zone else ""
    return f"{person.address}{zone}{f' mark {person.mark:#x}' if person.mark else ''}"
