"""Lines of the form "Label: value", as in reports in YAML and in the text of notices."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import Clock
from ctrecorder.envelopes.endpoints import Endpoint
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.moments.moment import Moment

# In front: marks of quotes, of lists, and what PGP puts before a line that begins with a dash.
_LINE = re.compile(
    r"[\s>*|#-]{0,20}(?P<label>[A-Za-z][\w '’´`./()\[\]-]{0,48}?)"
    r"(?:[ \t]{0,20}:(?!//)[ \t]*| {0,20}\t[ \t]*)"
)
_NAME = re.compile(r"[^a-z0-9]+")
_QUOTED = re.compile(r"""(["'*])(.*)\1""")
_NAME_BEHIND = re.compile(r"(?: {1,4}\([\w .-]*\))?")
_COMMENT = re.compile(r"\s#.*")
# "40000, 40001", "40000-40010": more than one port.  Blanks alone
# are one branch: if they could be matched in two, a letter could let this take for ever.
SEVERAL_PORTS = re.compile(
    r"\d{1,5}(?:(?:\s{0,3}(?:[-,;/]|and|to|bis|und)\s{0,3}|\s{1,7})\d{1,5}){1,31}", re.ASCII
)
_LIST = re.compile(r"\d{1,5}(?:(?:\s{0,3}(?:[,;/]|and|und)\s{0,3}|\s{1,7})\d{1,5}){1,31}", re.ASCII)
_NUMBER = re.compile(r"\d{1,5}", re.ASCII)


@dataclass(frozen=True)
class Label:
    """A label, as "infringersipaddress", and its value at text[start:end]."""

    name: str
    value: str
    text: Text
    start: int
    end: int

    def endpoint(self) -> Endpoint | None:
        """The address that the value is, with its port; a name may follow in brackets."""
        for found in endpoints.find(self.value):
            start = found.start - (self.value[:1] == "[")
            stop = found.stop + (self.value[found.stop : found.stop + 1] == "]")
            if start == 0 and _NAME_BEHIND.fullmatch(self.value, stop):
                return found
        return None

    def address(self) -> Field[str] | None:
        found = self.endpoint()
        return found.address_field(self.text, self.start) if found else None

    def port_beside(self) -> Field[int] | None:
        """The port that stands beside the address."""
        found = self.endpoint()
        return found.port_field(self.text, self.start) if found else None

    def port(self) -> Field[int] | None:
        number = endpoints.port(self.value)
        return self.text.field(number, self.start, self.end) if number else None

    def ports(self) -> list[Field[int]]:
        """The port, or the ports of a list; []: something else."""
        if not _LIST.fullmatch(self.value):
            port = self.port()
            return [port] if port else []
        found = [
            (endpoints.port(match[0]), self.start + match.start(), self.start + match.end())
            for match in _NUMBER.finditer(self.value)
        ]
        return [self.text.field(*each) for each in found] if all(each[0] for each in found) else []

    def time(self, clock: Clock, **zones: str) -> Field[Moment] | None:
        return clock.read(self.text, self.start, self.end, **zones)

    def protocol(self) -> Field[str] | None:
        found = endpoints.protocol(self.value)
        return self.text.field(found, self.start, self.end) if found else None


def paragraphs(text: Text) -> Iterator[list[Label]]:
    """The labels of a text; a line without one, or an empty one, begins a new list."""
    found: list[Label] = []
    stop = 0
    for start, line in text.lines():
        label = parse(text, start, line)
        blank = text.blank_between(stop, start)
        if found and (label is None or blank):
            yield found
            found = []
        if label:
            found.append(label)
        stop = start + len(line)
    if found:
        yield found


def parse(text: Text, start: int, line: str) -> Label | None:
    """The label of the line at `start`; None: it has none."""
    match = _LINE.match(line)
    if match is None:
        return None
    begin, end = match.end(), len(line.rstrip())
    value = line[begin:end]
    quoted = _QUOTED.match(value)
    if quoted:
        begin, end = begin + quoted.start(2), begin + quoted.end(2)
    elif comment := _COMMENT.search(value):
        end = begin + comment.start()
    plain = unicodedata.normalize("NFKD", match["label"].lower()).encode("ascii", "ignore").decode()
    name = _NAME.sub("", plain)
    return Label(name, line[begin:end], text, start + begin, start + end)


def by_name(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """The labels with a value, by name."""
    found: dict[str, list[Label]] = {}
    for label in labels:
        if label.value:
            found.setdefault(label.name, []).append(label)
    return found
