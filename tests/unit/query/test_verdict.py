"""The verdict of a question to segments with watermarks: no false alibi, and no false alarm."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrecorder.asking import ctwho
from ctrecorder.columns import BY_NAME, Table, bits
from ctrecorder.ctlog.frame import NO_HASH, Gap, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.folder import Folder
from ctrecorder.holders import who
from ctrecorder.kept.retention import Receipt, add_receipt
from ctrecorder.listing import ctlist
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query.verdict import Completeness
from ctrecorder.render.holes import describe
from ctrecorder.segment import live
from ctrecorder.segment.live import LiveState
from ctrecorder.segment.pending import gap_block, mark_block, table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T

HOUR = 3600 * SECOND
NOW = T + 1000 * HOUR
PUBLIC, INSIDE, REMOTE = 0xC0000201, 0x0A000001, 0xCB007101
_TUPLE = (
    *("orig_src", "orig_sport", "orig_dst", "orig_dport"),
    *("reply_src", "reply_sport", "reply_dst", "reply_dport"),
)
COVERAGE = ("coverage",)


def flow(
    event: int, moment: int, number: int = 1, *, inside: int = INSIDE, l4proto: int = 17
) -> Any:
    """An event of a connection from `inside` that the router gives PUBLIC:40000."""
    ends = (inside, 1234, REMOTE, 443, REMOTE, 443, PUBLIC, 40000)
    return {
        "event": int(event),
        "time": moment,
        "l4proto": l4proto,
        "id": number,
        "present": bits(("id", "l4proto", *_TUPLE)),
        **dict(zip(_TUPLE, ends, strict=True)),
    }


def table(rows: list[Any]) -> Table:
    names = [name for name in BY_NAME if any(name in each for each in rows)]
    columns = {
        name: np.array([each.get(name, 0) for each in rows], BY_NAME[name].dtype(2))
        for name in names
    }
    return Table(2, len(rows), columns)


@dataclass
class Recorder:
    """Writes segments of one chain, an hour each, as a recorder does."""

    folder: Path
    chain: str = "c"
    facts: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    previous: bytes = NO_HASH
    hashes: dict[int, tuple[str, str]] = field(default_factory=dict)

    def segment(
        self,
        *blocks: Gap | Mark | Table | list[Any],
        begin: int | None = None,
        dump: bool = True,
        watermark: int | None = -1,
        start: bool = False,
        close: bool = True,
        **facts: Any,
    ) -> str:
        """A segment from T + number hours on.  `watermark`: -1 for the end of the hour."""
        first = T + self.number * HOUR if begin is None else begin
        self.number += 1
        path = str(self.folder / f"{self.chain}-{self.number:03}.ctlog")
        header: dict[str, Any] = {
            "requires": COVERAGE,
            "chain": self.chain,
            "sequence": self.number,
            "host": "r",
            "boot_id": "b",
            **self.facts,
            **facts,
        }
        if netns := header.pop("netns", None):
            header["extra"] = {"netns": netns}
        writer = SegmentWriter.create(path, Header(**header), self.previous, time_ns=first)
        if start:
            writer.mark(Mark.at(first, "start"))
        if dump:
            writer.mark(Mark(first + 1, first + SECOND, "dump", {"rows": 0, "complete": True}))
        for block in blocks:
            if isinstance(block, Gap):
                writer.write(gap_block(block))
            elif isinstance(block, Mark):
                writer.mark(block)
            else:
                for one in table_blocks(block if isinstance(block, Table) else table(block)):
                    writer.write(one)
        if watermark is not None:
            until = first + HOUR - 1 if watermark == -1 else watermark
            beat = mark_block(Mark.at(until, "heartbeat"))
            writer.write(beat.with_watermark(until) if header["requires"] else beat)
        before = self.previous
        if close:
            self.previous = writer.close()
        else:
            writer.sync()
            writer.abandon()
            self.previous = writer.last_hash
        self.hashes[self.number] = (self.previous.hex(), before.hex())
        return path


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    folder = tmp_path / "log"
    folder.mkdir()
    return Recorder(folder)


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where recorders publish their state; of this machine none is read."""
    path = tmp_path / "run"
    path.mkdir()
    monkeypatch.setattr(live, "FOLDER", str(path))
    return path


def ask(
    folder: Path, moment: int, now: int = NOW, protocols: frozenset[int] = frozenset()
) -> who.Answer:
    asked = who.WhoQuery(
        who.parse_end("192.0.2.1:40000"), moment, moment + SECOND, protocols=protocols
    )
    return who.answer([str(folder)], asked, now)


def reasons(answer: who.Answer) -> set[str]:
    return {hole.reason for hole in answer.verdict.holes}


def test_watermarks_prove_an_answer(recorder: Recorder) -> None:
    for _ in range(3):
        recorder.segment()
    for hours in (0.1, 1.5, 2.9):
        found = ask(recorder.folder, T + int(hours * HOUR))
        assert (len(found), found.verdict.completeness) == (0, Completeness.COMPLETE)


def test_a_connection_is_found_and_proved(recorder: Recorder) -> None:
    recorder.segment([flow(NEW, T + 60 * SECOND), flow(DESTROY, T + 90 * SECOND)])
    found = ask(recorder.folder, T + 70 * SECOND)
    assert len(found) == 1
    assert found.verdict.completeness is Completeness.COMPLETE


def test_an_archive_that_ends_in_the_past(recorder: Recorder) -> None:
    recorder.segment()
    assert reasons(ask(recorder.folder, T + 2 * HOUR)) == {"not-recording"}


