"""Finding where the records of a C ctrecorder's file begin, also after a write error.

That recorder wrote whole buffers of records.  When the disk filled up in the middle of a buffer, it
dropped the rest and continued with the next one: a record is cut, and all later records are at
another offset ("out of step").  A record has no magic, but few bytes can be a record: the type has
six values, microseconds are less than a million, and the time is near that of the record before.

`Steps` takes the bytes of a file, piece by piece, and gives runs of valid records with their
offsets; the bytes between two runs are a `Fault`.  It does no I/O and raises nothing.  Memory: a
copy of the piece, and 20 bytes for each of its bytes during a search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctrecorder.legacy.format import EVENT, TYPE_EVENT, TYPE_REPLIED, Header, Records

# How far the time of a record may be from that of the record before, in seconds (back, ahead),
# without a search.  Events are written as they arrive, so the time goes back only when the clock
# was set, and leaps only over a quiet network or a full disk; connections are written as they end.
# Smaller values cause more searches; larger ones accept other bytes as a time.
_NEAR_EVENT = (3_600, 2 * 86_400)
_NEAR_CONNECTION = (400 * 86_400, 400 * 86_400)
# A search covers the bytes of this many records, and tries each byte.  A smaller value may miss the
# end of a fault and search again; a larger one costs more for each search.
_SEARCHED_RECORDS = 64
# This many records in a row, each near the one before, are proof: a longer row proves no more.
_ROW_RECORDS = 16
# If all times are far from the last one (the clock was set while the disk was full), a shorter row
# than this is chance.
_FAR_ROW_RECORDS = 4
_SECOND_US = 1_000_000
_IMPOSSIBLE = "impossible times or types"
_TYPES = np.zeros(256, np.bool_)
_TYPES[[kind | replied for kind in range(1, TYPE_EVENT + 1) for replied in (0, TYPE_REPLIED)]] = (
    True
)

Bools = NDArray[np.bool_]
Seconds = NDArray[np.int64]


@dataclass(frozen=True)
class Fault:
    """`length` bytes at `offset` that are not records.

    `partial`: they are the beginning of a record, at the end of the file.
    """

    offset: int
    length: int
    reason: str
    partial: bool = False


@dataclass(frozen=True)
class Run:
    """Contiguous records from `offset` on: (n,) of the header's layout."""

    offset: int
    records: Records


class Steps:
    """Cuts the bytes that are fed to it into records.

    `offset`: of the first fed byte in the file.
    """

    def __init__(self, header: Header, offset: int) -> None:
        self._layout = header.layout
        self._size = header.layout.itemsize
        self._back, self._ahead = _NEAR_EVENT if self._layout == EVENT else _NEAR_CONNECTION
        # Bytes that must follow a record before it is judged, unless the file ends.
        self._margin = (_SEARCHED_RECORDS + _ROW_RECORDS) * self._size
        self._sec = header.start_sec  # the time of the last record
        self._rest = b""
        self._offset = offset  # of `_rest` in the file
        # Where bytes begin that are not records and reach up to `_rest`; None: in step.
        self._lost: int | None = None

    def feed(self, data: bytes) -> Iterator[Run | Fault]:
        """The runs and faults that `data` completes, in the order of the file.

        The last record waits for the next piece: it may be cut.
        """
        return self._cut(self._rest + data, final=False)

    def close(self) -> Iterator[Run | Fault]:
        """The runs and faults that remain at the end of the file."""
        yield from self._cut(self._rest, final=True)
        begin = self._offset if self._lost is None else self._lost
        length = self._offset + len(self._rest) - begin
        if 0 < length < self._size:
            yield Fault(
                begin,
                length,
                f"the last record is cut: {length} of {self._size} bytes are there",
                partial=True,
            )
        elif length:
            yield Fault(
                begin,
                length,
                f"{length:,} bytes up to the end are not records ({_IMPOSSIBLE})",
            )

    def _cut(self, data: bytes, final: bool) -> Iterator[Run | Fault]:
        """Cut `data`, which begins at `_offset`; bytes that are left over become `_rest`."""
        around = _Surroundings(self._layout, data, self._back, self._ahead)
        end = len(data) if final else len(data) - self._margin
        place, judged = 0, True
        while judged:
            records: Records = np.frombuffer(
                data, self._layout, (len(data) - place) // self._size, place
            )
            good = self._unquestioned(records) if self._lost is None else 0
            query = place + good * self._size
            judged = query < end
            if not judged or (good == len(records) and not final):
                kept = good if final else max(good - 1, 0)
                yield from self._run(place, records[:kept])
                place += kept * self._size
                break
            # The program that wrote squeezed files stopped at an error: they only end too early.
            earliest = query - self._size + 1 if good and self._layout == EVENT else query
            last = around.second(query - self._size) if good else self._sec
            found, judged = around.find(earliest, query, last, end)
            if found < query:
                good -= 1  # the last record is a cut one, and overlaps the next
            yield from self._run(place, records[:good])
            begin = self._offset + place + good * self._size if self._lost is None else self._lost
            self._lost = None if judged else begin
            place = found
            if judged:
                self._sec = around.second(found)
                if begin < self._offset + found:
                    yield self._fault(begin, found)
        self._rest = data[place:]
        self._offset += place

    def _run(self, place: int, records: Records) -> Iterator[Run]:
        """The run of `records`, if there are any; notes the time of the last one."""
        if len(records):
            self._sec = int(_seconds(records[-1:])[0])
            yield Run(self._offset + place, records)

    def _fault(self, begin: int, found: int) -> Fault:
        end = self._offset + found
        length = end - begin
        reason = f"{length:,} bytes are not records ({_IMPOSSIBLE}); in step again at byte {end}"
        return Fault(begin, length, reason)

    def _unquestioned(self, records: Records) -> int:
        """The number of first `records` that are possible and near in time to the one before."""
        done, last, rows = 0, self._sec, _SEARCHED_RECORDS
        while done < len(records):
            part = records[done : done + rows]
            seconds = _seconds(part)
            ahead = np.diff(seconds, prepend=last)
            fine = _can_be(part) & (ahead >= -self._back) & (ahead <= self._ahead)
            if not fine.all():
                return done + int(fine.argmin())
            done, last = done + len(part), seconds[-1]
            rows *= 8  # many faults cost no more than their records
        return done


