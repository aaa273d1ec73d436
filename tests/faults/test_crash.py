"""A process that is killed and a machine that loses its power: what was synced is read, the rest is
told, the chain goes on.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.archive import find
from ctrecorder.archive.near import Chains
from ctrecorder.columns import Array, Event, Table
from ctrecorder.ctlog.frame import COVERAGE, FRAME, Gap, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.query.evidence import gather
from ctrecorder.segment.reader import Segment
from ctrecorder.service.log import Log
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue
from ctrecorder.spool.segments import SegmentSeries
from ctrecorder.spool.sync_timer import SyncTimer
from ctrecorder.spool.target import Target
from ctrecorder.times import DAY, SECOND
from tests.support.disks import Ext4, tmpfs
from tests.support.faulttable import Table as Faults
from tests.support.router import Lab
from tests.support.tables import ints
from tests.support.traffic import Account, Tough, Traffic, cttest

NOON = 20_000 * DAY + DAY // 2
# A flush each second, and what a machine with much else to do may add to it.
FLUSH_SECONDS = 3.0
# What a disk loses as a whole in a power cut.
SECTOR = 512


class Quiet(Log):
    """Says nothing."""

    def send(self, kind: object, text: str, **fields: object) -> None:
        pass


def queue(folder: Path, timer: SyncTimer | None = None) -> WriteQueue:
    place = Target(str(folder / "%Y%m%d-%H%M%S.ctlog"), 60, 0o640)
    return WriteQueue(
        SegmentSeries(place, lambda: Header(host="router", requires=(COVERAGE,)), Quiet("test")),
        65536,
        64 << 20,
        Counters(),
        Quiet("test"),
        timer,
    )


def rows(first: int, count: int) -> Table:
    ids = np.arange(first, first + count, dtype=np.uint32)
    random = np.random.default_rng(first)
    columns: dict[str, Array] = {
        "time": NOON + ids.astype(np.int64),
        "event": np.full(count, Event.NEW, np.uint8),
        "id": ids,
        "orig_src": random.integers(0, 2**32, count, np.uint32),
        "orig_dport": random.integers(0, 2**16, count, np.uint16),
    }
    return Table(uapi.AF_INET, count, columns)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A segment as a crash leaves it: small blocks and large ones, marks and gaps."""
    folder = tmp_path_factory.mktemp("recording")
    ours, first = queue(folder), 0
    ours.open(NOON)
    for count in (1, 3, 300, 2, 4000, 1, 700, 40, 9, 1):
        ours.add(rows(first, count))
        ours.flush(NOON + first)
        first += count
    ours.gap(Gap(NOON, NOON + 1, "overrun", 7, "a test"))
    ours.mark(Mark.at(NOON + first, "heartbeat"))
    ours.add(rows(first, 5))
    ours.flush(NOON + first)
    return Path(ours.path).read_bytes()


def whole_blocks(data: bytes) -> list[tuple[int, int]]:
    """Where each block of a sound segment begins and ends, by the lengths in the frames."""
    found, at = [], 0
    while at < len(data):
        length = FRAME.unpack_from(data, at)[6]
        found.append((at, at + FRAME.size + length))
        at = found[-1][1]
    assert at == len(data)
    return found


def read_cut(path: Path, blocks: list[tuple[int, int]], cut: int) -> None:
    """All blocks before the cut are read, and no more; what is torn is told, with its place."""
    with Segment(str(path)) as segment:
        before = [begin for begin, end in blocks if end <= cut]
        assert segment.index["offset"].tolist() == before
        assert segment.state == "crashed"
        if cut > max((end for _, end in blocks if end <= cut), default=0):
            (finding,) = segment.findings
            assert finding.offset == blocks[len(before)][0]
        else:
            assert segment.findings == []
        for block in segment.blocks_of(2):
            segment.read(block, ["id"])


def test_cut_anywhere_in_its_last_blocks(recording: bytes, tmp_path: Path, table: Faults) -> None:
    """At every byte; and for each the recorder goes on in a new segment, chained to the last good
    block.
    """
    blocks = whole_blocks(recording)
    cuts = range(blocks[-6][0], len(recording) + 1)
    with tmpfs(
        tmp_path / "memory", 1024
    ) as memory:  # a thousand segments are made, each with three fsync(2)
        cut_and_go_on(recording, blocks, cuts, memory / "log")
    table.add_row("cut at every byte of the last 6 blocks, and restarted", tried=len(cuts))


