"""cttest with the verification key: what is whole, and what every attack shows as.

The attacker can write to the folder.  Where a test says so, they also have the present key.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrecorder.archive import chain
from ctrecorder.archive.find import find
from ctrecorder.check import verify
from ctrecorder.check.repair import repair
from ctrecorder.ctlog.frame import FRAME, Kind
from ctrecorder.maintain import holds
from ctrecorder.maintain.expire import Expiry, Limits
from ctrecorder.sealing.epoch import EPOCH_NS, exclusive, new_key
from ctrecorder.sealing.examine import SealCheck
from ctrecorder.sealing.state import SealState
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.spool.target import newest_segment
from ctrecorder.times import DAY, HOUR
from tests.support.history import blocks_of
from tests.support.sealed import Recording

WHOLE, FOUND, UNPROVED = 0, 1, 2


@pytest.fixture
def ours(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


@pytest.fixture
def three(ours: Recording) -> tuple[Recording, list[Path]]:
    """Three segments, squeezed in time."""
    paths = []
    for _ in range(3):
        paths.append(ours.record(1))
        ours.squeeze(paths[-1])
    assert ours.check() == (WHOLE, [])
    return ours, paths


def forge(old: Path, key: bytes = b"", epoch: int = 0, since: int = 0, **members: Any) -> None:
    """Put a successor without content in the place of a segment, as an attacker does."""
    with Segment(str(old)) as segment:
        header = replace(segment.header, replaces=chain.successor(segment), squeezed={})
        header = replace(header, **members)
        new = SegmentWriter.create(str(old) + ".new", header, segment.previous_hash)
    if key:
        new.seal(key, epoch, since, new.times[0])
    new.close()
    os.rename(new.path, old)


def stolen(ours: Recording) -> tuple[bytes, int]:
    """The present key, as who breaks in now finds it."""
    with exclusive(str(ours.state), str(ours.folder), ours.clock.clocks) as key:
        return key.key, key.epoch


def told(lines: list[str], words: str) -> bool:
    return any(words in line for line in lines)


def test_what_was_recorded_is_whole(ours: Recording) -> None:
    running = ours.start()
    for _ in range(3):
        ours.record(2, queue=running)
    assert ours.check()[0] == WHOLE
    ours.add(running)
    assert ours.check()[0] == WHOLE  # while it is recorded
    assert running.close(ours.clock.wall)
    assert ours.check() == (WHOLE, [])


def test_with_another_key_nothing_is_proved(three: tuple[Recording, list[Path]]) -> None:
    code, lines = three[0].check(key=bytes(32))
    assert code == UNPROVED
    assert told(lines, "no segment here is sealed with the key")
    assert told(lines, "imported: proves nothing: 3 files")


def test_another_key_goes_on(three: tuple[Recording, list[Path]]) -> None:
    """What is sealed with the new key is named, and what the old one sealed stays whole."""
    ours, paths = three
    old = ours.key
    with contextlib.closing(SealState(str(ours.state))) as state:
        ours.key = new_key(state)
    ours.squeeze(ours.record(1))
    for key, count in ((old, 1), (ours.key, 3)):
        code, lines = ours.check(key=key)
        assert code == UNPROVED
        assert told(lines, f"imported: proves nothing: {count} file")
        assert sum("(sealed with another key" in line for line in lines) == count
        assert len(lines) == 1 + count
    paths[1].unlink()
    code, lines = ours.check(key=old)
    assert code == FOUND


def test_seals_that_are_not_checked_are_told(ours: Recording) -> None:
    ours.record(1)
    lines: list[str] = []
    assert verify.check([str(ours.folder)], lines.append) == WHOLE
    assert told(lines, "the seals were not checked: that needs --seals")


def test_what_was_recorded_before_the_first_seal(ours: Recording) -> None:
    """It is named, stays in its chain, and is deleted in order."""
    before = []
    for _ in range(2):
        queue = ours.start(sealed=False)
        before.append(ours.record(1, queue=queue))
        assert queue.close(ours.clock.wall)
    for path in before:
        ours.squeeze(path)
    for _ in range(2):
        ours.squeeze(ours.record(1))
    code, lines = ours.check()
    assert code == UNPROVED
    assert lines[0] == "imported: proves nothing: 4 files that this key did not seal:"
    assert len(lines) == 5
    limits = Limits(max_age=3600)
    now = ours.clock.wall + 400 * DAY
    assert Expiry(str(ours.folder), limits, now, ours.log, seals=ours.keys()).run() == 0
    ours.record(1)
    assert ours.check() == (WHOLE, [])


def test_squeezed_late(ours: Recording) -> None:
    path = ours.record(1)
    ours.clock.passes(3 * EPOCH_NS)
    ours.squeeze(path)
    code, lines = ours.check()
    assert code == UNPROVED
    assert told(lines, "sealed late: recorded until epoch 2, squeezed in epoch 5")


def test_a_seal_does_not_date_what_was_recorded(ours: Recording) -> None:
    """A seal can be made days later: the age of a segment and the gap behind it do not change."""
    template = str(ours.folder / "%Y%m%d-%H%M%S.ctlog")
    queue = ours.start()
    ours.add(queue, rows=0)
    ended = ours.clock.wall
    ours.clock.passes(EPOCH_NS)
    assert queue.series.writer is not None
    ours.seals.end_epoch(queue.series.writer)
    ours.crash(queue)
    path = Path(queue.path)
    for number in range(2):
        tail = newest_segment(template)
        assert tail is not None
        with Segment(str(path)) as segment:
            (span,) = find([str(path)], spans=True).spans
            assert segment.times[1] == tail.time == ended
            assert number == 0 or span.end == ended
            assert segment.blocks_of(Kind.SEAL)[-1].time_max > ended
        ours.clock.passes(3 * DAY)
        if number == 0:
            ours.squeeze(path)


def test_the_window_is_told(ours: Recording) -> None:
    ours.record(1)
    lines: list[str] = []
    check = SealCheck(ours.key, [str(ours.folder)], ours.clock.wall)
    assert verify.check([str(ours.folder)], lines.append, seals=check) == WHOLE
    assert told(lines, "not squeezed yet")
    assert told(lines, "epochs 0 to 2, sealed until")


def test_replaced_without_the_key(ours: Recording) -> None:
    """By an unsealed segment that says to replace it, as if it were from before the first seal."""
    first = ours.record(1)
    ours.record(1)
    forge(first, seals=None)
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "its seal in epoch 1 is not here")
    assert told(lines, "its end in epoch 2 is not here")
    assert told(lines, "imported: proves nothing: 1 file")


def test_the_middle_one_replaced_without_the_key(three: tuple[Recording, list[Path]]) -> None:
    ours, paths = three
    forge(paths[1], seals=None)
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "is not sealed, although segments before it are")
    assert told(lines, "does not end as it did")


def test_replaced_with_a_seal_of_no_key(three: tuple[Recording, list[Path]]) -> None:
    ours, paths = three
    forge(paths[1], bytes(32), 4, 4)
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "the seal of epoch 4 is wrong")
    assert told(lines, "does not end as it did")


def test_replaced_by_one_that_says_to_be_sealed(three: tuple[Recording, list[Path]]) -> None:
    ours, paths = three
    forge(paths[1])
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "is squeezed without a seal before its footer")
    assert told(lines, "does not end as it did")


@pytest.mark.parametrize("lie", [0, 1, 99])
def test_replaced_with_the_present_key(ours: Recording, lie: int) -> None:
    """Whoever breaks in later cannot give an earlier date, whatever `since` they write."""
    path = ours.record(1)
    ours.squeeze(path)
    for _ in range(3):
        ours.squeeze(ours.record(1))
    key, epoch = stolen(ours)
    forge(path, key, epoch, min(2 + lie, epoch))
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "sealed late")
    assert told(lines, "the ledger does not say so")
    assert told(lines, "says to be recorded until") == (lie > 0)
    with Segment(str(path)) as segment:
        facts = {"last_hash": segment.last_hash.hex(), "segment": path.name}
        facts["replaced"] = segment.header.replaces[-1].last_hash
    with exclusive(str(ours.state), str(ours.folder), ours.clock.clocks) as theirs:
        theirs.note("squeeze", {**facts})
    code, lines = ours.check()
    assert code in (FOUND, UNPROVED)
    assert told(lines, "sealed late")


def test_replaced_while_the_recorder_was_down(ours: Recording) -> None:
    """A segment that a crash left, by who breaks in days later, before the next start."""
    queue = ours.start()
    ours.record(1, queue=queue)
    ours.add(queue)
    ours.crash(queue)
    path = Path(queue.path)
    for _ in range(9):
        ours.clock.passes(2 * EPOCH_NS)
        stolen(ours)
    key, epoch = stolen(ours)
    forge(path, key, epoch, epoch - 1)
    with Segment(str(path)) as segment:
        facts = {"last_hash": segment.last_hash.hex(), "segment": path.name}
        facts["replaced"] = segment.header.replaces[-1].last_hash
    with exclusive(str(ours.state), str(ours.folder), ours.clock.clocks) as theirs:
        theirs.note("squeeze", {**facts})
    ours.record(1)
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "sealed late")
    assert told(lines, "says to be recorded until")


def test_hashes_that_nobody_can_check_are_not_sealed(ours: Recording) -> None:
    """With a static key in the header the hashes are not checked, and rows can be changed."""
    path = ours.record(1)
    data = path.read_bytes()
    blocks = blocks_of(data)
    assert b'"sealed":false' in blocks[0]
    blocks[0] = blocks[0].replace(b'"sealed":false', b'"sealed":true ')
    path.write_bytes(b"".join(blocks))
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "imported: proves nothing: 1 file")


def test_a_recorded_segment_made_anew_with_the_present_key(ours: Recording) -> None:
    path = ours.record(2)
    ours.record(1)
    key, epoch = stolen(ours)
    with Segment(str(path)) as old:
        new = SegmentWriter.create(str(path) + ".new", old.header, old.previous_hash)
    for each in (1, 2, 3):
        new.seal(key, each, each, new.times[0])
    new.close()
    os.rename(new.path, path)
    code, lines = ours.check()
    assert code == FOUND
    assert sum("is wrong: it was made without the key" in line for line in lines) == 3
    assert epoch > 3


@pytest.mark.parametrize("chained", [True, False])
def test_a_legacy_header_slipped_in(three: tuple[Recording, list[Path]], chained: bool) -> None:
    ours, paths = three
    with Segment(str(paths[1])) as old:
        header = replace(old.header, legacy={}, replaces=())
        header = header if chained else replace(header, chain=None, sequence=None)
        new = SegmentWriter.create(str(ours.folder / "slipped.ctlog"), header)
    new.append(ours.rows(5))
    new.close()
    code, lines = ours.check()
    assert code == (FOUND if chained else UNPROVED)
    assert told(lines, "imported: proves nothing: 1 file")
    assert told(lines, "slipped.ctlog")


def cuts(path: Path) -> Iterator[int]:
    """Where each block of a segment ends."""
    with Segment(str(path)) as segment:
        for block in segment.blocks:
            yield block.offset + FRAME.size + segment.frame(block).length


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_cut_at_a_blocks_end(ours: Recording, squeezed: bool, last: bool) -> None:
    paths = [ours.record(2), ours.record(2)]
    if squeezed:
        ours.squeeze(paths[1])
    path = paths[int(last)]
    whole = path.read_bytes()
    for end in list(cuts(path)):
        path.write_bytes(whole[:end])
        assert ours.check()[0] == FOUND, end
    path.write_bytes(whole)
    assert ours.check()[0] == WHOLE


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_segment_removed(three: tuple[Recording, list[Path]], which: int) -> None:
    ours, paths = three
    paths[which].unlink()
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, f"{paths[which].name}, its end in epoch")
    assert told(lines, f"{paths[which].name}, which was begun in epoch")


def test_the_first_segment_of_a_crash_removed(ours: Recording) -> None:
    """It has no seal of its own, and nothing that it follows on."""
    queue = ours.start()
    ours.add(queue)
    ours.crash(queue)
    ours.record(1)
    assert ours.check()[0] == WHOLE
    Path(queue.path).unlink()
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "which was begun in epoch 1, is not here")


def test_a_segment_deleted_while_it_is_written(ours: Recording) -> None:
    queue = ours.start()
    Path(queue.path).unlink()
    ours.add(queue)
    ours.clock.passes(EPOCH_NS)
    ours.add(queue)
    assert queue.close(ours.clock.wall)
    assert ours.check() == (WHOLE, [])


def test_a_removed_end_with_the_present_key(ours: Recording) -> None:
    """The segments and the lines of the last epochs are removed, and new ones sealed with the
    present key: the epochs between are missing.
    """
    ours.record(1)
    lines = ours.ledger.read_bytes()
    last = ours.record(3)
    ours.clock.passes(5 * EPOCH_NS)
    stolen(ours)
    last.unlink()
    ours.ledger.write_bytes(lines)
    ours.record(1)
    code, found = ours.check()
    assert code == FOUND
    assert told(found, "epochs 2 to")


def test_a_removed_end_shows_as_overdue(ours: Recording) -> None:
    queue = ours.start()
    ours.record(1, queue=queue)
    lines = b"".join(ours.ledger.read_bytes().splitlines(keepends=True)[:-1])
    last = ours.record(3, queue=queue)
    assert queue.close(ours.clock.wall)
    for path in ours.folder.glob("*.ctlog"):
        if path.name >= last.name:
            path.unlink()
    ours.ledger.write_bytes(lines)
    code, found = ours.check()
    assert code == UNPROVED
    assert told(found, "although the recorder was not stopped")


def test_the_ledger_removed(three: tuple[Recording, list[Path]]) -> None:
    ours, _ = three
    ours.ledger.unlink()
    code, lines = ours.check()
    assert code == UNPROVED
    assert told(lines, "its ledger")


@pytest.mark.slow
def test_a_line_removed_changed_or_moved(three: tuple[Recording, list[Path]]) -> None:
    ours, _ = three
    whole = ours.ledger.read_bytes()
    lines = whole.splitlines(keepends=True)
    for number in range(len(lines)):
        without = lines[:number] + lines[number + 1 :]
        changed = lines[number].replace(b'"time":', b'"time":1')
        swapped = [*lines[:number], *lines[number : number + 2][::-1], *lines[number + 2 :]]
        for other in (without, [*lines[:number], changed, *lines[number + 1 :]], swapped):
            ours.ledger.write_bytes(b"".join(other))
            if other == lines or other == lines[:-1]:
                continue
            assert ours.check()[0] == FOUND or number == 0, number
    ours.ledger.write_bytes(whole + b"nonsense\n")
    assert ours.check()[0] == FOUND


def test_a_key_from_a_backup_is_found(ours: Recording) -> None:
    ours.record(1)
    key = (ours.state / "key").read_bytes()
    ours.record(2)
    (ours.state / "key").write_bytes(key)
    ours.record(1)
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "the key came from a backup of epoch 2")


def test_a_whole_snapshot_is_found(ours: Recording, tmp_path: Path) -> None:
    """Key and ledger go back, the segments stay: the epochs come again."""
    ours.record(1)
    kept = {path: path.read_bytes() for path in (ours.state / "key", ours.ledger)}
    ours.record(2)
    for path, data in kept.items():
        path.write_bytes(data)
    ours.record(1)
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "the key came from a backup")


def test_receipts_are_sealed(three: tuple[Recording, list[Path]]) -> None:
    ours, paths = three
    now = ours.clock.wall + 400 * DAY
    assert (
        Expiry(str(ours.folder), Limits(max_age=3600), now, ours.log, seals=ours.keys()).run() == 0
    )
    assert not any(path.exists() for path in paths)
    ours.record(1)
    assert ours.check() == (WHOLE, [])
    receipts = ours.folder / "ctexpire.receipts"
    whole = receipts.read_bytes()
    for number in range(3):
        lines = whole.splitlines(keepends=True)
        del lines[number]
        receipts.write_bytes(b"".join(lines))
        code, found = ours.check()
        assert code == FOUND
        assert told(found, f"the receipt of {paths[number].name} was removed or changed")


def test_a_receipt_without_the_key(three: tuple[Recording, list[Path]]) -> None:
    ours, paths = three
    now = ours.clock.wall + 400 * DAY
    copy = ours.ledger.read_bytes()
    Expiry(str(ours.folder), Limits(max_age=3600), now, ours.log, seals=ours.keys()).run()
    ours.ledger.write_bytes(copy)
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, f"the receipt of {paths[0].name} is not in it")


def test_holds_are_sealed(three: tuple[Recording, list[Path]]) -> None:
    ours, _ = three
    folder = str(ours.folder)
    for reason in ("case 17", "case 18"):
        ours.hold(reason)
    holds.release(folder, 2, ours.log, ours.keys())
    assert ours.check() == (WHOLE, [])
    path = ours.folder / "ctexpire.holds"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"case 17", b"case 71"))
    code, lines = ours.check()
    assert code == FOUND
    assert told(lines, "hold 1 was removed or changed")
    path.unlink()
    assert ours.check()[0] == FOUND


def test_a_backup_is_whole(three: tuple[Recording, list[Path]], tmp_path: Path) -> None:
    ours, _ = three
    ours.hold("case 17")
    path = ours.record(2)
    packed, copy = tmp_path / "log.tar", tmp_path / "copy"
    copy.mkdir()
    subprocess.run(["tar", "-C", str(ours.folder), "-cf", str(packed), "."], check=True)
    subprocess.run(["tar", "-C", str(copy), "-xf", str(packed)], check=True)
    assert ours.check(copy) == (WHOLE, [])
    (copy / path.name).unlink()
    assert ours.check(copy)[0] == FOUND


@pytest.mark.slow
def test_a_week_without_the_recorder(ours: Recording) -> None:
    ours.record(1)
    for _ in range(7 * 24):
        ours.clock.passes(HOUR)
        stolen(ours)
    ours.record(1)
    assert ours.check() == (WHOLE, [])


def test_the_wall_clock_goes_astray(ours: Recording) -> None:
    for step in (80 * 365 * DAY, -80 * 365 * DAY, -HOUR):
        ours.squeeze(ours.record(1))
        ours.clock.wall += step
    ours.squeeze(ours.record(1))
    code, lines = ours.check()
    assert code == WHOLE, lines


def test_a_repaired_segment_is_sealed_again(ours: Recording) -> None:
    path = ours.record(1)
    whole = bytearray(path.read_bytes())
    with Segment(str(path)) as segment:
        (gap, *_) = segment.blocks_of(Kind.GAP)
    whole[gap.offset + FRAME.size + 3] ^= 1
    path.write_bytes(whole)
    repair(str(path), str(path) + ".new", seals=ours.keys())
    os.rename(str(path) + ".new", path)
    code, (line,) = ours.check()
    assert code == UNPROVED
    assert line.startswith(f"{path}: was repaired in epoch 2 or before: proved only from ")


def test_without_its_key_a_repaired_segment_is_not_sealed(ours: Recording, tmp_path: Path) -> None:
    path = ours.record(1)
    shutil.rmtree(ours.state)
    repair(str(path), str(tmp_path / "new"), seals=ours.keys())
    with Segment(str(tmp_path / "new")) as segment:
        assert segment.header.seals is None
        assert not segment.blocks_of(Kind.SEAL)


def test_a_crash_is_no_finding(ours: Recording) -> None:
    for _ in range(2):
        queue = ours.start()
        ours.add(queue)
        ours.clock.passes(EPOCH_NS)
        ours.add(queue)
        ours.crash(queue)
    ours.record(1)
    assert ours.check()[0] == WHOLE


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_changed_byte_is_found(ours: Recording, data: st.DataObject) -> None:
    """In segments, raw and squeezed, the ledger, receipts and holds."""
    if not list(ours.folder.iterdir()):
        paths = []
        for number in range(4):
            paths.append(ours.record(1))
            if number < 2:
                ours.squeeze(paths[-1])
        now = ours.clock.wall + 400 * DAY
        limits = Limits(max_size=sum(path.stat().st_size for path in paths) - 1)
        assert Expiry(str(ours.folder), limits, now, ours.log, seals=ours.keys()).run() == 0
        assert not paths[0].exists()
        ours.hold("case 17")
        assert ours.check() == (WHOLE, [])
    files = sorted(path for path in ours.folder.iterdir() if not path.name.startswith("."))
    assert len(files) == 6
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    path.write_bytes(whole[:at] + changed + whole[at + 1 :])
    code, lines = ours.check()
    path.write_bytes(whole)
    # A ledger without its last newline is one whose last line is being written.
    is_end = path.suffix == ".ledger" and at == len(whole) - 1
    assert code == FOUND or is_end, (path.name, at, lines)
