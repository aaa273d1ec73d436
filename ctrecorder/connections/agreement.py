"""What two recorders know of a connection, and whether it can be one flow.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrecorder.columns import TUPLE, Array, Source, Table, bit
from ctrecorder.connections import flowkey
from ctrecorder.connections.merging import RANK
from ctrecorder.connections.open_flows import LATE_NS
from ctrecorder.connections.parts import Bools, Ints
from ctrecorder.times import SECOND

# The rounding of times, ns: none, then what ctsqueeze can have rounded to.  A time shows by itself
# how it was rounded: one of 1,000,000,000 times of the kernel is a whole second by chance, and is
# only compared with more tolerance then.
ROUNDING_NS = (1, 1_000, 1_000_000, SECOND)
KERNEL, EVENT, _BOUND = (int(RANK[each]) for each in (Source.KERNEL, Source.RECEIPT, Source.BOUND))
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

    @classmethod
    def of(cls, table: Table, connection_table: Ints) -> Rows:
        # The number of the connection table takes the place of the id.
        columns = {**table.select(_KEY).columns, "id": connection_table.astype(np.uint32)}
        order, first = flowkey.sort(Table(table.family, len(table), columns))
        number = np.empty(len(table), np.int64)
        number[order] = np.cumsum(first) - 1
        start, end = table["start"].astype(np.int64), table["end"].astype(np.int64)
        start_rank, end_rank = RANK[table["start_source"]], RANK[table["end_source"]]
        moment = np.where(start_rank > 0, start, end)
        alive = np.maximum(moment, np.where(end_rank >= EVENT, end, table["time"]))
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
        )

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
        self.moment[here] = np.minimum(self.moment[here], self.moment[there])
        self.alive[here] = np.maximum(self.alive[here], self.alive[there])
        self.rounded[here] = _rounding_of_both(self.start[here], self.end[here])
        told = self.has_id[there] & ~self.has_id[here]
        self.id[here[told]] = self.id[there[told]]
        self.has_id[here[told]] = True

    def agree(self, here: Ints, there: Ints, slack: int) -> Bools:
        """(pairs,): whether two rows of one key can be one flow, by their times.

        `slack`: ns, besides what was rounded.
        """
        agree: Bools = (self.start_rank[here] < KERNEL) | (self.start_rank[there] < KERNEL)
        most = slack + np.maximum(self.rounded[here], self.rounded[there])
        for one, other in ((here, there), (there, here)):
            recorded, rank = self.start_rank[other] >= EVENT, self.end_rank[other]
            agree &= ~recorded | (self.moment[one] >= self.start[other] - most)
            # An entry that has timed out is in no dump, and its DESTROY can come later.
            until = self.end[other] + np.where(rank == _BOUND, LATE_NS, most)
            agree &= (rank == 0) | (self.alive[one] <= until)
        return agree

    def distance(self, here: Ints, there: Ints) -> Ints:
        """(pairs,): the difference of those times that both rows have from events, ns."""
        total = np.zeros(len(here), np.int64)
        for times, rank in ((self.start, self.start_rank), (self.end, self.end_rank)):
            both = (rank[here] >= EVENT) & (rank[there] >= EVENT)
            total += np.where(both, np.abs(times[here] - times[there]), 0)
        return total


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