def cut_and_go_on(
    recording: bytes, blocks: list[tuple[int, int]], cuts: range, folder: Path
) -> None:
    for cut in cuts:
        folder.mkdir()
        path = folder / "19700101-000000.ctlog"
        path.write_bytes(recording[:cut])
        read_cut(path, blocks, cut)
        ours = queue(folder)
        ours.open(NOON + 3600 * SECOND)
        assert ours.close(NOON + 3601 * SECOND)
        with Segment(str(path)) as old, Segment(ours.path) as new:
            assert new.previous_hash == old.last_hash
            (gap,) = new.gaps
            assert (gap.reason, gap.lost, gap.end) == ("crashed", None, NOON + 3600 * SECOND)
            assert NOON <= gap.begin == old.index["time_max"][-1]
        shutil.rmtree(folder)


def test_cut_at_random(recording: bytes, tmp_path: Path, table: Faults) -> None:
    """At 10,000 places anywhere behind the header: cut shorter and shorter, as one file."""
    blocks = whole_blocks(recording)
    path = tmp_path / "cut.ctlog"
    path.write_bytes(recording)
    cuts = sorted(
        ints(np.random.default_rng(5).integers(blocks[0][1], len(recording), 10_000)),
        reverse=True,
    )
    with path.open("r+b") as file:
        for cut in cuts:
            file.truncate(cut)
            read_cut(path, blocks, cut)
    table.add_row("cut at random", tried=len(cuts))


@pytest.mark.parametrize("cut", [-1, -70, -200])
def test_what_commands_say_of_a_cut_segment(recording: bytes, tmp_path: Path, cut: int) -> None:
    """cttest: torn off by a crash, which is no damage; ctlist lists the rest."""
    path = tmp_path / "cut.ctlog"
    path.write_bytes(recording[:cut])
    assert "torn off by a crash" in cttest(path)


def at_most_a_flush(
    account: Account,
    traffic: Traffic,
    dead: list[tuple[int, int]],
    seconds: float = FLUSH_SECONDS,
) -> None:
    """What is missing was sent while the recorder was `dead` (from, to), or in its last moments."""
    for number in account.missing:
        first, last = traffic.sent[number]
        away = min(max(start - last, first - end, 0) for start, end in dead) / SECOND
        assert away < seconds, f"flow {number} is missing, {away:.2f} s before the recorder died"


