"""Tables in CSV: Shadowserver, AbuseHUB, and others whose columns have names that are known.

A table begins at a line of names.  A row with another number of cells than the names is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.bounds import MAX_LINE
from ctrecorder.envelopes.clock import begin
from ctrecorder.envelopes.labels import SEVERAL_PORTS
from ctrecorder.envelopes.mime import Part
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Role, Sighting
from ctrecorder.moments.moment import Moment
from ctrecorder.terminal import printable

_DELIMITERS = ",;\t|"
_NAME = re.compile(r"[^a-z0-9]+")
_A_NAME = re.compile(r"[A-Za-z_][\w .()/-]{0,40}")
_OF_ADDRESS = re.compile(r"ip|addr|src|source|dst|host", re.IGNORECASE)
_MAX_COLUMNS = 300
# Lines of a table that only rule it: "+-----+-----+", "|---|:-:|".
_RULE = re.compile(r"[\s+|:=-]+")
_RULE_SIGN = re.compile("[-=+]")
_TOO_GREAT = re.compile(r"\d{5,20}", re.ASCII)
# A cell is shown up to this length.
_SHOWN = 60
# Names of columns without their blanks and signs; the first that is there counts.
_ADDRESS: tuple[str, ...] = (
    "srcip",
    "sourceip",
    "sourceipaddress",
    "srcaddr",
    "sourceaddress",
    "publicip",
)
_ADDRESS += ("natip", "offenderip", "attackerip", "attacker", "clientip", "ipaddress", "ipaddr")
_ADDRESS += ("quellip", "quelladresse", "ipadresse", "adresseip", "ipadres", "direccionip")
_ADDRESS += ("idorigh", "ip", "ipv4", "ipv6", "address", "source", "src")
_SOURCE_PORT: tuple[str, ...] = ("srcport", "sourceport", "sport", "publicport", "natport")
_SOURCE_PORT += ("clientport", "attackerport", "offenderport", "quellport", "portsource")
_SOURCE_PORT += ("bronpoort", "puertodeorigen", "puertoorigen", "idorigp")
_PORT = ("port",)
_FIRST = ("firstseen", "first", "start", "starttime", "firsttime", "begin")
_LAST = ("lastseen", "last", "end", "endtime", "lasttime")
_TIME: tuple[str, ...] = (
    "timestamp",
    "datetime",
    "eventtime",
    "time",
    "date",
    "when",
    "detected",
    "observed",
)
_TIME += ("eventdate", "sourcetime", "timeutc", "timestamputc", "datetimeutc", "utctime", "timegmt")
_TIME += ("timestampgmt", "datetimegmt", "utc", "ts", "zeitstempel", "zeitpunkt", "zeit", "datum")
_TIME += ("zeitstempelutc", "zeitutc", "horodatage", "dateheure", "tijdstip", "fechahora", "fecha")
_ZONE = ("timezone", "tz", "zone")
_REMOTE: tuple[str, ...] = (
    "dstip",
    "destip",
    "destinationip",
    "destinationaddress",
    "destination",
    "dstaddr",
)
_REMOTE += ("dst", "targetip", "serverip", "victimip", "zielip", "idresph", "ccip", "cc")
_REMOTE_PORT: tuple[str, ...] = ("dstport", "destport", "destinationport", "dport", "targetport")
_REMOTE_PORT += ("ccport", "victimport", "zielport", "portdestination", "doelpoort")
_REMOTE_PORT += ("puertodedestino", "puertodestino", "idrespp")
_PROTOCOL = ("protocol", "proto", "transport", "type")
_DAY = ("eventdate", "date", "day", "datum", "fecha")
_CLOCK = ("eventtime", "time", "clock", "uhrzeit", "zeit", "hora", "heure", "tijd")
# How a mail describes the columns of a table below: "ASN | IP | Timestamp (UTC)".
_FORMAT_ZONE = re.compile(r"\btime ?stamp \((UTC|GMT)\)", re.IGNORECASE)
# Shadowserver's reports have these, whatever their order; their times are UTC.
_SHADOWSERVER = ({"timestamp", "asn", "geo"}, {"timestamp", "srcasn", "srcgeo"})
_ABUSEHUB = {"reliablenotifier", "reporttype", "eventdate", "eventtime"}


@dataclass(frozen=True)
class _Cell:
    """A cell at text[start:end], without its quotes."""

    word: str
    start: int
    end: int


@dataclass(frozen=True)
class _Table:
    """The columns of a table, by their names, and what its format says."""

    names: tuple[str, ...]
    delimiter: str
    zone: str = ""

    @property
    def form(self) -> str:
        if set(self.names) >= _ABUSEHUB:
            return "AbuseHUB CSV"
        if any(set(self.names) >= names for names in _SHADOWSERVER):
            return "Shadowserver CSV"
        return "CSV"

    def column(self, names: Sequence[str]) -> int | None:
        return next((self.names.index(name) for name in names if name in self.names), None)

    @property
    def good(self) -> bool:
        """Whether it says who was seen, and when or with which port."""
        return (
            len(set(self.names) - {""}) == len([name for name in self.names if name])
            and self.column(_ADDRESS) is not None
            and (self.column(_TIME + _FIRST) is not None)
        )

    def port(self) -> tuple[int | None, Role]:
        """The column of the port, and what it is.

        A column named "port" beside the other end is the source's, unless it follows the other
        end's address; in a scan of Shadowserver it is the port that answered.
        """
        port = self.column(_SOURCE_PORT)
        if port is not None:
            return port, Role.SOURCE
        port = self.column(_PORT)
        both = self.column(_REMOTE) is not None or self.column(_REMOTE_PORT) is not None
        if self.form == "Shadowserver CSV" and not both:
            return port, Role.SERVICE
        if self.form != "Shadowserver CSV" and self.column(("service", "banner")) is not None:
            return None, Role.NONE
        if port and self.names[port - 1] in _REMOTE and self.column(_REMOTE_PORT) is None:
            return None, Role.NONE
        return port, Role.SOURCE

    def remote_port(self) -> int | None:
        """The column of the other end's port; one named "port" behind its address is that."""
        port = self.column(_REMOTE_PORT)
        if port is not None or self.port()[0] is not None:
            return port
        port = self.column(_PORT)
        return port if port and self.names[port - 1] in _REMOTE else None


