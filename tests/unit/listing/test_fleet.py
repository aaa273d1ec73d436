"""ctlist --fleet: the rows of many routers in one order of time; who does not answer is named.

`ssh` is a script here; the real one is in tests/faults/test_fleet.py.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path

import pytest

from ctrecorder import __version__
from ctrecorder.fleet import listing
from ctrecorder.listing import ctlist
from tests.support import asked
from tests.support.router import CHECKOUT
from tests.support.slow_pairing import T


class Fleet:
    """edge1 is a folder here, edge2 is asked by an ssh that runs a script."""

    def __init__(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.here, self.capfd = here, capfd
        for name, host in (("edge1", "10.0.0.5"), ("edge2", "10.0.0.7")):
            (here / name).mkdir()
            asked.record(here / name, host)
        (here / "bin").mkdir()
        (here / "bin" / "ssh").write_text(
            f'#!/bin/sh\nwhile [ "$1" = -o ]; do shift 2; done\nexec sh {here}/script "$2"\n'
        )
        (here / "bin" / "ssh").chmod(0o755)
        self.answer(f'PATH={CHECKOUT}/bin:$PATH; eval "$1 {here}/edge2"')
        (here / "fleet").write_text(f"edge1 {here}/edge1\nedge2 ssh://edge2.example\n")

    def answer(self, script: str) -> None:
        (self.here / "script").write_text(script)

    def run(self, *words: str) -> tuple[int, str, list[str]]:
        self.capfd.readouterr()
        code = ctlist.main([*words, "--fleet", str(self.here / "fleet")])
        out, err = self.capfd.readouterr()
        return code, out, err.splitlines()

    def alone(self, name: str, *words: str) -> list[dict[str, object]]:
        self.capfd.readouterr()
        ctlist.main([*words, "--format", "json", str(self.here / name)])
        lines = self.capfd.readouterr().out.splitlines()
        return [{"router": name, **json.loads(line)} for line in lines]


@pytest.fixture
def fleet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Fleet:
    made = Fleet(tmp_path, capfd)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return made


@pytest.mark.parametrize("words", [[], ["-s"], ["-s", "-i", "10.0.0.7"], ["-p", "40001"]])
def test_the_rows_of_all_in_order_of_time(fleet: Fleet, words: list[str]) -> None:
    key = "start" if "-s" in words else "time"
    wanted = [*fleet.alone("edge1", *words), *fleet.alone("edge2", *words)]
    wanted.sort(key=lambda one: (str(one[key]), str(one["router"])))
    code, out, err = fleet.run(*words, "--format", "json")
    assert (code, err) == (0, [])
    assert [json.loads(line) for line in out.splitlines()] == wanted
    assert wanted
    code, out, _ = fleet.run(*words)
    assert [line.split()[0] for line in out.splitlines()] == [one["router"] for one in wanted]
    code, out, _ = fleet.run(*words, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["router"], row[key]) for row in rows] == [
        (one["router"], one[key]) for one in wanted
    ]


def test_another_file_in_a_folder_is_passed_over(fleet: Fleet) -> None:
    for name in ("edge1", "edge2"):
        (fleet.here / name / "notes.txt").write_text("no segment")
    code, out, err = fleet.run("-s")
    assert (code, bool(out), len(err)) == (0, True, 2)
    assert all("not a segment of ctrecorder; passed over" in line for line in err)


def test_a_window_is_one_window_everywhere(fleet: Fleet) -> None:
    begin, end = T // 10**9 + 3600, T // 10**9 + 7200
    words = ["--since", f"@{begin}", "--until", f"@{end}"]
    code, out, _ = fleet.run(*words, "--format", "json")
    assert code == 0
    wanted = [*fleet.alone("edge1", *words), *fleet.alone("edge2", *words)]
    assert len(out.splitlines()) == len(wanted) > 0


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no route >&2; exit 255", "edge2: no route"),
        ("echo ctlist '(ctrecorder)' 0.9", "edge2: has ctlist (ctrecorder) 0.9, here is"),
        ("exit 0", "edge2: its list is not whole (exit code 0)"),
        ("head -c 100000 /dev/zero", "edge2: sent a line of more than 16,384 bytes"),
        (
            f"echo 'ctlist (ctrecorder) {__version__}'; echo '2020.01.01 evil\033[2J'; exit 2",
            "edge2: its list is not whole (exit code 2)",
        ),
        (
            f"echo 'ctlist (ctrecorder) {__version__}'; echo 'ctlist: a hole\033[2J' >&2; exit 3",
            "edge2: a hole\\x1b[2J",
        ),
    ],
)
def test_who_does_not_answer_is_named(fleet: Fleet, script: str, said: str) -> None:
    code, out, err = fleet.run("--strict")
    assert code == 0
    fleet.answer(script)
    code, out, err = fleet.run("--strict")
    assert code in (2, 3)
    assert any(said in line for line in err), err
    assert out.count("edge1 ") == 6
    assert "\033" not in out


def test_one_that_hangs_is_given_up(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "IDLE_SECONDS", 0.5)
    fleet.answer("sleep 100")
    begun = time.monotonic()
    code, out, err = fleet.run()
    assert time.monotonic() - begun < 20
    assert code == 2
    assert "edge2: sent nothing for 0.5 s: the rest is missing" in err[0]
    assert out.count("edge1 ") == 6


@pytest.mark.parametrize(
    "words",
    [
        ["/x"],
        ["--who", "192.0.2.1:5"],
        ["-H"],
        ["--format", "classic"],
        ["--coverage"],
        ["--disk-usage"],
    ],
)
def test_what_does_not_go_together(fleet: Fleet, words: list[str]) -> None:
    code, _, err = fleet.run(*words)
    assert code == 2
    assert "--fleet" in err[0]


@pytest.mark.parametrize("words", [[], ["-s"], ["-s", "--format", "csv"]])
def test_the_last_lines_and_how_many_there_are(fleet: Fleet, words: list[str]) -> None:
    """-n, -r and -c are about the lines of all routers together."""
    head = 1 if "csv" in words else 0
    whole = fleet.run(*words)[1].splitlines()
    whole, first = whole[head:], whole[:head]
    for number in (0, 1, 3, 100):
        last = whole[len(whole) - min(number, len(whole)) :]
        assert fleet.run(*words, "-n", str(number))[1].splitlines() == first + last
        turned = fleet.run(*words, "-r", "-n", str(number))[1].splitlines()
        assert turned == first + last[::-1]
    assert fleet.run(*words, "-c")[1] == f"{len(whole)}\n"
    code, _, err = fleet.run(*words, "-r")
    assert (code, "-r without -n cannot be used with --fleet" in err[0]) == (2, True)
