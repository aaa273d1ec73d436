"""Records in JSON: whose an address or a port is must be in their names."""

from __future__ import annotations

import json

import pytest

from tests.support.letter_cases import letter, questions

OURS = ("198.51.100.1", 40000, "source", "192.0.2.7", 443, "tcp")


@pytest.mark.parametrize(
    "record",
    [
        {
            "timestamp": "2026-11-24T07:00:05.250000+0100",
            "src_ip": "198.51.100.1",
            "src_port": 40000,
            "dest_ip": "192.0.2.7",
            "dest_port": 443,
            "proto": "TCP",
        },
        {
            "ts": 1795500005.25,
            "id.orig_h": "198.51.100.1",
            "id.orig_p": 40000,
            "id.resp_h": "192.0.2.7",
            "id.resp_p": 443,
            "proto": "tcp",
        },
        {
            "@timestamp": "2026-11-24T06:00:05Z",
            "source": {"ip": "198.51.100.1", "port": 40000},
            "destination": {"ip": "192.0.2.7", "port": 443},
            "network": {"transport": "tcp"},
        },
    ],
    ids=["Suricata", "Zeek", "ECS"],
)
def test_records(record: dict[str, object]) -> None:
    line = json.dumps(record)
    for text in (line, f"[{line}]", f"{line}\n{line}\n", json.dumps({"events": [record]})):
        (found,) = questions(text)
        assert found.address == OURS[0]
        assert (found.port, found.role) == OURS[1:3]
        assert (found.remote, found.remote_port, found.protocol) == OURS[3:]
        assert f"{found.time:%H:%M:%S}" == "06:00:05"
    assert letter(line).form == "JSON"


@pytest.mark.parametrize(
    "record",
    [
        {"timestamp": "2026-11-24T06:00:05Z", "ip": "198.51.100.1", "port": 443},
        {"timestamp": "2026-11-24T06:00:05Z", "dst_ip": "198.51.100.1", "dst_port": 443},
        {"src_ip": "198.51.100.1", "src_port": 40000},
        {"src_ip": "a.example", "timestamp": "2026-11-24T06:00:05Z"},
        {"src_ip": "198.51.100.1", "src-ip": "198.51.100.2", "timestamp": "2026-11-24T06:00:05Z"},
        {"type": "ipv4-addr", "value": "198.51.100.1", "start": "2026-11-24T06:00:05Z"},
    ],
    ids=["scan", "other end", "no time", "name", "twice", "STIX"],
)
def test_what_is_no_record_is_said(record: dict[str, object]) -> None:
    found = letter(json.dumps(record))
    assert not found.sightings
    assert found.problem


def test_a_port_is_not_another_ones() -> None:
    """The proxy's address and the port of its client are of two hosts."""
    record = {
        "time": "2026-11-24T06:00:05Z",
        "src_ip": "198.51.100.1",
        "client_ip": "198.51.100.9",
        "client_port": 40000,
        "dest_ip": "192.0.2.7",
        "server_ip": "192.0.2.8",
        "server_port": 443,
    }
    (found,) = questions(json.dumps(record))
    assert (found.address, found.port, found.role) == (OURS[0], None, "none")
    assert (found.remote, found.remote_port) == ("192.0.2.7", None)
    (found,) = questions(json.dumps(record | {"client_ip": "198.51.100.1"}))
    assert (found.port, found.role) == (40000, "source")


def test_the_time_of_a_record() -> None:
    """That of the event, not that of the report; its zone is in the record."""
    record = {
        "source": {"ip": "198.51.100.1", "port": 40000},
        "timestamp": "2026-11-25 12:00:00",
        "event": {"start": "2026-11-24 07:00:05", "timezone": "+01:00"},
    }
    (found,) = questions(json.dumps(record), "America/New_York")
    assert f"{found.time:%d %H:%M:%S}" == "24 06:00:05"
    flow = {
        "timestamp": "2026-11-24T06:05:00Z",
        "src_ip": "198.51.100.1",
        "src_port": 40000,
        "flow": {"start": "2026-11-24T06:00:05Z", "end": "2026-11-24T06:01:00Z"},
    }
    (found,) = questions(json.dumps(flow))
    assert f"{found.time:%d %H:%M:%S}" == "24 06:00:05"


def test_events_in_a_record() -> None:
    """The time outside is that of the report: nothing is asked of it."""
    event = {"timestamp": "2026-11-24T06:00:05Z", "src_port": 40000}
    record = {"src_ip": "198.51.100.1", "timestamp": "2026-11-25T06:00:00Z", "events": [event]}
    assert not letter(json.dumps(record)).sightings
    record["events"] = [event | {"src_ip": "198.51.100.1"}]
    (found,) = questions(json.dumps(record))
    assert f"{found.time:%d %H:%M:%S}" == "24 06:00:05"


def test_a_range_of_ports_is_not_asked() -> None:
    record = {"src_ip": "198.51.100.1", "src_port": "40000-40010", "ts": 1795500005}
    found = letter(json.dumps(record))
    assert not found.sightings
    assert found.problem.endswith("'40000-40010' is no single port")
