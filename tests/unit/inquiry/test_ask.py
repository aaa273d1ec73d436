"""What an answer needs to be proved, and what nobody means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.folder import Folder
from ctrecorder.kept.retention import Receipt, add_receipt
from tests.support.inquiries import CLOCK, Json, ask, connection, hosts, log
from tests.support.slow_pairing import SECOND, T
from tests.unit.query.test_verdict import HOUR, Recorder

PUBLIC, SERVER = "198.51.100.1", "203.0.113.9"
SNAT = connection("tcp", ("10.0.0.1 1234", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000"))
OFF: Json = {"state": {"clock": {"synchronised": False, "error_us": 16_000_000}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [(OFF, "was not synchronised"), ({"state": None}, "was not recorded")],
)
def test_a_clock_that_can_be_off_by_any_amount_proves_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], facts: Json, reason: str
) -> None:
    log(folder, SNAT, **facts)
    found = ask(folder, capfd, f"{PUBLIC}:40000", code=3)
    assert (found["verdict"], found["complete"]) == ("ONE KNOWN (not proved)", True)
    assert reason in found["why"]
    found = ask(folder, capfd, f"{PUBLIC}:40001", code=3)
    assert found["verdict"] == "NOBODY KNOWN (not proved)"
    trusted = ask(folder, capfd, f"{PUBLIC}:40000", "--trust-clock")
    assert trusted["verdict"] == "ONE"
    assert [one.get("trusted") for one in trusted["clock"]] == ([True] if facts is OFF else [])


def test_what_the_clock_is_off_by_is_added(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Who had ended 1.5 s before is listed only if our clock can be 0.6 s off."""
    for name, error_us, since, found in (
        ("a", 400_000, "2023-11-14T22:14:50.100000000Z", []),
        ("b", 600_000, "2023-11-14T22:14:49.900000000Z", ["10.0.0.1"]),
    ):
        state = {"clock": {"synchronised": True, "error_us": error_us}}
        folder.mkdir(exist_ok=True)
        path = log(folder / name, SNAT, state=state)
        at = f"@{T // SECOND + 91}.500000000"
        answer = ask(path, capfd, f"{PUBLIC}:40000", at, code=None)
        assert hosts(answer) == found
        question = answer["question"]
        assert question["tolerance_seconds"] == 1.0
        assert question["clock_error_seconds"] == error_us / 1e6
        assert question["since"] == since


