"""Each kind of source, from a file to the holders that it names."""

from __future__ import annotations

import gzip
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.names import reader
from ctrecorder.names.directory import Directory

S = 10**9


def at(text: str) -> int:
    """A time of 23 November 2026, UTC: "18:17", "18:17:30"."""
    moment = datetime.fromisoformat(f"2026-11-23T{text}").replace(tzinfo=UTC)
    return int(moment.timestamp()) * S


NOW = at("23:00")
WRITTEN = at("17:00")

DNSMASQ = f"""\
{at("20:00") // S} 02:00:5e:00:53:01 192.0.2.10 desk 01:02:00:5e:00:53:01
0 02:00:5e:00:53:02 192.0.2.11 * *
duid 00:01:00:01:2a:00:00:01:02:00:5e:00:53:ff
{at("21:00") // S} 1359 2001:db8:7::10 desk 00:01:00:01:2a:11:11:11:02:00:5e:00:53:01
"""

KEA4 = f"""\
address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id
192.0.2.20,02:00:5e:00:53:03,,3600,{at("11:00") // S},1,0,0,desk&#x2cold,0,,0
192.0.2.20,02:00:5e:00:53:03,,3600,{at("11:30") // S},1,0,0,desk&#x2cold,0,,0
192.0.2.20,02:00:5e:00:53:03,,0,{at("11:10") // S},1,0,0,,0,,0
192.0.2.20,02:00:5e:00:53:04,,3600,{at("12:30") // S},1,0,0,,0,,0
192.0.2.20,02:00:5e:00:53:05,,3600,{at("13:15") // S},1,0,0,,0,,0
192.0.2.21,,,86400,{at("23:30") // S},1,0,0,,1,,0
192.0.2.22,02:00:5e:00:53:06,,4294967295,{at("10:00") // S + 4294967295},1,0,0,,0,,0
"""

KEA6 = f"""\
address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state,user_context,hwtype,hwaddr_source,pool_id
2001:db8:7:100::,00:03:00:01:02:00:5e:00:53:07,3600,{at("11:00") // S},1,1800,2,1,56,0,0,,,0,,,,0
2001:db8:7::20,00:03:00:01:02:00:5e:00:53:08,3600,{at("11:00") // S},1,1800,0,1,128,0,0,desk,,0,,,,0
"""

DHCPD = """\
# The format of this file is documented in the dhcpd.leases(5) manual page.
authoring-byte-order little-endian;

lease 192.0.2.30 {
  starts 1 2026/11/23 10:00:00;
  ends 1 2026/11/23 12:00:00;
  tstp 1 2026/11/23 12:00:00;
  binding state active;
  hardware ethernet 02:00:5e:00:53:09;
  uid "\\001\\002";
  client-hostname "desk";
}
lease 192.0.2.30 {
  starts 1 2026/11/23 10:00:00;
  ends 1 2026/11/23 11:15:00;
  binding state free;
  hardware ethernet 02:00:5e:00:53:09;
  client-hostname "desk";
}
lease 192.0.2.31 {
  starts epoch 1795428000; # Mon Nov 23 10:00:00 2026
  ends never;
  binding state active;
  hardware ethernet 02:00:5e:00:53:0a;
}
lease 192.0.2.32 {
  starts 1 2026/11/23 10:00:00;
  ends 1 2026/11/23 12:00:00;
  binding state abandoned;
}
"""


def record(kind: str, moment: str, user: str, session: str, *more: str) -> str:
    lines = [
        f"Acct-Status-Type = {kind}",
        f'User-Name = "{user}"',
        f'Acct-Session-Id = "{session}"',
        "NAS-IP-Address = 198.51.100.200",
        f'Event-Timestamp = "Nov 23 2026 {moment} CET"',
        *more,
    ]
    return "Mon Nov 23 12:00:00 2026\n" + "".join(f"\t{line}\n" for line in lines) + "\n"


