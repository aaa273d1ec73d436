"""What is not as the ledger says is not sealed anew: neither squeezed nor repaired with a seal."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.check.repair import repair
from ctrecorder.ctlog.frame import FRAME, HASHED, Kind
from ctrecorder.errors import ArchiveError
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.sealing.epoch import EPOCH_NS
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support.sealed import Recording


@pytest.fixture
def ours(tmp_path: Path) -> Recording:
    ours = Recording(tmp_path)
    ours.squeeze(ours.record(1))
    return ours


def is_squeezed(path: Path) -> bool:
    with Segment(str(path)) as segment:
        return segment.header.is_squeezed


def anew(old: Path, to: Path, *, closed: bool = False, seal: int = 0, **facts: Any) -> None:
    """Record a segment anew without the key."""
    with Segment(str(old)) as segment:
        header = replace(segment.header, **facts)
        times = int(segment.index["time_min"][0])
        new = SegmentWriter.create(f"{to}.new", header, segment.previous_hash, time_ns=times)
    if seal:
        new.seal(bytes(32), seal, seal, times)
    if closed:
        new.close()
    else:
        new.sync()
        new.abandon()
    os.rename(new.path, to)


def refused(ours: Recording, path: Path, why: str) -> None:
    """It stays as it is, and cttest finds it, before and after."""
    whole, ledger = path.read_bytes(), ours.ledger.read_bytes()
    with pytest.raises(ArchiveError, match=rf"{path.name}: {why}.*: it is not sealed anew"):
        squeeze(str(path), SqueezeOptions(seals=ours.keys()))
    assert (path.read_bytes(), ours.ledger.read_bytes()) == (whole, ledger)
    repair(str(path), f"{path}.repaired", seals=ours.keys())
    with Segment(f"{path}.repaired") as repaired:
        assert repaired.header.seals is None
    os.unlink(f"{path}.repaired")
    assert ours.check()[0] == 1


@pytest.mark.parametrize("closed", [False, True])
def test_a_segment_that_the_recorder_never_began(ours: Recording, closed: bool) -> None:
    to = ours.folder / "x.ctlog"
    anew(ours.record(1), to, closed=closed, chain="feed" * 8, sequence=1, template="x")
    refused(ours, to, "the ledger does not know it")


def test_a_segment_that_was_deleted_before(ours: Recording) -> None:
    path = ours.record(1)
    whole = path.read_bytes()
    facts = {"segment": path.name, "line": "0" * 32}
    ours.keys().note(ours.ledger.name[5:-7], str(ours.folder), "receipt", facts)
    refused(ours, path, "the ledger does not know it")
    assert path.read_bytes() == whole


def test_a_closed_segment_that_ends_otherwise(ours: Recording) -> None:
    path = ours.record(1)
    anew(path, path, closed=True)
    refused(ours, path, "the ledger says that it was closed with the last hash")


@pytest.mark.parametrize("seal", [0, 4])
def test_what_a_crash_left_with_other_seals(ours: Recording, seal: int) -> None:
    queue = ours.start()
    for _ in range(3):
        ours.add(queue)
        ours.clock.passes(EPOCH_NS)
        assert queue.flush(ours.clock.wall)
    ours.crash(queue)
    path = Path(queue.path)
    whole = path.read_bytes()
    anew(path, path, seal=seal)
    refused(ours, path, "seals that the ledger has of it are not in it")
    path.write_bytes(whole)
    ours.squeeze(path)
    assert ours.check()[0] != 1  # late at worst: the machine was started again


def test_a_block_that_is_changed_with_its_hash(ours: Recording) -> None:
    """All seals and the last hash stay: only the block behind it names another one."""
    path = ours.record(1)
    data = bytearray(path.read_bytes())
    with Segment(str(path)) as segment:
        at = segment.blocks_of(Kind.GAP)[-1].offset
        end = at + FRAME.size + segment.frame(segment.blocks_of(Kind.GAP)[-1]).length
        last_hash = segment.last_hash
    payload = bytes(data[at + FRAME.size : end]).replace(b'"late"', b'"lost"')
    made = blake2b(data[at : at + HASHED] + payload, digest_size=FRAME.size - HASHED).digest()
    data[at + HASHED : end] = made + payload
    path.write_bytes(data)
    with Segment(str(path)) as segment:
        assert (segment.last_hash, segment.gaps[-1].reason) == (last_hash, "lost")
    with pytest.raises(ArchiveError, match="does not follow on the one before it"):
        squeeze(str(path), SqueezeOptions(seals=ours.keys()))
    assert path.read_bytes() == data


def test_a_restored_segment_has_seals_under_its_other_name(ours: Recording) -> None:
    queue = ours.start()
    ours.add(queue)
    ours.clock.passes(EPOCH_NS)
    ours.add(queue)
    was = Path(queue.path)
    was.unlink()
    ours.clock.passes(EPOCH_NS)
    ours.add(queue)
    assert queue.close(ours.clock.wall)
    (path,) = (one for one in ours.folder.glob("*.ctlog") if not is_squeezed(one))
    ours.squeeze(path)
    assert ours.check()[0] == 0


def test_a_repaired_segment_is_squeezed(ours: Recording) -> None:
    path = ours.record(1)
    data = bytearray(path.read_bytes())
    with Segment(str(path)) as segment:
        gap = segment.blocks_of(Kind.GAP)[0]
    data[gap.offset + FRAME.size + 3] ^= 1
    path.write_bytes(data)
    repair(str(path), f"{path}.new", seals=ours.keys())
    os.rename(f"{path}.new", path)
    ours.squeeze(path)
    code, lines = ours.check()
    assert (code, "was repaired in epoch" in lines[0]) == (2, True)


@pytest.mark.parametrize("how", ["removed", "emptied", "pipe"])
def test_without_a_ledger_nothing_is_sealed_anew(ours: Recording, how: str) -> None:
    path = ours.record(1)
    ledger = ours.ledger
    ledger.unlink()
    if how == "pipe":
        os.mkfifo(ledger)
    elif how == "emptied":
        ledger.touch()
    with pytest.raises(ArchiveError):
        squeeze(str(path), SqueezeOptions(seals=ours.keys()))
    with Segment(str(path)) as segment:
        assert not segment.header.is_squeezed
