"""ctwho --fleet: one verdict on many routers, never more certain than the least certain of them;
and what a router answers by ssh is a stranger's text.

`ssh` is a script here, so that it can answer what no honest router would; the real one is in
tests/faults/test_fleet.py.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.fleet import asking
from tests.support import asked
from tests.support.inquiries import connection, log
from tests.support.router import CHECKOUT
from tests.support.slow_pairing import SECOND, T

QUESTION = (f"{asked.PUBLIC}:40000", f"@{T // SECOND + 70}")
Json = dict[str, Any]


class Fleet:
    """A list of routers, and an ssh that runs a script for each host."""

    def __init__(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.here, self.capfd, self.lines = here, capfd, list[str]()
        self.scripts = here / "scripts"
        self.scripts.mkdir()
        self.log = here / "ssh.log"
        ssh = here / "bin" / "ssh"
        ssh.parent.mkdir()
        # The options come in pairs; then the host, and the command.
        ssh.write_text(
            f'#!/bin/sh\nwhile [ "$1" = -o ]; do shift 2; done\nprintf "%s\\n" "$*" >>{self.log}\n'
            f'exec sh {self.scripts}/"$1" "$2"\n'
        )
        ssh.chmod(0o755)

    def folder(self, name: str, inside: str = "") -> Path:
        """A router whose archive is a folder here; `inside`: who had the port."""
        place = self.here / name
        remote = f"{asked.REMOTE} 443"
        public = f"{asked.PUBLIC} 40000" if inside else "198.51.100.9 5"
        flow = connection("tcp", (f"{inside or '10.0.9.9'} 999", remote), (remote, public))
        log(place, flow, host=name)
        self.lines.append(f"{name} {place}")
        return place

    def remote(self, name: str, script: str) -> None:
        """A router that is asked by ssh, and runs a script with the command as $1."""
        (self.scripts / f"{name}.example").write_text(script)
        self.lines.append(f"{name} ssh://{name}.example")

    def honest(self, name: str, folder: Path) -> None:
        """A router that runs the command that it gets."""
        self.remote(name, f'PATH={CHECKOUT}/bin:$PATH; eval "$1 -d {folder}"')

    def ask(self, *words: str, question: tuple[str, ...] = QUESTION) -> tuple[int, str]:
        """The exit code and the answer."""
        path = self.here / "fleet"
        path.write_text("\n".join(self.lines) + "\n")
        self.capfd.readouterr()
        code = ctwho.main([*question, "--fleet", str(path), *words])
        out, err = self.capfd.readouterr()
        return code, out or err

    def json(self, *words: str) -> tuple[int, Json]:
        code, out = self.ask("--format", "json", *words)
        return code, json.loads(out)


@pytest.fixture
def fleet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Fleet:
    made = Fleet(tmp_path, capfd)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return made


def test_one_of_three_had_it(fleet: Fleet) -> None:
    fleet.folder("edge1")
    fleet.folder("edge2", "10.0.0.5")
    fleet.honest("edge3", fleet.folder("edge3-log"))
    del fleet.lines[2]
    code, answer = fleet.json()
    assert (code, answer["verdict"], answer["complete"]) == (0, "ONE", True)
    assert [(one["router"], one["address"]) for one in answer["persons"]] == [("edge2", "10.0.0.5")]
    assert [one["name"] for one in answer["routers"]] == ["edge1", "edge2", "edge3"]
    code, out = fleet.ask()
    assert code == 0
    assert out.startswith("ONE: 10.0.0.5, behind edge2\n")
    assert "fleet       3 routers, 3 complete for that time" in out
    code, out = fleet.ask("--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["router"], row["person"]) for row in rows] == [
        ("edge1", ""),
        ("edge2", "10.0.0.5"),
        ("edge3", ""),
    ]


def test_nobody_is_proved_only_if_all_prove_it(fleet: Fleet) -> None:
    fleet.folder("edge1")
    fleet.honest("edge2", fleet.folder("edge2-log"))
    del fleet.lines[1]
    code, answer = fleet.json()
    assert (code, answer["verdict"]) == (1, "NOBODY")


def test_one_inside_address_behind_two_routers_is_two_hosts(fleet: Fleet) -> None:
    fleet.folder("edge1", "10.0.0.5")
    fleet.folder("edge2", "10.0.0.5")
    code, answer = fleet.json()
    assert (code, answer["verdict"], len(answer["persons"])) == (0, "SEVERAL", 2)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'ssh: connect to host: No route to host' >&2; exit 255", "No route to host"),
        ("exit 127", "what it said is no answer (exit code 127)"),
        ("echo hello", "what it said is no answer"),
        ("echo '[]'", "the answer: must be an object"),
        ("echo '{}'", "has no question"),
        ("yes '[' | head -c 3000000 | tr -d '\\n'", "what it said is no answer"),
        ("yes", "its answer has more than 8,388,608 bytes"),
        ("""printf '{"verdict": "ONE", "question": {}, "persons": 5}'""", "must be a list"),
        ("printf '\\033]0;owned\\007' >&2; exit 1", "\\x1b]0;owned\\x07"),
    ],
)
def test_a_router_that_does_not_answer_is_a_named_hole(fleet: Fleet, script: str, why: str) -> None:
    fleet.folder("edge1", "10.0.0.5")
    fleet.remote("evil", script)
    code, answer = fleet.json()
    assert (code, answer["verdict"], answer["complete"]) == (3, "ONE KNOWN (not proved)", False)
    assert answer["why"] == "evil did not answer"
    assert why in answer["routers"][1]["failed"]
    code, out = fleet.ask()
    assert code == 3
    assert "\033" not in out
    assert "evil (ssh://evil.example): did not answer: " in out


def test_one_that_hangs_does_not_keep_the_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 1.0)
    fleet.folder("edge1", "10.0.0.5")
    for number in range(5):
        fleet.remote(f"slow{number}", "sleep 100")
    begun = time.monotonic()
    code, answer = fleet.json()
    assert time.monotonic() - begun < 10
    assert (code, answer["verdict"]) == (3, "ONE KNOWN (not proved)")
    assert [one.get("failed") for one in answer["routers"][1:]] == ["no answer in 1 s"] * 5


def answer_of(fleet: Fleet, **changes: Any) -> str:
    """A script that prints the answer of an honest router, changed."""
    place = fleet.folder("honest", "10.0.0.5")
    fleet.lines.pop()
    fleet.capfd.readouterr()
    ctwho.main([*QUESTION, "--format", "json", "-d", str(place)])
    answer = json.loads(fleet.capfd.readouterr().out)
    for path, value in changes.items():
        *above, last = path.split("__")
        inner = answer
        for name in above:
            inner = inner[name]
        inner[last] = value
    (fleet.here / "answer.json").write_text(json.dumps(answer))
    return f"cat {fleet.here}/answer.json"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"evidence__version": "ctrecorder 9.9"}, "has ctrecorder 9.9, here is ctrecorder"),
        ({"evidence": {}}, "has no version, here is"),
        ({"question__port": 5}, "answered another question"),
        ({"question__address": "192.0.2.99"}, "answered another question"),
        ({"question__since": "2023-11-14T22:14:30.000000000Z"}, "answered another question"),
        ({"question__until": "2023-11-14T22:14:29.999999999Z"}, "answered another question"),
        ({"verdict": "CERTAINLY"}, "must be one of"),
    ],
)
def test_an_answer_of_another_version_or_question_is_none(
    fleet: Fleet, changes: dict[str, Any], why: str
) -> None:
    fleet.remote("edge1", answer_of(fleet, **changes))
    code, answer = fleet.json()
    assert code == 3
    assert why in answer["routers"][0]["failed"]
    assert answer["persons"] == []


def test_an_answer_that_is_right_is_taken(fleet: Fleet) -> None:
    """So the cases above fail for what was changed."""
    fleet.remote("edge1", answer_of(fleet))
    code, answer = fleet.json()
    assert (code, answer["verdict"]) == (0, "ONE")


def test_a_lying_router_speaks_for_itself_alone(fleet: Fleet) -> None:
    fleet.folder("edge1", "10.0.0.5")
    person = {"address": "10.6.6.6\033[2J", "router": "edge1", "routers": ["edge1"]}
    fleet.remote("evil", answer_of(fleet, persons=[person] * 50))
    code, answer = fleet.json()
    assert (code, answer["verdict"]) == (0, "SEVERAL")
    assert [one["router"] for one in answer["persons"]] == ["edge1", *["evil"] * 50]
    _, out = fleet.ask()
    assert "\033" not in out
    assert "and 41 inside hosts more" in out


def test_what_is_asked_by_ssh(fleet: Fleet) -> None:
    """One instant with a tolerance, who asks, and nothing that a shell would take apart."""
    fleet.remote("edge1", "exit 1")
    fleet.lines[0] = "edge1 ssh://me@edge1.example:/srv/log"
    (fleet.scripts / "edge1.example").rename(fleet.scripts / "me@edge1.example")
    fleet.ask("--reason", "it's $(id); `x`", "--case", "7", "--to", "203.0.113.5:443", "--utc")
    host, _, words = fleet.log.read_text().strip().partition(" ")
    assert host == "me@edge1.example"
    assert words.startswith(
        f"ctwho {asked.PUBLIC}:40000 @{T // SECOND + 70}.500000000 --format json --tolerance 1.5"
    )
    assert " --to 203.0.113.5:443 -d /srv/log --case 7 --reason " in words
    assert "'asked by root at " in words or "asked by" in words
    assert """it'"'"'s $(id); `x`'""" in words