V4, V6 = "Framed-IP-Address = 100.64.0.7", "Framed-IPv6-Prefix = 2001:db8:7:a::/64"
PD = "Delegated-IPv6-Prefix = 2001:db8:7:200::/56"
CST = 'Event-Timestamp = "Nov 23 2026 10:00:00 CST"'
RADIUS = (
    record("Start", "11:00:00", "anna@example.net", "01", V4)
    + record("Interim-Update", "11:10:00", "anna@example.net", "01", V4, V6, PD)
    + record("Stop", "12:00:00", "anna@example.net", "01", V4, V6, PD, "Acct-Session-Time = 3600")
    + record("Stop", "13:00:00", 'b\\"o', "02", V4, "Acct-Session-Time = 1800")
    + record("Start", "14:00:00", "carl", "03", V4)
    + record("Start", "14:00:00", "carl", "03", V4)
    + record("Start", "15:00:00", "dora", "04", "Framed-IP-Address = 100.64.0.8")
    + record("Accounting-On", "15:30:00", "", "x")
    + record("Start", "16:00:00", "emil", "05", V4)
    + record("Start", "17:00:00", "fred", "05", "Framed-IP-Address = 100.64.0.9")
)

CSV = """\
name;address;zone;mark;from;until;remark
"Anna; first floor";100.64.0.0/24;1;;2026-11-23T10:00:00Z;2026-11-23T11:00:00Z;x
Bob;100.64.0.9;2;0x10;2026-11-23 11:00:00 +0100;;
Carl;2001:db8:7:300::/56;;;;2026-11-22 +01:00;
Dora;2001:db8:7:400::1;;;2026-11-23Z;2026-11-23Z;
"""
FILES = {
    "dnsmasq": DNSMASQ,
    "kea4": KEA4,
    "kea6": KEA6,
    "dhcpd": DHCPD,
    "radius": RADIUS,
    "csv": CSV,
}


def directory(tmp_path: Path, text: str | bytes, name: str = "file") -> Directory:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(path, ns=(WRITTEN, WRITTEN))
    return reader.read(str(path), NOW)


def names(
    source: Directory,
    address: str,
    since: str,
    until: str = "",
    zone: int | None = None,
    mark: int | None = None,
) -> list[str]:
    end = at(until) if until else at(since)
    return [one.name for one in source.holders(address, at(since), end, zone, mark)]


def test_dnsmasq_knows_a_lease_from_when_it_wrote_the_file(tmp_path: Path) -> None:
    """Whoever has an address today need not have had it at the time of a question."""
    source = directory(tmp_path, DNSMASQ)
    assert source.problems == ()
    (one,) = source.holders("192.0.2.10", at("18:00"), at("18:01"), None, None)
    assert (one.name, one.since, one.until) == ("02:00:5e:00:53:01 (desk)", WRITTEN, at("20:00"))
    assert names(source, "192.0.2.10", "16:59") == []
    assert one.source == f"{tmp_path}/file, line 1"
    assert names(source, "192.0.2.10", "20:00") == []
    (one,) = source.holders("192.0.2.11", at("23:00"), at("23:00"), None, None)
    assert (one.name, one.until) == ("02:00:5e:00:53:02", None)
    found = names(source, "2001:db8:7::10", "18:00")
    assert found == ["00:01:00:01:2a:11:11:11:02:00:5e:00:53:01 (desk)"]


def test_a_dnsmasq_without_a_clock_is_reported(tmp_path: Path) -> None:
    """HAVE_BROKEN_RTC: it writes the length of the lease in place of its end."""
    source = directory(tmp_path, "3600 02:00:5e:00:53:01 192.0.2.10 desk *\n")
    assert "line 1: '3600' is a length of time" in source.problems[0]
    assert names(source, "192.0.2.10", "10:00") == []


