"""JSON and CSV that programs read: golden files, and the list of their columns in ctlist(1).

A new column comes at the end, in the golden files too:

    GOLDEN=write python3 -B -m pytest tests/unit/render/test_golden.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.columns import Source, Table
from ctrecorder.render.records import CONNECTION_KEYS, EVENT_KEYS
from ctrecorder.render.renderer import Renderer
from ctrecorder.uapi import AF_INET6
from tests.support.rows import event, table

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "data" / "records"
S = 10**9
BEGIN = 1795474800 * S + 123_456_789
ENDED: dict[str, Any] = {
    "event": 3,
    "status": 0x18E,
    "tcp_state": 7,
    "mark": 42,
    "zone": 7,
    "orig_packets": 5,
    "orig_bytes": 2**63 + 1,
    "reply_packets": 4,
    "reply_bytes": 0,
    "start": BEGIN - 65 * S,
    "stop": BEGIN - S,
}
SIX: dict[str, Any] = {
    "orig_src": "fd00:db8::100",
    "orig_dst": "2001:db8::25",
    "reply_src": "2001:db8::25",
    "reply_dst": "2001:db8::1",
    "orig_zone": 3,
    "reply_zone": 4,
    "helper": b"ftp",
    "labels": bytes([9]) + bytes(15),
    "master_l4proto": 6,
    "master_src": "fd00:db8::100",
    "master_dst": "2001:db8::25",
    "master_sport": 40000,
    "master_dport": 21,
}
ICMP = {"l4proto": 1, "orig_icmp": (8, 0, 4711), "reply_icmp": (0, 0, 4711)}


def tables(connections: bool) -> list[Table]:
    """A start, an end, an ICMP flow, and one of IPv6 with all that IPv4 has not."""
    four = [event(time=BEGIN), event(time=BEGIN + 1, **ENDED), event(time=BEGIN + 2)]
    six = [event(time=BEGIN + 3, **SIX)]
    for port in ("orig_sport", "orig_dport", "reply_sport", "reply_dport"):
        del four[2][port]
    four[2] |= ICMP
    if connections:
        for number, row in enumerate([*four, *six]):
            row |= {"start": row.pop("time"), "start_source": Source.KERNEL, "seen": 5}
            row |= {"end": BEGIN + 9 * S if number else 0}
            row["end_source"] = Source.RECEIPT if number else Source.UNKNOWN
            row.pop("event"), row.pop("stop", 0)
    return [table(four), table(six, AF_INET6)]


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("connections", [False, True], ids=["events", "connections"])
def test_golden(form: str, connections: bool) -> None:
    renderer = Renderer(form, connections=connections, utc=False)
    text = (renderer.head + b"".join(renderer.lines(tables(connections)))).decode()
    path = GOLDEN / f"{'connections' if connections else 'events'}.{form}"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_the_page_lists_all_columns_in_their_order() -> None:
    page = (ROOT / "man" / "ctlist.1").read_text()
    _, _, told = page.partition("The columns of CSV, in their order")
    lists = re.compile(r"^\.Bd -literal -offset indent$(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)
    first, second, *_ = lists.findall(told)
    assert tuple(first.split()) == EVENT_KEYS
    assert tuple(second.split()) == CONNECTION_KEYS
