"""Text of each format against a slow renderer, json, csv, lines of ctrecorder and conntrack."""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrecorder import labels
from ctrecorder.columns import ADDRESSES, BY_NAME, PORTS, Table
from ctrecorder.errors import UsageError
from ctrecorder.legacy import format as legacy_format
from ctrecorder.render import header as render_header
from ctrecorder.render import renderer
from ctrecorder.render.records import CONNECTION_KEYS, EVENT_KEYS
from ctrecorder.render.renderer import FORMATS, Renderer
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support.rows import NS, Row, event, random_events, table, without

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
UNKNOWN = "-          -              "  # a time
FAMILIES = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["IPv4", "IPv6"])


@pytest.fixture(autouse=True)
def warsaw() -> Iterator[None]:
    os.environ["TZ"] = "Europe/Warsaw"
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


def made(form: str, *tables: Table, connections: bool = False, utc: bool = False) -> str:
    return b"".join(Renderer(form, connections=connections, utc=utc).lines(tables)).decode()


def clock(ns: int) -> str:
    return (
        f"{time.strftime('%Y.%m.%d %H:%M:%S', time.localtime(ns // 10**9))}.{ns // 1000 % 10**6:06}"
    )


def slow_address(text: str) -> str:
    return (
        text
        if "." in text
        else socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    )


def slow_tuples(row: Mapping[str, Any]) -> str:
    """Both directions in the text format."""
    parts = []
    for side in ("orig", "reply"):
        for end in ("src", "dst"):
            address, port = row.get(f"{side}_{end}"), row.get(f"{side}_{end[0]}port")
            shown = "?" if address is None else slow_address(address)
            if port is not None:
                shown = f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
            parts.append(f"{end}={shown}")
        if f"{side}_icmp" in row:
            parts.append("type={} code={} id={}".format(*row[f"{side}_icmp"]))
    return " ".join(parts)


def slow_text(row: Mapping[str, Any]) -> str:
    letter = {1: "S", 2: "U", 3: "E", 4: "R"}[row["event"]]
    heard_or_ended = row.get("stop") or row["time"] if row["event"] == 3 else row["time"]
    head = f"{clock(heard_or_ended)} {letter}{'+' if row['status'] & 2 else ' '}"
    return f"{head} {labels.protocol(row['l4proto'])} {slow_tuples(row)}\n"


def test_the_line_of_the_issue() -> None:
    row = event(time=int(datetime(2010, 9, 28, 21, 15, 17).timestamp()) * 10**9 + 988_012_345)
    swapped = {
        "orig_src": "88.1.1.1",
        "orig_dst": "194.1.1.1",
        "reply_src": "192.168.1.100",
        "reply_dst": "88.1.1.1",
    }
    expected = (
        "2010.09.28 21:15:17.988012 S  tcp src=88.1.1.1:1527 dst=194.1.1.1:25 "
        "src=192.168.1.100:25 dst=88.1.1.1:1527\n"
    )
    assert made("text", table([{**row, **swapped}])) == expected