class _Surroundings:
    """The bytes of `data` at which a record can begin; computed at the first search."""

    def __init__(self, layout: np.dtype[np.void], data: bytes, back: int, ahead: int) -> None:
        self._size, self._back, self._ahead, self._length = layout.itemsize, back, ahead, len(data)
        # One record at every byte: they overlap, and no byte is copied.
        self._all: Records = np.ndarray(
            (max(len(data) - self._size + 1, 0),), layout, data, strides=(1,)
        )
        self._possible: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._places: NDArray[np.intp] = np.zeros(0, np.intp)

    def second(self, place: int) -> int:
        """The time, in s, of the record at `place`."""
        return int(_seconds(self._all[place : place + 1])[0])

    def find(self, earliest: int, query: int, last: int, end: int) -> tuple[int, bool]:
        """Where the records continue after one that ends at `query` and has the time `last`.

        Returns (place, True); or (place, False) if they do not before `end`, and none can begin
        before `place`.  `earliest` is before `query` if the record before may be cut: the next one
        then overlaps it.
        """
        if len(self._possible) < len(self._all):
            self._possible = _can_be(self._all)
            self._places = np.flatnonzero(self._possible)
        step = query
        while query < end:
            first, after = np.searchsorted(
                self._places, (earliest, query + _SEARCHED_RECORDS * self._size)
            )
            if first == len(self._places):
                return max(query, len(self._all)), False
            if first == after:
                earliest = query = int(self._places[first])
            else:
                found = self._choose(self._places[first:after], step, last)
                if found is not None:
                    return found, True
                earliest = query = query + _SEARCHED_RECORDS * self._size
        return min(query, self._length), False

    def _choose(self, places: NDArray[np.intp], step: int, last: int) -> int | None:
        """The one of `places` at which records continue; None if each may be chance.

        It is the first place whose time is near `last`, or, of the places that overlap that one,
        the one with the longest row of records.  If no time is near, it is the place with the
        longest row.  The place in step (`step`, if it is among them) loses only to a longer row.
        """
        seconds, rows = _seconds(self._all[places]), self._rows(places)
        here = np.flatnonzero(places == step)
        near = np.flatnonzero(self._near(seconds - last))
        if len(near):
            rivals = near[places[near] < places[near[0]] + self._size]
            best, enough = rivals[rows[rivals].argmax()], True
        else:
            best = np.lexsort((np.abs(seconds - last), -rows))[0]
            enough = bool(rows[best] >= _FAR_ROW_RECORDS)
        if len(here):
            in_step = (places[best] - step) % self._size == 0
            # A single record elsewhere is chance if the next place in step can be a record.
            lone = rows[best] == 1 and bool((places == step + self._size).any())
            if in_step or not enough or lone or rows[here[0]] > rows[best]:
                return step
        return int(places[best]) if enough else None

    def _rows(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """(n,): the length of the row of records at each of `places`, each with a time near that of
        the one before; at most _ROW_RECORDS.

        Records with the same time as the one before do not count: bytes that repeat look like such
        records.
        """
        rows = np.ones(len(places), np.intp)
        alive, moments = np.arange(len(places)), _moments(self._all[places])
        for ahead in range(1, _ROW_RECORDS):
            following = places[alive] + ahead * self._size
            inside = following < len(self._all)
            alive, following = alive[inside], following[inside]
            following_moments = _moments(self._all[following])
            difference = following_moments - moments[alive]
            going_on = self._possible[following] & self._near(difference // _SECOND_US)
            alive, difference = alive[going_on], difference[going_on]
            moments[alive] = following_moments[going_on]
            rows[alive] += difference != 0
        return rows

    def _near(self, difference: Seconds) -> Bools:
        return (difference >= -self._back) & (difference <= self._ahead)


def _can_be(records: Records) -> Bools:
    """(n,): which of `records` are possible, each by itself."""
    if records.dtype == EVENT:
        fine: Bools = _TYPES[records["type"]] & (records["usec"] < _SECOND_US)
        return fine
    start, end = (records[f"{name}_sec"].astype(np.int64) for name in ("start", "end"))
    life: Bools = np.abs(end - start) <= _NEAR_CONNECTION[1]
    some_unknown = (start == 0) != (end == 0)
    told: Bools = (life | some_unknown) & (end + start > 0)
    return told & (records["start_usec"] < _SECOND_US) & (records["end_usec"] < _SECOND_US)


def _moments(records: Records) -> Seconds:
    """(n,): the time of each of `records`, us UTC, of the same event as in `_seconds`."""
    if records.dtype == EVENT:
        usec = records["usec"]
    else:
        usec = np.where(records["end_sec"] != 0, records["end_usec"], records["start_usec"])
    moments: Seconds = _seconds(records) * _SECOND_US + usec
    return moments


def _seconds(records: Records) -> Seconds:
    """(n,): the time of each of `records`, s UTC: of a connection its end, or its start if the end
    is unknown.
    """
    if records.dtype == EVENT:
        return records["sec"].astype(np.int64)
    return np.where(records["end_sec"] != 0, records["end_sec"], records["start_sec"]).astype(
        np.int64
    )
