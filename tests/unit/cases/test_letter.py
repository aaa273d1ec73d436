"""Letters become questions; their sightings are compared."""

from __future__ import annotations

import email
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.folder import Folder
from ctrecorder.kept.retention import holds
from tests.support.inquiries import Json, connection, log
from tests.support.slow_pairing import SECOND, T

PUBLIC, SERVER = "198.51.100.1", "203.0.113.9"
AT = "2023-11-14 22:14:30"  # 70 s after T


def flow(number: int, port: int, begin: int = 60, end: int = 90, **columns: int) -> list[Json]:
    """From 10.0.0.`number`, as PUBLIC:`port`, to the server 203.0.113.`number`."""
    server = f"203.0.113.{number} 443"
    rows = connection(
        "tcp",
        (f"10.0.0.{number} 1234", server),
        (server, f"{PUBLIC} {port}"),
        number=number * 1000 + port % 1000 + begin,
        **columns,
    )
    rows[0]["time"], rows[1]["time"] = T + begin * SECOND, T + end * SECOND
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two hosts have port 40000 at once, and one of them had 40001 later."""
    return log(
        tmp_path / "log", flow(1, 40000), flow(2, 40000), flow(1, 40001, 200, 300), flow(3, 40002)
    )


def letter(tmp_path: Path, text: str, name: str = "letter.txt") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def mail(tmp_path: Path, *lines: str, name: str = "notice.eml") -> str:
    head = (
        "From: Agent <agent@example.net>",
        "To: abuse@example.org",
        "Message-ID: <one@example.net>",
        "Date: Tue, 14 Nov 2023 23:00:00 +0000",
        "Content-Type: text/plain",
        "",
    )
    return letter(tmp_path, "\n".join((*head, *lines, "")), name)


def acns(tmp_path: Path, port: str, name: str = "notice.eml") -> str:
    return mail(
        tmp_path,
        f"Infringer's IP Address: {PUBLIC}",
        *([f"Infringer's Port: {port}"] if port else []),
        f"Initial Infringement Timestamp: {AT.replace('2023-11-14', '14 Nov 2023')} GMT",
        name=name,
    )


class Asker:
    """Runs ctwho --letter."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capfd = folder, capfd

    def run(self, path: str, *words: str) -> tuple[int, str, str]:
        self.capfd.readouterr()
        dry = "--dry-run" in words
        code = ctwho.main(["--letter", path, *words, *([] if dry else ["-d", str(self.folder)])])
        return code, *self.capfd.readouterr()

    def json(self, path: str, *words: str, code: int) -> Json:
        found, out, err = self.run(path, "--format", "json", *words)
        assert found == code, out + err
        answer: Json = json.loads(out)
        return answer


@pytest.fixture
def asker(folder: Path, capfd: pytest.CaptureFixture[str]) -> Asker:
    return Asker(folder, capfd)


def persons(answer: Json) -> list[str]:
    return [each["address"] for each in answer["persons"]]


def test_each_sighting_is_a_question_with_its_bytes(asker: Asker, tmp_path: Path) -> None:
    found = asker.json(acns(tmp_path, "40002"), code=0)
    (one,) = found["questions"]
    assert (one["verdict"], persons(one)) == ("ONE", ["10.0.0.3"])
    question = one["question"]
    assert (question["port"], question["role"], question["tolerance_seconds"]) == (
        40002,
        "source",
        1.0,
    )
    read = {each["field"]: each["text"] for each in question["read_from"]}
    assert (read["address"], read["port"]) == (PUBLIC, "40002")
    assert one["evidence"]["letter"]["message_id"] == "one@example.net"
    assert one["evidence"]["letter"]["sha256"] == found["letter"]["sha256"]
    assert "common" not in found


