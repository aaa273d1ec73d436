"""What persons write: lists with an address, its port and a time on a line and nothing else of
weight; and an address alone on its line, with its times in the lines below (honeypots).
"""

from __future__ import annotations

import re

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.bounds import MAX_SEEN
from ctrecorder.envelopes.endpoints import Endpoint
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.letters import tables
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Role, Sighting

_COMMENT = re.compile(r"\s#.*|^\s*#.*")
_PORT = re.compile(r"^[\s,;|]*(?:port[\s:=]*)?(\d{1,5})(?=[\s,;|]|$)", re.ASCII | re.IGNORECASE)
_WORD = re.compile(r"[^\s,;|()\[\]\"'<>]+")
_REMOTE = re.compile(r"(?:^|\s)(?:->|=>|to)[\s\[\"']*$", re.IGNORECASE)
# Words that say nothing else.
_EMPTY = {"at", "on", "from", "ip", "ip:", "address", "address:", "port", "port:", "source", "time"}
_EMPTY |= {"time:", "date:", "to", "->", "=>", "-", "*", ":", "and", "until", "..", "/", "to:"}
_EPOCH = re.compile(r"(?<![\w.:@-])@?1\d{9}(?:\.\d{1,9})?(?![\w.:-])", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}[.)]?", re.ASCII)
# "192.0.2.1", "* 192.0.2.1 (S)".
_ALONE = re.compile(
    r"[\s*-]{0,10}(?P<address>[0-9A-Fa-f.:]{3,45})(?:[ \t]{1,4}\([A-Z]{1,3}\))?:?\s*"
)
# What stands around the time below an address.
_ITEM = re.compile(r"[\s*-]{1,20}")


def read(source: Source) -> Reading | None:
    """The lists in what a person reads of the letter."""
    found = Reading("list")
    for text in source.texts():
        for offset, line in text.lines():
            if tables.names_columns(line):
                # The addresses of an unknown table can be anybody's.
                break
            sighting = _line(text, offset, _COMMENT.sub("", line), source)
            if sighting:
                found.add(sighting)
                continue
            why = "the line is of no known form"
            if _ambiguous(line):
                why = "IPv6 with a port needs brackets: [2001:db8::1]:567"
                found.problem = f"line {text.line(offset)}: {why}"
            # In a mail it can be a sentence.
            if not source.mail.headers and any(endpoints.find(line)) and source.clock.find(line):
                place = text.field("", offset, offset + len(line))
                found.refuse(Sighting(place, problem=why))
            if len(found.unread) < MAX_SEEN:
                found.unread += source.seen(text, offset, offset + len(line))
    return found if found.sightings or found.problem else None


def _ambiguous(line: str) -> bool:
    words = line.split(maxsplit=1)
    return bool(
        words and endpoints.address(words[0]) and ":" in words[0] and endpoints.ambiguous(words[0])
    )


def _line(text: Text, offset: int, line: str, source: Source) -> Sighting | None:
    found = list(endpoints.find(line))
    if not 1 <= len(found) <= 2:
        return None
    times = source.clock.find(line) or _epochs(line)
    if not 1 <= len(times) <= 2 or _overlap(found, times):
        return None
    ours = found[0]
    remote = found[1] if len(found) == 2 else None
    if remote and not _REMOTE.search(line[: remote.start]):
        return None
    if (
        ":" in ours.address
        and not ours.port
        and _ambiguous(line[ours.start :])
        and line[ours.start - 1 : ours.start] != "["
    ):
        return None
    port = ours.port_field(text, offset) or _next_port(text, offset, line, ours, times)
    rest = _rest(line, found, times, port, offset)
    words = [word for word in _WORD.findall(rest) if word.lower() not in _EMPTY]
    protocols = [word for word in words if endpoints.protocol(word) and not word.isdigit()]
    others = [word for word in words if word not in protocols]
    # A number may count the lines.
    if others and _NUMBER.fullmatch(others[0]) and line.lstrip().startswith(others[0]):
        others = others[1:]
    if others or len(protocols) > 1:
        return None
    first = source.clock.read(text, offset + times[0][0], offset + times[0][1])
    last = None
    if len(times) == 2:
        last = source.clock.read(text, offset + times[1][0], offset + times[1][1])
    return Sighting(
        ours.address_field(text, offset),
        port,
        Role.SOURCE if port else Role.NONE,
        first,
        last,
        remote.address_field(text, offset) if remote else None,
        remote.port_field(text, offset) if remote else None,
        _protocol(text, offset, line, protocols),
    )


def _overlap(found: list[Endpoint], times: list[tuple[int, int]]) -> bool:
    return any(each.start < end and start < each.stop for each in found for start, end in times)


def _epochs(line: str) -> list[tuple[int, int]]:
    """Seconds since 1970, which in a free text can be anything."""
    return [match.span() for match in _EPOCH.finditer(line)]


def _next_port(
    text: Text, offset: int, line: str, ours: Endpoint, times: list[tuple[int, int]]
) -> Field[int] | None:
    """The port in the next cell: "192.0.2.1;40000;..."."""
    match = _PORT.match(line[ours.stop :].removeprefix("]"))
    number = endpoints.port(match[1]) if match else 0
    if match is None or not number:
        return None
    start = ours.stop + line.startswith("]", ours.stop) + match.start(1)
    end = start + len(match[1])
    # Behind a blank alone, a small number can count something.
    if match[0].isdecimal() or (not match[0].strip(" \t0123456789") and number < 1024):
        return None
    if any(first < end and start < last for first, last in times):
        return None
    return text.field(number, offset + start, offset + end)


def _rest(
    line: str,
    found: list[Endpoint],
    times: list[tuple[int, int]],
    port: Field[int] | None,
    offset: int,
) -> str:
    """The line without what was read."""
    gone = [(each.start, each.stop) for each in found] + times
    chars = list(line)
    for start, end in gone:
        chars[start:end] = " " * (end - start)
    rest = "".join(chars)
    if port and not found[0].port:
        word = port.place.raw.decode("utf-8", "replace")
        at = rest.find(word, found[0].stop)
        rest = rest[:at] + " " * len(word) + rest[at + len(word) :]
    return rest


def _protocol(text: Text, offset: int, line: str, words: list[str]) -> Field[str] | None:
    if not words:
        return None
    start = offset + line.find(words[0])
    return text.field(endpoints.protocol(words[0]), start, start + len(words[0]))


def read_below(source: Source) -> Reading | None:
    """Times below an address."""
    found = Reading("report in prose")
    for text in source.texts():
        address = None
        stop = 0
        for offset, line in text.lines():
            # What follows an empty line belongs to nobody named before.
            if text.blank_between(stop, offset):
                address = None
            stop = offset + len(line)
            match = _ALONE.fullmatch(line)
            word = endpoints.address(match["address"]) if match else ""
            if match and word:
                start, end = match.span("address")
                address = text.field(word, offset + start, offset + end)
                continue
            times = source.clock.find(line)
            if address and len(times) == 1 and _ITEM.fullmatch(line, 0, times[0][0]):
                start, end = times[0]
                first = source.clock.read(text, offset + start, offset + end)
                if first and not line[end:].strip():
                    found.add(Sighting(address, first=first, prose=True))
            elif line.strip() and not line[0].isspace():
                address = None
    return found if found.sightings else None
