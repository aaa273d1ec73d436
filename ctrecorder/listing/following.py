"""ctlist --follow: the events of recorders as they write them, across their segments.

Of each recording one segment is open and read on.  Each block is read once, so nothing is printed
twice.  A segment that is squeezed or deleted meanwhile stays open.  The next one of the recording
is that with the next sequence number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ctrecorder.archive import find
from ctrecorder.archive.find import Span
from ctrecorder.columns import Table, concat
from ctrecorder.ctlog.frame import Gap, Kind
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.order.batches import Batch
from ctrecorder.query.coverage import MISSING, NOT_RECORDING, Hole, Scope
from ctrecorder.query.events import list_events
from ctrecorder.query.evidence import hole_of
from ctrecorder.query.open import open_archive
from ctrecorder.segment import live
from ctrecorder.segment.recording import Block
from ctrecorder.segment.tail import Tail
from ctrecorder.times import BEGIN, END, SECOND

# A folder is read this often, ns: a new segment is found so late at most.  More often: a folder of
# a year has 8,760 files.
_LOOK_NS = SECOND // 2
# A recorder whose state is older has stopped; one that starts again needs some seconds.
_SILENT_NS = live.VALID_NS + SECOND
# Rows that are returned at once.
_BATCH_ROWS = 1 << 16

Item = Batch | Hole


@dataclass
class _Chain:
    """A recording.

    `done`: the sequence of the segment that is read, or was; 0: none.  `waiting`: later ones.
    `seen_live`: when its recorder was last seen to run, ns; 0: never.  `said`: that it does not.
    """

    tail: Tail | None = None
    done: int = 0
    last_time: int = BEGIN
    waiting: dict[int, Span] = field(default_factory=dict)
    seen_live: int = 0
    said: bool = False


class Follower:
    """The rows and the holes of the segments and folders `paths`, from `query.since` on.

    `names`: the columns that are wanted.  `problems`: what could not be read, in words.
    """

    def __init__(self, paths: Iterable[str], query: Query, names: Iterable[str]) -> None:
        self._paths, self._query = list(paths), query
        self._names = [*dict.fromkeys(["time", *names])]
        self._scope = Scope(query.since, query.until, protocols=query.protocols)
        self._chains: dict[str, _Chain] = {}
        self._known: set[tuple[int, int]] = set()
        self._holes: set[Hole] = set()
        self._looked = 0
        self.problems: list[str] = []

    def close(self) -> None:
        """Close all files."""
        for chain in self._chains.values():
            if chain.tail is not None:
                chain.tail.close()

    @property
    def is_live(self) -> bool:
        """Whether a recorder was seen to write one of the recordings."""
        return any(chain.seen_live for chain in self._chains.values())

    def poll(self, now: int) -> Iterator[Item]:
        """What is new, at the time `now`, ns: rows in order of time, and holes."""
        is_first = not self._looked
        if now - self._looked >= _LOOK_NS or now < self._looked:
            self._looked = now
            self._look(is_first)
        for name, chain in self._chains.items():
            yield from self._read(chain)
            yield from self._watch(name, chain, now)

    def _look(self, is_first: bool) -> None:
        """Find new segments.  At first only those that can have wanted rows, and the last ones."""
        spans = [span for span in find.find(self._new_files(), spans=True).spans if span.chain]
        last = {
            name: max(span.sequence for span in spans if span.chain == name)
            for name in {span.chain for span in spans}
        }
        for span in spans:
            chain = self._chains.setdefault(span.chain, _Chain())
            if is_first and span.end < self._query.since and span.sequence < last[span.chain]:
                continue
            # A squeezed segment has the sequence of the one that it replaces.
            if span.sequence > chain.done:
                chain.waiting.setdefault(span.sequence, span)

    def _new_files(self) -> list[str]:
        """The files that were not seen before.

        One that is no segment, or not yet one, is looked at again.
        """
        found: list[str] = []
        for path in self._paths:
            for name in find.files_of(path):
                try:
                    status = os.stat(name)
                except OSError:
                    continue
                place = status.st_dev, status.st_ino
                if place not in self._known:
                    found.append(name)
                    if status.st_size:
                        self._known.add(place)
        return found

    def _read(self, chain: _Chain) -> Iterator[Item]:
        """What is new in a recording."""
        rows: list[Table] = []
        while True:
            if chain.tail is None:
                if not chain.waiting:
                    break
                yield from self._next(chain)
                continue
            blocks = chain.tail.more()
            for block in blocks:
                hole = self._take(chain.tail, block, rows)
                if hole is not None or sum(map(len, rows)) >= _BATCH_ROWS:
                    yield from _batch(rows)
                    rows = []
                if hole is not None:
                    yield hole
            if not chain.tail.closed and (blocks or not chain.waiting):
                break
            chain.last_time = chain.tail.last_time
            chain.tail.close()
            chain.tail = None
        yield from _batch(rows)

    def _next(self, chain: _Chain) -> Iterator[Item]:
        """Begin the next segment of a recording."""
        sequence = min(chain.waiting)
        span = chain.waiting.pop(sequence)
        if 0 < chain.done < sequence - 1:
            yield Hole(chain.last_time, max(chain.last_time, span.recorded), MISSING)
        chain.done, chain.said = sequence, False
        if span.squeezed:
            archive = open_archive([span.path], self._query)
            yield from list_events(archive, self._names)
            self.problems += map(str, archive.findings)
            archive.close()
            chain.last_time = span.end
            return
        try:
            chain.tail = Tail(span.path)
        except (ArchiveError, FormatError) as error:
            self.problems.append(str(error))

    def _take(self, tail: Tail, block: Block, rows: list[Table]) -> Hole | None:
        """Add the wanted rows of a block to `rows`; a hole that was not returned before."""
        segment = tail.segment
        try:
            if block.kind == Kind.EVENTS:
                found = segment.ask(block, self._names, self._query)
                if found is not None and len(found):
                    rows.append(found)
            elif block.kind == Kind.GAP:
                payload = segment.file.payload(block.offset, segment.frame(block))
                hole = hole_of(Gap.parse(segment.frame(block), payload))
                if hole not in self._holes and self._scope.is_touched_by(hole):
                    self._holes.add(hole)
                    return hole
        except FormatError as error:
            self.problems.append(str(error))
        return None

    def _watch(self, name: str, chain: _Chain, now: int) -> Iterator[Hole]:
        """A hole if the recorder that was seen to write a recording is gone."""
        if chain.tail is not None and live.is_published(name, chain.tail.status):
            chain.seen_live, chain.said = now, False
            return
        if chain.seen_live and not chain.said and now - chain.seen_live >= _SILENT_NS:
            chain.said = True
            tail = chain.tail
            last = max(chain.last_time, 0 if tail is None else tail.last_time)
            yield Hole(last, END, NOT_RECORDING)


def _batch(rows: list[Table]) -> Iterator[Batch]:
    """Rows of both families as a batch in order of time."""
    tables: list[Table] = []
    for family in sorted({table.family for table in rows}):
        table = concat([one for one in rows if one.family == family])
        tables.append(table.take(np.argsort(table["time"], kind="stable")))
    if tables:
        yield Batch(tables, None)


def last_rows(items: Iterable[Item], count: int) -> list[Item]:
    """The last `count` rows of `items`, without holes."""
    left, found = count, []
    for item in reversed([one for one in items if isinstance(one, Batch)]):
        every = np.argsort(np.concatenate([table["time"] for table in item.tables]), kind="stable")
        wanted = np.sort(every[max(len(every) - left, 0) :]) if left else every[:0]
        offset, tables = 0, []
        for table in item.tables:
            mine = wanted[(wanted >= offset) & (wanted < offset + len(table))] - offset
            tables.append(table.take(mine))
            offset += len(table)
        left -= len(wanted)
        found.append(Batch([table for table in tables if len(table)], None))
    return [batch for batch in reversed(found) if batch.tables]
