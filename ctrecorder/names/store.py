"""Entries in bounded memory, found by address and time."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ctrecorder.names.directory import Holder
from ctrecorder.names.entry import Entry, TooManyError, masked, network, shortest
from ctrecorder.times import BEGIN, END

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# An entry takes 50 bytes, and its name some 150 the first time that it occurs: 290 MiB if each
# has another name, measured.
MAX_ENTRIES = 1_000_000
_MAX_LINE = 2**31 - 1  # the number of a line, an int32


class _Found(NamedTuple):
    """A row: times in ns, numbers of name, file and line."""

    since: int
    until: int
    name: int
    file: int
    line: int


class Entries:
    """Entries that are added one by one; those outside [since, until) are left out.

    `MAX_ENTRIES` bounds them.
    """

    def __init__(self, since: int, until: int) -> None:
        self._since, self._until = since, until
        self._keys = bytearray()
        self._lengths = array("B")
        self._times = array("q"), array("q")
        # Numbers: of the name, of the pair of zone and mark, of the file, of the line.
        self._numbers = tuple(array("i") for _ in range(4))
        self._names: dict[str, int] = {}
        self._scopes: dict[tuple[int | None, int | None], int] = {}

    def add(self, entry: Entry) -> None:
        """Raises TooManyError: there are too many."""
        held, since, until, name, place, zone, mark = entry
        if since >= until or since >= self._until or until <= self._since:
            return
        if len(self._lengths) >= MAX_ENTRIES:
            raise TooManyError(
                f"--names: more than {MAX_ENTRIES:,} leases and sessions in the time that is "
                "asked: name a part of the files"
            )
        self._keys += held.key
        self._lengths.append(held.length)
        self._times[0].append(since)
        self._times[1].append(until)
        names, scopes, files, lines = self._numbers
        names.append(self._names.setdefault(name, len(self._names)))
        scopes.append(self._scopes.setdefault((zone, mark), len(self._scopes)))
        files.append(place.file)
        lines.append(min(place.number, _MAX_LINE))

    def directory(self, files: Sequence[str], problems: Sequence[str]) -> Stored:
        """All of them as a directory.  `files`: the names by number."""
        import numpy as np

        keys = np.frombuffer(self._keys, "S16")
        lengths = np.frombuffer(self._lengths, np.uint8)
        order = np.lexsort((keys, lengths))
        return Stored(
            _Columns(
                keys[order],
                lengths[order],
                *(np.frombuffer(one, np.int64)[order] for one in self._times),
                *(np.frombuffer(one, np.int32)[order] for one in self._numbers),
            ),
            _Words(list(self._names), list(self._scopes), list(files), tuple(problems)),
        )


class _Columns(NamedTuple):
    """Entries, (n,) each, in order of length and key: keys S16, lengths uint8, times int64 ns,
    numbers int32."""

    keys: NDArray[np.bytes_]
    lengths: NDArray[np.uint8]
    since: NDArray[np.int64]
    until: NDArray[np.int64]
    names: NDArray[np.int32]
    scopes: NDArray[np.int32]
    files: NDArray[np.int32]
    lines: NDArray[np.int32]


class _Words(NamedTuple):
    """What the numbers mean, and the problems of the source."""

    names: list[str]
    scopes: list[tuple[int | None, int | None]]
    files: list[str]
    problems: tuple[str, ...]


class Stored:
    """A directory of entries."""

    def __init__(self, columns: _Columns, words: _Words) -> None:
        import numpy as np

        self._columns, self._words = columns, words
        self._parts = [
            (
                int(length),
                int(np.searchsorted(columns.lengths, length, "left")),
                int(np.searchsorted(columns.lengths, length, "right")),
            )
            for length in np.unique(columns.lengths)
        ]

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, one line each."""
        return self._words.problems

    def holders(
        self, address: str, since: int, until: int, zone: int | None, mark: int | None
    ) -> tuple[Holder, ...]:
        """As in `Directory`."""
        asked = network(address)
        fits = [
            number
            for number, (zone_of, mark_of) in enumerate(self._words.scopes)
            if None in (zone, zone_of) or zone == zone_of
            if None in (mark, mark_of) or mark == mark_of
        ]
        found: list[_Found] = []
        for length, begin, end in self._parts:
            if length >= shortest(asked):
                rows = self._rows(masked(asked, length).key, begin, end)
                found += self._matching(rows, since, max(until, since + 1), fits)
        return tuple(
            Holder(
                self._words.names[one.name],
                None if one.since == BEGIN else one.since,
                None if one.until == END else one.until,
                f"{self._words.files[one.file]}, line {one.line}",
            )
            for one in _joined(found)
        )

    def _rows(self, key: bytes, begin: int, end: int) -> slice:
        import numpy as np

        wanted = np.array([key], "S16")
        part = self._columns.keys[begin:end]
        first = int(np.searchsorted(part, wanted, "left")[0])
        last = int(np.searchsorted(part, wanted, "right")[0])
        return slice(begin + first, begin + last)

    def _matching(self, rows: slice, since: int, until: int, scopes: list[int]) -> list[_Found]:
        import numpy as np

        of = self._columns
        fits = (of.since[rows] < until) & (of.until[rows] > since)
        fits &= np.isin(of.scopes[rows], scopes)
        return [
            _Found(
                int(of.since[row]),
                int(of.until[row]),
                int(of.names[row]),
                int(of.files[row]),
                int(of.lines[row]),
            )
            for row in np.flatnonzero(fits) + rows.start
        ]


def _joined(found: list[_Found]) -> list[_Found]:
    """In order of time; what one name holds without an interruption is one."""
    last: dict[int, int] = {}
    joined: list[_Found] = []
    for row in sorted(found):
        at = last.get(row.name)
        if at is not None and row.since <= joined[at].until:
            joined[at] = joined[at]._replace(until=max(joined[at].until, row.until))
        else:
            last[row.name] = len(joined)
            joined.append(row)
    return joined
