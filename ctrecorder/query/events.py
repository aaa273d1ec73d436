"""List events: of raw segments as recorded, of squeezed ones the start and end of each connection.

So squeezing changes no list of events, except that UPDATE and EXISTING are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ctrecorder import times, uapi
from ctrecorder.columns import MASTER, Array, Event, Source, Table, bit, bits
from ctrecorder.connections import parts
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.ctlog.predicate import Query
from ctrecorder.order.batches import Batch
from ctrecorder.order.external_sort import Sorter
from ctrecorder.order.merge import merge
from ctrecorder.query.open import Archive
from ctrecorder.render.cells import event_times

# Columns of a connection that are not columns of its events.  An event's own `start` and `stop` are
# derived from them.
_CONNECTION_ONLY = ("start", "end", "start_source", "end_source", "seen", "stop")
# The kernel looks for expired connections at least every two minutes, and dates their end back.  An
# end that is heard of later stands later in the list.
_LATE_NS = 2 * times.MINUTE + 5 * times.SECOND
# Columns that a DESTROY does not have.
_BEGIN_VALUES = ("helper", "labels", *MASTER)
# Columns that are known at the end of a connection only.
_END_VALUES = ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes", "tcp_state")


def list_events(archive: Archive, names: Iterable[str]) -> Iterator[Batch]:
    """The events that match the archive's query, in order of time, with at least `names`."""
    query, segments = archive.query, archive.segments
    recorded = merge(segments, names, query, Kind.EVENTS)
    if not any((segment.index["kind"] == Kind.CONNECTIONS).any() for segment in segments):
        yield from recorded
        return
    squeezed = merge(
        segments,
        dict.fromkeys((*names, *parts.SPAN, "present")),
        query.of_connections(),
        Kind.CONNECTIONS,
    )
    with Sorter(lambda table: row_times(Kind.EVENTS, table)) as sorter:
        yield from _merge_squeezed(recorded, squeezed, sorter, query)


def by_shown_time(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The events of `list_events` in order of the times that are shown: those of ends are earlier
    than the times at which they were heard of, by which the log is in order.
    """
    with Sorter(_shown) as sorter:
        for batch in batches:
            first = min(int(table["time"][0]) for table in batch.tables)
            yield from _ready_as_shown(sorter, first - _LATE_NS)
            for table in batch.tables:
                sorter.add(table)
        yield from _ready_as_shown(sorter, times.END)


def _shown(table: Table) -> Array:
    return event_times(table, heard=False)


def _ready_as_shown(sorter: Sorter, before: int) -> Iterator[Batch]:
    """The sorted rows of shown times before `before`."""
    for tables in sorter.ready(before):
        order = np.argsort(np.concatenate([_shown(table) for table in tables]), kind="stable")
        yield Batch(tables, order if len(tables) > 1 else None)


def _merge_squeezed(
    recorded: Iterator[Batch], squeezed: Iterator[Batch], sorter: Sorter, query: Query
) -> Iterator[Batch]:
    """The recorded events and those of the squeezed connections, in one order of time.

    Connections come in order of start, so all events before the last connection's start are known.
    """
    known_until = times.BEGIN
    for batch in recorded:
        first = min(int(table["time"][0]) for table in batch.tables)
        last = max(int(table["time"][-1]) for table in batch.tables)
        while known_until <= last:
            connections = next(squeezed, None)
            if connections is None:
                known_until = times.END
            else:
                known_until = _add_events(sorter, connections, query)
            yield from _ready(sorter, min(known_until, first))
        if len(sorter):
            for table in batch.tables:
                sorter.add(table)
            yield from _ready(sorter, last + 1)
        else:
            yield batch
    for connections in squeezed:
        yield from _ready(sorter, _add_events(sorter, connections, query))
    yield from _ready(sorter, times.END)


def _ready(sorter: Sorter, before: int) -> Iterator[Batch]:
    """The sorted rows of times before `before`."""
    for tables in sorter.ready(before):
        yield Batch(tables, None)


def _add_events(sorter: Sorter, connections: Batch, query: Query) -> int:
    """Add the wanted events of a batch of connections.

    Returns the start of its last connection: events of later batches are not before it.
    """
    for table in connections.tables:
        for events in (_starts(table), _ends(table)):
            sorter.add(events.take(query.evaluate(events)))
    return max(int(row_times(Kind.CONNECTIONS, table)[-1]) for table in connections.tables)


def _starts(table: Table) -> Table:
    """The NEW of each connection for which it was received."""
    received = (table["seen"] & parts.NEW) != 0
    rows = table.take(received & is_event_time(table["start_source"]))
    present = _present(rows, rows["start_source"]) & ~np.uint32(
        bits((*_END_VALUES, "start", "stop"))
    )
    columns = {"time": rows["start"], "status": rows["status"] & np.uint32(uapi.IPS_NAT_MASK)}
    return _events(rows, Event.NEW, present, columns, omitted=_END_VALUES)


def _ends(table: Table) -> Table:
    """The DESTROY of each connection for which it was received."""
    received = (table["seen"] & parts.DESTROY) != 0
    rows = table.take(received & is_event_time(table["end_source"]))
    has_start = rows["start_source"] == Source.KERNEL
    has_stop = rows["end_source"] == Source.KERNEL
    present = _present(rows, rows["end_source"]) & ~np.uint32(bits(("start", "helper", "labels")))
    present = np.where(has_stop, present | np.uint32(bit("stop")), present)
    present = np.where(has_start, present | np.uint32(bit("start")), present)
    columns = {
        "time": rows["end"],
        "start": np.where(has_start, rows["start"], 0),
        "stop": np.where(has_stop, rows["end"], 0),
    }
    return _events(rows, Event.DESTROY, present, columns, omitted=_BEGIN_VALUES)


def _present(rows: Table, source: Array) -> Array:
    """(rows,) uint32: `present` of connections as events whose times have the source `source`."""
    present: Array = rows["present"] | np.uint32(bit("event"))
    return np.where(source == Source.KERNEL, present | np.uint32(bit("time")), present)


def _events(
    rows: Table,
    event: Event,
    present: Array,
    columns: dict[str, Array],
    omitted: tuple[str, ...] = (),
) -> Table:
    """Connections as events of one kind, with `columns` added and `omitted` left out."""
    kept = {
        name: array
        for name, array in rows.columns.items()
        if name not in _CONNECTION_ONLY and name not in omitted
    }
    kept |= columns
    kept["event"] = np.full(len(rows), event, np.uint8)
    kept["present"] = present.astype(np.uint32)
    return Table(rows.family, len(rows), kept)


def is_event_time(source: Array) -> Array:
    """(rows,) bool: which times are those of an event, not bounds."""
    exact: Array = (source == Source.KERNEL) | (source == Source.RECEIPT)
    return exact
