"""The answer on a terminal of 80 columns: looked at by hand, and here that it stays so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
from tests.support.inquiries import connection, log
from tests.support.slow_pairing import SECOND, T

PUBLIC, SERVER = "198.51.100.1", "203.0.113.9"
SNAT = connection(
    "tcp", ("10.0.0.1 1234", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000"), zone=7
)
SCREEN = """\
ONE: 10.0.0.1 in zone 7

10.0.0.1 in zone 7: 1 connection, inside port 1234
  from 2023-11-14 23:14:20.000000 +01:00 (receipt)
  to   2023-11-14 23:14:50.000000 +01:00 (receipt)
    tcp: 10.0.0.1:1234 as 198.51.100.1:40000
      to 203.0.113.9:443
      from 2023-11-14 23:14:20.000000 +01:00 (receipt)
      to   2023-11-14 23:14:50.000000 +01:00 (receipt)

question    198.51.100.1, port 40000, tcp, with 203.0.113.9
time        2023-11-14T23:14:30+01:00 (+01:00, as written)
searched    2023-11-14 23:14:28.998000 to 2023-11-14 23:14:32.002000 +01:00
            2023-11-14 22:14:28.998000 to 2023-11-14 22:14:32.002000 +00:00
tolerance   1 s, our clock 0.002 s
router      gw
clock       synchronised, at most 0.002 s off
"""


def screen(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    ctwho.main(words)
    return capfd.readouterr().out


def test_the_whole_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = str(log(tmp_path / "log", SNAT))
    asked = (f"{PUBLIC}:40000", "2023-11-14T23:14:30+01:00", "--to", SERVER, "--proto", "tcp")
    more = ("--case", "4711", "--reason", "why", "--connections", "-d", folder)
    text = screen(capfd, *asked, *more)
    head, _, last = text.partition("asked       ")
    log_line = f"log {folder}: complete for that time"
    assert log_line in " ".join(head.split())
    before, _, after = head.partition("\nlog  ")
    assert f"{before}\n{after[after.index('router') :]}" == SCREEN
    assert last.endswith(" +01:00 by root, case 4711: why\n")
    lines = {line.strip() for line in screen(capfd, *asked, "--utc", *more).splitlines()}
    assert "from 2023-11-14 22:14:20.000000 +00:00 (receipt)" in lines


def test_it_is_no_wider_than_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also with what a stranger chose: the name of a router, a reason; no escape gets through."""
    folder = str(log(tmp_path / "log", SNAT, host="\x1b[2J" + "x " * 90))
    reason = "\x1b]0;y\x07 " + "word " * 40 + "\u202e"
    at = f"@{T // SECOND - 1}"
    text = screen(capfd, PUBLIC, at, "--tolerance", "90", "--reason", reason, "-d", folder)
    # A path is never broken.
    assert max(len(line) for line in text.splitlines() if folder not in line) < 80
    assert text.replace("\n", "").isprintable()
    assert text.splitlines()[0] == "ONE KNOWN (not proved): 10.0.0.1 in zone 7"


def test_nothing_is_said_to_be_shared_by_one_or_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at = f"@{T // SECOND + 70}"
    gre = [
        connection("gre", (f"10.0.0.{each}", SERVER), (SERVER, PUBLIC), number=each)
        for each in (1, 2)
    ]
    folder = str(log(tmp_path / "log", SNAT, *gre))
    assert "shared by" not in screen(capfd, "198.51.100.9", at, "-d", folder)
    assert "shared by" not in screen(capfd, PUBLIC, at, "--proto", "tcp", "-d", folder)
    text = screen(capfd, PUBLIC, at, "--proto", "gre", "-d", folder)
    assert "shared by   2 inside hosts: this protocol has no ports; ask for the remote" in text
    assert "source port, nothing" in screen(capfd, PUBLIC, at, "-d", folder)


def test_a_clock_that_is_not_known_is_not_0_s_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (f"{PUBLIC}:40000", f"@{T // SECOND + 70}")
    off = {"state": {"clock": {"synchronised": False, "error_us": 16_000_000}}}
    for name, facts in (("off", off), ("none", {"state": None})):
        folder = str(log(tmp_path / name, SNAT, **facts))
        assert "tolerance   1 s, our clock not known\n" in screen(capfd, *words, "-d", folder)
