"""The values of a field in rows: one for each row, or several (`ip`, `anyport`).  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import ends, uapi
from ctrecorder.columns import ADDRESSES, PORTS, Array, Source, Table, bits
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ends import Inside
from ctrecorder.times import SECOND
from ctrecorder.tops.coded import Coded, Mask, choose, code, coded, is_same
from ctrecorder.tops.fields import Field

Rows = Table | LazyTable
# Seconds by which local time is ahead of UTC at each of some seconds.
Offsets = Callable[[NDArray[np.int64]], NDArray[np.int64]]

# As in `ends.ends_of`: a host inside can have a public address itself.
_PRIVATE = Inside()
# Offsets of zones are multiples of it.
_QUARTER, _HOUR, _DAY = 900, 3600, 86_400
# Times further from each other than so many quarters of an hour are numbered by sorting.
_MOST_QUARTERS = 1 << 16


class Part(NamedTuple):
    """One value of each row.  `has`: which rows have it; None: all."""

    coded: Coded
    has: Mask | None = None


class _Sides(NamedTuple):
    """What decides about the ends of the rows."""

    source: Coded
    called: Coded
    answers: Coded
    source_in: Mask
    target_in: Mask

    @property
    def inbound(self) -> Mask:
        return self.target_in & ~self.source_in


class Values:
    """The values of the rows of a table.

    Nothing refers back to it: a cycle would keep the arrays of hundreds of blocks in memory, until
    Python searches for cycles (`cli.common` lets it do so seldom).

    `inside`: the addresses that are inside.  `offsets`: of local time, for hours and days.
    """

    def __init__(self, rows: Rows, inside: Inside, offsets: Offsets) -> None:
        self._rows, self._inside, self._offsets = rows, inside, offsets
        self._columns: dict[str, Coded] = {}
        self._sides: _Sides | None = None

    def of(self, field: Field) -> list[Part]:
        """The values of a field; no value is there twice in a row."""
        found = list(self._of(field.name))
        prefix = field.prefix(v6=self._rows.family == uapi.AF_INET6) if field.is_address else None
        if prefix is not None:
            found = [
                Part(Coded(one.coded.codes, networks(one.coded.entries, prefix)), one.has)
                for one in found
            ]
        return found if len(found) == 1 else _distinct(found)

    def _of(self, name: str) -> Iterator[Part]:
        if name in ("src", "dst"):
            yield self._address(f"orig_{name}")
        elif name == "ip":
            yield from map(self._address, ADDRESSES)
        elif name == "port":
            yield Part(self._column("orig_dport"), self._with_port("orig_dport"))
        elif name == "anyport":
            yield from (Part(self._column(each), self._with_port(each)) for each in PORTS)
        elif name == "proto":
            yield Part(self._column("l4proto"))
        elif name == "mark":
            yield Part(self._column("mark"))
        elif name == "zone":
            both, orig = self._rows["zone"], self._rows["orig_zone"]
            yield Part(code(np.where(both != 0, both, orig)))
        elif name in ("hour", "day"):
            yield self._time(name)
        else:
            yield self._side(name)

    def _column(self, name: str) -> Coded:
        if name not in self._columns:
            self._columns[name] = coded(self._rows, name)
        return self._columns[name]

    def _address(self, name: str) -> Part:
        known = self._known(name)
        return Part(self._column(name), None if known.all() else known)

    def _known(self, *names: str) -> Mask:
        wanted = np.uint32(bits(names))
        known: Mask = (self._rows["present"] & wanted) == wanted
        return known

    def _with_port(self, name: str) -> Mask:
        protocol = self._rows["l4proto"]
        is_icmp: Mask = (protocol == uapi.IPPROTO_ICMP) | (protocol == uapi.IPPROTO_ICMPV6)
        return self._known(name) & ~is_icmp

    def _time(self, name: str) -> Part:
        """The hour as its first second, or the local day as its first second in UTC's count."""
        sources = self._rows["start_source"]
        has = (sources == Source.KERNEL) | (sources == Source.RECEIPT)
        quarters = self._rows["start"] // (_QUARTER * SECOND)
        first, last = (int(quarters.min()), int(quarters.max())) if len(quarters) else (0, 0)
        if last - first < _MOST_QUARTERS:
            found = Coded(quarters - first, np.arange(first, last + 1, dtype=np.int64))
        else:
            found = code(quarters)
        seconds = found.entries.astype(np.int64) * _QUARTER
        local = seconds + self._offsets(seconds)
        begins = seconds - local % _HOUR if name == "hour" else local - local % _DAY
        return Part(Coded(found.codes, begins), has)

    def _side(self, name: str) -> Part:
        """The inside, public or remote end: what `ends.ends_of` says, without its columns of ports
        where addresses decide.
        """
        sides = self._sides = self._sides or self._decided()
        every = np.ones(len(self._rows), np.bool_)
        # The source as the other end sees it.
        translated = self._of_reply("reply_dst", "orig_src")
        # From inside to an inside address, and on to an outside one.
        sent_inside = sides.source_in & ~sides.target_in & self._contains(sides.called)
        choices = {
            "inside": [(sides.inbound, sides.answers), (every, sides.source)],
            "public": [(sides.inbound, sides.called), (every, translated)],
            "remote": [
                (sides.inbound, sides.source),
                (sent_inside, sides.answers),
                (every, sides.called),
            ],
        }
        found = choose(choices[name], len(self._rows))
        if name == "inside":
            return Part(found, sides.source_in | sides.target_in)
        one_inside = sides.source_in ^ sides.target_in
        if name == "remote":
            told = np.where(sides.inbound, self._known("orig_src"), self._known("orig_dst"))
            return Part(found, one_inside & (told | sent_inside))
        outside = ~_PRIVATE.contains(found.entries, self._rows.family)[found.codes]
        has = np.where(
            sides.inbound,
            ~is_same(sides.called, sides.answers),
            ~is_same(sides.source, translated),
        )
        has |= one_inside & outside
        rest = np.flatnonzero(~has)
        if len(rest):  # there a port alone can be translated
            part = Table(
                self._rows.family,
                len(rest),
                {each: self._rows[each][rest] for each in ends.COLUMNS},
            )
            has[rest] = ends.ends_of(part, self._inside).has_public
        return Part(found, has)

    def _decided(self) -> _Sides:
        source, called = self._column("orig_src"), self._column("orig_dst")
        answers = self._of_reply("reply_src", "orig_dst")
        return _Sides(source, called, answers, self._contains(source), self._contains(answers))

    def _contains(self, one: Coded) -> Mask:
        """(rows,): which values, addresses, are inside."""
        found: Mask = self._inside.contains(one.entries, self._rows.family)[one.codes]
        return found

    def _of_reply(self, name: str, instead: str) -> Coded:
        """A column of the reply tuple; where that was not recorded, the one without NAT."""
        known = self._known(name)
        if known.all():
            return self._column(name)
        return choose([(known, self._column(name)), (~known, self._column(instead))], len(known))


def networks(addresses: Array, prefix: int) -> Array:
    """Addresses as the first ones of their networks."""
    if addresses.dtype.kind != "S":
        return addresses & np.uint32(((1 << prefix) - 1) << (32 - prefix))
    mask = (((1 << prefix) - 1) << (128 - prefix)).to_bytes(16, "big")
    halves = np.ascontiguousarray(addresses).view(np.uint64).reshape(-1, 2)
    cut: Array = (halves & np.frombuffer(mask, np.uint64)).view("S16").reshape(-1)
    return cut


def _distinct(parts: list[Part]) -> list[Part]:
    """Without the values that an earlier part has in the same row, and without empty parts."""
    found: list[Part] = []
    for part in parts:
        has = np.ones(len(part.coded.codes), np.bool_) if part.has is None else part.has
        for before in found:
            same = is_same(part.coded, before.coded)
            has = has & ~(same if before.has is None else same & before.has)
        if has.any() or not found:
            found.append(Part(part.coded, has))
    return found
