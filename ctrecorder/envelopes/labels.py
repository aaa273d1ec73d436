"""Lines of the form "Label: value", as in reports in YAML and in the text of notices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import Clock
from ctrecorder.envelopes.endpoints import Endpoint
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.moments.moment import Moment

# In front: marks of quotes, of lists, and what PGP puts before a line that begins with a dash.
_LINE = re.compile(
    r"[\s>*|#-]{0,20}(?P<label>[A-Za-z][\w '’´`./()\[\]-]{0,48}?)[ \t]{0,20}:(?!//)[ \t]*"
)
_NAME = re.compile(r"[^a-z0-9]+")
_QUOTED = re.compile(r"""(["'*])(.*)\1""")
_NAME_BEHIND = re.compile(r"(?: {1,4}\([\w .-]*\))?")
_COMMENT = re.compile(r"\s#.*")


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
    name = _NAME.sub("", match["label"].lower())
    return Label(name, line[begin:end], text, start + begin, start + end)


def by_name(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """The labels with a value, by name."""
    found: dict[str, list[Label]] = {}
    for label in labels:
        if label.value:
            found.setdefault(label.name, []).append(label)
    return found
