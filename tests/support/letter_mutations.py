"""Letters with bytes changed at random, and what a reader may make of them.

What it reads must stand in the letter.  A change outside of the fields and of what tells their
zones takes fields away, and changes none.
"""

from __future__ import annotations

import ipaddress
import random
import re
from dataclasses import dataclass

from ctrecorder.letters.read import read
from ctrecorder.letters.sighting import Sighting
from ctrecorder.moments.find import find
from ctrecorder.moments.reader import read as moment
from ctrecorder.times import SECOND
from tests.support.letters import Question, asked

# 2026-11-28 12:00 UTC.
NOW = 1_795_867_200 * 10**9
# Of CPU: more than any of the made letters takes.
MOST_SECONDS = 20.0
# Lines that tell the zone of others, or the year.
_CONTEXT = re.compile(
    rb"[^\n]*(?:timezone|event time|^Date:|\nDate:)[^\n]*|[+-]\d\d:?\d\d|UTC|source_port.: 0",
    re.MULTILINE,
)
# Cells of a table without a value: a change there can give them one.
_EMPTY = re.compile(rb"(?<=[;,\t])(?=[;,\t\r\n]|\Z)")
# Of bytes behind a time: a change there can make AM, PM or a zone of what follows the time.
_TAIL = 8
_PACKED = (b"base64", b"quoted-printable", b"pk\x03\x04", b"\x1f\x8b")


class Invented(AssertionError):
    """A question that the letter does not ask."""


@dataclass(frozen=True)
class Original:
    """A letter, what it asks, and the places whose change may change an answer.

    `times`: those that it tells with their zone, besides those of its questions.
    """

    data: bytes
    questions: tuple[Question, ...]
    places: tuple[tuple[int, int], ...]
    times: frozenset[int | None] = frozenset()

    @classmethod
    def of(cls, data: bytes) -> Original:
        sightings = [each for letter in read(data, "letter", NOW) for each in letter.sightings]
        raws = {raw for each in sightings for raw in _raws(each)}
        places = [match.span() for each in (_CONTEXT, _EMPTY) for match in each.finditer(data)]
        for raw in raws:
            places += [match.span() for match in re.finditer(re.escape(raw), data)]
        questions = tuple(asked(each) for each in sightings)
        times: set[int | None] = {None}
        text = data.decode("latin-1")
        for match in re.finditer(r"[^\n]+", text):
            for start, end in find(match[0]):
                places.append((match.start() + start, match.start() + end + _TAIL))
                spans = moment(match[0][start:end], NOW).readings[0].spans
                times |= {span[0] // SECOND for span in spans}
        return cls(data, questions, tuple(places), frozenset(times))

    def allowed(self, address: str) -> set[int | None]:
        """The times that may be asked of an address: its own, and those that are nobody else's."""
        mine: set[int | None] = {None}
        others: set[int | None] = set()
        for each in self.questions:
            (mine if each.address == address else others).update((each.second, each.until))
        return mine | (self.times - others)

    def touched(self, start: int, end: int) -> bool:
        """Whether a change there, or beside it, can change what a field says."""
        return any(first - 2 < end and start < last + 2 for first, last in self.places)


def mutated(data: bytes, source: random.Random) -> tuple[bytes, int, int]:
    """A letter with one change, and where the change was: byte, bytes, or line."""
    at = source.randrange(len(data))
    kind = source.randrange(6)
    if kind == 0:
        return data[:at] + bytes([source.randrange(256)]) + data[at + 1 :], at, at + 1
    if kind == 1:
        end = at + source.choice([1, 1, 1, 2, 5, 40])
        return data[:at] + data[end:], at, end
    if kind == 2:
        more = source.choice([b"\n", b"\0", b"\x1b[31m", b"\xe2\x80\xae", b"<", b"&", b'"', b"1"])
        return data[:at] + more + data[at:], at, at + 1
    if kind == 3:
        return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :], at, at + 1
    if kind == 4:
        start = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at) + 1 or len(data)
        return data[:start] + data[end:], start, end
    return data[:at], at, len(data)


def check(original: Original, data: bytes, start: int, end: int) -> None:
    """Raises Invented."""
    packed = any(mark in original.data.lower() for mark in _PACKED)
    for letter in read(data, "letter", NOW):
        shown = [letter.problem, letter.sender, letter.reference, letter.message_id, letter.form]
        shown += [each.value for each in letter.seen]
        if not all(word.isprintable() for word in shown):
            raise Invented(f"not printable: {shown}")
        for sighting in letter.sightings:
            _stands_there(sighting, data, packed=packed)
            if not packed and not original.touched(start, end):
                question = asked(sighting)
                times = original.allowed(question.address)
                known = {question.second, question.until} <= times or _wider(sighting, times)
                if not (known and any(_weaker(question, each) for each in original.questions)):
                    raise Invented(f"{question} of {original.questions}")


def _raws(sighting: Sighting) -> list[bytes]:
    fields = (
        sighting.address,
        sighting.port,
        sighting.first,
        sighting.last,
        sighting.remote_address,
        sighting.remote_port,
        sighting.protocol,
    )
    return [each.place.raw for each in fields if each]


def _stands_there(sighting: Sighting, data: bytes, *, packed: bool) -> None:
    for raw in _raws(sighting):
        if not packed and raw not in data:
            raise Invented(f"{raw!r} does not stand in the letter")
    for address in (sighting.address, sighting.remote_address):
        if address:
            found = ipaddress.ip_address(_text(address.place.raw).strip("[]"))
            mapped = getattr(found, "ipv4_mapped", None)
            if str(mapped or found) != address.value:
                raise Invented(f"{address}")
    for port in (sighting.port, sighting.remote_port):
        if port and int(_text(port.place.raw)) != port.value:
            raise Invented(f"{port}")


def _wider(sighting: Sighting, times: set[int | None]) -> bool:
    """Whether a time of the address is in what is asked: a day, where the hour was lost."""
    readings = sighting.first.value.readings if sighting.first else ()
    spans = [span for each in readings for span in each.spans]
    return any(
        begin <= time * SECOND < end for time in times if time is not None for begin, end in spans
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-16-le" if b"\0" in raw else "utf-8")


def _weaker(question: Question, other: Question) -> bool:
    """Whether it asks what the other asks, or less, at some time of the letter.

    A source's port leaves out nobody whom a service's leaves in: it is what remains without the
    field that says that the port is a service's.
    """
    roles = {other.role, "source"} if other.role == "service" else {other.role}
    return (
        question.address == other.address
        and question.port in (None, other.port)
        and (question.port is None or question.role in roles)
        and question.remote in (None, other.remote)
        and question.remote_port in (None, other.remote_port)
        and question.protocol in (None, other.protocol)
    )