def test_sightings_are_compared(asker: Asker, tmp_path: Path) -> None:
    """Two hosts fit the first one, and one of them fits both."""
    path = letter(tmp_path, f"{PUBLIC}:40000 {AT}Z\n{PUBLIC}:40001 2023-11-14 22:17:30Z\n")
    found = asker.json(path, code=0)
    assert [each["verdict"] for each in found["questions"]] == ["SEVERAL", "ONE"]
    assert found["common"] == {
        "sightings": 2,
        "persons": [{"address": "10.0.0.1"}],
        "proved": False,
    }
    _, out, _ = asker.run(path)
    assert "together    10.0.0.1 fits all 2 sightings that can be compared (not proved)\n" in out
    other = letter(tmp_path, f"{PUBLIC}:40000 {AT}Z\n{PUBLIC}:40002 {AT}Z\n", "other.txt")
    assert asker.json(other, code=0)["common"]["persons"] == []
    assert "no inside host fits all 2 sightings" in asker.run(other)[1]
    ones = f"{PUBLIC}:40001 2023-11-14 22:17:30Z\n{PUBLIC}:40001 2023-11-14 22:17:40Z\n"
    both = letter(tmp_path, ones, "ones.txt")
    assert asker.json(both, code=0)["common"]["proved"] is True
    assert "fits all 2 sightings that can be compared\n" in asker.run(both)[1]
    ones = f"{PUBLIC}:40001 2023-11-14 22:17:30Z\n{PUBLIC}:40002 {AT}Z\n"
    differ = asker.json(letter(tmp_path, ones, "differ.txt"), code=0)
    assert differ["common"] == {"sightings": 2, "persons": [], "proved": False}


def test_a_sighting_about_a_hole_says_nothing(asker: Asker, tmp_path: Path) -> None:
    """It does not exclude a host, and what is left is not proved."""
    lines = (f"{PUBLIC}:40000 {AT}Z", f"{PUBLIC}:40001 2023-11-14 22:17:30Z")
    path = letter(tmp_path, "\n".join((*lines, f"{PUBLIC}:40000 2023-11-13 00:00:00Z", "")))
    common = asker.json(path, code=3)["common"]
    assert common == {"sightings": 2, "persons": [{"address": "10.0.0.1"}], "proved": False}


TABLE = "src_ip,src_port,dst_ip,timestamp\n"


def test_without_a_port_the_server_decides(asker: Asker, tmp_path: Path) -> None:
    path = letter(tmp_path, f"{TABLE}{PUBLIC},,203.0.113.2,{AT}Z\n", "report.csv")
    (one,) = asker.json(path, code=0)["questions"]
    assert (one["verdict"], persons(one)) == ("ONE", ["10.0.0.2"])
    assert one["question"]["role"] == "none"
    assert one["question"]["remote"] == {"address": "203.0.113.2"}
    assert "shared_by" not in one


def test_with_neither_the_hosts_are_counted_and_the_port_is_asked_for(
    asker: Asker, tmp_path: Path
) -> None:
    draft = tmp_path / "reply.eml"
    path = acns(tmp_path, "")
    (one,) = asker.json(path, "--reply", str(draft), code=0)["questions"]
    assert (one["verdict"], one["shared_by"]) == ("SEVERAL", 3)
    assert "shared by   3 inside hosts: without the source port" in asker.run(path)[1]
    reply = email.message_from_bytes(draft.read_bytes())
    assert (reply["To"], reply["In-Reply-To"], reply["X-Unsent"]) == (
        "agent@example.net",
        "<one@example.net>",
        "1",
    )
    text = " ".join(str(reply.get_payload()).split())
    assert "Please send us the source port" in text
    assert "RFC 6302" in text
    assert "10.0.0" not in text, "a reply names no inside host"


def test_a_listening_port_is_never_a_source_port(asker: Asker, tmp_path: Path) -> None:
    """51413 is Transmission's: who sent from that port by chance is not named for it."""
    log(asker.folder.parent / "other", flow(4, 51413), flow(5, 40000))
    asker.folder = asker.folder.parent / "other"
    (one,) = asker.json(acns(tmp_path, "51413"), code=3)["questions"]
    assert one["question"]["role"] == "listening"
    assert (one["verdict"], one["shared_by"]) == ("SEVERAL", 2)
    assert "port 51413 is a listening port" in one["why"]
    called = connection(
        "tcp",
        (f"{SERVER} 5555", f"{PUBLIC} 51413"),
        ("10.0.0.6 51413", f"{SERVER} 5555"),
    )
    log(asker.folder.parent / "mapped", flow(4, 51413), called)
    asker.folder = asker.folder.parent / "mapped"
    (one,) = asker.json(acns(tmp_path, "51413", "again.eml"), code=0)["questions"]
    assert (one["verdict"], persons(one)) == ("ONE", ["10.0.0.6"])


