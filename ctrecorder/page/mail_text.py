"""The answer as plain text for a mail: lines of at most 72 columns, without a control character."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import tzinfo

from ctrecorder.page import twin, words
from ctrecorder.page.shape import Json
from ctrecorder.terminal import printable

_COLUMNS = 72


def text(whole: Json) -> str:
    """The text of a twin.  Raises TwinError."""
    digest = twin.digest(twin.spelling(whole))
    return "".join(f"{line}\n" for line in lines(twin.known(whole), digest))


def lines(answers: Json, digest: str) -> Iterator[str]:
    """The lines for what is known of a twin; `digest`: of its spelling."""
    each = answers["questions"]
    for number, line in enumerate(words.common(answers)):
        yield from _wrapped("" if number else "TOGETHER", line)
    for number, answer in enumerate(each, 1):
        if len(each) > 1:
            yield f"Question {number} of {len(each)}"
        yield from _answer(answer)
        yield ""
    if letter := words.letter(answers):
        yield from _wrapped("Not asked", letter.get("problem", ""))
        yield f"SHA-256 of the letter {_quoted(printable(letter.get('file', '')))}:"
        yield f"  {letter['sha256']}"
    if answers.get("redacted"):
        yield from _wrapped("Copy", "the remote ends are left out")
    yield "SHA-256 of the JSON twin of this answer:"
    yield f"  {digest}"


def _answer(answer: Json) -> Iterator[str]:
    asked = answer["question"]
    zone = words.zone_of(asked.get("zone", ""))
    yield from _wrapped("VERDICT", answer["verdict"])
    yield from _wrapped("", words.MEANINGS[answer["verdict"]])
    yield from _wrapped("Asked about", words.ends(asked))
    yield from _wrapped("Port", words.role(asked))
    if "remote" in asked:
        yield from _wrapped("Remote end", words.end(asked["remote"]))
    for field in asked.get("unasked", []):
        yield from _wrapped("Not asked", field)
    if "written" in asked:
        yield from _wrapped("As written", _quoted(asked["written"]))
    yield from _span(asked, ("since", "until"), ("From", "Until"), zone)
    if "case" in asked:
        yield from _wrapped("Case", _quoted(asked["case"]))
    for why in (answer.get("why", ""), *answer.get("notes", []), words.shared(answer)):
        yield from _wrapped("", why)
    for person in answer.get("persons", []):
        yield from _person(person, zone)
    yield from _wrapped("Coverage", words.coverage(answer))
    for hole in answer.get("holes", []):
        yield from _wrapped("Hole", "; ".join(words.hole(hole)))
        yield from _span(hole, ("start", "end"), ("  from", "  until"), zone)
    for clock in answer.get("clock", []):
        yield from _wrapped("Clock", words.clock(clock))


def _person(one: Json, zone: tzinfo | None) -> Iterator[str]:
    late = "; only by the tolerance" if one.get("only_by_tolerance") else ""
    yield from _wrapped("Inside host", words.host(one) + late)
    for customer in one.get("customers", []):
        yield from _wrapped("  customer", _quoted(customer["name"]))
    if one.get("ports"):
        yield from _wrapped("  ports", words.ports(one))
    for name, label, before in (
        ("start", "  began", words.began(one)),
        ("end", "  ended", words.ended(one)),
    ):
        if name in one:
            yield from _dated(label, one[name], zone, before, words.source(one, name))
        else:
            yield from _wrapped(label, before)


def _span(
    one: Json, names: tuple[str, str], labels: tuple[str, str], zone: tzinfo | None
) -> Iterator[str]:
    for name, label in zip(names, labels, strict=True):
        if name in one:
            yield from _dated(label, one[name], zone)


def _dated(
    label: str, moment: str, zone: tzinfo | None, before: str = "", rests: str = ""
) -> Iterator[str]:
    """A time on a line of its own in each zone."""
    shown = (before, *words.both(moment, zone), f"({rests})" if rests else "")
    for line in filter(None, shown):
        yield from _wrapped(label, line)
        label = ""


def _quoted(given: str) -> str:
    """Text of others, between quotation marks."""
    return f'"{given}"'


def _wrapped(label: str, value: str) -> Iterator[str]:
    """ "label: value" with the values of all lines in one column; nothing if there is no value."""
    if not value:
        return
    first = f"{label}:" if label else ""
    yield from textwrap.wrap(
        printable(value),
        _COLUMNS,
        initial_indent=f"{first:<15}",
        subsequent_indent=" " * 15,
        break_on_hyphens=False,
    )
