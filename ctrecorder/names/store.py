"""Entries in bounded memory, found by address and time."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ctrecorder.names.directory import Holder
from ctrecorder.names.entry import Entry, TooManyError, network
from ctrecorder.times import BEGIN, END

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# An entry takes some 70 bytes, and its name 150 the first time that it occurs.
MAX_ENTRIES = 1_000_000
_ANY = -1  # of a zone or a mark
# ::ffff:0:0/96, where IPv4 is.
_IPV4, _MAPPED = 96, b"\0" * 10 + b"\xff\xff"


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
        # since, until, zone, mark, name, file, line
        self._values = tuple(array("q") for _ in range(7))
        self._names: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        """Raises TooManyError: there are too many."""
        if entry.since >= min(entry.until, self._until) or entry.until <= self._since:
            return
        if len(self._lengths) >= MAX_ENTRIES:
            raise TooManyError(
                f"--names: more than {MAX_ENTRIES:,} leases and sessions in the time that is "
                "asked: name a part of the files"
            )
        self._keys += entry.network.key
        self._lengths.append(entry.network.length)
        values = (
            entry.since,
            entry.until,
            _ANY if entry.zone is None else entry.zone,
            _ANY if entry.mark is None else entry.mark,
            self._names.setdefault(entry.name, len(self._names)),
            entry.place.file,
            entry.place.number,
        )
        for column, value in zip(self._values, values, strict=True):
            column.append(value)

    def directory(self, files: Sequence[str], problems: Sequence[str]) -> Stored:
        """All of them as a directory.  `files`: the names by number."""
        import numpy as np

        keys = np.frombuffer(bytes(self._keys), "S16")
        lengths = np.frombuffer(self._lengths, np.uint8)
        order = np.lexsort((keys, lengths))
        values = np.array([np.frombuffer(one, np.int64) for one in self._values])[:, order]
        return Stored(
            keys[order], lengths[order], values, tuple(self._names), tuple(files), tuple(problems)
        )


class Stored:
    """A directory of entries.

    `keys`: (n,) S16, `lengths`: (n,) uint8, in order of length and key.  `values`: (7, n) int64:
    since, until, zone, mark, and the numbers of name, file and line.
    """

    def __init__(
        self,
        keys: NDArray[np.bytes_],
        lengths: NDArray[np.uint8],
        values: NDArray[np.int64],
        names: tuple[str, ...],
        files: tuple[str, ...],
        problems: tuple[str, ...],
    ) -> None:
        import numpy as np

        self._keys, self._values, self._names, self._files = keys, values, names, files
        self._problems = problems
        self._parts = [
            (
                int(length),
                int(np.searchsorted(lengths, length, "left")),
                int(np.searchsorted(lengths, length, "right")),
            )
            for length in np.unique(lengths)
        ]

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, one line each."""
        return self._problems

    def holders(
        self, address: str, since: int, until: int, zone: int | None, mark: int | None
    ) -> tuple[Holder, ...]:
        """As in `Directory`."""
        found: list[_Found] = []
        shortest = _IPV4 if network(address).key[:12] == _MAPPED else 0
        for length, begin, end in self._parts:
            if length < shortest:
                continue
            rows = self._rows(_masked(address, length), begin, end)
            found += self._matching(rows, since, until, zone, mark)
        return tuple(
            Holder(
                self._names[name],
                None if first == BEGIN else first,
                None if last == END else last,
                f"{self._files[file]}, line {line}",
            )
            for first, last, name, file, line in _joined(found)
        )

    def _rows(self, key: bytes, begin: int, end: int) -> slice:
        import numpy as np

        wanted = np.array([key], "S16")
        part = self._keys[begin:end]
        first = int(np.searchsorted(part, wanted, "left")[0])
        last = int(np.searchsorted(part, wanted, "right")[0])
        return slice(begin + first, begin + last)

    def _matching(
        self, rows: slice, since: int, until: int, zone: int | None, mark: int | None
    ) -> list[_Found]:
        values = self._values[:, rows]
        fits = (values[0] < max(until, since + 1)) & (values[1] > since)
        for column, wanted in ((values[2], zone), (values[3], mark)):
            if wanted is not None:
                fits &= (column == _ANY) | (column == wanted)
        return [
            _Found(int(row[0]), int(row[1]), int(row[4]), int(row[5]), int(row[6]))
            for row in values[:, fits].T
        ]


def _masked(address: str, length: int) -> bytes:
    """The key of the network of this length that has the address."""
    whole = int.from_bytes(network(address).key)
    return (whole >> (128 - length) << (128 - length)).to_bytes(16)


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
