"""JSON records of events with recognisable names: Suricata, Zeek, ECS, and lists of their like.

Only names that say whose an address or a port is are read: "port" alone can be that of a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import Clock
from ctrecorder.envelopes.jsontext import BadJson, Value, parse
from ctrecorder.envelopes.labels import SEVERAL_PORTS
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
# The first that is there counts: a plain "timestamp" can be that of the report.
# Of a flow, Suricata's is when it was forgotten.
_TIME: tuple[str, ...] = ("flowstart", "eventtime", "eventstart", "detectedat", "observedat")
_TIME += ("timestamp", "datetime", "time", "ts", "firstseen", "date")
_ZONE = ("timezone", "tz", "eventtimezone")
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
            for each in _sightings(value, text, source.clock, 0):
                if each.problem:
                    found.refuse(each)
                else:
                    found.add(each)
    return found if found.sightings or found.rows else None


def _sightings(value: Value, text: Text, clock: Clock, depth: int) -> Iterator[Sighting]:
    """The sightings of a record, or of the records in it."""
    sighting = None
    # Whose those of a list are, and whether the time outside is theirs, is not known.
    if value.members is not None and not any(map(_has_events, value.members.values())):
        sighting = _sighting(_Fields(value, text, clock))
    if sighting:
        yield sighting
    elif depth < _MAX_DEPTH:
        for each in (*(value.items or ()), *(value.members or {}).values()):
            yield from _sightings(each, text, clock, depth + 1)


def _has_events(value: Value) -> bool:
    """Whether it is a list of records with times."""
    return any(
        _NAME.sub("", name.lower()) in _TIME
        for item in value.items or ()
        for name in item.members or ()
    )


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

    def port(
        self, names: tuple[str, ...], addresses: tuple[str, ...], whose: Field[str] | None
    ) -> Value | None:
        """The first port that is there and not another one's: "client_port" is that of
        "client_ip", one of `addresses`.
        """
        for name in names:
            stem = name.removesuffix("port").removesuffix("p")
            owners = [
                self._values[each]
                for each in addresses
                if each in self._values and each.startswith(stem)
            ]
            others = [
                each
                for each in owners
                if not (whose and each and endpoints.whole(each.word) == whose.value)
            ]
            if (value := self._values.get(name)) and not others:
                return value
        return None

    def number(self, port: Value | None) -> Field[int] | None:
        number = endpoints.port(port.word) if port else 0
        return self.text.field(number, *port.span) if port and number else None

    def protocol(self) -> Field[str] | None:
        value = self.value(_PROTOCOL)
        found = endpoints.protocol(value.word) if value else ""
        return self.text.field(found, *value.span) if value and found else None

    def time(self) -> Field[Moment] | None:
        value, zone = self.value(_TIME), self.value(_ZONE)
        zones = {"noted": zone.word} if zone else {}
        moment = self.clock.moment(value.word, **zones) if value else None
        return self.text.field(moment, *value.span) if value and moment else None


def _sighting(fields: _Fields) -> Sighting | None:
    """What a record says; None: not who was seen and when."""
    address, first = fields.address(_ADDRESS), fields.time()
    if address is None or first is None:
        return None
    named = fields.port(_PORT, _ADDRESS, address)
    if named and SEVERAL_PORTS.fullmatch(named.word):
        return Sighting(address, first=first, problem=f"'{named.word}' is no single port")
    port = fields.number(named)
    remote = fields.address(_REMOTE)
    return Sighting(
        address,
        port,
        Role.SOURCE if port else Role.NONE,
        first,
        None,
        remote,
        fields.number(fields.port(_REMOTE_PORT, _REMOTE, remote)),
        fields.protocol(),
    )
