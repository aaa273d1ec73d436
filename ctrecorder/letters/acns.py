"""ACNS 1.2 and 2.x: notices of copyright agents in XML, as a file or glued into a text.

The XML is read from the text as it is decoded: the same notice stands in signed bodies, with
characters and ampersands that XML does not allow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.letters.forms import LISTENING_PORTS, Reading, Source
from ctrecorder.letters.sighting import Role, Sighting
from ctrecorder.moments.moment import Moment

_BEGIN = re.compile(r"<(?:[A-Za-z][\w.-]{0,30}:)?Infringement(?=[\s>])")
_END = re.compile(r"</(?:[A-Za-z][\w.-]{0,30}:)?Infringement\s*>")
_NAMESPACES = {
    "http://www.acns.net/acns": "ACNS 1.2 XML",
    "http://www.movielabs.com/acns": "ACNS 2.x XML",
    "": "ACNS XML",
}
_DECLARED = re.compile(r"<!(?:DOCTYPE(?!\s{1,9}html\b)|ENTITY)\b", re.IGNORECASE)
# What XML does not allow is replaced one to one, so that the parser's positions are the text's.
_FOREIGN = re.compile(
    r"[^\t\n\r\x20-\x7e]|&(?!(?:#\d{1,7}|#x[\dA-Fa-f]{1,6}|amp|lt|gt|quot|apos);)"
)
# Elements of one notice.  A season of 500 titles has 3,000.
_MAX_ELEMENTS = 50_000
_MAX_DEPTH = 50


@dataclass
class _Element:
    """An element without children: its path, its text, and where that stands.

    `group`: how many elements "Source" began before it.
    """

    path: str
    group: int
    value: str
    start: int
    end: int


@dataclass
class _Target:
    """Collects the elements of a notice; the parser calls start, data and end."""

    parser: DefusedXMLParser | None = None
    elements: list[_Element] = field(default_factory=list)
    namespace: str = ""
    _group: int = 0
    _path: list[str] = field(default_factory=list)
    _data: list[str] = field(default_factory=list)
    _start: int = -1

    def _position(self) -> int:
        return int(self.parser.parser.CurrentByteIndex) if self.parser else 0

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        space, _, name = tag.rpartition("}")
        if not self._path:
            self.namespace = space.lstrip("{")
        self._path.append(name.lower())
        self._group += name.lower() == "source"
        if len(self._path) > _MAX_DEPTH or len(self.elements) > _MAX_ELEMENTS:
            raise ParseError("too many elements")
        self._data, self._start = [], -1

    def data(self, data: str) -> None:
        if self._start < 0:
            self._start = self._position()
        self._data.append(data)

    def end(self, _tag: str) -> None:
        value = "".join(self._data)
        if value.strip() and self._start >= 0:
            path = "/".join(self._path)
            element = _Element(path, self._group, value, self._start, self._position())
            self.elements.append(element)
        self._path.pop()
        self._data, self._start = [], -1

    def close(self) -> None:
        """The parser calls it at the end."""


def read(source: Source) -> Reading | None:
    """The notices in all parts; the same in two parts gives the same sightings twice."""
    found: Reading | None = None
    for part in source.parts:
        text = part.text
        notices = list(_notices(text.text))
        if (notices or not source.mail.headers) and _DECLARED.search(text.text):
            return Reading("XML", problem="refused: its XML declares a document type or entities")
        for start, end in notices:
            found = found or Reading("ACNS XML", twins=True)
            problem = _read(text, start, end, source, found)
            if problem:
                found.problem = found.problem or f"the XML at line {text.line(start)} {problem}"
                found.unread += source.seen(text, start, end)
    return found


def _notices(text: str) -> Iterator[tuple[int, int]]:
    """Where notices stand in a text."""
    position = 0
    while begin := _BEGIN.search(text, position):
        end = _END.search(text, begin.end())
        position = end.end() if end else len(text)
        yield begin.start(), position


def _read(text: Text, start: int, end: int, source: Source, found: Reading) -> str:
    """One notice; why nothing was read."""
    target = _Target()
    # The target needs the parser's position, so it gets the parser once there is one.
    parser = target.parser = DefusedXMLParser(target=target, forbid_dtd=True)
    parser.parser.buffer_text = False
    try:
        parser.feed(_FOREIGN.sub("?", text.text[start:end]).encode("ascii"))
        parser.close()
    except (ParseError, DefusedXmlException):
        return "is broken"
    form = _NAMESPACES.get(target.namespace.lower().rstrip("/"))
    if form is None:
        return "is of an unknown namespace"
    found.form = form
    values = _Values(text, start, target.elements)
    found.reference = found.reference or values.word("case/id")
    sightings = list(_sightings(values, source))
    found.add(*sightings)
    return "" if sightings else "names no address"


@dataclass
class _Values:
    """The elements of one notice, which begins at `start` of the text."""

    text: Text
    start: int
    elements: list[_Element]

    def all(self, path: str, group: int = 0) -> Iterator[tuple[str, int, int]]:
        """(value, start, end) of each element with this path below the root.

        `group`: only those of that "Source"; 0: of all.
        """
        for each in self.elements:
            if each.path != f"infringement/{path}" or group not in (0, each.group):
                continue
            value = each.value.strip()
            inside = self.text.text.find(value, self.start + each.start, self.start + each.end)
            if inside < 0:
                yield value, self.start + each.start, self.start + each.end
            else:
                yield value, inside, inside + len(value)

    def word(self, path: str) -> str:
        return next((value for value, _, _ in self.all(path)), "")

    def groups(self) -> list[int]:
        """The numbers of the elements "Source" with an address."""
        found = {each.group for each in self.elements if each.path.endswith("source/ip_address")}
        return sorted(found)


def _sightings(values: _Values, source: Source) -> Iterator[Sighting]:
    """One for each address and time; the times of the content belong to the only source."""
    groups = values.groups()
    for group in groups:
        port = _port(values, group)
        times = list(_times(values, "source/timestamp", group, source))
        if len(groups) == 1:
            times += _times(values, "content/item/timestamp", 0, source)
        for word, start, end in values.all("source/ip_address", group):
            found = endpoints.whole(word)
            if found:
                address = values.text.field(found, start, end)
                for first in times or [None]:
                    role = role_of(port)
                    yield Sighting(address, port, role, first, may_listen=role is Role.SOURCE)


def _port(values: _Values, group: int) -> Field[int] | None:
    """The port of a source; None: there is none, or there are two."""
    words = list(values.all("source/port", group))
    if len({word for word, _, _ in words}) != 1 or not endpoints.port(words[0][0]):
        return None
    return values.text.field(endpoints.port(words[0][0]), words[0][1], words[0][2])


def _times(
    values: _Values, path: str, group: int, source: Source
) -> Iterator[Field[Moment] | None]:
    for word, start, end in values.all(path, group):
        moment = source.clock.moment(word)
        if moment:
            yield values.text.field(moment, start, end)


def role_of(port: Field[int] | None) -> Role:
    """What a copyright agent's port is."""
    if port is None:
        return Role.NONE
    return Role.LISTENING if port.value in LISTENING_PORTS else Role.SOURCE