def read(source: Source) -> Reading | None:
    """The tables of all parts."""
    found: Reading | None = None
    shown = list(map(id, source.texts()))
    zone = next(
        (match[1] for text in source.texts() if (match := _FORMAT_ZONE.search(text.text))), ""
    )
    for part in source.parts:
        if part.kind == "text/html" and id(part.text) not in shown:
            continue
        for table, rows in _tables(part):
            if found is None or (table.form == "AbuseHUB CSV" and found.form != table.form):
                before = found or Reading("")
                found = Reading(table.form, before.sightings, rows=before.rows)
            found.twins = found.form == "AbuseHUB CSV"
            table = replace(table, zone=zone)
            for row in rows:
                _row(part.text, table, row, source, found)
    return found


def _tables(part: Part) -> Iterator[tuple[_Table, list[list[_Cell]]]]:
    """Each table of a part, and its rows."""
    table: _Table | None = None
    rows: list[list[_Cell]] = []
    for record in _records(part.text.text):
        start, end = record
        line = part.text.text[start:end]
        if _RULE_SIGN.search(line[:MAX_LINE]) and _RULE.fullmatch(line[:MAX_LINE]):
            continue
        if table is not None:
            cells = list(_cells(line, start, table.delimiter))
            if len(cells) > 1:
                rows.append(cells)
                continue
            yield table, rows
            table, rows = None, []
        table = _header(line, start)
    if table is not None:
        yield table, rows


