"""List connections: events paired, and connections of squeezed segments, by start or by end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder import times
from ctrecorder.beside.twins import Twins
from ctrecorder.columns import Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.ctlog.predicate import Query
from ctrecorder.order.batches import Batch, SortedRows, batches_of
from ctrecorder.order.external_sort import Sorter
from ctrecorder.pairs.pairers import Losses
from ctrecorder.pairs.runs import Runs
from ctrecorder.pairs.whole import WholeBlocks
from ctrecorder.query.events import is_event_time
from ctrecorder.query.open import Archive
from ctrecorder.query.paired import Counting, Reading, pair
from ctrecorder.spans import Span

# Added to a time, the sum is later than all times of 32-bit seconds.
_AFTER_ALL_ENDS_NS = 1 << 62


def list_connections(
    archive: Archive,
    names: Iterable[str],
    *,
    by_end: bool = False,
    losses: Losses | None = None,
    window: Span | None = None,
    jobs: int = 1,
) -> Iterator[Batch]:
    """The connections that match the archive's query, with at least columns `names`, by start.

    `by_end`: by end instead, then those without a known end, as the C ctrecorder lists them.

    Pairing begins with the first segment that overlaps the window: each begins with a dump of the
    table.  If the query is narrow, pairing continues after the window until all wanted connections
    have ended.  Connections of raw segments are returned after all reading: an older connection may
    still be open.  So are all connections where recorders ran side by side: a flow that several of
    them recorded is one connection.

    `losses`: gets, by the pairing key of each recording, what its rows prove about silent loss; ask
    when all batches were taken.

    `window`: only connections that can have existed then are wanted, ns.  Blocks of others are not
    read, if no other row could join them.

    `jobs`: the processes that read segments.
    """
    key = _end_times if by_end else _start_times
    names = dict.fromkeys((*names, *archive.query.of_connections().columns_needed()))
    losses = {} if losses is None else losses
    runs = _runs(archive)
    with Sorter(key) as sorter:
        if runs.has_twins:
            for tables in _join_twins(archive, names, runs, losses, jobs):
                if by_end:
                    for table in tables:
                        sorter.add(table)
                elif tables:
                    yield _batch(tables, key)
        else:
            wanted = archive.query.of_connections()
            reading = Reading(archive, names, window)
            for before in pair(
                archive, runs, reading, losses, lambda _, one: _add(sorter, one, wanted), jobs
            ):
                if not by_end:
                    for tables in sorter.ready(before):
                        yield Batch(tables, None)
        for tables in sorter.ready(times.END):
            yield _batch(tables, key)


def count_connections(
    archive: Archive,
    names: Iterable[str],
    add: Callable[[Table | LazyTable], None],
    losses: Losses | None = None,
    counting: Counting | None = None,
    jobs: int = 1,
) -> None:
    """Call `add` with all connections that match the archive's query, with at least columns `names`
    or with all, in no order.

    Blocks of connections that nothing can join are given as they are stored, so that only what is
    read of them is decoded.  `losses`: as for `list_connections`.  `counting`: what `add` adds to;
    without it, one process reads, whatever `jobs` says.
    """
    losses = {} if losses is None else losses
    runs = _runs(archive)
    wanted = archive.query.of_connections()
    if runs.has_twins:
        for tables in _join_twins(archive, names, runs, losses, jobs):
            for table in tables:
                add(table)
        return
    whole = WholeBlocks(add)

    def add_wanted(_: int, table: Table) -> None:
        add(table.take(wanted.evaluate(table)))

    reading = Reading(archive, names, whole=whole, counting=counting)
    for _ in pair(archive, runs, reading, losses, add_wanted, 1 if counting is None else jobs):
        pass
    whole.tell(losses)


def _runs(archive: Archive) -> Runs:
    """The runs.  If recorders ran side by side, the segments after the window are opened too."""
    runs = Runs.of(archive.segments)
    if not runs.has_twins:
        return runs
    while archive.later:
        archive.open_later()
    return Runs.of(archive.segments)


def _join_twins(
    archive: Archive, names: Iterable[str], runs: Runs, losses: Losses, jobs: int
) -> Iterator[list[Table]]:
    """The wanted connections, by start: each list has a table for each family.

    Whether a connection is wanted is decided when all is known of it.
    """
    wanted, twins = archive.query.of_connections(), Twins(runs.tables, runs.spans)
    with Sorter(_start_times) as sorter:
        reading = Reading(archive, names)
        for _ in pair(
            archive,
            runs,
            reading,
            losses,
            lambda run, table: sorter.add(twins.add(run, table)),
            jobs,
        ):
            pass
        for tables in sorter.ready(times.END):
            for batch in batches_of([SortedRows(each, _start_times(each)) for each in tables]):
                yield _wanted(twins.feed(batch.tables), wanted)
    yield _wanted(twins.finish(), wanted)


def _wanted(tables: Iterable[Table], wanted: Query) -> list[Table]:
    """The wanted rows, without empty tables."""
    chosen = (table.take(wanted.evaluate(table)) for table in tables)
    return [table for table in chosen if len(table)]


def _add(sorter: Sorter, table: Table, wanted: Query) -> None:
    sorter.add(table.take(wanted.evaluate(table)))


def _start_times(table: Table) -> NDArray[np.int64]:
    """(rows,): the start, ns; the end where the start is unknown."""
    return row_times(Kind.CONNECTIONS, table)


def _end_times(table: Table) -> NDArray[np.int64]:
    """(rows,): the end, ns, where it is known; for the other rows their start, after all ends."""
    return np.where(
        is_event_time(table["end_source"]), table["end"], _start_times(table) + _AFTER_ALL_ENDS_NS
    )


def _batch(tables: list[Table], key: Callable[[Table], NDArray[np.int64]]) -> Batch:
    """Sorted tables of different families as a batch in the order of `key`."""
    if len(tables) == 1:
        return Batch(tables, None)
    order = np.argsort(np.concatenate([key(table) for table in tables]), kind="stable")
    return Batch(tables, order)
