"""Rows, gaps and marks on their way to segments: with a real folder, and a real limit that makes
writes fail.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.columns import Array, Event, Table
from ctrecorder.ctlog.frame import COVERAGE, Gap, Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.segment import live
from ctrecorder.segment.live import LiveState, Publisher
from ctrecorder.segment.pending import table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.spool import target
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import MAX_UNSYNCED_BYTES, WriteQueue
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.sync_timer import SyncTimer
from ctrecorder.spool.target import Target, newest_segment
from ctrecorder.times import DAY, MINUTE, SECOND
from tests.support.folders import paths
from tests.support.tables import ints
from tests.support.told import Told

NOON = 20_000 * DAY + 12 * 60 * MINUTE
BIG = 64 << 20


def rows(first: int, count: int, family: int = uapi.AF_INET) -> Table:
    """`count` NEW rows that differ in `id` and `time`, from `first` on; random addresses, so that
    they do not pack away.
    """
    ids = np.arange(first, first + count, dtype=np.uint32)
    random = np.random.default_rng(first)
    columns: dict[str, Array] = {
        "time": NOON + ids.astype(np.int64),
        "event": np.full(count, Event.NEW, np.uint8),
        "id": ids,
    }
    if family == uapi.AF_INET:
        columns["orig_src"] = random.integers(0, 2**32, count, np.uint32)
    else:
        columns["orig_src"] = np.frombuffer(random.bytes(16 * count), "S16")
    return Table(family, count, columns)


def queue(
    folder: Path,
    *,
    template: str = "%Y%m%d-%H%M.ctlog",
    block_rows: int = 65536,
    memory_bytes: int = BIG,
    timer: SyncTimer | None = None,
    boot_id: str | None = None,
) -> WriteQueue:
    log = Told()
    series = SegmentSeries(
        Target(str(folder / template), 60, 0o640),
        lambda: Header(host="router", boot_id=boot_id),
        log,
    )
    return WriteQueue(series, block_rows, memory_bytes, Counters(), log, timer)


def lines(of: WriteQueue) -> list[str]:
    assert isinstance(of.log, Told)
    return of.log.lines


def ids_of(path: str | Path) -> list[list[int]]:
    """The ids in each block of EVENTS."""
    with Segment(str(path)) as segment:
        assert segment.findings == []
        return [ints(segment.read(block, ["id"])["id"]) for block in segment.blocks_of(Kind.EVENTS)]


def all_ids(path: str | Path) -> list[int]:
    return [each for block in ids_of(path) for each in block]


def only(folder: Path) -> Path:
    (path,) = paths(folder)
    return path


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow over `size` bytes: a write past it fails, half-way if it
    straddles it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("minutes", "now", "boundary"),
    [
        (60, NOON, NOON + 60 * MINUTE),
        (60, NOON - 1, NOON),
        (30, NOON + 29 * MINUTE, NOON + 30 * MINUTE),
        (1440, NOON, 20_001 * DAY),
        # 7 does not divide the day: the last period ends at midnight, and the count begins anew.
        (7, 20_001 * DAY - MINUTE, 20_001 * DAY),
        (7, 20_001 * DAY, 20_001 * DAY + 7 * MINUTE),
    ],
)
def test_boundaries_are_multiples_of_the_day(minutes: int, now: int, boundary: int) -> None:
    begin, end = Target("/x/%H", minutes, 0o640).period(now)
    assert begin <= now < end == boundary


def test_a_name_that_exists_at_the_start_is_not_touched(tmp_path: Path) -> None:
    there = tmp_path / "19700101-0000.ctlog"
    there.write_text("precious")
    ours = queue(tmp_path)
    ours.open(0)
    assert Path(ours.path).name == "19700101-0000-1.ctlog"
    assert there.read_text() == "precious"


def test_a_name_that_exists_at_rotation_keeps_the_old_segment(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    ours.open(NOON)
    old = ours.path
    ours.add(rows(0, 3))
    next_name = ours.series.target.path(NOON + 60 * MINUTE)
    Path(next_name).write_text("precious")
    ours.rotate(NOON + 60 * MINUTE)
    ours.add(rows(3, 2))
    assert ours.close(NOON + 61 * MINUTE)
    assert ids_of(old) == [[0, 1, 2], [3, 4]]
    assert Path(next_name).read_text() == "precious"
    assert (
        f"continuing in {old}: cannot open {next_name}: it exists, and a segment is never "
        "overwritten" in lines(ours)
    )


def test_rotation_chains_the_segments(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    ours.open(NOON)
    first = ours.path
    ours.rotate(NOON + 60 * MINUTE)
    second = ours.path
    assert ours.close(NOON + 61 * MINUTE)
    with Segment(first) as one, Segment(second) as two:
        assert two.previous_hash == one.last_hash
        assert two.header.previous == Path(first).name
        assert two.header.chain == one.header.chain


@pytest.mark.parametrize("closed", [True, False])
def test_a_new_recorder_goes_on_in_the_chain_and_says_what_is_missing(
    tmp_path: Path, closed: bool
) -> None:
    before = queue(tmp_path)
    before.open(NOON)
    before.add(rows(0, 1))
    before.flush(NOON + SECOND)
    last = NOON + 2 * SECOND
    if closed:
        before.mark(Mark.at(last, "stop"))
        before.close(last)
    else:
        assert before.series.writer is not None
        before.mark(Mark.at(last, "heartbeat"))
        before.flush(last)
        before.series.writer.abandon()  # the kernel lets go of the lock of a process that died
    after = queue(tmp_path)
    after.open(NOON + 3 * 60 * MINUTE)
    after.close(NOON + 3 * 60 * MINUTE)
    with Segment(before.path) as one, Segment(after.path) as two:
        assert one.state == ("closed" if closed else "crashed")
        assert two.previous_hash == one.last_hash
        (gap,) = two.gaps
        assert (gap.reason, gap.lost) == ("stopped" if closed else "crashed", None)
        assert (gap.begin, gap.end) == (last, NOON + 3 * 60 * MINUTE)


def test_a_second_recorder_of_one_template_is_refused(tmp_path: Path) -> None:
    first = queue(tmp_path)
    first.open(NOON)
    with pytest.raises(ArchiveError, match="another recorder writes it"):
        queue(tmp_path).open(NOON + SECOND)
    queue(tmp_path, template="udp-%H%M.ctlog").open(NOON)  # another template is another recorder's
    assert newest_segment(str(tmp_path / "none-%H.ctlog")) is None


def test_blocks_hold_at_most_so_many_rows_in_order(tmp_path: Path) -> None:
    ours = queue(tmp_path, block_rows=4)
    ours.open(NOON)
    ours.add(rows(0, 3))
    assert ids_of(ours.path) == []
    ours.add(rows(3, 3))  # does not fit the block: the first is written
    assert ids_of(ours.path) == [[0, 1, 2]]
    ours.add(rows(6, 9))
    ours.flush(NOON)
    assert ids_of(ours.path) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13], [14]]


def test_families_and_dumps_have_blocks_of_their_own(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    ours.open(NOON)
    ours.add(rows(0, 1))
    ours.add(rows(10, 1, uapi.AF_INET6))
    ours.add(rows(20, 1), existing=True)
    ours.add(rows(1, 1))
    ours.flush(NOON)
    assert sorted(ids_of(ours.path)) == [[0, 1], [10], [20]]


def test_a_mark_comes_after_the_rows_before_it(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    ours.open(NOON)
    ours.add(rows(0, 1))
    ours.mark(Mark(NOON, NOON + 1, "dump", {"complete": True}))
    ours.add(rows(1, 1))
    ours.close(NOON + 2)
    with Segment(ours.path) as segment:
        assert [block.kind for block in segment.blocks] == [
            Kind.HEADER,
            Kind.EVENTS,
            Kind.MARK,
            Kind.EVENTS,
        ]


def test_gaps_of_one_reason_become_one(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    ours.open(NOON)
    ours.gap(Gap(NOON + 2, NOON + 3, "overrun", 5, "full"))
    ours.gap(Gap(NOON + 1, NOON + 7, "overrun", 6, "full"))
    ours.gap(Gap(NOON, NOON + 9, "stopped", None, "gone"))
    ours.flush(NOON + 10)
    ours.gap(Gap(NOON + 11, NOON + 12, "overrun", 1, "full"))
    ours.close(NOON + 13)
    with Segment(ours.path) as segment:
        found = [(gap.begin - NOON, gap.end - NOON, gap.reason, gap.lost) for gap in segment.gaps]
    assert found == [(1, 7, "overrun", 11), (0, 9, "stopped", None), (11, 12, "overrun", 1)]


def test_what_the_disk_refused_is_written_once_when_it_takes_again(tmp_path: Path) -> None:
    ours = queue(tmp_path, block_rows=1000)
    ours.open(NOON)
    ours.add(rows(0, 900))
    assert ours.flush(NOON)
    with files_at_most(only(tmp_path).stat().st_size + 100):  # not even a frame and a half
        for first in range(900, 4500, 900):
            ours.add(rows(first, 900))
            assert not ours.flush(NOON)
        assert ids_of(ours.path) == [list(range(900))]
    assert ours.flush(NOON + 9 * SECOND)
    assert all_ids(ours.path) == list(range(4500))
    assert len([line for line in lines(ours) if line.startswith("cannot write")]) == 1
    assert lines(ours)[-1].startswith(f"writing to {ours.path} again after")
    with Segment(ours.path) as segment:
        assert segment.gaps == []


def test_what_did_not_fit_in_memory_is_counted_in_a_gap(tmp_path: Path) -> None:
    one = max(table_blocks(rows(first, 900))[0].size for first in range(0, 4500, 900))
    ours = queue(tmp_path, block_rows=1000, memory_bytes=3 * one)
    ours.open(NOON)
    with files_at_most(only(tmp_path).stat().st_size):
        for first in range(0, 4500, 900):
            ours.add(rows(first, 900))
            ours.flush(NOON)
            assert ours.failing
    assert ours.close(NOON + SECOND)
    # The first try fails with one block in hand; then three fit.
    assert all_ids(ours.path) == list(range(2700))
    with Segment(ours.path) as segment:
        found = [(gap.begin - NOON, gap.end - NOON, gap.reason, gap.lost) for gap in segment.gaps]
    assert found == [(2700, 4499, "write-error", 1800)]
    assert ours.counters.lost == 1800


def test_the_gap_of_a_crash_has_the_losses_that_were_counted_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tmp_path / "run", tmp_path / "log"
    run.mkdir()
    folder.mkdir()
    monkeypatch.setattr(live, "FOLDER", str(run))
    ours = queue(folder)
    ours.open(NOON)
    ours.counters.lost = 3
    ours.gap(Gap(NOON, NOON + 1, "overrun", 3))
    assert ours.flush(NOON + SECOND, NOON)
    assert ours.unwritten_losses == 0
    ours.counters.lost += 1800
    ours.gap(Gap(NOON + 2, NOON + 3, "overrun", 1800))
    status, (chain, path) = Path(ours.path).stat(), (ours.series.chain, ours.path)
    with files_at_most(status.st_size):
        assert not ours.flush(NOON + 2 * SECOND, NOON)
    assert ours.unwritten_losses == 1800
    counters = {"unwritten": ours.unwritten_losses, "size": status.st_size}
    place = status.st_dev, status.st_ino, NOON
    Publisher(str(run)).publish(LiveState(chain, path, *place, counters=counters))
    published = run / f"{chain}.json"  # by a process that has ended
    published.write_text(json.dumps({**json.loads(published.read_text()), "start_ticks": 1}))
    writer = ours.series.writer
    assert writer is not None
    writer.abandon()
    again = queue(folder)
    again.open(NOON + 90 * MINUTE)
    assert again.close(NOON + 91 * MINUTE)
    with Segment(again.path) as segment:
        found = [(gap.reason, gap.lost, gap.facts) for gap in segment.gaps]
    assert found == [("crashed", 1800, {"at_least": True})]


def test_rows_of_a_dump_that_do_not_fit_are_no_lost_events(tmp_path: Path) -> None:
    ours = queue(tmp_path, memory_bytes=4096)
    ours.open(NOON)
    with files_at_most(only(tmp_path).stat().st_size):
        ours.add(rows(0, 1))
        assert not ours.flush(NOON)
        ours.add(rows(1, 2000), existing=True)
        assert not ours.flush(NOON)
    assert ours.dropped_dump_rows == 2000
    assert ours.close(NOON + SECOND)
    with Segment(ours.path) as segment:
        assert segment.gaps == []


def test_a_rotation_that_the_disk_refused_is_made_up_for(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    ours.open(NOON)
    old = ours.path
    with files_at_most(only(tmp_path).stat().st_size):
        ours.add(rows(0, 2))
        ours.rotate(NOON + 60 * MINUTE)
        assert ours.path == old
    assert ours.flush(NOON + 61 * MINUTE)
    assert Path(ours.path).name == "19700101-1301.ctlog".replace("19700101", Path(old).name[:8])
    assert ids_of(old) == [[0, 1]]
    with Segment(old) as segment:
        assert segment.state == "closed"


def test_a_deleted_segment_is_put_back(tmp_path: Path) -> None:
    """The file is open, so nothing of it is lost; and it goes on where it was."""
    ours = queue(tmp_path)
    ours.open(NOON)
    path = Path(ours.path)
    ours.add(rows(0, 3))
    assert ours.flush(NOON)
    before = path.read_bytes()
    path.unlink()
    ours.add(rows(3, 2))
    assert ours.flush(NOON)
    assert path.read_bytes().startswith(before)
    assert ids_of(path) == [[0, 1, 2], [3, 4]]
    with pytest.raises(ArchiveError, match="another recorder writes it"):  # its lock went with it
        queue(tmp_path).open(NOON)
    assert any(
        line.startswith(f"{path} was deleted while it was being written") for line in lines(ours)
    )


def test_a_deleted_folder_is_waited_for(tmp_path: Path) -> None:
    """Nothing goes to memory meanwhile: the open file takes it, however long it is, and all is put
    back.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    ours = queue(folder, memory_bytes=1)
    ours.open(NOON)
    path = Path(ours.path)
    path.unlink()
    shutil.rmtree(folder)
    for first in range(0, 3000, 1000):
        ours.add(rows(first, 1000))
        assert ours.flush(NOON)
    folder.mkdir()
    assert ours.flush(NOON)
    assert ids_of(path) == [list(range(first, first + 1000)) for first in range(0, 3000, 1000)]
    assert len([line for line in lines(ours) if "cannot be restored" in line]) == 1


