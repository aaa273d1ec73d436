"""ctwho as a command: arguments, formats, files, and what ctlist --who says of it."""

from __future__ import annotations

import csv
import io
import json
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.folder import Folder
from ctrecorder.kept.retention import holds
from ctrecorder.listing import ctlist
from ctrecorder.watch import here as this_machine
from tests.support.inquiries import ask, connection, hosts, log
from tests.support.slow_pairing import SECOND, T

ROOT = Path(__file__).resolve().parents[3]
PUBLIC, SERVER = "198.51.100.1", "203.0.113.9"
AT = f"@{T // SECOND + 70}"
ONE = connection(
    "udp", ("10.0.0.1 1234", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000"), number=1
)
OTHER = connection(
    "udp", ("10.0.0.2 1234", "203.0.113.8 443"), ("203.0.113.8 443", f"{PUBLIC} 40000"), number=2
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return log(tmp_path / "log", ONE, OTHER)


def test_the_remote_end_and_the_protocol_decide(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ask(folder, capfd, f"{PUBLIC}:40000")["verdict"] == "SEVERAL"
    found = ask(folder, capfd, f"{PUBLIC}:40000", "--to", "203.0.113.8")
    assert (found["verdict"], hosts(found)) == ("ONE", ["10.0.0.2"])
    assert found["question"]["remote"] == {"address": "203.0.113.8"}
    assert ask(folder, capfd, f"{PUBLIC}:40000", "--proto", "tcp", code=1)["verdict"] == "NOBODY"


def test_a_tolerance_widens_the_time(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    at = f"@{T // SECOND + 94}"
    assert hosts(ask(folder, capfd, f"{PUBLIC}:40000", at, "--tolerance", "2", code=1)) == []
    assert len(hosts(ask(folder, capfd, f"{PUBLIC}:40000", at, "--tolerance", "6"))) == 2


def test_the_question_is_repeated(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--case", "4711", "--reason", "abuse", "--to", f"{SERVER}:443")
    question = ask(folder, capfd, f"{PUBLIC}:40000", *words)["question"]
    asked = question.pop("asked")
    assert asked.endswith("Z")
    assert question == {
        "address": PUBLIC,
        "port": 40000,
        "role": "source",
        "remote": {"address": SERVER, "port": 443},
        "since": "2023-11-14T22:14:28.998000000Z",
        "until": "2023-11-14T22:14:32.002000000Z",
        "tolerance_seconds": 1.0,
        "clock_error_seconds": 0.002,
        "written": AT,
        "zone": "UTC",
        "basis": "format",
        "readings": 1,
        "archive": [str(folder)],
        "routers": ["gw"],
        "asked_by": "root",
        "case": "4711",
        "reason": "abuse",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["2023-11-14", "22:14:30Z"],
        ["14", "Nov", "2023", "22:14:30", "+0000"],
        ["2023-11-14 22:14:30", "--utc"],
        ["2023-11-14", "23:14:30", "--zone", "Europe/Berlin"],
        ["2023-11-14 23:14:30 CET"],
    ],
)
def test_a_time_of_several_words(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert ctwho.main(["-d", str(folder), f"{PUBLIC}:40000", *words, "--to", SERVER]) == 0
    assert capfd.readouterr().out.startswith("ONE: 10.0.0.1\n")


@pytest.mark.parametrize("word", ["-2h", "-1h30m", "-1d"])
def test_a_time_ago_is_no_option(
    folder: Path, capfd: pytest.CaptureFixture[str], word: str
) -> None:
    assert ctwho.main([f"{PUBLIC}:40000", "--utc", word, "-d", str(folder)]) == 3
    assert f"time        {word} (UTC" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "name ADDRESS:PORT and TIME"),
        ([f"{PUBLIC}:80"], "name ADDRESS:PORT and TIME"),
        (["198.51.100.0/24:80", "now"], "no address"),
        ([f"{PUBLIC}:99999", "now"], "no port '99999'"),
        (["2001:db8::1:443", "now"], "[2001:db8::1]:443"),
        ([f"{PUBLIC}:80", "now", "--tolerance", "-1"], "--tolerance"),
        ([f"{PUBLIC}:80", "now", "--tolerance", "nan"], "--tolerance"),
        ([f"{PUBLIC}:80", "now", "--utc", "--zone", "CET"], "use one of them"),
        ([f"{PUBLIC}:80", "12:00", "--zone", "Europe/Berlni"], "Berlni"),
        ([f"{PUBLIC}:80", "now", "-i", "10.0.0.1"], "-i"),
        ([f"{PUBLIC}:80", "now", "/var/log"], "cannot read the time"),
        ([f"{PUBLIC}:80", "now", "-d", "/nonexistent"], "no segments here"),
        ([f"{PUBLIC}:80", "2026-11-23", "18:17-18:20"], "cannot read the time"),
    ],
)
def test_bad_arguments_end_in_one_line(
    words: list[str], error: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ctwho.main(words) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert error in err


def test_csv(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--format", "csv", "-d", str(folder), "--case", "=1+1"]
    assert ctwho.main([f"{PUBLIC}:40000", AT, *words]) == 0
    (row,) = csv.DictReader(io.StringIO(capfd.readouterr().out))
    assert (row["address"], row["port"], row["written"]) == (PUBLIC, "40000", f"'{AT}")
    assert (row["verdict"], row["persons"]) == ("SEVERAL", "10.0.0.1|10.0.0.2")
    assert row["case"] == "'=1+1"


def test_a_file_for_the_answer(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answer.json"
    words = [f"{PUBLIC}:40000", AT, "-d", str(folder), "--format", "json", "-o", str(path)]
    assert ctwho.main(words) == 0
    assert capfd.readouterr().out == ""
    assert json.loads(path.read_text())["verdict"] == "SEVERAL"
    before = path.read_bytes()
    assert ctwho.main(words) == 2
    assert "not overwritten" in capfd.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([f"{PUBLIC}:40000", "2023-11-14 22:14:30Z"], "SEVERAL: 2 inside hosts"),
        ([f"{PUBLIC}:40000", AT, "--to", SERVER, "--tolerance", "0.5"], "tolerance   0.5 s"),
        ([f"{PUBLIC}:40000", AT, "--to", SERVER, "--format", "json"], '"verdict": "ONE"'),
        (["2001:db8::5:1", "2023-11-14 22:14:30", "--utc", "--proto", "udp,tcp"], "tcp, udp, any"),
        ([f"{PUBLIC}:40000", "-2h", "--reason", "it's a case; $(reboot)"], "$(reboot)"),
    ],
)
def test_ctlist_prints_the_command_that_asks_the_same(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str], shown: str
) -> None:
    """A shell runs it."""
    address, at, *options = words
    assert ctlist.main(["--who", address, "--at", at, *options, str(folder)]) == 2
    out, err = capfd.readouterr()
    assert err.startswith("ctlist: --who is a command of its own now")
    (line,) = out.splitlines()
    assert shlex.split(line)[0] == "ctwho"
    environment = {"PATH": f"{ROOT / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (done.stderr, done.returncode == 2) == ("", False)
    assert shown in done.stdout


def test_ctlist_who_without_a_time(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["--who", f"{PUBLIC}:80"], ["--at", "now"], ["--wait"], ["--to", SERVER]):
        assert ctlist.main(words) == 2
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "ctwho" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tolerance", "abc"], "--tolerance: no number: 'abc'"),
        (["--format", "foo"], "no 'foo' here: choose from"),
        (["--zone", ""], "--zone: it is empty"),
        (["-o", ""], "--output: it is empty"),
        (["-o", "/nonexistent/x"], "-o: /nonexistent/x: there is no folder /nonexistent"),
        (["--names", "/nonexistent"], "--names: /nonexistent: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert ctwho.main([f"{PUBLIC}:40000", AT, "-d", str(folder), *words]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert "float" not in err
    assert "invalid" not in err


def test_two_files_that_are_one_are_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [f"{PUBLIC}:40000", AT, "-d", str(folder), "-o", str(tmp_path / "x")]
    assert ctwho.main([*words, "--evidence-pack", f"{tmp_path}/./x"]) == 2
    assert "--evidence-pack and -o: " in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_output_that_is_a_dash(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ctwho.main([f"{PUBLIC}:40000", AT, "-d", str(folder), "-o", "-"]) == 0
    assert capfd.readouterr().out.startswith("SEVERAL")
    assert not (tmp_path / "-").exists()


def test_an_equal_hold_is_set_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f"{PUBLIC}:40000", AT, "-d", str(folder), "--hold", "--case"]
    assert [ctwho.main([*words, case]) for case in ("1", "1", "2")] == [0, 0, 0]
    assert "hold 1 is set already" in capfd.readouterr().err
    with Folder(str(folder)) as opened:
        assert [one.reason for one in holds(opened)] == ["case 1", "case 2"]


def test_the_router_has_its_own_addresses_if_it_is_asked_itself(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "router_addresses" not in ask(folder, capfd, f"{PUBLIC}:40000")["question"]
    here = log(tmp_path / "here", ONE, host=socket.gethostname())
    monkeypatch.setattr(this_machine, "own", lambda: [PUBLIC, "2001:db8::1"])
    found = ask(here, capfd, f"{PUBLIC}:40000")["question"]
    assert found["router_addresses"] == [PUBLIC, "2001:db8::1"]
    words = [f"{PUBLIC}:40000", AT, "-d", str(here)]
    assert ctwho.main(words) == 0
    assert f"\n            this one has now {PUBLIC}, 2001:db8::1\n" in capfd.readouterr().out
    assert ctwho.main([*words, "--format", "html"]) == 0
    assert "Addresses of the router when it was asked" in capfd.readouterr().out
