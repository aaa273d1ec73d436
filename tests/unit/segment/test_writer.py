"""Segments written: whole blocks or nothing, under a lock, never over a file that is there."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ctrecorder import filelock, uapi
from ctrecorder.archive import find
from ctrecorder.check import verify
from ctrecorder.ctlog.frame import NO_HASH, Gap, Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.filelock import LOCK_FILE, Holder
from ctrecorder.folder import Folder
from ctrecorder.segment import files
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter, WriteError
from ctrecorder.spool import template as record_template
from tests.support import tables
from tests.support.tables import NOON, SECOND, ints, same

EVENTS = tables.events(uapi.AF_INET, 2000)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SegmentWriter]:
    made = SegmentWriter.create(str(tmp_path / "a"), Header(host="router"), time_ns=NOON)
    yield made
    with contextlib.suppress(OSError):
        made.abandon()


def ids(path: str) -> list[int]:
    with Segment(path) as segment:
        assert segment.findings == []
        return [
            one
            for block in segment.blocks_of(Kind.EVENTS)
            for one in ints(segment.read(block)["id"])
        ]


def test_chained_segments(tmp_path: Path) -> None:
    """A segment's last hash is what close returned, and what the next one's header names."""
    last_hash, previous = NO_HASH, None
    for name in ("a", "b", "c"):
        writer = SegmentWriter.create(
            str(tmp_path / name), Header(chain="x", previous=previous), last_hash
        )
        writer.append(EVENTS)
        last_hash, previous = writer.close(), name
        with Segment(str(tmp_path / name)) as segment:
            assert segment.last_hash == last_hash
    with Segment(str(tmp_path / "b")) as segment, Segment(str(tmp_path / "a")) as before:
        assert segment.previous_hash == before.last_hash
    assert verify.check([str(tmp_path)], print) == verify.WHOLE


def test_the_header(tmp_path: Path, writer: SegmentWriter) -> None:
    with Segment(writer.path) as segment:
        assert segment.state == "crashed"
        assert segment.header.format == "ctlog"
        assert (segment.header.program or "").startswith("ctrecorder ")
        assert (segment.header.previous, segment.header.sealed, segment.header.host) == (
            None,
            False,
            "router",
        )
        assert segment.times == (NOON, NOON)


def test_a_name_that_is_taken_is_refused(tmp_path: Path, writer: SegmentWriter) -> None:
    """Also by a link that leads nowhere, or to where one would like to write."""
    (tmp_path / "dangling").symlink_to(tmp_path / "target")
    (tmp_path / "other").write_bytes(b"keep")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    for name in ("a", "dangling", "other", "link"):
        with pytest.raises(files.ExistsError, match="never overwritten"):
            SegmentWriter.create(str(tmp_path / name), Header())
    assert (tmp_path / "other").read_bytes() == b"keep"
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArchiveError, match="make the folder"):
        SegmentWriter.create(str(tmp_path / folder / "a"), Header())


def test_mode_and_lock(tmp_path: Path) -> None:
    """Owner writes, group reads; the lock is held until it is closed."""
    old = os.umask(0)
    try:
        writer = SegmentWriter.create(str(tmp_path / "a"), Header(), live=True)
    finally:
        os.umask(old)
    assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o640
    status = os.stat(tmp_path / "a")
    with Folder(str(tmp_path)) as folder:
        assert filelock.holder_of(folder, status) is Holder.RECORDER
        writer.close()
        assert filelock.holder_of(folder, status) is None


def test_a_lock_that_cannot_be_had_is_taken_later(tmp_path: Path) -> None:
    """Recording is more important."""
    (tmp_path / LOCK_FILE).mkdir()
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(), live=True)
    (tmp_path / LOCK_FILE).rmdir()
    writer.take_lock()
    with Segment(str(tmp_path / "a")) as segment:
        assert segment.state == "live"
    (tmp_path / LOCK_FILE).unlink()  # by somebody who does not know what it is for
    with Segment(str(tmp_path / "a")) as segment:
        assert segment.state == "crashed"
    writer.take_lock()
    with Segment(str(tmp_path / "a")) as segment:
        assert segment.state == "live"
    writer.close()


def test_large_tables_become_blocks(writer: SegmentWriter) -> None:
    table = tables.events(uapi.AF_INET6, 140_000)
    writer.append(table)
    with Segment(writer.path) as segment:
        blocks = segment.blocks_of(Kind.EVENTS)
        assert [block.rows for block in blocks] == [65_536, 65_536, 140_000 - 2 * 65_536]
        same(segment.read(blocks[1]), table.slice(65_536, 2 * 65_536))
    assert writer.rows == 140_000


def test_an_empty_table_is_no_block(writer: SegmentWriter) -> None:
    writer.append(EVENTS.slice(0, 0))
    assert writer.blocks == 1


def test_a_gap_that_ends_before_it_begins(writer: SegmentWriter) -> None:
    """The clock was set back: there is nothing better to say than the moment."""
    writer.gap(Gap(NOON, NOON - SECOND, "clock", None))
    writer.close()
    with Segment(writer.path) as segment:
        assert [(gap.begin, gap.end) for gap in segment.gaps] == [(NOON, NOON)]


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow over `size` bytes: a write past it fails, half-way if it
    straddles it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("room", [0, 1, 63, 64, 500])
def test_a_write_that_fails_leaves_whole_blocks_and_can_be_made_again(
    writer: SegmentWriter, room: int
) -> None:
    """The kernel itself cuts the write: nothing, or a part of it, reaches the file."""
    writer.append(EVENTS.slice(0, 5))
    size, last_hash = writer.size, writer.last_hash
    for attempt in (
        lambda: writer.append(EVENTS),
        lambda: writer.gap(Gap(0, 1, "overrun", 3, "x" * 600)),
        lambda: writer.mark(Mark.at(0, "heartbeat", {"x": "y" * 600})),
        lambda: writer.close({"x": "y" * 600}),
    ):
        with (
            files_at_most(size + room),
            pytest.raises(WriteError, match="File too large") as caught,
        ):
            attempt()
        assert caught.value.errno == errno.EFBIG
        assert (os.stat(writer.path).st_size, writer.size, writer.last_hash, writer.rows) == (
            size,
            size,
            last_hash,
            5,
        )
    writer.append(EVENTS)
    writer.close()
    assert ids(writer.path) == [*EVENTS["id"][:5].tolist(), *EVENTS["id"].tolist()]
    assert verify.check([writer.path], print) == verify.WHOLE


def test_a_table_is_written_whole_or_not_at_all(writer: SegmentWriter) -> None:
    """The second of its blocks fails: the first one is undone too, and the call can be repeated."""
    table = tables.events(uapi.AF_INET, 65_536 + 3000)
    size = writer.size
    writer.append(table)
    both = writer.size
    writer.rollback()
    with files_at_most(both - 1), pytest.raises(WriteError):
        writer.append(table)
    assert (os.stat(writer.path).st_size, writer.size, writer.rows) == (size, size, 0)
    writer.append(table)
    writer.close()
    assert ids(writer.path) == table["id"].tolist()


def test_a_sync_that_fails_leaves_it_open(
    writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written since the last one that did not can be taken back and written again."""
    writer.append(EVENTS.slice(0, 7))
    writer.sync()
    writer.append(EVENTS.slice(7, 10))

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        patch.setattr(os, "fdatasync", failing)
        for attempt in (writer.sync, writer.close):
            with pytest.raises(WriteError, match="Input/output error"):
                attempt()
    writer.rollback()
    writer.append(EVENTS.slice(7, 12))
    writer.close()
    assert ids(writer.path) == EVENTS["id"][:12].tolist()
    assert verify.check([writer.path], print) == verify.WHOLE


