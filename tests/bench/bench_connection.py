"""The disk space of a connection: bytes after ctsqueeze, on each set of real flows that
CTRECORDER_FLOWS names.

CTRECORDER_FLOWS holds paths with ":" between them; archive_flows describes the form of a set.  NAT
and the kernel's timeouts are put on the flows of IPv4; those of IPv6 get the timeouts.  Each set is
recorded twice, without ids: as ctrecord does by default, in a segment an hour that begins with a
dump of the open connections, and in one segment.  The first costs more: a connection that is open
at the full hour is in two segments, and each segment has a header and dictionaries of its own.
Without CTRECORDER_FLOWS the flows are made up, and the sizes mean less.
"""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path

import numpy as np

from ctrecorder.columns import ADDRESSES, PORTS, Event, Table
from ctrecorder.ctlog.frame import Mark
from ctrecorder.legacy.format import CONNECTION
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.uapi import AF_INET
from tests.bench import archive_flows
from tests.bench.report import Report
from tests.support.recorded import HEADER

# RFC 7422: an operator's 150 bytes a log line, 33,000 connections a household a day.
LINE_BYTES, A_DAY, DAYS = 150, 33_000, 30
HOUR, WHOLE = 3600 * archive_flows.SECOND, 1 << 62
RESOLUTIONS = ("us", "ms")


def run(report: Report) -> None:
    """A row a set: connections, and bytes of each in hourly segments and in one."""
    sets = [(path.name, archive_flows.of_both_families(path)) for path in archive_flows.paths()]
    what = "Bytes a connection after ctsqueeze"
    report.heading(what if sets else f"{what}, of flows that are made up")
    sets = sets or [("made up", [archive_flows.events(archive_flows.made(550_000))])]
    rows: list[list[object]] = []
    costs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        for label, tables in sets:
            count = sum(len(table) for table in tables) // 2
            found = [
                squeezed(Path(name), tables, period, resolution) / count
                for period in (HOUR, WHOLE)
                for resolution in RESOLUTIONS
            ]
            costs += found
            found.append(len(lzma.compress(c_form(tables))) / count)
            rows.append([label, f"{count:,}", *(f"{cost:.2f}" for cost in found)])
    report.table(
        ["set", "connections", "hourly us", "hourly ms", "one us", "one ms", "C form, xz"], rows
    )
    report.note("C form: the squeezed records of the C ctrecorder in one file, IPv4 only, with xz")
    report.note(f"A household's month is {DAYS} days of {A_DAY:,} connections (RFC 7422):")
    report.note(f"{month(LINE_BYTES):.0f} MB as text of {LINE_BYTES} bytes a line,")
    report.note(f"{month(min(costs)):.1f} to {month(max(costs)):.1f} MB here")


def month(cost: float) -> float:
    """MB of a household's month, at `cost` bytes a connection."""
    return cost * A_DAY * DAYS / 1e6


def squeezed(folder: Path, tables: list[Table], period: int, resolution: str) -> int:
    """Bytes after ctsqueeze of segments of `period` ns with these events (a table a family)."""
    size = 0
    path = folder / "raw.ctlog"
    times = np.concatenate([table["time"] for table in tables])
    for number in np.unique(times // period).tolist():
        begin = max(number * period, int(times.min()))
        writer = SegmentWriter.create(str(path), HEADER, time_ns=begin)
        dumps = [existing(table, begin) for table in tables]
        for table in (*dumps, *(table.take(table["time"] // period == number) for table in tables)):
            for row in range(0, len(table), 1 << 16):
                writer.append(table.slice(row, row + (1 << 16)))
        facts = {"rows": sum(map(len, dumps)), "complete": True}
        writer.mark(Mark(begin, begin + 1000, "dump", facts))
        writer.close()
        result = squeeze(str(path), SqueezeOptions(resolution), f"{path}.new")
        assert result is not None
        size += result.bytes_after
        Path(f"{path}.new").unlink()
        path.unlink()
    return size


def c_form(tables: list[Table]) -> bytes:
    """The connections of IPv4 as squeezed records of the C ctrecorder, in order of start: times in
    us, and both tuples; no protocol (each has a file of its own), ids or counters.
    """
    parts = []
    for table in tables:
        if table.family != AF_INET:
            continue
        started = table.take(table["event"] == Event.NEW)
        ended = table.take(table["event"] == Event.DESTROY)
        _, first, last = np.intersect1d(started["id"], ended["id"], return_indices=True)
        order = np.argsort(started["time"][first], kind="stable")
        started, ended = started.take(first[order]), ended.take(last[order])
        records = np.zeros(len(started), CONNECTION)
        for side, time in (("start", started["time"]), ("end", ended["time"])):
            records[f"{side}_sec"] = time // archive_flows.SECOND
            records[f"{side}_usec"] = time % archive_flows.SECOND // 1000
        for name in (*ADDRESSES, *PORTS):
            records[name] = started[name]
        parts.append(records.tobytes())
    return b"".join(parts)


def existing(table: Table, moment: int) -> Table:
    """The dump that begins a segment: the connections that are open at `moment`, ns UTC."""
    before = table["time"] < moment
    started = table.take(before & (table["event"] == Event.NEW))
    ended = table.take(before & (table["event"] == Event.DESTROY))
    # Ids are random: the few that share one with a connection that has ended are left out.
    dump = started.take(~np.isin(started["id"], ended["id"]))
    constant = {
        "time": np.full(len(dump), moment, "<i8"),
        "event": np.full(len(dump), Event.EXISTING, "u1"),
    }
    return Table(dump.family, len(dump), {**dump.columns, **constant})
