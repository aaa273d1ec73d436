"""Segments that are sealed while they are recorded, read by the second reader."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path

import pytest

from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.sealing.epoch import EPOCH_NS, new_key
from ctrecorder.sealing.live import LiveSeals
from ctrecorder.sealing.state import SealState
from ctrecorder.seals.keys import advance
from ctrecorder.segment.reader import Segment
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.target import Target
from ctrecorder.times import SECOND
from tests.support import ctlog_reader
from tests.support.sealed import Recording
from tests.unit.sealing.test_epoch import epochs, follow_on, kill_at, lines


@pytest.fixture
def ours(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def seals(path: Path, key: bytes) -> list[tuple[int, int]]:
    """Epoch and since of each SEAL; the second reader has checked them."""
    blocks = ctlog_reader.read(path.read_bytes(), verification_key=key)
    return [block.seal for block in blocks if block.kind == Kind.SEAL]


def test_each_epoch_is_sealed_and_so_is_the_end(ours: Recording) -> None:
    path = ours.record(3)
    assert seals(path, ours.key) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    blocks = ctlog_reader.read(path.read_bytes())
    assert [block.kind for block in blocks[-2:]] == [Kind.SEAL, Kind.FOOTER]
    header = blocks[0].json
    assert header["seals"] == {"epoch": 1, "seconds": 900, "key": lines(ours)[0].facts["key"]}
    assert [what for _, what in epochs(ours)] == [
        *("begin", "next", "start", "open"),
        *("next", "next", "next"),
        *("close", "stop"),
    ]
    assert follow_on(lines(ours))
    assert not ours.log.lines[1:] or "cannot seal" not in "".join(ours.log.lines)


def test_the_ledger_names_each_seal(ours: Recording) -> None:
    path = ours.record(2)
    made = {
        block.hash.hex()
        for block in ctlog_reader.read(path.read_bytes())
        if block.kind == Kind.SEAL
    }
    named = [line for line in lines(ours) if line.what == "next" and "seal" in line.facts]
    assert {line.facts["seal"] for line in named} < made
    assert {line.facts["segment"] for line in named} == {path.name}


def test_no_seal_verifies_with_a_later_key(ours: Recording) -> None:
    path = ours.record(1)
    with pytest.raises(AssertionError):
        seals(path, advance(ours.key, 1))


def test_a_second_start_begins_an_epoch(ours: Recording) -> None:
    first, second = ours.record(0), ours.record(0)
    assert (seals(first, ours.key), seals(second, ours.key)) == ([(1, 1)], [(2, 2)])
    with Segment(str(first)) as one, Segment(str(second)) as other:
        assert other.previous_hash == one.last_hash


def test_a_crash_leaves_what_the_next_seal_covers(ours: Recording) -> None:
    queue = ours.start()
    ours.add(queue)
    path = Path(queue.path)
    assert seals(path, ours.key) == []
    ours.crash(queue)
    assert seals(ours.record(1), ours.key) == [(2, 2), (3, 3)]
    assert follow_on(lines(ours))


def test_a_key_that_cannot_be_used_does_not_stop_the_recording(ours: Recording) -> None:
    queue = ours.start()
    key = (ours.state / "key").read_bytes()
    (ours.state / "key").unlink()
    for _ in range(3):
        ours.clock.passes(EPOCH_NS)
        ours.add(queue)
    assert sum("cannot seal" in line for line in ours.log.lines) == 1
    (ours.state / "key").write_bytes(key)
    (ours.state / "key").chmod(0o600)
    ours.clock.passes(61 * SECOND)
    ours.add(queue)
    path = Path(queue.path)
    assert queue.close(ours.clock.wall)
    assert seals(path, ours.key) == [(1, 1), (4, 4)]
    assert follow_on(lines(ours))


def test_a_whole_backup_seals_no_epoch_again(ours: Recording, tmp_path: Path) -> None:
    """Key and ledger of before: the segments have later seals."""
    ours.record(0)
    key, ledger = (ours.state / "key").read_bytes(), ours.ledger.read_bytes()
    ours.record(4)
    (ours.state / "key").write_bytes(key)
    ours.ledger.write_bytes(ledger)
    assert seals(ours.record(0), ours.key) == [(8, 8)]
    assert "restored" in [what for _, what in epochs(ours)]
    assert any("came from a backup" in line for line in ours.log.lines)


def test_a_sealed_recording_does_not_go_on_unsealed(ours: Recording) -> None:
    ours.record(0)
    target = Target(str(ours.folder / "%Y%m%d-%H%M%S.ctlog"), 60, 0o640)
    series = SegmentSeries(target, Header, ours.log)
    with pytest.raises(ArchiveError, match="--setup-seal"):
        WriteQueue(series, 65536, 1 << 20, Counters(), ours.log).open(ours.clock.wall)


def test_one_recorder_seals_with_a_key(ours: Recording, tmp_path: Path) -> None:
    queue = ours.start()
    with pytest.raises(ArchiveError, match="another recorder seals with this key"):
        LiveSeals(str(ours.state), str(tmp_path), ours.log, ours.clock.clocks).start(None)
    assert queue.close(ours.clock.wall)
    ours.record(0)


def test_who_uses_the_key_does_not_hold_up_the_recorder(ours: Recording) -> None:
    queue = ours.start()
    ours.clock.passes(EPOCH_NS)
    lock = ours.lock_key()
    begun = time.monotonic()
    ours.add(queue)
    assert time.monotonic() - begun < 1
    lock.release()
    assert not any("cannot seal" in line for line in ours.log.lines)
    ours.add(queue)
    assert seals(Path(queue.path), ours.key) == [(1, 1)]


def test_another_key_meanwhile_is_not_used(ours: Recording) -> None:
    queue = ours.start()
    with contextlib.closing(SealState(str(ours.state))) as state:
        new_key(state)
    ours.clock.passes(EPOCH_NS)
    ours.add(queue)
    assert any("restart the recorder" in line for line in ours.log.lines)
    assert seals(Path(queue.path), ours.key) == []


@pytest.mark.slow
def test_killed_while_an_epoch_ends(tmp_path: Path) -> None:
    """The next start goes on, and nothing is missing."""
    number, killed = 0, True
    while killed:
        (root := tmp_path / str(number)).mkdir()
        ours = Recording(root)
        queue = ours.start()
        ours.add(queue)
        ours.clock.passes(EPOCH_NS)
        killed = kill_at(number, partial(queue.flush, ours.clock.wall))
        ours.crash(queue)
        ours.record(1)
        assert ours.check() == (0, []), number
        number += 1
    assert number > 15


@pytest.mark.slow
def test_killed_while_a_segment_is_squeezed(tmp_path: Path) -> None:
    number, killed = 0, True
    while killed:
        (root := tmp_path / str(number)).mkdir()
        ours = Recording(root)
        path = ours.record(1)
        options = SqueezeOptions(seals=ours.keys())
        killed = kill_at(number, partial(squeeze, str(path), options))
        squeeze(str(path), options)
        ours.record(0)
        assert ours.check() == (0, []), number
        number += 1
    assert number > 30
