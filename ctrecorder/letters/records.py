"""JSON records of events with recognisable names: Suricata, Zeek, ECS, and lists of their like.

Only names that say whose an address or a port is are read: "port" alone can be that of a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import Clock
from ctrecorder.envelopes.jsontext import BadJson, Value, parse
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Role, Sighting
from ctrecorder.moments.moment import Moment

# Names without signs; a name in an object has that of the object before it: "source.ip".
_ADDRESS: tuple[str, ...] = ("srcip", "sourceip", "sourceipaddress", "srcaddr", "sourceaddress")
_ADDRESS += ("attackerip", "offenderip", "clientip", "publicip", "natip", "idorigh")
_PORT: tuple[str, ...] = ("srcport", "sourceport", "attackerport", "offenderport", "clientport")
_PORT += ("publicport", "natport", "idorigp")
_REMOTE: tuple[str, ...] = ("dstip", "destip", "destinationip", "destinationipaddress", "dstaddr")
_REMOTE += ("destinationaddress", "targetip", "victimip", "serverip", "idresph")
_REMOTE_PORT: tuple[str, ...] = ("dstport", "destport", "destinationport", "targetport")
_REMOTE_PORT += ("victimport", "serverport", "idrespp")
_PROTOCOL = ("proto", "protocol", "transport", "networktransport")
_TIME: tuple[str, ...] = ("timestamp", "time", "datetime", "eventtime", "ts", "date", "detectedat")
_TIME += ("observedat", "eventstart", "firstseen")
_NAME = re.compile(r"[^a-z0-9]+")
# A list of events can be in an object, and that in another one.
_MAX_DEPTH = 4


def read(source: Source) -> Reading | None:
    """The records of all parts that are JSON."""
    found = Reading("JSON")
    for part in source.parts:
        text = part.text
        if text.text.lstrip()[:1] not in ("{", "["):
            continue
        try:
            values = parse(text.text, len(text.text) - len(text.text.lstrip()))
        except BadJson:
            continue
        for value in values:
            found.add(*_sightings(value, text, source.clock, 0))
    return found if found.sightings else None


def _sightings(value: Value, text: Text, clock: Clock, depth: int) -> Iterator[Sighting]:
    """The sightings of a record, or of the records in it."""
    sighting = _sighting(_Fields(value, text, clock)) if value.members is not None else None
    if sighting:
        yield sighting
    elif depth < _MAX_DEPTH:
        for each in (*(value.items or ()), *(value.members or {}).values()):
            yield from _sightings(each, text, clock, depth + 1)


class _Fields:
    """The scalars of a record by their names."""

    def __init__(self, record: Value, text: Text, clock: Clock) -> None:
        self.text, self.clock = text, clock
        self._values: dict[str, Value | None] = {}
        self._gather(record, "")
        self._gather_inner(record)

    def _gather(self, record: Value, before: str) -> None:
        for name, value in (record.members or {}).items():
            if value.word:
                key = before + _NAME.sub("", name.lower())
                # A name that is there twice says nothing.
                self._values[key] = None if key in self._values else value

    def _gather_inner(self, record: Value) -> None:
        for name, value in (record.members or {}).items():
            if value.members is not None:
                self._gather(value, _NAME.sub("", name.lower()))

    def value(self, names: tuple[str, ...]) -> Value | None:
        """The first that is there."""
        return next((value for name in names if (value := self._values.get(name))), None)

    def address(self, names: tuple[str, ...]) -> Field[str] | None:
        value = self.value(names)
        found = endpoints.whole(value.word) if value else ""
        return self.text.field(found, *value.span) if value and found else None

    def port(self, names: tuple[str, ...]) -> Field[int] | None:
        value = self.value(names)
        number = endpoints.port(value.word) if value else 0
        return self.text.field(number, *value.span) if value and number else None

    def protocol(self) -> Field[str] | None:
        value = self.value(_PROTOCOL)
        found = endpoints.protocol(value.word) if value else ""
        return self.text.field(found, *value.span) if value and found else None

    def time(self) -> Field[Moment] | None:
        value = self.value(_TIME)
        moment = self.clock.moment(value.word) if value else None
        return self.text.field(moment, *value.span) if value and moment else None


def _sighting(fields: _Fields) -> Sighting | None:
    """What a record says; None: not who was seen and when."""
    address, first = fields.address(_ADDRESS), fields.time()
    if address is None or first is None:
        return None
    port = fields.port(_PORT)
    return Sighting(
        address,
        port,
        Role.SOURCE if port else Role.NONE,
        first,
        None,
        fields.address(_REMOTE),
        fields.port(_REMOTE_PORT),
        fields.protocol(),
    )
