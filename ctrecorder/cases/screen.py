"""A letter and its answers on a terminal, and its questions for --dry-run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC

from ctrecorder.cases.letter import Common, LetterAnswered, facts_of, place_of
from ctrecorder.inquiry import screen
from ctrecorder.inquiry.question import LetterFacts, Question
from ctrecorder.inquiry.shown import seconds, zone_of
from ctrecorder.inquiry.verdicts import Word
from ctrecorder.letters.sighting import Letter
from ctrecorder.terminal import count, printable

# Of a letter of an unknown form, so many places are shown.
_MAX_SEEN = 20


def text(one: LetterAnswered, *, utc: bool = False, connections: bool = False) -> str:
    """The letter, what its sightings have in common, and each answer."""
    lines = [*_head(one.letter)]
    if one.common is not None:
        lines += screen.row("together", _common(one.common))
    parts = [_joined(lines)]
    for number, answer in enumerate(one.answers, 1):
        title = f"Question {number} of {len(one.answers)}\n" if len(one.answers) > 1 else ""
        parts.append(title + screen.text(answer, utc=utc, connections=connections))
    return "\n".join([*parts, _joined([*_identity(one.letter)])])


def framed(letter: Letter, answers: Sequence[str]) -> str:
    """Answers to the questions of a letter, between what names it."""
    parts = [_joined([*_head(letter)])]
    for number, answer in enumerate(answers, 1):
        title = f"Question {number} of {len(answers)}\n" if len(answers) > 1 else ""
        parts.append(title + answer)
    return "\n".join([*parts, _joined([*_identity(letter)])])


def questions(letter: Letter, asked: list[Question], *, utc: bool = False) -> str:
    """The questions of a letter, which are not asked."""
    parts = [_joined([*_head(letter)])]
    for number, one in enumerate(asked, 1):
        lines = [f"Question {number} of {len(asked)}"]
        lines += screen.wrapped(f"CANNOT BE ASKED: {one.why_not}", "", "  ") if one.why_not else []
        zone = UTC if utc else zone_of(one.window.zone)
        lines += screen.question_rows(one, None if one.why_not else one.query(), zone)
        lines += screen.row("tolerance", f"{seconds(one.tolerance)}, and that of our clock")
        parts.append(_joined(lines))
    return "\n".join([*parts, _joined([*_identity(letter)])])


def _joined(lines: list[str]) -> str:
    return "".join(f"{printable(line)}\n" for line in lines)


def _head(letter: Letter) -> Iterator[str]:
    """What names the letter; of one without questions, why, and what was seen in it."""
    if not letter.sightings:
        yield Word.CANNOT_BE_ASKED.value
        why = letter.problem or "nothing in it can be asked"
        yield from screen.wrapped(f"reason: {why}", "  ", "  ")
        yield ""
    yield from screen.row("letter", _named(facts_of(letter)))
    for number, field in enumerate(letter.seen[:_MAX_SEEN]):
        place = screen.place_text(place_of("seen", field)).removeprefix("seen: ")
        yield from screen.row("" if number else "seen", place)
    if len(letter.seen) > _MAX_SEEN:
        yield from screen.row("", f"and {len(letter.seen) - _MAX_SEEN:,} more")


def _identity(letter: Letter) -> Iterator[str]:
    """What tells the letter from every other one."""
    if letter.message_id:
        yield from screen.row("Message-ID", letter.message_id)
    yield from screen.row("SHA-256", letter.sha256)


def _named(letter: LetterFacts) -> str:
    sender = f", from {letter.sender}" if letter.sender else ""
    number = f", their number {letter.reference}" if letter.reference else ""
    return f"{letter.file}{f', {letter.form}' if letter.form else ''}{sender}{number}"


def _common(common: Common) -> str:
    """ "10.0.0.1 fits all 3 sightings"."""
    all_of = f"all {count(common.sightings, 'sighting')} that can be compared"
    hosts = [
        f"{address}{f' in zone {zone}' if zone else ''}{f' with mark {mark:#x}' if mark else ''}"
        + (f" behind {' and '.join(routers)}" if routers else "")
        for address, zone, mark, routers in common.persons
    ]
    proved = "" if common.proved else " (not proved)"
    if not hosts:
        return f"no inside host fits {all_of}{proved}"
    if len(hosts) > 1:
        return f"{len(hosts):,} inside hosts fit {all_of}{proved}: {', '.join(hosts)}"
    return f"{hosts[0]} fits {all_of}{proved}"
