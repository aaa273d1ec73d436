"""The questions of a letter, and what its sightings have in common.

Every sighting is asked, in each way to read its time.  Several sightings of one letter are
compared: the inside hosts that fit all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from ctrecorder import labels
from ctrecorder.ends import is_inside
from ctrecorder.envelopes.text import Field
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.inquiry.ask import Answered, Asking, answer_all
from ctrecorder.inquiry.question import (
    DEFAULT_TOLERANCE_SECONDS,
    NO_PORT,
    SOURCE,
    LetterFacts,
    Question,
    ReadFrom,
    Target,
    Window,
    checked,
    target_of,
    windows,
)
from ctrecorder.inquiry.verdicts import Word, code_of_letter
from ctrecorder.letters.sighting import Letter, Role, Sighting
from ctrecorder.moments.moment import Moment

# What a person who writes down a time may be off by.
PROSE_TOLERANCE_SECONDS = 60.0
# Questions that are answered together: enough to read each segment once, and few to keep.
_TOGETHER = 1000
_ICMP = ("icmp", "icmpv6")
_NO_WINDOW = Window(0, 0, "", "", "unknown")


class Host(NamedTuple):
    """An inside host, without what it did; `routers`: as of a Person."""

    address: str
    zone: int = 0
    mark: int = 0
    routers: tuple[str, ...] = ()


class Common(NamedTuple):
    """The inside hosts that fit `sightings` sightings of a letter.

    `proved`: it is one, and each sighting alone names it, proved.  That several hosts of each
    sighting have one in common is likely, and proves nothing.
    """

    sightings: int
    persons: tuple[Host, ...]
    proved: bool


@dataclass(frozen=True)
class LetterAnswered:
    """A letter, and the answers to its questions."""

    letter: Letter
    answers: tuple[Answered, ...]

    @property
    def code(self) -> ExitCode:
        """The exit code for it."""
        if not self.answers:
            return ExitCode.FAILED
        return code_of_letter([one.code for one in self.answers])

    @property
    def common(self) -> Common | None:
        """What fits all sightings; None: there are not two that can be compared."""
        fitting: dict[int, set[Host]] = {}
        for one in self.answers:
            if one.persons or one.judged.proved:
                found = fitting.setdefault(one.question.sighting, set())
                found |= {
                    Host(each.address, each.zone, each.mark, each.routers) for each in one.persons
                }
        if len(fitting) < 2:
            return None
        persons = tuple(sorted(set.intersection(*fitting.values())))
        is_one = all(one.judged.word is Word.ONE for one in self.answers)
        proved = is_one and len(persons) == 1
        return Common(len(fitting), persons, proved)


def facts_of(letter: Letter) -> LetterFacts:
    """What names a letter."""
    return LetterFacts(
        letter.file,
        letter.sha256,
        letter.message_id,
        letter.sender,
        letter.reference,
        letter.form,
    )


def answer_letters(
    letters: Iterable[Letter], asking: Asking, tolerance: float | None, *, wait: bool
) -> Iterator[LetterAnswered]:
    """The letters with their answers, in order; many are asked together.

    `tolerance`: seconds; None: by who wrote the time.  Raises as `answer_all`.
    """
    waiting: list[tuple[Letter, list[Question]]] = []
    for letter in letters:
        waiting.append((letter, questions_of(letter, tolerance)))
        if sum(len(questions) for _, questions in waiting) >= _TOGETHER:
            yield from _answered(waiting, asking, wait=wait)
            waiting = []
    yield from _answered(waiting, asking, wait=wait)


def _answered(
    waiting: list[tuple[Letter, list[Question]]], asking: Asking, *, wait: bool
) -> Iterator[LetterAnswered]:
    questions = [one for _, of_letter in waiting for one in of_letter]
    answers = iter(answer_all(questions, asking, wait=wait))
    for letter, of_letter in waiting:
        yield LetterAnswered(letter, tuple(next(answers) for _ in of_letter))


def questions_of(letter: Letter, tolerance: float | None) -> list[Question]:
    """The questions of a letter; one that cannot be asked says why."""
    return [
        question
        for number, sighting in enumerate((*letter.sightings, *letter.unread), 1)
        for question in _questions(letter, number, sighting, tolerance)
    ]


def _questions(
    letter: Letter, number: int, sighting: Sighting, tolerance: float | None
) -> Iterator[Question]:
    is_icmp = sighting.protocol is not None and sighting.protocol.value in _ICMP
    is_id = sighting.role is Role.ID
    unasked: list[str] = []
    port = sighting.port if is_id or not is_icmp else None
    if sighting.port and not port:
        unasked.append("the port: of ICMP it can be a type, a code or an id")
    target = _end(sighting.address, port)
    remote_port = None if is_icmp else sighting.remote_port
    remote = _end(sighting.remote_address, remote_port)
    if sighting.remote_port and not remote_port:
        unasked.append("the remote port: ICMP has none")
    elif sighting.remote_port and not remote:
        unasked.append("the remote port: the letter names no remote address")
    # A server behind NAT writes its own address into its log: our router saw another.
    if remote and target and is_inside(remote.address) and not is_inside(target.address):
        remote = None
        unasked.append("the remote end: its address is one inside the sender's network")
    by_writer = PROSE_TOLERANCE_SECONDS if sighting.prose else DEFAULT_TOLERANCE_SECONDS
    found, why_not = _windows(sighting)
    for window in found:
        question = Question(
            target or Target(sighting.address.value, None),
            window,
            _role(sighting.role) if port else NO_PORT,
            _protocols(sighting),
            remote,
            by_writer if tolerance is None else tolerance,
            sighting.problem or (why_not if target else "there is no address"),
            facts_of(letter),
            number,
            tuple(_places(sighting)),
            sighting.may_listen and port is not None,
            tuple(unasked),
        )
        try:
            yield question if question.why_not else checked(question)
        except UsageError as error:
            # A letter has no options.
            yield replace(question, why_not=str(error).removeprefix("--to: "))


def _role(role: Role) -> str:
    """The role in a question: an id is chosen like the port of a source."""
    return SOURCE if role is Role.ID else role.value


def _end(address: Field[str] | None, port: Field[int] | None) -> Target | None:
    if address is None:
        return None
    return target_of(address.value, None if port is None else port.value)


def _windows(sighting: Sighting) -> tuple[list[Window], str]:
    """The windows of a sighting, or one without a time, and why there is none."""
    if sighting.first is None:
        return [_NO_WINDOW], "no time was read for it in the letter"
    first = windows(sighting.first.value)
    if not first:
        return [_unread(sighting.first.value)], _without_zone(sighting.first.value)
    if sighting.last is None:
        return first, ""
    last = windows(sighting.last.value)
    if not last:
        return [_unread(sighting.last.value)], _without_zone(sighting.last.value)
    zones = {one.zone for one in first} & {one.zone for one in last}
    pairs = [
        (one, other)
        for one, other in product(first, last)
        if one.begin <= other.end and (not zones or one.zone == other.zone)
    ]
    if not pairs:
        return [_unread(sighting.first.value)], "the range ends before it begins"
    return [
        one._replace(
            end=max(one.end, other.end), text=f"{one.text} to {other.text}", readings=len(pairs)
        )
        for one, other in pairs
    ], ""


def _unread(moment: Moment) -> Window:
    return _NO_WINDOW._replace(text=moment.text)


def _without_zone(moment: Moment) -> str:
    return f"the zone of the time '{moment.text}' is not known: give it with --zone"


def _protocols(sighting: Sighting) -> frozenset[int]:
    """The protocol of layer 4 that the letter names, if it is known."""
    if sighting.protocol is None:
        return frozenset()
    try:
        return frozenset((labels.parse_protocol(sighting.protocol.value),))
    except UsageError:
        return frozenset()


def _places(sighting: Sighting) -> Iterator[ReadFrom]:
    """Where each field was read."""
    fields: dict[str, Field[str] | Field[int] | Field[Moment] | None] = {
        "address" if sighting.address.value else "row": sighting.address,
        "id" if sighting.role is Role.ID else "port": sighting.port,
        "time": sighting.first,
        "time_until": sighting.last,
        "remote_address": sighting.remote_address,
        "remote_port": sighting.remote_port,
        "protocol": sighting.protocol,
    }
    for name, field in fields.items():
        if field is not None:
            yield place_of(name, field)


def place_of(name: str, field: Field[str] | Field[int] | Field[Moment]) -> ReadFrom:
    """The place of a field, with its bytes as text."""
    place = field.place
    text = place.raw.decode("utf-8", "backslashreplace")
    return ReadFrom(name, place.file, place.part, place.line, text)
