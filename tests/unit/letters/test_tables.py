"""Tables: which column is what, and rows that are not what they seem."""

from __future__ import annotations

import time

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


@pytest.mark.parametrize(
    ("names", "row"),
    [
        ("IP-Adresse;Quellport;Zeitstempel (UTC)", f"198.51.100.1;40000;{TIME}"),
        ("| IP | Source Port | Time (UTC) |\n|---|:--:|---|", f"| 198.51.100.1 | 40000 | {TIME} |"),
        ("+-+\n| IP | Port | UTC |\n+----+---+", f"| 198.51.100.1 | 40000 | {TIME} |\n+---+"),
        ("ts\tid.orig_h\tid.orig_p", "1795500005.5\t198.51.100.1\t40000"),
        ("time,victim_ip,victim_port,attacker_ip,attacker_port",
         f"{TIME}Z,192.0.2.7,443,198.51.100.1,40000"),
    ],
    ids=["German", "Markdown", "ruled", "Zeek", "attacker"],
)  # fmt: skip
def test_names_and_rules(names: str, row: str) -> None:
    (found,) = questions(f"\ufeff{names}\n{row}\n")
    assert (found.address, found.port, found.role) == ("198.51.100.1", 40000, "source")
    assert f"{found.time:%H:%M:%S}" == "06:00:05"


def test_a_port_behind_the_other_address_is_the_others() -> None:
    row = f"198.51.100.1,192.0.2.7,443,{TIME}Z"
    (found,) = questions(f"ip,dst_ip,port,time\n{row}\n")
    assert (found.port, found.remote, found.remote_port) == (None, "192.0.2.7", 443)


@pytest.mark.parametrize("word", ["40000;40001", "40000-40009"])
def test_a_cell_with_several_ports_is_not_asked(word: str) -> None:
    found = letter(f"ip,src_port,time\n198.51.100.1,{word},{TIME}Z\n198.51.100.2,1,{TIME}Z\n")
    assert [each.address.value for each in found.sightings] == ["198.51.100.2"]
    assert [each.problem for each in found.unread] == [f"'{word}' is no single port"]


def test_the_zone_stands_where_the_columns_are_described() -> None:
    """It is of the table alone: log lines in the same mail can be of another zone."""
    table = f'"asn","ip","timestamp","src_port"\n"1","198.51.100.1","{TIME}","40000"\n'
    text = f"Format: ASN | IP | Timestamp (UTC) | Port of the source\n\n{table}"
    assert first(mail(text)) == "06:00:05"
    line = "Nov 24 06:00:05 h sshd[1]: Failed password for x from 198.51.100.1 port 40000 ssh2\n"
    assert first(mail(f"Format: Timestamp (UTC)\n\n{line}")) == "unknown"


def test_tables_of_html() -> None:
    """As a table with names above, and as pairs of label and value."""
    cells = "<tr><th>IP</th><th>Port</th><th>Time (UTC)</th></tr>\n"
    cells += f"<tr><td>198.51.100.1</td>\n<td>40000</td><td>{TIME}</td></tr>"
    pairs = "<tr><td>Source IP</td><td>198.51.100.1</td></tr>\n"
    pairs += "<tr><td>Source Port</td><td>40000</td></tr>\n"
    pairs += f"<tr><td>Destination Port</td><td>443</td></tr><tr><td>Time</td><td>{TIME} UTC</td>"
    for rows in (cells, pairs):
        text = f"<html><body><p>Dear all</p><table>{rows}</table></body></html>"
        (found,) = questions(mail(text, kind="text/html"))
        assert (found.address, found.port, found.role) == ("198.51.100.1", 40000, "source")
        assert f"{found.time:%H:%M:%S}" == "06:00:05"


def test_what_seems_a_rule_takes_no_time() -> None:
    text = "ip,port,timestamp\n" + ("-" * 4095 + "x\n") * 100
    begin = time.process_time()
    assert not letter(mail(text)).sightings
    assert time.process_time() - begin < 2  # 7 s, if the pattern tries each way to split it


def test_a_table_ruled_with_equal_signs() -> None:
    """Its zone is in its head."""
    head = "+------+----+\n| Source IP | Port | Time (UTC) |\n+======+====+\n"
    row = "| 198.51.100.1 | 40000 | 2026-11-24 06:00:05 |\n+------+----+\n"
    (found,) = questions(mail(head + row), "Europe/Berlin")
    assert f"{found.time:%H:%M:%S}" == "06:00:05"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("plain", "| Destination IP | Time |\n|---|---|\n| 192.0.2.7 | 2026-11-24 06:00:05Z |\n"),
        (
            "html",
            "<table><tr><th>Destination IP</th><th>Time</th></tr>"
            "<tr><td>192.0.2.7</td><td>2026-11-24 06:00:05Z</td></tr></table>",
        ),
    ],
    ids=["ruled", "HTML"],
)
def test_an_address_of_another_column_is_not_asked(kind: str, text: str) -> None:
    assert not letter(mail(text, kind=f"text/{kind}")).sightings