def test_a_time_that_can_be_read_in_two_ways_proves_nobody(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each way is an answer of its own, and says that there are two."""
    log(folder, SNAT)
    words = [f"{PUBLIC}:40000", "14 Nov 2023 22:14:30 PST", "--format", "json", "-d", str(folder)]
    assert ctwho.main(words) == 3
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all('"readings": 2' in line and "in 2 ways" in line for line in lines)


def test_nobody_and_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = log(tmp_path / "log", SNAT)
    begin = T // SECOND
    for words, verdict, code in (
        ((f"{PUBLIC}:40001",), "NOBODY", 1),
        ((f"{PUBLIC}:40000", f"@{begin - 9000}"), "NOT RECORDED", 3),
        ((f"{PUBLIC}:40000", f"@{begin}", "--tolerance", "3"), "NOBODY KNOWN (not proved)", 3),
        ((f"{PUBLIC}:40000", f"@{begin + 9000}"), "NOT RECORDED", 3),
    ):
        assert ask(folder, capfd, *words, code=code)["verdict"] == verdict, words


def test_a_protocol_that_is_not_recorded(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log(folder, SNAT, protocols=("tcp",))
    for protocol, verdict, code in (
        ("tcp", "NOBODY", 1),
        ("udp", "NOT RECORDED", 3),
        ("tcp,udp", "NOBODY KNOWN (not proved)", 3),
    ):
        found = ask(folder, capfd, f"{PUBLIC}:9", "--protocol", protocol, code=code)
        assert found["verdict"] == verdict, protocol


def expired(folder: Path, since: int, until: int) -> None:
    receipt = Receipt("c-001.ctlog", since, until, 2, 900, ["aa"], "", "", until + HOUR, "age")
    with Folder(str(folder)) as opened:
        add_receipt(opened, receipt)


def test_what_expired_has_a_receipt(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    recorder = Recorder(folder, facts={"host": "gw", **CLOCK})
    first = recorder.segment()
    recorder.segment()
    os.unlink(first)
    before = ask(folder, capfd, f"{PUBLIC}:40000", code=3)
    assert before["verdict"] == "NOBODY KNOWN (not proved)", "a segment is missing"
    expired(folder, T, T + HOUR)
    found = ask(folder, capfd, f"{PUBLIC}:40000", code=3)
    assert found["verdict"] == "NO LONGER KEPT"
    (receipt,) = found["evidence"]["receipts"]
    assert (receipt["file"], receipt["reason"]) == ("c-001.ctlog", "age")
    later = ask(folder, capfd, f"{PUBLIC}:40000", f"@{T // SECOND + 3700}", code=1)
    assert later["verdict"] == "NOBODY"


def test_when_all_of_it_expired(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder without any segment: with a receipt of that time it is no failure."""
    folder.mkdir()
    words = [f"{PUBLIC}:40000", f"@{T // SECOND + 70}", "-d", str(folder)]
    assert ctwho.main(words) == 2
    assert "no segments here" in capfd.readouterr().err
    expired(folder, T, T + HOUR)
    assert ctwho.main(words) == 3
    text = capfd.readouterr().out
    assert text.startswith("NO LONGER KEPT\n")
    assert "\nreceipt     c-001.ctlog, " in text
    assert "one of 1" not in text
    said = " ".join(text.split())
    assert "nothing was recorded" not in said, "it was, and is deleted"
    assert "no longer kept " in said
    assert "ctexpire deleted the segments" in said
    assert "deleted a part" not in said
    assert "our clock not known" in said
    words[1] = f"@{T // SECOND + 9000}"
    assert ctwho.main(words) == 2


def test_the_segments_that_an_answer_rests_on(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log(folder, SNAT)
    evidence = ask(folder, capfd, f"{PUBLIC}:40000")["evidence"]
    first, second = evidence["segments"]
    assert (first["file"], first["host"], first["sequence"]) == ("c-001.ctlog", "gw", 1)
    assert len(first["hash"]) == len(second["hash"]) == 32
    assert (first["sealed"], first["imported"]) == (False, False)
    assert evidence["version"].startswith("ctrecorder ")


def _name_file(tmp_path: Path, *lines: str) -> tuple[str, str]:
    path = tmp_path / "names.csv"
    path.write_text("".join(f"{line}\n" for line in ("address,from,until,name", *lines)))
    return "--names", str(path)


@pytest.mark.parametrize(
    ("lines", "verdict", "names"),
    [
        # It began at 22:14:20, which is up to 1.5 s late; 22:14:28.998 to 22:14:32.002 is asked.
        (("2023-11-14 22:14:20Z,,Ann",), "ONE KNOWN (not proved)", ["Ann"]),
        (("2023-11-14 22:14:18Z,,Ann",), "ONE", ["Ann"]),
        (("2023-11-01 00:00Z,2023-11-14 22:14:33Z,Ann",), "ONE", ["Ann"]),
        (("2023-11-01 00:00Z,2023-11-14 22:14:32Z,Ann",), "ONE KNOWN (not proved)", ["Ann"]),
        (
            ("2023-11-01 00:00Z,2023-11-14 22:14:25Z,Ann", "2023-11-14 22:14:31Z,,Bob"),
            "SEVERAL",
            ["Ann", "Bob"],
        ),
        (
            ("2023-11-01 00:00Z,2023-11-14 22:14:32Z,Ann", "2023-11-14 22:14:32Z,,Bob"),
            "SEVERAL",
            ["Ann", "Bob"],
        ),
        (
            ("2023-11-01 00:00Z,2023-11-14 22:14:25Z,Ann", "2023-11-14 22:14:28Z,,Ann"),
            "ONE KNOWN (not proved)",
            ["Ann", "Ann"],
        ),
        (("2023-11-01 00:00Z,2023-11-14 22:14:10Z,Ann",), "ONE", []),
    ],
)
def test_a_customer_is_proved_only_if_nobody_else_can_have_held_the_address(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    lines: tuple[str, ...],
    verdict: str,
    names: list[str],
) -> None:
    """In all of the searched time, and from the begin of the connection."""
    log(folder, SNAT)
    words = _name_file(tmp_path, *(f"10.0.0.1,{line}" for line in lines))
    found = ask(folder, capfd, f"{PUBLIC}:40000", *words, code=None)
    (person,) = found["persons"]
    assert (found["verdict"], [one["name"] for one in person["customers"]]) == (verdict, names)
    is_unknown = "does not tell who had 10.0.0.1 in all of that time" in found.get("why", "")
    assert is_unknown or verdict != "ONE KNOWN (not proved)"
    at = f"@{T // SECOND + 70}"
    ctwho.main([f"{PUBLIC}:40000", at, *words, "-d", str(folder)])
    headline = capfd.readouterr().out.split("\n")[0]
    assert ("customer Ann" in headline) is (verdict == "ONE" and bool(names))


def test_what_was_not_read_of_the_names_can_name_another_customer(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log(folder, SNAT)
    words = _name_file(tmp_path, "10.0.0.1,,,Ann", "10.0.0.1,notatime,,Eve")
    found = ask(folder, capfd, f"{PUBLIC}:40000", *words, code=3)
    assert found["verdict"] == "ONE KNOWN (not proved)"
    assert "not all of --names could be read" in found["why"]
    assert "line 3" in found["names_unread"][0]
    page = tmp_path / "page.html"
    at = f"@{T // SECOND + 70}"
    asked = [f"{PUBLIC}:40000", at, *words, "-d", str(folder)]
    assert ctwho.main([*asked, "--format", "html", "-o", str(page)]) == 3
    assert ctwho.main(["--verify", str(page), str(folder)]) == 0, "it gives the same answer"
