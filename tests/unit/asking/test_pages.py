"""ctwho: pages, packs of evidence, copies without remote ends, and the check of a page against the
log it came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.folder import Folder
from ctrecorder.kept.retention import Receipt, add_receipt
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.page import verify
from tests.support import asked
from tests.support.asked import HOUR, PUBLIC, REMOTE
from tests.support.slow_pairing import SECOND, T

AT, SOON = f"@{T // SECOND + 3000}", f"@{T // SECOND + 3692}"
QUESTION = (f"{PUBLIC}:40000", AT)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive; its name has no address in it."""
    folder = tmp_path / "log"
    folder.mkdir()
    asked.record(folder)
    monkeypatch.chdir(tmp_path)
    return folder


def page(log: Path, *more: str, question: tuple[str, ...] = QUESTION) -> Path:
    """The page of an answer, as a file."""
    path = log.parent / f"{len(os.listdir(log.parent))}.html"
    arguments = [*question, "-d", str(log), "--format", "html", "-o", str(path), *more]
    assert ctwho.main(arguments) in (0, 1, 3)
    return path


def check(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code of --verify, and what it prints."""
    capfd.readouterr()
    code = ctwho.main(["--verify", *map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out + err


@pytest.mark.parametrize(
    ("question", "verdict", "code"),
    [
        (QUESTION, "ONE (10.0.0.5)", 0),
        (
            (f"{PUBLIC}:40001", SOON, "--tolerance", "20"),
            "SEVERAL (10.0.0.5; ",
            0,
        ),
        ((f"{PUBLIC}:40001", AT), "NOBODY", 1),
        ((PUBLIC, AT), "ONE (10.0.0.5)", 0),
        ((f"{PUBLIC}:40000", AT, "--to", f"{REMOTE}:443", "--proto", "tcp"), "ONE (10.0.0.5)", 0),
        ((f"{PUBLIC}:40000", AT, "--to", f"{REMOTE}:444"), "NOBODY", 1),
        ((f"{PUBLIC}:4711", AT, "--proto", "icmp"), "NOBODY", 1),
        ((f"{PUBLIC}:40000", "@1600000000"), "NOT RECORDED", 3),
    ],
)
def test_the_log_gives_the_answer_of_the_page_raw_and_squeezed(
    log: Path,
    capfd: pytest.CaptureFixture[str],
    question: tuple[str, ...],
    verdict: str,
    code: int,
) -> None:
    made = page(log, "--connections", question=question)
    assert made.stat().st_mode & 0o777 == 0o600
    for squeezed in (False, True):
        if squeezed:
            for path in sorted(log.glob("*.ctlog")):
                squeeze(str(path), SqueezeOptions())
        found, said = check(capfd, made, log)
        assert found == 0, said
        assert f"the archive gives the same answer: {verdict}" in said
        assert "in the archive, as then or squeezed since: " in said


def test_a_page_alone_is_checked_without_an_archive(
    log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = page(log)
    code, said = check(capfd, made)
    assert (code, said.count("\n")) == (0, 2)
    assert "unchanged" in said
    assert "not asked again: no archive was named" in said
    data = made.read_bytes()
    made.write_bytes(data.replace(b"10.0.0.5", b"10.0.0.6", 1))
    code, said = check(capfd, made, log)
    assert code == 1
    assert "changed: line" in said


def test_a_page_that_was_forged_is_found_with_the_log(
    log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Made with ctwho itself, from the log of another."""
    forged = log.parent / "forged"
    forged.mkdir()
    asked.record(forged, "10.0.0.66")
    made = page(forged)
    assert check(capfd, made)[0] == 0
    code, said = check(capfd, made, log)
    assert code == 1
    assert "another answer: ONE (10.0.0.66) then, ONE (10.0.0.5) now" in said


def test_expired_evidence_is_no_longer_checkable(
    log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = page(log)
    for path in sorted(log.glob("*.ctlog")):
        begin = T + int(path.stem) * HOUR
        receipt = Receipt(path.name, begin, begin + HOUR, 1, 1, ["00"], "", "", begin, "age")
        with Folder(str(log)) as folder:
            add_receipt(folder, receipt)
        path.unlink()
    code, said = check(capfd, made, log)
    assert code == 3
    assert "no longer checkable: the log of that time expired; ONE (10.0.0.5) then" in said


def test_a_segment_that_is_missing_makes_no_liar(
    log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = page(log)
    (log / "00.ctlog").unlink()
    code, said = check(capfd, made, log)
    assert code == 3, said
    assert "no longer checkable: the archive has a hole there" in said


def test_a_copy_has_no_remote_end(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = page(log, "--redact", "--connections")
    assert REMOTE in page(log, "--connections").read_text()
    assert REMOTE not in made.read_text()
    assert check(capfd, made, log)[0] == 0
    made = page(log, "--redact", "--connections", "--to", REMOTE, "--reason", f"he hit {REMOTE}")
    assert REMOTE not in made.read_text()
    code, said = check(capfd, made, log)
    assert code == 3
    assert "its remote end is left out" in said
    ctwho.main([*QUESTION, "-d", str(log), "--redact", "--connections", "--format", "json"])
    out = capfd.readouterr().out
    assert REMOTE not in out
    assert json.loads(out)["persons"][0]["flows"][0]["inside"]["port"] == 51001


def test_an_ambiguous_time_is_one_page(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    question = (f"{PUBLIC}:40000", "09/10/2023", "10:00:05", "UTC")
    made = page(log, question=question)
    assert "Answers to 2 questions" in made.read_text()
    code, said = check(capfd, made, log)
    assert code == 0, said
    assert "question 2: the archive gives the same answer" in said


def test_a_pack_of_evidence(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [*QUESTION, "-d", str(log), "--evidence-pack", "e.tar", "--case", "4711"]
    assert ctwho.main(arguments) == 0
    assert capfd.readouterr().out.startswith("ONE: 10.0.0.5\n")
    path = log.parent / "e.tar"
    assert path.stat().st_mode & 0o777 == 0o600
    subprocess.run(["tar", "-xf", path], cwd=log.parent, check=True)
    folder = log.parent / "ctwho-answer"
    assert check(capfd, folder / "answer.html", log)[0] == 0
    segments = json.loads((folder / "seals.json").read_text())["questions"][0]["segments"]
    assert [one["file"] for one in segments] == ["00.ctlog", "01.ctlog", "02.ctlog"]
    data = b"".join(each.read_bytes() for each in folder.iterdir())
    assert b"4711" in data
    assert b"10.0.0.6" not in data, "another customer"
    assert b"40001" not in data
    before = path.read_bytes()
    assert ctwho.main(arguments) == 2
    assert "exists already, and is not overwritten" in capfd.readouterr().err
    assert path.read_bytes() == before


LETTER = """\
{"Version": "3", "ReporterInfo": {"ReporterOrg": "Watch", "ReporterOrgEmail": "a@watch.example"},
"Report": {"ReportType": "Copyright", "Date": "2023-11-14T23:03:20Z", "SourceIp": "192.0.2.1",
"SourcePort": 40000, "DestinationIp": "203.0.113.77", "DestinationPort": 443}}
"""


def test_the_page_and_the_pack_of_a_letter(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    letter = log.parent / "letter.json"
    letter.write_text(LETTER)
    digest = hashlib.sha256(LETTER.encode()).hexdigest()
    arguments = ["--letter", str(letter), "-d", str(log), "--connections", "--format", "html"]
    assert ctwho.main([*arguments, "-o", "a.html", "--evidence-pack", "a.tar"]) == 0
    made = (log.parent / "a.html").read_text()
    assert f'“<bdo dir="ltr">{REMOTE}</bdo>”' in made
    assert digest in made
    code, said = check(capfd, "a.html", log)
    assert code == 0, said
    subprocess.run(["tar", "-xf", "a.tar"], cwd=log.parent, check=True)
    assert (log.parent / "ctwho-answer" / "letter.json").read_text() == LETTER
    assert ctwho.main([*arguments, "--redact", "-o", "b.html", "--evidence-pack", "b.tar"]) == 0
    for name in ("b.html", "b.tar"):
        data = (log.parent / name).read_bytes()
        assert REMOTE.encode() not in data
        assert digest.encode() in data
    assert check(capfd, "b.html")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--verify", "x.html", "--format", "json"],
        ["--verify", "x.html", "--to", REMOTE],
        ["--verify", "x.html", "--redact"],
        ["--verify", "x.html", "-o", "y"],
        ["--verify", "x.html", "--evidence-pack", "y"],
        [*QUESTION, "--redact"],
        [*QUESTION, "--redact", "--format", "csv"],
        ["--verify", "missing.html"],
        ["--verify", "."],
        [*QUESTION, "--evidence-pack", "missing/x.tar", "-d", "log"],
    ],
)
def test_one_line_for_what_cannot_be(
    log: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert ctwho.main(arguments) == 2
    out, err = capfd.readouterr()
    assert err.startswith("ctwho: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_page_that_is_too_long_is_not_read(
    log: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = page(log)
    monkeypatch.setattr(verify, "MAX_BYTES", made.stat().st_size)
    assert check(capfd, made)[0] == 0
    monkeypatch.setattr(verify, "MAX_BYTES", made.stat().st_size - 1)
    code, said = check(capfd, made)
    assert code == 2
    assert "is longer than any page of ctwho" in said


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"address": "no address"}, "no address 'no address'"),
        ({"port": 70000}, "70000"),
        ({"since": "2027-01-01T00:00:00Z"}, "ends before it begins"),
        ({"until": None}, "has no address or no time"),
        ({"tolerance_seconds": 1e9}, "ends before it begins"),
        ({"protocol": "smoke"}, "no such protocol 'smoke'"),
        ({"remote": {"address": "2001:db8::1"}}, "one address is IPv4, the other one IPv6"),
    ],
)
def test_a_question_of_a_stranger_that_cannot_be_asked(
    log: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], line: str
) -> None:
    """Whoever makes a page can write any question in it."""
    from ctrecorder.page import answer
    from tests.support.page_twins import answer as answer_twin
    from tests.support.page_twins import question

    path = log.parent / "x.html"
    path.write_text(answer.html(answer_twin(question=question(**change))))
    code, said = check(capfd, path, log)
    assert code == 2
    assert line in said
    assert said.count("\n") == 1