def _records(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each line; a quoted cell may contain ends of lines."""
    position = 0
    for match in re.finditer(r"[^\r\n]*(?:\r\n|\n|\r|\Z)", text):
        if match.start() < position:
            continue
        end = match.start() + len(match[0].rstrip("\r\n"))
        if text.count('"', match.start(), end) % 2:
            close = text.find('"', end, end + MAX_LINE)
            stop = re.compile(r"[\r\n]|\Z").search(text, close) if close >= 0 else None
            if stop and text.count('"', match.start(), stop.start()) % 2 == 0:
                end = position = stop.start()
        if match.start() < end:
            yield match.start(), end


def names_columns(line: str) -> bool:
    """Whether the cells of a line are names of columns with addresses, also of unknown ones."""
    delimiter = max(_DELIMITERS, key=line.count)
    cells = [cell.word for cell in _cells(line, 0, delimiter)] if delimiter in line else []
    cells = list(filter(None, cells))  # beside the outer signs of a ruled table
    return any(_OF_ADDRESS.search(cell) for cell in cells) and all(map(_A_NAME.fullmatch, cells))


def _header(line: str, start: int) -> _Table | None:
    """The table that a line of names begins; None: it does not."""
    lower = line[:MAX_LINE].lower()
    if not ("ip" in lower or "addr" in lower or "src" in lower or "source" in lower):
        return None
    delimiter = max(_DELIMITERS, key=line.count)
    if not 1 <= line.count(delimiter) <= _MAX_COLUMNS:
        return None
    cells = list(_cells(line, start, delimiter))
    table = _Table(_names(cells), delimiter)
    return table if table.good else None


def _names(cells: list[_Cell]) -> tuple[str, ...]:
    """Names of columns without their blanks and signs."""
    return tuple(_NAME.sub("", cell.word.lower()) for cell in cells)


def _cells(line: str, start: int, delimiter: str) -> Iterator[_Cell]:
    """The cells of a line."""
    position = 0
    while position <= len(line):
        begin = position
        while line[begin : begin + 1] == " ":
            begin += 1
        if line[begin : begin + 1] == '"':
            end = line.find('"', begin + 1)
            while end >= 0 and line[end + 1 : end + 2] == '"':
                end = line.find('"', end + 2)
            end = len(line) if end < 0 else end
            yield _Cell(line[begin + 1 : end], start + begin + 1, start + end)
            after = line.find(delimiter, end)
            position = len(line) + 1 if after < 0 else after + 1
            continue
        end = line.find(delimiter, begin)
        end = len(line) if end < 0 else end
        word = line[begin:end].rstrip()
        yield _Cell(word, start + begin, start + begin + len(word))
        position = end + 1


def _row(text: Text, table: _Table, cells: list[_Cell], source: Source, found: Reading) -> None:
    """The sighting of a row; what cannot be read is kept as seen."""
    seen = source.seen(text, cells[0].start, cells[-1].end)
    if len(cells) != len(table.names):
        found.unread += seen
        if seen:
            why = f"the row has {len(cells)} cells, and the table {len(table.names)} names"
            found.refuse(_unread(text, cells, why))
        return
    row = _Row(text, table, cells, source)
    address = row.address(_ADDRESS)
    if address is None:
        is_file = not source.mail.headers or text.part == ""
        if (seen or is_file) and table.names != _names(cells) and any(each.word for each in cells):
            cell = row.cell(_ADDRESS)
            word = printable(cell.word[:_SHOWN]) if cell else ""
            why = f"'{word}' is no address that can be asked" if word else "the row has no address"
            found.refuse(_unread(text, cells, why))
        return
    column, role = table.port()
    port = row.port(column)
    first, last = row.times()
    word = "" if column is None else cells[column].word
    if _TOO_GREAT.fullmatch(word) and int(word) >= 2**16:
        found.refuse(Sighting(address, first=first, last=last, problem=f"'{word}' is no port"))
        return
    if SEVERAL_PORTS.fullmatch(word):
        why = f"'{word}' is no single port"
        found.refuse(Sighting(address, first=first, last=last, problem=why))
        return
    found.add(
        Sighting(
            address,
            port,
            role if port else Role.NONE,
            first,
            last,
            row.address(_REMOTE),
            row.port(table.remote_port()),
            row.protocol(),
        )
    )


def _unread(text: Text, cells: list[_Cell], why: str) -> Sighting:
    """A row without an address, in its place."""
    return Sighting(text.field("", cells[0].start, cells[-1].end), problem=why)


@dataclass(frozen=True)
class _Row:
    text: Text
    table: _Table
    cells: list[_Cell]
    source: Source

    def cell(self, names: Sequence[str]) -> _Cell | None:
        """The first of these columns that has a value."""
        for name in names:
            if name in self.table.names:
                cell = self.cells[self.table.names.index(name)]
                if cell.word:
                    return cell
        return None

    def address(self, names: Sequence[str]) -> Field[str] | None:
        cell = self.cell(names)
        found = endpoints.whole(cell.word) if cell else ""
        return self.text.field(found, cell.start, cell.end) if cell and found else None

    def port(self, column: int | None) -> Field[int] | None:
        if column is None:
            return None
        cell = self.cells[column]
        number = endpoints.port(cell.word)
        return self.text.field(number, cell.start, cell.end) if number else None

    def protocol(self) -> Field[str] | None:
        cell = self.cell(_PROTOCOL)
        # A number in a column of another name can be of anything: "type" 1 is not ICMP.
        if cell and cell.word.isdecimal() and cell is self.cell(("type",)):
            return None
        found = endpoints.protocol(cell.word) if cell else ""
        return self.text.field(found, cell.start, cell.end) if cell and found else None

    def times(self) -> tuple[Field[Moment] | None, Field[Moment] | None]:
        """The time of the row, or its first and last."""
        first = self._time(self.cell(_FIRST))
        last = self._time(self.cell(_LAST))
        if first is None:
            first = self._day_and_clock() or self._time(self.cell(_TIME))
        starts, ends = begin(first), begin(last)
        if starts is None or ends is None or ends <= starts:
            last = None
        return first, last

    def _time(self, cell: _Cell | None) -> Field[Moment] | None:
        if cell is None:
            return None
        moment = self.source.clock.moment(cell.word, **self._zones(cell))
        return self.text.field(moment, cell.start, cell.end) if moment else None

    def _day_and_clock(self) -> Field[Moment] | None:
        """A time in two columns that stand side by side."""
        day, clock = self.cell(_DAY), self.cell(_CLOCK)
        if day is None or clock is None or day is clock or day.start > clock.start:
            return None
        between = self.text.text[day.end : clock.start]
        if between.strip(' "') != self.table.delimiter.strip():
            return None
        moment = self.source.clock.moment(f"{day.word} {clock.word}", **self._zones(clock))
        return self.text.field(moment, day.start, clock.end) if moment else None

    def _zones(self, cell: _Cell) -> dict[str, str]:
        """What the table says about the zone: a column, the name of the column, the format."""
        zone = self.cell(_ZONE)
        if zone:
            return {"noted": zone.word}
        name = self.table.names[self.cells.index(cell)]
        if name.startswith(("utc", "gmt")) or name.endswith(("utc", "gmt")):
            return {"noted": "UTC"}
        if name == "timestamp" and self.table.zone:
            return {"noted": self.table.zone}
        return {"convention": "UTC"} if self.table.form == "Shadowserver CSV" else {}