def test_a_service_was_called(asker: Asker, tmp_path: Path) -> None:
    """The port of a scan of Shadowserver: who sent from that port by chance is not named for it."""
    table = f"timestamp,ip,port,protocol,asn,geo\n{AT},{PUBLIC},40002,tcp,64500,XX\n"
    path = letter(tmp_path, table, "scan.csv")
    (one,) = asker.json(path, code=1)["questions"]
    assert (one["question"]["role"], one["verdict"]) == ("service", "NOBODY")
    called = connection(
        "tcp", (f"{SERVER} 5555", f"{PUBLIC} 40002"), ("10.0.0.7 80", f"{SERVER} 5555")
    )
    asker.folder = log(tmp_path / "called", flow(3, 40002), called)
    (one,) = asker.json(path, code=0)["questions"]
    assert (one["verdict"], persons(one)) == ("ONE", ["10.0.0.7"])


def test_a_time_without_a_zone_cannot_be_asked(asker: Asker, tmp_path: Path) -> None:
    path = letter(tmp_path, f"{PUBLIC}:40002 {AT}\n")
    (one,) = asker.json(path, code=2)["questions"]
    assert one["verdict"] == "CANNOT BE ASKED"
    assert "--zone" in one["why"]
    (one,) = asker.json(path, "--zone", "UTC", code=0)["questions"]
    assert one["verdict"] == "ONE"
    (one,) = asker.json(path, "--zone", "Europe/Berlin", code=3)["questions"]
    assert (one["verdict"], one["question"]["basis"]) == ("NOT RECORDED", "option")


def test_each_reading_of_an_ambiguous_time_is_asked(asker: Asker, tmp_path: Path) -> None:
    path = letter(tmp_path, f"{PUBLIC}:40002 2023-11-14 14:14:30 PST\n")
    found = asker.json(path, code=3)
    assert [each["question"]["readings"] for each in found["questions"]] == [2, 2]
    assert found["questions"][0]["verdict"] == "ONE KNOWN (not proved)"


def test_a_letter_of_an_unknown_form_is_shown_and_not_asked(asker: Asker, tmp_path: Path) -> None:
    path = mail(tmp_path, "Hello,", f"something about {PUBLIC} and nothing else.")
    code, out, err = asker.run(path)
    assert code == 2
    assert out.startswith("CANNOT BE ASKED\n  reason: ")
    assert PUBLIC in out
    assert err.startswith(f"ctwho: {path}: ")
    found = asker.json(path, code=2)
    assert found["questions"] == []
    assert found["letter"]["problem"]


def test_dry_run_asks_nothing(asker: Asker, tmp_path: Path) -> None:
    path = acns(tmp_path, "40002")
    code, out, err = asker.run(path, "--dry-run")
    assert (code, err) == (0, "")
    assert "read from   address: part 1, line 1: 198.51.100.1\n" in out
    assert "ONE" not in out
    found = asker.json(path, "--dry-run", code=0)
    (one,) = found["questions"]
    assert set(one) == {"question"}
    assert one["question"]["since"] == "2023-11-14T22:14:29.000000000Z"


