"""Lists as CSV: address or prefix, zone, mark, from, until, name."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from ctrecorder.names.entry import Addresses, Entry, Line, checked_name, network
from ctrecorder.names.written import Times
from ctrecorder.times import BEGIN, DAY, END

COLUMNS = ("address", "prefix", "zone", "mark", "from", "until", "name")
# A day can be 23 hours long; no other written time is as long.
_A_DAY = DAY // 2


def recognises(line: str) -> bool:
    """Whether it is a header: the names of columns, in any order; others are ignored."""
    try:
        names = {name.strip().lower() for name in _split(line, _separator(line))}
    except ValueError:
        return False
    return "name" in names and bool(names & {"address", "prefix"})


class Rows:
    """A file begins with its header; its values are separated by commas, semicolons or tabs.

    An empty value is not known.
    """

    def __init__(self, addresses: Addresses, times: Times) -> None:
        self._addresses, self._times = addresses, times
        self._separator = ","
        self._file = -1
        self._width = 0
        self._at: dict[str, int] = {}

    def feed(self, line: Line) -> Sequence[Entry]:
        """Raises ValueError: the reason why a line cannot be read."""
        if not line.text or line.text.isspace():
            return ()
        if line.file != self._file:
            self._header(line)
            return ()
        values = _split(line.text, self._separator)
        if len(values) != self._width:
            raise ValueError(f"it has {len(values)} values for {self._width} columns")
        address, prefix, zone, mark, since, until, name = (
            values[self._at[column]].strip() if column in self._at else "" for column in COLUMNS
        )
        held = network(address or prefix)
        if not self._addresses.touch(held):
            return ()
        entry = Entry(
            held,
            self._times.spans(since)[0][0] if since else BEGIN,
            self._until(until) if until else END,
            checked_name(name),
            line,
            _number(zone),
            _number(mark),
        )
        return (entry,)

    def finish(self) -> Sequence[Entry]:
        """Nothing is open."""
        return ()

    def _header(self, line: Line) -> None:
        self._file, self._separator = line.file, _separator(line.text)
        columns = [one.strip().lower() for one in _split(line.text, self._separator)]
        self._width, self._at = len(columns), {name: at for at, name in enumerate(columns)}
        if not recognises(line.text):
            raise ValueError(f"the first line does not name columns of {', '.join(COLUMNS)}")

    def _until(self, text: str) -> int:
        """A date: until its end; a time: until then."""
        begin, end = self._times.spans(text)[-1]
        return end if end - begin > _A_DAY else begin


def _separator(line: str) -> str:
    return max(",;\t", key=line.count)


def _split(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split(separator)
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
