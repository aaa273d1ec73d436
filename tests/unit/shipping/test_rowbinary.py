"""Rows of RowBinary, read back field by field as ClickHouse's documents define them."""

from __future__ import annotations

import ipaddress
import struct
import uuid

import numpy as np
import pytest

from ctrecorder.columns import BY_NAME, Source, Table
from ctrecorder.shipping.rowbinary import rows
from ctrecorder.times import SECOND
from tests.support.slow_pairing import T

UPLOAD = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def made(family: int, **values: object) -> Table:
    """A table of one row."""
    columns = {}
    for name, value in values.items():
        kind = BY_NAME[name].dtype(family)
        columns[name] = np.array([value], kind)
    return Table(family, 1, columns)


@pytest.mark.parametrize("behind", ["203.0.113.9", "10.9.9.9"])
def test_a_row_of_ipv4(behind: str) -> None:
    table = made(
        2,
        start=T,
        end=T + 5 * SECOND,
        start_source=int(Source.KERNEL),
        end_source=int(Source.KERNEL),
        l4proto=6,
        orig_src=int(ipaddress.ip_address("10.0.0.5")),
        orig_dst=int(ipaddress.ip_address("203.0.113.9")),
        reply_src=int(ipaddress.ip_address(behind)),
        reply_dst=int(ipaddress.ip_address("192.0.2.1")),
        orig_sport=50000,
        orig_dport=443,
        reply_sport=8443,
        reply_dport=40000,
        orig_bytes=1 << 60,
        mark=7,
        id=9,
        seen=3,
    )
    data = rows(table, UPLOAD.bytes, T, "edge1")
    high, low = struct.unpack_from("<QQ", data)
    assert (high << 64) + low == UPLOAD.int
    assert struct.unpack_from("<I", data, 16) == (T // SECOND,)
    assert data[20:26] == b"\x05edge1"
    start, duration, protocol = struct.unpack_from("<qqB", data, 26)
    assert (start, duration, protocol) == (T // 1000, 5_000_000, 6)
    at = 26 + 17
    ends = []
    for _ in range(4):
        address = ipaddress.IPv6Address(data[at : at + 16])
        ends.append((str(address.ipv4_mapped or address), *struct.unpack_from("<H", data, at + 16)))
        at += 18
    assert ends == [
        ("10.0.0.5", 50000),
        ("192.0.2.1", (40000 - 50000) % 65536),
        ("203.0.113.9", 443),
        ("::" if behind == "203.0.113.9" else behind, 8000),
    ]
    at += 4 + 6 + 4 + 32 + 4 + 4 + 4 + 8
    assert struct.unpack_from("<BHI", data, at) == (2, 0, 0)
    assert len(data) == at + 7


def test_addresses_of_ipv6_and_times_that_are_not_known() -> None:
    table = made(
        10,
        end=T,
        end_source=int(Source.RECEIPT),
        orig_src=ipaddress.ip_address("2001:db8::5").packed,
        orig_dst=ipaddress.ip_address("2001:db8:c::9").packed,
        reply_src=ipaddress.ip_address("2001:db8:c::9").packed,
        reply_dst=ipaddress.ip_address("2001:db8:b::1").packed,
    )
    data = rows(table, UPLOAD.bytes, T, "e")
    start, duration = struct.unpack_from("<qq", data, 22)
    assert (start, duration) == (T // 1000, 0)
    assert data[39:55] == ipaddress.ip_address("2001:db8::5").packed


def test_many_rows_are_one_after_the_other() -> None:
    one = made(2, start=T, start_source=1, l4proto=6, orig_src=1)
    both = Table(2, 2, {name: np.repeat(array, 2) for name, array in one.columns.items()})
    alone = rows(one, UPLOAD.bytes, T, "edge1")
    # The second row is of the same flow: its last column, `turn`, says so.
    assert rows(both, UPLOAD.bytes, T, "edge1") == alone + alone[:-4] + struct.pack("<I", 1)
