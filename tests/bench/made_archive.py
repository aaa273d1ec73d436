"""The archive that benchmarks of questions share: 90 days in hourly segments, as ctrecord and
ctsqueeze leave them; the last day is not squeezed yet.

Each segment begins with a dump of the open connections, and has watermarks. One connection in
`LONG_ONE_IN` lives for days. It is made once, in build/, and used again by the next run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ctrecorder.columns import ADDRESSES, TUPLE, Array, Event, Table, bits, concat
from ctrecorder.ctlog.frame import COVERAGE, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import mark_block
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import DAY, HOUR, SECOND
from ctrecorder.uapi import AF_INET
from tests.bench import archive_flows
from tests.support.router import CHECKOUT

DAYS = 90
SEGMENTS = DAYS * 24
RAW_SEGMENTS = 24
LONG_ONE_IN, LONG_DAYS = 1000, 3
BEGIN = archive_flows.BEGIN
END = BEGIN + DAYS * DAY
_VERSION = 1  # of what is made here: another one makes it anew
Flows = dict[str, Array]


def archive(connections: int) -> Path:
    """The folder with an archive of so many connections."""
    folder = CHECKOUT / "build" / f"bench-archive-{_VERSION}-{connections}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _make(part, connections)
        part.rename(folder)
    return folder


def _make(folder: Path, connections: int) -> None:
    day = archive_flows.made(connections // DAYS, begin=BEGIN, seconds=86_400)
    hours = np.searchsorted(day["start"], BEGIN + np.arange(25) * HOUR)
    long = numbered(_long(connections // LONG_ONE_IN), SEGMENTS)
    starts = np.searchsorted(long["start"], BEGIN + np.arange(SEGMENTS + 1) * HOUR)
    opened = {name: values[:0] for name, values in long.items()}
    previous, name = bytes(16), None
    for number in range(SEGMENTS):
        begin = BEGIN + number * HOUR
        of_day = slice(hours[number % 24], hours[number % 24 + 1])
        new = _joined(
            numbered(_shifted({each: day[each][of_day] for each in day}, number), number),
            {each: long[each][starts[number] : starts[number + 1]] for each in long},
        )
        path = folder / f"{number:05}.ctlog"
        header = Header(
            requires=(COVERAGE,),
            host="bench",
            boot_id="bench",
            chain="bench",
            sequence=number + 1,
            previous=name,
            netns="4:1",
        )
        writer = SegmentWriter.create(str(path), header, previous, time_ns=begin)
        opened = _write(writer, begin, opened, new)
        previous, name = writer.close(), path.name
        if number < SEGMENTS - RAW_SEGMENTS:
            squeeze(str(path), SqueezeOptions("ms", level=1))


def _write(writer: SegmentWriter, begin: int, opened: Flows, new: Flows) -> Flows:
    """Write an hour from `begin` on: a dump of the `opened` connections, and the events of these
    and of the `new` ones.  Returns those that are open at its end.
    """
    end = begin + HOUR
    if len(opened["start"]):
        _append(writer, [events(opened, Event.EXISTING, np.full(len(opened["start"]), begin))])
    facts = {"rows": len(opened["start"]), "complete": True}
    writer.mark(Mark(begin, begin + SECOND // 10, "dump", facts))
    alive = _joined(opened, new)
    over = alive["end"] < end
    ended = {name: values[over] for name, values in alive.items()}
    _append(
        writer,
        [
            events(new, Event.NEW, new["start"]),
            events(ended, Event.DESTROY, ended["end"]),
        ],
    )
    clock = {"synchronised": True, "error_us": 1200}
    heartbeat = mark_block(Mark.at(end - 1, "heartbeat", {"clock": clock}))
    writer.write(heartbeat.with_watermark(end - 1))
    return {name: values[~over] for name, values in alive.items()}


def _append(writer: SegmentWriter, tables: list[Table]) -> None:
    """Write events in order of time."""
    table = concat(tables)
    writer.append(table.take(np.argsort(table["time"], kind="stable")))


def events(flows: Flows, event: Event, time: Array) -> Table:
    """An event of each flow; the kernel tells the start except in NEW."""
    count = len(time)
    columns = {name: values for name, values in flows.items() if name not in ("start", "end")}
    known: tuple[str, ...] = (*TUPLE, "id")
    if event != Event.NEW:
        columns["start"], known = flows["start"], (*known, "start")
    if event == Event.DESTROY:
        columns["stop"], known = flows["end"], (*known, "stop")
    columns["time"] = time.astype(np.int64)
    columns["event"] = np.full(count, event, "u1")
    columns["present"] = np.full(count, bits(known), "<u4")
    return Table(AF_INET, count, columns)


def _long(count: int) -> Flows:
    """Connections that live for days, in order of start."""
    random = np.random.default_rng(7)
    flows = archive_flows.made(count, seed=7, begin=BEGIN, seconds=DAYS * 86_400)
    life = (random.exponential(LONG_DAYS * 86_400, count) * 1e6).astype(np.int64) * 1000
    return {**flows, "end": flows["start"] + life}


def _joined(first: Flows, second: Flows) -> Flows:
    return {name: np.concatenate((first[name], second[name])) for name in first}


def numbered(flows: Flows, number: int) -> Flows:
    """The flows with ids of the kernel."""
    ids = np.random.default_rng(number).integers(1, 1 << 32, len(flows["start"]))
    return {**flows, "id": ids.astype("<u4")}


def _shifted(flows: Flows, number: int) -> Flows:
    """The connections of an hour on another day, with other hosts outside and other ports."""
    day = number // 24
    moved = {name: archive_flows.elsewhere(flows[name], day) for name in ADDRESSES}
    port = (flows["orig_sport"].astype(np.uint32) * 7 + number) % 64_512 + 1024
    times = {name: flows[name] + day * DAY for name in ("start", "end")}
    ports = {name: port.astype("<u2") for name in ("orig_sport", "reply_dport")}
    return {**flows, **moved, **times, **ports}
