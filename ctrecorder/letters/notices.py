"""The text of notices: "Infringer's IP Address: ..", the twin of ACNS, and its like.

Other reports with labels are read the same way, as far as it is clear which time belongs to which
address.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import begin
from ctrecorder.envelopes.labels import SEVERAL_PORTS, Label, paragraphs
from ctrecorder.envelopes.text import Field
from ctrecorder.letters.acns import role_of
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Role, Sighting
from ctrecorder.moments.moment import Moment

# Labels without their blanks and signs.
_ADDRESS = {"infringersipaddress", "infringeripaddress", "infringingipaddress", "infringersip"}
_ADDRESS |= {"infringerip", "ipaddress", "ip", "sourceip", "sourceipaddress", "offendingip"}
_ADDRESS |= {"attackerip", "attackingip", "attackersip", "abusiveip", "abuserip", "reportedip"}
_ADDRESS |= {"srcip", "publicip", "sourceaddress", "ipv4", "ipv6", "ipv4address", "ipv6address"}
# The same in German, French, Dutch and Spanish.
_ADDRESS |= {"quellip", "quellipadresse", "quelladresse", "ipadresse", "adresseip", "ipsource"}
_ADDRESS |= {"adresseipsource", "ipadres", "bronip", "bronadres", "bronipadres", "direccionip"}
_ADDRESS |= {"iporigen", "ipdeorigen", "direccionipdeorigen", "direcciondeorigen"}
_SOURCE_PORT = {"infringersport", "infringerport", "infringingport", "portid", "sourceport"}
_SOURCE_PORT |= {"srcport", "publicport", "clientport", "ipport", "peerport"}
_SOURCE_PORT |= {"sourceports", "quellport", "quellports", "portsource", "bronpoort"}
_SOURCE_PORT |= {"puertodeorigen", "puertoorigen"}
# The other end, as long as it is not the address itself: some call that "Remote IP".
_REMOTE = {"destination", "destinationip", "destinationaddress", "destinationipaddress", "dst"}
_REMOTE |= {"dstip", "dstaddress", "target", "targetip", "targetaddress", "targetipaddress"}
_REMOTE |= {"remote", "remoteip", "remoteaddress", "remoteipaddress", "victimip", "serverip"}
_REMOTE_PORT = {"destinationport", "dstport", "targetport", "remoteport", "victimport"}
_REMOTE |= {"zielip", "zieladresse", "zielipadresse", "ipdestination", "adresseipdestination"}
_REMOTE |= {"doelip", "doeladres", "doelipadres", "ipdestino", "ipdedestino", "direcciondedestino"}
_REMOTE_PORT |= {"zielport", "portdestination", "portdedestination", "doelpoort"}
_REMOTE_PORT |= {"puertodedestino", "puertodestino"}
_FIRST = {"initialinfringementtimestamp", "initialinfringementdate", "firstseen", "firstdetected"}
_FIRST |= {"firstinfringementtimestamp", "starttime"}
_LAST = {"recentinfringementtimestamp", "recentinfringementdate", "lastseen", "lastdetected"}
_LAST |= {"lastinfringementtimestamp", "endtime"}
_TIME = {"timestamp", "infringementtimestamp", "infringementdate", "infringementdatetime", "time"}
_TIME |= {"datetime", "eventtime", "incidenttime", "attacktime", "testedon", "dateandtime"}
_TIME |= {"incidentdate", "timeofincident", "timeofattack", "detectedat", "detectedon", "eventdate"}
_TIME |= {"timestamputc", "timeutc", "utctime", "attackdate", "localtime", "date"}
_TIME |= {"zeitpunkt", "zeitstempel", "datumunduhrzeit", "datumuhrzeit", "tatzeit", "tijdstip"}
_TIME |= {"datumentijd", "dateetheure", "dateheure", "horodatage", "fechayhora", "fechahora"}
_TIME |= {"datum", "fecha"}
# A day and the time of day in the line below it.
_DAY = {"date", "datum", "fecha", "incidentdate", "attackdate", "eventdate"}
# These can be the date of the letter.
_DATE = {"date", "datum", "fecha"}
_CLOCK = {"time", "uhrzeit", "zeit", "heure", "tijd", "hora", "incidenttime", "attacktime"}
_CLOCK |= {"eventtime", "timeutc"}
# Labels of copyright agents: "Port:" beside one of these is the infringer's.
_COPYRIGHT = {"infringedwork", "infringingfilename", "infringingwork", "torrenthash", "infohash"}
_COPYRIGHT |= {
    "infringinghash",
    "infringementtitle",
    "bayid",
    "title",
    "filename",
    "infringingfile",
}
_COPYRIGHT |= {"initialinfringementtimestamp", "recentinfringementtimestamp"}
_PROTOCOL = {"protocol", "transport", "transportprotocol"}
# The headers of a quoted mail have a date of their own.
_MAIL = {"from", "subject", "to", "sent", "betreff", "gesendet", "objet", "envoye"}
_MAIL |= {"onderwerp", "verzonden", "asunto", "enviado"}
_REFERENCE = {"noticeid", "caseid", "referenceid", "reference", "ticketid", "incidentid", "caseno"}


def read(source: Source) -> Reading | None:
    """The labelled addresses of all parts, with their times."""
    found = Reading("notice", twins=True)
    for text in source.texts():
        before: Label | None = None
        for paragraph in paragraphs(text):
            names = {label.name for label in paragraph}
            found.reference = found.reference or next(
                (label.value for label in paragraph if label.name in _REFERENCE), ""
            )
            if names & _MAIL:
                before = None
                continue
            addresses = [label for label in paragraph if label.name in _ADDRESS]
            if addresses:
                before = _addressed(paragraph, addresses, source, found)
            elif before and not _others(paragraph, before):
                # "IP: .." and then one paragraph for each event.
                times = list(_times(paragraph, source))
                found.add(*_sightings(before, [], times, agents=False))
            else:
                before = None
    if any(not each.prose for each in found.sightings):
        found.form = "ACNS text"
    return found if found.sightings or found.rows else None


def _addressed(
    paragraph: list[Label], addresses: list[Label], source: Source, found: Reading
) -> Label | None:
    """A paragraph with addresses; the label that the times of those that follow belong to."""
    agents = bool({label.name for label in paragraph} & _COPYRIGHT)
    if len({label.value for label in addresses}) > 1:
        found.add(*_groups(paragraph, agents, source))
        return None
    times = list(_times(paragraph, source))
    if len(times) > 1 and _others(paragraph, addresses[0]):
        return None
    problem = _several(paragraph, addresses[0], times)
    if problem:
        found.refuse(problem)
        return None
    found.add(*_sightings(addresses[0], paragraph, times, agents=agents))
    return None if agents else addresses[0]


def _others(paragraph: list[Label], label: Label) -> bool:
    """Whether an address other than this one stands there, to which times could belong."""
    address = label.address()
    return any(
        address is None or other.address != address.value
        for each in paragraph
        for other in endpoints.find(each.value)
    )


def _groups(paragraph: list[Label], agents: bool, source: Source) -> Iterator[Sighting]:
    """Several addresses in one paragraph: each begins a group, if the first label is one."""
    if paragraph[0].name not in _ADDRESS:
        return
    group: list[Label] = []
    for label in [*paragraph, None]:
        if group and (label is None or label.name in _ADDRESS):
            times = list(_times(group, source))
            yield from _sightings(group[0], group, times, agents=agents)
            group = []
        if label:
            group.append(label)


def _ports(labels: list[Label], agents: bool) -> list[Field[int] | None]:
    """The source port: the only one that is named, or that stands beside the address; those of a
    list, "40000, 40001".
    """
    names = _SOURCE_PORT | ({"port"} if agents else set())
    named = [label.ports() for label in labels if label.name in names]
    beside = [label.port_beside() for label in labels if label.name in _ADDRESS]
    ports = [port for port in (*(port for each in named for port in each), *beside) if port]
    if len(named) == 1 and len(named[0]) > 1 and not any(beside):
        return [*named[0]]
    return [ports[0] if len({port.value for port in ports}) == 1 else None]


def _several(
    labels: list[Label],
    address: Label,
    times: list[tuple[Field[Moment], Field[Moment] | None]],
) -> Sighting | None:
    """Why nothing can be asked, if the source port is a range, or what else is more than one."""
    for label in labels:
        field = address.address()
        if not field or not times or label.name not in _SOURCE_PORT or label.ports():
            continue
        if SEVERAL_PORTS.fullmatch(label.value):
            problem = f"'{label.value}' is no single port"
            return Sighting(field, first=times[0][0], last=times[0][1], problem=problem)
    return None


def _remote(labels: list[Label], ours: str) -> tuple[Field[str] | None, Field[int] | None]:
    """The other end: the only address and the only port that are named as its."""
    ends = [label for label in labels if label.name in _REMOTE]
    fields = [field for label in ends if (field := label.address()) and field.value != ours]
    address = fields[0] if len({field.value for field in fields}) == 1 else None
    found = [label.port() for label in labels if label.name in _REMOTE_PORT]
    found += [label.port_beside() for label in ends] if address else []
    ports = [port for port in found if port]
    return address, ports[0] if len({port.value for port in ports}) == 1 else None


def _times(
    labels: list[Label], source: Source
) -> Iterator[tuple[Field[Moment], Field[Moment] | None]]:
    """(first, last) of each time or range."""
    first = next((label for label in labels if label.name in _FIRST), None)
    last = next((label for label in labels if label.name in _LAST), None)
    start = _time(first, source) if first else None
    end = _time(last, source) if last else None
    if start or end:
        starts, ends = begin(start), begin(end)
        if start and end and starts is not None and ends is not None and starts < ends:
            yield start, end
        elif one := start or end:
            yield one, None
        return
    joined = False
    days: list[Field[Moment]] = []
    found: list[Field[Moment]] = []
    for label, below in pairwise([*labels, None]):
        if joined or label is None:
            joined = False
            continue
        moment = _joined(label, below, source)
        joined = moment is not None
        if moment is None and label.name in _TIME:
            moment = _time(label, source)
        if moment:
            is_day = label.name in _DAY and not joined and ":" not in label.value
            (days if is_day or label.name in _DATE else found).append(moment)
    # Beside a time of the event they are of the letter.
    for each in found or days:
        yield each, None


def _joined(day: Label, clock: Label | None, source: Source) -> Field[Moment] | None:
    """A day and the time of day in the line below it as one time; None: they are not."""
    if clock is None or day.name not in _DAY or clock.name not in _CLOCK:
        return None
    if source.clock.moment(clock.value):
        return None
    zones = {"noted": "UTC"} if clock.name.endswith("utc") else {}
    moment = source.clock.moment(f"{day.value} {clock.value}", **zones)
    return day.text.field(moment, day.start, clock.end) if moment else None


def _time(label: Label, source: Source) -> Field[Moment] | None:
    zones = {"noted": "UTC"} if label.name.endswith("utc") else {}
    return label.time(source.clock, **zones)


def _protocol(labels: list[Label]) -> Field[str] | None:
    """The protocol of layer 4; BitTorrent is none."""
    found = (label.protocol() for label in labels if label.name in _PROTOCOL)
    return next((protocol for protocol in found if protocol), None)


def _sightings(
    address: Label,
    labels: list[Label],
    times: list[tuple[Field[Moment], Field[Moment] | None]],
    *,
    agents: bool,
) -> Iterator[Sighting]:
    """A sighting for each time.  `labels`: what stands beside the address, if anything."""
    field = address.address()
    if field is None:
        return
    protocol = _protocol(labels)
    remote = _remote(labels, field.value)
    for port, (first, last) in product(_ports(labels, agents), times):
        role = role_of(port) if agents else Role.SOURCE if port else Role.NONE
        yield Sighting(
            field,
            port,
            role,
            first,
            last,
            *remote,
            protocol=protocol,
            prose=not agents,
            may_listen=agents and role is Role.SOURCE,
        )
