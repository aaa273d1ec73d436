"""How segments of a recording follow each other: by the last hash of the one before.

A segment may be named by its own last hash, and by that of each segment that it replaces.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ctrecorder.ctlog.frame import NO_HASH
from ctrecorder.ctlog.header import Header, Replaced
from ctrecorder.segment.recording import Recording


@dataclass(frozen=True)
class Link:
    """A segment as its chain sees it.

    `chain`: the name of the recording; "" if it has none.
    `sequence`: the number in the recording, from 1; 0 if it has none.
    `previous`: file name of the segment before; "" if it is not named.
    `previous_hash`: the last hash of the segment before, in hex.
    `hashes`: the last hashes by which the next segment may name this one, in hex, its own first.
    `has_own`: False if none of its blocks can be read.
    """

    chain: str
    sequence: int
    previous: str
    previous_hash: str
    hashes: tuple[str, ...]
    has_own: bool = True

    def alone(self) -> Link:
        """The same link of a segment that stands for none of those that it says to replace."""
        return replace(self, hashes=self.hashes[: int(self.has_own)])

    def follows(self, before: Link) -> bool:
        """Whether this segment was recorded right after `before`."""
        return self.previous_hash in before.hashes


def link(segment: Recording) -> Link:
    """The link of an open segment."""
    header = segment.header
    own = (segment.last_hash.hex(),) if segment.last_hash != NO_HASH else ()
    replaced = tuple(entry.last_hash for entry in header.replaces)
    previous = header.previous or ""
    previous_hash = segment.previous_hash.hex()
    hashes = own + replaced
    return Link(
        header.chain or "", sequence(header), previous, previous_hash, hashes, has_own=bool(own)
    )


def breaks(segments: Iterable[Recording]) -> Iterator[tuple[int, int]]:
    """The times between two segments of a recording that do not follow each other.

    `segments`: in the order in which their recording began.
    """
    last: dict[str, tuple[int, Link]] = {}
    for segment in segments:
        if not len(segment.index):
            continue
        here, (begin, end) = link(segment), segment.times
        if here.chain in last:
            before, earlier = last[here.chain]
            follows = not earlier.hashes or here.follows(earlier)
            if not follows and before < begin:
                yield before, begin
        last[here.chain] = end, here


def run_begun(segment: Recording) -> int | None:
    """When the recorder was started with this segment, ns UTC; None: it was not.

    A MARK start is the first MARK of such a segment.
    """
    return next((mark.begin for mark in segment.marks[:1] if mark.what == "start"), None)


def is_start(previous_hash: str) -> bool:
    """Whether this `previous_hash` is that of the first segment of a recording."""
    return previous_hash == NO_HASH.hex()


def sequence(header: Header) -> int:
    """The number of the segment in its recording; 0 if it has none."""
    return header.sequence or 0


def successor(old: Recording) -> tuple[Replaced, ...]:
    """The `replaces` of the segment that takes the place of `old`.

    The entries of `old`, then one for `old` itself.
    """
    rows = int(old.index["rows"].sum())
    name, program = os.path.basename(old.path), old.header.program or ""
    replaced = Replaced(name, old.last_hash.hex(), rows, old.size, old.state, program)
    return (*old.header.replaces, replaced)


def trace(wanted: str, onward: Mapping[str, str], ends: Collection[str]) -> Iterator[str]:
    """`wanted`, then the hash that `onward` gives for it, and so on.

    Ends with the first hash in `ends`, or the first that leads nowhere or back.
    """
    seen: set[str] = set()
    while wanted not in seen:
        yield wanted
        seen.add(wanted)
        if wanted in ends or wanted not in onward:
            return
        wanted = onward[wanted]