def test_a_letter_is_answered_once(asker: Asker, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    acns(box, "40002", "a.eml")
    state = tmp_path / "state"
    words = ("--state", str(state))
    before = {path.name: path.stat().st_mtime_ns for path in box.iterdir()}
    assert asker.json(str(box), *words, code=0)["questions"][0]["verdict"] == "ONE"
    assert state.stat().st_mode & 0o777 == 0o600
    code, out, err = asker.run(str(box), *words)
    assert (code, out) == (0, "")
    assert "no new letters" in err
    acns(box, "40001", "b.eml")  # the same Message-ID, as a stranger can write it
    found = asker.json(str(box), *words, code=3)
    assert found["letter"]["file"].endswith("b.eml")
    # Nobody had it; but the port of a copyright notice may be one that nobody has outside.
    assert found["questions"][0]["verdict"] == "NOBODY KNOWN (not proved)"
    assert "a program listens inside" in found["questions"][0]["why"]
    assert {path.name: path.stat().st_mtime_ns for path in box.iterdir()} | before == {
        path.name: path.stat().st_mtime_ns for path in box.iterdir()
    }


def test_what_failed_is_tried_again(asker: Asker, tmp_path: Path) -> None:
    path, words = acns(tmp_path, "40002"), ("--state", str(tmp_path / "state"))
    bad = asker.folder / "bad.ctlog"
    bad.write_bytes(b"\xc7CTB" + bytes(200))
    assert asker.run(path, *words)[0] == 2
    bad.unlink()
    assert asker.run(path, *words)[0] == 0
    assert asker.run(path, *words)[1] == ""


def test_what_could_not_be_asked_is_tried_again(asker: Asker, tmp_path: Path) -> None:
    """The time has no zone: the operator finds out, and gives it."""
    words = ("--state", str(tmp_path / "state"))
    path = letter(tmp_path, TABLE + f"{PUBLIC},40002,{SERVER},{AT}\n", "rows.csv")
    assert asker.json(path, *words, code=2)["questions"][0]["verdict"] == "CANNOT BE ASKED"
    assert asker.json(path, *words, "--utc", code=1)["questions"][0]["verdict"] == "NOBODY"
    assert asker.run(path, *words, "--utc")[1] == ""
    prose = letter(tmp_path, "Please call me.\n", "prose.txt")
    assert [asker.run(prose, *words)[0] for _ in range(2)] == [2, 2]


@pytest.mark.parametrize("kind", ["other", "torn", "link", "folder", "hard link", "of others"])
def test_a_state_that_is_none(asker: Asker, tmp_path: Path, kind: str) -> None:
    path, state = acns(tmp_path, "40002"), tmp_path / "state"
    if kind == "folder":
        state.mkdir()
    elif kind == "link":
        state.symlink_to(tmp_path / "nothing")
    else:
        state.write_text("[mine]\n" if kind == "other" else "")
    if kind == "hard link":
        os.link(state, tmp_path / "precious")
    if kind == "of others":
        os.chown(state, 4000, 4000)
    if kind == "torn":
        asker.run(path, "--state", str(state))
        state.write_bytes(state.read_bytes() + b'{"message')
        second = acns(tmp_path, "40001", "second.eml")
        assert asker.run(second, "--state", str(state))[0] == 3
        assert asker.run(second, "--state", str(state))[1] == ""
        assert asker.run(path, "--state", str(state))[1] == ""
        return
    code, out, err = asker.run(path, "--state", str(state))
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_table_keeps_its_rows_and_gets_columns(asker: Asker, tmp_path: Path) -> None:
    rows = [f"{PUBLIC},40002,,{AT}Z", "not an address,1,,x", f"{PUBLIC},40000,=cmd,{AT}Z"]
    path = letter(tmp_path, TABLE + "\n".join(rows) + "\n", "report.csv")
    code, out, _ = asker.run(path, "--format", "csv")
    head, first, second, third = out.splitlines()
    assert head.startswith("src_ip,src_port,dst_ip,timestamp,since,until,verdict,")
    assert first.startswith(f"{PUBLIC},40002,,{AT}Z,2023-11-14T22:14:28")
    assert ",ONE," in first
    assert second.startswith("not an address,1,,x,,,CANNOT BE ASKED,'not an address' is no")
    assert ",SEVERAL," in third
    assert third.startswith(f"{PUBLIC},40000,'=cmd,")
    assert code == 2


def test_rows_of_a_table_keep_their_answers(asker: Asker, tmp_path: Path) -> None:
    """A line before the names, a row twice, and characters that end a line for Python alone."""
    row = f"{PUBLIC},40002,,{AT}Z"
    text = f"a report\n{TABLE}bad,\u2028,\x0b,\x85\n{row}\n\n{row}\n{PUBLIC},40001,,{AT}Z\n"
    path = letter(tmp_path, text, "report.csv")
    lines = asker.run(path, "--format", "csv")[1].splitlines()
    assert lines[0] == "a report"
    assert [line.count(",ONE,") for line in lines[1:]] == [0, 0, 1, 1, 0]
    assert ",NOBODY," in lines[-1]


def test_rows_that_ask_the_same_have_the_same_answer(asker: Asker, tmp_path: Path) -> None:
    """Also if another cell, such as their number, differs."""
    rows = "".join(f"{number},{PUBLIC},40002,{AT}Z\n" for number in (1, 2, 3))
    path = letter(tmp_path, f"number,ip,port,time\n{rows}", "report.csv")
    lines = asker.run(path, "--format", "csv")[1].splitlines()
    assert [line.count(",ONE,") for line in lines] == [0, 1, 1, 1]
    assert [line[0] for line in lines[1:]] == ["1", "2", "3"]


def test_the_names_of_customers(asker: Asker, tmp_path: Path) -> None:
    """One host that two customers had is SEVERAL; one without a customer stays ONE."""
    names = tmp_path / "names.csv"
    names.write_text(
        "address,from,until,name\n"
        "10.0.0.3,2023-11-01T00:00:00Z,2023-11-14T22:14:30Z,Ann\n"
        "10.0.0.3,2023-11-14T22:14:30Z,,Bob\n"
    )
    path, words = acns(tmp_path, "40002"), ("--names", str(names))
    (one,) = asker.json(path, *words, code=0)["questions"]
    assert one["verdict"] == "SEVERAL"
    assert [each["name"] for each in one["persons"][0]["customers"]] == ["Ann", "Bob"]
    assert asker.run(path, *words)[1].count("SEVERAL: 10.0.0.3, 2 customers\n") == 1
    names.write_text("address,from,until,name\n10.0.0.3,2023-11-01T00:00:00Z,,Ann\n")
    assert "ONE: 10.0.0.3, customer Ann\n" in asker.run(path, *words)[1]
    names.write_text("address,from,until,name\n10.0.0.9,2023-11-01T00:00:00Z,,Ann\n")
    (one,) = asker.json(path, *words, code=0)["questions"]
    assert (one["verdict"], one["persons"][0]["customers"]) == ("ONE", [])
    assert "the host is known, the customer is not" in asker.run(path, *words)[1]


def test_a_page_with_customers_is_checked_without_the_list(asker: Asker, tmp_path: Path) -> None:
    """The two customers of one host made it SEVERAL; whoever checks the page has no list."""
    names, page = tmp_path / "names.csv", tmp_path / "answer.html"
    names.write_text(
        "address,from,until,name\n"
        "10.0.0.3,2023-11-01T00:00:00Z,2023-11-14T22:14:30Z,Ann\n"
        "10.0.0.3,2023-11-14T22:14:30Z,,Bob\n"
    )
    words = ("--names", str(names), "--format", "html", "-o", str(page))
    assert asker.run(acns(tmp_path, "40002"), *words)[0] == 0
    asker.capfd.readouterr()
    assert ctwho.main(["--verify", str(page), str(asker.folder)]) == 0
    assert "SEVERAL" in page.read_text()


def test_many_hosts_that_share_an_address_are_counted(asker: Asker, tmp_path: Path) -> None:
    log(tmp_path / "busy", *(flow(number, 41000 + number) for number in range(1, 13)))
    asker.folder = tmp_path / "busy"
    path = acns(tmp_path, "")
    out = asker.run(path)[1]
    assert "SEVERAL: 12 inside hosts\n" in out
    assert "10.0.0." not in out
    assert "10.0.0.12" in asker.run(path, "--connections")[1]
    (one,) = asker.json(path, code=0)["questions"]
    assert len(one["persons"]) == one["shared_by"] == 12


def test_a_hold_keeps_what_the_answer_rests_on(asker: Asker, tmp_path: Path) -> None:
    path = acns(tmp_path, "40002")
    code, _, err = asker.run(path, "--hold", "--case", "4711", "--reason", "order")
    assert code == 0
    assert "keeps 2 segments: case 4711: order" in err
    with Folder(str(asker.folder)) as opened:
        (hold,) = holds(opened)
    assert hold.since <= T
    assert hold.until > T + 90 * SECOND
    code, out, err = asker.run(path, "--hold")
    assert (code, out) == (2, "")
    assert "--case" in err


@pytest.mark.parametrize(
    "words",
    [
        ["--dry-run"],
        ["--state", "x"],
        ["--reply", "x"],
        ["--letter", "LETTER", "198.51.100.1:80", "now"],
        ["--letter", "LETTER", "--to", SERVER],
        ["--letter", "LETTER", "--dry-run", "--format", "csv"],
        ["--letter", "LETTER", "--dry-run", "-o", "/nonexistent/x"],
        ["--letter", "LETTER", "--verify", "page.html"],
        ["--letter", "LETTER", "--dry-run", "--hold", "--case", "1"],
        ["--letter", "/nonexistent"],
        ["--letter", "BOTH", "--reply", "reply.eml"],
    ],
)
def test_bad_arguments(
    words: list[str],
    tmp_path: Path,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = tmp_path / "box"
    box.mkdir()
    acns(box, "1", "a.eml")
    acns(box, "2", "b.eml")
    paths: dict[str, Any] = {"LETTER": acns(tmp_path, "40002"), "BOTH": str(box)}
    monkeypatch.chdir(tmp_path)
    assert ctwho.main([*(paths.get(word, word) for word in words), "-d", str(folder)]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert not (tmp_path / "reply.eml").exists()


def test_rows_that_were_not_read_are_answered_in_their_order(asker: Asker, tmp_path: Path) -> None:
    rows = f"time;ip;port\n{AT}Z;bad;1\n{AT}Z;{PUBLIC};40002\n{AT}Z;{PUBLIC};99999\n"
    path = letter(tmp_path, rows, "rows.csv")
    code, out, _ = asker.run(path, "--format", "csv")
    assert code == 2
    _, *answers = [line.split(",") for line in out.splitlines()]
    assert [line[5] for line in answers] == ["CANNOT BE ASKED", "ONE", "CANNOT BE ASKED"]
    assert "is no address" in out
    assert "'99999' is no port" in out
    assert "'99999' is no port" in asker.run(path)[1]


def test_a_letter_about_icmp_is_asked_without_its_ports(asker: Asker, tmp_path: Path) -> None:
    report = {
        "xarf_version": "4.0.0",
        "timestamp": f"{AT.replace(' ', 'T')}Z",
        "source_identifier": PUBLIC,
        "source_port": 8,
        "category": "connection",
        "destination_ip": SERVER,
        "destination_port": 22,
        "protocol": "icmp",
    }
    (one,) = asker.json(letter(tmp_path, json.dumps(report), "a.json"), code=1)["questions"]
    asked = one["question"]
    assert (asked["address"], asked["remote"]) == (PUBLIC, {"address": SERVER})
    assert not {"port", "id"} & set(asked)
    assert [one.partition(":")[0] for one in asked["unasked"]] == ["the port", "the remote port"]
    report |= {"destination_ip": "2001:db8::7", "protocol": "tcp"}
    (one,) = asker.json(letter(tmp_path, json.dumps(report), "b.json"), code=2)["questions"]
    assert one["why"] == "one address is IPv4, the other one IPv6"
    assert one["question"]["remote"] == {"address": "2001:db8::7", "port": 22}
    assert one["question"]["protocol"] == "tcp"


def test_the_id_of_an_echo_tells_two_hosts_apart(
    asker: Asker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first ID= of the line is that of the IP packet."""
    echoes = [
        connection(
            "icmp",
            (f"10.0.0.{number} 7", f"{SERVER} 2048"),
            (f"{SERVER} {port}", f"{PUBLIC} 0"),
            number=number,
        )
        for number, port in ((1, 4711), (2, 99))
    ]
    asker.folder = log(tmp_path / "echoes", *echoes)
    line = (
        f"{AT.replace(' ', 'T')}Z fw kernel: DROP SRC={PUBLIC} DST={SERVER} LEN=84 ID=99 DF "
        "PROTO=ICMP TYPE=8 CODE=0 ID=4711 SEQ=1"
    )
    path = mail(tmp_path, line)
    (one,) = asker.json(path, code=0)["questions"]
    assert (one["verdict"], persons(one)) == ("ONE", ["10.0.0.1"])
    assert one["question"]["id"] == 4711
    read = {each["field"]: each["text"] for each in one["question"]["read_from"]}
    assert (read["id"], "port" in read) == ("4711", False)


def test_pst_is_asked_of_both_its_countries(asker: Asker, tmp_path: Path) -> None:
    """Of the Pacific and of the Philippines: the first would name one host, proved."""
    path = letter(tmp_path, f"{PUBLIC}:40002 2023-11-14 14:14:30 PST\n")
    found = asker.json(path, code=3)["questions"]
    assert [(one["verdict"], one["question"]["zone"]) for one in found] == [
        ("ONE KNOWN (not proved)", "PST (-08:00)"),
        ("NOT RECORDED", "PST (+08:00)"),
    ]
    assert "the time can be read in 2 ways" in found[0]["why"]


def test_a_remote_port_alone_is_not_asked_and_that_is_said(asker: Asker, tmp_path: Path) -> None:
    path = letter(tmp_path, f"time,src_ip,src_port,dst_port\n{AT}Z,{PUBLIC},40002,80\n", "a.csv")
    (one,) = asker.json(path, code=0)["questions"]
    assert one["question"]["unasked"] == ["the remote port: the letter names no remote address"]
    page = tmp_path / "answer.html"
    for words in ((), ("--format", "html", "-o", str(page)), ("--dry-run",)):
        shown = asker.run(path, *words)[1] + (page.read_text() if page.exists() else "")
        assert "the remote port: the letter names no remote address" in " ".join(shown.split())
        page.unlink(missing_ok=True)


def test_a_reply_claims_no_more_than_is_known(asker: Asker, tmp_path: Path) -> None:
    """No hole where the clock is the reason; and customers are those of --names alone."""
    off = {"state": {"clock": {"synchronised": False, "error_us": 16_000_000}}}
    log(tmp_path / "off", flow(1, 40000), flow(2, 40000), **off)
    for folder, port, said in (
        (asker.folder, "40002", "one host of our network"),
        (asker.folder, "40000", "Several are possible in our network"),
        (tmp_path / "off", "40002", "we cannot rule it out"),
    ):
        asker.folder = folder
        draft = tmp_path / f"{folder.name}-{port}.eml"
        asker.run(acns(tmp_path, port), "--reply", str(draft))
        text = " ".join(str(email.message_from_bytes(draft.read_bytes()).get_payload()).split())
        assert said in text
        assert "customer" not in text
        assert "not complete" not in text


def test_parts_that_do_not_fit_are_named_without_options(asker: Asker, tmp_path: Path) -> None:
    report = {
        "xarf_version": "4.0.0",
        "timestamp": "2023-11-14T22:14:30Z",
        "source_identifier": PUBLIC,
        "source_port": 40002,
        "category": "connection",
        "type": "ddos",
        "destination_ip": "2001:db8::9",
        "protocol": "tcp",
    }
    path = letter(tmp_path, json.dumps(report), "report.json")
    (one,) = asker.json(path, code=2)["questions"]
    assert one["verdict"] == "CANNOT BE ASKED"
    assert "--" not in one["why"]
    assert one["question"]["protocol"] == "tcp"
    assert one["question"]["remote"] == {"address": "2001:db8::9"}


@pytest.mark.parametrize(("remote", "asked"), [("192.168.1.10", False), ("203.0.113.3", True)])
def test_the_other_end_of_a_log_behind_nat_leaves_nobody_out(
    asker: Asker, tmp_path: Path, remote: str, asked: bool
) -> None:
    """Their server has 192.168.1.10 in its own log; our router saw its public address."""
    line = f"{AT.replace(' ', 'T')}Z fw kernel: DROP SRC={PUBLIC} DST={remote} SPT=40002 DPT=443"
    (one,) = asker.json(mail(tmp_path, line), code=0)["questions"]
    assert (one["verdict"], persons(one)) == ("ONE", ["10.0.0.3"])
    assert ("remote" in one["question"]) is asked
    assert ("unasked" in one["question"]) is not asked
    assert remote in [each["text"] for each in one["question"]["read_from"]]
