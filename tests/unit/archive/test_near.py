"""Which segments are near a window: by their chain, also where a clock was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.archive import find
from ctrecorder.archive.find import Span
from ctrecorder.archive.near import Chains
from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header, Replaced
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import END


def span(chain: str, number: int, recorded: int, end: int | None = None) -> Span:
    last = recorded + 9 if end is None else end
    return Span(f"{chain}{number}", recorded, last, recorded, chain, number)


TEN = [span("c", number, 10 * number) for number in range(1, 11)]


@pytest.mark.parametrize(
    ("since", "until", "paths"),
    [
        (55, 56, ["c4", "c5", "c6"]),
        (59, 60, ["c4", "c5", "c6"]),
        (58, 62, ["c4", "c5", "c6", "c7"]),
        (0, 5, ["c1", "c2"]),
        (200, 201, ["c9", "c10"]),
    ],
)
def test_the_ones_that_overlap_and_one_beside(since: int, until: int, paths: list[str]) -> None:
    assert Chains(TEN).near(since, until).paths == paths


def test_each_chain_has_its_own_neighbours() -> None:
    other = [span("d", 1, 12), span("d", 2, 95)]
    near = Chains([*TEN, *other]).near(55, 56)
    assert near.paths == ["c4", "c5", "c6", "d1", "d2"]
    assert near.more_before
    assert not Chains(other).near(55, 56).more_before


def test_a_wrong_clock_moves_one_segment_only() -> None:
    bad = [span("c", 11, 1), span("c", 12, 120), span("c", 13, 9000), span("c", 14, 140)]
    near = Chains([*TEN, *bad])
    assert "c5" in near.near(55, 56).paths
    assert {"c12", "c14"} <= set(near.near(125, 145).paths)
    assert near.place("c14") == (13, 13)


def test_a_crashed_segment_reaches_to_the_next() -> None:
    crashed = [span("c", 1, 10, END), span("c", 2, 100), span("c", 3, 200), span("c", 4, 300)]
    assert Chains(crashed).near(50, 60).paths == ["c1", "c2"]
    assert Chains(crashed).near(250, 260).paths == ["c2", "c3", "c4"]


def test_copies_have_one_place() -> None:
    copy = span("c", 5, 50)._replace(path="copy")
    chains = Chains([*TEN, copy])
    assert chains.place("copy") == chains.place("c5") == (4, 9)
    assert set(chains.near(55, 56).paths) == {"c4", "c5", "copy", "c6"}


def test_chain_and_sequence_are_found_without_parsing(tmp_path: Path) -> None:
    replaced = Replaced("a", "00", 1, 2, "closed", "p", {"sequence": 7})
    header = Header(chain="ab12", sequence=42, replaces=(replaced,), host='"chain":"x"')
    writer = SegmentWriter.create(str(tmp_path / "a"), header, time_ns=1000)
    writer.mark(Mark.at(1000, "start", {"sequence": 9}))
    writer.close()
    plain = SegmentWriter.create(str(tmp_path / "b"), Header(), time_ns=2000)
    plain.close()
    first, second = find.find([str(tmp_path)], spans=True).spans
    assert (first.recorded, first.chain, first.sequence) == (1000, "ab12", 42)
    assert (second.recorded, second.chain, second.sequence) == (2000, "", 0)
