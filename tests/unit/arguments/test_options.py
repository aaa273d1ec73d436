"""The arguments of ctlist: paths and expressions, short forms, and the habits of journalctl."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctrecorder.listing import ctlist
from ctrecorder.uapi import AF_INET
from tests.support import filter_data

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(autouse=True)
def in_utc() -> Iterator[None]:
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filter_data.home(tmp_path_factory.mktemp("home") / "log", AF_INET, "mixed")


@pytest.fixture
def listed(capfd: pytest.CaptureFixture[str], log: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls ctlist in the folder above the log; returns exit code, stdout and stderr by line."""
    monkeypatch.chdir(log.parent)

    def call(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = ctlist.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        ["log", "tcp port 443"],
        ["log", "tcp", "port", "443"],
        ["tcp", "log", "port", "443"],
        ["tcp port 443", "-f", "log"],
        ["-e", "tcp port 443", "log"],
        ["-e", "tcp", "-e", "port 443", "log"],
        ["-e", "port 443", "log", "tcp"],
        ["-p", "443", "--proto", "tcp", "log"],
        ["-p", "https", "log", "tcp"],
        ["--proto", "tcp", "log", "port 443"],
        ["log/0.ctlog", "log/1.ctlog", "./log/2.ctlog", "tcp and port https"],
    ],
    ids=" ".join,
)
def test_paths_and_expressions_in_any_order(listed: Run, arguments: list[str]) -> None:
    assert listed("-s", "-c", *arguments)[:2] == (0, ["133"])


@pytest.mark.parametrize(
    ("short", "expression"),
    [
        (["-i", "192.168.1.100,10.9.0.0/16"], "host 192.168.1.100, 10.9.0.0/16"),
        (["--src", "192.168.1.100"], "src 192.168.1.100"),
        (["--src", "192.168.1.100", "--src", "10.9.0.5"], "src 192.168.1.100 or 10.9.0.5"),
        (["--dst", "203.0.113.0/24"], "dst net 203.0.113.0/24"),
        (["--sport", "1024-30000", "--dport", "http,443"], "sport 1024-30000 dport 80,443"),
        (["--nat", "snat"], "snat"),
        (["--nat", "snat,dnat"], "snat or dnat"),
        (["--nat", "any", "--mark", "0x10/0x10"], "nat and mark 0x10/0x10"),
        (["--zone", "1,2"], "zone 1,2"),
    ],
    ids=str,
)
def test_short_forms(listed: Run, short: list[str], expression: str) -> None:
    asked = listed("-s", "-c", "log", expression)[1]
    assert asked != ["0"]
    assert listed("-s", "-c", "log", *short)[1] == asked
    both = listed("-s", "-c", "log", *short, "tcp")[1]
    assert both == listed("-s", "-c", "log", f"({expression}) and tcp")[1] != asked


def test_what_could_be_a_file_and_a_word_is_refused(listed: Run, log: Path) -> None:
    named = log.parent / "udp"
    named.write_bytes((log / "0.ctlog").read_bytes())
    try:
        code, out, err = listed("log", "udp")
        assert (code, out) == (2, [])
        assert err == [
            "ctlist: 'udp' is a file here, and a word of an expression: write ./udp or -e 'udp'"
        ]
        assert listed("-c", "./udp")[0] == 0
        assert listed("-s", "-c", "-e", "udp", "log")[1] == ["157"]
    finally:
        named.unlink()


def test_a_slash_makes_a_path_if_it_is_no_expression(listed: Run) -> None:
    assert listed("-s", "-c", "log", "10.0.0.0/8")[1] == ["116"]
    assert listed("-s", "-c", "log", "net", "10.0.0.0/8")[1] == ["116"]
    assert listed("missing/segments")[2] == ["ctlist: missing/segments: No such file or directory"]
    code, _, err = listed("log", "segmens")
    assert code == 2
    assert "no word 'segmens' here" in err[-1]


def test_an_error_has_a_caret_and_the_nearest_word(listed: Run) -> None:
    assert listed("log", "host 192.0.2.7 and prot 443") == (
        2,
        [],
        [
            "ctlist: host 192.0.2.7 and prot 443",
            "ctlist:                    ^",
            "ctlist: character 20: no word 'prot' here: did you mean proto, port or sport?",
        ],
    )


