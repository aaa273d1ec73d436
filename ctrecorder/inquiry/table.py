"""Answers as CSV (RFC 4180), a row a question; what a spreadsheet would compute is text.  Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from ctrecorder.inquiry.ask import Answered
from ctrecorder.inquiry.persons import Person
from ctrecorder.inquiry.question import Question, protocols_text
from ctrecorder.render.who import rfc3339
from ctrecorder.terminal import printable

# A cell that begins with one of these is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@")
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
    "routers",
)


def text(answers: Iterable[Answered]) -> str:
    """The questions with their answers, after a line of names."""
    return lines([(*QUESTION, *ANSWER), *((*question(one), *answer(one)) for one in answers)])


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


def question(one: Answered) -> tuple[str, ...]:
    """The cells of QUESTION."""
    return question_cells(one.question)


def question_cells(asked: Question) -> tuple[str, ...]:
    """The cells of QUESTION, of a question without its answer."""
    remote = asked.remote
    return (
        asked.target.address,
        _number(asked.target.port),
        asked.role,
        protocols_text(asked.protocols),
        remote.address if remote else "",
        _number(remote.port if remote else None),
        asked.window.text,
        asked.window.zone,
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
        "|".join(" ".join(person.routers) for person in persons),
    )


def _customers(person: Person) -> str:
    return " or ".join(dict.fromkeys(one.name for one in person.customers or ()))


def _host(person: Person) -> str:
    zone = f" zone {person.zone}" if person.zone else ""
    return f"{person.address}{zone}{f' mark {person.mark:#x}' if person.mark else ''}"
