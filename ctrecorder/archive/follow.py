"""Where connections that are open at the end of what was read go on, and where they end.

A connection can be open for weeks, and is then in the dump of each segment.  To read and pair all
of these would cost more than the question.  So only the keys in each are looked at, and the
segments between are passed over: in these nothing happens to the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.archive.near import Chains
from ctrecorder.archive.shared import Pool
from ctrecorder.columns import Event, Source, Table
from ctrecorder.connections import flowkey
from ctrecorder.connections.parts import DESTROY, NEW
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.segment.recording import Recording

Hashes = NDArray[np.uint64]
_NAMES = (*flowkey.KEY, "event", "seen", "end_source")


class Followed(NamedTuple):
    """`paths`: the segments in which something happens to the connections, and the next ones.

    `still_open`: the hashes of the keys of those to which nothing does.
    """

    paths: tuple[str, ...]
    still_open: frozenset[int]


class Keys(NamedTuple):
    """The flows in a segment that are not whole in it; (n,) each, ascending.

    `changed`: (n + 1,) how many of the rows before tell more than that the flow is open.
    """

    hashes: Hashes
    changed: NDArray[np.int32]

    @staticmethod
    def of(tables: Iterable[Table]) -> Keys:
        """Those of the flows in `tables`."""
        parts = [(flowkey.hashes(table), _is_change(table)) for table in tables]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(one for one, _ in parts)])
        changes = np.concatenate([np.zeros(0, np.bool_), *(one for _, one in parts)])
        order = np.argsort(hashes)
        return Keys(hashes[order], np.append(0, np.cumsum(changes[order])).astype(np.int32))

    @property
    def held_bytes(self) -> int:
        """Bytes of memory."""
        return self.hashes.nbytes + self.changed.nbytes

    def go_on(self, hashes: Hashes) -> NDArray[np.bool_]:
        """(k,): which flows are open in the segment, and nothing else is told of them."""
        first = np.searchsorted(self.hashes, hashes, "left")
        last = np.searchsorted(self.hashes, hashes, "right")
        found: NDArray[np.bool_] = (last > first) & (self.changed[last] == self.changed[first])
        return found


def follow(
    path: str, hashes: Hashes, chains: Chains, keys_of: Callable[[str], Keys | None]
) -> Followed | None:
    """Follow flows that are open at the end of the segment `path`.

    `hashes`: of their keys.  `keys_of`: the keys in a segment; None if it cannot be read.  None: a
    segment of the chain has a copy, or cannot be read.
    """
    places = chains.after(path)
    wanted: set[int] = set()
    for number, place in enumerate(places):
        keys = keys_of(place[0].path) if len(place) == 1 else None
        if keys is None:
            return None
        goes_on = keys.go_on(hashes)
        if not goes_on.all() or number + 1 == len(places):
            wanted |= {number, number + 1}
        hashes = hashes[goes_on]
        if not len(hashes):
            break
    paths = [places[number][0].path for number in sorted(wanted) if number < len(places)]
    return Followed(tuple(paths), frozenset(map(int, hashes)))


def keys_in(path: str, pool: Pool) -> Keys | None:
    """The keys of a segment; None if not all of it can be read."""
    found: Keys | None = pool.keys.get((path,))
    if found is None:
        try:
            segment = pool.open(path)
            found = Keys.of(_parts(segment))
        except (FormatError, ArchiveError):
            return None
        finally:
            pool.trim()
        if segment.is_damaged:
            return None
        pool.keys.put((path,), found)
    return found


def _parts(segment: Recording) -> Iterator[Table]:
    """The rows of a segment that can be parts of a flow that is open before or after it."""
    blocks = segment.blocks_of(Kind.EVENTS, Kind.CONNECTIONS)
    for group in segment.in_recording_order(blocks):
        if group[0].joins:
            yield from segment.read_small(group, _NAMES)
        elif not segment.is_received(group[0]):
            yield segment.read(group[0], _NAMES)


def _is_change(table: Table) -> NDArray[np.bool_]:
    """(rows,): which rows tell more than that their flow is open."""
    if "event" in table:
        told: NDArray[np.bool_] = ~np.isin(table["event"], (Event.EXISTING, Event.UPDATE))
    else:
        told = (table["seen"] & np.uint8(NEW | DESTROY)) != 0
        told |= table["end_source"] != Source.UNKNOWN
    return told