def test_kea_joins_renewals_and_ends_at_a_release_and_the_next_client(tmp_path: Path) -> None:
    source = directory(tmp_path, KEA4)
    assert source.problems == ()
    found = source.holders("192.0.2.20", at("00:00"), at("23:00"), None, None)
    assert [(one.name, one.since, one.until) for one in found] == [
        ("02:00:5e:00:53:03 (desk,old)", at("10:00"), at("11:10")),
        ("02:00:5e:00:53:04", at("11:30"), at("12:15")),
        ("02:00:5e:00:53:05", at("12:15"), at("13:15")),
    ]
    assert names(source, "192.0.2.20", "11:20") == []
    assert names(source, "192.0.2.20", "12:14", "12:16") == [
        "02:00:5e:00:53:04",
        "02:00:5e:00:53:05",
    ]
    assert names(source, "192.0.2.21", "22:00") == []  # declined
    (one,) = source.holders("192.0.2.22", at("22:00"), at("22:01"), None, None)
    assert (one.since, one.until) == (at("10:00"), None)


def test_a_lease_of_kea_that_is_out_of_order_is_kept(tmp_path: Path) -> None:
    """leases4.csv.2, the older part, comes after leases4.csv in order of names."""
    head, *rows = KEA4.splitlines(keepends=True)
    source = directory(tmp_path, "".join([head, rows[4], rows[3], rows[0]]))
    found = source.holders("192.0.2.20", at("00:00"), at("23:00"), None, None)
    assert [(one.name, one.since) for one in found] == [
        ("02:00:5e:00:53:03 (desk,old)", at("10:00")),
        ("02:00:5e:00:53:04", at("11:30")),
        ("02:00:5e:00:53:05", at("12:15")),
    ]


def test_kea_names_the_holder_of_a_delegated_prefix(tmp_path: Path) -> None:
    source = directory(tmp_path, KEA6)
    assert source.problems == ()
    holder = "00:03:00:01:02:00:5e:00:53:07"
    assert names(source, "2001:db8:7:1ff:1:2:3:4", "10:30") == [holder]
    assert names(source, "2001:db8:7:200::1", "10:30") == []
    assert names(source, "2001:db8:7:1ff:1:2:3:4", "11:00") == []
    assert names(source, "2001:db8:7::20", "10:30") == ["00:03:00:01:02:00:5e:00:53:08 (desk)"]
    assert names(source, "2001:db8:7::21", "10:30") == []


def test_dhcpd_takes_the_last_block_of_a_lease(tmp_path: Path) -> None:
    source = directory(tmp_path, DHCPD)
    assert source.problems == ()
    (one,) = source.holders("192.0.2.30", at("00:00"), at("23:00"), None, None)
    assert (one.name, one.since) == ("02:00:5e:00:53:09 (desk)", at("10:00"))
    assert one.until == at("11:15")
    (one,) = source.holders("192.0.2.31", at("23:00"), at("23:01"), None, None)
    assert (one.since, one.until) == (at("10:00"), None)
    assert names(source, "192.0.2.32", "11:00") == []
    source = directory(tmp_path, DHCPD + 'ia-pd "x" {\n}\n')
    assert source.problems[0].endswith("line 31: this block is not read: only leases of DHCPv4 are")


def test_radius_sessions(tmp_path: Path) -> None:
    source = directory(tmp_path, RADIUS)
    assert source.problems == ()
    found = source.holders("100.64.0.7", at("00:00"), at("23:00"), None, None)
    assert [(one.name, one.since, one.until) for one in found] == [
        ("anna@example.net", at("10:00"), at("11:00")),
        ('b"o', at("11:30"), at("12:00")),  # no Start: by its length
        ("carl", at("13:00"), at("14:30")),  # no Stop: the NAS restarted
        ("emil", at("15:00"), at("16:00")),  # no Stop: its id is another session's
    ]
    (one,) = source.holders("100.64.0.9", at("16:00"), at("17:01"), None, None)
    assert (one.name, one.until) == ("fred", at("16:00") + 1)  # no Stop, and the last record
    source = directory(tmp_path, RADIUS + record("Start", "18:00:00", "x", "06"))
    assert names(source, "100.64.0.9", "17:00") == ["fred"]  # a later record of the NAS
    assert names(source, "100.64.0.9", "17:01") == []
    assert names(source, "2001:db8:7:a::1", "10:05") == ["anna@example.net"]
    assert names(source, "2001:db8:7:2ff::1", "10:59", "11:10") == ["anna@example.net"]
    assert names(source, "2001:db8:7:2ff::1", "11:00") == []


