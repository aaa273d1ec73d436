"""What persons read: an address alone on its line, and its times in the lines below (honeypots)."""

from __future__ import annotations

import re

from ctrecorder.envelopes import endpoints
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Sighting

# "192.0.2.1", "* 192.0.2.1 (S)".
_ALONE = re.compile(
    r"[\s*-]{0,10}(?P<address>[0-9A-Fa-f.:]{3,45})(?:[ \t]{1,4}\([A-Z]{1,3}\))?:?\s*"
)
# What stands around the time.
_ITEM = re.compile(r"[\s*-]{1,20}")


def read(source: Source) -> Reading | None:
    found = Reading("report in prose")
    for text in source.texts():
        address = None
        stop = 0
        for offset, line in text.lines():
            # What follows an empty line belongs to nobody named before.
            if text.blank_between(stop, offset):
                address = None
            stop = offset + len(line)
            match = _ALONE.fullmatch(line)
            word = endpoints.address(match["address"]) if match else ""
            if match and word:
                start, end = match.span("address")
                address = text.field(word, offset + start, offset + end)
                continue
            times = source.clock.find(line)
            if address and len(times) == 1 and _ITEM.fullmatch(line, 0, times[0][0]):
                start, end = times[0]
                first = source.clock.read(text, offset + start, offset + end)
                if first and not line[end:].strip():
                    found.add(Sighting(address, first=first, prose=True))
            elif line.strip() and not line[0].isspace():
                address = None
    return found if found.sightings else None
