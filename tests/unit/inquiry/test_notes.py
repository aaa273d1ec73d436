"""What is noted beside NOBODY."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.cli import ctsqueeze
from ctrecorder.listing import ctlist
from tests.support.inquiries import ask, connection, log
from tests.support.slow_pairing import SECOND, T

PUBLIC, SERVER = "198.51.100.1", "203.0.113.9"
SNAT = connection("tcp", ("10.0.0.1 1234", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((f"{PUBLIC}:40001",), ""),
        ((PUBLIC, "--protocol", "udp"), ""),
        ((f"{PUBLIC}:40000", "--to", "203.0.113.10"), ""),
        (("198.51.100.11:40000",), "is it mistyped?"),
        (("2001:db8::1",), "is it mistyped?"),
        (("10.0.0.1",), "it is one of the inside; ask for the one that the outside saw"),
    ],
)
def test_an_address_that_occurs_nowhere_may_be_mistyped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """Only then: another port, protocol or remote end of it is in the log."""
    folder = log(tmp_path / "log", SNAT)
    found = ask(folder, capfd, *words, code=1)
    assert found["verdict"] == "NOBODY"
    notes = [f"{words[0].split(':40')[0]} occurs nowhere as a public address in what was searched"]
    assert found.get("notes", []) == ([f"{notes[0]}: {said}"] if said else [])
    ctwho.main([words[0], f"@{T // SECOND + 70}", *words[1:], "-d", str(folder)])
    assert ("note: " in capfd.readouterr().out) is bool(said)


def test_a_log_without_remote_ends_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As text, as JSON, and where nothing matches; no address stands for what was left out."""
    folder = log(tmp_path / "log", SNAT)
    assert ctsqueeze.main(["--omit", "remote", str(folder)]) == 0
    found = ask(folder, capfd, f"{PUBLIC}:40000", "--connections", code=None)
    (note,) = found["notes"]
    assert note == "remote ends were not recorded (omit): this rests on address and port alone"
    (flow,) = found["persons"][0]["flows"]
    assert flow["public"] == {"address": PUBLIC, "port": 40000}
    assert not {"remote", "remote_behind"} & flow.keys()
    time = f"@{T // SECOND + 70}"
    ctwho.main([f"{PUBLIC}:40000", time, "-d", str(folder), "--connections"])
    text = capfd.readouterr().out
    assert "to an end that was not recorded (omit)" in text
    assert "0.0.0.0" not in text
    ctlist.main([str(folder), "host 203.0.113.77"])
    assert "has no remote ends (omit)" in capfd.readouterr().err
