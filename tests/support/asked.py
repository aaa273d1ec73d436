"""A small archive to ask: three hours of one router, some connections through one address."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from ctrecorder.columns import bits
from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.pending import mark_block
from ctrecorder.segment.writer import SegmentWriter
from tests.support.slow_pairing import DESTROY, EXISTING, NEW, SECOND, Row, T, row, table

HOUR = 3600 * SECOND
PUBLIC = "192.0.2.1"
REMOTE = "203.0.113.77"
_CLOCK = {"clock": {"synchronised": True, "error_us": 2_000, "offset_us": 0}}


def flow(inside: str, port: int, number: int, **columns: Any) -> Row:
    """The columns of a connection from `inside` through PUBLIC to REMOTE."""
    ends = {
        "orig_src": _packed(inside),
        "orig_sport": 51000 + number,
        "orig_dst": _packed(REMOTE),
        "orig_dport": 443,
        "reply_src": _packed(REMOTE),
        "reply_sport": 443,
        "reply_dst": _packed(PUBLIC),
        "reply_dport": port,
    }
    made = {"l4proto": 6, "id": number, **ends, **columns}
    return {**made, "present": bits(tuple(made))}


def _packed(address: str) -> int:
    return int(ipaddress.ip_address(address))


def record(folder: Path, host: str = "10.0.0.5", chain: str = "c0ffee") -> list[str]:
    """Segments of the hours from T, each with a dump first.  Port 40000: `host`, from 10 s to 2
    hours and 20 s.  Port 40001: `host` and 10.0.0.6, in the second hour.
    """
    flows = [
        (T + 10 * SECOND, T + 2 * HOUR + 20 * SECOND, flow(host, 40000, 1)),
        (T + HOUR + 60 * SECOND, T + HOUR + 90 * SECOND, flow(host, 40001, 2)),
        (T + HOUR + 95 * SECOND, T + HOUR + 99 * SECOND, flow("10.0.0.6", 40001, 3)),
    ]
    paths, previous, name = [], bytes(16), None
    for hour in range(3):
        begin, end = T + hour * HOUR, T + (hour + 1) * HOUR
        path = folder / f"{hour:02}.ctlog"
        header = Header(
            requires=("coverage",),
            chain=chain,
            sequence=hour + 1,
            host="gate1",
            boot_id="b",
            netns="1",
            state=_CLOCK,
            previous=name,
        )
        writer = SegmentWriter.create(str(path), header, previous, time_ns=begin)
        still = [
            row(EXISTING, begin + 5, **one) for since, until, one in flows if since < begin < until
        ]
        if still:
            writer.append(table(still))
        writer.mark(Mark(begin + 1, begin + 9, "dump", {"rows": len(still), "complete": True}))
        events = [row(NEW, since, **one) for since, _, one in flows if begin <= since < end]
        events += [row(DESTROY, until, **one) for _, until, one in flows if begin <= until < end]
        if events:
            writer.append(table(sorted(events, key=lambda event: int(event["time"]))))
        writer.write(mark_block(Mark.at(end - 1, "heartbeat", _CLOCK)).with_watermark(end - 1))
        previous, name = writer.close(), path.name
        paths.append(str(path))
    return paths
