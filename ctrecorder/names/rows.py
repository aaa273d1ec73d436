"""Lists as CSV: address or prefix, zone, mark, from, until, name."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from ctrecorder.moments.moment import Zones
from ctrecorder.moments.reader import read
from ctrecorder.names.entry import Entry, Line, checked_name, network
from ctrecorder.times import BEGIN, DAY, END

COLUMNS = ("address", "prefix", "zone", "mark", "from", "until", "name")
# A day can be 23 hours long; no other written time is as long.
_A_DAY = DAY // 2


def recognises(line: str) -> bool:
    """Whether it is a header: the names of columns, in any order; others are ignored."""
    names = {name.strip().lower() for name in _split(line, _separator(line))}
    return "name" in names and bool(names & {"address", "prefix"})


class Rows:
    """A file begins with its header; its values are separated by commas, semicolons or tabs.

    An empty value is not known.  `now`, `zones`: as in `moments.reader.read`.
    """

    def __init__(self, now: int, zones: Zones) -> None:
        self._now, self._zones = now, zones
        self._columns: list[str] = []
        self._separator = ","
        self._file = -1

    def feed(self, line: Line) -> Iterator[Entry]:
        """Raises ValueError, UsageError: the reason why a line cannot be read."""
        if not line.text.strip():
            return
        if line.file != self._file:
            self._separator, self._file = _separator(line.text), line.file
            self._columns = [one.strip().lower() for one in _split(line.text, self._separator)]
            if not recognises(line.text):
                raise ValueError(f"its first line does not name columns of {', '.join(COLUMNS)}")
            return
        values = _split(line.text, self._separator)
        if len(values) != len(self._columns):
            raise ValueError(f"it has {len(values)} values for {len(self._columns)} columns")
        row = {name: value.strip() for name, value in zip(self._columns, values, strict=True)}
        yield Entry(
            network(row.get("address") or row.get("prefix") or ""),
            self._since(row.get("from", "")),
            self._until(row.get("until", "")),
            checked_name(row["name"]),
            line,
            _number(row.get("zone", "")),
            _number(row.get("mark", "")),
        )

    def finish(self) -> Iterator[Entry]:
        """Nothing is open."""
        yield from ()

    def _since(self, text: str) -> int:
        return self._spans(text)[0][0] if text else BEGIN

    def _until(self, text: str) -> int:
        """A date: until its end; a time: until then."""
        if not text:
            return END
        begin, end = self._spans(text)[-1]
        return end if end - begin > _A_DAY else begin

    def _spans(self, text: str) -> tuple[tuple[int, int], ...]:
        readings = read(text, self._now, self._zones).readings
        if len(readings) > 1:
            raise ValueError(f"the time '{text}' can be read in several ways")
        if not readings[0].spans:
            raise ValueError(f"the time '{text}' names no zone")
        return readings[0].spans


def _separator(line: str) -> str:
    return max(",;\t", key=line.count)


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error as error:
        raise ValueError(f"its quotes are not closed: {error}") from None


def _number(text: str) -> int | None:
    """A zone or a mark: decimal, or 0x and hexadecimal digits; None: empty."""
    if not text:
        return None
    try:
        number = int(text, 16 if text[:2].lower() == "0x" else 10)
    except ValueError:
        number = -1
    if not text.isascii() or not 0 <= number < 2**32:
        raise ValueError(f"'{text}' is no zone or mark")
    return number