def test_the_future_is_not_yet(recorder: Recorder) -> None:
    """Lie 2: "complete" for next year, an open connection named for it."""
    recorder.segment([flow(NEW, T + 60 * SECOND)])
    found = ask(recorder.folder, NOW + 9000 * HOUR)
    assert found.verdict.completeness is Completeness.NOT_YET
    assert found.verdict.until == T + HOUR - 1


def test_a_window_before_the_first_segment(recorder: Recorder) -> None:
    recorder.segment()
    assert reasons(ask(recorder.folder, T - HOUR)) == {"not-recording"}


def test_the_edge_of_the_first_segment(recorder: Recorder) -> None:
    """A connection that the first dump holds proves the time since the HEADER."""
    recorder.segment(start=True)
    assert ask(recorder.folder, T).verdict.proved
    assert not ask(recorder.folder, T - SECOND // 2).verdict.proved


def test_what_is_not_on_disk_yet(recorder: Recorder, run_folder: Path) -> None:
    """Lie 3: a locked segment counted as recorded up to now."""
    path = recorder.segment(watermark=T + 600 * SECOND, close=False)
    now = T + 610 * SECOND
    with Path(path).open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert reasons(ask(recorder.folder, now - 5 * SECOND, now)) == {"not-recording"}
    assert ask(recorder.folder, T + 500 * SECOND, now).verdict.proved
    status = os.stat(path)
    publisher = live.Publisher(str(run_folder))
    publisher.publish(LiveState("c", path, status.st_dev, status.st_ino, T + 607 * SECOND))
    assert ask(recorder.folder, T + 605 * SECOND, now).verdict.proved
    found = ask(recorder.folder, T + 608 * SECOND, now)
    assert found.verdict.completeness is Completeness.NOT_YET
    assert found.verdict.until == T + 607 * SECOND
    # A copy of the archive has no recorder.
    copy = shutil.copytree(recorder.folder, recorder.folder.parent / "copy")
    assert reasons(ask(copy, T + 605 * SECOND, now)) == {"not-recording"}
    publisher.close()
    assert reasons(ask(recorder.folder, T + 605 * SECOND, now)) == {"not-recording"}


def test_what_a_failed_sync_took_back(recorder: Recorder, run_folder: Path) -> None:
    """The state was read before the disk refused, the segment after: what was published since the
    last sync is not there any more.
    """
    path = recorder.segment(watermark=T + 600 * SECOND, close=False)
    status = os.stat(path)
    publisher = live.Publisher(str(run_folder))
    state = LiveState(
        "c",
        path,
        status.st_dev,
        status.st_ino,
        watermark=T + 607 * SECOND,
        size=status.st_size,
        synced=T + 603 * SECOND,
    )
    now = T + 610 * SECOND
    publisher.publish(state)
    assert ask(recorder.folder, T + 605 * SECOND, now).verdict.proved
    publisher.publish(replace(state, size=status.st_size + 1))
    found = ask(recorder.folder, T + 605 * SECOND, now)
    assert found.verdict.completeness is Completeness.NOT_YET
    assert found.verdict.until == T + 603 * SECOND
    assert ask(recorder.folder, T + 602 * SECOND, now).verdict.proved
    publisher.close()


def test_holes_of_a_running_recorder(recorder: Recorder, run_folder: Path) -> None:
    path = recorder.segment(watermark=T + 600 * SECOND, close=False)
    status = os.stat(path)
    publisher = live.Publisher(str(run_folder))
    gap = {"start": T + 300 * SECOND, "end": None, "reason": "no-events", "family": 10, "number": 1}
    state = LiveState("c", path, status.st_dev, status.st_ino, T + 607 * SECOND, (gap,))
    publisher.publish(state)
    now = T + 610 * SECOND
    assert ask(recorder.folder, T + 400 * SECOND, now).verdict.proved
    publisher.publish(
        LiveState("c", path, status.st_dev, status.st_ino, state.watermark, ({**gap, "family": 2},))
    )
    assert reasons(ask(recorder.folder, T + 400 * SECOND, now)) == {"no-events"}
    publisher.close()


def test_a_damaged_block(recorder: Recorder, capfd: pytest.CaptureFixture[str]) -> None:
    """Lie 4: two changed bytes, "nobody, complete"."""
    rows = [flow(NEW, T + (60 + n) * SECOND, n, inside=INSIDE + n) for n in range(300)]
    path = recorder.segment(rows)
    recorder.segment()
    with Segment(path) as segment:
        damaged = max(segment.blocks, key=lambda block: block.rows)
    data = bytearray(Path(path).read_bytes())
    data[damaged.offset + 64 + 20] ^= 255
    Path(path).write_bytes(data)
    found = ask(recorder.folder, T + 70 * SECOND)
    assert len(found) == 0
    assert reasons(found) == {"damaged"}
    asked = ["192.0.2.1:40000", f"@{T // SECOND + 70}", "-d", str(recorder.folder)]
    assert ctwho.main(asked) == 3
    assert "not complete: 1 hole" in " ".join(capfd.readouterr().out.split())
    # A connection of the damaged block can be open until the next dump of the table.
    assert ask(recorder.folder, T + 90 * 60 * SECOND).verdict.proved


def test_a_squeezed_segment_that_was_cut_short(recorder: Recorder) -> None:
    """Lie 5: half of the connections, and "complete"."""
    path = recorder.segment([flow(NEW, T + 60 * SECOND), flow(DESTROY, T + 90 * SECOND)])
    recorder.segment()
    squeeze(path, SqueezeOptions())
    with Segment(path) as segment:
        end = segment.blocks[1].offset
    with Path(path).open("r+b") as file:
        file.truncate(end)
    found = ask(recorder.folder, T + 70 * SECOND)
    assert "damaged" in reasons(found)


def test_a_file_that_cannot_be_read(recorder: Recorder) -> None:
    """It may hold any time of this recording."""
    recorder.segment()
    moment = T + 70 * SECOND
    assert ask(recorder.folder, moment).verdict.proved
    (recorder.folder / "other.ctlog").write_bytes(b"\xc7CTB" + bytes(200))
    found = ask(recorder.folder, moment)
    assert len(found.failed) == 1
    assert reasons(found) == {"unproved"}


def test_zeros_behind_the_last_block_hide_nothing_before_them(recorder: Recorder) -> None:
    """As a power cut leaves them."""
    path = recorder.segment(watermark=T + 600 * SECOND, close=False)
    with Path(path).open("ab") as file:
        file.write(bytes(5000))
    recorder.segment(begin=T + 700 * SECOND, start=True)
    assert ask(recorder.folder, T + 500 * SECOND).verdict.proved
    assert not ask(recorder.folder, T + 650 * SECOND).verdict.proved


@pytest.mark.parametrize("after", ["raw", "squeezed"])
def test_a_missing_segment(
    recorder: Recorder, after: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lie 6: not noticed when the next one, squeezed, has an older connection."""
    recorder.segment([flow(NEW, T + 60 * SECOND)])
    middle = recorder.segment()
    last = recorder.segment([flow(DESTROY, T + 2 * HOUR + 90 * SECOND)])
    if after == "squeezed":
        squeeze(last, SqueezeOptions())
    assert ask(recorder.folder, T + HOUR + 70 * SECOND).verdict.proved
    os.unlink(middle)
    found = ask(recorder.folder, T + HOUR + 70 * SECOND)
    assert "missing-segment" in reasons(found)
    assert ctlist.main(["--strict", str(recorder.folder)]) == 3
    assert "a segment is missing" in capfd.readouterr().err
    assert ctlist.main([str(recorder.folder)]) == 0
    assert "a segment is missing" in capfd.readouterr().err


def test_an_expired_segment_is_not_missing(recorder: Recorder) -> None:
    recorder.segment()
    middle = recorder.segment()
    recorder.segment()
    last_hash, previous = recorder.hashes[2]
    receipt = Receipt(
        "c-002.ctlog", T + HOUR, T + 2 * HOUR, 0, 1, [last_hash], "", previous, NOW, "age"
    )
    os.unlink(middle)
    with Folder(str(recorder.folder)) as folder:
        add_receipt(folder, receipt)
    (hole,) = ask(recorder.folder, T + HOUR + 70 * SECOND).verdict.holes
    assert (hole.reason, "expired" in hole.detail) == ("not-recording", True)


def test_a_recorder_beside_does_not_cover_for_one_that_stopped(recorder: Recorder) -> None:
    """Lie 7: udp recorded beside; the main one stopped, or lost a segment."""
    beside = Recorder(recorder.folder, "d", {"protocols": ("udp",)})
    for _ in range(4):
        beside.segment()
    recorder.segment()
    middle = recorder.segment()
    recorder.segment()
    moment = T + HOUR + 70 * SECOND
    assert ask(recorder.folder, moment).verdict.proved
    assert not ask(recorder.folder, T + 3 * HOUR + 60 * SECOND).verdict.proved
    os.unlink(middle)
    assert not ask(recorder.folder, moment).verdict.proved
    assert ask(recorder.folder, moment, protocols=frozenset({17})).verdict.proved


def test_what_the_settings_leave_out(recorder: Recorder) -> None:
    """Lie 7: recorded with `protocols: udp`, asked about tcp."""
    recorder.facts["protocols"] = ("udp",)
    recorder.segment()
    assert reasons(ask(recorder.folder, T + 60 * SECOND)) == {"not-recorded"}
    assert reasons(ask(recorder.folder, T + 60 * SECOND, protocols=frozenset({6}))) == {
        "not-recorded"
    }
    assert ask(recorder.folder, T + 60 * SECOND, protocols=frozenset({17})).verdict.proved


def test_nat_only_proves_addresses_that_only_nat_gives_out(recorder: Recorder) -> None:
    """Lie 7: `nat_only`, asked about an untranslated address."""
    recorder.facts["nat_only"] = True
    recorder.segment([flow(NEW, T + 30 * SECOND)])
    assert ask(recorder.folder, T + 20 * SECOND).verdict.proved
    other = who.WhoQuery(who.parse_end("192.0.2.9:80"), T + 20 * SECOND, T + 21 * SECOND)
    found = who.answer([str(recorder.folder)], other, NOW)
    assert reasons(found) == {"not-recorded"}


def test_untranslated_holes(recorder: Recorder) -> None:
    """NOTRACK hides connections without NAT: the router's own address can have some."""
    notrack = Gap(
        T + 50 * SECOND, T + 60 * SECOND, "notrack", facts={"untranslated": True, "family": 2}
    )
    recorder.segment([flow(NEW, T + 30 * SECOND)], notrack)
    assert ask(recorder.folder, T + 55 * SECOND).verdict.proved
    own = flow(NEW, T + 31 * SECOND, 2) | {"reply_dst": PUBLIC, "orig_src": PUBLIC, "orig_sport": 9}
    recorder.segment([own])
    assert reasons(ask(recorder.folder, T + 55 * SECOND)) == {"notrack"}


def test_a_crash_ends_the_coverage_at_the_last_watermark(recorder: Recorder) -> None:
    """Lie 8: rows of one family on disk, those of the other died with the recorder."""
    recorder.segment([flow(NEW, T + 599 * SECOND)], watermark=None, close=False, begin=T, dump=True)
    begin = T + 700 * SECOND
    crashed = Gap(T, begin, "crashed")
    recorder.segment(crashed, begin=begin, start=True)
    assert reasons(ask(recorder.folder, T + 598 * SECOND)) == {"crashed"}
    assert ask(recorder.folder, begin + 60 * SECOND).verdict.proved


def test_without_dumps_a_loss_long_before_counts(recorder: Recorder) -> None:
    """Lie 9: resync = no; an overrun swallowed the NEW of a connection that is still open."""
    recorder.segment(Gap(T + 60 * SECOND, T + 61 * SECOND, "overrun", 3), start=True)
    for _ in range(9):
        recorder.segment(dump=False)
    assert "overrun" not in reasons(ask(recorder.folder, T + 30 * SECOND))
    assert "overrun" in reasons(ask(recorder.folder, T + 5 * HOUR))


def test_a_starting_recorder_is_refused_a_lock_that_readers_take(recorder: Recorder) -> None:
    """Lie 10: a lock on a crashed segment is no recorder."""
    path = recorder.segment(watermark=T + 60 * SECOND, close=False)
    with Path(path).open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert reasons(ask(recorder.folder, T + 120 * SECOND, T + 600 * SECOND)) == {
            "not-recording"
        }


@pytest.mark.parametrize("bad", [T - 50 * 365 * 24 * HOUR, T + 80 * 365 * 24 * HOUR])
def test_one_bad_time_spoils_no_other_answer(recorder: Recorder, bad: int) -> None:
    """Lie 13: a clock that said 1970, or was 80 years ahead for 5 s."""
    bad = max(bad, 1000)
    recorder.segment()
    recorder.segment(begin=bad, watermark=bad + 5 * SECOND)
    recorder.number = 2
    recorder.segment(start=True)
    assert ask(recorder.folder, T + 70 * SECOND).verdict.proved
    assert ask(recorder.folder, T + 2 * HOUR + 70 * SECOND).verdict.proved
    assert not ask(recorder.folder, T + 50 * HOUR).verdict.proved


def test_a_copy_is_counted_once(recorder: Recorder, capfd: pytest.CaptureFixture[str]) -> None:
    """Lie 14: a hard link, a restored copy, raw beside squeezed."""
    recorder.facts["requires"] = None  # of version 1.0
    path = recorder.segment([flow(NEW, T + 60 * SECOND), flow(DESTROY, T + 90 * SECOND)])
    os.link(path, recorder.folder / "link.ctlog")
    shutil.copy(path, recorder.folder / "zz-copy.ctlog")
    raw = recorder.folder / "aa-raw.ctlog"
    shutil.copy(path, raw)
    squeeze(str(recorder.folder / "zz-copy.ctlog"), SqueezeOptions())
    found = ask(recorder.folder, T + 70 * SECOND)
    assert (len(found), found.verdict.proved) == (1, True)
    assert {os.path.basename(instead) for _, instead in found.copies} == {"zz-copy.ctlog"}
    assert ctlist.main(["-s", str(recorder.folder)]) == 0
    out, err = capfd.readouterr()
    assert out.count("192.0.2.1") == 1
    assert err.count("a copy of") == 3


def test_numbered_gaps(recorder: Recorder) -> None:
    """An open hole lasts until a GAP with its number ends it, also in a later segment."""
    opened = {"number": 7, "open": True, "family": 2}
    recorder.segment(Gap(T + 60 * SECOND, T + 60 * SECOND, "no-events", facts=opened))
    recorder.segment(
        Gap(T + 60 * SECOND, T + HOUR, "no-events", facts=opened),
        Gap(T + 60 * SECOND, T + HOUR + 600 * SECOND, "no-events", facts={"number": 7}),
    )
    assert ask(recorder.folder, T + 30 * SECOND).verdict.proved
    assert reasons(ask(recorder.folder, T + HOUR + 300 * SECOND)) == {"no-events"}
    recorder.segment()
    assert ask(recorder.folder, T + 2 * HOUR + 300 * SECOND).verdict.proved


def test_an_open_hole_that_the_next_segment_does_not_repeat_has_ended(recorder: Recorder) -> None:
    """The GAP that ended it was in a part of its segment that was cut off."""
    opened = {"number": 7, "open": True, "family": 2}
    recorder.segment(Gap(T + 60 * SECOND, T + 60 * SECOND, "no-events", facts=opened))
    recorder.segment()
    assert reasons(ask(recorder.folder, T + 300 * SECOND)) == {"no-events"}
    assert ask(recorder.folder, T + HOUR + 300 * SECOND).verdict.proved


def test_two_connection_tables(recorder: Recorder) -> None:
    other = Recorder(recorder.folder, "d", {"netns": "2"})
    recorder.facts["netns"] = "1"
    recorder.segment()
    recorder.segment()
    other.segment()
    assert ask(recorder.folder, T + 70 * SECOND).verdict.proved
    assert not ask(recorder.folder, T + HOUR + 70 * SECOND).verdict.proved


def test_segments_of_version_1_0(capfd: pytest.CaptureFixture[str]) -> None:
    """Never simply complete: version 1.0 could not see all that hides connections."""
    golden = Path(__file__).parents[2] / "data/golden/v1-closed.ctlog"
    begin = 1790000000
    window = ["--since", f"@{begin + 5}", "--until", f"@{begin + 9}"]
    assert ctlist.main(["--strict", *window, str(golden)]) in (0, 1)
    capfd.readouterr()
    asked = ["203.0.113.200:1", f"@{begin + 10}", "--format", "json", "-d", str(golden)]
    assert ctwho.main(asked) == 3
    summary = json.loads(capfd.readouterr().out)
    assert summary["complete"] is False
    assert [hole["reason"] for hole in summary["holes"]] == ["overrun", "not-recording"]


def test_a_sound_answer_of_version_1_0(
    recorder: Recorder, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder.facts["requires"] = None
    recorder.segment([flow(NEW, T + 60 * SECOND)])
    asked = [f"@{T // SECOND + 70}", "--format", "json", "-d", str(recorder.folder)]
    for address, code, word in (("192.0.2.1:40000", 0, "ONE"), ("192.0.2.1:40001", 1, "NOBODY")):
        assert ctwho.main([address, *asked]) == code
        out, err = capfd.readouterr()
        summary = json.loads(out)
        assert (summary["complete"], summary["verdict"]) == ("version 1.0", word)
        assert "could not detect" in err


def test_only_near_segments_are_opened(recorder: Recorder) -> None:
    for _ in range(40):
        recorder.segment()
    found = ask(recorder.folder, T + 20 * HOUR + 70 * SECOND)
    assert found.verdict.proved
    assert found.stats.segments <= 3


def test_coverage_as_text_and_json(recorder: Recorder, capfd: pytest.CaptureFixture[str]) -> None:
    recorder.segment(Gap(T + 60 * SECOND, T + 90 * SECOND, "overrun", 12))
    recorder.segment()
    window = ["--since", f"@{T // SECOND}", "--until", f"@{T // SECOND + 7200 - 1}"]
    assert ctlist.main(["--coverage", "--utc", *window, str(recorder.folder)]) == 0
    text = capfd.readouterr().out
    assert "recording c of r: 2 segments" in text
    assert "HOLE overrun: 12 lost" in text
    assert ctlist.main(["--coverage", "--format", "json", str(recorder.folder)]) == 0
    (one,) = json.loads(capfd.readouterr().out)["recordings"]
    assert [hole["reason"] for hole in one["holes"]] == ["overrun"]
    assert one["recorded"][0]["basis"] == "watermarks"


def test_coverage_names_nat_that_cannot_be_recorded(
    recorder: Recorder, capfd: pytest.CaptureFixture[str]
) -> None:
    """At some time of a segment, also if it was not so when the segment began."""
    by = "rules of nftables that write addresses"
    recorder.segment()
    recorder.segment(Mark.at(T + HOUR + SECOND, "state", {"stateless": [by, 3]}))
    recorder.segment(Mark.at(T + 2 * HOUR + SECOND, "state", {"stateless": []}))
    assert ctlist.main(["--coverage", "--format", "json", str(recorder.folder)]) == 0
    (one,) = json.loads(capfd.readouterr().out)["recordings"]
    on = [each["on"] for each in one["recorded"]]
    assert [f"not recordable: NAT by {by}" in each for each in on] == [False, True, False], on


def test_waiting_until_it_is_recorded(
    recorder: Recorder,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """--wait asks again each second, for a time that can come within 90 s."""
    now = [T + 610 * SECOND]
    path = recorder.segment(watermark=T + 600 * SECOND, close=False)
    status = os.stat(path)
    publisher = live.Publisher(str(run_folder))

    def pass_a_second(seconds: float) -> None:
        now[0] += int(seconds * SECOND)
        publisher.publish(LiveState("c", path, status.st_dev, status.st_ino, now[0] - SECOND))

    monkeypatch.setattr("time.time_ns", lambda: now[0])
    monkeypatch.setattr("time.monotonic", lambda: now[0] / SECOND)
    monkeypatch.setattr("time.sleep", pass_a_second)
    pass_a_second(0)
    place = ["--utc", "--trust-clock", "-d", str(recorder.folder)]
    asked = ["192.0.2.1:40000", "now", *place]
    assert ctwho.main(asked) == 3
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "NOT YET"
    assert "recorded until 2023-11-14 22:23:29.000000 +00:00;" in " ".join(out.split())
    assert ctwho.main([*asked, "--format", "json"]) == 3
    summary = json.loads(capfd.readouterr().out)
    assert (summary["complete"], summary["verdict"]) == (False, "NOT YET")
    assert summary["complete_until"] == "2023-11-14T22:23:29.000000000Z"
    assert ctwho.main([*asked, "--wait"]) == 1
    assert capfd.readouterr().out.startswith("NOBODY: ")
    before = now[0]
    assert ctwho.main(["192.0.2.1:40000", f"@{T // SECOND + 9999}", *place, "--wait"]) == 3
    assert now[0] == before, "nobody waits for tomorrow"
    publisher.close()


def test_holes_in_text_and_json(recorder: Recorder, capfd: pytest.CaptureFixture[str]) -> None:
    facts = {"family": 2, "protocols": [6, 17], "at_least": True}
    recorder.segment(
        Gap(T + 60 * SECOND, T + 70 * SECOND, "unheard", 12, "a dump", facts),
        Gap(T + 62 * SECOND, T + 63 * SECOND, "overrun", 7),
        Gap(T + 61 * SECOND, T + 69 * SECOND, "notrack", None, "", {"accepted": True}),
        Gap(T + 60 * SECOND, T + 70 * SECOND, "no-events", None, "", {"family": 10}),
    )
    asked = ["192.0.2.1:40000", f"@{T // SECOND + 62}", "-d", str(recorder.folder)]
    assert ctwho.main([*asked, "--utc"]) == 3
    out = capfd.readouterr().out
    assert out.startswith("NOBODY KNOWN (not proved)\n")
    log = " ".join(out.partition("\nlog ")[2].partition("\nrouter ")[0].split())
    assert log.partition(": ")[2] == (
        "not complete: 2 holes "
        "accepted: gap: events lost from 2023-11-14 22:14:21.000000 +00:00 to "
        "2023-11-14 22:14:29.000000 +00:00: a rule kept packets from tracking "
        "gap: at least 12 events lost from 2023-11-14 22:14:20.000000 +00:00 to 2023-11-14 "
        "22:14:30.000000 +00:00, only IPv4, only tcp, udp: connections were not reported, as a "
        "table dump shows (a dump); connections of that time may be missing "
        "gap: 7 events lost from 2023-11-14 22:14:22.000000 +00:00 to 2023-11-14 "
        "22:14:23.000000 +00:00: the kernel dropped events: the receive buffer was full; "
        "connections of that time may be missing"
    )
    assert ctwho.main([*asked, "--format", "json"]) == 3
    summary = json.loads(capfd.readouterr().out)
    assert summary["verdict"] == "NOBODY KNOWN (not proved)"
    first, second = summary["holes"]
    assert first == {
        "start": "2023-11-14T22:14:20.000000000Z",
        "end": "2023-11-14T22:14:30.000000000Z",
        "reason": "unheard",
        "lost": 12,
        "family": "ipv4",
        "protocols": ["tcp", "udp"],
        "at_least": True,
        "detail": "a dump",
        "why": "connections of that time may be missing",
    }
    assert second["reason"] == "overrun"
    assert [hole["reason"] for hole in summary["accepted"]] == ["notrack"]


@pytest.mark.parametrize(
    "facts",
    [
        {"family": "4"},
        {"family": True},
        {"protocols": ["tcp"]},
        {"protocols": 6},
        {"ports": [70000]},
        {"networks": [1]},
        {"untranslated": "yes"},
        {"accepted": 1},
        {"of_2030": 1},
    ],
)
def test_members_of_a_strangers_gap_narrow_nothing(recorder: Recorder, facts: Any) -> None:
    recorder.segment(Gap(T + 60 * SECOND, T + 70 * SECOND, "no-events", facts=facts))
    assert reasons(ask(recorder.folder, T + 62 * SECOND)) == {"no-events"}


def test_a_restart_ends_what_was_open(recorder: Recorder) -> None:
    """The recorder that is started looks by itself; its numbers are its own."""
    opened = {"number": 1, "open": True}
    recorder.segment(Gap(T + 60 * SECOND, T + 60 * SECOND, "no-events", facts=opened), start=True)
    begin = T + HOUR
    recorder.segment(
        Gap(begin + 60 * SECOND, begin + 70 * SECOND, "overrun", facts={"number": 1}), start=True
    )
    assert ask(recorder.folder, T + 20 * SECOND).verdict.proved
    assert reasons(ask(recorder.folder, T + 90 * SECOND)) == {"no-events"}
    assert ask(recorder.folder, begin + 30 * SECOND).verdict.proved


def test_the_intact_copy_is_taken(recorder: Recorder) -> None:
    recorder.facts["requires"] = None  # of version 1.0
    path = recorder.segment([flow(NEW, T + 60 * SECOND), flow(DESTROY, T + 90 * SECOND)])
    copy = recorder.folder / "copy.ctlog"
    shutil.copy(path, copy)
    squeeze(str(copy), SqueezeOptions())
    with Segment(str(copy)) as segment:
        cut = segment.blocks[-1].offset
    with copy.open("r+b") as file:
        file.truncate(cut)
    found = ask(recorder.folder, T + 70 * SECOND)
    assert (len(found), found.verdict.proved) == (1, True)
    assert found.copies == [(str(copy), path)]


def test_a_clock_that_was_set_back_changes_no_order(recorder: Recorder) -> None:
    recorder.segment([flow(NEW, T + 60 * SECOND)], dump=False)
    begin = T - 100 * SECOND
    recorder.segment(
        [flow(DESTROY, T + 90 * SECOND)], begin=begin, dump=False, watermark=T + 100 * SECOND
    )
    found = ask(recorder.folder, T + 70 * SECOND)
    (one,) = (each for each in found.tables if len(each))
    assert (one["start"].tolist(), one["end"].tolist()) == ([T + 60 * SECOND], [T + 90 * SECOND])


def test_the_last_watermark_counts_not_the_greatest(recorder: Recorder) -> None:
    ahead = mark_block(Mark.at(T + 70 * SECOND, "heartbeat"))
    path = str(recorder.folder / "a.ctlog")
    writer = SegmentWriter.create(path, Header(requires=COVERAGE, chain="c"), time_ns=T)
    writer.mark(Mark(T + 1, T + 2, "dump", {"complete": True}))
    writer.write(ahead.with_watermark(T + 10**9 * SECOND))
    right = mark_block(Mark.at(T + 600 * SECOND, "heartbeat"))
    writer.write(right.with_watermark(T + 600 * SECOND))
    writer.close()
    assert reasons(ask(recorder.folder, T + 700 * SECOND)) == {"not-recording"}


def test_a_clock_that_is_set_right_after_years(recorder: Recorder) -> None:
    """Its GAP is as long as those years; what was recorded before stays proved."""
    recorder.segment()
    right = T + HOUR + 1800 * SECOND
    recorder.segment(Gap(5 * SECOND, right, "clock"), begin=1000, watermark=T + 2 * HOUR)
    assert ask(recorder.folder, T + 70 * SECOND).verdict.proved
    assert reasons(ask(recorder.folder, T + HOUR + 600 * SECOND)) == {"clock"}


@pytest.mark.parametrize("known", [True, False])
def test_a_clock_that_was_ahead_for_a_minute(recorder: Recorder, known: bool) -> None:
    """Set forward by an hour, and back: only the times around both steps are in doubt."""
    ahead, right = T + 600 * SECOND, T + 660 * SECOND
    recorder.segment(
        Mark.at(ahead + HOUR, "clock", {"step_ns": HOUR if known else HOUR + SECOND}),
        Gap(ahead, ahead + HOUR, "clock"),
        Mark.at(right, "clock", {"step_ns": -HOUR}),
        Gap(right, right + HOUR, "clock"),
        Mark(right + SECOND, right + 2 * SECOND, "dump", {"rows": 0, "complete": True}),
    )
    later = ask(recorder.folder, T + 1800 * SECOND)
    assert later.verdict.proved == known
    assert known or reasons(later) == {"clock"}
    for moment in (ahead + 30 * SECOND, ahead + HOUR + 30 * SECOND):
        assert "clock" in reasons(ask(recorder.folder, moment))
    assert ask(recorder.folder, T + 300 * SECOND).verdict.proved


@pytest.mark.parametrize("expired", [False, True])
def test_before_what_is_here(recorder: Recorder, expired: bool) -> None:
    first = recorder.segment()
    recorder.segment()
    last_hash, previous = recorder.hashes[1]
    os.unlink(first)
    if expired:
        receipt = Receipt("a", T, T + HOUR, 0, 1, [last_hash], "", previous, NOW, "age")
        with Folder(str(recorder.folder)) as folder:
            add_receipt(folder, receipt)
    (hole,) = ask(recorder.folder, T + 70 * SECOND).verdict.holes
    assert hole.reason == ("not-recording" if expired else "missing-segment")
    assert ("expired" in hole.detail) == expired


def test_a_damaged_header(recorder: Recorder) -> None:
    """Whose segment it was is not known: it can be of any recording."""
    recorder.segment()
    path = recorder.segment([flow(NEW, T + HOUR + 60 * SECOND)])
    data = bytearray(Path(path).read_bytes())
    data[70] ^= 255
    Path(path).write_bytes(data)
    assert "damaged" in reasons(ask(recorder.folder, T + HOUR + 70 * SECOND))
    assert ask(recorder.folder, T + 70 * SECOND).verdict.proved


@pytest.mark.parametrize("accepted", [False, True])
def test_what_is_translated_without_tracking_may_be_the_answer(
    recorder: Recorder, accepted: bool
) -> None:
    """From the last look without it; a header says all, a MARK what changed."""
    jool = {"stateless": ["Jool (NAT64)"], "accept_notrack": accepted}
    recorder.segment(Mark(T + 299 * SECOND, T + 300 * SECOND, "state", jool), state={"events": 1})
    recorder.segment(
        Mark(T + HOUR + 99 * SECOND, T + HOUR + 100 * SECOND, "state", {"events": 1}), state=jool
    )
    recorder.segment(state={"events": 1})
    for at, open_to_doubt in ((290, False), (305, True), (3600 + 150, True), (7200 + 100, False)):
        found = ask(recorder.folder, T + at * SECOND)
        assert found.verdict.proved is (accepted or not open_to_doubt), at
        named = found.verdict.accepted if accepted else found.verdict.holes
        assert {(one.reason, one.detail) for one in named} == (
            {("not-recordable", "NAT by Jool (NAT64)")} if open_to_doubt else set()
        )


def _tracking(ipv4: str, ipv6: str = "on") -> dict[str, Any]:
    return {"tracking": {"ipv4": ipv4, "ipv6": ipv6}}


@pytest.mark.parametrize("squeezed", [False, True])
def test_unknown_tracking_is_no_gap_and_proves_nothing(
    recorder: Recorder, squeezed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    second = SECOND
    paths = [
        recorder.segment(
            Mark(T + 299 * second, T + 300 * second, "state", _tracking("unknown")),
            state=_tracking("on"),
        ),
        recorder.segment(
            Mark(T + HOUR + 99 * second, T + HOUR + 100 * second, "state", {"events": 1}),
            Mark(T + HOUR + 199 * second, T + HOUR + 200 * second, "state", _tracking("on")),
            state=_tracking("unknown"),
        ),
        recorder.segment(state=_tracking("on", "unknown")),
    ]
    if squeezed:
        for path in paths:
            squeeze(path, SqueezeOptions())
    for at, proved in (
        (290, True),
        (305, False),
        (3000, False),
        (3600 + 150, False),
        (3600 + 210, True),
        (2 * 3600 + 100, True),  # IPv6 alone is unknown, and the question is about IPv4
    ):
        found = ask(recorder.folder, T + at * second)
        assert found.verdict.proved is proved, at
        assert reasons(found) == (set() if proved else {"tracking-unknown"})
    (hole,) = ask(recorder.folder, T + 305 * second).verdict.holes
    assert describe(hole, utc=True).endswith(
        "only IPv4, only connections without NAT: it is unknown if all connections were tracked"
    )
    # A listing is silent about it, unless it is strict.
    assert ctlist.main([str(recorder.folder)]) == 0
    assert "unknown" not in capfd.readouterr().err
    assert ctlist.main(["--strict", str(recorder.folder)]) == 3
    assert "unknown" in capfd.readouterr().err
    # An address that only NAT gives out: what is not tracked is not translated.
    recorder.segment([flow(NEW, T + 3 * HOUR + 60 * second)], state=_tracking("unknown"))
    found = ask(recorder.folder, T + 3 * HOUR + 70 * second)
    assert (found.verdict.proved, len(found)) == (True, 1)


def test_a_narrow_hole_does_not_explain_a_missing_segment(recorder: Recorder) -> None:
    narrow = {"number": 1, "open": True, "family": 10}
    recorder.segment(Gap(T + 60 * SECOND, T + 60 * SECOND, "not-tracked", facts=narrow))
    os.unlink(recorder.segment())
    recorder.segment()
    assert reasons(ask(recorder.folder, T + HOUR + 300 * SECOND)) == {"missing-segment"}


@pytest.mark.parametrize("ahead", [HOUR, 80 * 365 * 24 * HOUR])
@pytest.mark.parametrize("squeezed", [False, True])
def test_a_clock_that_was_ahead_for_a_minute_and_was_set_right(
    recorder: Recorder, ahead: int, squeezed: bool
) -> None:
    """Lie 13: the times that were skipped came after all.  A flow that began under the wrong clock
    is found in them.
    """
    minute = 60 * SECOND
    wrong, right = T + 10 * minute, T + 11 * minute
    dated = wrong + ahead + SECOND
    there = {**flow(4, right + SECOND, 7), "start": dated}
    there["present"] |= bits(("start",))
    path = recorder.segment(
        Mark.at(wrong + ahead, "clock", {"step_ns": ahead}),
        Gap(wrong, wrong + ahead, "clock"),
        [flow(NEW, dated, 7)],
        Mark.at(right, "clock", {"step_ns": -ahead}),
        Gap(right, right + ahead, "clock"),
        [there],
        Mark(right + 1, right + 2 * SECOND, "dump", {"rows": 1, "complete": True}),
        [flow(DESTROY, T + 40 * minute, 7)],
    )
    if squeezed:
        squeeze(path, SqueezeOptions())
    for _ in range(3):
        recorder.segment()
    for at, candidates, proved in (
        (5 * minute, 0, True),
        (10 * minute + 30 * SECOND, 1, False),
        (30 * minute, 1, True),
        (50 * minute, 0, True),
        (3 * HOUR + 100 * SECOND, 0, True),
    ):
        found = ask(recorder.folder, T + at)
        assert (len(found), found.verdict.proved) == (candidates, proved), at
        assert reasons(found) == (set() if proved else {"clock"})


@pytest.mark.parametrize(
    ("inside", "remote", "proved"),
    [
        (("192.0.2.1/32",), "", True),
        (("192.0.2.0/24", "no network"), "", True),
        (("10.0.0.0/8",), "", False),
        ((), "", False),
        (("192.0.2.1/32",), "203.0.113.1:443", False),
    ],
)
def test_without_remote_ends_nobody_is_proved_of_inside_addresses_alone(
    recorder: Recorder, inside: tuple[str, ...], remote: str, proved: bool
) -> None:
    """Who called an address that did not count as inside was recorded without that address."""
    for _ in range(3):
        recorder.segment(requires=(*COVERAGE, "omit"), omit="remote", inside=inside)
    moment = T + 3600 * SECOND // 2
    to = who.parse_end(remote) if remote else None
    asked = who.WhoQuery(who.parse_end("192.0.2.1:40000"), moment, moment + SECOND, to)
    found = who.answer([str(recorder.folder)], asked, NOW)
    assert (len(found), found.verdict.proved) == (0, proved)
    said = {hole.detail for hole in found.verdict.holes}
    assert said == (
        set()
        if proved
        else {"remote ends are not recorded (omit): ask without --to"}
        if remote
        else {"remote ends are not recorded (omit), and 192.0.2.1 did not count as inside"}
    )


def test_without_remote_ends_an_address_that_nat_gives_out_is_proved(recorder: Recorder) -> None:
    row = flow(NEW, T + 60 * SECOND)
    for name in ("orig_dst", "orig_dport", "reply_src", "reply_sport"):
        row[name] = 0
    row["present"] &= ~bits(("orig_dst", "orig_dport", "reply_src", "reply_sport"))
    recorder.segment([row], requires=(*COVERAGE, "omit"), omit="remote", inside=("10.0.0.0/8",))
    found = ask(recorder.folder, T + 70 * SECOND)
    assert (len(found), found.verdict.proved) == (1, True)


@pytest.mark.parametrize("squeezed", [False, True])
def test_what_came_twice_before_a_start_far_from_the_segment_of_the_first_time(
    recorder: Recorder, squeezed: bool
) -> None:
    """The clock was set back by hours while no recorder ran: the GAP is in a later segment."""
    opened = flow(NEW, T + 60 * SECOND)
    paths = [recorder.segment([opened]), *(recorder.segment() for _ in range(3))]
    begin, first = T + HOUR + 1800 * SECOND, T + 1200 * SECOND
    gap = Gap(first, T + 4 * HOUR + 600 * SECOND, "stopped")
    paths.append(recorder.segment(gap, begin=begin, start=True, set_back=True))
    paths.append(recorder.segment(begin=begin + HOUR))
    if squeezed:
        for path in paths:
            squeeze(path, SqueezeOptions())
    for moment in (first + 60 * SECOND, T + HOUR + 600 * SECOND, T + 4 * HOUR + 300 * SECOND):
        assert "stopped" in reasons(ask(recorder.folder, moment))
    assert ask(recorder.folder, first - 60 * SECOND).verdict.proved


def test_a_host_is_named_though_the_recorder_before_heard_one_with_its_key(
    recorder: Recorder,
) -> None:
    """Both recorders were killed; the second one has another template, so another chain."""
    recorder.facts["netns"] = "1"
    rows = [flow(NEW, T + 2 * SECOND), flow(DESTROY, T + 3 * SECOND)]
    recorder.segment(rows, watermark=T + 3 * SECOND, start=True, close=False)
    later = Recorder(recorder.folder, "d", {"netns": "1"})
    begin, held = T + 4 * SECOND, T + 6 * SECOND
    later.segment([flow(NEW, held)], begin=begin, start=True, close=False, watermark=T + 9 * SECOND)
    found = ask(recorder.folder, held + SECOND)
    assert found.verdict.proved
    assert [table["start"].tolist() for table in found.tables] == [[held]]
