"""A disk that is full, slow to say no, read-only, broken or gone: the recorder goes on by itself,
and nothing is lost but by count.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from ctrecorder.times import SECOND
from tests.support.disks import ALL_TO_DISK, Ext4, fill, loop, mounted, run, tmpfs
from tests.support.faulttable import Table
from tests.support.folders import paths
from tests.support.history import History
from tests.support.router import Lab, wait_until
from tests.support.traffic import SLACK_NS, Account, Tough, Traffic, cttest


def grown(folder: Path) -> int:
    """Bytes of all segments."""
    return sum(path.stat().st_size for path in folder.glob("*.ctlog"))


@contextlib.contextmanager
def ext4(folder: Path) -> Iterator[Path]:
    with Ext4(folder) as disk:
        yield disk.folder


@pytest.mark.claim("full")
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("leave", [0, 4096, 10_000], ids=["at once", "half-way", "later"])
def test_disk_full(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table, kind: str, leave: int
) -> None:
    """Full, at the next write or half-way through a block; then there is room again: all is in the
    log, in order.
    """
    with tmpfs(tmp_path / "log", 4096) if kind == "tmpfs" else ext4(tmp_path / "log") as folder:
        recorder = Tough(lab, folder)
        with traffic.steady(3000):
            recorder.synced()
            filler = fill(folder, leave)
            recorder.wait("cannot write")
            time.sleep(1.2)  # at least one more flush finds it full
            filler.unlink()
            recorder.wait("again after")
        recorder.synced()
        recorder.stop()
        account = Account(traffic, folder)
        account.whole()
        cttest(folder)
        table.add(f"disk full, {kind}, {leave} bytes left", account)
    assert "No space left" in recorder.log


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_started_on_a_full_disk(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table, kind: str
) -> None:
    """It records to memory, as one that runs does; its segment goes on in the chain."""
    with tmpfs(tmp_path / "log", 4096) if kind == "tmpfs" else ext4(tmp_path / "log") as folder:
        recorder = Tough(lab, folder)
        recorder.stop()
        filler = fill(folder)
        recorder.again()
        with traffic.steady(3000):
            recorder.wait("cannot write")
            time.sleep(2.2)
            filler.unlink()
            recorder.wait("again after")
        recorder.synced()
        recorder.stop()
        account = Account(traffic, folder)
        account.check()
        assert account.missing == []
        assert [gap.reason for gap in account.gaps if gap.lost != 0] == ["stopped"]
        assert len([path for path in recorder.segments if path.suffix == ".ctlog"]) == 2
        cttest(folder)
        table.add(f"started on a full disk, {kind}", account)


def test_no_room_for_the_next_segment(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table
) -> None:
    """The file system takes no more files: the old segment is closed, the events wait in memory for
    the next one.
    """
    with tmpfs(tmp_path / "log", 4096, inodes=4) as folder:  # itself, a lock, two more
        recorder = Tough(lab, folder)
        (folder / "taken").touch()
        with traffic.steady(1000):
            recorder.synced()
            recorder.rotate()
            recorder.wait("cannot write")
            time.sleep(0.5)
            (folder / "taken").unlink()
            recorder.wait("new segment", 2)
        recorder.synced()
        recorder.stop()
        account = Account(traffic, folder)
        account.whole()
        cttest(folder)
        assert len([path for path in recorder.segments if path.suffix == ".ctlog"]) == 2
        table.add("no room for the next segment", account)


def test_memory_is_bounded(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table) -> None:
    """More than fits in memory while the disk is full: the rest is counted, to the event."""
    with tmpfs(tmp_path / "log", 2048) as folder:
        recorder = Tough(lab, folder, "-B", 1000, memory=1)
        recorder.synced()
        filler = fill(folder)
        for _ in range(3):
            traffic.burst(50_000)
            wait_until(lambda: "cannot write" in recorder.log, "the full disk noticed")
            recorder.synced()
            lab.flush()
        filler.unlink()
        run("mount", "-o", "remount,size=65536k", folder)
        recorder.wait("again after")
        recorder.synced()
        said = recorder.stop()
        account = Account(traffic, folder)
        ended = Account(traffic, folder, event="destroy")
        (gap,) = [gap for gap in account.gaps if gap.lost != 0]
        assert gap.reason == "disk-full"
        assert gap.lost == len(account.missing) + len(ended.missing)
        assert f"{gap.lost} lost" in said
        assert len(account.found) > 5_000  # 1 MiB holds tens of thousands
        cttest(folder)
        table.add("disk full, and memory too", account)


@pytest.mark.claim("full")
@pytest.mark.parametrize("how", ["EIO", "read-only"])
def test_disk_breaks(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table, how: str) -> None:
    """Every call fails, until the disk is checked and mounted anew: what was not synced is written
    again, none of it twice.
    """
    with Ext4(tmp_path / "log") as disk:
        recorder = Tough(lab, disk.folder)
        with traffic.steady(3000):
            recorder.synced()
            time.sleep(0.3)
            disk.cut_power() if how == "EIO" else disk.error()
            recorder.wait("cannot write")
            time.sleep(1.2)
            disk.replace()
            recorder.wait("again after")
        recorder.synced()
        recorder.stop()
        account = Account(traffic, disk.folder)
        account.whole()
        assert len(list(disk.folder.glob("*.ctlog"))) == 2
        cttest(disk.folder)
        table.add(f"disk breaks: {how}", account)
    assert ("Input/output error" if how == "EIO" else "Read-only file system") in recorder.log


def break_unsynced(recorder: Tough, traffic: Traffic, disk: Ext4) -> tuple[Path, int]:
    """All that the recorder has written is on the disk when that breaks, and not all was synced.

    The segment, and its size then.
    """
    recorder.wait("table recorded")
    traffic.burst(10)
    recorder.synced()
    (segment,) = disk.folder.glob("*.ctlog")
    size = segment.stat().st_size
    recorder.process.send_signal(signal.SIGSTOP)
    traffic.burst(20_000)  # more than is received at once: blocks are written before a flush,
    recorder.process.send_signal(signal.SIGCONT)
    wait_until(lambda: segment.stat().st_size > size, "blocks")
    recorder.process.send_signal(signal.SIGSTOP)  # and the flush, a second later, is too late
    disk.cut_power(ALL_TO_DISK)
    written = segment.stat().st_size
    recorder.process.send_signal(signal.SIGCONT)
    recorder.wait("cannot write")
    return segment, written


def whole_but_late(account: Account) -> None:
    """All is there once.  Where the kernel does not date its events, those that waited for a
    recorder that was stopped are in a GAP for that.
    """
    account.check()
    assert account.missing == []
    assert {gap.reason for gap in account.gaps if gap.lost != 0} <= {"late"}


def hole(told: str) -> tuple[int, int]:
    """The only hole that ctlist tells of, for a segment that is missing: from, until, ns UTC."""
    (found,) = re.findall(
        r"not recording from (\S+ \S+ \S+) to (\S+ \S+ \S+): a segment is missing", told
    )
    begin, end = (
        int(datetime.strptime(one, "%Y.%m.%d %H:%M:%S.%f %z").timestamp() * SECOND) for one in found
    )
    return begin, end


def test_disk_breaks_and_has_kept_all(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table
) -> None:
    """What was written and not synced is on the disk after all when it comes back: it is not there
    twice.
    """
    with Ext4(tmp_path / "log") as disk:
        recorder = Tough(lab, disk.folder, "-B", 100)
        segment, written = break_unsynced(recorder, traffic, disk)
        disk.replace()
        traffic.burst(10)
        recorder.wait("again after")
        recorder.synced()
        recorder.stop()
        assert segment.stat().st_size < written
        account = Account(traffic, disk.folder)
        whole_but_late(account)
        cttest(disk.folder)
        table.add("disk breaks, and has kept all", account)


def test_disk_is_back_after_a_while(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table
) -> None:
    """The same, but the folder without the disk takes files meanwhile: they are hidden by the disk
    when it is back.  Who has both sees each flow once; who has the disk alone is told of a hole.
    """
    both = tmp_path / "both"
    with Ext4(tmp_path / "log", bare=True) as disk:
        recorder = Tough(lab, disk.folder, "-B", 100)
        segment, written = break_unsynced(recorder, traffic, disk)
        disk.remove()
        recorder.wait("again after")
        traffic.burst(10)
        recorder.synced()
        disk.come_back()
        recorder.wait("new segment", 3)
        traffic.burst(10)
        recorder.synced()
        recorder.stop()
        assert segment.stat().st_size < written
        alone = Account(traffic, disk.folder)
        begin, end = hole(alone.told)
        assert all(
            begin - SLACK_NS <= traffic.sent[number][1] and traffic.sent[number][0] <= end
            for number in alone.missing
        )
        shutil.copytree(disk.folder, both)
        disk.remove()
        (hidden,) = disk.folder.glob("*.ctlog")
        assert f"{hidden.name}, before it, is missing" in cttest(both, code=1)
        shutil.copy(hidden, both)
        account = Account(traffic, both)
        whole_but_late(account)
        cttest(both)
        table.add("disk breaks, and is back after a while", account)


def test_sync_fails(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table) -> None:
    """The disk takes what is written and then cannot keep it, as a thin volume that runs out: only
    fsync(2) says so, once.
    """
    with (
        tmpfs(tmp_path / "pool", 16384) as pool,
        Ext4(pool / "log", 8192, "errors=continue", journal=False, by_page=True) as disk,
    ):
        recorder = Tough(lab, disk.folder)
        with traffic.steady(3000):
            recorder.synced()
            filler = fill(pool)
            recorder.wait("cannot write")
            time.sleep(1.2)
            filler.unlink()
            recorder.wait("again after")
        recorder.synced()
        recorder.stop()
        account = Account(traffic, disk.folder)
        account.whole()
        disk.replace()  # what is read now comes from the disk
        cttest(disk.folder)
        assert Account(traffic, disk.folder).missing == []
        table.add("fsync fails", account)
        # What the device answers when the pool has no more: it depends on which of its blocks was
        # first.
        assert re.search(
            "cannot write: .*(Input/output error|No space left on device)", recorder.log
        )


def test_quota(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table) -> None:
    """EDQUOT, by btrfs: what is full is a share of the disk; then the share is raised."""
    image = tmp_path / "disk.img"
    run("truncate", "-s", "128M", image)
    run("mkfs.btrfs", "-q", image)
    with loop(image) as device, mounted(tmp_path / "disk", device) as disk:
        run("btrfs", "quota", "enable", disk)
        run("btrfs", "subvolume", "create", disk / "log")
        recorder = Tough(lab, disk / "log")
        with traffic.steady(3000):
            recorder.synced()
            run("btrfs", "qgroup", "limit", "4M", disk / "log")
            filler = fill(disk / "log")
            recorder.wait("cannot write")
            filler.unlink()
            recorder.wait("again after")
        recorder.synced()
        recorder.stop()
        account = Account(traffic, disk / "log")
        account.whole()
        cttest(disk / "log")
        table.add("quota", account)
        assert "quota exceeded" in recorder.log


def away(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def deleted(folder: Path) -> None:
    shutil.rmtree(folder)


def file_deleted(folder: Path) -> None:
    for path in paths(folder):
        path.unlink()


def file_moved(folder: Path) -> None:
    for path in paths(folder):
        path.rename(path.with_name(f"moved-{path.name}"))


def symlinked(folder: Path) -> None:
    away(folder)
    (folder.parent / "other").mkdir()
    folder.symlink_to("other")


def moved_behind_symlink(folder: Path) -> None:
    """As an operator does who moves the log to a larger disk."""
    away(folder)
    folder.symlink_to("away")


@pytest.mark.parametrize(
    "how",
    [away, deleted, file_deleted, file_moved, symlinked, moved_behind_symlink],
    ids=lambda how: how.__name__,
)
def test_folder_gone(
    lab: Lab, traffic: Traffic, tmp_path: Path, table: Table, how: Callable[[Path], None]
) -> None:
    """Moved or deleted under the recorder: nothing is lost, and it records where it should once it
    can.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    recorder = Tough(lab, folder)
    with traffic.steady(2000):
        recorder.synced()
        how(folder)
        if not folder.exists():
            recorder.wait("cannot be restored")
            folder.mkdir()
        if how is not moved_behind_symlink:
            recorder.wait(
                "restored as" if how in (deleted, file_deleted) else "was moved, or another"
            )
        time.sleep(0.3)
    recorder.synced()
    recorder.stop()
    away_from_it = (
        [tmp_path / "away"]
        if (tmp_path / "away").exists() and folder.resolve().name != "away"
        else []
    )
    account = Account(traffic, folder, *away_from_it)
    account.whole()
    assert list(folder.glob("*.ctlog"))
    table.add(f"folder: {how.__name__.replace('_', ' ')}", account)


