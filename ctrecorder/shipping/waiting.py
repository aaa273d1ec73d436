"""Which segments of an archive are to be sent, oldest first, and how each is named elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ctrecorder.archive import chain, find
from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import NO_HASH
from ctrecorder.errors import CtrecorderError, GoneError
from ctrecorder.segment.recording import Recording
from ctrecorder.times import SECOND

# Of a recording without a chain: segments that were made of files of the C ctrecorder.
_NO_CHAIN = "0" * 16
_CHAIN, _HASH = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}")
_MAX_NUMBER = 10**12
# Hexadecimal digits of the last hash in a name: 64 bits, so no two segments of one place in a chain
# have one name.
_HASH_CHARS = 16


@dataclass(frozen=True)
class Waiting:
    """A segment that can be sent.

    `path`: its file.  `begun`: the time of its HEADER, ns UTC.  `hashes`: its last hash, in hex,
    and those of the segments that it replaces.  `name`: CHAIN/SEQUENCE-HASH.ctlog.
    `replaced`: the names of the segments that it replaces.
    `is_keyed`: nobody without the static key can check it whole.  `is_squeezed`: it has
    connections.
    """

    path: str
    begun: int
    bytes: int
    hashes: tuple[str, ...]
    name: str
    replaced: tuple[str, ...] = ()
    is_keyed: bool = False
    is_squeezed: bool = True


@dataclass
class Examined:
    """The segments of an archive.

    `ready`: those that can be sent, oldest first.  `later`: how many are not closed or not squeezed
    yet.  `troubles`: path and reason of those that cannot be sent.
    """

    ready: list[Waiting] = field(default_factory=list)
    later: int = 0
    troubles: list[tuple[str, str]] = field(default_factory=list)


def examine(folder: str, *, raw: bool) -> Examined:
    """The segments of the archive `folder`.  `raw`: those that are not squeezed are sent too.

    What is damaged can be sent: only its hash and its place in the chain have to be known.
    """
    found = find.find([folder], routers=False)
    examined = Examined(troubles=list(found.unreadable))
    for path in found.segments:
        try:
            with open_segment(path) as segment:
                if not _is_finished(segment, raw=raw):
                    examined.later += 1
                    continue
                examined.ready.append(_waiting(segment))
        except GoneError:
            continue  # ctexpire was faster
        except CtrecorderError as error:
            examined.troubles.append((path, str(error)))
    examined.ready.sort(key=lambda one: (one.begun, one.name))
    return examined


def _is_finished(segment: Recording, *, raw: bool) -> bool:
    if segment.state in ("live", "unclosed"):
        return False
    return raw or segment.header.is_squeezed


def begun_second(begun: int) -> int:
    """The number of a segment that has none in its chain; `begun`: the time of its HEADER."""
    return begun // SECOND


def name_of(chain_name: str, number: int, last_hash: str) -> str:
    """CHAIN/SEQUENCE-HASH.ctlog; `chain_name`: "" if it has none."""
    return f"{chain_name or _NO_CHAIN}/{number:08}-{last_hash[:_HASH_CHARS]}.ctlog"


def shipped_name(segment: Recording) -> str:
    """CHAIN/SEQUENCE-HASH.ctlog of an open segment.  Raises CtrecorderError if it has no name."""
    return _waiting(segment).name


def _waiting(segment: Recording) -> Waiting:
    """Raises CtrecorderError if the segment cannot be named."""
    name = segment.header.chain or _NO_CHAIN
    hashes = tuple(each for each in chain.link(segment).hashes if _HASH.fullmatch(each))
    if not _CHAIN.fullmatch(name):
        raise CtrecorderError(f"{segment.path}: its chain has no name that a folder can have")
    if segment.last_hash == NO_HASH or not len(segment.index):
        raise CtrecorderError(
            f"{segment.path}: has no hash: it is of the C ctrecorder, or none of its blocks can be "
            "read; ctsqueeze makes a segment of it that can be sent"
        )
    begun = int(segment.index["time_min"][0])
    number = chain.sequence(segment.header) or begun_second(begun)
    if not 0 <= number < _MAX_NUMBER:
        raise CtrecorderError(f"{segment.path}: {number} is no number of a segment in its chain")
    names = [name_of(name, number, each) for each in hashes]
    return Waiting(
        segment.path,
        begun,
        segment.size,
        hashes,
        names[0],
        tuple(names[1:]),
        is_keyed=segment.sealed,
        is_squeezed=segment.header.is_squeezed,
    )
