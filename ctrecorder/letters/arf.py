"""ARF: feedback reports about mail (RFC 5965), with the source port of RFC 6692.

Without `Source-Port:` the port is the one in the enclosed message's Received line whose address is
Source-IP: inner hops are written the same way, and are no question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import Clock, begin
from ctrecorder.envelopes.mime import Header, Part, parse_headers
from ctrecorder.envelopes.text import Field
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Role, Sighting
from ctrecorder.moments.moment import Moment

# What a Received line says of the sender ends where the receiver's name, or the way, begins.
_BY = re.compile(r"\s(?:by|with|via|id|for)\s|;", re.IGNORECASE)
_TIMES = ("arrival-date", "received-date")


def read(source: Source) -> Reading | None:
    """The feedback report of a multipart/report."""
    found: Reading | None = None
    for part in source.parts:
        if part.kind == "message/feedback-report":
            found = found or Reading("ARF")
            _read(part, source, found)
    return found


def _read(part: Part, source: Source, found: Reading) -> None:
    headers = list(_fields(part))
    values = {header.name: header for header in reversed(headers)}
    address = _address(values.get("source-ip"))
    if address is None:
        found.problem = "the report names no Source-IP"
        return
    reference = values.get("original-envelope-id")
    found.reference = reference.words if reference else ""
    received = _received(address.value, source)
    port = _port(values.get("source-port")) or (
        _beside(received, address.value) if received else None
    )
    times = [_time(values[name], source.clock) for name in _TIMES if name in values][:1]
    times.append(_received_time(received, source.clock) if received else None)
    ordered = sorted(
        (time for time in times if begin(time) is not None), key=lambda time: begin(time) or 0
    ) or [time for time in times if time]
    first = ordered[0] if ordered else None
    last = ordered[-1] if begin(ordered[-1] if ordered else None) != begin(first) else None
    found.add(Sighting(address, port, Role.SOURCE if port else Role.NONE, first, last))


def _fields(part: Part) -> Iterator[Header]:
    """The fields of a report; it may begin with an empty line."""
    start = len(part.text.text) - len(part.text.text.lstrip("\r\n"))
    yield from parse_headers(part.text, start)[0]


def _address(header: Header | None) -> Field[str] | None:
    """The address of Source-IP, also with its brackets or a comment."""
    if header is None:
        return None
    found = list(endpoints.find(header.text.text[header.start : header.end]))
    if len({each.address for each in found}) != 1:
        return None
    return found[0].address_field(header.text, header.start)


def _port(header: Header | None) -> Field[int] | None:
    if header is None:
        return None
    number = endpoints.port(header.value)
    start = header.text.text.find(header.value, header.start)
    return header.text.field(number, start, start + len(header.value)) if number else None


def _received(address: str, source: Source) -> Header | None:
    """The topmost Received line of the enclosed message that names the address as its sender."""
    for header in _enclosed(source):
        if header.name == "received":
            for each in endpoints.find(_sender(header)):
                if each.address == address:
                    return header
    return None


def _enclosed(source: Source) -> Iterator[Header]:
    """The headers of the message that the report is about."""
    for part in source.parts:
        if part.mail is not None:
            yield from part.mail.headers
        elif part.kind == "text/rfc822-headers":
            yield from parse_headers(part.text)[0]


def _sender(header: Header) -> str:
    """What a Received line says of the sender."""
    raw = header.text.text[header.start : header.end]
    end = _BY.search(raw)
    return raw[: end.start()] if end else raw


def _beside(header: Header, address: str) -> Field[int] | None:
    """The port beside the address in a Received line."""
    for each in endpoints.find(_sender(header)):
        if each.address == address and each.port:
            return each.port_field(header.text, header.start)
    return None


def _time(header: Header, clock: Clock) -> Field[Moment] | None:
    """RFC 5322: the zone -0000 is UTC, from a machine that does not tell its own."""
    raw = header.text.text[header.start : header.end]
    start = header.start + len(raw) - len(raw.lstrip())
    zones = {"convention": "UTC"} if "-0000" in raw else {}
    return clock.read(header.text, start, header.start + len(raw.rstrip()), **zones)


def _received_time(header: Header, clock: Clock) -> Field[Moment] | None:
    """The time after the last semicolon."""
    raw = header.text.text[header.start : header.end]
    at = raw.rfind(";") + 1
    if not at:
        return None
    start = header.start + at + len(raw[at:]) - len(raw[at:].lstrip())
    zones = {"convention": "UTC"} if "-0000" in raw[at:] else {}
    return clock.read(header.text, start, header.start + len(raw.rstrip()), **zones)
