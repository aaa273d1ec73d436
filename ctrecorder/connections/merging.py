"""The parts of each flow merged to one row.  Pure.

Times: a time of the kernel (KERNEL) wins over the time of an event (RECEIPT), and that over a
BOUND; but no start is later than the NEW.  Of status, mark, counters, TCP state, helper, labels and
master, the last value that was present is kept.
"""

from __future__ import annotations

import numpy as np

from ctrecorder.columns import MASTER, Array, Source, Table, bit
from ctrecorder.connections.grouping import SKEW_NS, Flows
from ctrecorder.connections.parts import VALUES, Bools, Ints, Parts, is_ahead
from ctrecorder.times import END

# Columns of a flow that depend on all of its parts; the others are those of the last part.
_OF_ALL_PARTS = frozenset(("seen", "time", "start", "start_source", "present"))
RANK = np.zeros(256, np.int64)  # of a Source: the greatest is the best
RANK[[Source.KERNEL, Source.RECEIPT, Source.BOUND]] = 3, 2, 1
_ROW_BITS = 40  # of a number that is a rank, then a row
# Columns that are taken from another row where the last one does not have them.  The rows of one
# recording have one id; of two recordings, one can lack it.
_FILLED = ("id", *VALUES)


def open_flows(parts: Parts, flows: Flows) -> Parts:
    """The flows that stay open."""
    ended = _has_ended(parts, flows)
    chosen = np.flatnonzero(~(flows.is_old_end | flows.is_closed | ended))
    return _merge(parts, flows, chosen)[1]


def ended_flows(parts: Parts, flows: Flows) -> Table:
    """The flows that ended, each with its end."""
    ended = _has_ended(parts, flows)
    chosen = np.flatnonzero((flows.is_closed | ended) & ~flows.is_old_end)
    chosen, merged = _merge(parts, flows, chosen)
    table = merged.table
    # The DESTROY was lost: the flow ended at or before the start of the next one.
    bound = ~ended[chosen] & (table["end_source"] == Source.UNKNOWN)
    return with_bound(table, bound, flows.closed_at[chosen])


def with_bound(table: Table, where: Bools, moment: Ints | int, of: str = "end") -> Table:
    """`table` with `moment`, ns, as a BOUND in the rows `where`; `of`: "start" or "end"."""
    if not where.any():
        return table
    source = f"{of}_source"
    moments = np.where(where, moment, table[of])
    sources = np.where(where, np.uint8(Source.BOUND), table[source])
    return Table(table.family, len(table), {**table.columns, of: moments, source: sources})


def _ends_in_order(flows: Flows) -> Ints:
    """(flows,): where each flow ends in `flows.order`."""
    return np.append(flows.at[1:], len(flows.order))


def _has_ended(parts: Parts, flows: Flows) -> Bools:
    """(flows,): whether the last part is an end."""
    ended: Bools = parts.ended[flows.order[_ends_in_order(flows) - 1]]
    return ended


def _merge(parts: Parts, flows: Flows, chosen: Ints) -> tuple[Ints, Parts]:
    """The `chosen` flows in the order of their last parts, and each flow as one part.

    In that order, the columns are read from front to back.
    """
    table = parts.table
    ends = _ends_in_order(flows)
    flow_of_part = np.full(len(table), -1, np.int64)
    flow_of_part[flows.order[ends[chosen] - 1]] = chosen
    chosen = flow_of_part[flow_of_part >= 0]
    starts, stops = flows.at[chosen], ends[chosen]
    lengths = stops - starts
    last = flows.order[stops - 1]
    # The parts of these flows, flow after flow; flow k begins at offsets[k].
    offsets = np.cumsum(lengths) - lengths
    rows = flows.order[np.arange(int(lengths.sum())) + np.repeat(starts - offsets, lengths)]
    if len(rows) > len(chosen):
        best = _best_start(table, rows, table["start_source"][rows], offsets, lengths)
        merged = join(table, rows, offsets, rows[best])
        merged = _with_possible_starts(merged, parts.last_time[rows], best, offsets)
    else:
        merged = table.take(last)
    return chosen, Parts(
        merged, parts.last_time[last], parts.row[last], parts.exact[last], parts.ended[last]
    )