def test_what_is_written_in_two_ways_is_asked_twice(fleet: Fleet) -> None:
    fleet.folder("edge1", "10.0.0.5")
    words = (f"{asked.PUBLIC}:40000", "2023-11-14 22:14:30 CST")
    code, out = fleet.ask("--format", "json", question=words)
    assert len(out.splitlines()) > 1
    assert all("can be read in" in json.loads(line)["why"] for line in out.splitlines())
    assert code == 3


@pytest.mark.parametrize(
    "option", [("-d", "/x"), ("--wait",), ("--hold",), ("--format", "html"), ("--connections",)]
)
def test_what_does_not_go_together(fleet: Fleet, option: tuple[str, ...]) -> None:
    fleet.folder("edge1")
    code, out = fleet.ask(*option)
    assert code == 2
    assert "cannot be used with --fleet" in out


def test_a_folder_that_cannot_be_read_fails(fleet: Fleet) -> None:
    fleet.folder("edge1", "10.0.0.5")
    fleet.lines.append(f"edge2 {fleet.here}/missing")
    code, answer = fleet.json()
    assert code == 3
    assert "no segments here" in answer["routers"][1]["failed"]


def test_the_questions_of_a_letter_go_to_each_router(fleet: Fleet) -> None:
    """Each in its place, with what it was read from; one that cannot be asked says why."""
    fleet.folder("edge1", "10.0.0.5")
    fleet.honest("edge2", fleet.folder("edge2-log"))
    del fleet.lines[1]
    letter = fleet.here / "letter.txt"
    at = "2023-11-14 22:14:30"
    letter.write_text(
        f"{asked.PUBLIC}:40000 {at} UTC\n{asked.PUBLIC}:41234 {at} UTC\n"
        f"{asked.PUBLIC}:1 2023-11-14 22:14:39\n"
    )
    code, out = fleet.ask("--letter", str(letter), "--format", "json", question=())
    (answer,) = map(json.loads, out.splitlines())
    assert code == 2
    found = answer["questions"]
    assert [one["verdict"] for one in found] == ["ONE", "NOBODY", "CANNOT BE ASKED"]
    assert [one["complete"] for one in found] == [True, True, False]
    assert found[0]["persons"][0]["router"] == "edge1"
    assert found[0]["question"]["read_from"][0]["line"] == 1
    assert "zone" in found[2]["why"]
    code, out = fleet.ask("--letter", str(letter), "--format", "csv", "--utc", question=())
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["line"], row["router"]) for row in rows] == [
        (line, router) for line in "123" for router in ("edge1", "edge2")
    ]
    assert code == 0
    code, out = fleet.ask("--letter", str(letter), question=())
    assert [line for line in out.splitlines() if line.startswith("Question ")] == [
        f"Question {number} of 3" for number in (1, 2, 3)
    ]


def test_a_listening_port_is_a_doubt_that_a_router_far_away_does_not_know_of(fleet: Fleet) -> None:
    """It may be of a tracker: then nobody need have held it outside."""
    fleet.honest("edge1", fleet.folder("edge1-log"))
    del fleet.lines[0]
    letter = fleet.here / "letter.txt"
    letter.write_text(
        f"Title: X\nTorrent Hash: 1\nIP Address: {asked.PUBLIC}\nPort: 40000\n"
        "Timestamp: 2023-11-14T22:14:30Z\n"
    )
    code, out = fleet.ask("--letter", str(letter), "--format", "json", question=())
    (found,) = json.loads(out)["questions"]
    assert (code, found["verdict"]) == (3, "NOBODY KNOWN (not proved)")
    assert "listen" in found["why"]