@pytest.mark.claim("power")
def test_kill_9(lab: Lab, traffic: Traffic, tmp_path: Path, table: Faults) -> None:
    """Again and again under traffic: at most the last flush is gone, and it lies in a GAP that
    begins at the last block.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    recorder = Tough(lab, folder)
    killed: list[tuple[int, int]] = []
    assured: set[int] = set()
    began = 0
    with traffic.steady(2000):
        for pause in (0.3, 1.1, 0.05, 1.7, 0.6):
            synced = len(traffic.sent)
            recorder.synced()
            assured.update(range(began, synced))
            time.sleep(pause)
            killed.append((recorder.kill(), time.time_ns()))
            time.sleep(0.2)
            recorder.again()
            killed[-1], began = (killed[-1][0], time.time_ns()), len(traffic.sent)
    recorder.synced()
    recorder.stop()
    account = Account(traffic, folder)
    account.check()
    crashes = [gap for gap in account.gaps if gap.reason == "crashed"]
    assert len(crashes) == len(killed)
    assert assured <= account.found
    at_most_a_flush(account, traffic, killed)
    cttest(folder)
    table.add("kill -9", account, tried=len(killed))


@pytest.mark.claim("power")
@pytest.mark.parametrize(
    ("sync", "pauses"), [(1, (1.5, 0.4, 2.2)), (5, (9.0, 2.0, 7.0))], ids=["1 s", "5 s"]
)
def test_power_cut(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Faults, sync: int, pauses: tuple[float, ...]
) -> None:
    """Nothing more reaches the disk, the recorder dies, the machine comes back: what it had synced
    is there, and the rest is a GAP.
    """
    with Ext4(tmp_path / "log", 65536) as disk:
        recorder = Tough(lab, disk.folder, sync=sync)
        cuts: list[int] = []
        assured: set[int] = set()
        began = 0
        with traffic.steady(2000):
            for pause in pauses:
                synced = len(traffic.sent)
                recorder.synced()
                assured.update(range(began, synced))
                time.sleep(pause)
                disk.cut_power()
                cuts.append(time.time_ns())
                recorder.kill()
                disk.replace()
                recorder.again()
                began = len(traffic.sent)
        recorder.synced()
        recorder.stop()
        account = Account(traffic, disk.folder)
        account.check()
        back = [gap.end for gap in account.gaps if gap.reason == "crashed"]
        assert len(back) == len(cuts)
        assert assured <= account.found
        dead = list(zip(cuts, back, strict=True))
        at_most_a_flush(account, traffic, dead, sync - 1 + FLUSH_SECONDS)
        cttest(disk.folder)
        table.add(f"power cut, synced each {sync} s", account, tried=len(cuts))


@pytest.mark.claim("power")
def test_killed_and_then_the_power_is_cut(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Faults
) -> None:
    """What the next recorder counts as recorded is on the disk, although the first one never synced
    it.
    """
    with Ext4(tmp_path / "log", 65536) as disk:
        recorder = Tough(lab, disk.folder, sync=600)
        recorder.synced()
        with traffic.steady(1000):
            time.sleep(4)
            killed = (recorder.kill(), time.time_ns())
            recorder.again()
            disk.cut_power()
            cut = time.time_ns()
            recorder.kill()
            disk.replace()
            recorder.again()
            back = time.time_ns()
        recorder.synced()
        recorder.stop()
        account = Account(traffic, disk.folder)
        account.check()
        at_most_a_flush(account, traffic, [(killed[0], cut), (cut, back)])
        cttest(disk.folder)
        table.add("kill -9, then a power cut, nothing synced", account)


def test_any_sectors_are_lost(tmp_path: Path, table: Faults) -> None:
    """Behind the last sync, a disk may have kept any of its sectors: the rows that are lost lie in
    the GAP of the next start, and in no time that the log covers.
    """
    now = 0
    folder = tmp_path / "log"
    folder.mkdir()
    ours = queue(folder, SyncTimer(10, lambda: now))
    ours.open(NOON)
    for second in range(1, 28):
        now = second * SECOND
        made = rows(second * 1000, 40)
        made.columns["time"][:] = NOON + now - SECOND // 2
        ours.add(made)
        assert ours.flush(NOON + now, NOON + now)
    writer = ours.series.writer
    assert writer is not None
    data, synced = Path(ours.path).read_bytes(), writer.synced.size
    assert len(data) - synced > 5 * SECTOR
    assert ours.written.synced < NOON + 26 * SECOND
    random = np.random.default_rng(14)
    with tmpfs(tmp_path / "memory", 2048) as memory:
        for number in range(300):
            kept = lose_sectors(data, synced, random)
            lost_rows_are_in_the_gap(memory / str(number % 2), kept, ours.written.synced)
    table.add_row("sectors lost behind the last sync", tried=300)


def lose_sectors(data: bytes, synced: int, random: np.random.Generator) -> bytes:
    """`data` after a power cut: behind `synced`, any sectors are zeros, and the end may be gone."""
    kept = bytearray(data[: random.integers(synced, len(data) + 1)])
    first = synced - synced % SECTOR
    for at in range(first, len(kept), SECTOR):
        if random.random() < random.choice((0.1, 0.5)):
            begin, end = max(at, synced), min(at + SECTOR, len(kept))
            kept[begin:end] = bytes(end - begin)
    return bytes(kept)


def lost_rows_are_in_the_gap(folder: Path, kept: bytes, synced: int) -> None:
    """A recorder starts where a segment is as the power cut left it."""
    folder.mkdir()
    path = folder / "19700101-000000.ctlog"
    path.write_bytes(kept)
    ours = queue(folder)
    ours.open(NOON + 3600 * SECOND)
    ours.mark(Mark.at(NOON + 3600 * SECOND, "start"))
    assert ours.close(NOON + 3601 * SECOND, NOON + 3601 * SECOND)
    with Segment(str(path)) as old, Segment(ours.path) as new:
        assert new.previous_hash == old.last_hash
        (gap,) = new.gaps
        assert synced <= gap.begin <= gap.end == NOON + 3600 * SECOND
        found = {row for block in old.blocks_of(2) for row in ints(old.read(block, ["id"])["id"])}
        sent = {second * 1000 + row: second for second in range(1, 28) for row in range(40)}
        for row in sent.keys() - found:
            assert NOON + sent[row] * SECOND - SECOND // 2 >= gap.begin
        evidence = gather([old, new], Chains(find.find([str(folder)], spans=True).spans), {})
        (recording,) = evidence.recordings
        covered = [span for span, _ in recording.spans if span[0] < NOON + 1800 * SECOND]
        assert max(end for _, end in covered) <= gap.begin
    shutil.rmtree(folder)
