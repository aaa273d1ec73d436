"""The answer of a fleet on a terminal, as JSON and as CSV.  What routers said is printed, never
obeyed: no control character of it reaches the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from typing import Any

from ctrecorder import __version__
from ctrecorder.fleet.verdict import FleetAnswer, Found
from ctrecorder.holders.who import WhoQuery
from ctrecorder.inquiry import table
from ctrecorder.inquiry.ask import Asking
from ctrecorder.inquiry.screen import question_rows, row, wrapped
from ctrecorder.inquiry.shown import stamp, zone_of
from ctrecorder.inquiry.twin import question_json
from ctrecorder.inquiry.verdicts import Word
from ctrecorder.page import words
from ctrecorder.page.shape import nanoseconds
from ctrecorder.render.who import rfc3339
from ctrecorder.terminal import count, printable

# More inside hosts are only counted: any of them is as likely as the others.
_MAX_HOSTS = 10
COLUMNS: tuple[str, ...] = (
    *table.QUESTION,
    *("verdict", "why", "router", "answered", "complete", "person"),
    *("connections", "start", "end", "only_by_tolerance"),
)


def text(found: FleetAnswer, asking: Asking, *, utc: bool) -> str:
    """The answer as lines: the verdict, the inside hosts, the routers that leave a doubt."""
    zone = UTC if utc else zone_of(found.question.window.zone)
    persons, silent = found.persons, [one for one in found.answers if one.why]
    lines = [*wrapped(_headline(found), "", "  ")]
    lines += wrapped(f"because {found.judged.why}", "  ", "  ") if found.judged.why else ()
    for one in persons[:_MAX_HOSTS]:
        lines += ["", *_person(one, zone)]
    if len(persons) > _MAX_HOSTS:
        lines += ["", f"and {count(len(persons) - _MAX_HOSTS, 'inside host')} more: --format json"]
    lines += ["", *question_rows(found.question, _query(found), zone)]
    if not found.answers:
        return "".join(f"{printable(line)}\n" for line in lines)
    whole = len(found.answers) - len(silent)
    lines += row(
        "fleet", f"{count(len(found.answers), 'router')}, {whole:,} complete for that time"
    )
    for each in silent:
        lines += row("", f"{each.router.name} ({each.router.where}): {each.why}")
    who = f"{stamp(asking.now, zone)} by {asking.login}"
    who += f", case {asking.case}" if asking.case else ""
    lines += row("asked", who + (f": {asking.reason}" if asking.reason else ""))
    return "".join(f"{printable(line)}\n" for line in lines)


def _headline(found: FleetAnswer) -> str:
    word, persons = found.judged.word, found.persons
    if len(persons) == 1:
        return f"{word.value}: {words.host(persons[0].facts)}, behind {persons[0].router}"
    if persons:
        return f"{word.value}: {len(persons):,} inside hosts"
    return f"{word.value}: no inside host was seen with it" if word is Word.NOBODY else word.value


def _person(one: Found, zone: tzinfo | None) -> Iterator[str]:
    facts = one.facts
    held = f"{words.host(facts)}, behind {one.router}"
    held += f": {count(facts['connections'], 'connection')}" if "connections" in facts else ""
    ports = facts.get("ports", [])
    held += f", inside ports {', '.join(map(str, ports))}" if 0 < len(ports) <= 4 else ""
    yield from wrapped(held, "", "  ")
    if facts.get("only_by_tolerance"):
        yield "  only by the tolerance: it ended before the time, or began after it"
    for name in ("start", "end"):
        source = f" ({facts[f'{name}_source']})" if f"{name}_source" in facts else ""
        known = stamp(nanoseconds(facts[name]), zone) + source if name in facts else "not known"
        yield f"  {name}: {known}"


def twin(found: FleetAnswer, asking: Asking) -> dict[str, Any]:
    """The answer as an object: ctwho(1), "MANY ROUTERS", has its members."""
    return {
        "question": {
            **question_json(found.question, _query(found)),
            "asked": rfc3339(asking.now),
            "asked_by": asking.login,
            **({"case": asking.case} if asking.case else {}),
            **({"reason": asking.reason} if asking.reason else {}),
        },
        "verdict": found.judged.word.value,
        **({"why": found.judged.why} if found.judged.why else {}),
        "complete": bool(found.answers) and all(one.complete for one in found.answers),
        "persons": [{"router": one.router, **one.facts} for one in found.persons],
        "routers": [
            {
                "name": one.router.name,
                "where": one.router.where,
                **({"failed": one.failed} if one.twin is None else {"answer": one.twin}),
            }
            for one in found.answers
        ],
        "version": f"ctrecorder {__version__}",
    }


def _query(found: FleetAnswer) -> WhoQuery | None:
    """What was searched; None: it could not be asked."""
    return None if found.question.why_not else found.question.query()


def csv(answers: Iterable[FleetAnswer]) -> str:
    """A row for each inside host of each router, or one for a router without any."""
    return table.lines([COLUMNS, *(cells for one in answers for cells in _rows(one))])


def csv_of_letters(answers: Iterable[tuple[str, int, FleetAnswer]]) -> str:
    """The same with the file and the line of each question of letters."""
    found = ([file, str(line), *cells] for file, line, one in answers for cells in _rows(one))
    return table.lines([("file", "line", *COLUMNS), *found])


def _rows(found: FleetAnswer) -> Iterator[list[str]]:
    question = table.question_cells(found.question)
    if not found.answers:
        yield [*question, found.judged.word.value, found.judged.why, *[""] * 8]
    for one in found.answers:
        answered = "yes" if one.twin is not None else f"no: {one.failed}"
        about = [found.judged.word.value, one.why, one.router.name, answered]
        about.append("yes" if one.complete else "no")
        for facts in one.persons or [{}]:
            yield [*question, *about, *_cells(facts)]


def _cells(facts: dict[str, Any]) -> list[str]:
    if not facts:
        return [""] * 5
    late = "yes" if facts.get("only_by_tolerance") else "no"
    known = [str(facts.get(name, "")) for name in ("connections", "start", "end")]
    return [words.host(facts), *known, late]
