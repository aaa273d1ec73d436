"""Messages of IPFIX and NetFlow 9, read back by a reader that knows only their RFCs."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import numpy as np
import pytest

from ctrecorder.columns import BY_NAME, Source, Table
from ctrecorder.shipping.flowrecords import IPFIX, NETFLOW9, Messages, ended, fields
from ctrecorder.times import SECOND
from tests.support.slow_pairing import T

NOW = T + 10_000 * SECOND
# RFC 8158, and RFC 5102: the elements of the template.
TIMES, PORTS, KIND = (152, 153, 323), (7, 11, 227, 228), (4, 230)


def flows(count: int, family: int = 2) -> Table:
    """Connections through NAT."""
    one: dict[str, Any] = {
        "start": np.arange(count) * SECOND + T,
        "end": np.arange(count) * SECOND + T + 5 * SECOND,
        "start_source": np.full(count, int(Source.KERNEL)),
        "end_source": np.full(count, int(Source.KERNEL)),
        "l4proto": np.full(count, 6),
        "orig_sport": np.arange(count) % 60000,
        "orig_dport": np.full(count, 443),
        "reply_sport": np.full(count, 8443),
        "reply_dport": np.full(count, 40000),
    }
    for name, text in (
        ("orig_src", "10.0.0.5"),
        ("orig_dst", "203.0.113.9"),
        ("reply_src", "10.8.8.8"),
        ("reply_dst", "192.0.2.1"),
    ):
        address = ipaddress.ip_address(text)
        if family == 2:
            one[name] = np.full(count, int(address))
        else:
            packed = ipaddress.IPv6Address((0x20010DB8 << 96) + int(address))
            one[name] = np.array([packed.packed] * count)
    columns = {
        name: np.asarray(values).astype(BY_NAME[name].dtype(family))
        if BY_NAME[name].dtype(family).kind != "V"
        else np.frombuffer(b"".join(map(bytes, values)), BY_NAME[name].dtype(family))
        for name, values in one.items()
    }
    return Table(family, count, columns)


def read(messages: list[bytes]) -> list[dict[int, int | bytes]]:
    """The records of messages of either version, each by its template."""
    templates: dict[int, list[tuple[int, int]]] = {}
    found: list[dict[int, int | bytes]] = []
    for data in messages:
        (version,) = struct.unpack_from(">H", data)
        at = 16 if version == 10 else 20
        if version == 10:
            assert struct.unpack_from(">H", data, 2) == (len(data),)
        while at < len(data):
            number, length = struct.unpack_from(">HH", data, at)
            body, end = at + 4, at + length
            if number in (0, 2):
                kind, count = struct.unpack_from(">HH", data, body)
                templates[kind] = [
                    struct.unpack_from(">HH", data, body + 4 + 4 * each) for each in range(count)
                ]
            else:
                size = sum(length for _, length in templates[number])
                while body + size <= end:
                    record: dict[int, int | bytes] = {}
                    for element, length in templates[number]:
                        value = data[body : body + length]
                        record[element] = value if length == 16 else int.from_bytes(value)
                        body += length
                    found.append(record)
            at = end
    return found


@pytest.mark.parametrize("version", [IPFIX, NETFLOW9])
def test_every_connection_is_a_record(version: int) -> None:
    table = flows(1000)
    made = list(Messages(version, 7).of(table, NOW))
    records = read(made)
    assert len(records) == 1000
    assert max(map(len, made)) <= 1400
    for number, record in enumerate(records):
        start = (T + number * SECOND) // 10**6
        assert [record[each] for each in TIMES] == [start, start + 5000, start + 5000]
        assert [record[each] for each in PORTS] == [number, 443, 40000, 8443]
        assert [record[each] for each in KIND] == [6, 5]
        ends = [str(ipaddress.IPv4Address(record[each])) for each in (8, 12, 225, 226)]
        assert ends == ["10.0.0.5", "203.0.113.9", "192.0.2.1", "10.8.8.8"]
    assert sum(one.size for one in fields(2)) == 50


@pytest.mark.parametrize("version", [IPFIX, NETFLOW9])
def test_ipv6(version: int) -> None:
    table = flows(30, 10)
    records = read(list(Messages(version, 7).of(table, NOW)))
    assert len(records) == 30
    names = {27: "orig_src", 28: "orig_dst", 281: "reply_dst", 282: "reply_src"}
    for element, name in names.items():
        assert records[3][element] == bytes(table[name][3])


def test_sequence_numbers_and_templates() -> None:
    """IPFIX counts records, NetFlow 9 messages; a template comes again."""
    sequences = {}
    for version, at in ((IPFIX, 8), (NETFLOW9, 12)):
        made = list(Messages(version, 0xABCD).of(flows(24 * 45), NOW))
        sequences[version] = [struct.unpack_from(">I", one, at)[0] for one in made]
        assert {struct.unpack_from(">I", one, at + 4)[0] for one in made} == {0xABCD}
        again = [number for number, one in enumerate(made) if len(one) > 1250]
        assert again[0] == 0
        assert len(again) == 3
    assert sequences[IPFIX] == [24 * number for number in range(45)]
    assert sequences[NETFLOW9] == list(range(45))


def test_only_what_has_ended() -> None:
    table = flows(10)
    table.columns["end_source"] = np.array([1, 0] * 5, "u1")
    assert len(ended(table)) == 5
    table = flows(1)
    table.columns["start_source"] = np.zeros(1, "u1")
    (record,) = read(list(Messages(IPFIX, 1).of(table, NOW)))
    assert record[152] == record[153]


@pytest.mark.parametrize("version", [IPFIX, NETFLOW9])
def test_counters_and_zones_where_there_are_any(version: int) -> None:
    table = flows(6)
    numbers = {"orig_bytes": 1, "orig_packets": 2, "reply_bytes": 23, "reply_packets": 24}
    for name, element in numbers.items():
        table.columns[name] = np.array([0, 0, 0, 0, element, element << 33], "u8")
    table.columns["zone"] = np.array([0, 0, 0, 7, 0, 0], "u2")
    records = read(list(Messages(version, 7).of(table, NOW)))
    assert [record[7] for record in records] == list(range(6))
    assert [1 in record for record in records] == [False] * 3 + [True] * 3
    assert records[3][234] == 7
    for element in numbers.values():
        assert [record[element] for record in records[3:]] == [0, element, element << 33]