def test_out_of_descriptors(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table) -> None:
    """No descriptor is left for the next segment; then there is."""
    folder = tmp_path / "log"
    folder.mkdir()
    recorder = Tough(lab, folder)
    with traffic.steady(2000):
        recorder.synced()
        run("prlimit", f"--pid={recorder.process.pid}", "--nofile=4:1024")
        recorder.rotate()
        recorder.wait("cannot write")
        time.sleep(1.2)
        run("prlimit", f"--pid={recorder.process.pid}", "--nofile=1024:1024")
        recorder.wait("again after")
    recorder.synced()
    recorder.stop()
    account = Account(traffic, folder)
    account.whole()
    cttest(folder)
    assert len(recorder.segments) == 2
    assert "Too many open files" in recorder.log
    table.add("out of file descriptors", account)


def test_ctsqueeze_on_a_full_disk(tmp_path: Path, table: Table) -> None:
    """It says so and lets every segment be; when there is room it does what it could not."""
    with tmpfs(tmp_path / "disk", 4096) as disk:
        history = History(disk / "log")
        before = {path.name: path.read_bytes() for path in paths(history.folder)}
        filler = fill(disk)
        with pytest.raises(AssertionError, match="No space left on device"):
            history.run("ctsqueeze", history.folder)
        assert {path.name: path.read_bytes() for path in paths(history.folder)} == before
        filler.unlink()
        history.run("ctsqueeze", history.folder)
        assert "5 whole" in cttest("--anchors", history.anchors, history.folder)
    table.add_row("ctsqueeze on a full disk", tried=len(history.paths))
