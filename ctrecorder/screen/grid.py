"""Rows of texts as aligned lines that fit a width.  Pure.

The columns inside, public and remote, side by side, are joined by arrows that point from who began
the connection; where there is no NAT, the arrow runs through the column of the public end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

from ctrecorder import uapi
from ctrecorder.screen.colour import EVENTS, Paint
from ctrecorder.screen.fields import Field
from ctrecorder.screen.layout import Signs, shorten, widths

ENDS = ("inside", "public", "remote")
# The longest ends: 255.255.255.255:65535 and [8 groups of an IPv6 address]:65535.
_LONGEST = {uapi.AF_INET: 21, uapi.AF_INET6: 47}
# A later row can need more than the rows that the widths were made for.
_LEAST = {"proto": 4, "ev": 2, "duration": 5}

Cells = dict[str, list[str]]


class Grid:
    """Lines of the columns `fields` in `width` columns; None: as wide as the rows need.

    `time_width`: what a time takes, with the letter of its source.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        width: int | None,
        signs: Signs,
        paint: Paint,
        time_width: int,
    ) -> None:
        self._fields, self._width, self._signs, self._paint = fields, width, signs, paint
        self._least = {**_LEAST, "time": time_width}
        names = [one.name for one in fields]
        self._first_end = next(
            (at for at in range(len(names)) if tuple(names[at : at + 3]) == ENDS), None
        )
        self._widths: dict[str, int] = {}
        self._families: set[int] = set()
        self._short = False  # arrows of one column

    def fit(self, cells: Cells, families: set[int]) -> bool:
        """Choose the widths for these rows, unless those of earlier rows do; whether they changed.

        They change for another family, and for the first text of a column that was not there: the
        public end, zone and mark.
        """
        empty = {
            one.name
            for one in self._fields
            if (one.optional or (one.name == "public" and self._first_end is not None))
            and not self._widths.get(one.name)
        }
        needed = {name for name in empty if any(cells[name])}
        if self._widths and families <= self._families and not needed:
            return False
        self._families |= families
        natural = {
            one.name: max(
                max(map(len, cells[one.name]), default=0),
                len(one.title),
                self._least.get(one.name, 0),
            )
            for one in self._fields
        }
        natural |= dict.fromkeys(empty - needed, 0)
        before, self._widths = self._widths, self._shares(natural)
        return self._widths != before

    def head(self) -> str:
        """The titles."""
        cells = {one.name: [one.title] if self._widths[one.name] else [""] for one in self._fields}
        return self._paint("head", self._lines(cells, [False], Paint(on=False))[0])

    def rows(self, cells: Cells, inbound: Sequence[bool]) -> list[str]:
        """A line for each row; `inbound`: the remote end began it."""
        return self._lines(cells, inbound, self._paint)

    def _lines(self, cells: Cells, inbound: Sequence[bool], paint: Paint) -> list[str]:
        columns = []
        number = 0
        while number < len(self._fields):
            if number == self._first_end:
                columns.append(self._joined(cells, inbound, paint))
                number += 3
                continue
            one = self._fields[number]
            if self._widths[one.name] or not one.optional:
                columns.append(self._column(one, cells, paint))
            number += 1
        return [" ".join(row).rstrip() for row in zip(*columns, strict=True)]

    def _column(self, one: Field, cells: Cells, paint: Paint) -> list[str]:
        """A column, aligned and painted."""
        width, cut = self._widths[one.name], self._signs.cut
        texts = cells[one.name]
        if self._width is not None and max(map(len, texts), default=0) > width:
            texts = [shorten(text, width, cut) if len(text) > width else text for text in texts]
        padded = list(map(str.rjust if one.right else str.ljust, texts, repeat(width)))
        if paint.on:
            for row, role in _roles(one.name, texts):
                padded[row] = paint(role, padded[row])
        return padded

    def _joined(self, cells: Cells, inbound: Sequence[bool], paint: Paint) -> list[str]:
        """The three ends, with arrows between them."""
        at = self._first_end or 0
        inside, public, remote = (
            self._column(one, cells, paint) for one in self._fields[at : at + 3]
        )
        through = [self._arrow(back=back, through=True) for back in (False, True)]
        plain = [self._arrow(back=back, through=False) for back in (False, True)]
        through = [paint("faint", arrow) for arrow in through]
        plain = [paint("faint", arrow) for arrow in plain]
        has_public = [bool(text) for text in cells["public"]]
        return [
            f"{first}{plain[back]}{middle}{plain[back]}{last}"
            if translated
            else f"{first}{through[back]}{last}"
            for first, middle, last, back, translated in zip(
                inside, public, remote, inbound, has_public, strict=True
            )
        ]

    def _arrow(self, *, back: bool, through: bool) -> str:
        """An arrow; `through`: one that takes the place of the public end too."""
        arrow = (self._signs.back if back else self._signs.out)[self._short]
        width = self._widths["public"]
        if not through or not width:
            return arrow
        more = self._signs.line * (width + len(arrow))
        if self._short:
            return arrow + more if back else more + arrow
        return arrow[:-1] + more + " " if back else " " + more + arrow[1:]

    def _shares(self, natural: dict[str, int]) -> dict[str, int]:
        """The width of each column: addresses share what the other columns leave."""
        names = [one.name for one in self._fields]
        flexible = [one.name for one in self._fields if one.is_address and natural[one.name]]
        longest = max((_LONGEST[family] for family in self._families), default=0)
        if self._width is None or not flexible:
            return {name: max(natural[name], longest * (name in flexible)) for name in names}
        needed = sum(natural[name] for name in flexible)
        fixed = sum(natural.values()) - needed
        self._short = False
        room = self._width - fixed - self._between(natural)
        if needed > room:
            self._short = True
            room = self._width - fixed - self._between(natural)
        found = widths([natural[name] for name in flexible], room)
        for number, width in enumerate(found):
            spare = max(room - sum(found), 0) // (len(found) - number)
            found[number] += min(max(longest - width, 0), spare)
        return natural | dict(zip(flexible, found, strict=True))

    def _between(self, natural: dict[str, int]) -> int:
        """The width of what stands between the columns."""
        shown = sum(bool(natural[one.name]) or not one.optional for one in self._fields)
        if self._first_end is None:
            return shown - 1
        arrows = 2 if natural["public"] else 1
        return shown - 3 + arrows * len(self._signs.out[self._short])


def _roles(name: str, texts: list[str]) -> Iterator[tuple[int, str]]:
    """The rows of a column that have a colour, and which.  Most have none."""
    if name in ("ev", "event"):
        for row, text in enumerate(texts):
            yield row, EVENTS.get(text[:1], "")
    elif name == "public":
        yield from ((row, "nat") for row, text in enumerate(texts) if text)
    elif name == "duration":
        yield from ((row, "start") for row, text in enumerate(texts) if text == "open?")
    else:
        yield from ((row, "faint") for row, text in enumerate(texts) if text[:1] == "(")