def test_a_protocol_is_no_port(listed: Run) -> None:
    code, _, err = listed("-p", "tcp", "log")
    assert code == 2
    assert "tcp is a protocol: write --proto tcp, or the expression tcp" in err[0]


def test_expressions_in_files(listed: Run, tmp_path: Path) -> None:
    (tmp_path / "what").write_text("tcp  # of the web\n  and port 443\n")
    assert listed("-s", "-c", "-E", tmp_path / "what", "log")[1] == ["133"]
    assert listed("-s", "-c", "-E", tmp_path / "what", "log", "dnat")[1] != ["133"]
    (tmp_path / "wrong").write_text("tcp\nand prt 443\n")
    assert listed("-E", tmp_path / "wrong", "log")[2] == [
        "ctlist: and prt 443",
        "ctlist:     ^",
        "ctlist: line 2, character 5: no word 'prt' here: did you mean port, sport or proto?",
    ]
    assert listed("-E", tmp_path / "none", "log")[::2] == (
        2,
        [f"ctlist: {tmp_path}/none: No such file or directory"],
    )


@pytest.mark.parametrize("connections", [True, False], ids=["connections", "events"])
@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_the_last_lines_and_the_newest_first(listed: Run, form: str, connections: bool) -> None:
    asked = ["log", "-o", form, *(["-s"] if connections else []), "tcp"]
    every = listed(*asked)[1]
    head, lines = ([every[0]], every[1:]) if form == "csv" else ([], every)
    assert len(lines) > 300
    for count in (0, 1, 7, len(lines), len(lines) + 5):
        assert listed(*asked, "-n", count)[1] == [
            *head,
            *lines[len(lines) - min(count, len(lines)) :],
        ]
    assert listed(*asked, "-r")[1] == [*head, *reversed(lines)]
    assert listed(*asked, "-r", "-n", 5)[1] == [*head, *reversed(lines[-5:])]
    assert listed(*asked, "-c")[1] == [str(len(lines))]


def test_standard_input_is_a_segment(
    listed: Run, log: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = (log / "0.ctlog").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    monkeypatch.setattr(os, "isatty", lambda _: False)
    piped = listed("-", "tcp", "-c")[1]
    assert piped == listed(log / "0.ctlog", "tcp", "-c")[1] != ["0"]


def test_abbreviations_and_the_nearest_option(listed: Run) -> None:
    assert listed("log", "--conn", "--cou", "tcp")[1] == ["304"]
    code, _, err = listed("log", "--co")
    assert code == 2
    assert "ambiguous option" in err[0]
    assert listed("log", "--formt", "json")[2] == [
        "ctlist: no option --formt: did you mean --format or --sort? (see ctlist --help)"
    ]
    assert listed("log", "--json")[2] == [
        "ctlist: no option --json: did you mean --format json? (see ctlist --help)"
    ]


def test_disk_usage(listed: Run) -> None:
    ((line,), err) = listed("log", "--disk-usage")[1:]
    assert err == []
    assert line.startswith("3 segments take ")
    assert line.endswith("KiB")
    assert listed("missing", "--disk-usage")[0] == 2


def test_an_empty_archive_says_so(listed: Run, tmp_path: Path) -> None:
    from ctrecorder.ctlog.header import Header
    from ctrecorder.segment.writer import SegmentWriter

    SegmentWriter.create(str(tmp_path / "a"), Header(), bytes(16), time_ns=10**18).close()
    code, out, err = listed(tmp_path)
    assert (code, out) == (0, [])
    assert err[-1] == "ctlist: no rows: the segments that are here have no event yet"


def test_tops_count_what_an_expression_about_connections_chooses(listed: Run) -> None:
    """Counters and open connections are of connections, though -s is not there."""
    for expression in ("bytes > 10M", "open and tcp", "duration > 1h"):
        (wanted,) = listed("-s", "-c", "log", expression)[1]
        rows = listed("--top", "proto", "-o", "csv", "log", expression)[1][1:]
        assert {row.split(",")[5] for row in rows} == {wanted} != {"0"}