def _with_possible_starts(merged: Table, times: Ints, best: Ints, offsets: Ints) -> Table:
    """`merged` with a BOUND for each start that is much later than an event that came after it.

    The clock was set back meanwhile: the flow began before that event, and it is not known when.
    `times`: of the rows of the flows, flow after flow, ns.  `best`, `offsets`: (flows,) the row
    with the start, and the first row.
    """
    ends = np.append(offsets[1:], len(times))
    behind = np.arange(len(times)) > np.repeat(best, ends - offsets)
    least = np.minimum.reduceat(np.where(behind, times, END), offsets)
    return with_bound(merged, is_ahead(merged["start"], least), least, of="start")


def join(table: Table, rows: Ints, offsets: Ints, best: Ints) -> Table:
    """Rows of `table` as flows, one row each: flow k has rows[offsets[k]:offsets[k + 1]].

    Its columns are those of its last row, with what the module's docstring states of the others.
    `best`: (flows,) the row with its start.
    """
    last = rows[np.append(offsets[1:], len(rows)) - 1]
    columns: dict[str, Array] = {
        name: table[name].take(last) for name in table.columns if name not in _OF_ALL_PARTS
    }
    present = table["present"][rows]
    columns["seen"] = np.bitwise_or.reduceat(table["seen"][rows], offsets)
    columns["time"] = np.maximum.reduceat(table["time"][rows], offsets)
    columns["start"] = table["start"][best]
    columns["start_source"] = table["start_source"][best]
    columns["present"] = np.bitwise_or.reduceat(present, offsets)
    _fill_in(table, columns, rows, present, offsets)
    return Table(table.family, len(offsets), columns)


def _best_start(table: Table, rows: Ints, source: Array, offsets: Ints, lengths: Ints) -> Ints:
    """For the flows of `lengths` rows that begin at `offsets`: the number in `rows` of the best.

    Of several starts with one source the first is the best.  A KERNEL start that is later than the
    NEW before it belongs to another flow, whose NEW counted as a repeat; it is not used.
    `source`: of `rows`, which are rows of `table`.
    """
    best = _best_rank(RANK[source], offsets)
    # Most flows begin with their NEW.  Only the others, and the late starts, need all rows.
    exact = np.flatnonzero((source[best] == Source.KERNEL) & (best > offsets))
    start, first = table["start"][rows[best[exact]]], offsets[exact]
    late = start > table["start"][rows[first]] + SKEW_NS
    some = exact[late | (source[first] != Source.RECEIPT)]
    if len(some):
        at = np.cumsum(lengths[some]) - lengths[some]
        inside = np.arange(int(lengths[some].sum())) + np.repeat(offsets[some] - at, lengths[some])
        ranks = _ranks(table["start"][rows[inside]], source[inside], at, lengths[some])
        best[some] = inside[_best_rank(ranks, at)]
    return best


def _best_rank(rank: Ints, offsets: Ints) -> Ints:
    """For the flows that begin at `offsets`: the first row with the greatest rank."""
    reverse = len(rank) - np.arange(len(rank))
    best = np.maximum.reduceat(rank << _ROW_BITS | reverse, offsets)
    row: Ints = len(rank) - (best & ((1 << _ROW_BITS) - 1))
    return row


def _ranks(start: Array, source: Array, offsets: Ints, lengths: Ints) -> Ints:
    """(rows,): the rank of each start; 0 for a KERNEL start that does not count."""
    numbers, rank = np.arange(len(source)), RANK[source]
    is_new = source == Source.RECEIPT
    first_new = np.minimum.reduceat(np.where(is_new, numbers, len(numbers)), offsets)
    new = np.repeat(first_new, lengths)
    after = np.flatnonzero((source == Source.KERNEL) & (new < numbers))
    rank[after[start[after] > start[new[after]] + SKEW_NS]] = 0
    return rank


def _fill_in(
    table: Table, columns: dict[str, Array], rows: Ints, present: Array, offsets: Ints
) -> None:
    """Complete what is not present in the last part of a flow from an earlier part."""
    last_present = np.append(present[offsets[1:] - 1], present[-1:])
    missing = columns["present"] & ~last_present
    for name in _FILLED:
        lacks = np.flatnonzero(missing & bit(name))
        if name in table and len(lacks):
            has_value = np.where((present & bit(name)) != 0, np.arange(len(rows)), 0)
            values = columns[name].copy()
            values[lacks] = table[name][rows[np.maximum.reduceat(has_value, offsets)[lacks]]]
            columns[name] = values
    if "master_l4proto" in table:
        has_master = np.where(table["master_l4proto"][rows] != 0, np.arange(len(rows)), -1)
        last = np.maximum.reduceat(has_master, offsets)
        for name in MASTER:
            columns[name] = np.where(
                last >= 0, table[name][rows[last]], np.zeros((), table[name].dtype)
            )