@pytest.mark.parametrize(
    ("attributes", "moment"),
    [
        # An abbreviation of several countries: the clock of the server decides.
        ([CST, f"Timestamp = {at('16:00') // S + 9}"], "16:00"),
        ([CST, f"Timestamp = {at('02:00') // S + 9}"], "02:00"),
        ([f"Timestamp = {at('16:00') // S + 9}", "Acct-Delay-Time = 9"], "16:00"),
        ([f"Event-Timestamp = {at('16:00') // S}"], "16:00"),
        ([CST], None),
        ([], None),
    ],
)  # fmt: skip
def test_the_time_of_a_record(tmp_path: Path, attributes: list[str], moment: str | None) -> None:
    lines = ["Acct-Status-Type = Start", "User-Name = anna", "Acct-Session-Id = 1", V4]
    text = "Mon Nov 23 10:00:09 2026\n" + "".join(f"\t{one}\n" for one in [*lines, *attributes])
    source = directory(tmp_path, text)
    found = source.holders("100.64.0.7", at("00:00"), at("23:00"), None, None)
    assert [one.since for one in found] == ([at(moment)] if moment else [])
    assert len(source.problems) == (0 if moment else 1)


def test_csv_by_zone_mark_and_time(tmp_path: Path) -> None:
    source = directory(tmp_path, CSV)
    assert source.problems == ()
    assert names(source, "100.64.0.9", "10:30") == ["Anna; first floor", "Bob"]
    assert names(source, "100.64.0.9", "10:30", zone=1) == ["Anna; first floor"]
    assert names(source, "100.64.0.9", "10:30", zone=2, mark=16) == ["Bob"]
    assert names(source, "100.64.0.9", "10:30", zone=2, mark=17) == []
    assert names(source, "100.64.0.9", "10:30", zone=0) == []
    assert names(source, "100.64.0.9", "09:59") == []
    assert names(source, "100.64.0.9", "11:00", zone=1) == []
    assert names(source, "2001:db8:7:3ff::1", "00:00") == []
    (one,) = source.holders("2001:db8:7:400::1", at("18:00"), at("18:01"), 7, 7)
    assert (one.since, one.until) == (at("00:00"), at("00:00") + 86400 * S)
    assert names(source, "2001:db8:7:400::2", "18:00") == []


def test_the_zone_of_a_list_is_given_or_its_times_are_refused(tmp_path: Path) -> None:
    text = "address,name,from,until\n192.0.2.1,Anna,2026-11-23 10:00,2026-11-23 11:00\n"
    source = directory(tmp_path, text)
    assert "line 2: the time '2026-11-23 10:00' names no zone" in source.problems[0]
    assert names(source, "192.0.2.1", "10:30") == []
    source = reader.read(str(tmp_path / "file"), NOW, zone="Europe/Berlin")
    assert names(source, "192.0.2.1", "09:30") == ["Anna"]
    assert names(source, "192.0.2.1", "10:30") == []


