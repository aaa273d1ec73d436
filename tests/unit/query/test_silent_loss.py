"""ctlist -s and ctwho: what their own rows prove to be missing is a hole of the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctrecorder import times
from ctrecorder.asking import ctwho
from ctrecorder.columns import bits
from ctrecorder.listing.ctlist import main
from tests.support.slow_pairing import EXISTING, NEW, SECOND, Row, T, row
from tests.unit.archive.test_silent_loss import BEGAN, HOUR, Folder

HIDDEN, HEARD = 0xC6336407, 0xC6336408  # 198.51.100.7 and .8
ENDS = {
    "orig_src": 0x0A000002,
    "orig_dst": 0xCB007109,
    "reply_src": 0xCB007109,
    "reply_dport": 4000,
}


def told(event: int, time: int, **columns: int) -> Row:
    """An event whose ends were told."""
    made = row(event, time, status=6, **ENDS, **columns)
    return {**made, "present": made["present"] | bits(ENDS)}


ROWS = [
    told(NEW, BEGAN, id=9, reply_dst=HEARD),
    told(EXISTING, T + HOUR, id=9, start=BEGAN, reply_dst=HEARD),
    told(EXISTING, T + HOUR, start=BEGAN, reply_dst=HIDDEN),
]
# In this segment is neither address; its dump lacks nothing.
OTHER = told(NEW, T + 9 * SECOND, id=3, reply_dst=1)


def recording(path: Path, *, squeezed: bool) -> Folder:
    """Three hours: before the first dump, a flow that was not reported, and an hour after it."""
    folder = Folder(path)
    folder.add(T, [OTHER, ROWS[0]])
    folder.add(T + HOUR, ROWS[1:])
    folder.add(T + 2 * HOUR, [{**each, "time": T + 2 * HOUR} for each in ROWS[1:]])
    if squeezed:
        folder.squeeze()
    return folder


def at(moment: int) -> str:
    return times.text(moment, utc=True)


def who(path: Path, address: str, moment: int, capfd: pytest.CaptureFixture[str]) -> str:
    code = ctwho.main([address, at(moment), "--utc", "--trust-clock", "-d", str(path)])
    return f"{code} {capfd.readouterr().out}"


@pytest.mark.parametrize("squeezed", [False, True])
def test_who_had_an_address_that_was_hidden(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], squeezed: bool
) -> None:
    path = recording(tmp_path / "log", squeezed=squeezed).path
    text = who(path, "198.51.100.7:4000", T + 1800 * SECOND, capfd)
    assert text.startswith("3 ONE KNOWN (not proved): 10.0.0.2")
    text = " ".join(text.split())
    assert "not complete: 1 hole gap: at least 1 event lost" in text
    assert "as a table dump shows (1 of IPv4 (udp))" in text
    # The rows of the other address prove nothing.
    assert "complete for that time" in who(path, "198.51.100.8:4000", T + 1800 * SECOND, capfd)


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_listing_ends_with_what_it_proves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], squeezed: bool
) -> None:
    path = str(recording(tmp_path / "log", squeezed=squeezed).path)
    span = ["--since", at(T), "--until", at(T + 3 * HOUR - 9 * SECOND), "--utc"]
    assert main(["-s", "--strict", *span, path]) == 3
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 3
    assert err.count("gap: at least 1 event lost") == 1
    assert main(["-s", *span, path]) == 0
    capfd.readouterr()
    # Of another hour, and of another address, it proves nothing.
    assert main(["-s", "--strict", "--since", at(T + HOUR + 60 * SECOND), *span[2:], path]) == 0
    assert main(["-s", "--strict", "-i", "198.51.100.8", *span, path]) == 0
    assert "gap" not in capfd.readouterr().err
    assert main(["-s", "--strict", "-i", "198.51.100.7", *span, path]) == 3
    assert "gap: at least 1 event lost" in capfd.readouterr().err


def test_the_hole_in_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(recording(tmp_path / "log", squeezed=False).path)
    moment = at(T + 1800 * SECOND)
    asked = ["198.51.100.7", moment, "--utc", "--format", "json", "-d", path]
    assert ctwho.main(asked) == 3
    (hole,) = json.loads(capfd.readouterr().out)["holes"]
    assert (hole["reason"], hole["lost"], hole["at_least"]) == ("unheard", 1, True)
    assert "protocols" not in hole
    assert "family" not in hole
