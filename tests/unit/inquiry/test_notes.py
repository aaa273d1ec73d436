"""What is noted beside NOBODY."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
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
