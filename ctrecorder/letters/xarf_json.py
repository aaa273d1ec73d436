"""XARF 3 and 4: reports in JSON, as a file, in a mail, or several in one text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import Clock, begin
from ctrecorder.envelopes.jsontext import BadJson, Value, parse
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.letters.forms import LISTENING_PORTS, Reading, Source
from ctrecorder.letters.sighting import Role, Sighting
from ctrecorder.moments.moment import Moment

_NAMES = re.compile(r'"(?:xarf_version|ReporterInfo)"', re.IGNORECASE)
# Where the answers of a reflected attack come from: a port of a server, not one that a NAT chose.
# In any other report it can be one that a NAT chose: 3389 and 11211 are in its usual range.
_SERVICES = {17, 19, 53, 111, 123, 137, 161, 389, 1900, 3389, 5353, 11211}
_REFLECTED = ("amplification", "reflection")
# Class and type of reports about a peer.
_COPYRIGHT = {"copyright", "p2p"}


@dataclass(frozen=True)
class _Paths:
    """Where a version keeps its fields; the first path that is there counts."""

    address: tuple[str, ...]
    port: tuple[str, ...]
    time: tuple[str, ...]
    first: tuple[str, ...]
    last: tuple[str, ...]
    remote_address: tuple[str, ...]
    remote_port: tuple[str, ...]
    protocol: tuple[str, ...]
    reference: tuple[str, ...]
    kind: tuple[str, ...]


_V3 = _Paths(
    address=("report/sourceip", "report/source/ip"),
    port=("report/sourceport", "report/source/port"),
    time=("report/date",),
    first=("report/firstseen", "report/additionalinfo/firstseen"),
    last=("report/lastseen", "report/additionalinfo/lastseen"),
    remote_address=("report/destinationip", "report/destination/ip")
    + ("report/additionalinfo/destinationip",),
    remote_port=("report/destinationport", "report/destination/port")
    + ("report/additionalinfo/destinationport",),
    protocol=("report/protocol", "report/additionalinfo/protocol"),
    reference=("report/reportid", "report/id", "reportid"),
    kind=("report/reportclass", "report/reporttype", "report/additionalinfo/attacktype"),
)
_V4 = _Paths(
    address=("source_identifier",),
    port=("source_port",),
    time=("timestamp",),
    first=("first_seen",),
    last=("last_seen",),
    remote_address=("destination_ip",),
    remote_port=("destination_port",),
    protocol=("protocol",),
    reference=("report_id",),
    kind=("category", "class", "type", "attack_vector"),
)


def read(source: Source) -> Reading | None:
    """The reports in all parts that are JSON."""
    found: Reading | None = None
    for part in source.parts:
        text = part.text
        start = _start(text.text)
        if start < 0:
            continue
        try:
            values = parse(text.text, start)
        except BadJson as error:
            if _NAMES.search(text.text):
                found = found or Reading("XARF")
                found.problem = f"the JSON at line {text.line(error.position)} {error}"
                found.unread += source.seen(text)
            continue
        for value in _reports(values):
            reading = _report(value, text, source.clock)
            if reading and found and found.form == reading.form:
                found.add(*reading.sightings)
            elif reading and not (found and found.sightings):
                found = reading
    return found


def _start(text: str) -> int:
    """Where JSON begins: a report can stand below a greeting; -1: nowhere."""
    match = re.match(r"\s*", text)
    start = match.end() if match else 0
    if text[start : start + 1] in ("{", "["):
        return start
    if _NAMES.search(text):
        match = re.search(r"^[{\[]", text, re.MULTILINE)
        return match.start() if match else -1
    return -1


def _reports(values: tuple[Value, ...]) -> Iterator[Value]:
    for value in values:
        if value.items is None:
            yield value
        else:
            yield from value.items


def _report(value: Value, text: Text, clock: Clock) -> Reading | None:
    """One report; None: it is not one."""
    version = value.get("xarf_version")
    if version is not None and value.get("source_identifier"):
        paths, form = _V4, "XARF 4"
    elif value.get("report") and (value.get("reporterinfo") or value.get("version")):
        paths, form = _V3, "XARF 3"
    else:
        return None
    fields = _Fields(value, text, clock)
    reference = fields.value(paths.reference)
    found = Reading(form, reference=reference.word if reference else "")
    address = fields.address(paths.address)
    if address is None:
        found.problem = "the report names no address"
        return found
    port = fields.port(paths.port)
    first, last = _range(fields.time(paths.time), fields.time(paths.first), fields.time(paths.last))
    remote = fields.address(paths.remote_address)
    kinds = [fields.word(path).lower() for path in paths.kind]
    role = _role(port, kinds, remote)
    found.add(
        Sighting(
            address,
            port,
            role,
            first,
            last,
            remote,
            fields.port(paths.remote_port),
            fields.protocol(paths.protocol),
            may_listen=role is Role.SOURCE and not _COPYRIGHT.isdisjoint(kinds),
        )
    )
    return found


def _range(
    time: Field[Moment] | None, first: Field[Moment] | None, last: Field[Moment] | None
) -> tuple[Field[Moment] | None, Field[Moment] | None]:
    """From first to last seen; without the latter to the time of the report; else that time."""
    start = first or time
    end = last or (time if first else None)
    starts, ends = begin(start), begin(end)
    if starts is None or ends is None or ends <= starts:
        return start or end, None
    return start, end


def _role(port: Field[int] | None, kinds: list[str], remote: Field[str] | None) -> Role:
    """What the port is: that of a source unless the report is surely of something else.

    As a service or a listening port, it leaves out who sent from it.  "vulnerability" is a class:
    the type "vulnerability_scan" is of an address that scans others.
    """
    if port is None:
        return Role.NONE
    if port.value in LISTENING_PORTS and not _COPYRIGHT.isdisjoint(kinds):
        return Role.LISTENING
    if "vulnerability" in kinds and remote is None:
        return Role.SERVICE
    if port.value in _SERVICES and any(kind.endswith(_REFLECTED) for kind in kinds):
        return Role.SERVICE
    return Role.SOURCE


@dataclass(frozen=True)
class _Fields:
    report: Value
    text: Text
    clock: Clock

    def value(self, paths: tuple[str, ...]) -> Value | None:
        """The first scalar that is there."""
        for path in paths:
            value = self.report.get(*path.split("/"))
            if value and value.word:
                return value
        return None

    def word(self, path: str) -> str:
        value = self.report.get(*path.split("/"))
        return value.word if value else ""

    def address(self, paths: tuple[str, ...]) -> Field[str] | None:
        value = self.value(paths)
        found = endpoints.whole(value.word) if value else ""
        return self.text.field(found, *value.span) if value and found else None

    def port(self, paths: tuple[str, ...]) -> Field[int] | None:
        value = self.value(paths)
        number = endpoints.port(value.word) if value else 0
        return self.text.field(number, *value.span) if value and number else None

    def protocol(self, paths: tuple[str, ...]) -> Field[str] | None:
        value = self.value(paths)
        found = endpoints.protocol(value.word) if value else ""
        return self.text.field(found, *value.span) if value and found else None

    def time(self, paths: tuple[str, ...]) -> Field[Moment] | None:
        value = self.value(paths)
        moment = self.clock.moment(value.word) if value else None
        return self.text.field(moment, *value.span) if value and moment else None
