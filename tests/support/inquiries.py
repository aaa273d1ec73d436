"""Logs with connections through each kind of NAT, and what ctwho says of them."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrecorder.asking import ctwho
from ctrecorder.columns import BY_NAME, Table, bits
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T
from tests.unit.query.test_verdict import Recorder

# What a recorder notes of a clock that a time daemon keeps.
CLOCK: dict[str, Any] = {"state": {"clock": {"synchronised": True, "error_us": 2_000}}}
_ENDS = ("orig_src", "orig_dst", "reply_src", "reply_dst")
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "gre": 47}

Json = dict[str, Any]


def connection(
    protocol: str, orig: tuple[str, str], reply: tuple[str, str], *, number: int = 1, **columns: int
) -> list[Json]:
    """A NEW and a DESTROY from 60 s to 90 s after T.

    `orig`, `reply`: source and destination, each "ADDRESS PORT", or "ADDRESS" without ports; of
    ICMP the id at the source, and type * 256 + code at the destination.
    """
    ends = dict(zip(_ENDS, (*orig, *reply), strict=True))
    known: Json = {"l4proto": PROTOCOLS[protocol], "id": number, **columns}
    for name, end in ends.items():
        address, _, port = end.partition(" ")
        known[name] = ipaddress.ip_address(address)
        if port:
            known[f"{name[:-3]}{name[-3]}port"] = int(port)
    known["present"] = bits([name for name in known if name != "present"])
    return [
        {**known, "event": int(NEW), "time": T + 60 * SECOND},
        {**known, "event": int(DESTROY), "time": T + 90 * SECOND},
    ]


def table(rows: list[Json]) -> Table:
    """Rows of one family, in order of time."""
    rows = sorted(rows, key=lambda row: int(row["time"]))
    family = 10 if rows[0]["orig_src"].version == 6 else 2
    columns = {}
    for name in BY_NAME:
        if any(name in row for row in rows):
            values = [_value(row.get(name, 0), family) for row in rows]
            columns[name] = np.array(values, BY_NAME[name].dtype(family))
    return Table(family, len(rows), columns)


def _value(value: Any, family: int) -> Any:
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return value.packed if family == 10 else int(value)
    return value


def log(folder: Path, *rows: list[Json], **facts: Any) -> Path:
    """An hour of a recorder whose clock is right to 2 ms, with these connections."""
    folder.mkdir(exist_ok=True)
    recorder = Recorder(folder, facts={"host": "gw", **CLOCK, **facts})
    families: dict[int, list[Json]] = {}
    for each in rows:
        families.setdefault(each[0]["orig_src"].version, []).extend(each)
    recorder.segment(*map(table, families.values()))
    recorder.segment()
    return folder


def ask(folder: Path, capfd: pytest.CaptureFixture[str], *words: str, code: int | None = 0) -> Json:
    """The answer as JSON, with its connections; by default to 70 s after T."""
    if not any(word.startswith("@") for word in words):
        words = (words[0], f"@{T // SECOND + 70}", *words[1:])
    capfd.readouterr()
    found = ctwho.main([*words, "--format", "json", "--connections", "-d", str(folder)])
    out, err = capfd.readouterr()
    assert code is None or found == code, out + err
    answer: Json = json.loads(out)
    return answer


def hosts(answer: Json) -> list[str]:
    """The addresses of the persons."""
    return [person["address"] for person in answer["persons"]]