def test_what_ends_with_a_deleted_folder_is_told_to_be_lost(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    ours = queue(folder)
    ours.open(NOON)
    path = Path(ours.path)
    path.unlink()
    shutil.rmtree(folder)
    ours.add(rows(0, 1000))
    assert ours.close(NOON)
    assert (
        lines(ours)[-1] == f"{path} was deleted and could not be restored: its 1000 rows are lost"
    )


def test_a_moved_segment_is_closed_where_it_is(tmp_path: Path) -> None:
    folder, away = tmp_path / "log", tmp_path / "away"
    folder.mkdir()
    ours = queue(folder)
    ours.open(NOON)
    ours.add(rows(0, 1))
    assert ours.flush(NOON)
    folder.rename(away)
    ours.add(rows(1, 1))
    assert ours.flush(NOON)  # into the file that is open: there is no other place
    folder.mkdir()
    ours.add(rows(2, 1))
    assert ours.flush(NOON)
    assert (ids_of(only(away)), ids_of(only(folder))) == ([[0], [1]], [[2]])
    assert only(away).name != only(folder).name  # so that both fit in one folder again
    with Segment(str(only(away))) as old, Segment(str(only(folder))) as new:
        assert old.state == "closed"
        assert (new.previous_hash, new.header.sequence) == (
            old.last_hash,
            (old.header.sequence or 0) + 1,
        )


def test_what_was_written_again_is_cut_off_when_its_disk_is_back(tmp_path: Path) -> None:
    """The old segment is replaced while its disk is away, and is there again later with blocks that
    it had not synced.
    """
    folder, away, beneath = tmp_path / "log", tmp_path / "away", tmp_path / "beneath"
    folder.mkdir()
    series = queue(folder).series
    series.start(NOON, 0)
    old = Path(series.path)
    writer = series.ready(NOON)
    writer.append(rows(0, 10))
    writer.sync()
    writer.append(rows(10, 10))
    kept = old.read_bytes()
    folder.rename(away)
    folder.mkdir()
    series.replace(NOON)
    # Another file of its name is not that segment.
    old.write_bytes(b"of someone else" * 1000)
    series.close(NOON)
    series.ready(NOON)
    assert old.read_bytes() == b"of someone else" * 1000
    folder.rename(beneath)
    away.rename(folder)
    old.write_bytes(kept)
    series.check_location(NOON)
    series.ready(NOON)
    assert ids_of(old) == [list(range(10))]


def test_a_wrong_clock_does_not_fork_the_chain(tmp_path: Path) -> None:
    """A segment dated years ahead is not the newest for ever."""
    hashes = []
    for now in (NOON, NOON + 4000 * DAY, NOON + DAY, NOON + 2 * DAY):
        ours = queue(tmp_path)
        ours.open(now)
        with Segment(ours.path) as segment:
            hashes.append(segment.previous_hash)
        assert ours.close(now)
        with Segment(ours.path) as segment:
            hashes.append(segment.last_hash)
    assert hashes[2::2] == hashes[1:-1:2]


def test_a_segment_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    ours = queue(folder)
    ours.open(NOON)
    folder.rename(tmp_path / "away")
    ours.rotate(NOON + 60 * MINUTE)
    ours.add(rows(0, 2))
    assert not ours.flush(NOON + 60 * MINUTE)
    folder.mkdir()
    assert ours.flush(NOON + 61 * MINUTE)
    ours.close(NOON + 61 * MINUTE)
    assert ids_of(only(folder)) == [[0, 1]]
    with Segment(str(only(folder))) as segment, Segment(str(only(tmp_path / "away"))) as old:
        assert segment.previous_hash == old.last_hash


def test_nothing_to_write_writes_nothing(tmp_path: Path) -> None:
    ours = queue(tmp_path)
    ours.open(NOON)
    size = only(tmp_path).stat().st_size
    assert ours.flush(NOON + SECOND)
    assert only(tmp_path).stat().st_size == size


def test_what_is_written_is_synced_before_it_fills_the_memory(tmp_path: Path) -> None:
    """Between two flushes too: a second of a flood would else stay in memory."""
    ours = queue(tmp_path, block_rows=8192)
    ours.open(NOON)
    most = 0
    for first in range(0, 240 * 8192, 8192):
        ours.add(rows(first, 8192))
        most = max(most, ours.held_bytes)
    assert only(tmp_path).stat().st_size > 2 * MAX_UNSYNCED_BYTES
    assert most < 1.5 * MAX_UNSYNCED_BYTES


class Syncs:
    """Counts the calls of fdatasync(2), and makes them fail on demand, as no disk here can be made
    to: the blocks stay in the page cache, and nothing is known of the disk.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.fails = 0, False
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, descriptor: int) -> None:
        self.count += 1
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self._real(descriptor)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    return Syncs(monkeypatch)


class Seconds:
    """A queue that syncs each 10 seconds, by a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.now = 0
        self.queue = queue(folder, timer=SyncTimer(10, lambda: self.now))
        self.queue.open(NOON)
        self.queue.flush(NOON, NOON)

    def second(self, row: int | None) -> bool:
        """A second passes, in which the event `row` comes."""
        self.now += SECOND
        if row is not None:
            self.queue.add(rows(row, 1))
        return self.queue.flush(NOON + self.now, NOON + self.now)


def test_rows_are_written_each_second_and_synced_each_ten(tmp_path: Path, syncs: Syncs) -> None:
    ours = Seconds(tmp_path)
    before = syncs.count
    for second in range(1, 10):
        ours.second(second)
        assert all_ids(only(tmp_path)) == list(range(1, second + 1))
        written = ours.queue.written
        assert (written.watermark, written.size) == (NOON + ours.now, only(tmp_path).stat().st_size)
        assert written.synced < NOON + SECOND  # a power cut may take all of it
        assert ours.queue.held_bytes > 0
    assert syncs.count == before
    ours.second(10)
    assert syncs.count == before + 1
    assert ours.queue.written.synced == ours.queue.written.watermark == NOON + 10 * SECOND
    assert ours.queue.held_bytes == 0
    for _ in range(100):  # nothing to write, nothing to sync
        ours.second(None)
    assert syncs.count == before + 1
    # Readers know that nothing came; the last watermark on the disk is what a power cut leaves.
    assert ours.queue.written.watermark == NOON + 110 * SECOND
    assert ours.queue.written.synced == NOON + 10 * SECOND


def test_the_last_row_before_silence_is_synced(tmp_path: Path, syncs: Syncs) -> None:
    ours = Seconds(tmp_path)
    before = syncs.count
    ours.second(1)
    due = []
    for _ in range(9):
        due.append(ours.queue.sync_due)
        ours.second(None)
    assert not any(due)
    assert syncs.count == before + 1


@pytest.mark.parametrize("what", ["gap", "rotation", "stop", "asked"])
def test_what_is_synced_at_once(tmp_path: Path, syncs: Syncs, what: str) -> None:
    ours = Seconds(tmp_path)
    ours.second(1)
    path, before = ours.queue.path, syncs.count
    writer = ours.queue.series.writer
    assert writer is not None
    assert writer.synced.size < writer.size
    if what == "gap":
        ours.queue.gap(Gap(NOON, NOON + 1, "overrun", 1, "a test"))
        ours.second(None)
    elif what == "rotation":
        ours.queue.rotate(NOON + 60 * MINUTE)
    elif what == "stop":
        ours.queue.close(NOON + 2 * SECOND)
    else:
        ours.queue.flush(NOON + 2 * SECOND, sync=True)
    assert syncs.count > before
    assert writer.synced.size == writer.size == Path(path).stat().st_size


def test_a_failed_sync_takes_back_what_could_be_read(tmp_path: Path, syncs: Syncs) -> None:
    """Of what was published, only what is synced is still true; then all is written again."""
    ours = Seconds(tmp_path)
    for second in range(1, 11):
        ours.second(second)
    synced = ours.queue.written.synced
    for second in range(11, 20):
        assert ours.second(second)
    before = ours.queue.written
    assert before.watermark == NOON + 19 * SECOND
    syncs.fails = True
    assert not ours.second(20)
    assert all_ids(only(tmp_path)) == list(range(1, 11))
    after = ours.queue.written
    assert after.watermark == after.synced == synced == NOON + 10 * SECOND
    # Who read the state before the cut sees that the file is shorter than it said.
    assert only(tmp_path).stat().st_size == after.size < before.size
    syncs.fails = False
    assert ours.second(None)
    assert all_ids(only(tmp_path)) == list(range(1, 21))
    assert ours.queue.written.synced == NOON + 20 * SECOND
    assert ours.queue.written.watermark == NOON + 21 * SECOND


def test_a_start_syncs_what_a_crash_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut later could take what the new segment counts as recorded."""
    ours = Seconds(tmp_path)
    ours.second(1)
    ours.queue.flush(NOON + 2 * SECOND, sync=True)
    assert ours.queue.series.writer is not None
    old = ours.queue.path
    ours.queue.series.writer.abandon()  # the process died
    order: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        order.append(f"sync {os.readlink(f'/proc/self/fd/{descriptor}')}")
        real_fsync(descriptor)

    def segment(path: str, key: bytes) -> Segment:
        order.append(f"read {path}")
        return Segment(path, key)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(target, "Segment", segment)
    assert newest_segment(str(tmp_path / "%Y%m%d-%H%M.ctlog")) is not None
    assert order == [f"sync {old}", f"read {old}"]


def test_a_start_that_left_only_a_header(tmp_path: Path) -> None:
    """The GAP that it was about to write begins at the segment before: the next start writes it."""
    header = Header(host="router", requires=(COVERAGE,))
    template = str(tmp_path / "%Y%m%d-%H%M.ctlog")

    def start(now: int) -> WriteQueue:
        series = SegmentSeries(Target(template, 60, 0o640), lambda: header, Told())
        ours = WriteQueue(series, 65536, BIG, Counters(), Told())
        ours.open(now)
        return ours

    first = start(NOON)
    first.mark(Mark.at(NOON + SECOND, "heartbeat"))
    assert first.flush(NOON + SECOND, NOON + SECOND)
    second = restarted(first, lambda: start(NOON + 5 * SECOND))
    third = restarted(second, lambda: start(NOON + 9 * SECOND))
    assert third.close(NOON + 10 * SECOND)
    with Segment(third.path) as segment, Segment(second.path) as before:
        assert segment.previous_hash == before.last_hash
        (gap,) = segment.gaps
        assert (gap.begin, gap.end) == (NOON + SECOND, NOON + 9 * SECOND)


def restarted(ours: WriteQueue, start: Callable[[], WriteQueue]) -> WriteQueue:
    """Another recorder starts after `ours` was killed."""
    assert ours.series.writer is not None
    ours.series.writer.abandon()
    return start()


UPTIME = 10 * DAY  # of the machine when the first recorder ends


def ended(folder: Path, boot: str, *, closed: bool = True) -> str:
    """The segment of a recorder that recorded from NOON for an hour."""
    before = queue(folder, boot_id=boot)
    before.open(NOON, UPTIME - 60 * MINUTE)
    last = NOON + 60 * MINUTE
    if closed:
        before.mark(Mark.at(last, "stop", {"boottime_ns": UPTIME}))
        before.close(last, last)
    else:
        before.mark(Mark.at(last, "heartbeat"))
        before.flush(last, last)
        assert before.series.writer is not None
        before.series.writer.abandon()
    return before.path


@pytest.mark.parametrize(
    ("boot", "stopped", "step", "gap"),
    [
        ("a", 10, 0, (60, 70)),
        ("a", 10, 30, (60, 100)),  # set forward: what was skipped is in it
        ("a", 10, -30, (30, 70)),  # started at 40: nobody knows which times came before
        ("a", 50, -30, (30, 110)),  # started at 80, behind the end, and yet set back
        ("b", 10, -30, (20, 60)),  # another boot, 20 minutes ago
        ("b", 80, -30, (60, 110)),
    ],
)
def test_times_that_come_twice_while_no_recorder_runs_are_a_gap(
    tmp_path: Path, boot: str, stopped: int, step: int, gap: tuple[int, int]
) -> None:
    ended(tmp_path, "a")
    now = NOON + (60 + stopped + step) * MINUTE
    after = queue(tmp_path, boot_id=boot)
    until = after.open(now, UPTIME + stopped * MINUTE if boot == "a" else 20 * MINUTE)
    after.close(now)
    with Segment(after.path) as segment:
        (found,) = segment.gaps
        assert segment.header.set_back is (True if gap[1] > 60 + stopped + step else None)
    assert (found.begin, found.end) == tuple(NOON + each * MINUTE for each in gap)
    assert found.reason == "stopped"
    assert until == NOON + max(gap[1], 60) * MINUTE


@pytest.mark.parametrize("published", [True, False])
def test_a_crash_is_as_long_as_the_published_state_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    run, folder = tmp_path / "run", tmp_path / "log"
    run.mkdir()
    folder.mkdir()
    monkeypatch.setattr(live, "FOLDER", str(run))
    path = ended(folder, "a", closed=False)
    with Segment(path) as segment:
        chain = segment.header.chain
    last = NOON + 60 * MINUTE
    if published:
        state = {"boottime_ns": UPTIME + SECOND, "time_ns": last + SECOND}
        (run / f"{chain}.json").write_text(json.dumps(state))
    after = queue(folder, boot_id="a")
    after.open(last - 20 * MINUTE, UPTIME + 10 * MINUTE)
    after.close(last - 20 * MINUTE)
    with Segment(after.path) as segment:
        (gap,) = segment.gaps
    assert gap.reason == "crashed"
    known = (last - 30 * MINUTE, last + 10 * MINUTE)
    assert (gap.begin, gap.end) == (
        known if published else (last - 20 * MINUTE - UPTIME - 10 * MINUTE, last)
    )