def test_an_hour_that_comes_twice_is_held_from_its_first_to_its_second_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("address,name,from,until\n192.0.2.1,Anna,2026-10-25 02:10,2026-10-25 02:20\n")
    source = reader.read(str(path), NOW, zone="Europe/Berlin")
    (one,) = source.holders("192.0.2.1", 0, NOW, None, None)
    assert one.until is not None
    assert one.since is not None
    assert (one.until - one.since) / S == 3600 + 600


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("192.0.2.1,Anna,2026-11-23Z", "it has 3 values for 4 columns"),
        ("192.0.2.256,Anna,,", "'192.0.2.256' is no address or prefix"),
        (",Anna,,", "'' is no address or prefix"),
        ("192.0.2.1,,,", "it has no name"),
        (f"192.0.2.1,{'x' * 257},,", "its name has more than 256 characters"),
        ("192.0.2.1,Anna,09/10/2026 10:00Z,", "can be read in several ways"),
        ("192.0.2.1,Anna,yesterday,", "of no known form"),
        ('192.0.2.1,"Anna,,', "its quotes are not closed"),
        (f"192.0.2.1,{'x' * 70_000},,", "it is too long"),
        ("192.0.2.1,\x1b[31m,\x1b,", "\\x1b"),
    ],
)
def test_a_bad_line_is_reported_with_its_place(tmp_path: Path, line: str, reason: str) -> None:
    source = directory(tmp_path, f"address,name,from,until\n{line}\n192.0.2.1,Bob,,\n")
    assert names(source, "192.0.2.1", "10:00")[-1] == "Bob"
    if reason != "\\x1b":
        assert names(source, "192.0.2.1", "10:00") == ["Bob"]
    (problem,) = source.problems
    assert problem.startswith(f"{tmp_path}/file, line 2: ")
    assert reason in problem
    assert problem.isprintable()


def test_a_million_bad_lines_are_twenty_problems_and_a_number(tmp_path: Path) -> None:
    source = directory(tmp_path, "address,name\n" + "x\n" * 1000)
    assert len(source.problems) == 21
    assert source.problems[-1] == "980 more lines cannot be read"


