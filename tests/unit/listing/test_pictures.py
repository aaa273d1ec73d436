"""ctlist --histogram and --plot, from end to end."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.unit.listing.test_ctlist import Recording, Run, at, in_utc, run

__all__ = ["in_utc", "run"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An hour: connections each minute, and a hole of ten minutes."""
    (tmp_path / "log").mkdir()
    recording = Recording(tmp_path / "log")
    rows = [
        at(60 * minute + 1, minute, 1, l4proto=6 if minute % 3 else 17)
        for minute in range(60)
        if not 20 <= minute < 30
    ]
    recording.segment(
        "a", ("dump", 0, 0.5), rows, ("gap", 20 * 60, 30 * 60, "overrun", 99), begin=-1
    )
    return tmp_path / "log"


def drawn(path: Path) -> list[str]:
    return [
        "".join(one.itertext())
        for one in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_a_histogram(run: Run, folder: Path) -> None:
    code, out, err = run("--histogram", "10m", "--utc", folder)
    assert code == 0
    assert out[0] == "Connections begun in each 10 min; UTC"
    counts = [int(line[17:].strip(" !").split()[0]) for line in out[2:]]
    assert sum(counts) == 50
    assert [line[16:18] for line in out[2:]] == ["  ", "  ", " !", " !", "  ", "  ", "  "]
    assert any("events lost" in line for line in err)
    assert all(line.isascii() for line in run("--histogram", "10m", "--ascii", folder)[1])


def test_the_filter_and_the_window_choose(run: Run, folder: Path) -> None:
    times = ["--since", "2026-11-23 18:30", "--until", "2026-11-23 18:34"]
    out = run("--protocol", "udp", "--histogram", "1m", *times, folder)[1]
    assert [line[:16] for line in out[1:]] == [f"2026.11.23 18:3{one}" for one in range(5)]
    assert sum(int(line.split()[2]) for line in out[1:]) == 2


def test_the_word_behind_histogram_can_be_the_folder(run: Run, folder: Path) -> None:
    bins = run("--histogram", folder)
    assert bins[0] == 0
    assert bins[1] == run(folder, "--histogram")[1] == run("--histogram", "5m", folder)[1]


@pytest.mark.slow
def test_pictures(run: Run, folder: Path, tmp_path: Path) -> None:
    code, out, _ = run("--plot", tmp_path / "rate.svg", folder)
    assert (code, out) == (0, [])
    words = drawn(tmp_path / "rate.svg")
    assert {"tcp", "udp", "hole: not all was recorded"} <= set(words)
    assert any(word.startswith("local time, UTC+00:00") for word in words)
    code, out, _ = run("--top", "proto", "--plot", tmp_path / "top.svg", folder)
    assert (code, out[0]) == (0, "proto: 2 of 2 by connections, 50 in all")
    words = drawn(tmp_path / "top.svg")
    assert {"tcp", "udp", "connections", "proto: 2 of 2 by connections, 50 in all"} <= set(words)
    run("--histogram", "--plot", tmp_path / "rate.png", folder)
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--histogram", "--top", "port"], "two answers"),
        (["--histogram", "--event", "new"], "not with"),
        (["--histogram", "--format", "json"], "no other --format"),
        (["--plot", "a.pdf"], "ends with .png or .svg"),
        (["--histogram", "1s", "--since", "2026-01-01"], "too many bins"),
    ],
)
def test_what_does_not_go_together(run: Run, folder: Path, words: list[str], says: str) -> None:
    code, out, err = run(*words, folder)
    assert (code, out) == (2, [])
    assert says in err[-1]
