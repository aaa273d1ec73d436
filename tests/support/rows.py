"""Rows as dicts, for tests: readable ones by hand, random ones by a seed, and the table that they
make.

A row has only what was told; addresses are text, times ns.  `icmp` rows have `orig_icmp` and
`reply_icmp`: (type, code, id).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ctrecorder.columns import ADDRESSES, BY_NAME, COLUMNS, MASTER, PORTS, Table, bit
from ctrecorder.uapi import AF_INET, AF_INET6

Row = dict[str, Any]
NS = 1795499804_994266123
# Known only by their sources, not by bits.
_NO_BIT = {"time", "end", "start_source", "end_source", "seen", "present", *MASTER}


@cache
def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def stored(row: Mapping[str, Any], family: int) -> dict[str, int | bytes]:
    """The row as columns, `known` among them."""
    values: dict[str, int | bytes] = {}
    for name, value in row.items():
        if name in (*ADDRESSES, "master_src", "master_dst"):
            packed = _packed(value)
            values[name] = packed if family == AF_INET6 else int.from_bytes(packed, "big")
        elif name.endswith("_icmp"):
            side = name.partition("_")[0]
            values |= {f"{side}_sport": value[2], f"{side}_dport": value[0] * 256 + value[1]}
        else:
            values[name] = value
    return {"present": sum(bit(name) for name in values if name not in _NO_BIT), **values}


def table(rows: Sequence[Mapping[str, Any]], family: int = AF_INET) -> Table:
    """The rows as a table with every column that one of them has."""
    values = [stored(row, family) for row in rows]
    names = [column.name for column in COLUMNS if any(column.name in each for each in values)]
    empty: dict[str, int | bytes] = {
        name: bytes(16) if BY_NAME[name].dtype(family).kind == "S" else 0 for name in names
    }
    columns = {
        name: np.array(
            [each.get(name, empty[name]) for each in values], BY_NAME[name].dtype(family)
        )
        for name in names
    }
    return Table(family, len(rows), columns)


def event(**fields: Any) -> Row:
    """A NEW of TCP, and what is given instead or besides."""
    return {
        "time": NS, "event": 1, "l4proto": 6, "status": 0, "id": 7,
        "orig_src": "192.168.1.100", "orig_dst": "194.1.1.1",
        "reply_src": "194.1.1.1", "reply_dst": "88.1.1.1",
        "orig_sport": 1527, "orig_dport": 25, "reply_sport": 25, "reply_dport": 1527, **fields,
    }  # fmt: skip


def without(row: Row, *names: str) -> Row:
    """The row, of which `names` were not told."""
    return {name: value for name, value in row.items() if name not in names}


def random_events(seed: int, count: int, family: int = AF_INET) -> list[Row]:
    """Events of all kinds, in order of time, of which anything may be untold."""
    chance = random.Random(seed)
    time, rows = chance.randrange(10**18, 2 * 10**18), []
    for _ in range(count):
        time += chance.choice([0, 1, 1000, 10**9, 10**12])
        protocol = chance.choice([1, 6, 17, 33, 47, 58, 112, 132, 136])
        row: Row = {"time": time, "event": chance.choice([1, 2, 3, 4]), "l4proto": protocol}
        row |= {name: random_address(chance, family) for name in ADDRESSES}
        if protocol in (1, 58):
            row |= {
                f"{side}_icmp": (
                    chance.randrange(256),
                    chance.randrange(256),
                    chance.randrange(65536),
                )
                for side in ("orig", "reply")
            }
        elif protocol != 112:
            row |= {name: chance.randrange(65536) for name in PORTS}
        row |= {"status": chance.getrandbits(16), "id": chance.getrandbits(32)}
        told = {"zone": 16, "mark": 32, "orig_zone": 16, "reply_zone": 16}
        told |= {
            f"{side}_{unit}": chance.choice([7, 40, 64])
            for side in ("orig", "reply")
            for unit in ("packets", "bytes")
        }
        row |= {
            name: chance.getrandbits(bits) for name, bits in told.items() if chance.random() < 0.5
        }
        if protocol == 6 and chance.random() < 0.7:
            row["tcp_state"] = chance.randrange(10)
        if chance.random() < 0.1:
            row["helper"] = chance.choice([b"ftp", b"sip-5061"])
        if chance.random() < 0.1:
            row["labels"] = (1 << chance.randrange(128)).to_bytes(16, "little")
        if chance.random() < 0.1:
            row |= {"master_l4proto": 6, "master_sport": chance.randrange(65536)}
            row |= {"master_src": random_address(chance, family), "master_dport": 21}
            row["master_dst"] = random_address(chance, family)
        if row["event"] == 3 and chance.random() < 0.7:
            row |= {
                "start": time - chance.randrange(10**12),
                "stop": time - chance.randrange(10**9),
            }
        rows.append(row)
    return rows


def random_address(chance: random.Random, family: int) -> str:
    """Any, some more often than others."""
    if family == AF_INET:
        return str(
            ipaddress.IPv4Address(
                chance.choice(
                    [chance.getrandbits(32), 0x0A000000 + chance.randrange(16), 0xFFFFFFFF, 0]
                )
            )
        )
    groups = [chance.choice([0, 0, 1, 0xAB, chance.getrandbits(16)]) for _ in range(8)]
    return str(ipaddress.IPv6Address(b"".join(group.to_bytes(2, "big") for group in groups)))
