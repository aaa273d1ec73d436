"""A letter, read: the one place that decides of which form it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ctrecorder.envelopes.bounds import MAX_BYTES, MAX_SEEN, MAX_WORDS, MIB, Budget, Refused
from ctrecorder.envelopes.clock import Clock, begin
from ctrecorder.envelopes.mime import Mail, is_mail, parse_file, parse_mail
from ctrecorder.envelopes.text import Field, as_utf8
from ctrecorder.letters import (
    acns,
    arf,
    loglines,
    notices,
    plain,
    records,
    tables,
    xarf,
    xarf_json,
)
from ctrecorder.letters.forms import Reader, Reading, Source
from ctrecorder.letters.sighting import Letter, Sighting
from ctrecorder.moments.moment import Moment
from ctrecorder.terminal import printable
from ctrecorder.times import SECOND

# The forms, in the order in which they are tried: from those that cannot be mistaken on.
FORMS: tuple[Reader, ...] = (
    arf.read,
    acns.read,
    xarf_json.read,
    xarf.read,
    records.read,
    tables.read,
    notices.read,
    loglines.read_accused,
    plain.read,
    loglines.read_connected,
    plain.read_below,
)
_CASE = re.compile(
    r"\b(?:case|notice|ticket|reference|issue|rid|incident)\b[ #:-]{0,3}(?:id|no|number)?\.?"
    r"[ #:]{0,3}(?=[\w-]{0,40}\d)([\w-]{3,64})",
    re.IGNORECASE,
)
_UNKNOWN = "of no known form: no question was read"


def read_letter(data: bytes, name: str, now: int, zone: str) -> Letter:
    """One letter, mail or file.  `now`: ns; `zone`: of times whose zone it does not tell."""
    if len(data) > MAX_BYTES:
        # It was not read to its end, so it has no hash.
        return Letter(name, "", problem=f"refused: it is larger than {MAX_BYTES // MIB} MiB")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        budget = Budget()
        text = as_utf8(data)
        mail = parse_mail(text, name, budget) if is_mail(text) else parse_file(data, name, budget)
        return _letter(mail, name, sha256, now, zone)
    except Refused as error:
        return Letter(name, sha256, problem=str(error))


def _letter(mail: Mail, name: str, sha256: str, now: int, zone: str) -> Letter:
    source = _source(mail, now, zone)
    reading = _read(source)
    enclosed = list(_enclosed(mail))
    if not reading.sightings and enclosed and not reading.problem:
        # A letter that was forwarded as an attachment.
        for inner in enclosed:
            source = _source(inner, now, zone)
            reading = _read(source)
            if reading.sightings:
                break
    sightings = merged(reading)
    problem, seen = "", list(reading.unread)
    if not sightings:
        broken = [part.broken for part in mail.parts if part.broken]
        problem = reading.problem or (broken[0] if broken else _UNKNOWN)
        for row in reading.rows[:1] if not reading.problem else ():
            problem = f"line {row.address.place.line}: {row.problem}"
        seen = seen or [field for text in source.texts() for field in source.seen(text)]
    return Letter(
        name,
        sha256,
        _words(mail.words("message-id").strip("<> ")),
        _words(mail.words("from")),
        _words(reading.reference or _case(mail)),
        reading.form,
        tuple(sightings),
        tuple(seen[:MAX_SEEN]),
        problem,
        tuple(reading.rows) if sightings else (),
    )


def _enclosed(mail: Mail) -> Iterator[Mail]:
    """The letters in a letter, and those in them: each time it was forwarded."""
    for part in mail.parts:
        if part.mail is not None:
            yield part.mail
            yield from _enclosed(part.mail)


def _source(mail: Mail, now: int, zone: str) -> Source:
    """The letter opened.  Its times are before its own date, if that is not in the future."""
    texts = [part.text for part in mail.parts if part.kind != "text/html"] or [
        part.text for part in mail.parts
    ]
    header = mail.header("date")
    date = None
    if header is not None:
        date = begin(Clock([], now, "UTC").read(header.text, header.start, header.end))
        now = min(now, date) if date else now
    return Source(mail, Clock(texts, now, zone, dated=date is not None))


def _read(source: Source) -> Reading:
    """What the first form finds; without any, what the first form says why."""
    first: Reading | None = None
    for form in FORMS:
        reading = form(source)
        if reading and (reading.sightings or reading.problem.startswith("refused")):
            return reading
        first = first or reading
    return first or Reading("")


def merged(reading: Reading) -> list[Sighting]:
    """Each sighting once: the same again, and the same notice in another rendering.

    A letter tells a notice in XML and in words: what one of them names more is kept, if each has
    only this sighting of the address at that time.  Two lines of a list or of a log are two
    sightings, unless they name the same: behind NAT they can be of two hosts.
    """
    order: list[_Told] = []
    places: dict[tuple[object, ...], list[_Told]] = {}
    for each, rendering in _renderings(reading):
        same = places.setdefault((each.address.value, _second(each.first), _second(each.last)), [])
        for told in same:
            both = _both(told.sighting, each)
            if both and _equal(told.sighting, each):
                again = (*told.sighting.again, each.address.place.line)
                told.sighting = replace(both, again=again)
                told.renderings.add(rendering)
                break
        else:
            same.append(_Told(each, {rendering}))
            order.append(same[-1])
    for same in places.values():
        _join(same)
    return [told.sighting for told in order if told.renderings]


@dataclass
class _Told:
    """A sighting, and the renderings of the notice that tell it; none: another one has it."""

    sighting: Sighting
    renderings: set[str]


def _renderings(reading: Reading) -> Iterator[tuple[Sighting, str]]:
    """Each sighting, and the rendering that it is of: a part; all log lines are one."""
    notices = len(reading.sightings) - reading.lines
    for number, each in enumerate(reading.sightings):
        is_of_part = reading.twins and number < notices
        yield each, f"part {each.address.place.part}" if is_of_part else "lines"


def _join(same: list[_Told]) -> None:
    """One of all that tell one address and time, if each rendering tells one and they agree."""
    names = [name for told in same for name in told.renderings]
    if len(same) < 2 or len(set(names)) < len(names):
        return
    both: Sighting | None = same[0].sighting
    for told in same[1:]:
        both = both and _both(both, told.sighting)
    if both:
        same[0].sighting = both
        for told in same[1:]:
            told.renderings.clear()


def _equal(one: Sighting, other: Sighting) -> bool:
    """Whether both name the same fields; what these say is another question."""
    pairs = (
        (one.port, other.port),
        (one.remote_address, other.remote_address),
        (one.remote_port, other.remote_port),
        (one.protocol, other.protocol),
    )
    return all((a is None) == (b is None) for a, b in pairs)


def _second(field: Field[Moment] | None) -> object:
    """The second of a time, which all that tell it agree in; its text if it is unknown."""
    first = begin(field)
    return field.value.text if field and first is None else first and first // SECOND


def _time(one: Field[Moment] | None, other: Field[Moment] | None) -> Field[Moment] | None:
    """The rougher of two ways to tell one time: "13:19:53.000Z" and "13:19:53Z"."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda each: sum(b - a for a, b in _spans(each)))


