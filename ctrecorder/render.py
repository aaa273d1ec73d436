"""Tables become text in one of the formats of ctlist.

    writer = Renderer("text", utc=False)
    for tables in ...:                       # tables of one stretch of time, each sorted, IPv4 and IPv6 apart
        for text in writer.events(tables):
            write(text)

Pure; 0.25 us an event as text, 0.7 as conntrack's, 0.9 as CSV, 1.3 as JSON (IPv4, one core).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ctrecorder import render_conntrack, render_records, render_text
from ctrecorder.columns import Table
from ctrecorder.errors import UsageError

# Rows that are made text at once.  Their words take about 2 MiB as text, 8 as JSON: fewer rows pay numpy's call overhead (10 ns a row
# at 8,192), more leave the cache.
CHUNK = 8192

_Lines = Callable[[Table], bytearray]


class Renderer:
    """The lines of one format.  `utc`: times of text and classic in UTC, not in local time; the others do not ask."""

    def __init__(self, form: str, *, utc: bool) -> None:
        """`form`: one of `FORMATS`.  Raises UsageError."""
        if form not in FORMATS:
            raise UsageError(f"no such format '{form}': say {', '.join(FORMATS)}")
        self.form = form
        self._utc = utc

    def head(self, *, connections: bool) -> bytes:
        """What stands before all lines."""
        if self.form != "csv":
            return b""
        return render_records.csv_head(render_records.CONNECTION_KEYS if connections else render_records.EVENT_KEYS)

    def events(self, tables: Sequence[Table]) -> Iterator[bytes | bytearray]:
        """The lines of the events of all `tables`, each in order of `time`, in that order."""
        return _in_order(tables, "time", self._lines(0))

    def connections(self, tables: Sequence[Table]) -> Iterator[bytes | bytearray]:
        """The lines of the connections of all `tables`, each in order of `start`, in that order.  Raises UsageError."""
        return _in_order(tables, "start", self._lines(1))

    def _lines(self, connections: int) -> _Lines:
        made = FORMATS[self.form][connections]
        if made is None:
            raise UsageError(f"the format {self.form} has events only: leave out -s or take another format")
        return partial(made, utc=self._utc)


def _without_zone(made: _Lines) -> Callable[..., bytearray]:
    return lambda table, utc: made(table)


# Name: lines of events, lines of connections.
FORMATS: dict[str, tuple[Callable[..., bytearray], Callable[..., bytearray] | None]] = {
    "text": (render_text.events, render_text.connections),
    "classic": (render_text.classic_events, render_text.classic_connections),
    "conntrack": (_without_zone(render_conntrack.events), None),
    "json": (_without_zone(render_records.json_events), _without_zone(render_records.json_connections)),
    "csv": (_without_zone(render_records.csv_events), _without_zone(render_records.csv_connections)),
}


def _in_order(tables: Sequence[Table], key: str, made: _Lines) -> Iterator[bytes | bytearray]:
    """The lines of all rows, by the time `key`, a chunk at a time; rows of equal time in the order of `tables`."""
    full = [table for table in tables if len(table)]
    if len(full) == 1:
        for first in range(0, len(full[0]), CHUNK):
            yield made(full[0].slice(first, first + CHUNK))
        return
    if not full:
        return
    # A cut of CHUNK rows of all tables holds, of each table, a run of its own rows.
    order = np.argsort(np.concatenate([table[key] for table in full]), kind="stable")
    sizes = np.array([len(table) for table in full])
    owner = np.repeat(np.arange(len(full)), sizes)[order]
    done = np.zeros(len(full), np.int64)
    for first in range(0, len(order), CHUNK):
        cut = owner[first : first + CHUNK]
        counts = np.bincount(cut, minlength=len(full))
        begins, done = done, done + counts
        runs = zip(full, begins.tolist(), done.tolist(), strict=True)
        texts = [made(table.slice(begin, end)) if end > begin else bytearray() for table, begin, end in runs]
        yield _interleave(texts, cut)


def _interleave(texts: list[bytearray], owner: NDArray[np.int64]) -> bytes:
    """The lines of `texts` in the order of `owner`: (n,) whose text the next line comes from."""
    ends = [np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1 for text in texts]
    last = np.flatnonzero(np.diff(owner, append=-1))  # of each run of lines from one text
    taken, lines = [0] * len(texts), [0] * len(texts)
    pieces: list[bytearray] = []
    previous = -1
    for place, whose in zip(last.tolist(), owner[last].tolist(), strict=True):
        lines[whose] += place - previous
        end = int(ends[whose][lines[whose] - 1])
        pieces.append(texts[whose][taken[whose] : end])
        taken[whose], previous = end, place
    return b"".join(pieces)

