"""What a letter says: who was seen when.  Pure data."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ctrecorder.envelopes.text import Field as Field
from ctrecorder.envelopes.text import Place as Place
from ctrecorder.moments.moment import Moment


class Role(enum.Enum):
    """What the port of a sighting is to our address."""

    SOURCE = "source"  # our address sent from it
    SERVICE = "service"  # it was reached there: a question about DNAT
    LISTENING = "listening"  # a peer's listening port: nobody is known to have held it outside
    ID = "id"  # it is the id of an echo of ICMP, which NAT chooses like a port
    NONE = "none"  # there is no port


@dataclass(frozen=True)
class Sighting:
    """One of our addresses was seen.

    `last`: the end of a range; None: `first` is one time.  `first` None: the letter names no time.
    `protocol`: only if the letter names one of layer 4, in lower case.  `prose`: written by a
    person, whose clock is rougher than a machine's.  `may_listen`: the letter is of a copyright
    agent, who may have the port from a tracker: then the peer listened there, and nobody need have
    held it outside.  `problem`: "" or why it must not be asked: then `address` can be "", with the
    place of the whole row.  `again`: the lines that tell the same again.
    """

    address: Field[str]
    port: Field[int] | None = None
    role: Role = Role.NONE
    first: Field[Moment] | None = None
    last: Field[Moment] | None = None
    remote_address: Field[str] | None = None
    remote_port: Field[int] | None = None
    protocol: Field[str] | None = None
    prose: bool = False
    may_listen: bool = False
    problem: str = ""
    again: tuple[int, ...] = ()


@dataclass(frozen=True)
class Letter:
    """A letter and its sightings.

    `file`: its name; "box#2" is the second of a mailbox.  `sha256`: "" if it is too large or
    cannot be read.  `reference`: the sender's case number.
    `form`: "ACNS 1.2 XML".  `seen`: addresses and times of a letter that nothing can be asked from.
    `unread`: rows of a table beside the sightings that were not read whole, each with its problem.
    `problem`: "" or one line: why nothing can be asked.
    """

    file: str
    sha256: str
    message_id: str = ""
    sender: str = ""
    reference: str = ""
    form: str = ""
    sightings: tuple[Sighting, ...] = ()
    seen: tuple[Field[str], ...] = ()
    problem: str = ""
    unread: tuple[Sighting, ...] = ()