@FAMILIES
def test_text_against_slow_text(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a chunk has; ICMP, ports and none in every order."""
    monkeypatch.setattr(renderer, "CHUNK_ROWS", 1_000)
    rows = random_events(family, 2_700, family)
    assert made("text", table(rows, family)) == "".join(map(slow_text, rows))


@pytest.mark.parametrize("protocol", [6, 1, 112], ids=["with ports", "ICMP", "without ports"])
@FAMILIES
def test_text_of_one_kind_alone(protocol: int, family: int) -> None:
    """A mask that is equal in all rows of a chunk takes another path."""
    rows = [row for row in random_events(3, 300, family) if row["l4proto"] == protocol]
    assert len(rows) > 10
    assert made("text", table(rows, family)) == "".join(map(slow_text, rows))


def test_addresses_that_were_not_recorded() -> None:
    rows = [
        event(),
        without(event(), "orig_src", "reply_dst"),
        without(event(l4proto=112), "orig_src", *PORTS),
    ]
    assert made("text", table(rows)) == "".join(map(slow_text, rows))


def test_families_in_one_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each family's rows in order, mixed by time; of equal times those of the first table first."""
    monkeypatch.setattr(renderer, "CHUNK_ROWS", 1_000)
    four, six = random_events(1, 1_100), random_events(2, 1_100, AF_INET6)
    for number, (row, other) in enumerate(zip(four, six, strict=True)):
        row["time"] = other["time"] = NS + number // 3 * 1000
    expected = sorted([*four, *six], key=lambda row: row["time"])
    assert made("text", table(four), table(six, AF_INET6)) == "".join(map(slow_text, expected))
    few = [{**six[0], "time": NS + 5000}]
    expected = sorted([*four, *few], key=lambda row: row["time"])
    assert made("text", table(four), table(few, AF_INET6)) == "".join(map(slow_text, expected))


def test_no_rows_no_text() -> None:
    for form in FORMATS:
        assert made(form) == made(form, table([event()]).slice(0, 0)) == ""


@pytest.mark.parametrize("path", sorted(LEGACY.glob("*.list.txt")), ids=lambda path: path.name)
def test_classic_is_what_the_c_ctrecorder_printed(path: Path) -> None:
    data = path.with_name(path.name.removesuffix(".list.txt")).read_bytes()
    header = legacy_format.parse_header(data, str(path))
    records = np.frombuffer(data[legacy_format.HEADER_BYTES :], header.layout)
    shown = made(
        "classic", legacy_format.to_table(records, header), connections=header.squeezed, utc=True
    )
    assert shown == path.read_text()


def test_classic_of_what_the_c_ctrecorder_could_not_say() -> None:
    """ICMP has ports 0; a bound is unknown; IPv6 has its address."""
    icmp = without(event(l4proto=1, orig_icmp=(8, 0, 9), reply_icmp=(0, 0, 9), status=2), *PORTS)
    assert (
        made("classic", table([icmp]))
        == f"{clock(NS)} S+ src=192.168.1.100:0 dst=194.1.1.1:0 src=194.1.1.1:0 dst=88.1.1.1:0\n"
    )
    bound = without(event(start=NS, start_source=3, end=NS, end_source=1), "time", "event")
    assert made("classic", table([bound]), connections=True).startswith(
        f"{UNKNOWN} {clock(NS)} src=192.168.1.100:1527 dst="
    )
    six = event(**dict.fromkeys(ADDRESSES, "2001:db8::1"))
    ends = "src=[2001:db8::1]:1527 dst=[2001:db8::1]:25 src=[2001:db8::1]:25 dst=[2001:db8::1]:1527"
    assert made("classic", table([six], AF_INET6)) == f"{clock(NS)} S  {ends}\n"


def test_text_of_connections() -> None:
    """Two times, the source of each, and whether there was a reply."""
    later = NS + 5 * 10**9
    base = without(event(), "time", "event")
    rows = [
        {**base, "start": NS, "start_source": 1, "end": later, "end_source": 2, "status": 2},
        {**base, "start": NS, "start_source": 3, "end": 0, "end_source": 0},
        {**base, "start": 0, "start_source": 0, "end": later, "end_source": 3},
    ]
    times = [
        f"{clock(NS)} {clock(later)} kr+",
        f"{clock(NS)} {UNKNOWN} <- ",
        f"{UNKNOWN} {clock(later)} -< ",
    ]
    assert made("text", table(rows), connections=True) == "".join(
        f"{part} tcp {slow_tuples(base)}\n" for part in times
    )


# Lines of conntrack 1.4.7 -E -o timestamp, without timeout and process, and the recorded values.
CONNTRACK = [
    (
        "[1795499804.994266]\t    [NEW] icmp     1 "
        "src=10.9.0.2 dst=198.51.100.2 type=8 code=0 id=21593 [UNREPLIED] "
        "src=198.51.100.2 dst=198.51.100.1 type=0 code=0 id=21593",
        {"event": 1, "l4proto": 1, "orig_icmp": (8, 0, 21593), "reply_icmp": (0, 0, 21593),
         "status": 0x188},
    ),
    (
        "[1795499804.994266]\t [UPDATE] tcp      6 ESTABLISHED "
        "src=10.9.0.2 dst=198.51.100.2 sport=45956 dport=80 "
        "src=198.51.100.2 dst=198.51.100.1 sport=80 dport=45956 [ASSURED]",
        {"event": 2, "l4proto": 6, "ports": (45956, 80), "status": 0x18E, "tcp_state": 3},
    ),
    (
        "[1795499804.994266]\t[DESTROY] tcp      6 CLOSE "
        "src=10.9.0.2 dst=198.51.100.2 sport=56968 dport=81 packets=1 bytes=60 "
        "[UNREPLIED] "
        "src=198.51.100.2 dst=198.51.100.1 sport=81 dport=56968 packets=1 bytes=40 delta-time=1",
        {"event": 3, "l4proto": 6, "ports": (56968, 81),
         "status": 0x388, "tcp_state": 8, "counters": (1, 60, 1, 40),
         "start": NS - 10**9, "stop": NS - 10**7},
    ),
    (
        "[1795499804.994266]\t    [NEW] udp      17 "
        "src=10.9.0.2 dst=198.51.100.2 sport=42275 dport=5001 [UNREPLIED] "
        "src=198.51.100.2 dst=198.51.100.1 sport=5001 dport=42275 mark=42 zone=7",
        {"event": 1, "l4proto": 17, "ports": (42275, 5001), "status": 0x188, "zone": 7, "mark": 42},
    ),
    (
        "[1795499804.994266]\t    [NEW] gre      47 "
        "src=10.9.0.2 dst=198.51.100.2 srckey=0x0 dstkey=0x1a [UNREPLIED] "
        "src=198.51.100.2 dst=198.51.100.1 srckey=0x1a dstkey=0x0",
        {"event": 1, "l4proto": 47, "ports": (0, 26), "status": 0x188},
    ),
    (
        "[1795499804.994266]\t    [NEW] unknown  112 "
        "src=10.9.0.2 dst=198.51.100.2 [UNREPLIED] src=198.51.100.2 dst=198.51.100.1",
        {"event": 1, "l4proto": 112, "status": 0x188},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"), CONNTRACK, ids=[line[21:40].strip() for line, _ in CONNTRACK]
)
@pytest.mark.parametrize("others", [False, True], ids=["alone", "among others"])
def test_lines_of_conntrack(line: str, told: Row, others: bool) -> None:
    row = {
        "time": NS,
        "orig_src": "10.9.0.2",
        "orig_dst": "198.51.100.2",
        "reply_src": "198.51.100.2",
        "reply_dst": "198.51.100.1",
        **told,
    }
    if "ports" in row:
        sport, dport = row.pop("ports")
        row |= {
            "orig_sport": sport,
            "orig_dport": dport,
            "reply_sport": dport,
            "reply_dport": sport,
        }
    row |= dict(
        zip(
            ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes"),
            row.pop("counters", ()),
            strict=False,
        )
    )
    rows = [*random_events(1, 20), row, *random_events(2, 20)] if others else [row]
    assert made("conntrack", table(rows)).splitlines()[20 if others else 0] == line


def expected_record(row: Row) -> dict[str, Any]:
    """The JSON object of a row."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("time", "start", "stop", "end"):
            seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(value // 10**9))
            found[key] = f"{seconds}.{value % 10**9:09}Z"
        elif key == "event":
            found[key] = {1: "NEW", 2: "UPDATE", 3: "DESTROY", 4: "EXISTING"}[value]
        elif key == "l4proto":
            found["protocol"] = labels.protocol(value)
        elif key.endswith("_icmp"):
            found |= {
                f"{key}_{part}": number
                for part, number in zip(("type", "code", "id"), value, strict=True)
            }
        elif key == "helper":
            found[key] = value.decode()
        elif key == "labels":
            found[key] = [bit for bit in range(128) if value[bit // 8] >> bit % 8 & 1]
        elif key == "master_l4proto":
            found["master_protocol"] = labels.protocol(value)
        elif key == "status":
            found[key] = labels.status(value)
        elif key == "tcp_state":
            found[key] = labels.tcp_state(value)
        elif key.endswith(("src", "dst")):
            found[key] = slow_address(value)
        else:
            found[key] = value
    return found


@FAMILIES
def test_json_is_what_was_told_and_no_more(family: int) -> None:
    rows = random_events(5, 500, family)
    shown = [json.loads(line) for line in made("json", table(rows, family)).splitlines()]
    assert shown == list(map(expected_record, rows))
    assert {key for row in shown for key in row} == set(EVENT_KEYS)


@FAMILIES
def test_csv_has_the_same_and_nothing_where_json_has_no_key(family: int) -> None:
    rows = random_events(6, 500, family)
    text = Renderer("csv", connections=False, utc=False).head.decode() + made(
        "csv", table(rows, family)
    )
    shown = list(csv.DictReader(io.StringIO(text), strict=True))
    for row, got in zip(map(expected_record, rows), shown, strict=True):
        flat = {
            key: "|".join(map(str, value)) if isinstance(value, list) else str(value)
            for key, value in row.items()
        }
        assert {key: value for key, value in got.items() if value or key in flat} == flat
    assert text.splitlines()[0].split(",") == list(EVENT_KEYS)


def test_json_of_connections_begins_well_whatever_is_unknown() -> None:
    base = without(event(seen=5), "time", "event")
    spans = [(NS, 1, NS + 1, 2), (0, 0, NS, 3), (NS, 3, 0, 0), (0, 0, 0, 0)]
    rows = [
        {**base, "start": start, "start_source": source, "end": end, "end_source": other}
        for start, source, end, other in spans
    ]
    shown = [json.loads(line) for line in made("json", table(rows), connections=True).splitlines()]
    assert [("start" in row, "end" in row) for row in shown] == [
        (True, True),
        (False, True),
        (True, False),
        (False, False),
    ]
    assert [row["start_source"] for row in shown] == ["kernel", "unknown", "bound", "unknown"]
    assert shown[0]["seen"] == ["NEW", "DESTROY"]
    assert set(shown[0]) <= set(CONNECTION_KEYS)
    assert (
        len(
            {made("csv", table([row]), connections=True).count(",") for row in rows}
            | {len(CONNECTION_KEYS) - 1}
        )
        == 1
    )


def test_every_column_has_a_key() -> None:
    """A column that is added to the format shows up."""
    shown = {*EVENT_KEYS, *CONNECTION_KEYS} - {key for key in EVENT_KEYS if "_icmp_" in key} - {
        "protocol",
        "master_protocol",
    } | {"l4proto", "master_l4proto", "present"}
    assert shown == set(BY_NAME)


def test_formats_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="use text, classic, conntrack, json, csv"):
        Renderer("xml", connections=False, utc=False)
    with pytest.raises(UsageError, match="events only"):
        Renderer("conntrack", connections=True, utc=False)


def test_columns_that_are_enough() -> None:
    """A table with only the columns of a format gives the same text."""
    whole = table(random_events(7, 300))
    for form in FORMATS:
        columns = Renderer(form, connections=False, utc=False).columns
        assert made(form, whole.select(columns)) == made(form, whole), form


def test_a_strangers_numbers_are_text_too() -> None:
    """Values that no kernel sends: no crash, one line each."""
    rows = [
        event(event=200, l4proto=255, status=2**32 - 1, tcp_state=77, time=-5),
        event(time=2**63 - 1, status=1 << 20),
    ]
    for form in FORMATS:
        assert made(form, table(rows), utc=True).count("\n") == 2
    shown = [json.loads(line) for line in made("json", table(rows)).splitlines()]
    assert (shown[0]["event"], shown[0]["protocol"], shown[1]["status"]) == (
        "200",
        "255",
        ["0x100000"],
    )
    assert str(ipaddress.ip_address(shown[0]["orig_src"])) == shown[0]["orig_src"]


def test_a_header_that_left_no_protocol_out_says_all() -> None:
    assert (
        render_header.text("x", {"protocols": [], "sealed": False})
        == "x:\n  protocols: all\n  sealed:    no\n"
    )
    assert render_header.text("x", {"protocols": ["tcp", "udp"]}) == "x:\n  protocols: tcp, udp\n"
