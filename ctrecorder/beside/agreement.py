"""What two recorders know of a connection: whether it can be one flow, and with how many.  Pure.

The flows of a key follow each other, so the rows of one side that a row can be one flow with are
neighbours.  In doubt there are too many of them, never too few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrecorder.columns import TUPLE, Array, Source, Table, bit
from ctrecorder.connections import flowkey
from ctrecorder.connections.merging import RANK
from ctrecorder.connections.parts import DESTROY, NEW, Bools, Ints
from ctrecorder.times import SECOND

# The rounding of times, ns: none, then what ctsqueeze can have rounded to.  A time shows by itself
# how it was rounded: one of 1,000,000,000 times of the kernel is a whole second by chance, and is
# only compared with more tolerance then.
ROUNDING_NS = (1, 1_000, 1_000_000, SECOND)
KERNEL, EVENT = (int(RANK[each]) for each in (Source.KERNEL, Source.RECEIPT))
_NEVER = 1 << 62
_KEY = ("zone", "orig_zone", "reply_zone", *TUPLE)  # without the id


@dataclass
class Rows:
    """What is known of rows; (rows,) each, times in ns.

    key: a number for each connection table, tuple and zones.
    id, has_id: of the kernel.
    start, start_rank: `RANK` of its source.
    end, end_rank: likewise.
    moment: the first time at which the flow is known to have been alive.
    alive: the last such time.
    rounded: how its times were rounded.
    seen: of which events it consists.
    began, ended: when its recording was made.
    """

    key: Ints
    id: Array
    has_id: Bools
    start: Ints
    start_rank: Ints
    end: Ints
    end_rank: Ints
    moment: Ints
    alive: Ints
    rounded: Ints
    seen: Array
    began: Ints
    ended: Ints

    @classmethod
    def of(cls, table: Table, connection_table: Ints, spans: Ints) -> Rows:
        # The number of the connection table takes the place of the id.
        columns = {**table.select(_KEY).columns, "id": connection_table.astype(np.uint32)}
        order, first = flowkey.sort(Table(table.family, len(table), columns))
        number = np.empty(len(table), np.int64)
        number[order] = np.cumsum(first) - 1
        start, end = table["start"].astype(np.int64), table["end"].astype(np.int64)
        start_rank, end_rank = RANK[table["start_source"]], RANK[table["end_source"]]
        # Squeezing rounds a start down, an end and a time up.
        moment = np.where(start_rank > 0, np.where(start_rank < EVENT, latest(start), start), end)
        time = table["time"].astype(np.int64)
        last = np.where(end_rank < EVENT, time - _rounding(time) + 1, end)
        alive = np.maximum(moment, last)
        has_id = (table["present"] & np.uint32(bit("id"))) != 0
        return cls(
            number,
            np.array(table["id"]),
            has_id,
            start,
            start_rank,
            end,
            end_rank,
            moment,
            alive,
            _rounding_of_both(start, end),
            np.array(table["seen"]),
            spans[:, 0],
            spans[:, 1],
        )

    @property
    def until(self) -> Ints:
        """(rows,): the end; of a flow that is open it is later than all others."""
        until: Ints = np.where(self.end_rank > 0, self.end, np.iinfo(np.int64).max)
        return until

    @property
    def key_and_id(self) -> Ints:
        """(rows,): a number for each `key` and id."""
        order = np.lexsort((self.id, self.key))
        changes = (np.diff(self.key[order]) != 0) | (self.id[order][1:] != self.id[order][:-1])
        number = np.zeros(len(order), np.int64)
        number[order[1:]] = np.cumsum(changes)
        return number

    def learn(self, here: Ints, there: Ints) -> None:
        """The rows `here` are one flow with the rows `there`: they get what is better there."""
        start, again = self.start_rank[here], self.start_rank[there]
        earlier = latest(self.start[there]) < latest(self.start[here])
        better = (again > start) | ((again == start) & earlier)
        self.start[here[better]] = self.start[there[better]]
        self.start_rank[here[better]] = again[better]
        end, again = self.end_rank[here], self.end_rank[there]
        better = (again > end) | ((again == end) & (self.end[there] < self.end[here]))
        self.end[here[better]] = self.end[there[better]]
        self.end_rank[here[better]] = again[better]
        # An event that was received later, or was rounded more, is no proof of life.
        first = np.minimum(self.moment[here], self.moment[there])
        has_start = self.start_rank[here] >= EVENT
        self.moment[here] = np.where(has_start, self.start[here], first)
        last = np.maximum(self.alive[here], self.alive[there])
        has_end = self.end_rank[here] >= EVENT
        self.alive[here] = np.where(has_end, self.end[here], last)
        self.rounded[here] = _rounding_of_both(self.start[here], self.end[here])
        told = self.has_id[there] & ~self.has_id[here]
        self.id[here[told]] = self.id[there[told]]
        self.has_id[here[told]] = True

    def agree(self, here: Ints, there: Ints, slack: int) -> Bools:
        """(pairs,): whether two rows of one key can be one flow, by their ids and times.

        `slack`: ns, besides what was rounded.
        """
        agree = self.may_be_one(here, there)
        most = slack + np.maximum(self.rounded[here], self.rounded[there])
        for one, other in ((here, there), (there, here)):
            recorded = self.start_rank[other] >= EVENT
            agree &= ~recorded | (self.moment[one] >= self.start[other] - most)
        return agree & self.lived_together(here, there, slack)

    def may_be_one(self, here: Ints, there: Ints) -> Bools:
        """(pairs,): whether neither the ids, nor two starts of the kernel, nor events that two
        recorders cannot both have heard tell two rows apart.
        """
        apart: Bools = (self.start_rank[here] == KERNEL) & (self.start_rank[there] == KERNEL)
        heard = (self.seen[here] & self.seen[there] & (NEW | DESTROY)) != 0
        earlier, later = self.ended[here] < self.began[there], self.ended[there] < self.began[here]
        apart |= heard & (earlier | later)
        both = self.has_id[here] & self.has_id[there]
        one: Bools = ~apart & (~both | (self.id[here] == self.id[there]))
        return one

    def lived_together(self, here: Ints, there: Ints, slack: int) -> Bools:
        """(pairs,): whether no row lived on when the other one had ended; `slack` as above."""
        most = slack + np.maximum(self.rounded[here], self.rounded[there])
        together = np.ones(len(here), np.bool_)
        for one, other in ((here, there), (there, here)):
            ended = self.end_rank[other] > 0
            together &= ~ended | (self.alive[one] <= self.end[other] + most)
        return together


@dataclass
class Spans:
    """The rows of one side in the order of key and time; (rows,) each, times in ns.

    row: its number.
    first, last: it was certainly alive between them.
    least, most: it was certainly not alive outside of them.
    """

    row: Ints
    first: Ints
    last: Ints
    least: Ints
    most: Ints

    @classmethod
    def of(cls, rows: Rows, number: Ints, slack: int) -> Spans:
        """`number`: of the rows; `slack`: ns, that times of two sides can differ by."""
        key = rows.key
        number = number[np.lexsort((rows.alive[number], rows.moment[number], key[number]))]
        first, last = rows.moment[number], rows.alive[number]
        same = key[number[1:]] == key[number[:-1]]
        # A flow whose start was not recorded began after the flow before it ended.
        least: Ints = np.full_like(first, -_NEVER)
        most: Ints = np.full_like(last, _NEVER)
        least[1:][same] = last[:-1][same]
        most[:-1][same] = first[1:][same]
        has_start, has_end = rows.start_rank[number] >= EVENT, rows.end_rank[number] > 0
        least = np.where(has_start, rows.start[number], np.minimum(least, first))
        most = np.where(has_end, rows.end[number], np.maximum(most, last))
        rounded = rows.rounded[number]
        return cls(
            number,
            first + rounded,
            last - rounded,
            least - slack - rounded,
            most + slack + rounded,
        )

    @property
    def times(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self.first, self.last, self.least, self.most


@dataclass
class Places:
    """`Spans` of one side, with places in the order of key and time instead of times.

    first, last, least, most: (rows,) rising from row to row.
    id: (rows,) a number for each key and id; -1: the row has no id.
    """

    first: Ints
    last: Ints
    least: Ints
    most: Ints
    id: Ints

    @classmethod
    def of_both(cls, rows: Rows, mine: Spans, theirs: Spans) -> tuple[Places, Places]:
        """The places of two sides."""
        sides = mine, theirs
        times = [each for side in sides for each in side.times]
        moments, place = np.unique(np.concatenate(times), return_inverse=True)
        key = np.concatenate([np.tile(rows.key[side.row], len(side.times)) for side in sides])
        place = key * len(moments) + place.reshape(-1)
        ids = np.where(rows.has_id, rows.key_and_id, -1)
        parts = np.split(place, np.cumsum([len(each) for each in times])[:-1])
        half = len(mine.times)
        return cls._rising(parts[:half], ids[mine.row]), cls._rising(parts[half:], ids[theirs.row])

    @classmethod
    def _rising(cls, places: list[Ints], number: Ints) -> Places:
        """Where rows overlap, each gets less certain."""
        first, last, least, most = places
        return cls(
            np.maximum.accumulate(first),
            np.minimum.accumulate(last[::-1])[::-1],
            np.minimum.accumulate(least[::-1])[::-1],
            np.maximum.accumulate(most),
            number,
        )

    def only(self, other: Places) -> Ints:
        """(rows,): the one row of the other side that a row can be one flow with; -1: none or
        several.
        """
        low = np.maximum(
            np.searchsorted(other.most, self.last, "left"),
            np.searchsorted(other.first, self.least, "left"),
        )
        high = np.minimum(
            np.searchsorted(other.least, self.first, "right"),
            np.searchsorted(other.last, self.most, "right"),
        )
        high = np.maximum(low, high)
        rows = len(other.id) + 1
        # Of the rows in between: those without an id, and those with the same id.
        without = np.flatnonzero(other.id < 0)
        begin, end = np.searchsorted(without, low), np.searchsorted(without, high)
        place = other.id * rows + np.arange(rows - 1)
        order = np.argsort(place)
        same = np.searchsorted(place[order], self.id * rows + low)
        same_end = np.searchsorted(place[order], self.id * rows + high)
        has_id = self.id >= 0
        count = np.where(has_id, end - begin + same_end - same, high - low)
        found = np.where(same_end > same, np.append(order, -1)[same], np.append(without, -1)[begin])
        only: Ints = np.where(count == 1, np.where(has_id, found, low), -1)
        return only


def latest(start: Ints) -> Ints:
    """(rows,): the latest time that was rounded to `start`, ns.

    Receipts are late, so the earliest is the best; of one time that was rounded in two ways, that
    which was rounded less.
    """
    latest: Ints = start + _rounding(start) - 1
    return latest


def _rounding_of_both(start: Ints, end: Ints) -> Ints:
    """(rows,): how the times of a row were rounded, ns.  A time that is not known is 0."""
    both: Ints = np.maximum(
        np.where(start == 0, 1, _rounding(start)), np.where(end == 0, 1, _rounding(end))
    )
    return both


def _rounding(times: Ints) -> Ints:
    """(rows,): how a time was rounded, ns."""
    found: Ints = np.full(len(times), ROUNDING_NS[0])
    for unit in ROUNDING_NS[1:]:
        found[times % unit == 0] = unit
    return found
