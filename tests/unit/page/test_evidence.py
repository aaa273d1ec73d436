"""The evidence of an answer in the archive: what cttest finds, what is left of it, its ledgers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctrecorder.errors import ArchiveError
from ctrecorder.folder import Folder
from ctrecorder.kept.retention import Receipt, add_receipt
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.page import evidence, twin
from ctrecorder.page.verify import State
from ctrecorder.segment.reader import Segment
from ctrecorder.times import SECOND
from tests.support import asked, page_twins
from tests.support.sealed import Recording
from tests.support.slow_pairing import T


@pytest.fixture
def log(tmp_path: Path) -> Path:
    asked.record(tmp_path)
    return tmp_path


def resting_on(*paths: Path) -> Any:
    """An answer that rests on these segments."""
    segments = []
    for path in paths:
        segment = Segment(str(path))
        one = page_twins.segment(
            segment.header.sequence or 0,
            file=path.name,
            chain=segment.header.chain,
            hash=segment.last_hash.hex(),
        )
        segments.append(one)
        segment.close()
    return page_twins.answer(evidence={"segments": segments, "version": "v"})


def found(whole: Any, *archive: Path) -> list[tuple[State, str]]:
    lines = evidence.compare_segments(twin.known(whole), [str(path) for path in archive])
    return [(one.state, one.text) for one in lines]


def test_segments_are_found_again_by_their_hashes_also_when_squeezed(log: Path) -> None:
    paths = sorted(log.glob("*.ctlog"))
    whole = {"questions": [resting_on(*paths)] * 2}
    there = "in the archive, as then or squeezed since: 3 segments that it names"
    assert found(whole, log) == [(State.SAME, there)]
    for path in paths[:2]:
        squeeze(str(path), SqueezeOptions())
    assert found(whole, log) == [(State.SAME, there)]
    assert found(whole, *paths) == [(State.SAME, there)]


def test_what_is_gone_or_another_is_said(log: Path) -> None:
    paths = sorted(log.glob("*.ctlog"))
    whole = resting_on(*paths)
    first, second, third = whole["evidence"]["segments"]
    receipt = Receipt(paths[0].name, T, T, 1, 1, [first["hash"]], "", "", T, "age")
    with Folder(str(log)) as folder:
        add_receipt(folder, receipt)
    paths[0].unlink()
    second["hash"] = "ab" * 16
    third |= {"chain": "another", "hash": "cd" * 16}
    assert found(whole, log) == [
        (State.UNKNOWN, f"the segment {path.name} {said}")
        for path, said in zip(
            paths,
            (
                "was deleted, and left a receipt: it is no longer checkable",
                "has another last hash: it was still written then, or was changed",
                "is not in the archive: it is no longer checkable",
            ),
            strict=True,
        )
    ]


def test_each_segment_has_what_cttest_finds(log: Path) -> None:
    paths = sorted(log.glob("*.ctlog"))
    whole = resting_on(*paths)
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 2] ^= 1
    paths[1].write_bytes(data)
    paths[2].unlink()
    checked = evidence.with_checks(whole, [str(log)], b"")
    first, second, third = (one["cttest"] for one in checked["evidence"]["segments"])
    assert first == "whole"
    assert second.startswith("damaged: ")
    assert third == "not found"
    assert "cttest" not in whole["evidence"]["segments"][0]
    several = {"questions": [whole, {**whole, "evidence": {"version": "v"}}]}
    checked = evidence.with_checks(several, [str(log)], b"")
    assert checked["questions"][0]["evidence"]["segments"][0]["cttest"] == "whole"
    assert checked["questions"][1]["evidence"] == {"version": "v"}


def test_a_segment_of_another_number_is_not_the_one(log: Path) -> None:
    whole = resting_on(*sorted(log.glob("*.ctlog")))
    whole["evidence"]["segments"][0]["sequence"] = 7
    checked = evidence.with_checks(whole, [str(log)], b"")
    found_by_cttest = [one["cttest"] for one in checked["evidence"]["segments"]]
    assert found_by_cttest == ["not found", "whole", "whole"]


def test_the_ledgers_of_an_archive(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    queue = recording.start()
    queue.close(recording.clock.wall + SECOND)
    (path,) = recording.folder.glob("*.ctlog")
    whole = page_twins.answer(
        evidence={"segments": [page_twins.segment(1, file=path.name)], "version": "v"}
    )
    (ledger,) = evidence.ledgers(whole, [str(recording.folder)])["ledgers"]
    assert ledger["file"] == recording.ledger.name
    lines = recording.ledger.read_bytes().splitlines()
    assert ledger["lines"] == len(lines) == ledger["last"]["line"]
    assert ledger["damaged"] == 0
    about = [one["what"] for one in ledger["about"]]
    assert "open" in about
    assert {one["segment"] for one in ledger["about"]} == {path.name}
    assert evidence.ledgers(whole, [str(path)])["ledgers"] == [ledger]
    other = page_twins.answer()
    assert evidence.ledgers(other, [str(recording.folder)])["ledgers"][0]["about"] == []
    assert evidence.ledgers(other, [str(tmp_path)]) == {"ledgers": []}
    with pytest.raises(ArchiveError, match="missing"):
        evidence.ledgers(other, [str(tmp_path / "missing" / "x.ctlog")])


def test_a_damaged_line_of_a_ledger_is_counted(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.start().close(recording.clock.wall + SECOND)
    with recording.ledger.open("ab") as file:
        file.write(b"nonsense\n")
    (ledger,) = evidence.ledgers(page_twins.answer(), [str(recording.folder)])["ledgers"]
    assert ledger["damaged"] == 1
    assert ledger["last"]["line"] == ledger["lines"] - 1