@pytest.mark.parametrize("text", ["hello\n", "\0\0\0", "a,b\n1,2\n", "Subject: x\n", "1 2 3\n"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="it is none of: leases of dnsmasq"):
        directory(tmp_path, text)


def test_an_empty_file_names_nobody(tmp_path: Path) -> None:
    assert names(directory(tmp_path, ""), "192.0.2.1", "10:00") == []
    assert names(directory(tmp_path, "\n# x\n"), "::1", "10:00") == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="x: No such file or directory"):
        reader.read(str(tmp_path / "x"), NOW)


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    """A session goes on in the file of the next day; rotated files are compressed."""
    parts = RADIUS.split("\n\n")
    (tmp_path / "radacct").mkdir()
    with gzip.open(tmp_path / "radacct" / "detail-1.gz", "wt") as file:
        file.write("\n\n".join(parts[:1]) + "\n")
    (tmp_path / "radacct" / "detail-2").write_text("\n\n".join(parts[1:]))
    (tmp_path / "leases.csv").write_text("address,name\n192.0.2.1,Anna\n")
    (tmp_path / ".hidden").write_text("no form")
    source = reader.read(str(tmp_path), NOW)
    assert source.problems == ()
    assert names(source, "2001:db8:7:a::1", "10:05") == ["anna@example.net"]
    assert names(source, "192.0.2.1", "10:05") == ["Anna"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no files here"):
        reader.read(str(tmp_path / "empty"), NOW)


@pytest.mark.parametrize("damage", ["cut", "flipped", "plain"])
def test_damaged_gzip_is_a_problem(tmp_path: Path, damage: str) -> None:
    rows = "".join(f"192.0.2.{number % 250},name {number}\n" for number in range(20_000))
    packed = bytearray(gzip.compress(f"address,name\n{rows}".encode()))
    if damage == "cut":
        del packed[-100:]
    elif damage == "flipped":
        packed[len(packed) // 2] ^= 0xFF
    else:
        packed[:] = b"address,name\n"
    problems = directory(tmp_path, bytes(packed), "file.gz").problems
    assert [one for one in problems if "file.gz: damaged; it is not read from line " in one]


def test_what_is_outside_the_time_of_all_questions_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(KEA4)
    source = reader.read(str(path), NOW, since=at("12:20"), until=at("12:30"))
    found = source.holders("192.0.2.20", at("00:00"), at("23:00"), None, None)
    assert [one.name for one in found] == ["02:00:5e:00:53:05"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_addresses_of_all_questions_are_enough(tmp_path: Path, name: str) -> None:
    """A source that is read for some addresses has the same holders for them."""
    whole = directory(tmp_path, FILES[name])
    path = tmp_path / "file"
    asked = (
        ["192.0.2.10", "192.0.2.20", "192.0.2.30", "100.64.0.7", "100.64.0.8"],
        ["100.64.0.9", "2001:db8:7:1ff::1", "2001:db8:7::20", "2001:db8:7:2ff::1"],
    )
    count = 0
    for addresses in asked:
        part = reader.read(str(path), NOW, addresses=addresses)
        for address in addresses:
            wanted = whole.holders(address, 0, NOW, None, None)
            assert part.holders(address, 0, NOW, None, None) == wanted
            count += len(wanted)
    assert count


def test_other_addresses_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(KEA4)
    source = reader.read(str(path), NOW, addresses=["192.0.2.22"])
    assert not source.holders("192.0.2.20", 0, NOW, None, None)
    assert source.holders("192.0.2.22", 0, NOW, None, None)


def test_a_session_of_which_the_begin_is_not_told_begins_with_its_first_record(
    tmp_path: Path,
) -> None:
    text = record("Interim-Update", "12:00:00", "anna", "01", V4) + record(
        "Stop", "13:00:00", "anna", "01", V4
    )
    source = directory(tmp_path, text)
    assert names(source, "100.64.0.7", "10:59") == []
    assert names(source, "100.64.0.7", "11:00") == ["anna"]


def test_records_of_a_session_that_name_no_address(tmp_path: Path) -> None:
    """Its Start came before it had an address, and its Stop after."""
    text = (
        record("Start", "11:00:00", "anna", "01")
        + record("Interim-Update", "11:30:00", "anna", "01", V4, "Acct-Session-Time = 1800")
        + record("Stop", "12:00:00", "anna", "01")
        + record("Interim-Update", "11:45:00", "anna", "01", V4)  # comes late
    )
    path = tmp_path / "file"
    path.write_text(text)
    for addresses in (None, ["100.64.0.7"]):
        source = reader.read(str(path), NOW, addresses=addresses)
        (one,) = source.holders("100.64.0.7", 0, NOW, None, None)
        assert (one.name, one.since, one.until) == ("anna", at("10:00"), at("11:00"))


def test_a_header_of_kea_without_its_columns(tmp_path: Path) -> None:
    source = directory(tmp_path, "address,hwaddr,x\n192.0.2.1,02:00:5e:00:53:01,7\n")
    assert "line 2: '' is no number of seconds" in source.problems[0]


def test_an_executable_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "leases.csv"
    path.write_text(f"#!/usr/bin/touch {tmp_path}/ran\naddress,name\n192.0.2.1,Anna\n")
    path.chmod(0o755)
    assert names(reader.read(str(path), NOW), "192.0.2.1", "10:00") == ["Anna"]
    assert not (tmp_path / "ran").exists()


@given(st.sampled_from(sorted(FILES)), st.data())
def test_a_changed_file_is_read_or_reported(name: str, data: st.DataObject) -> None:
    """Bytes of a file change, vanish or come twice: no traceback, whatever it is then."""
    text = bytearray(FILES[name].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at_byte = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 60))
        text[at_byte : at_byte + length] = data.draw(
            st.binary(max_size=8) | st.just(bytes(text[at_byte : at_byte + 2 * length]))
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = directory(Path(folder), bytes(text))
        except UsageError:  # of another kind now
            return
        assert all(problem.isprintable() for problem in source.problems)
        source.holders("100.64.0.7", 0, NOW, None, None)
