"""Tables: which column is what, and rows that are not what they seem."""

from __future__ import annotations

import pytest

from tests.support.letter_cases import letter, mail, ports, questions

TIME = "2026-11-24 06:00:05"
CET = "+0100"


def first(text: str, zone: str = "") -> str:
    (found,) = questions(text, zone)
    return f"{found.time:%H:%M:%S}" if found.second else "unknown"


@pytest.mark.parametrize(
    ("names", "row", "expected"),
    [
        ("ip,port,time", f"198.51.100.1,40000,{TIME}", (40000, "source")),
        ("time,source_ip,source port", f"{TIME},198.51.100.1,40000", (40000, "source")),
        ("ip,port,service,time", f"198.51.100.1,25,smtp,{TIME}", (None, "none")),
        ("ip,src_port,port,time", f"198.51.100.1,40000,80,{TIME}", (40000, "source")),
        ("ip,port,time", f"198.51.100.1,0,{TIME}", (None, "none")),
        ("timestamp,ip,port,asn,geo", f"{TIME},198.51.100.1,53,1,XX", (53, "service")),
        ("geo,asn,port,ip,timestamp", f"XX,1,53,198.51.100.1,{TIME}", (53, "service")),
        (
            "timestamp,ip,port,asn,geo,cc,cc_port",
            f"{TIME},198.51.100.1,2005,1,XX,192.0.2.1,80",
            (2005, "source"),
        ),
        (
            "timestamp,src_ip,src_port,src_asn,src_geo",
            f"{TIME},198.51.100.1,2005,1,XX",
            (2005, "source"),
        ),
        (
            "timestamp,ip,asn,geo,src_port,dst_ip,dst_port",
            f"{TIME},198.51.100.1,1,XX,2005,,80",
            (2005, "source"),
        ),
    ],
)
def test_roles_of_ports(names: str, row: str, expected: tuple[int | None, str]) -> None:
    assert ports(f"{names}\n{row}\n") == [("198.51.100.1", *expected)]


@pytest.mark.parametrize(
    ("names", "cell", "expected"),
    [
        ("ip,time", TIME, "unknown"),
        ("ip,time (UTC)", TIME, "06:00:05"),
        ("ip,time,timezone", f"{TIME},+01:00", "05:00:05"),
        ("ip,time", f"{TIME}Z", "06:00:05"),
        ("ip,time", "1795500005", "06:00:05"),
        ("ip,date,time", TIME.replace(" ", ","), "unknown"),
    ],
)
def test_zones(names: str, cell: str, expected: str) -> None:
    assert first(f"{names}\n198.51.100.1,{cell}\n") == expected


def test_a_note_is_for_tables_without_a_convention() -> None:
    """Shadowserver's times are UTC, whatever else stands in the mail."""
    note = "Local timezone is +0100 (CET)\n\n"
    assert first(mail(f"{note}ip,time\n198.51.100.1,{TIME}\n")) == "05:00:05"
    table = f"timestamp,ip,port,asn,geo\n{TIME},198.51.100.1,53,1,XX\n"
    assert first(mail(note + table)) == "06:00:05"


def test_columns_that_are_not_ours() -> None:
    assert not questions(f"external_ip,time\n198.51.100.1,{TIME}\n")
    assert not questions(f"dst_ip,dst_port,time\n198.51.100.1,443,{TIME}\n")
    assert not questions(f"ip,ip,time\n198.51.100.1,198.51.100.2,{TIME}\n")
    assert not questions("ip,port\n198.51.100.1,443\n")


def test_quotes_and_delimiters() -> None:
    text = f'"ip";"time";"text"\r\n"198.51.100.1";"{TIME}Z";"a ""b""; c\r\nd"\r\n'
    assert first(text) == "06:00:05"
    assert first(f"ip|time|x\n198.51.100.1|{TIME}Z|\n") == "06:00:05"
    assert first(f"ip\ttime\n198.51.100.1\t{TIME}Z\n") == "06:00:05"


def test_a_row_with_another_number_of_cells_is_not_read() -> None:
    """Its cells could be those of other columns."""
    found = letter(f"ip,port,time\n198.51.100.1,1,2,{TIME}\n198.51.100.2,40000,{TIME}Z\n")
    assert [each.address.value for each in found.sightings] == ["198.51.100.2"]
    assert [each.value for each in found.seen] == ["198.51.100.1", TIME]


def test_a_range() -> None:
    (found,) = questions(f"ip,first_seen,last_seen\n198.51.100.1,{TIME}Z,2026-11-24 06:10:05Z\n")
    assert found.second is not None
    assert found.until == found.second + 600


def test_the_protocol_is_one_of_layer_4() -> None:
    text = f"ip,time,protocol\n198.51.100.1,{TIME}Z,smtp\n198.51.100.2,{TIME}Z,UDP\n"
    assert [each.protocol for each in questions(text)] == [None, "udp"]


def test_a_table_between_prose() -> None:
    body = f"Hello,\nthis we saw:\n\nip,port,time\n198.51.100.1,40000,{TIME}Z\n\nBye, 192.0.2.1\n"
    assert ports(mail(body)) == [("198.51.100.1", 40000, "source")]


def test_rows_that_were_not_read_are_told_in_their_places() -> None:
    """A file of rows: whoever sent a row gets an answer to it."""
    found = letter(
        f"time;ip;port\n{TIME}Z;198.51.100.1;40001\n{TIME}Z;bad;40001\n"
        f"{TIME}Z;198.51.100.1;99999\ngarbage;;\n{TIME}Z;198.51.100.1\ntime;ip;port\n;;\n"
    )
    assert [each.address.value for each in found.sightings] == ["198.51.100.1"]
    assert [
        (each.address.place.line, each.address.value, each.problem) for each in found.unread
    ] == [
        (3, "", "'bad' is no address that can be asked"),
        (4, "198.51.100.1", "'99999' is no port"),
        (5, "", "the row has no address"),
        (6, "", "the row has 2 cells, and the table 3 names"),
    ]
    assert found.unread[0].address.place.raw == f"{TIME}Z;bad;40001".encode()
    assert not letter(mail(f"ip,time\n198.51.100.1,{TIME}Z\n\nGreetings, Ann\n")).unread


def test_a_table_without_a_good_row_says_why() -> None:
    found = letter(f"time;ip;port\n{TIME}Z;198.51.100.1;99999\n")
    assert not found.sightings
    assert found.problem == "line 2: '99999' is no port"


def test_a_number_of_a_type_is_no_protocol() -> None:
    rows = (f"ip,time,{name}\n198.51.100.1,{TIME}Z,1\n" for name in ("type", "protocol"))
    assert [questions(each)[0].protocol for each in rows] == [None, "icmp"]
