"""What the readers of all forms share: the letter that they read, and what they found in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.bounds import MAX_SEEN, MAX_SIGHTINGS, Refused
from ctrecorder.envelopes.clock import Clock
from ctrecorder.envelopes.mime import Mail, Part
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.letters.sighting import Sighting
from ctrecorder.terminal import printable

# Ports on which programs for sharing files listen unless they are told otherwise: what a tracker
# lists, and behind NAT nobody sent from.  BitTorrent (BEP 3: 6881 to 6889; later clients, such as
# rTorrent and aria2, go on to 6999), Transmission (51413), qBittorrent until 4.1 (8999), ports that
# are often set by hand (16881, 49160), eMule (4662, 4672), Gnutella (6346, 6347).
LISTENING_PORTS = frozenset((*range(6881, 7000), 51413, 8999, 16881, 49160, 4662, 4672, 6346, 6347))


@dataclass(frozen=True)
class Source:
    """A letter, opened: its headers, its parts, and the reader of its times."""

    mail: Mail
    clock: Clock

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.mail.parts

    def texts(self) -> list[Text]:
        """What a person reads: HTML only if there is nothing else."""
        plain = [part.text for part in self.parts if part.kind != "text/html"]
        if any(text.text.strip() for text in plain):
            return plain
        return [part.text for part in self.parts]

    def seen(self, text: Text, start: int = 0, end: int | None = None) -> list[Field[str]]:
        """The first addresses and times between two positions of a text."""
        found: list[Field[str]] = []
        for offset, line in text.lines(start, end):
            if len(found) >= MAX_SEEN:
                break
            places = [(each.start, each.end) for each in endpoints.find(line)]
            for begin, stop in sorted(places + self.clock.find(line)):
                word = printable(" ".join(line[begin:stop].split()))
                found.append(text.field(word, offset + begin, offset + stop))
        return found[:MAX_SEEN]


@dataclass
class Reading:
    """What a reader found.  `problem`: why there are no sightings, although it is this form.

    `twins`: the parts of a letter of this form can tell the same notice again.  `lines`: how many
    sightings, the last ones, are of log lines beside the notice.  `rows`: those of a table that
    were not read whole.
    """

    form: str
    sightings: list[Sighting] = field(default_factory=list)
    reference: str = ""
    problem: str = ""
    unread: list[Field[str]] = field(default_factory=list)
    twins: bool = False
    lines: int = 0
    rows: list[Sighting] = field(default_factory=list)

    def add(self, *sightings: Sighting) -> None:
        """Raises Refused."""
        self.sightings += sightings
        if len(self.sightings) > MAX_SIGHTINGS:
            raise Refused(
                f"refused: it has more than {MAX_SIGHTINGS:,} sightings; split it into smaller ones"
            )

    def refuse(self, row: Sighting) -> None:
        """Keep a row that was not read whole.  Raises Refused."""
        self.rows.append(row)
        if len(self.rows) > MAX_SIGHTINGS:
            raise Refused(f"refused: it has more than {MAX_SIGHTINGS:,} rows that cannot be read")


# A reader of one form: None if the letter is not of it.
Reader = Callable[[Source], Reading | None]