def _spans(field: Field[Moment]) -> list[tuple[int, int]]:
    return [span for reading in field.value.readings for span in reading.spans]


def _contained(one: Field[Moment] | None, other: Field[Moment] | None) -> bool:
    """Whether the readings of one lie in those of the other, or the other way round."""
    if one is None or other is None:
        return one is other
    first, second = sorted(
        (_spans(one), _spans(other)), key=lambda each: sum(b - a for a, b in each)
    )
    return len(first) == len(second) and all(
        a >= c and b <= d for (a, b), (c, d) in zip(first, second, strict=True)
    )


def _both(one: Sighting, other: Sighting) -> Sighting | None:
    """Both as one; None: they contradict each other."""
    pairs = (
        (one.port, other.port),
        (one.remote_address, other.remote_address),
        (one.remote_port, other.remote_port),
        (one.protocol, other.protocol),
    )
    if any(a is not None and b is not None and a.value != b.value for a, b in pairs):
        return None
    if not (_contained(one.first, other.first) and _contained(one.last, other.last)):
        return None
    if one.port and other.port and one.role is not other.role:
        return None
    return Sighting(
        one.address,
        one.port or other.port,
        one.role if one.port else other.role,
        _time(one.first, other.first),
        _time(one.last, other.last),
        one.remote_address or other.remote_address,
        one.remote_port or other.remote_port,
        one.protocol or other.protocol,
        one.prose and other.prose,
        one.may_listen or other.may_listen,
    )


def _case(mail: Mail) -> str:
    """A case number in the subject."""
    match = _CASE.search(mail.words("subject"))
    return match[1] if match else ""


def _words(text: str) -> str:
    return printable(text[:MAX_WORDS])
