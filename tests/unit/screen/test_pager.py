"""Which pager, and what it gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctrecorder.screen import pager


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ["less"]),
        ({"PAGER": ""}, []),
        ({"PAGER": "cat"}, []),
        ({"PAGER": "less -i 'x y'"}, ["less", "-i", "x y"]),
        ({"PAGER": "less 'x"}, []),
        ({"PAGER": "no-such-pager"}, []),
    ],
)
def test_the_command(environment: dict[str, str], words: list[str]) -> None:
    assert pager.command(environment) == words


def test_what_it_gets() -> None:
    assert pager.environment_of({})["LESS"] == "FRSX"
    assert pager.environment_of({"LESS": "i"})["LESS"] == "i"
    assert "LESSSECURE" not in pager.environment_of({})
    assert pager.environment_of({"SUDO_UID": "1000"})["LESSSECURE"] == "1"


def test_it_gets_all_that_is_written_and_is_waited_for(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    before = os.fstat(1)
    with pager.paged(["sh", "-c", f"sleep 0.1; cat > {seen}"]):
        os.write(1, b"lines\n")
    assert seen.read_bytes() == b"lines\n"
    assert os.path.samestat(os.fstat(1), before)


def test_quitting_it_ends_the_writer() -> None:
    def write() -> None:
        with pager.paged(["true"]):
            while True:
                os.write(1, bytes(1 << 16))

    with pytest.raises(BrokenPipeError):
        write()