def test_a_cut_that_fails_is_made_before_the_next_write(
    writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = writer.size

    def failing(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, files_at_most(size + 100):
        patch.setattr(os, "ftruncate", failing)
        with pytest.raises(WriteError, match="File too large"):
            writer.append(EVENTS)
    assert os.stat(writer.path).st_size == size + 100
    writer.append(EVENTS.slice(0, 1))
    writer.close()
    assert ids(writer.path) == EVENTS["id"][:1].tolist()
    assert verify.check([writer.path], print) == verify.WHOLE


def test_many_blocks(writer: SegmentWriter) -> None:
    """More than the index had room for at first."""
    for row in range(500):
        writer.append(EVENTS.slice(row, row + 1))
    writer.close()
    assert ids(writer.path) == EVENTS["id"][:500].tolist()


def test_templates() -> None:
    moment = 1_790_000_096 * SECOND
    assert (
        record_template.expand_template("/a/ct-%Y%m%d-%H%M%S.ctlog", moment)
        == "/a/ct-20260921-141456.ctlog"
    )
    assert record_template.expand_template("ct-%s-%%s", moment) == "./ct-1790000096-%s"


@pytest.mark.parametrize(
    "template",
    [
        "/a/%Y/ct",
        "/a/",
        "",
        "/a/%D",
        "/a/ct%n",
        "/a/..",
        "/a/%Y\0",
        "/a/" + "x" * 256,
        "/a/ct-\x1b[2J",
    ],
)
def test_templates_that_leave_their_folder_or_name_no_file(template: str) -> None:
    with pytest.raises(UsageError):
        record_template.expand_template(template, NOON)


def test_the_first_free_name(tmp_path: Path) -> None:
    path = str(tmp_path / "ct.ctlog")
    assert files.first_free(path) == path
    (tmp_path / "ct.ctlog").touch()
    (tmp_path / "ct-1.ctlog").symlink_to("nowhere")
    assert files.first_free(path) == str(tmp_path / "ct-2.ctlog")


def test_finding_segments(tmp_path: Path) -> None:
    """By their content, in the order of their headers' times; a damaged first block does not make
    one foreign.
    """
    for name, begin in (("b", 2), ("a", 3), ("c", 1)):
        writer = SegmentWriter.create(str(tmp_path / name), Header(), time_ns=NOON + begin)
        writer.append(EVENTS)
        writer.close()
    data = bytearray((tmp_path / "a").read_bytes())
    for name, at in (("no magic", 0), ("no kind", 4), ("no hash", 50)):
        struck = data.copy()
        struck[at] ^= 0xFF
        (tmp_path / name).write_bytes(struck)
    (tmp_path / "notes.txt").write_bytes(b"hello")
    (tmp_path / "empty").touch()
    (tmp_path / ".hidden").write_bytes(data)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "d").write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    found = find.find([str(tmp_path), str(tmp_path / "missing"), str(tmp_path / "pipe")])
    assert {Path(path).name for path in found.foreign} == {"notes.txt", "empty"}
    assert {Path(path).name for path, _ in found.unreadable} == {"missing", "pipe"}
    names = [Path(path).name for path in found.segments]
    assert set(names) == {"a", "b", "c", "no magic", "no kind", "no hash"}
    assert [name for name in names if name in "abc"] == ["c", "b", "a"]


def test_a_file_that_goes_from_its_folder_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had gone before the folder was read; but one that was named is missed."""
    gone = str(tmp_path / "gone")
    monkeypatch.setattr(os, "scandir", lambda path: contextlib.nullcontext([Entry("gone")]))
    assert find.find([str(tmp_path)]) == find.FolderListing()
    assert find.find([gone]).unreadable == [(gone, f"{gone}: No such file or directory")]


class Entry(NamedTuple):
    """What a folder that was read a moment ago says of a file."""

    name: str

    def is_file(self) -> bool:
        return True

    def is_dir(self, **_: bool) -> bool:
        return False


def test_times_are_those_of_the_rows(writer: SegmentWriter) -> None:
    writer.append(EVENTS)
    writer.append(tables.connections(uapi.AF_INET, 300), kind=Kind.CONNECTIONS)
    writer.close()
    with Segment(writer.path) as segment:
        events, connections = segment.blocks_of(Kind.EVENTS, Kind.CONNECTIONS)
        assert (events.time_min, events.time_max) == (
            int(EVENTS["time"].min()),
            int(EVENTS["time"].max()),
        )
        read = segment.read(connections)
        assert (
            connections.time_min == np.where(read["start"] != 0, read["start"], read["end"]).min()
        )
        assert connections.time_max == max(read["end"].max(), read["start"].max())


def test_a_segment_of_very_many_blocks_has_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder's memory is bounded also where it never rotates; such a segment is followed by
    its frames.
    """
    monkeypatch.setattr("ctrecorder.segment.writer.MAX_INDEXED", 128)
    for blocks in (127, 128, 129, 300):
        path = str(tmp_path / str(blocks))
        writer = SegmentWriter.create(path, Header(), time_ns=NOON)
        for row in range(blocks - 1):
            writer.append(EVENTS.slice(row, row + 1))
        assert writer._index.nbytes <= 128 * 32
        last_hash = writer.close()
        with Segment(path) as segment:
            assert (segment.state, segment.findings, segment.last_hash) == ("closed", [], last_hash)
            assert len(segment.index) == blocks
            assert segment.totals == {"rows": blocks - 1}
        assert ids(path) == EVENTS["id"][: blocks - 1].tolist()
    assert verify.check([str(tmp_path / "300")], print) == verify.WHOLE
    data = bytearray((tmp_path / "300").read_bytes())
    data[3000] ^= 1
    (tmp_path / "300").write_bytes(data)
    assert verify.check([str(tmp_path / "300")], print) == verify.DAMAGED
