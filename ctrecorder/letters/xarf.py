"""X-ARF 0.1 and 0.2: a report in YAML in a part of a mail, with log lines in the next part.

Its `Port:` is the port that was attacked, or with some senders a service of the address itself:
never the port that the address sent from, so it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctrecorder.envelopes.clock import known
from ctrecorder.envelopes.labels import Label, by_name, paragraphs
from ctrecorder.envelopes.text import Text
from ctrecorder.letters import loglines
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Role, Sighting

# A report has "Source" and two of these.
_OTHERS = {"sourcetype", "reporttype", "reportedfrom", "reportid", "schemaurl", "category"}
_OTHERS |= {"useragent", "attachment", "service", "date"}
_ADDRESS = ("source", "sourceip", "ip", "ipaddress")
_VERSION = re.compile(r"\d+(?:\.\d+){0,2}", re.ASCII)


def read(source: Source) -> Reading | None:
    """The reports of all parts, then the log lines about the same addresses."""
    found: Reading | None = None
    for part in source.parts:
        for report in _reports(part.text):
            found = found or Reading("X-ARF", twins=True)
            _read(report, source, found)
    if found and found.sightings:
        addresses = {each.address.value for each in found.sightings}
        texts = [part.text for part in source.parts]
        lines = list(loglines.about(addresses, texts, source.clock))
        # Lines whose zone nobody noted only repeat what the report says with its zone.
        lines = [each for each in lines if known(each.first)]
        found.add(*lines)
        found.lines = len(lines)
    return found


def _reports(text: Text) -> Iterator[list[Label]]:
    """The labels of each report: an empty line, or one of another form, may stand in it."""
    if "source" not in text.text.lower():
        return
    labels: list[Label] = []
    names: set[str] = set()
    for paragraph in paragraphs(text):
        here = {label.name for label in paragraph}
        # The next report has the same labels again.
        if here & names & (_OTHERS | {"source"}):
            if _whole(labels):
                yield labels
            labels, names = [], set()
        labels += paragraph
        names |= here
    if _whole(labels):
        yield labels


def _whole(labels: list[Label]) -> bool:
    names = by_name(labels)
    return "source" in names and len(names.keys() & _OTHERS) > 2


def _read(report: list[Label], source: Source, found: Reading) -> None:
    values = by_name(report)
    version = next((label.value for label in values.get("version", [])), "")
    if _VERSION.fullmatch(version):
        found.form = f"X-ARF {'.'.join(version.split('.')[:2])}"
    found.reference = found.reference or values.get("reportid", [report[0]])[0].value
    if len(values["source"]) > 1:
        found.problem = "a report names two sources"
        return
    # The source can be a link; some add the address.
    labels = [label for name in _ADDRESS for label in values.get(name, [])]
    address = next((field for label in labels if (field := label.address())), None)
    if address is None:
        found.problem = "the report names no address"
        return
    port = next((label.port() for label in values.get("sourceport", [])), None)
    role = Role.SOURCE if port else Role.NONE
    times = [label.time(source.clock) for label in values.get("date", [])]
    found.add(*(Sighting(address, port, role, first) for first in times or [None]))
