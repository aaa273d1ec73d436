"""Proofs of silent loss in the segments of a recording: what their notes explain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.connections.proof import Proof, gaps_of
from ctrecorder.ctlog.frame import Gap, Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import gap_block, mark_block, table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import BEGIN
from tests.support import folders
from tests.support.proofs import proofs_of
from tests.support.slow_pairing import DESTROY, EXISTING, NEW, SECOND, V4, V6, Row, T, row, table

HOUR = 3600 * SECOND
BEGAN = T + 60 * SECOND
SHOWN = row(EXISTING, T + HOUR, start=BEGAN, status=6)
PROOF = Proof(T, T + HOUR + SECOND, V4, (17,), 1)
Note = Gap | Mark


def gaps_in(path: Path) -> list[Gap]:
    with Segment(str(path)) as segment:
        return segment.gaps


def dump(begin: int, *, complete: bool = True) -> Mark:
    return Mark(begin, begin + SECOND, "dump", {"rows": 0, "complete": complete})


class Folder:
    """The segments of one recording."""

    def __init__(self, path: Path) -> None:
        self.path, self.last_hash, self.count = path, bytes(16), 0
        path.mkdir()

    def add(
        self,
        begin: int,
        rows: Sequence[Row] = (),
        notes: Sequence[Note] = (),
        *,
        lost: bool = False,
        **header: Any,
    ) -> None:
        """Add a segment with a dump at its `begin`; `lost`: and delete its file."""
        members = {"chain": "c", "requires": ("coverage",), **header}
        self.count += 1
        path = self.path / str(self.count)
        head = Header(sequence=self.count, **members)
        writer = SegmentWriter.create(str(path), head, self.last_hash, time_ns=begin)
        for note in notes:
            if isinstance(note, Gap):
                writer.write(gap_block(note))
        for each in rows:
            for block in table_blocks(table([each])):
                writer.write(block)
        for mark in [each for each in notes if isinstance(each, Mark)] or [dump(begin)]:
            writer.mark(mark)
        last = begin + HOUR - SECOND
        writer.write(mark_block(Mark.at(last, "heartbeat")).with_watermark(last))
        writer.close()
        self.last_hash = writer.last_hash
        if lost:
            path.unlink()

    def paths(self) -> list[Path]:
        return folders.paths(self.path)

    def squeeze(self) -> None:
        for path in self.paths():
            assert squeeze(str(path), SqueezeOptions()) is not None

    def proofs(self) -> list[Proof]:
        return proofs_of(self.path)[0]


def two(path: Path, first: Sequence[Note] = (), second: Sequence[Note] = (), **more: Any) -> Folder:
    """Two segments: a flow began in the first, and is in the dump of the second."""
    folder = Folder(path)
    folder.add(T, (), first, **more)
    folder.add(T + HOUR, [SHOWN], second)
    return folder


def hole(begin: int, end: int, reason: str, **facts: Any) -> Gap:
    return Gap(begin, end, reason, None, "", facts)


def test_a_flow_in_the_dump_of_the_next_segment_is_a_proof(tmp_path: Path) -> None:
    assert two(tmp_path / "a").proofs() == [PROOF]


STEP = Mark.at(T + 9 * SECOND, "clock", {"step_ns": 3 * SECOND})
OPEN = hole(T - HOUR, T, "no-events", number=5, open=True)


@pytest.mark.parametrize(
    ("first", "second", "proved"),
    [
        ([hole(BEGAN, BEGAN, "overrun")], [], False),
        ([hole(BEGAN, BEGAN, "overrun", family=V6)], [], True),
        ([hole(BEGAN, BEGAN, "overrun", family="v6")], [], False),
        # A hole that lasts reaches beyond its GAP; one that ended does not.
        ([OPEN], [], False),
        ([OPEN], [hole(T - HOUR, T + 30 * SECOND, "no-events", number=5)], True),
        ([OPEN], [hole(T - HOUR, T + 30 * SECOND, "no-events", number=6)], False),
        # A stranger's file: what is no number is that of no other GAP.
        ([hole(T, T, "no-events", number=[5], open=True)], [], False),
        (
            [hole(T, T, "no-events", number={}, open=True), hole(T, T, "no-events", number=[])],
            [hole(T - HOUR, T - HOUR, "no-events", number=None)],
            False,
        ),
        # What is not tracked is not in the table.
        ([hole(T, T + HOUR, "notrack", number=5, open=True)], [], True),
        # A step of the clock and a suspend, anywhere between the dumps.
        ([dump(T), STEP], [], False),
        ([dump(T), Mark.at(T + 9 * SECOND, "clock", {})], [], False),
        ([hole(T + 9 * SECOND, T + 10 * SECOND, "not-recording")], [], False),
        ([hole(T + 9 * SECOND, T + 10 * SECOND, "overrun")], [], True),
        # An incomplete dump on either side; a segment without one.
        ([dump(T, complete=False)], [], False),
        ([], [dump(T + HOUR, complete=False)], False),
        ([Mark.at(T, "start", {})], [], False),
    ],
)
def test_what_the_notes_explain(
    tmp_path: Path, first: list[Note], second: list[Note], proved: bool
) -> None:
    assert two(tmp_path / "a", first, second).proofs() == [PROOF] * proved


def test_a_restart_ends_what_was_open(tmp_path: Path) -> None:
    """The recorder that starts looks anew; what it finds has a number of its own."""
    folder = Folder(tmp_path / "a")
    folder.add(T - HOUR, (), [dump(T - HOUR), OPEN])
    folder.add(T, (), [Mark.at(T, "start", {}), dump(T)])
    folder.add(T + HOUR, [SHOWN])
    assert folder.proofs() == [PROOF]


def test_a_segment_that_is_missing_may_have_the_new(tmp_path: Path) -> None:
    for lost in (False, True):
        folder = Folder(tmp_path / str(lost))
        folder.add(T - HOUR)
        folder.add(T, lost=lost)
        folder.add(T + HOUR, [SHOWN])
        assert folder.proofs() == ([] if lost else [PROOF])


def test_what_filters_leave_out_and_version_1_0_prove_nothing(tmp_path: Path) -> None:
    assert two(tmp_path / "tcp", protocols=("tcp",)).proofs() == []
    assert two(tmp_path / "other", protocols=("of later",)).proofs() == []
    assert two(tmp_path / "udp", protocols=("udp", "of later")).proofs() == [PROOF]
    assert two(tmp_path / "nat", nat_only=True).proofs() == []
    assert two(tmp_path / "1.0", requires=None).proofs() == []


def test_a_destroy_is_no_proof_where_a_mark_counts_repeats(tmp_path: Path) -> None:
    ended = row(DESTROY, T + 90 * SECOND, start=BEGAN, stop=T + 90 * SECOND, status=6)
    for at, proved in ((T + 80 * SECOND, False), (T - 80 * SECOND, True)):
        folder = Folder(tmp_path / str(proved))
        marks = [dump(T), Mark(at, at + SECOND, "repeats", {"events": 1})]
        folder.add(T, [ended], marks)
        folder.add(T + HOUR)
        assert [proof.at_least for proof in folder.proofs()] == [1] * proved


def test_an_end_that_came_again_after_its_segment_was_squeezed_is_no_proof(tmp_path: Path) -> None:
    stop = T + HOUR - 9 * SECOND
    end = row(DESTROY, stop + 5, start=BEGAN, stop=stop, status=6)
    for heard in (True, False):
        folder = Folder(tmp_path / str(heard))
        folder.add(T, [row(NEW, BEGAN, status=6), end] if heard else [end])
        folder.add(T + HOUR, [{**end, "time": T + HOUR + 5}] if heard else [])
        folder.squeeze()
        assert folder.proofs() == []
        gaps = [gap.lost for path in folder.paths() for gap in gaps_in(path)]
        assert gaps == ([] if heard else [1])


def test_an_end_long_after_a_dump_that_lacks_its_flow_is_no_proof(tmp_path: Path) -> None:
    """The flow is a whole connection by then, and ctsqueeze drops its id."""
    folder = Folder(tmp_path / "a")
    dumps = [dump(T), dump(T + 600 * SECOND), dump(T + 1200 * SECOND)]
    folder.add(T, [row(NEW, BEGAN, status=6)], dumps)
    stop = T + HOUR + 60 * SECOND
    folder.add(T + HOUR, [row(DESTROY, stop + 5, start=BEGAN, stop=stop, status=6)])
    folder.squeeze()
    with Segment(str(folder.path / "1")) as first:
        (block,) = first.blocks_of(Kind.CONNECTIONS)
        assert first.read(block)["id"].tolist() == [0]
    assert folder.proofs() == []


def test_one_gap_states_all_proofs_of_a_time() -> None:
    proofs = [
        Proof(T, T + 9, V6, (6, 17), 3),
        Proof(T, T + 9, V4, (17,), 7),
        Proof(BEGIN, T, V4, (47,), 1),
    ]
    first, second = gaps_of(proofs)
    assert (first.begin, first.end, first.lost, first.detail) == (BEGIN, T, 1, "1 of IPv4 (gre)")
    assert second.reason == "unheard"
    assert (second.begin, second.end, second.lost) == (T, T + 9, 10)
    assert second.detail == "7 of IPv4 (udp), 3 of IPv6 (tcp, udp)"
    assert second.facts == {
        "at_least": True,
        "unheard": [
            {"family": 2, "protocols": [17], "flows": 7},
            {"family": 10, "protocols": [6, 17], "flows": 3},
        ],
    }
